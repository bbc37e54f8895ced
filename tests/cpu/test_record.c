/* Recorded hosts: what is written reads back the same, and what somebody else wrote is refused by place. */
#include "base/cleanup.h"
#include "cpu/record.h"
#include "harness.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>

#define HOSTS "tests/data/hosts"

static struct cpu_host *new_host(void)
{
	struct cpu_host *host = calloc(1, sizeof(*host));
	ck_assert_ptr_nonnull(host);
	return host;
}

static void expect_same_table(const struct cpuid_table *a, const struct cpuid_table *b)
{
	ck_assert_uint_eq(a->count, b->count);
	for (uint32_t i = 0; i < a->count; i++)
		ck_assert_mem_eq(&a->entries[i], &b->entries[i], sizeof(a->entries[i]));
}

static void expect_same(const struct cpu_host *a, const struct cpu_host *b)
{
	ck_assert_str_eq(a->kernel, b->kernel);
	expect_same_table(&a->cpuid, &b->cpuid);
	expect_same_table(&a->hyperv, &b->hyperv);
	ck_assert_uint_eq(a->msr_count, b->msr_count);
	for (uint32_t i = 0; i < a->msr_count; i++) {
		ck_assert_uint_eq(a->msrs[i].index, b->msrs[i].index);
		ck_assert_uint_eq(a->msrs[i].value, b->msrs[i].value);
	}
	ck_assert_uint_eq(a->tsc_khz, b->tsc_khz);
	ck_assert_uint_eq(a->nested_state_bytes, b->nested_state_bytes);
	ck_assert(a->tsc_deadline == b->tsc_deadline && a->tsc_control == b->tsc_control &&
		  a->enlightened_vmcs == b->enlightened_vmcs);
}

static void expect_round_trip(const struct cpu_host *host)
{
	_cleanup_free_ char *text = cpu_record_print(host);
	_cleanup_free_ struct cpu_host *again = new_host();
	struct err err = ERR_INIT;
	ck_assert_ptr_nonnull(text);
	ck_assert_msg(cpu_record_parse("x", text, strlen(text), again, &err) == 0, "%s", err.text);
	expect_same(host, again);
	_cleanup_free_ char *text_again = cpu_record_print(again);
	ck_assert_str_eq(text, text_again);
}

START_TEST(the_largest_host_reads_back)
{
	_cleanup_free_ struct cpu_host *host = new_host();
	(void)snprintf(host->kernel, sizeof(host->kernel), "%063d", 7);
	for (uint32_t i = 0; i < CPUID_ENTRIES_MAX; i++) {
		host->cpuid.entries[i] = (struct kvm_cpuid_entry2){.function = 0x80000000 + i / 2,
								   .index = i % 2 ? 4000000 : 0,
								   .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
								   .eax = UINT32_MAX,
								   .ebx = 1,
								   .ecx = i,
								   .edx = 0x80000000};
		host->hyperv.entries[i] = (struct kvm_cpuid_entry2){.function = i, .eax = i};
	}
	host->cpuid.count = host->hyperv.count = CPUID_ENTRIES_MAX;
	for (uint32_t i = 0; i < CPU_HOST_MSRS_MAX; i++)
		host->msrs[i] = (struct cpu_msr){.index = UINT32_MAX - i, .value = UINT64_MAX - i};
	host->msr_count = CPU_HOST_MSRS_MAX;
	host->tsc_khz = host->nested_state_bytes = UINT32_MAX;
	host->tsc_deadline = host->enlightened_vmcs = true;
	expect_round_trip(host);
}
END_TEST

START_TEST(an_empty_host_reads_back)
{
	_cleanup_free_ struct cpu_host *host = new_host();
	expect_round_trip(host);
}
END_TEST

static char *read_text(const char *path)
{
	char *text = calloc(1, 1 << 20);
	FILE *file = fopen(path, "re");
	ck_assert_ptr_nonnull(text);
	ck_assert_msg(file != NULL, "%s", path);
	ck_assert_uint_lt(fread(text, 1, (1 << 20) - 1, file), (1 << 20) - 1);
	ck_assert_int_eq(fclose(file), 0);
	return text;
}

