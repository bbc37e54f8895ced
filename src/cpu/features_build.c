/*
 * From the features that L1 gets to the words that KVM takes: CPUID leaves that agree with each other, and
 * the capability MSRs.
 */
#include "base/cleanup.h"
#include "feature_table.h"

#include <string.h>

/* 0x80000001 EDX repeats these bits of leaf 1 EDX on AMD's processors (APM 3, appendix E.4.2). */
#define AMD_REPEATED 0x0183f3ffU

#define MSR_VMX_CR0_FIXED0 0x486
#define MSR_VMX_CR0_FIXED1 0x487
#define MSR_VMX_CR4_FIXED0 0x488
#define MSR_VMX_CR4_FIXED1 0x489
#define MSR_VMX_VMCS_ENUM  0x48a
#define XSAVE_LEGACY_BYTES 576 /* the legacy area and the header (SDM 1, 13.4) */
#define XSAVE_ALIGNED	   (1U << 1)
#define XSAVE_FAULTS_XFD   (1U << 2)
#define XSTATE_COMPONENTS  63

static uint64_t word_given(const bool *given, enum feature_word word)
{
	uint64_t bits = 0;
	for (int id = 1; id < F_COUNT; id++)
		if (given[id] && feature_rows[id].word == word)
			bits |= feature_mask((enum feature_id)id);
	return bits;
}

static struct kvm_cpuid_entry2 *entry_of(struct cpuid_table *table, uint32_t function, uint32_t index)
{
	for (uint32_t i = 0; i < table->count; i++)
		if (table->entries[i].function == function && table->entries[i].index == index)
			return &table->entries[i];
	return NULL;
}

/* Leaves that mean nothing without a feature read as zero, and their sub-leaves go. */
static void drop_leaf(struct cpuid_table *table, uint32_t function)
{
	uint32_t kept = 0;
	for (uint32_t i = 0; i < table->count; i++) {
		struct kvm_cpuid_entry2 *entry = &table->entries[i];
		if (entry->function == function && entry->index > 0)
			continue;
		if (entry->function == function)
			entry->eax = entry->ebx = entry->ecx = entry->edx = 0;
		table->entries[kept++] = *entry;
	}
	table->count = kept;
}

/* Which feature a component of the XSAVE area belongs to (SDM 1, 13.1; APM 2, 11.5). */
static const struct {
	uint8_t component;
	uint16_t feature, or_feature;
} components[] = {
	{0, F_XSAVE, F_NONE},	  {1, F_XSAVE, F_NONE},	  {2, F_AVX, F_NONE},	    {3, F_MPX, F_NONE},
	{4, F_MPX, F_NONE},	  {5, F_AVX512F, F_NONE}, {6, F_AVX512F, F_NONE},   {7, F_AVX512F, F_NONE},
	{8, F_INTEL_PT, F_NONE},  {9, F_PKU, F_NONE},	  {10, F_ENQCMD, F_NONE},   {11, F_SHSTK, F_IBT},
	{12, F_SHSTK, F_IBT},	  {14, F_UINTR, F_NONE},  {15, F_ARCH_LBR, F_NONE}, {17, F_AMX_TILE, F_NONE},
	{18, F_AMX_TILE, F_NONE}, {62, F_LWP, F_NONE},
};

static uint64_t component_mask(const bool *given)
{
	uint64_t mask = 0;
	for (size_t i = 0; i < ARRAY_LEN(components); i++)
		if (given[components[i].feature] ||
		    (components[i].or_feature && given[components[i].or_feature]))
			mask |= UINT64_C(1) << components[i].component;
	return mask;
}

/* Sizes of the area with the components of `mask`: as XSAVE writes it, and compacted. */
static void xsave_sizes(struct cpuid_table *table, uint64_t mask, uint64_t user, uint32_t *ret_standard,
			uint32_t *ret_compact)
{
	*ret_standard = *ret_compact = XSAVE_LEGACY_BYTES;
	for (uint32_t i = 2; i < XSTATE_COMPONENTS; i++) {
		const struct kvm_cpuid_entry2 *entry = entry_of(table, 0xd, i);
		if (!(mask >> i & 1) || !entry)
			continue;
		if (user >> i & 1 && entry->ebx + entry->eax > *ret_standard)
			*ret_standard = entry->ebx + entry->eax;
		if (entry->ecx & XSAVE_ALIGNED)
			*ret_compact = (*ret_compact + 63) & ~63U;
		*ret_compact += entry->eax;
	}
}

