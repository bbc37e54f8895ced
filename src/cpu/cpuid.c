/*
 * CPUID for each vCPU. Bits and leaves are those of SDM 2A, CPUID, and APM 3, appendix E.
 */
#include "cpu/cpuid.h"

#include "cpu/boot.h"
#include "host/kvm.h"
#include "topology.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define LEAF1_EDX_HTT	       (1U << 28)
#define LEAF8_1_ECX_CMP_LEGACY (1U << 1)
#define LEAF8_1_ECX_TOPOEXT    (1U << 22)

#define LEAF_VENDOR_MAX 0x0
#define LEAF_FEATURES	0x1
#define LEAF_CACHES	0x4
#define LEAF_TOPOLOGY	0xb
#define LEAF_TOPOLOGY_2 0x1f
#define LEAF_EXT	0x80000001
#define LEAF_EXT_SIZES	0x80000008
#define LEAF_AMD_CACHES 0x8000001d
#define LEAF_AMD_TOPO	0x8000001e

/* Level types of leaf 0xB, ECX[15:8]. */
enum { TOPOLOGY_END, TOPOLOGY_SMT, TOPOLOGY_CORE };

struct kvm_cpuid_entry2 *cpuid_find(struct cpuid_table *table, uint32_t function, uint32_t index)
{
	for (uint32_t i = 0; i < table->count; i++) {
		struct kvm_cpuid_entry2 *entry = &table->entries[i];
		if (entry->function == function &&
		    (!(entry->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) || entry->index == index))
			return entry;
	}
	return NULL;
}

int cpuid_supported(int kvm_fd, struct cpuid_table *ret, struct err *err)
{
	size_t bytes = sizeof(struct kvm_cpuid2) + sizeof(ret->entries);
	struct kvm_cpuid2 *cpuid = calloc(1, bytes);
	if (!cpuid)
		return err_sys(err, -ENOMEM, "CPUID");
	cpuid->nent = CPUID_ENTRIES_MAX;
	int r = kvm_call(kvm_fd, KVM_GET_SUPPORTED_CPUID, cpuid);
	if (r < 0) {
		(void)err_sys(err, r, "KVM_GET_SUPPORTED_CPUID");
	} else {
		ret->count = cpuid->nent;
		memcpy(ret->entries, cpuid->entries, cpuid->nent * sizeof(cpuid->entries[0]));
	}
	free(cpuid);
	return r < 0 ? r : 0;
}

int cpuid_check_width(struct cpuid_table *table, uint64_t end_gpa, struct err *err)
{
	const struct kvm_cpuid_entry2 *sizes = cpuid_find(table, LEAF_EXT_SIZES, 0);
	unsigned bits = sizes && sizes->eax & 0xff ? sizes->eax & 0xff : 36; /* SDM 3A, 4.1.4 */
	if (bits >= 64 || end_gpa <= UINT64_C(1) << bits)
		return 0;
	return err_set(err, -EINVAL,
		       "memory.size: RAM ends at %#" PRIx64
		       ", and this machine's processor addresses %u bits "
		       "(%" PRIu64 " GiB; \"cpu.model\": \"host\" has all that the host has)",
		       end_gpa, bits, UINT64_C(1) << bits >> 30);
}

/* The entry for (function, index), appended when `table` has none yet; NULL only when the table is full. */
static struct kvm_cpuid_entry2 *cpuid_get(struct cpuid_table *table, uint32_t function, uint32_t index)
{
	for (uint32_t i = 0; i < table->count; i++)
		if (table->entries[i].function == function && table->entries[i].index == index)
			return &table->entries[i];
	if (table->count == CPUID_ENTRIES_MAX)
		return NULL;
	struct kvm_cpuid_entry2 *entry = &table->entries[table->count++];
	*entry = (struct kvm_cpuid_entry2){
		.function = function, .index = index, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX};
	return entry;
}

/* Leaves 0xB and 0x1F: a sub-leaf for threads, one for cores, one that ends the list. */
static void cpuid_topology(struct cpuid_table *table, uint32_t function, const struct cpus_config *cpus,
			   uint32_t id)
{
	unsigned thread_bits = topology_bits(cpus->threads);
	unsigned core_bits = topology_bits(cpus->cores);
	const struct {
		uint32_t shift, processors, type;
	} levels[] = {
		{thread_bits, cpus->threads, TOPOLOGY_SMT},
		{thread_bits + core_bits, cpus->threads * cpus->cores, TOPOLOGY_CORE},
		{0, 0, TOPOLOGY_END},
	};
	for (uint32_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
		struct kvm_cpuid_entry2 *entry = cpuid_get(table, function, i);
		if (!entry)
			return;
		entry->eax = levels[i].shift;
		entry->ebx = levels[i].processors;
		entry->ecx = levels[i].type << 8 | i;
		entry->edx = id;
	}
}

