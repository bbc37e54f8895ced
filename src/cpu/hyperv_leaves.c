/* The Hyper-V CPUID leaves, read and written. */
#include "hyperv_leaves.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define LEAF_KVM_FIRST	0x40000000U
#define LEAF_KVM_LAST	0x400000ffU
#define LEAF_KVM_OFFSET 0x100U

#define LEAF_VENDOR	0x40000000U /* EAX: the last leaf; EBX, ECX, EDX: 12 letters */
#define LEAF_INTERFACE	0x40000001U /* EAX: "Hv#1" */
#define LEAF_VERSION	0x40000002U /* EAX: build; EBX: major << 16 | minor */
#define LEAF_FEATURES	0x40000003U
#define LEAF_RECOMMEND	0x40000004U /* EBX: spins before a hypercall says so */
#define LEAF_LIMITS	0x40000005U /* EAX: virtual processors; EBX: logical ones */
#define LEAF_NESTED	0x4000000aU
#define INTERFACE_HV1	0x31237648U
#define LOGICAL_CPU_MAX 64 /* what Hyper-V 2016 says; a guest has nothing to decide by it */

static const struct kvm_cpuid_entry2 *leaf(const struct cpuid_table *table, uint32_t function)
{
	for (uint32_t i = 0; i < table->count; i++)
		if (table->entries[i].function == function)
			return &table->entries[i];
	return NULL;
}

void hyperv_words_read(const struct cpuid_table *offered, struct hyperv_words *ret)
{
	const struct kvm_cpuid_entry2 *features = leaf(offered, LEAF_FEATURES);
	const struct kvm_cpuid_entry2 *recommend = leaf(offered, LEAF_RECOMMEND);
	const struct kvm_cpuid_entry2 *nested = leaf(offered, LEAF_NESTED);
	*ret = (struct hyperv_words){
		.features_eax = features ? features->eax : 0,
		.features_ebx = features ? features->ebx : 0,
		.features_edx = features ? features->edx : 0,
		.recommend_eax = recommend ? recommend->eax : 0,
		.nested_eax = nested ? nested->eax : 0,
	};
}

void hyperv_words_add(struct hyperv_words *words, const struct hyperv_words *more)
{
	words->features_eax |= more->features_eax;
	words->features_ebx |= more->features_ebx;
	words->features_edx |= more->features_edx;
	words->recommend_eax |= more->recommend_eax;
	words->nested_eax |= more->nested_eax;
}

bool hyperv_words_cover(const struct hyperv_words *words, const struct hyperv_words *wanted)
{
	return (wanted->features_eax & ~words->features_eax) == 0 &&
	       (wanted->features_ebx & ~words->features_ebx) == 0 &&
	       (wanted->features_edx & ~words->features_edx) == 0 &&
	       (wanted->recommend_eax & ~words->recommend_eax) == 0 &&
	       (wanted->nested_eax & ~words->nested_eax) == 0;
}

/* KVM's own leaves make way: a guest that looks for KVM tries every 0x100 (Linux's hypervisor_cpuid_base). */
static void move_kvm(struct cpuid_table *table, bool keep)
{
	uint32_t kept = 0;
	for (uint32_t i = 0; i < table->count; i++) {
		struct kvm_cpuid_entry2 entry = table->entries[i];
		if (entry.function >= LEAF_KVM_FIRST && entry.function <= LEAF_KVM_LAST) {
			if (!keep)
				continue;
			if (entry.function == LEAF_KVM_FIRST)
				entry.eax += LEAF_KVM_OFFSET; /* the last leaf */
			entry.function += LEAF_KVM_OFFSET;
		}
		table->entries[kept++] = entry;
	}
	table->count = kept;
}

int hyperv_cpuid(const struct hyperv_config *given, const struct cpuid_table *offered,
		 struct cpuid_table *table, struct err *err)
{
	struct hyperv_words words, host;
	uint32_t vendor[3] = {0};
	const struct kvm_cpuid_entry2 *nested = leaf(offered, LEAF_NESTED);

	hyperv_words_of(given, &words);
	hyperv_words_read(offered, &host);
	if (given->vapic && !given->avic)
		words.recommend_eax |= RECOMMEND_APIC_MSRS; /* with APICv or AVIC the APIC itself is faster */
	if (given->evmcs)
		words.nested_eax |= host.nested_eax & NESTED_EVMCS_VERSIONS;
	memcpy(vendor, given->vendor_id, strnlen(given->vendor_id, sizeof(vendor)));

	/* No holes: a nested Hyper-V reads on until the last one. */
	const struct kvm_cpuid_entry2 leaves[] = {
		{.function = LEAF_VENDOR,
		 .eax = LEAF_NESTED,
		 .ebx = vendor[0],
		 .ecx = vendor[1],
		 .edx = vendor[2]},
		{.function = LEAF_INTERFACE, .eax = INTERFACE_HV1},
		{.function = LEAF_VERSION,
		 .eax = given->version_build,
		 .ebx = given->version_major << 16 | (given->version_minor & 0xffff)},
		{.function = LEAF_FEATURES,
		 .eax = words.features_eax,
		 .ebx = words.features_ebx,
		 .edx = words.features_edx},
		{.function = LEAF_RECOMMEND, .eax = words.recommend_eax, .ebx = given->spinlock_retries},
		{.function = LEAF_LIMITS, .eax = CONFIG_CPUS_MAX, .ebx = LOGICAL_CPU_MAX},
		{.function = LEAF_LIMITS + 1},
		{.function = LEAF_LIMITS + 2},
		{.function = LEAF_LIMITS + 3},
		{.function = LEAF_LIMITS + 4},
		/* EBX: what the enlightened VMCS can hold beyond its first version */
		{.function = LEAF_NESTED,
		 .eax = words.nested_eax,
		 .ebx = given->evmcs && nested ? nested->ebx : 0},
	};
	static_assert(LEAF_LIMITS + 5 == LEAF_NESTED, "the leaves between are written one by one");

	move_kvm(table, given->kvm);
	if (table->count + sizeof(leaves) / sizeof(leaves[0]) > CPUID_ENTRIES_MAX)
		return err_set(err, -E2BIG, "CPUID: no room for the Hyper-V leaves");
	memcpy(&table->entries[table->count], leaves, sizeof(leaves));
	table->count += sizeof(leaves) / sizeof(leaves[0]);
	return 0;
}
