/* The resolver: what falls with what, why, and that the words agree with the features. */
#include "cpu/features.h"
#include "harness.h"
#include "hosts.h"

#include <errno.h>
#include <stdio.h>

struct result {
	struct cpu_model model;
	struct cpu_report report;
	struct err err;
	int code;
};

static struct result got;

static void resolve(const struct cpu_host *host, const struct cpu_config *asked, enum nested_mode nested)
{
	got.err = ERR_INIT;
	got.code = cpu_resolve(host, asked, nested, &got.model, &got.report, &got.err);
}

/* With `names` (as far as the first NULL) disabled. */
static void without(const struct cpu_host *host, const char *const names[])
{
	struct cpu_config asked = {0};
	while (names[asked.disable_count]) {
		asked.disable[asked.disable_count] = names[asked.disable_count];
		asked.disable_count++;
	}
	resolve(host, &asked, NESTED_AUTO);
	ck_assert_msg(got.code == 0, "%s", got.err.text);
}

#define WITHOUT(host, ...) without(host, (const char *const[]){__VA_ARGS__, NULL})

static enum cpu_fate fate(const char *name)
{
	struct err err = ERR_INIT;
	size_t index;
	ck_assert_msg(cpu_feature_find(name, &index, &err) == 0, "%s", name);
	return got.report.features[index].fate;
}

static void reason_is(const char *name, const char *want)
{
	struct err err = ERR_INIT;
	size_t index;
	char text[200];
	ck_assert_int_eq(cpu_feature_find(name, &index, &err), 0);
	cpu_report_reason(&got.report, index, text, sizeof(text));
	ck_assert_str_eq(text, want);
}

static uint64_t msr(uint32_t index)
{
	const struct cpu_msr *found = host_msr_of(got.model.msrs, got.model.msr_count, index);
	ck_assert_msg(found != NULL, "MSR %#x", index);
	return found->value;
}

static const struct kvm_cpuid_entry2 *leaf(uint32_t function, uint32_t index)
{
	const struct kvm_cpuid_entry2 *entry = host_entry(&got.model.cpuid, function, index);
	ck_assert_msg(entry != NULL, "leaf %#x.%u", function, index);
	return entry;
}

START_TEST(host_gets_what_kvm_offers)
{
	static const struct cpu_config nothing_asked;
	struct cpu_host *hosts[] = {host_intel(true), host_amd(true)};
	for (size_t h = 0; h < 2; h++) {
		struct cpu_host *host = hosts[h];
		resolve(host, &nothing_asked, NESTED_AUTO);
		ck_assert_msg(got.code == 0, "%s", got.err.text);
		ck_assert_int_eq(got.model.nested, h == 0 ? CPU_NESTED_VMX : CPU_NESTED_SVM);
		for (uint32_t i = 0; i < host->cpuid.count; i++) {
			struct kvm_cpuid_entry2 want = host->cpuid.entries[i];
			if (want.function == 1)
				want.ecx |= 1U << 31 | 1U << 24;
			if (want.function == 0x8000001f)
				want.eax = want.ebx = want.ecx = want.edx = 0;
			ck_assert_msg(memcmp(leaf(want.function, want.index), &want, sizeof(want)) == 0,
				      "host %zu, leaf %#x.%u", h, want.function, want.index);
		}
		for (uint32_t i = 0; i < got.model.msr_count; i++) {
			const struct cpu_msr *m = &got.model.msrs[i];
			ck_assert_msg(m->value == host_msr_of(host->msrs, host->msr_count, m->index)->value,
				      "MSR %#x: %#llx", m->index, (unsigned long long)m->value);
			ck_assert_int_ne(m->origin, CPU_MSR_SET);
		}
		free(host);
	}
}
END_TEST

