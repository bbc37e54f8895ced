/* May a guest that ran on one host go on on another? Compared is what it saw, not what the hosts are called.
 */
#include "base/cleanup.h"
#include "feature_table.h"
#include "host/kvm.h"
#include "vcpus_state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EAX, EBX, ECX, EDX, NAMES_BYTES = 256 };
static const char *const register_names[] = {"eax", "ebx", "ecx", "edx"};

/*
 * Registers in which each bit is something that a guest may use (SDM 2A, CPUID; APM 3, appendix E).
 */
static const struct leaf_register {
	uint32_t function, index;
	unsigned reg;
} words[] = {
	{0x1, 0, ECX},	      {0x1, 0, EDX},	    {0x6, 0, EAX},	  {0x7, 0, EBX},
	{0x7, 0, ECX},	      {0x7, 0, EDX},	    {0x7, 1, EAX},	  {0x7, 1, EBX},
	{0x7, 1, ECX},	      {0x7, 1, EDX},	    {0x7, 2, EDX},	  {0xd, 0, EAX},
	{0xd, 0, EDX},	      {0xd, 1, EAX},	    {0xd, 1, ECX},	  {0xd, 1, EDX},
	{0x80000001, 0, ECX}, {0x80000001, 0, EDX}, {0x80000007, 0, EDX}, {0x80000008, 0, EBX},
	{0x8000000a, 0, EDX}, {0x80000021, 0, EAX}, {0x80000022, 0, EAX}, {0xc0000001, 0, EDX},
};

static uint32_t get(const struct kvm_cpuid_entry2 *entry, unsigned reg)
{
	const uint32_t registers[] = {entry->eax, entry->ebx, entry->ecx, entry->edx};
	return registers[reg];
}

static const struct kvm_cpuid_entry2 *find(const struct cpuid_table *table, uint32_t function, uint32_t index)
{
	for (uint32_t i = 0; i < table->count; i++)
		if (table->entries[i].function == function && table->entries[i].index == index)
			return &table->entries[i];
	return NULL;
}

static uint32_t word_of(const struct cpuid_table *table, const struct leaf_register *word)
{
	const struct kvm_cpuid_entry2 *entry = find(table, word->function, word->index);
	return entry ? get(entry, word->reg) : 0;
}

static bool same_entry(const struct kvm_cpuid_entry2 *a, const struct kvm_cpuid_entry2 *b)
{
	for (unsigned reg = EAX; reg <= EDX; reg++)
		if (get(a, reg) != get(b, reg))
			return false;
	return true;
}

static bool same_table(const struct cpuid_table *a, const struct cpuid_table *b)
{
	if (a->count != b->count)
		return false;
	for (uint32_t i = 0; i < a->count; i++) {
		const struct kvm_cpuid_entry2 *other = find(b, a->entries[i].function, a->entries[i].index);
		if (!other || !same_entry(&a->entries[i], other))
			return false;
	}
	return true;
}

static void vendor_text(const struct cpuid_table *table, char text[13])
{
	const struct kvm_cpuid_entry2 *entry = find(table, 0, 0);
	memset(text, 0, 13);
	if (!entry)
		return;
	memcpy(text, &entry->ebx, 4);
	memcpy(text + 4, &entry->edx, 4);
	memcpy(text + 8, &entry->ecx, 4);
	for (char *p = text; *p; p++)
		if (*p < 0x20 || *p > 0x7e)
			*p = '?';
}

/* The feature's name, or NULL for a bit that has none. */
static const char *bit_name(const struct leaf_register *word, unsigned bit)
{
	for (int id = F_NONE + 1; id < F_COUNT; id++) {
		const struct feature_row *row = &feature_rows[id];
		const struct feature_word_info *info = &feature_words[row->word];
		if (row->bit == bit && info->kind == WORD_CPUID && info->function == word->function &&
		    info->index == word->index && info->reg == word->reg)
			return row->is.name;
	}
	return NULL;
}

