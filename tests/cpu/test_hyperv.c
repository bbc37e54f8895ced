/* Hyper-V: which enlightenments L1 gets of a host's, and its CPUID leaves to the bit. */
#include "base/cleanup.h"
#include "cpu/features.h"
#include "harness.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static void add(struct cpuid_table *table, uint32_t function, uint32_t a, uint32_t b, uint32_t c, uint32_t d)
{
	table->entries[table->count++] =
		(struct kvm_cpuid_entry2){.function = function, .eax = a, .ebx = b, .ecx = c, .edx = d};
}

/* What Linux 6.12 answers; 6.1 has no bit 14 in leaf 3, EDX, and no direct flush in leaf 0xA. */
static struct cpuid_table offer(bool intel)
{
	struct cpuid_table t = {0};
	add(&t, 0x40000000, 0x40000082, 0x756e694c, 0x564b2078, 0x7648204d);
	add(&t, 0x40000001, 0x31237648, 0, 0, 0);
	add(&t, 0x40000002, 0x3839, 0xa0000, 0, 0);
	add(&t, 0x40000003, 0x2aff, 0x100830, 0, 0x84d10);
	add(&t, 0x40000004, intel ? 0x4e2c : 0xe2c, 0xfff, 0, 0);
	add(&t, 0x40000005, 1024, 64, 0, 0);
	add(&t, 0x4000000a, intel ? 0xa0101 : 0xa0000, 1, 0, 0);
	add(&t, 0x40000080, 0, 0, 0, 0);
	return t;
}

static struct cpuid_table kvm_leaves(void)
{
	struct cpuid_table t = {0};
	add(&t, 1, 1, 2, 3, 4);
	add(&t, 0x40000000, 0x40000001, 0x4b4d564b, 0x564b4d56, 0x4d);
	add(&t, 0x40000001, 0x01007afb, 0, 0, 0);
	add(&t, 0x80000000, 0x80000008, 0, 0, 0);
	return t;
}

/* "on", as the config makes it. */
static struct hyperv_config on(void)
{
	return (struct hyperv_config){
		.enabled = true,
		.relaxed = true,
		.vapic = true,
		.vpindex = true,
		.runtime = true,
		.crash = true,
		.reset = true,
		.time = true,
		.frequencies = true,
		.reenlightenment = true,
		.synic = true,
		.stimer = true,
		.stimer_direct = true,
		.tlbflush = true,
		.tlbflush_ext = true,
		.tlbflush_direct = true,
		.ipi = true,
		.xmm_input = true,
		.avic = true,
		.evmcs = true,
		.emsr_bitmap = true,
		.kvm = true,
		.spinlock_retries = 0x1fff,
		.vendor_id = "Microsoft Hv",
		.version_build = 14393,
		.version_major = 10,
	};
}

static struct hyperv_config resolve(const struct hyperv_config *asked, const struct cpuid_table *host,
				    enum cpu_nested nested, const char *left_out)
{
	struct hyperv_config given;
	struct hyperv_report report;
	struct err err = ERR_INIT;
	char text[512];
	ck_assert_int_eq(hyperv_resolve(host, asked, nested, &given, &report, &err), 0);
	hyperv_left_out(&report, text, sizeof(text));
	ck_assert_str_eq(text, left_out);
	return given;
}

/* The table as text, a line for each leaf. */
static void print(const struct cpuid_table *table, char *text, size_t bytes)
{
	size_t used = 0;
	for (uint32_t i = 0; i < table->count; i++) {
		const struct kvm_cpuid_entry2 *e = &table->entries[i];
		ck_assert_uint_lt(used, bytes);
		used += (size_t)snprintf(text + used, bytes - used, "%08x  %08x %08x %08x %08x\n",
					 e->function, e->eax, e->ebx, e->ecx, e->edx);
	}
}

static void check_golden(const char *name, const struct cpuid_table *table)
{
	char path[128], want[4096], got[4096];
	(void)snprintf(path, sizeof(path), "tests/golden/hyperv/%s.txt", name);
	print(table, got, sizeof(got));
	FILE *file = fopen(path, "r");
	ck_assert_msg(file, "%s cannot be read; it should say\n%s", path, got);
	size_t n = fread(want, 1, sizeof(want) - 1, file);
	(void)fclose(file);
	want[n] = '\0';
	ck_assert_str_eq(got, want);
}