START_TEST(ept_takes_what_stands_on_it)
{
	struct cpu_host *host = host_intel(true);
	WITHOUT(host, "vmx-ept");
	ck_assert_uint_eq(msr(0x48b) >> 32 & (1U << 1 | 1U << 7 | 1U << 17), 0);
	ck_assert_uint_eq(msr(0x48c), 0x00000f0100000000);
	ck_assert_uint_eq(msr(0x491), 0);
	ck_assert_int_eq(fate("vmx-ept"), CPU_DISABLED);
	ck_assert_int_eq(fate("vmx-vpid"), CPU_GIVEN);
	reason_is("vmx-pml", "vmx-pml: needs vmx-ept, which is disabled");
	reason_is("vmx-invept-all-context",
		  "vmx-invept-all-context: needs vmx-invept, which needs vmx-ept, which is disabled");
	reason_is("vmx-ept", "vmx-ept: disabled");
	reason_is("npt", "npt: of the other processor vendor");
	reason_is("la57", "la57: not offered by this host");
	free(host);
}
END_TEST

START_TEST(a_default1_control_without_choice_is_1)
{
	struct cpu_host *host = host_intel(true);
	WITHOUT(host, "vmx-true-ctls");
	ck_assert_uint_eq(msr(0x480) >> 55 & 1, 0);
	ck_assert_uint_eq(msr(0x48e) & UINT32_MAX, 0x0401e172);
	ck_assert_uint_eq(msr(0x48f) & UINT32_MAX, 0x00036dff);
	ck_assert_uint_eq(msr(0x490) & UINT32_MAX, 0x000011ff);
	ck_assert_uint_eq(msr(0x48e) >> 32, 0xfff9fffe);
	for (uint32_t plain = 0x481; plain <= 0x484; plain++)
		ck_assert_uint_eq(msr(plain), msr(plain + 12));
	free(host);
}
END_TEST

START_TEST(a_control_that_kvm_fixes_stays)
{
	struct cpu_host *host = host_intel(true);
	host_msr_of(host->msrs, host->msr_count, 0x48e)->value |= 1U << 7; /* HLT exiting */
	struct cpu_config asked = {.disable = {"vmx-hlt-exit"}, .disable_count = 1};
	resolve(host, &asked, NESTED_AUTO);
	ck_assert_int_eq(got.code, -EOPNOTSUPP);
	ck_assert_str_eq(got.err.text,
			 "cpu.disable: vmx-hlt-exit: disabled, and this host's KVM fixes it to 1");
	host_msr_of(host->msrs, host->msr_count, 0x48b)->value |= 1U << 3;
	asked = (struct cpu_config){.disable = {"rdtscp"}, .disable_count = 1};
	resolve(host, &asked, NESTED_AUTO);
	ck_assert_int_eq(got.code, -EOPNOTSUPP);
	ck_assert_str_eq(got.err.text,
			 "cpu.disable: vmx-rdtscp-exit: needs rdtscp, which is disabled, and this host's KVM "
			 "fixes it to 1");
	resolve(host, &asked, NESTED_OFF);
	ck_assert_int_eq(got.code, 0);
	host_msr_of(host->msrs, host->msr_count, 0x48b)->value &= ~UINT64_C(8);
	asked = (struct cpu_config){.model = "x86-64-v3"};
	resolve(host, &asked, NESTED_AUTO);
	ck_assert_msg(got.code == 0, "%s", got.err.text);
	ck_assert(msr(0x48e) & 1U << 7);
	ck_assert(msr(0x48e) >> 32 & 1U << 7);
	free(host);
}
END_TEST

START_TEST(nested_off_leaves_nothing)
{
	static const struct cpu_config nothing_asked;
	struct cpu_host *host = host_intel(true);
	resolve(host, &nothing_asked, NESTED_OFF);
	ck_assert_int_eq(got.code, 0);
	ck_assert_int_eq(got.model.nested, CPU_NESTED_NONE);
	ck_assert(!(leaf(1, 0)->ecx & 1U << 5));
	for (uint32_t i = 0x480; i <= 0x493; i++)
		ck_assert_ptr_null(host_msr_of(got.model.msrs, got.model.msr_count, i));
	for (size_t i = 0; cpu_feature_at(i); i++)
		if (strncmp(cpu_feature_at(i)->name, "vmx", 3) == 0)
			ck_assert_int_ne(got.report.features[i].fate, CPU_GIVEN);
	reason_is("vmx-ept", "vmx-ept: needs vmx-secondary-ctls, which needs vmx, which is disabled");
	free(host);

	host = host_amd(true);
	resolve(host, &nothing_asked, NESTED_OFF);
	const struct kvm_cpuid_entry2 *svm = leaf(0x8000000a, 0);
	ck_assert_uint_eq(svm->eax | svm->ebx | svm->ecx | svm->edx, 0);
	ck_assert(!(leaf(0x80000001, 0)->ecx & 1U << 2));
	ck_assert_int_eq(fate("npt"), CPU_NEEDS);
	free(host);
}
END_TEST

