/*
 * What L1 sees of its CPU: CPUID from what KVM supports here, the operator's topology, and whether it may
 * nest. Pure functions over tables, so that they are tested without KVM.
 */
#ifndef AERIE_CPU_CPUID_H
#define AERIE_CPU_CPUID_H

#include "base/err.h"
#include "config/config.h"

#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>

enum { CPUID_ENTRIES_MAX = 256 };

struct cpuid_table {
	uint32_t count;
	struct kvm_cpuid_entry2 entries[CPUID_ENTRIES_MAX];
};

/* Which virtualization L1 gets. */
enum cpu_nested { CPU_NESTED_NONE, CPU_NESTED_VMX, CPU_NESTED_SVM };

/* The entry for a leaf (and index, where the leaf has them), or NULL. */
struct kvm_cpuid_entry2 *cpuid_find(struct cpuid_table *table, uint32_t function, uint32_t index);

/* Can a processor with this CPUID address all below `end_gpa` (leaf 0x80000008 EAX[7:0])? -EINVAL if not. */
int cpuid_check_width(struct cpuid_table *table, uint64_t end_gpa, struct err *err);

/* KVM_GET_SUPPORTED_CPUID of /dev/kvm (api.rst 4.46). */
int cpuid_supported(int kvm_fd, struct cpuid_table *ret, struct err *err);

/*
 * The table of vCPU `index`: the model's with this vCPU's APIC id and topology (leaves 1, 4, 0xB, 0x1F,
 * 0x80000008, 0x8000001D and 0x8000001E).
 */
void cpuid_for_vcpu(const struct cpuid_table *model, const struct cpus_config *cpus, uint32_t index,
		    struct cpuid_table *ret);

#endif