/*
 * Cache leaves say how many ids share a cache: EAX[25:14] of leaf 4 and of 0x8000001D. First and second level
 * belong to a core, the third to the socket. Leaf 4 also gives the ids of a socket's cores in EAX[31:26].
 */
static void cpuid_cache(struct kvm_cpuid_entry2 *entry, const struct cpus_config *cpus)
{
	unsigned thread_bits = topology_bits(cpus->threads);
	unsigned core_bits = topology_bits(cpus->cores);
	uint32_t level = entry->eax >> 5 & 7;
	uint32_t type = entry->eax & 0x1f;
	if (type == 0)
		return;
	uint32_t sharing = (1U << (level >= 3 ? thread_bits + core_bits : thread_bits)) - 1;
	uint32_t cores = (1U << core_bits) - 1;
	entry->eax &= 0x3fff;
	entry->eax |= (sharing < 0xfff ? sharing : 0xfff) << 14;
	if (entry->function == LEAF_CACHES)
		entry->eax |= (cores < 0x3f ? cores : 0x3f) << 26;
}

static void cpuid_features(struct kvm_cpuid_entry2 *entry, const struct cpus_config *cpus, uint32_t id)
{
	uint32_t in_socket = cpus->cores * cpus->threads;
	uint32_t ids = 1U << (topology_bits(cpus->cores) + topology_bits(cpus->threads));
	entry->ebx &= 0xffff;
	entry->ebx |= (id & 0xff) << 24 | (ids < 0xff ? ids : 0xff) << 16;
	entry->edx = in_socket > 1 ? entry->edx | LEAF1_EDX_HTT : entry->edx & ~LEAF1_EDX_HTT;
}

/* One row of the model's table as this vCPU sees it. */
static void cpuid_adjust(struct kvm_cpuid_entry2 *entry, const struct cpus_config *cpus, uint32_t id)
{
	uint32_t in_socket = cpus->cores * cpus->threads;
	unsigned socket_bits = topology_bits(cpus->cores) + topology_bits(cpus->threads);

	switch (entry->function) {
	case LEAF_FEATURES:
		cpuid_features(entry, cpus, id);
		break;
	case LEAF_CACHES:
	case LEAF_AMD_CACHES:
		cpuid_cache(entry, cpus);
		break;
	case LEAF_EXT:
		if (entry->ecx & LEAF8_1_ECX_TOPOEXT)
			entry->ecx = in_socket > 1 ? entry->ecx | LEAF8_1_ECX_CMP_LEGACY
						   : entry->ecx & ~LEAF8_1_ECX_CMP_LEGACY;
		break;
	case LEAF_EXT_SIZES: /* ECX: ApicIdSize[15:12], threads of the socket less one [7:0] */
		entry->ecx = in_socket > 1 ? socket_bits << 12 | ((in_socket - 1) & 0xff) : 0;
		break;
	case LEAF_AMD_TOPO: /* EAX: the id; EBX: threads of a core less one [15:8], core id [7:0]; one node */
		entry->eax = id;
		entry->ebx = (cpus->threads - 1) << 8 | (id >> topology_bits(cpus->threads) & 0xff);
		entry->ecx = id >> socket_bits & 0xff;
		entry->edx = 0;
		break;
	default:
		break;
	}
}

void cpuid_for_vcpu(const struct cpuid_table *model, const struct cpus_config *cpus, uint32_t index,
		    struct cpuid_table *ret)
{
	uint32_t id = cpu_apic_id(cpus, index);
	uint32_t max_leaf = 0;

	ret->count = 0;
	for (uint32_t i = 0; i < model->count; i++) {
		const struct kvm_cpuid_entry2 *from = &model->entries[i];
		if (from->function == LEAF_VENDOR_MAX)
			max_leaf = from->eax;
		if (from->function == LEAF_TOPOLOGY || from->function == LEAF_TOPOLOGY_2)
			continue; /* made anew below */
		ret->entries[ret->count] = *from;
		cpuid_adjust(&ret->entries[ret->count++], cpus, id);
	}
	/* Leaf 0xB is how every guest reads a 32-bit x2APIC id; 0x1F only where the host's CPU counts that
	 * far. */
	cpuid_topology(ret, LEAF_TOPOLOGY, cpus, id);
	if (max_leaf >= LEAF_TOPOLOGY_2)
		cpuid_topology(ret, LEAF_TOPOLOGY_2, cpus, id);
	struct kvm_cpuid_entry2 *first = cpuid_find(ret, LEAF_VENDOR_MAX, 0);
	if (first && first->eax < LEAF_TOPOLOGY)
		first->eax = LEAF_TOPOLOGY;
}
