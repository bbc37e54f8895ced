/* The feature table: its words, its rows, and how a host's answers are read through it. */
#include "cpu/features.h"

#include "base/cleanup.h"
#include "config/suggest.h"
#include "feature_table.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { EAX, EBX, ECX, EDX };

const struct feature_row feature_rows[F_COUNT] = {
#define ROW(id, text, where, number, what, ...)                                                              \
	[id] = {.is = {text, what}, .word = WORD_##where, .bit = number, .needs = {__VA_ARGS__}},
#include "rows_cpuid.inc"
#include "rows_nested.inc"
#undef ROW
};

#define CPUID(word, leaf, sub, r, text)                                                                      \
	[WORD_##word] = {.label = "CPUID " text " " #r,                                                      \
			 .kind = WORD_CPUID,                                                                 \
			 .function = (leaf),                                                                 \
			 .index = (sub),                                                                     \
			 .reg = r}
#define MSR(word, number, text, ...)                                                                         \
	[WORD_##word] = {.label = "MSR " text, .kind = WORD_MSR, .msr = (number), __VA_ARGS__}
#define CONTROL(word, number, text, ones)                                                                    \
	[WORD_##word] = {.label = "MSR " text,                                                               \
			 .kind = WORD_CONTROL,                                                               \
			 .vendor = VENDOR_INTEL,                                                             \
			 .msr = (number),                                                                    \
			 .default1 = (ones)}

const struct feature_word_info feature_words[WORD_COUNT] = {
	CPUID(1_EDX, 0x1, 0, EDX, "1"),
	CPUID(1_ECX, 0x1, 0, ECX, "1"),
	CPUID(6_EAX, 0x6, 0, EAX, "6"),
	CPUID(7_0_EBX, 0x7, 0, EBX, "7.0"),
	CPUID(7_0_ECX, 0x7, 0, ECX, "7.0"),
	CPUID(7_0_EDX, 0x7, 0, EDX, "7.0"),
	CPUID(7_1_EAX, 0x7, 1, EAX, "7.1"),
	CPUID(7_1_EDX, 0x7, 1, EDX, "7.1"),
	CPUID(7_2_EDX, 0x7, 2, EDX, "7.2"),
	CPUID(D_1_EAX, 0xd, 1, EAX, "0xD.1"),
	CPUID(12_0_EAX, 0x12, 0, EAX, "0x12.0"),
	CPUID(12_0_EBX, 0x12, 0, EBX, "0x12.0"),
	CPUID(12_1_EAX, 0x12, 1, EAX, "0x12.1"),
	CPUID(14_0_EBX, 0x14, 0, EBX, "0x14.0"),
	CPUID(14_0_ECX, 0x14, 0, ECX, "0x14.0"),
	[WORD_24_0_EBX] = {.label = "CPUID 0x24.0 EBX",
			   .kind = WORD_CPUID,
			   .function = 0x24,
			   .reg = EBX,
			   .fields = 0xff}, /* the version */
	CPUID(40000001_EAX, 0x40000001, 0, EAX, "0x40000001"),
	CPUID(40000001_EDX, 0x40000001, 0, EDX, "0x40000001"),
	CPUID(80000001_EDX, 0x80000001, 0, EDX, "0x80000001"),
	CPUID(80000001_ECX, 0x80000001, 0, ECX, "0x80000001"),
	CPUID(80000007_EBX, 0x80000007, 0, EBX, "0x80000007"),
	CPUID(80000007_EDX, 0x80000007, 0, EDX, "0x80000007"),
	CPUID(80000008_EBX, 0x80000008, 0, EBX, "0x80000008"),
	[WORD_8000000A_EDX] = {.label = "CPUID 0x8000000A EDX",
			       .kind = WORD_CPUID,
			       .vendor = VENDOR_AMD,
			       .function = 0x8000000a,
			       .reg = EDX},
	CPUID(80000021_EAX, 0x80000021, 0, EAX, "0x80000021"),
	CPUID(80000021_ECX, 0x80000021, 0, ECX, "0x80000021"),
	CPUID(80000022_EAX, 0x80000022, 0, EAX, "0x80000022"),
	CPUID(C0000001_EDX, 0xc0000001, 0, EDX, "0xC0000001"),
	MSR(ARCH_CAPABILITIES, 0x10a, "IA32_ARCH_CAPABILITIES", .vendor = VENDOR_ANY),
	MSR(PERF_CAPABILITIES, 0x345, "IA32_PERF_CAPABILITIES", .vendor = VENDOR_ANY),
	/* VMCS revision and size, memory type; timer rate, CR3 targets, MSR list size, MSEG. */
	MSR(VMX_BASIC, 0x480, "IA32_VMX_BASIC", .vendor = VENDOR_INTEL, .fields = 0x003c1fff7fffffff),
	MSR(VMX_MISC, 0x485, "IA32_VMX_MISC", .vendor = VENDOR_INTEL, .fields = 0xffffffff0fff001f),
	CONTROL(VMX_PIN, 0x48d, "IA32_VMX_TRUE_PINBASED_CTLS", 0x00000016),
	CONTROL(VMX_PROC, 0x48e, "IA32_VMX_TRUE_PROCBASED_CTLS", 0x0401e172),
	CONTROL(VMX_PROC2, 0x48b, "IA32_VMX_PROCBASED_CTLS2", 0),
	MSR(VMX_PROC3, 0x492, "IA32_VMX_PROCBASED_CTLS3", .vendor = VENDOR_INTEL),
	CONTROL(VMX_EXIT, 0x48f, "IA32_VMX_TRUE_EXIT_CTLS", 0x00036dff),
	MSR(VMX_EXIT2, 0x493, "IA32_VMX_EXIT_CTLS2", .vendor = VENDOR_INTEL),
	CONTROL(VMX_ENTRY, 0x490, "IA32_VMX_TRUE_ENTRY_CTLS", 0x000011ff),
	MSR(VMX_EPT_VPID, 0x48c, "IA32_VMX_EPT_VPID_CAP", .vendor = VENDOR_INTEL),
	MSR(VMX_VMFUNC, 0x491, "IA32_VMX_VMFUNC", .vendor = VENDOR_INTEL),
};

uint64_t feature_mask(enum feature_id id)
{
	const struct feature_row *row = &feature_rows[id];
	if (id == F_LBR_FMT)
		return 0x3f;
	if (id == F_PEBS_FMT)
		return 0xf00;
	return UINT64_C(1) << row->bit;
}

size_t cpu_feature_count(void)
{
	return F_COUNT - 1;
}

const struct cpu_feature *cpu_feature_at(size_t index)
{
	return index < cpu_feature_count() ? &feature_rows[index + 1].is : NULL;
}

const char *cpu_feature_word(size_t index, unsigned *ret_bit)
{
	const struct feature_row *row = &feature_rows[index + 1];
	*ret_bit = row->bit;
	return feature_words[row->word].label;
}

int cpu_feature_find(const char *name, size_t *ret_index, struct err *err)
{
	for (size_t i = 0; i < cpu_feature_count(); i++) {
		if (strcmp(feature_rows[i + 1].is.name, name) == 0) {
			*ret_index = i;
			return 0;
		}
	}
	/* Only now: a distance to each of hundreds of names costs far more than the search. */
	struct suggestion near = suggestion_for(name);
	for (size_t i = 0; i < cpu_feature_count(); i++)
		suggestion_try(&near, feature_rows[i + 1].is.name);
	if (near.best)
		return err_set(err, -ENOENT, "there is no CPU feature \"%s\" (did you mean \"%s\"?)", name,
			       near.best);
	return err_set(err, -ENOENT, "there is no CPU feature \"%s\" ('aerie cpu list' names all)", name);
}

static const struct kvm_cpuid_entry2 *cpuid_entry(const struct cpuid_table *table, uint32_t function,
						  uint32_t index)
{
	for (uint32_t i = 0; i < table->count; i++)
		if (table->entries[i].function == function && table->entries[i].index == index)
			return &table->entries[i];
	return NULL;
}

uint32_t feature_cpuid_get(const struct cpuid_table *table, const struct feature_word_info *word)
{
	const struct kvm_cpuid_entry2 *entry = cpuid_entry(table, word->function, word->index);
	return entry ? (&entry->eax)[word->reg] : 0;
}

void feature_cpuid_put(struct cpuid_table *table, const struct feature_word_info *word, uint32_t value)
{
	for (uint32_t i = 0; i < table->count; i++)
		if (table->entries[i].function == word->function && table->entries[i].index == word->index)
			(&table->entries[i].eax)[word->reg] = value;
}

bool feature_msr(const struct cpu_host *host, uint32_t index, uint64_t *ret)
{
	for (uint32_t i = 0; i < host->msr_count; i++) {
		if (host->msrs[i].index == index) {
			*ret = host->msrs[i].value;
			return true;
		}
	}
	*ret = 0;
	return false;
}

enum cpu_vendor feature_vendor(const struct cpu_host *host)
{
	const struct kvm_cpuid_entry2 *leaf = cpuid_entry(&host->cpuid, 0, 0);
	if (!leaf)
		return VENDOR_INTEL;
	const uint32_t words[3] = {leaf->ebx, leaf->edx, leaf->ecx};
	/* All others that run KVM (Centaur, Zhaoxin) have VMX. */
	return memcmp(words, "AuthenticAMD", 12) == 0 || memcmp(words, "HygonGenuine", 12) == 0
		       ? VENDOR_AMD
		       : VENDOR_INTEL;
}

/*
 * Bits that KVM grants without saying so in KVM_GET_SUPPORTED_CPUID: the hypervisor bit is ours to set, the
 * TSC-deadline timer has a capability of its own, and a hint asks nothing of KVM.
 */
static uint64_t offered_besides(const struct cpu_host *host, enum feature_word word)
{
	if (word == WORD_1_ECX)
		return feature_mask(F_HYPERVISOR) | (host->tsc_deadline ? feature_mask(F_TSC_DEADLINE) : 0);
	if (word == WORD_40000001_EDX)
		return cpuid_entry(&host->cpuid, 0x40000001, 0) ? feature_mask(F_KVM_HINT_DEDICATED) : 0;
	return 0;
}

/*
 * Features whose registers XCR0 turns on: without the component the instructions are there and fault. KVM
 * shows AMX in leaf 7 also to a process that may not give its tiles away.
 */
static uint64_t without_component(const struct cpu_host *host, enum feature_word word)
{
	static const struct {
		uint16_t feature;
		uint32_t xcr0;
	} registers[] = {
		{F_AVX, 0x4}, {F_MPX, 0x18}, {F_AVX512F, 0xe0}, {F_PKU, 0x200}, {F_AMX_TILE, 0x60000},
	};
	const struct kvm_cpuid_entry2 *leaf = cpuid_entry(&host->cpuid, 0xd, 0);
	uint64_t bits = 0;
	for (size_t i = 0; leaf && i < ARRAY_LEN(registers); i++)
		if (feature_rows[registers[i].feature].word == word &&
		    (leaf->eax & registers[i].xcr0) != registers[i].xcr0)
			bits |= feature_mask((enum feature_id)registers[i].feature);
	return bits;
}

uint64_t feature_offered(const struct cpu_host *host, enum feature_word word)
{
	const struct feature_word_info *info = &feature_words[word];
	uint64_t value;
	if (info->kind == WORD_CPUID)
		return (feature_cpuid_get(&host->cpuid, info) | offered_besides(host, word)) &
		       ~without_component(host, word);
	(void)feature_msr(host, info->msr, &value);
	if (info->kind == WORD_MSR)
		return value;
	/* A control of the default1 class that must be 1 leaves L1 no choice. */
	return (value >> 32) & ~(value & info->default1);
}

uint64_t feature_fixed(const struct cpu_host *host, enum feature_word word)
{
	const struct feature_word_info *info = &feature_words[word];
	uint64_t value;
	if (info->kind != WORD_CONTROL || !feature_msr(host, info->msr, &value))
		return 0;
	return value & (value >> 32) & ~info->default1 & UINT32_MAX;
}
