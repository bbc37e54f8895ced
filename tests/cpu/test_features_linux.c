/*
 * What Linux 6.12 can offer outside VMX and SVM (those are test_linux_nested.c's), and that nothing of it is
 * without a name.
 *
 * The masks are facts of its sources: kvm_set_cpu_caps and __do_cpuid_func (arch/x86/kvm/cpuid.c) with what
 * svm_set_cpu_caps and vmx_set_cpu_caps add, kvm_get_arch_capabilities (x86.c) and vmx_get_perf_capabilities
 * (vmx/vmx.c), each with all that any processor could have.
 */
#include "../../src/cpu/feature_table.h"
#include "harness.h"

/* On AMD's processors 0x80000001 EDX repeats leaf 1; those bits have their names there. */
#define AMD_REPEATED 0x0183f3ffU
/* OSPKE and OSXSAVE are not features: they say what the guest has turned on. */

START_TEST(every_bit_has_a_name)
{
	static const struct {
		enum feature_word word;
		uint64_t bits;
	} offered[] = {
		{WORD_1_ECX, 0xf7fab227},
		{WORD_1_EDX, 0xfabfbff},
		{WORD_6_EAX, 0x4},
		{WORD_7_0_EBX, 0xffbf6fff},
		{WORD_7_0_ECX, 0x5b415f6e},
		{WORD_7_0_EDX, 0xbfc1451c},
		{WORD_7_1_EAX, 0x4a01cb0},
		{WORD_7_1_EDX, 0x84130},
		{WORD_7_2_EDX, 0x3f},
		{WORD_D_1_EAX, 0x1f},
		{WORD_12_0_EAX, 0x803},
		{WORD_12_0_EBX, 0x1},
		{WORD_24_0_EBX, 0x70000},
		{WORD_40000001_EAX, 0x1007efb},
		{WORD_80000001_ECX, 0xe10bf7},
		{WORD_80000001_EDX, 0xefd3fbff},
		{WORD_80000007_EDX, 0x100},
		{WORD_80000008_EBX, 0x1702d205},
		{WORD_80000021_EAX, 0x78000367},
		{WORD_80000021_ECX, 0x86},
		{WORD_80000022_EAX, 0x1},
		{WORD_C0000001_EDX, 0x3fcc},
		{WORD_ARCH_CAPABILITIES, 0x400000001d1ae1ff},
		{WORD_PERF_CAPABILITIES, 0x2fff},
	};
	for (size_t i = 0; i < sizeof(offered) / sizeof(offered[0]); i++) {
		uint64_t named = offered[i].word == WORD_80000001_EDX ? AMD_REPEATED : 0;
		for (int id = 1; id < F_COUNT; id++)
			if (feature_rows[id].word == offered[i].word)
				named |= feature_mask((enum feature_id)id);
		ck_assert_msg((offered[i].bits & ~named) == 0, "%s: %#llx",
			      feature_words[offered[i].word].label,
			      (unsigned long long)(offered[i].bits & ~named));
	}
}
END_TEST

TEST_MAIN("features_linux", every_bit_has_a_name)