START_TEST(xsave_follows)
{
	struct cpu_host *host = host_intel(true);
	WITHOUT(host, "avx512f");
	ck_assert_uint_eq(leaf(0xd, 0)->eax, 0x207);
	ck_assert_uint_eq(leaf(0xd, 0)->ecx, 0xa88); /* PKRU stays where it is */
	ck_assert_uint_eq(leaf(0xd, 1)->ebx, 576 + 256 + 8);
	ck_assert_ptr_null(host_entry(&got.model.cpuid, 0xd, 5));
	ck_assert_uint_eq(leaf(7, 0)->ebx & 0xd0230000, 0);
	ck_assert_int_eq(fate("avx512vl"), CPU_NEEDS);
	ck_assert_int_eq(fate("avx2"), CPU_GIVEN);
	WITHOUT(host, "avx512f", "pku");
	ck_assert_uint_eq(leaf(0xd, 0)->eax, 7);
	ck_assert_uint_eq(leaf(0xd, 0)->ecx, 832);
	WITHOUT(host, "avx");
	ck_assert_uint_eq(leaf(0xd, 0)->eax, 0x203);
	ck_assert_int_eq(fate("avx512bw"), CPU_NEEDS);
	ck_assert_int_eq(fate("fma"), CPU_NEEDS);
	WITHOUT(host, "xsave");
	ck_assert_uint_eq(leaf(0xd, 0)->eax | leaf(0xd, 0)->ecx, 0);
	ck_assert_ptr_null(host_entry(&got.model.cpuid, 0xd, 1));
	ck_assert_int_eq(fate("vmx-xsaves"), CPU_NEEDS);
	ck_assert_uint_eq(msr(0x48b) >> 52 & 1, 0);
	ck_assert_uint_eq(msr(0x489) & 1U << 18, 0); /* CR4.OSXSAVE */
	free(host);
}
END_TEST

START_TEST(amd_repeats_leaf_1)
{
	struct cpu_host *host = host_amd(true);
	WITHOUT(host, "pge");
	ck_assert(!(leaf(1, 0)->edx & 1U << 13));
	ck_assert(!(leaf(0x80000001, 0)->edx & 1U << 13));
	ck_assert(leaf(0x80000001, 0)->edx & 1U << 12);
	WITHOUT(host, "npt");
	ck_assert_int_eq(fate("v-vmsave-vmload"), CPU_NEEDS);
	ck_assert_uint_eq(leaf(0x8000000a, 0)->edx, 0x1001147a);
	free(host);
}
END_TEST

