/* The models: the same L1 on every host that can run them, and a plain word from those that cannot. */
#include "cpu/features.h"
#include "harness.h"
#include "hosts.h"

#include <errno.h>

static struct cpu_model first, second;
static struct err err;

static int as(const struct cpu_host *host, const char *model, enum nested_mode nested, struct cpu_model *ret)
{
	struct cpu_config asked = {.model = model};
	err = ERR_INIT;
	return cpu_resolve(host, &asked, nested, ret, NULL, &err);
}

static void ck_same(const char *model)
{
	ck_assert_uint_eq(first.cpuid.count, second.cpuid.count);
	for (uint32_t i = 0; i < first.cpuid.count; i++) {
		const struct kvm_cpuid_entry2 *a = &first.cpuid.entries[i];
		const struct kvm_cpuid_entry2 *b = host_entry(&second.cpuid, a->function, a->index);
		ck_assert_msg(b && memcmp(a, b, sizeof(*a)) == 0, "%s: leaf %#x.%u", model, a->function,
			      a->index);
	}
	ck_assert_uint_eq(first.msr_count, second.msr_count);
	for (uint32_t i = 0; i < first.msr_count; i++) {
		const struct cpu_msr *b = host_msr_of(second.msrs, second.msr_count, first.msrs[i].index);
		ck_assert_msg(b && b->value == first.msrs[i].value, "%s: MSR %#x", model,
			      first.msrs[i].index);
	}
}

/* The same maker's next processor under a later kernel: more of everything, other caches, another brand. */
static struct cpu_host *newer(struct cpu_host *host)
{
	host_entry(&host->cpuid, 0, 0)->eax = 0x24;
	host_entry(&host->cpuid, 1, 0)->eax += 0x20000;
	host_entry(&host->cpuid, 7, 0)->ecx |= 1U << 8 | 1U << 9 | 1U << 22;
	host_entry(&host->cpuid, 7, 0)->edx |= 1U << 4 | 1U << 14;
	host_entry(&host->cpuid, 0x80000008, 0)->eax = 0x3934;
	host_entry(&host->cpuid, 0x40000001, 0)->eax |= 1U << 17;
	host_leaf(host, 0x80000002, 0, 0x65766f4e, 0x20796c, 0, 0);
	host_leaf(host, 0x80000005, 0, 1, 2, 3, 4);
	host_leaf(host, 0x1f, 0, 1, 2, 0x100, 7);
	host_leaf(host, 0x24, 0, 0, 1, 0, 0);
	return host;
}

static struct cpu_host *newer_intel(void)
{
	struct cpu_host *host = newer(host_intel(true));
	host_entry(&host->cpuid, 7, 1)->eax = 0x30;
	host_msr_of(host->msrs, host->msr_count, 0x48a)->value = 0x44;
	host_msr_of(host->msrs, host->msr_count, 0x48b)->value |= UINT64_C(1) << (32 + 22);
	host_msr_of(host->msrs, host->msr_count, 0x48c)->value |= 1U << 7;
	host_msr_of(host->msrs, host->msr_count, 0x48d)->value |= UINT64_C(0x80) << 32;
	host_msr_of(host->msrs, host->msr_count, 0x480)->value |= UINT64_C(1) << 56;
	host_msr_of(host->msrs, host->msr_count, 0x10a)->value |= 0x1ff;
	return host;
}