START_TEST(recorded_hosts_are_what_we_would_write)
{
	DIR *folder = opendir(HOSTS);
	int count = 0;
	ck_assert_ptr_nonnull(folder);
	for (const struct dirent *entry; (entry = readdir(folder)) != NULL;) {
		char path[512];
		size_t len = strlen(entry->d_name);
		if (len < 5 || strcmp(entry->d_name + len - 5, ".json") != 0)
			continue;
		(void)snprintf(path, sizeof(path), HOSTS "/%s", entry->d_name);
		_cleanup_free_ char *text = read_text(path);
		_cleanup_free_ struct cpu_host *host = new_host();
		struct err err = ERR_INIT;
		ck_assert_msg(cpu_record_parse(path, text, strlen(text), host, &err) == 0, "%s", err.text);
		_cleanup_free_ char *printed = cpu_record_print(host);
		ck_assert_msg(strcmp(text, printed) == 0, "%s is not as aerie cpu dump writes it", path);
		expect_round_trip(host);
		count++;
	}
	(void)closedir(folder);
	ck_assert_int_gt(count, 5);
}
END_TEST

/* A good record with one place changed. */
#define FIXED                                                                                                \
	"\"kernel\": \"6.1\", \"nested_state_bytes\": 0, \"tsc_khz\": 1, \"tsc_deadline\": true, "           \
	"\"tsc_control\": true, \"enlightened_vmcs\": false"
#define RECORD(cpuid, msrs)                                                                                  \
	"{ \"aerie_host\": 1, " FIXED ", \"cpuid\": " cpuid ", \"hyperv\": {}, \"msrs\": " msrs " }"
#define LEAF "[\"0x1\", \"0x2\", \"0x3\", \"0xffffffff\"]"

START_TEST(mistakes_are_refused_by_place)
{
	static const struct {
		const char *text, *message;
	} cases[] = {
		{"", "x:1:1: "},
		{"[]", "x: not a recorded host (aerie cpu dump writes one)"},
		{"{ \"boot\": {} }", "x: not a recorded host (aerie cpu dump writes one)"},
		{"{ \"aerie_host\": 1 }", "x: kernel: missing"},
		{"{ \"aerie_host\": 2, " FIXED ", \"cpuid\": {}, \"hyperv\": {}, \"msrs\": {} }",
		 "x: aerie_host: version 2, but this aerie reads 1"},
		{"{ \"aerie_host\": 1, " FIXED ", \"cpuid\": {}, \"hyperv\": {}, \"msrs\": {}, \"more\": 1 }",
		 "x: \"more\": unknown key"},
		{"{ \"aerie_host\": 1, " FIXED
		 ", \"cpuid\": {}, \"hyperv\": {}, \"msrs\": {}, \"msrs\": {} }",
		 "x: msrs: this key stands twice"},
		{"{ \"aerie_host\": -1, " FIXED ", \"cpuid\": {}, \"hyperv\": {}, \"msrs\": {} }",
		 "x: aerie_host: -1 is not a whole number of 32 bits"},
		{"{ \"aerie_host\": 4294967296, " FIXED ", \"cpuid\": {}, \"hyperv\": {}, \"msrs\": {} }",
		 "x: aerie_host: 4294967296 is not a whole number of 32 bits"},
		{RECORD("[]", "{}"), "x: cpuid: a list is not an object"},
		{RECORD("{}", "7"), "x: msrs: 7 is not an object"},
		{RECORD("{ \"1\": " LEAF " }", "{}"),
		 "x: cpuid.\"1\": not a leaf such as \"0x80000008\" or \"0x0000000d.1\""},
		{RECORD("{ \"0x1.\": " LEAF " }", "{}"),
		 "x: cpuid.\"0x1.\": not a leaf such as \"0x80000008\" or \"0x0000000d.1\""},
		{RECORD("{ \"0x1.1x\": " LEAF " }", "{}"),
		 "x: cpuid.\"0x1.1x\": not a leaf such as \"0x80000008\" or \"0x0000000d.1\""},
		{RECORD("{ \"0x123456789\": " LEAF " }", "{}"),
		 "x: cpuid.\"0x123456789\": not a leaf such as \"0x80000008\" or \"0x0000000d.1\""},
		{RECORD("{ \"0x1\": [\"0x1\", \"0x2\", \"0x3\"] }", "{}"),
		 "x: cpuid.\"0x1\": a list is not a list of eax, ebx, ecx, edx"},
		{RECORD("{ \"0x1\": [\"0x1\", \"0x2\", 3, \"0x4\"] }", "{}"),
		 "x: cpuid.\"0x1\".2: 3 is not hex of 32 bits such as \"0x1f\""},
		{RECORD("{ \"0x1\": [\"0x1\", \"0x2\", \"0x3\", \"0x100000000\"] }", "{}"),
		 "x: cpuid.\"0x1\".3: \"0x100000000\" is not hex of 32 bits such as \"0x1f\""},
		{RECORD("{ \"0x1\": [\"0x\", \"0x2\", \"0x3\", \"0x4\"] }", "{}"),
		 "x: cpuid.\"0x1\".0: \"0x\" is not hex of 32 bits such as \"0x1f\""},
		{RECORD("{ \"0x1\": " LEAF ", \"0x00000001\": " LEAF " }", "{}"),
		 "x: cpuid.\"0x00000001\": this leaf stands twice"},
		{RECORD("{ \"0xd.0\": " LEAF ", \"0xd\": " LEAF " }", "{}"),
		 "x: cpuid.\"0xd\": this leaf stands twice"},
		{RECORD("{}", "{ \"480\": \"0x0\" }"), "x: msrs.\"480\": not an MSR such as \"0x480\""},
		{RECORD("{}", "{ \"0x480\": 1 }"),
		 "x: msrs.\"0x480\": 1 is not hex of 64 bits such as \"0x1f\""},
		{RECORD("{}", "{ \"0x480\": \"0x10000000000000000\" }"),
		 "x: msrs.\"0x480\": \"0x10000000000000000\" is not hex of 64 bits such as \"0x1f\""},
		{RECORD("{}", "{ \"0x480\": \"0x1\", \"0x0480\": \"0x1\" }"),
		 "x: msrs.\"0x0480\": this MSR stands twice"},
	};
	_cleanup_free_ struct cpu_host *host = new_host();
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct err err = ERR_INIT;
		ck_assert_int_eq(cpu_record_parse("x", cases[i].text, strlen(cases[i].text), host, &err),
				 -EINVAL);
		if (i == 0)
			ck_assert_int_eq(strncmp(err.text, cases[i].message, strlen(cases[i].message)), 0);
		else
			ck_assert_str_eq(err.text, cases[i].message);
	}
}
END_TEST