static void check_leaves(const char *name, const struct hyperv_config *asked, bool intel,
			 enum cpu_nested nested)
{
	struct cpuid_table host = offer(intel), table = kvm_leaves();
	struct err err = ERR_INIT;
	struct hyperv_config given = resolve(asked, &host, nested, "");
	ck_assert_int_eq(hyperv_cpuid(&given, &host, &table, &err), 0);
	check_golden(name, &table);
}

START_TEST(leaves_to_the_bit)
{
	struct hyperv_config all = on(),
			     least = {.enabled = true, .vendor_id = "aerie", .spinlock_retries = 7};
	check_leaves("intel-on", &all, true, CPU_NESTED_VMX);
	check_leaves("intel-no-nesting", &all, true, CPU_NESTED_NONE);
	check_leaves("amd-on", &all, false, CPU_NESTED_SVM);
	check_leaves("least", &least, true, CPU_NESTED_VMX);
	all.avic = all.kvm = false;
	check_leaves("no-avic-no-kvm", &all, true, CPU_NESTED_VMX);
}
END_TEST

/* One switch, one row: each takes away bits and never adds any, but for the APIC MSRs that avic speaks
 * against. */
START_TEST(each_switch_is_its_own)
{
	struct cpuid_table host = offer(true);
	struct hyperv_config all = on();
	all.no_nonarch_coresharing = true;
	for (size_t i = 0; i < hyperv_switch_count(); i++) {
		const char *name = hyperv_switch_name(i);
		struct hyperv_config less = all;
		bool *where = (bool *)&less + (offsetof(struct hyperv_config, relaxed) + i);
		ck_assert_msg(*where, "%s is not where the order of the struct says", name);
		*where = false;
		struct hyperv_report report;
		struct hyperv_config given;
		struct err err = ERR_INIT;
		ck_assert_int_eq(hyperv_resolve(&host, &less, CPU_NESTED_VMX, &given, &report, &err), 0);
		ck_assert_int_eq(report.switches[i].fate, HYPERV_OFF);
		struct cpuid_table with = {0}, without = {0};
		ck_assert_int_eq(hyperv_cpuid(&all, &host, &with, &err), 0);
		ck_assert_int_eq(hyperv_cpuid(&given, &host, &without, &err), 0);
		bool differs = false;
		for (uint32_t leaf = 0; leaf < with.count; leaf++) {
			const struct kvm_cpuid_entry2 *a = &with.entries[leaf], *b = &without.entries[leaf];
			differs |= a->eax != b->eax || a->ebx != b->ebx || a->edx != b->edx;
			ck_assert_uint_eq(b->eax & ~a->eax, strcmp(name, "avic") == 0 && leaf == 4 ? 8 : 0);
			ck_assert_uint_eq(b->edx & ~a->edx, 0);
		}
		ck_assert_msg(differs, "%s changes nothing", name);
	}
	ck_assert_ptr_null(hyperv_switch_name(hyperv_switch_count()));
}
END_TEST

START_TEST(what_needs_something_goes_with_it)
{
	static const struct {
		const char *off, *gone;
	} rows[] = {
		{"vpindex", "synic stimer stimer_direct tlbflush tlbflush_ext tlbflush_direct ipi"},
		{"synic", "stimer stimer_direct"},
		{"time", "stimer stimer_direct"},
		{"vapic", "evmcs emsr_bitmap tlbflush_direct"},
		{"evmcs", "emsr_bitmap tlbflush_direct"},
		{"tlbflush", "tlbflush_ext tlbflush_direct"},
		{"relaxed", ""},
	};
	struct cpuid_table host = offer(true);
	for (size_t row = 0; row < ARRAY_LEN(rows); row++) {
		struct hyperv_config asked = on(), given;
		struct hyperv_report report;
		struct err err = ERR_INIT;
		for (size_t i = 0; i < hyperv_switch_count(); i++)
			if (strcmp(hyperv_switch_name(i), rows[row].off) == 0)
				*((bool *)&asked + (offsetof(struct hyperv_config, relaxed) + i)) = false;
		ck_assert_int_eq(hyperv_resolve(&host, &asked, CPU_NESTED_VMX, &given, &report, &err), 0);
		for (size_t i = 0; i < hyperv_switch_count(); i++) {
			char word[40], list[128];
			(void)snprintf(word, sizeof(word), " %s ", hyperv_switch_name(i));
			(void)snprintf(list, sizeof(list), " %s ", rows[row].gone);
			ck_assert_msg((report.switches[i].fate == HYPERV_NEEDS) ==
					      (strstr(list, word) != NULL),
				      "without %s: %s", rows[row].off, hyperv_switch_name(i));
		}
	}
}
END_TEST