START_TEST(required_or_refused)
{
	struct cpu_host *host = host_intel(true);
	struct cpu_config asked = {.require = {"vmx-ept", "vmx-mbec", "vmx-pml", "npt"},
				   .require_count = 4,
				   .disable = {"vmx-eptad"},
				   .disable_count = 1};
	resolve(host, &asked, NESTED_AUTO);
	ck_assert_int_eq(got.code, -EOPNOTSUPP);
	ck_assert_str_eq(got.err.text,
			 "cpu.require: vmx-pml: needs vmx-eptad, which is disabled; "
			 "vmx-mbec: not offered by this host; npt: of the other processor vendor");
	asked = (struct cpu_config){
		.require = {"vmx-ept"}, .require_count = 1, .disable = {"vmx-ept"}, .disable_count = 1};
	resolve(host, &asked, NESTED_AUTO);
	ck_assert_int_eq(got.code, -EINVAL);
	ck_assert_str_eq(got.err.text, "cpu.disable: \"vmx-ept\" is also in cpu.require");
	asked = (struct cpu_config){.require = {"vmx-ept"}, .require_count = 1};
	resolve(host, &asked, NESTED_OFF);
	ck_assert_str_eq(got.err.text,
			 "cpu.require: vmx-ept: needs vmx-secondary-ctls, which needs vmx, which is "
			 "disabled");
	asked = (struct cpu_config){.prefer = {"vmx-etp"}, .prefer_count = 1};
	resolve(host, &asked, NESTED_AUTO);
	ck_assert_int_eq(got.code, -EINVAL);
	ck_assert_str_eq(got.err.text,
			 "cpu.prefer: there is no CPU feature \"vmx-etp\" (did you mean \"vmx-ept\"?)");
	asked = (struct cpu_config){.model = "x86-64-v5"};
	resolve(host, &asked, NESTED_AUTO);
	ck_assert_int_eq(got.code, -EINVAL);
	ck_assert_ptr_nonnull(strstr(got.err.text, "did you mean \"x86-64-v"));
	free(host);
}
END_TEST