/* Leaf 0xD follows the features: which components there are, and how large the area is. */
static void build_xsave(struct cpuid_table *table, const bool *given)
{
	if (!given[F_XSAVE]) {
		drop_leaf(table, 0xd);
		return;
	}
	struct kvm_cpuid_entry2 *user = entry_of(table, 0xd, 0), *more = entry_of(table, 0xd, 1);
	if (!user)
		return;
	uint64_t known = component_mask(given);
	uint64_t xcr0 = (user->eax | (uint64_t)user->edx << 32) & known;
	uint64_t xss = more && given[F_XSAVES] ? (more->ecx | (uint64_t)more->edx << 32) & known : 0;
	uint32_t kept = 0, standard, compact;
	for (uint32_t i = 0; i < table->count; i++) {
		struct kvm_cpuid_entry2 *entry = &table->entries[i];
		if (entry->function == 0xd && entry->index > 1) {
			if (entry->index >= XSTATE_COMPONENTS || !((xcr0 | xss) >> entry->index & 1))
				continue;
			if (!given[F_XFD])
				entry->ecx &= ~XSAVE_FAULTS_XFD;
		}
		table->entries[kept++] = *entry;
	}
	table->count = kept;
	xsave_sizes(table, xcr0 | xss, xcr0, &standard, &compact);

	user = entry_of(table, 0xd, 0);
	user->eax = (uint32_t)xcr0;
	user->edx = (uint32_t)(xcr0 >> 32);
	user->ebx = user->ecx = standard;
	more = entry_of(table, 0xd, 1);
	if (!more)
		return;
	more->ebx = given[F_XSAVEC] || given[F_XSAVES] ? compact : 0;
	more->ecx = (uint32_t)xss;
	more->edx = (uint32_t)(xss >> 32);
}

static void build_words(struct cpuid_table *table, const bool *given, bool amd)
{
	for (int i = 0; i < WORD_COUNT; i++) {
		enum feature_word word = (enum feature_word)i;
		const struct feature_word_info *info = &feature_words[word];
		if (info->kind != WORD_CPUID)
			continue;
		uint32_t value = (uint32_t)word_given(given, word);
		value |= feature_cpuid_get(table, info) & (uint32_t)info->fields;
		if (word == WORD_80000001_EDX && amd)
			value |= (uint32_t)word_given(given, WORD_1_EDX) & AMD_REPEATED;
		feature_cpuid_put(table, info, value);
	}
}

static void build_cpuid(const bool *given, bool amd, struct cpuid_table *table)
{
	build_words(table, given, amd);
	build_xsave(table, given);
	const struct {
		uint16_t feature;
		uint32_t leaf;
	} leaves[] = {
		{F_SGX, 0x12},		 {F_INTEL_PT, 0x14},	     {F_KL, 0x19},
		{F_AMX_TILE, 0x1d},	 {F_AMX_TILE, 0x1e},	     {F_AVX10, 0x24},
		{F_SVM, 0x8000000a},	 {F_IBS, 0x8000001b},	     {F_LWP, 0x8000001c},
		{F_NONE, 0x8000001f}, /* memory encryption is the VMM's to start */
		{F_TOPOEXT, 0x8000001d}, {F_PERFMON_V2, 0x80000022},
	};
	for (size_t i = 0; i < ARRAY_LEN(leaves); i++)
		if (!given[leaves[i].feature])
			drop_leaf(table, leaves[i].leaf);
}

static void add_msr(struct cpu_model *model, uint32_t index, uint64_t value, enum cpu_msr_origin origin)
{
	if (model->msr_count < CPU_HOST_MSRS_MAX)
		model->msrs[model->msr_count++] =
			(struct cpu_msr){.index = index, .value = value, .origin = origin};
}

/* A capability MSR: the host's value without what was not given. */
static uint64_t word_value(const bool *given, enum feature_word word, uint64_t host)
{
	const struct feature_word_info *info = &feature_words[word];
	uint64_t bits = word_given(given, word);
	if (info->kind != WORD_CONTROL)
		return host & (bits | info->fields);
	/* No choice left is: 1 for the default1 class, 0 for others, but for what the host's KVM fixes. */
	uint32_t must = (uint32_t)host | (info->default1 & ~(uint32_t)bits);
	uint32_t may = (uint32_t)(host >> 32) & ((uint32_t)bits | must);
	return must | (uint64_t)may << 32;
}

static bool msr_given(const bool *given, enum feature_word word)
{
	if (word == WORD_ARCH_CAPABILITIES)
		return given[F_ARCH_CAPABILITIES];
	if (word == WORD_PERF_CAPABILITIES)
		return given[F_PDCM];
	return given[F_VMX];
}