START_TEST(an_older_host_gives_less_and_says_so)
{
	struct cpuid_table host = offer(true);
	struct hyperv_config asked = on();
	for (uint32_t i = 0; i < host.count; i++) {
		if (host.entries[i].function == 0x40000003)
			host.entries[i].edx &= ~(1U << 14);
		if (host.entries[i].function == 0x4000000a)
			host.entries[i].eax &= ~(1U << 17);
	}
	struct hyperv_config given = resolve(
		&asked, &host, CPU_NESTED_VMX,
		"tlbflush_ext: this host's KVM does not have it; tlbflush_direct: this host's KVM does "
		"not have it");
	ck_assert(given.evmcs && given.emsr_bitmap && !given.tlbflush_ext && !given.tlbflush_direct);
}
END_TEST

START_TEST(amd_has_the_bitmap_and_the_flush_without_an_enlightened_vmcs)
{
	struct cpuid_table host = offer(false);
	struct hyperv_config asked = on();
	struct hyperv_config given = resolve(&asked, &host, CPU_NESTED_SVM, "");
	ck_assert(!given.evmcs && given.emsr_bitmap && given.tlbflush_direct);
}
END_TEST

START_TEST(what_is_required_and_cannot_be_had_is_refused)
{
	struct cpuid_table amd = offer(false), none = {0};
	struct hyperv_config asked = on(), given;
	struct err err = ERR_INIT;
	asked.require[0] = offsetof(struct hyperv_config, evmcs);
	asked.require[1] = offsetof(struct hyperv_config, synic);
	asked.require_count = 2;
	ck_assert_int_eq(hyperv_resolve(&amd, &asked, CPU_NESTED_SVM, &given, NULL, &err), -EOPNOTSUPP);
	ck_assert_str_eq(err.text, "cpu.hyperv.require: cannot be had: evmcs: L1 has no VMX");

	struct cpuid_table intel = offer(true);
	err = ERR_INIT;
	ck_assert_int_eq(hyperv_resolve(&intel, &asked, CPU_NESTED_VMX, &given, NULL, &err), 0);
	for (uint32_t i = 0; i < intel.count; i++)
		if (intel.entries[i].function == 0x40000003)
			intel.entries[i].eax &= ~(1U << 2);
	asked.require[0] = offsetof(struct hyperv_config, stimer_direct);
	ck_assert_int_eq(hyperv_resolve(&intel, &asked, CPU_NESTED_VMX, &given, NULL, &err), -EOPNOTSUPP);
	ck_assert_str_eq(err.text,
			 "cpu.hyperv.require: cannot be had: stimer_direct: needs stimer; synic: this "
			 "host's KVM does not have it");

	err = ERR_INIT;
	ck_assert_int_eq(hyperv_resolve(&none, &asked, CPU_NESTED_VMX, &given, NULL, &err), -EOPNOTSUPP);
	ck_assert_str_eq(err.text,
			 "cpu.hyperv: this host's KVM has no Hyper-V interface (CONFIG_KVM_HYPERV)");
}
END_TEST

START_TEST(off_changes_nothing)
{
	struct cpuid_table none = {0};
	struct hyperv_config asked = {0}, given;
	struct err err = ERR_INIT;
	ck_assert_int_eq(hyperv_resolve(&none, &asked, CPU_NESTED_NONE, &given, NULL, &err), 0);
	ck_assert(!given.enabled);
}
END_TEST

START_TEST(a_full_table_is_an_error)
{
	static struct cpuid_table table;
	struct cpuid_table host = offer(true);
	struct hyperv_config asked = on();
	struct err err = ERR_INIT;
	table.count = CPUID_ENTRIES_MAX - 10;
	ck_assert_int_eq(hyperv_cpuid(&asked, &host, &table, &err), -E2BIG);
	table.count = CPUID_ENTRIES_MAX - 11;
	ck_assert_int_eq(hyperv_cpuid(&asked, &host, &table, &err), 0);
}
END_TEST

