/*
 * What a model other than "host" has in place of the host's CPUID leaves. All of it is constant, so that
 * nothing changes under a guest that moves:
 *
 * - The vendor stays the host's: a guest cannot move between vendors, and its kernel picks code by it.
 * - Family, model and stepping are those of the oldest processor meant (Skylake, Zen), so that a guest's
 * kernel turns on every workaround that any host may need.
 * - Caches are plausible ones of that processor; their sharing follows the operator's topology (cpuid.c).
 * - Physical addresses have 39 bits, the least that processors with VMX and EPT have: L1 builds its page
 * tables and EPT for that width, and a host with fewer could not run them. 512 GiB is what such a guest can
 * have. Bits above that in L1's page tables do not fault on a wider host, as with any VMM on KVM.
 * - SVM's address space numbers are 8.
 * - No performance counters: their number differs between hosts.
 */
#include "base/cleanup.h"
#include "feature_table.h"

#include <stdio.h>
#include <string.h>

#define SKYLAKE_SIGNATURE 0x000506e3
#define ZEN_SIGNATURE	  0x00800f12
#define SVM_ASIDS	  8 /* as many as KVM has given to an L1 so far */
#define CLFLUSH_64_BYTES  0x00000800

enum { VIRTUAL_BITS = 48, VIRTUAL_BITS_LA57 = 57 };

/* type 1: data, 2: instructions, 3: both (SDM 2A, CPUID leaf 4; APM 3, E.4.16). */
static const struct cache {
	uint8_t type, level;
	uint16_t ways;
	uint32_t sets;
	bool inclusive;
} skylake_caches[] = {{1, 1, 8, 64, false},
		      {2, 1, 8, 64, false},
		      {3, 2, 4, 1024, false},
		      {3, 3, 16, 8192, true}},
  zen_caches[] = {
	  {1, 1, 8, 64, false}, {2, 1, 4, 256, false}, {3, 2, 8, 1024, true}, {3, 3, 16, 8192, false}};

struct regs {
	uint32_t a, b, c, d;
};

static void add(struct cpuid_table *table, uint32_t function, struct regs regs)
{
	if (table->count < CPUID_ENTRIES_MAX)
		table->entries[table->count++] = (struct kvm_cpuid_entry2){
			.function = function, .eax = regs.a, .ebx = regs.b, .ecx = regs.c, .edx = regs.d};
}

/* Leaf 4 and 0x8000001D have one form: self-initializing, lines of 64 bytes, one partition. */
static void add_caches(struct cpuid_table *table, uint32_t function, const struct cache *caches, size_t count)
{
	for (size_t i = 0; i <= count && table->count < CPUID_ENTRIES_MAX; i++) {
		struct kvm_cpuid_entry2 *entry = &table->entries[table->count++];
		*entry = (struct kvm_cpuid_entry2){
			.function = function, .index = (uint32_t)i, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX};
		if (i == count)
			return; /* type 0 ends the list */
		entry->eax = caches[i].type | (uint32_t)caches[i].level << 5 | 1U << 8;
		entry->ebx = (uint32_t)(caches[i].ways - 1) << 22 | 63;
		entry->ecx = caches[i].sets - 1;
		entry->edx = caches[i].inclusive ? 1U << 1 : 0;
	}
}

/* Is there a feature in this leaf that L1 gets? */
static bool leaf_given(const bool *given, uint32_t function)
{
	for (int id = 1; id < F_COUNT; id++) {
		const struct feature_word_info *word = &feature_words[feature_rows[id].word];
		if (given[id] && word->kind == WORD_CPUID && word->function == function)
			return true;
	}
	return false;
}

/* Leaves that hold features or describe one come from the host, but only those that say something. */
static void copy_feature_leaves(const struct cpuid_table *host, const bool *given, uint32_t sub_leaves_of_7,
				struct cpuid_table *ret)
{
	for (uint32_t i = 0; i < host->count; i++) {
		const struct kvm_cpuid_entry2 *entry = &host->entries[i];
		bool copy;
		switch (entry->function) {
		case 0x1:
		case 0x80000001:
		case 0x80000008:
			copy = false; /* made anew */
			break;
		case 0x7:
			copy = entry->index <= sub_leaves_of_7;
			break;
		case 0xd:
			copy = given[F_XSAVE];
			break;
		case 0x1d:
		case 0x1e:
			copy = given[F_AMX_TILE];
			break;
		case 0x40000000:
			copy = true;
			break;
		default:
			copy = leaf_given(given, entry->function);
			break;
		}
		if (copy && ret->count < CPUID_ENTRIES_MAX)
			ret->entries[ret->count++] = *entry;
	}
}