START_TEST(nested_of_the_wrong_vendor)
{
	static const struct cpu_config nothing_asked, no_vmx = {.disable = {"vmx"}, .disable_count = 1};
	struct cpu_host *on_intel = host_intel(true), *on_amd = host_amd(true),
			*intel_off = host_intel(false);
	const struct {
		struct cpu_host *host;
		const struct cpu_config *cpu;
		enum nested_mode asked;
		int want;
		enum cpu_nested nested;
		const char *message;
	} cases[] = {
		{on_intel, &nothing_asked, NESTED_AUTO, 0, CPU_NESTED_VMX, NULL},
		{on_intel, &nothing_asked, NESTED_OFF, 0, CPU_NESTED_NONE, NULL},
		{on_intel, &nothing_asked, NESTED_VMX, 0, CPU_NESTED_VMX, NULL},
		{on_intel, &no_vmx, NESTED_AUTO, 0, CPU_NESTED_NONE, NULL},
		{on_intel, &no_vmx, NESTED_VMX, -EINVAL, 0, "\"vmx\", and yet vmx: disabled"},
		{on_intel, &nothing_asked, NESTED_SVM, -EOPNOTSUPP, 0, "\"svm\" is AMD's"},
		{on_amd, &nothing_asked, NESTED_AUTO, 0, CPU_NESTED_SVM, NULL},
		{on_amd, &nothing_asked, NESTED_VMX, -EOPNOTSUPP, 0, "\"vmx\" is Intel's"},
		{intel_off, &nothing_asked, NESTED_AUTO, 0, CPU_NESTED_NONE, NULL},
		{intel_off, &nothing_asked, NESTED_VMX, -EOPNOTSUPP, 0, "does not offer VMX"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		resolve(cases[i].host, cases[i].cpu, cases[i].asked);
		ck_assert_int_eq(got.code, cases[i].want);
		if (cases[i].message)
			ck_assert_msg(strstr(got.err.text, cases[i].message) != NULL, "%s", got.err.text);
		else
			ck_assert_int_eq(got.model.nested, cases[i].nested);
	}
	free(on_intel);
	free(on_amd);
	free(intel_off);
}
END_TEST

/* Taking away any one feature: what is given has all its needs, and giving it again changes nothing else. */
START_TEST(every_result_is_a_fixed_point)
{
	struct cpu_host *hosts[] = {host_intel(true), host_amd(true)};
	for (size_t h = 0; h < 2; h++) {
		for (size_t i = 0; cpu_feature_at(i); i++) {
			struct cpu_config asked = {.disable = {cpu_feature_at(i)->name}, .disable_count = 1};
			resolve(hosts[h], &asked, NESTED_AUTO);
			ck_assert_msg(got.code == 0, "%s: %s", cpu_feature_at(i)->name, got.err.text);
			ck_assert_int_ne(got.report.features[i].fate, CPU_GIVEN);
			struct cpu_report first = got.report;
			/* What was left, as a host of its own, loses nothing more. */
			struct cpu_host *again = calloc(1, sizeof(*again));
			*again = *hosts[h];
			again->cpuid = got.model.cpuid;
			again->tsc_deadline = (host_entry(&again->cpuid, 1, 0)->ecx & 1U << 24) != 0;
			for (uint32_t m = 0; m < got.model.msr_count; m++)
				host_msr_of(again->msrs, again->msr_count, got.model.msrs[m].index)->value =
					got.model.msrs[m].value;
			resolve(again, &asked, NESTED_AUTO);
			for (size_t f = 0; cpu_feature_at(f); f++)
				ck_assert_msg((first.features[f].fate == CPU_GIVEN) ==
						      (got.report.features[f].fate == CPU_GIVEN),
					      "without %s: %s", cpu_feature_at(i)->name,
					      cpu_feature_at(f)->name);
			free(again);
		}
		free(hosts[h]);
	}
}
END_TEST

/* What KVM says to a process that may not give AMX's tiles to guests, and to one that may. */
START_TEST(registers_without_their_component)
{
	static const struct cpu_config nothing_asked;
	struct cpu_host *host = host_intel(true);
	host_entry(&host->cpuid, 0, 0)->eax = 0x1e;
	host_entry(&host->cpuid, 7, 0)->edx |= 1U << 24 | 1U << 25 | 1U << 22;
	host_entry(&host->cpuid, 0xd, 1)->eax |= 1U << 4;
	host_leaf(host, 0xd, 17, 64, 0xac0, 2, 0);
	host_leaf(host, 0xd, 18, 8192, 0xb00, 6, 0);
	host_leaf(host, 0x1d, 0, 1, 0, 0, 0);
	host_leaf(host, 0x1d, 1, 0x04002000, 0x00080040, 0x10, 0);
	host_leaf(host, 0x1e, 0, 0, 0x4010, 0, 0);
	resolve(host, &nothing_asked, NESTED_AUTO);
	ck_assert_int_eq(fate("amx-tile"), CPU_NOT_OFFERED);
	ck_assert_int_eq(fate("amx-int8"), CPU_NEEDS);
	ck_assert_ptr_null(host_entry(&got.model.cpuid, 0x1d, 1));
	ck_assert_uint_eq(leaf(0x1e, 0)->ebx, 0);
	ck_assert_uint_eq(leaf(0xd, 0)->ecx, 0xa88);
	host_entry(&host->cpuid, 0xd, 0)->eax |= 0x60000;
	resolve(host, &nothing_asked, NESTED_AUTO);
	ck_assert_int_eq(fate("amx-int8"), CPU_GIVEN);
	ck_assert_uint_eq(leaf(0x1d, 1)->ebx, 0x00080040);
	ck_assert_uint_eq(leaf(0xd, 0)->ecx, 0xb00 + 8192);
	ck_assert_uint_eq(leaf(0xd, 18)->ecx, 6);
	WITHOUT(host, "xfd");
	ck_assert_int_eq(fate("amx-tile"), CPU_NEEDS);
	ck_assert_ptr_null(host_entry(&got.model.cpuid, 0xd, 18));
	free(host);
}
END_TEST

START_TEST(a_hint_only_when_asked_for)
{
	struct cpu_host *host = host_amd(true);
	struct cpu_config asked = {0};
	resolve(host, &asked, NESTED_AUTO);
	ck_assert_uint_eq(leaf(0x40000001, 0)->edx, 0);
	asked = (struct cpu_config){.require = {"kvm-hint-dedicated"}, .require_count = 1};
	resolve(host, &asked, NESTED_AUTO);
	ck_assert_uint_eq(leaf(0x40000001, 0)->edx, 1);
	free(host);
}
END_TEST

TEST_MAIN("features", host_gets_what_kvm_offers, ept_takes_what_stands_on_it,
	  a_default1_control_without_choice_is_1, a_control_that_kvm_fixes_stays, nested_off_leaves_nothing,
	  xsave_follows, amd_repeats_leaf_1, required_or_refused, nested_of_the_wrong_vendor,
	  every_result_is_a_fixed_point, registers_without_their_component, a_hint_only_when_asked_for)
