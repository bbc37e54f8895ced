/*
 * Version 1 of the enlightened VMCS (TLFS 16.5.3): the controls whose fields it has, as numbers of SDM
 * 3C, 25.6 to 25.8. It lacks among others posted interrupts, virtual interrupt delivery, the preemption
 * timer, VMCS shadowing, PML and TSC scaling.
 */
#include "hyperv_evmcs.h"

#include "base/cleanup.h"

#define BIT(n) (UINT64_C(1) << (n))

/* Leaf 0x4000000A EBX: the fields for PERF_GLOBAL_CTRL, which the first Hyper-V with this VMCS did not have.
 */
#define LEAF_NESTED		0x4000000aU
#define NESTED_PERF_GLOBAL_CTRL (1U << 0)
#define ENTRY_PERF_GLOBAL_CTRL	BIT(13)
#define EXIT_PERF_GLOBAL_CTRL	BIT(12)

static const struct {
	enum feature_word word;
	uint64_t controls;
} held[] = {
	{WORD_VMX_PIN, BIT(0) | BIT(3) | BIT(5)},
	{WORD_VMX_PROC, BIT(2) | BIT(3) | BIT(7) | BIT(9) | BIT(10) | BIT(11) | BIT(12) | BIT(15) | BIT(16) |
				BIT(19) | BIT(20) | BIT(21) | BIT(22) | BIT(23) | BIT(24) | BIT(25) |
				BIT(27) | BIT(28) | BIT(29) | BIT(30) | BIT(31)},
	{WORD_VMX_PROC2, BIT(1) | BIT(2) | BIT(3) | BIT(4) | BIT(5) | BIT(6) | BIT(7) | BIT(11) | BIT(12) |
				 BIT(15) | BIT(16) | BIT(19) | BIT(20) | BIT(24) | BIT(26) | BIT(30) |
				 BIT(31)},
	{WORD_VMX_PROC3, 0},
	{WORD_VMX_EXIT, BIT(2) | BIT(9) | EXIT_PERF_GLOBAL_CTRL | BIT(15) | BIT(18) | BIT(19) | BIT(20) |
				BIT(21) | BIT(23) | BIT(24) | BIT(25)},
	{WORD_VMX_EXIT2, 0},
	{WORD_VMX_ENTRY, BIT(2) | BIT(9) | BIT(10) | BIT(11) | ENTRY_PERF_GLOBAL_CTRL | BIT(14) | BIT(15) |
				 BIT(16) | BIT(17) | BIT(18)},
	{WORD_VMX_VMFUNC, 0},
};

static bool has_perf_global_ctrl(const struct cpuid_table *offered)
{
	for (uint32_t i = 0; i < offered->count; i++)
		if (offered->entries[i].function == LEAF_NESTED)
			return offered->entries[i].ebx & NESTED_PERF_GLOBAL_CTRL;
	return false;
}

bool hyperv_evmcs_holds(enum feature_word word, uint64_t mask, const struct cpuid_table *offered)
{
	for (size_t i = 0; i < ARRAY_LEN(held); i++) {
		uint64_t controls = held[i].controls;
		if (held[i].word != word)
			continue;
		if (word == WORD_VMX_EXIT && !has_perf_global_ctrl(offered))
			controls &= ~EXIT_PERF_GLOBAL_CTRL;
		if (word == WORD_VMX_ENTRY && !has_perf_global_ctrl(offered))
			controls &= ~ENTRY_PERF_GLOBAL_CTRL;
		return (mask & ~controls) == 0;
	}
	return true;
}
