/*
 * Every bit that Linux 6.12's nested VMX and SVM can give an L1 has a name, and is given under it. The masks
 * are those of the named constants in nested_vmx_setup_*() of arch/x86/kvm/vmx/nested.c and, for SVM, of
 * svm_set_cpu_caps() in svm.c, put through the bit numbers of vmxfeatures.h, vmx.h and cpufeatures.h; the
 * controls of the default1 class that it leaves free (CR3 loads and stores, debug controls) are added.
 */
#include "../../src/cpu/feature_table.h"
#include "base/cleanup.h"
#include "cpu/features.h"
#include "harness.h"
#include "recorded.h"
#include <inttypes.h>
#include <string.h>

static const struct {
	const char *word;
	uint64_t bits;
} linux_gives[] = {
	{"MSR IA32_VMX_TRUE_PINBASED_CTLS", 0x000000e9},
	{"MSR IA32_VMX_TRUE_PROCBASED_CTLS", 0xfbf99e8c},
	{"MSR IA32_VMX_PROCBASED_CTLS2", 0x0613fbff},
	{"MSR IA32_VMX_TRUE_EXIT_CTLS", 0x00fc9204},
	{"MSR IA32_VMX_TRUE_ENTRY_CTLS", 0x0001e204},
	{"MSR IA32_VMX_EPT_VPID_CAP", 0x00000f01063340c1},
	{"MSR IA32_VMX_VMFUNC", 0x1},
	{"MSR IA32_VMX_MISC", 0x20000160},
	{"MSR IA32_VMX_BASIC", 0x00c0000000000000},
	{"CPUID 0x8000000A EDX", 0x1201947b},
};

START_TEST(every_bit_of_nested_linux_has_a_name)
{
	size_t named = 0;
	for (size_t k = 0; k < ARRAY_LEN(linux_gives); k++) {
		uint64_t left = linux_gives[k].bits;
		for (size_t i = 0; i < cpu_feature_count(); i++) {
			unsigned bit;
			if (strcmp(cpu_feature_word(i, &bit), linux_gives[k].word) != 0)
				continue;
			named += (left >> bit) & 1;
			left &= ~(UINT64_C(1) << bit);
		}
		ck_assert_msg(left == 0, "%s: 0x%" PRIx64 " has no name", linux_gives[k].word, left);
	}
	ck_assert_uint_eq(named, 5 + 21 + 20 + 10 + 6 + 15 + 1 + 4 + 2 + 12);
}
END_TEST

/* What a recorded KVM offered; leaf 0x80000001 EDX repeats bits of leaf 1 on AMD (APM 3, appendix E.4.2). */
START_TEST(recorded_hosts_have_no_bit_without_a_name)
{
	static struct hosts hosts;
	hosts_load(&hosts);
	for (size_t h = 0; h < hosts.count; h++) {
		for (int w = 0; w < WORD_COUNT; w++) {
			const struct feature_word_info *info = &feature_words[w];
			uint64_t value, known = info->fields;
			if (info->kind == WORD_CPUID)
				value = feature_cpuid_get(&hosts.host[h]->cpuid, info);
			else
				(void)feature_msr(hosts.host[h], info->msr, &value);
			if (info->kind == WORD_CONTROL)
				value = (value >> 32) & ~info->default1;
			if (w == WORD_80000001_EDX)
				known |= 0x0183f3ff;
			for (int id = 1; id < F_COUNT; id++)
				if (feature_rows[id].word == w)
					known |= feature_mask((enum feature_id)id);
			ck_assert_msg((value & ~known) == 0, "%s, %s: 0x%" PRIx64, hosts.names[h],
				      info->label, value & ~known);
		}
	}
	hosts_free(&hosts);
}
END_TEST

TEST_MAIN("cpu/linux_nested", every_bit_of_nested_linux_has_a_name, recorded_hosts_have_no_bit_without_a_name)
