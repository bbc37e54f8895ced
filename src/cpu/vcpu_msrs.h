/* The MSRs of a vCPU as lists: which there are, in which order they go back. */
#ifndef AERIE_CPU_VCPU_MSRS_H
#define AERIE_CPU_VCPU_MSRS_H

#include "base/err.h"

#include <linux/kvm.h>
#include <stdint.h>

#define MSR_IA32_TSC		 0x10
#define MSR_IA32_FEATURE_CONTROL 0x3a
#define MSR_IA32_MISC_ENABLE	 0x1a0
#define MSR_MTRR_DEF_TYPE	 0x2ff
#define MSR_IA32_TSC_DEADLINE	 0x6e0

/* Classes go back at different moments (vcpu_state.c); inside REST the order is by rank. */
enum msr_class { MSR_CLASS_CAPABILITY, MSR_CLASS_FEATURE_CONTROL, MSR_CLASS_REST, MSR_CLASS_NEVER };

enum msr_class vcpu_msr_class(uint32_t index);

/* Sort by class, rank and number. Pure. */
void vcpu_msrs_sort(uint32_t *msrs, uint32_t count);

/* KVM_GET_MSR_INDEX_LIST (api.rst 4.3) and the MTRRs, without those that cannot be read on this vCPU or never
 * go back; sorted. */
int vcpu_msrs_list(int kvm_fd, int vcpu_fd, uint32_t *ret, uint32_t max, uint32_t *ret_count,
		   struct err *err);

/* All or an error that names the MSR at which KVM stopped. */
int vcpu_msrs_get(const uint32_t *msrs, uint32_t count, struct kvm_msr_entry *ret, int vcpu_fd,
		  struct err *err);
int vcpu_msrs_put(const struct kvm_msr_entry *entries, uint32_t count, int vcpu_fd, struct err *err);

#endif