/* The highest leaf of a range that means something, at least `least`; `sub`: the same for sub-leaves of 7. */
static uint32_t highest_leaf(const bool *given, uint32_t range, uint32_t least, uint32_t *ret_sub)
{
	*ret_sub = 0;
	for (int id = 1; id < F_COUNT; id++) {
		const struct feature_word_info *word = &feature_words[feature_rows[id].word];
		if (!given[id] || word->kind != WORD_CPUID || (word->function & 0xffff0000) != range)
			continue;
		if (word->function > least)
			least = word->function;
		if (word->function == 0x7 && word->index > *ret_sub)
			*ret_sub = word->index;
	}
	return least;
}

static void add_basic(const struct cpu_host *host, const bool *given, struct cpuid_table *ret)
{
	static const struct feature_word_info vendor[3] = {{.reg = 1}, {.reg = 2}, {.reg = 3}};
	bool amd = feature_vendor(host) == VENDOR_AMD;
	uint32_t none, last = highest_leaf(given, 0, 0xd, &none);

	if (given[F_AMX_TILE] && last < 0x1e)
		last = 0x1e;
	add(ret, 0x0,
	    (struct regs){last, feature_cpuid_get(&host->cpuid, &vendor[0]),
			  feature_cpuid_get(&host->cpuid, &vendor[1]),
			  feature_cpuid_get(&host->cpuid, &vendor[2])});
	add(ret, 0x1, (struct regs){amd ? ZEN_SIGNATURE : SKYLAKE_SIGNATURE, CLFLUSH_64_BYTES, 0, 0});
	if (!amd) {
		add(ret, 0x2, (struct regs){0x00ff0001, 0, 0, 0}); /* 0xff: see leaf 4 */
		add_caches(ret, 0x4, skylake_caches, ARRAY_LEN(skylake_caches));
	}
}

static void add_brand(const struct model *model, struct cpuid_table *ret)
{
	union {
		char text[48];
		uint32_t words[12];
	} brand = {.words = {0}};
	(void)snprintf(brand.text, sizeof(brand.text), "aerie %s", model->is.name);
	for (uint32_t i = 0; i < 3; i++)
		add(ret, 0x80000002 + i,
		    (struct regs){brand.words[4 * i], brand.words[4 * i + 1], brand.words[4 * i + 2],
				  brand.words[4 * i + 3]});
}

static void add_extended(const struct model *model, const struct cpu_host *host, const bool *given,
			 struct cpuid_table *ret)
{
	bool amd = feature_vendor(host) == VENDOR_AMD;
	uint32_t none, last = highest_leaf(given, 0x80000000, 0x80000008, &none);
	uint32_t bits =
		(uint32_t)(given[F_LA57] ? VIRTUAL_BITS_LA57 : VIRTUAL_BITS) << 8 | MODEL_PHYSICAL_BITS;

	if (given[F_TOPOEXT] && last < 0x8000001e)
		last = 0x8000001e;
	add(ret, 0x80000000, (struct regs){last, 0, 0, 0});
	add(ret, 0x80000001, (struct regs){amd ? ZEN_SIGNATURE : 0, 0, 0, 0});
	add_brand(model, ret);
	if (amd) {
		/* TLBs of 64 entries; 32 KiB of 8 ways and 64 KiB of 4; 512 KiB of 8 and 8 MiB of 16. */
		add(ret, 0x80000005, (struct regs){0xff40ff40, 0xff40ff40, 0x20080140, 0x40040140});
		add(ret, 0x80000006, (struct regs){0, 0, 0x02006140, 0x00408140});
	} else {
		add(ret, 0x80000006, (struct regs){0, 0, 0x01004040, 0}); /* 256 KiB of 4 ways */
	}
	add(ret, 0x80000008, (struct regs){bits, 0, 0, 0});
	if (given[F_TOPOEXT]) {
		add_caches(ret, 0x8000001d, zen_caches, ARRAY_LEN(zen_caches));
		add(ret, 0x8000001e, (struct regs){0, 0, 0, 0});
	}
}

void model_leaves(const struct model *model, const struct cpu_host *host, const bool *given,
		  struct cpuid_table *ret)
{
	uint32_t sub_leaves_of_7;
	ret->count = 0;
	(void)highest_leaf(given, 0, 0, &sub_leaves_of_7);
	copy_feature_leaves(&host->cpuid, given, sub_leaves_of_7, ret);
	for (uint32_t i = 0; i < ret->count; i++) {
		struct kvm_cpuid_entry2 *entry = &ret->entries[i];
		if (entry->function == 0x7 && entry->index == 0)
			entry->eax = sub_leaves_of_7;
		if (entry->function == 0x8000000a && entry->ebx > SVM_ASIDS)
			entry->ebx = SVM_ASIDS;
	}
	add_basic(host, given, ret);
	add_extended(model, host, given, ret);
}