START_TEST(a_baseline_is_the_same_on_all_hosts)
{
	struct cpu_host *old = host_intel(true), *new = newer_intel();
	ck_assert_msg(as(old, "baseline-intel", NESTED_AUTO, &first) == 0, "%s", err.text);
	ck_assert_msg(as(new, "baseline-intel", NESTED_AUTO, &second) == 0, "%s", err.text);
	ck_same("baseline-intel");
	ck_assert_int_eq(first.nested, CPU_NESTED_VMX);
	free(old);
	free(new);

	old = host_amd(true), new = newer(host_amd(true));
	host_entry(&new->cpuid, 0x8000000a, 0)->edx |= 1U << 25 | 1U << 13;
	host_entry(&new->cpuid, 0x8000000a, 0)->ebx = 16;
	host_entry(&new->cpuid, 0x80000021, 0)->eax |= 1U << 8;
	host_entry(&new->cpuid, 0xd, 1)->eax |= 8;
	ck_assert_msg(as(old, "baseline-amd", NESTED_AUTO, &first) == 0, "%s", err.text);
	ck_assert_msg(as(new, "baseline-amd", NESTED_AUTO, &second) == 0, "%s", err.text);
	ck_same("baseline-amd");
	ck_assert_int_eq(first.nested, CPU_NESTED_SVM);
	free(old);
	free(new);
}
END_TEST

START_TEST(levels_are_the_same_without_nesting)
{
	const char *const levels[] = {"x86-64-v2", "x86-64-v3", "x86-64-v4"};
	struct cpu_host *old = host_intel(true), *new = newer_intel();
	for (size_t i = 0; i < 3; i++) {
		ck_assert_msg(as(old, levels[i], NESTED_OFF, &first) == 0, "%s", err.text);
		ck_assert_msg(as(new, levels[i], NESTED_OFF, &second) == 0, "%s", err.text);
		ck_same(levels[i]);
		ck_assert_int_eq(as(old, levels[i], NESTED_AUTO, &first), 0);
		ck_assert_int_eq(first.nested, CPU_NESTED_VMX);
	}
	free(old);
	free(new);
}
END_TEST

START_TEST(constants_are_whole)
{
	struct cpu_host *host = newer_intel();
	char brand[48];
	ck_assert_int_eq(as(host, "x86-64-v3", NESTED_OFF, &first), 0);
	ck_assert_uint_eq(host_entry(&first.cpuid, 1, 0)->eax, 0x000506e3);
	ck_assert_uint_eq(host_entry(&first.cpuid, 0x80000008, 0)->eax, 0x3027);
	ck_assert_uint_eq(host_entry(&first.cpuid, 0, 0)->eax, 0xd);
	ck_assert_uint_eq(host_entry(&first.cpuid, 7, 0)->eax, 0);
	ck_assert_ptr_null(host_entry(&first.cpuid, 0xa, 0));
	ck_assert_ptr_null(host_entry(&first.cpuid, 0x1f, 0));
	ck_assert_ptr_null(host_entry(&first.cpuid, 0x24, 0));
	ck_assert_uint_eq(host_entry(&first.cpuid, 4, 4)->eax, 0);
	for (uint32_t i = 0; i < 3; i++)
		memcpy(brand + 16 * i, &host_entry(&first.cpuid, 0x80000002 + i, 0)->eax, 16);
	ck_assert_str_eq(brand, "aerie x86-64-v3");
	/* A preferred feature brings the leaf it is in. */
	struct cpu_config asked = {.model = "x86-64-v3", .prefer = {"avx-vnni", "la57"}, .prefer_count = 2};
	ck_assert_int_eq(cpu_resolve(host, &asked, NESTED_OFF, &first, NULL, &err), 0);
	ck_assert_uint_eq(host_entry(&first.cpuid, 7, 0)->eax, 1);
	ck_assert_uint_eq(host_entry(&first.cpuid, 7, 1)->eax, 1U << 4);
	free(host);
}
END_TEST

START_TEST(xsave_of_a_level_is_of_its_registers)
{
	struct cpu_host *host = host_intel(true);
	ck_assert_int_eq(as(host, "x86-64-v3", NESTED_OFF, &first), 0);
	ck_assert_uint_eq(host_entry(&first.cpuid, 0xd, 0)->eax, 7);
	ck_assert_uint_eq(host_entry(&first.cpuid, 0xd, 0)->ecx, 832);
	ck_assert_int_eq(as(host, "x86-64-v4", NESTED_OFF, &first), 0);
	ck_assert_uint_eq(host_entry(&first.cpuid, 0xd, 0)->eax, 0xe7);
	ck_assert_int_eq(as(host, "x86-64-v2", NESTED_OFF, &first), 0);
	ck_assert_ptr_null(host_entry(&first.cpuid, 0xd, 0));
	free(host);
}
END_TEST