/* One leaf or MSR more than there is room for. */
START_TEST(too_many_are_refused)
{
	_cleanup_free_ struct cpu_host *host = new_host();
	_cleanup_free_ char *text = calloc(1, 1 << 20);
	struct err err = ERR_INIT;
	size_t used = 0;
	for (int i = 0; i <= CPUID_ENTRIES_MAX; i++)
		used += (size_t)sprintf(
			text + used, "%s\"0x%x\": " LEAF,
			i ? ", " : "{ \"aerie_host\": 1, " FIXED ", \"cpuid\": {}, \"hyperv\": { ", i);
	(void)sprintf(text + used, " }, \"msrs\": {} }");
	ck_assert_int_eq(cpu_record_parse("x", text, strlen(text), host, &err), -EINVAL);
	ck_assert_str_eq(err.text, "x: hyperv.\"0x100\": more than 256 leaves");
	err = ERR_INIT;
	used = (size_t)sprintf(text,
			       "{ \"aerie_host\": 1, " FIXED ", \"cpuid\": {}, \"hyperv\": {}, \"msrs\": { ");
	for (int i = 0; i <= CPU_HOST_MSRS_MAX; i++)
		used += (size_t)sprintf(text + used, "%s\"0x%x\": \"0x0\"", i ? ", " : "", i);
	(void)sprintf(text + used, " } }");
	ck_assert_int_eq(cpu_record_parse("x", text, strlen(text), host, &err), -EINVAL);
	ck_assert_str_eq(err.text, "x: msrs.\"0x80\": more than 128 MSRs");
}
END_TEST

TEST_MAIN("cpu/record", the_largest_host_reads_back, an_empty_host_reads_back,
	  recorded_hosts_are_what_we_would_write, mistakes_are_refused_by_place, too_many_are_refused)