/* An Intel host with every control of SDM 3D, A.3 to A.5. */
static void intel_host(struct cpu_host *host)
{
	static const uint32_t controls[] = {0x481, 0x482, 0x483, 0x484, 0x48b, 0x48d, 0x48e, 0x48f, 0x490};
	memset(host, 0, sizeof(*host));
	add(&host->cpuid, 0, 0x1f, 0x756e6547, 0x6c65746e, 0x49656e69);
	add(&host->cpuid, 1, 0x50654, 0, 1U << 5, 0xffffffff);
	add(&host->cpuid, 0x40000000, 0x40000001, 0x4b4d564b, 0x564b4d56, 0x4d);
	add(&host->cpuid, 0x80000001, 0, 0, 1, 1U << 29);
	host->hyperv = offer(true);
	host->enlightened_vmcs = true;
	host->msrs[host->msr_count++] = (struct cpu_msr){.index = 0x480, .value = UINT64_C(1) << 55};
	host->msrs[host->msr_count++] = (struct cpu_msr){.index = 0x48c, .value = ~UINT64_C(0)};
	for (size_t i = 0; i < ARRAY_LEN(controls); i++)
		host->msrs[host->msr_count++] =
			(struct cpu_msr){.index = controls[i], .value = UINT64_C(0xffffffff) << 32};
}

static bool resolved(const struct cpu_host *host, const struct cpu_config *asked, const char *feature,
		     char *reason, size_t bytes)
{
	static struct cpu_model model;
	static struct cpu_report report;
	struct err err = ERR_INIT;
	size_t index;
	ck_assert_int_eq(cpu_feature_find(feature, &index, &err), 0);
	ck_assert_msg(cpu_resolve(host, asked, NESTED_AUTO, &model, &report, &err) == 0, "%s", err.text);
	ck_assert_int_eq(model.nested, CPU_NESTED_VMX);
	cpu_report_reason(&report, index, reason, bytes);
	return report.features[index].fate == CPU_GIVEN;
}

START_TEST(the_enlightened_vmcs_excludes_what_it_cannot_hold)
{
	static const char *const lost[] = {"vmx-posted-intr",	 "vmx-apicv-vid", "vmx-preemption-timer",
					   "vmx-shadow-vmcs",	 "vmx-pml",	  "vmx-tsc-scaling",
					   "vmx-apicv-register", "vmx-ple"};
	static const char *const kept[] = {"vmx-ept", "vmx-vpid", "vmx-unrestricted-guest", "vmx-msr-bitmap"};
	static struct cpu_host host;
	struct cpu_config off = {.model = "host"}, with = {.model = "host", .hyperv = on()};
	char reason[256];
	intel_host(&host);
	for (size_t i = 0; i < ARRAY_LEN(lost); i++) {
		ck_assert_msg(resolved(&host, &off, lost[i], reason, sizeof(reason)), "%s", reason);
		ck_assert_msg(!resolved(&host, &with, lost[i], reason, sizeof(reason)), "%s", reason);
		ck_assert_ptr_nonnull(strstr(reason, "enlightened VMCS"));
	}
	for (size_t i = 0; i < ARRAY_LEN(kept); i++)
		ck_assert_msg(resolved(&host, &with, kept[i], reason, sizeof(reason)), "%s", reason);
	with.hyperv.evmcs = false;
	ck_assert_msg(resolved(&host, &with, "vmx-posted-intr", reason, sizeof(reason)), "%s", reason);

	struct cpu_model model;
	struct err err = ERR_INIT;
	with.hyperv.evmcs = true;
	with.require[with.require_count++] = "vmx-shadow-vmcs";
	ck_assert_int_eq(cpu_resolve(&host, &with, NESTED_AUTO, &model, NULL, &err), -EOPNOTSUPP);
	ck_assert_str_eq(err.text,
			 "cpu.require: vmx-shadow-vmcs: not in the enlightened VMCS (cpu.hyperv.evmcs)");
}
END_TEST

TEST_MAIN("hyperv", the_enlightened_vmcs_excludes_what_it_cannot_hold, leaves_to_the_bit,
	  each_switch_is_its_own, what_needs_something_goes_with_it, an_older_host_gives_less_and_says_so,
	  amd_has_the_bitmap_and_the_flush_without_an_enlightened_vmcs,
	  what_is_required_and_cannot_be_had_is_refused, off_changes_nothing, a_full_table_is_an_error)