/* "avx512f, amx-tile, bit 29"; as many as there is room for. */
static const char *name_bits(const struct leaf_register *word, uint32_t bits, char names[NAMES_BYTES])
{
	size_t used = 0;
	for (unsigned bit = 0; bit < 32 && used < NAMES_BYTES; bit++) {
		const char *name = bits >> bit & 1 ? bit_name(word, bit) : NULL;
		if (!(bits >> bit & 1))
			continue;
		int n = name ? snprintf(names + used, NAMES_BYTES - used, "%s%s", used ? ", " : "", name)
			     : snprintf(names + used, NAMES_BYTES - used, "%sbit %u", used ? ", " : "", bit);
		used += n > 0 ? (size_t)n : 0;
	}
	return names;
}

int vcpu_match_cpuid(const struct cpuid_table *saved, const struct cpuid_table *own,
		     const struct cpuid_table *supported, bool *ret_same, struct err *err)
{
	char theirs[13], ours[13];
	vendor_text(saved, theirs);
	vendor_text(own, ours);
	if (strcmp(theirs, ours) != 0)
		return err_set(err, -EOPNOTSUPP, "%s: made on a CPU of vendor \"%s\", this one is \"%s\"",
			       VCPU_CPUID, theirs, ours);
	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		uint32_t offered = word_of(supported, &words[i]) | word_of(own, &words[i]);
		uint32_t lacking = word_of(saved, &words[i]) & ~offered;
		char names[NAMES_BYTES];
		if (lacking)
			return err_set(err, -EOPNOTSUPP,
				       "%s: the guest uses %s (leaf %#x.%u %s), which this host lacks",
				       VCPU_CPUID, name_bits(&words[i], lacking, names), words[i].function,
				       words[i].index, register_names[words[i].reg]);
	}
	*ret_same = same_table(saved, own);
	return 0;
}

/* As KVM gives it when the guest is not in VMX or SVM operation: nothing that has to be put anywhere. */
static bool nested_is_idle(const struct kvm_nested_state *saved, size_t bytes)
{
	if (bytes > sizeof(*saved))
		return false;
	return saved->format != KVM_STATE_NESTED_FORMAT_VMX || saved->hdr.vmx.vmxon_pa == ~(__u64)0;
}

int vcpu_match_nested(const struct kvm_nested_state *saved, size_t bytes, uint32_t own_bytes,
		      enum cpu_nested own, struct err *err)
{
	static const char *const formats[] = {
		[KVM_STATE_NESTED_FORMAT_VMX] = "VMX", [KVM_STATE_NESTED_FORMAT_SVM] = "SVM"};
	if (bytes < sizeof(*saved) || saved->size != bytes)
		return err_set(err, -EINVAL, "%s: %zu bytes that say they are %u", VCPU_NESTED, bytes,
			       saved->size);
	if (saved->format >= ARRAY_LEN(formats))
		return err_set(err, -ENOTSUP, "%s: format %u is unknown", VCPU_NESTED, saved->format);
	if (own_bytes == 0 && nested_is_idle(saved, bytes))
		return 0;
	if (own_bytes == 0)
		return err_set(
			err, -EOPNOTSUPP,
			"%s: the guest runs guests of its own, and this host's KVM has no nested state "
			"(ask 'aerie doctor')",
			VCPU_NESTED);
	if (bytes > own_bytes)
		return err_set(err, -EOPNOTSUPP, "%s: %zu bytes, this host's KVM knows %u", VCPU_NESTED,
			       bytes, own_bytes);
	enum cpu_nested wanted =
		saved->format == KVM_STATE_NESTED_FORMAT_VMX ? CPU_NESTED_VMX : CPU_NESTED_SVM;
	if (wanted != own && !nested_is_idle(saved, bytes))
		return err_set(err, -EOPNOTSUPP, "%s: of %s, which this machine does not give its guest",
			       VCPU_NESTED, formats[saved->format]);
	return 0;
}