START_TEST(who_cannot_says_what_it_lacks)
{
	struct cpu_host *host = host_amd(true), *no_nesting = host_intel(false);
	ck_assert_int_eq(as(host, "x86-64-v4", NESTED_AUTO, &first), -EOPNOTSUPP);
	ck_assert_str_eq(
		err.text,
		"cpu.model: \"x86-64-v4\" has what this host does not offer (\"disable\" it, or take "
		"another model): avx512f, avx512bw, avx512cd, avx512dq, avx512vl");
	ck_assert_int_eq(as(host, "baseline-intel", NESTED_AUTO, &first), -EOPNOTSUPP);
	ck_assert_str_eq(err.text,
			 "cpu.model: \"baseline-intel\" is for Intel's processors, and this host has AMD's");
	ck_assert_int_eq(as(no_nesting, "baseline-intel", NESTED_AUTO, &first), -EOPNOTSUPP);
	ck_assert_ptr_nonnull(strstr(err.text, "vmx, "));
	ck_assert_ptr_nonnull(strstr(err.text, " more"));
	ck_assert_int_eq(as(no_nesting, "baseline-intel", NESTED_OFF, &first), 0);
	host_entry(&host->cpuid, 0x80000008, 0)->eax = 0x3024;
	ck_assert_int_eq(as(host, "x86-64-v2", NESTED_AUTO, &first), -EOPNOTSUPP);
	ck_assert_str_eq(err.text,
			 "cpu.model: \"x86-64-v2\" has 39 bits of physical address, and this host has 36");
	/* What the operator takes away is not lacking. */
	host_entry(&host->cpuid, 0x80000008, 0)->eax = 0x3030;
	host_entry(&host->cpuid, 0x8000000a, 0)->edx &= ~(1U << 3);
	ck_assert_int_eq(as(host, "baseline-amd", NESTED_AUTO, &first), -EOPNOTSUPP);
	ck_assert_ptr_nonnull(strstr(err.text, ": nrip-save"));
	struct cpu_config asked = {.model = "baseline-amd", .disable = {"nrip-save"}, .disable_count = 1};
	err = ERR_INIT;
	ck_assert_msg(cpu_resolve(host, &asked, NESTED_AUTO, &first, NULL, &err) == 0, "%s", err.text);
	free(host);
	free(no_nesting);
}
END_TEST

/* A host that was recorded by somebody may hold anything: nothing is written past a table. */
START_TEST(a_full_table_stays_in_its_bounds)
{
	struct cpu_host *host = host_intel(true);
	while (host->cpuid.count < CPUID_ENTRIES_MAX)
		host_leaf(host, 0xd, host->cpuid.count, 0xffffffff, 0xffffffff, 3, 0);
	while (host->msr_count < CPU_HOST_MSRS_MAX)
		host_msr(host, 0x480 + host->msr_count % 20, UINT64_MAX);
	for (size_t i = 0; cpu_model_at(i); i++) {
		(void)as(host, cpu_model_at(i)->name, NESTED_AUTO, &first);
		ck_assert_uint_le(first.cpuid.count, CPUID_ENTRIES_MAX);
		ck_assert_uint_le(first.msr_count, CPU_HOST_MSRS_MAX);
	}
	*host = (struct cpu_host){0};
	for (size_t i = 0; cpu_model_at(i); i++)
		(void)as(host, cpu_model_at(i)->name, NESTED_AUTO, &first);
	free(host);
}
END_TEST

TEST_MAIN("models", a_baseline_is_the_same_on_all_hosts, levels_are_the_same_without_nesting,
	  constants_are_whole, xsave_of_a_level_is_of_its_registers, who_cannot_says_what_it_lacks,
	  a_full_table_stays_in_its_bounds)