/* IA32_VMX_CR4_FIXED1: KVM allows the bits of CR4 whose feature CPUID shows (SDM 3D, A.8). */
static uint64_t cr4_fixed1(const bool *given)
{
	static const struct {
		uint16_t feature, or_feature;
		uint32_t bits;
	} rules[] = {
		{F_VME, 0, 0x3},
		{F_TSC, 0, 1U << 2},
		{F_DE, 0, 1U << 3},
		{F_PSE, 0, 1U << 4},
		{F_PAE, 0, 1U << 5},
		{F_MCE, 0, 1U << 6},
		{F_PGE, 0, 1U << 7},
		{F_FXSR, 0, 1U << 9},
		{F_SSE, 0, 1U << 10},
		{F_UMIP, 0, 1U << 11},
		{F_LA57, 0, 1U << 12},
		{F_VMX, 0, 1U << 13},
		{F_FSGSBASE, 0, 1U << 16},
		{F_PCID, 0, 1U << 17},
		{F_XSAVE, 0, 1U << 18},
		{F_SMEP, 0, 1U << 20},
		{F_SMAP, 0, 1U << 21},
		{F_PKU, 0, 1U << 22},
		{F_SHSTK, F_IBT, 1U << 23},
		{F_LAM, 0, 1U << 28},
	};
	uint64_t value = 1U << 8; /* PCE */
	for (size_t i = 0; i < ARRAY_LEN(rules); i++)
		if (given[rules[i].feature] || given[rules[i].or_feature])
			value |= rules[i].bits;
	return value;
}

/* VMX's MSRs without feature bits. */
static void build_vmx_rest(const struct cpu_host *host, const struct model *model, const bool *given,
			   struct cpu_model *ret)
{
	static const struct {
		uint32_t plain;
		enum feature_word word;
	} untrue[] = {{0x481, WORD_VMX_PIN},
		      {0x482, WORD_VMX_PROC},
		      {0x483, WORD_VMX_EXIT},
		      {0x484, WORD_VMX_ENTRY}};
	uint64_t value;

	if (feature_msr(host, MSR_VMX_CR0_FIXED0, &value))
		add_msr(ret, MSR_VMX_CR0_FIXED0, value, CPU_MSR_HOST);
	if (feature_msr(host, MSR_VMX_CR4_FIXED0, &value))
		add_msr(ret, MSR_VMX_CR4_FIXED0, value, CPU_MSR_HOST);
	if (feature_msr(host, MSR_VMX_VMCS_ENUM, &value)) {
		/* The highest field index, which grows with kernels: TSC multiplier or preemption timer. */
		uint64_t own = given[F_VMX_TSC_SCALING] ? 0x32 : 0x2e;
		if (model->passes_host || value == own)
			add_msr(ret, MSR_VMX_VMCS_ENUM, value, CPU_MSR_HOST);
		else
			add_msr(ret, MSR_VMX_VMCS_ENUM, own, CPU_MSR_SET);
	}
	for (size_t i = 0; i < ARRAY_LEN(untrue); i++) {
		const struct feature_word_info *info = &feature_words[untrue[i].word];
		if (feature_msr(host, info->msr, &value))
			add_msr(ret, untrue[i].plain,
				word_value(given, untrue[i].word, value) | info->default1, CPU_MSR_DERIVED);
	}
	if (feature_msr(host, MSR_VMX_CR0_FIXED1, &value))
		add_msr(ret, MSR_VMX_CR0_FIXED1, UINT32_MAX, CPU_MSR_DERIVED);
	if (feature_msr(host, MSR_VMX_CR4_FIXED1, &value))
		add_msr(ret, MSR_VMX_CR4_FIXED1, cr4_fixed1(given), CPU_MSR_DERIVED);
}

void model_build(const struct cpu_host *host, const struct model *model, const bool *given,
		 struct cpu_model *ret)
{
	bool amd = feature_vendor(host) == VENDOR_AMD;
	if (model->passes_host)
		ret->cpuid = host->cpuid;
	else
		model_leaves(model, host, given, &ret->cpuid);
	build_cpuid(given, amd, &ret->cpuid);

	for (int i = 0; i < WORD_COUNT; i++) {
		enum feature_word word = (enum feature_word)i;
		const struct feature_word_info *info = &feature_words[word];
		uint64_t value;
		if (info->kind == WORD_CPUID || !msr_given(given, word) ||
		    !feature_msr(host, info->msr, &value))
			continue;
		uint64_t want = word_value(given, word, value);
		add_msr(ret, info->msr, want, want == value ? CPU_MSR_HOST : CPU_MSR_SET);
	}
	if (given[F_VMX])
		build_vmx_rest(host, model, given, ret);
}
