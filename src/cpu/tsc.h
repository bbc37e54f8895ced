/* The frequency of the guest's TSC (api.rst 4.55, 4.56). */
#ifndef AERIE_CPU_TSC_H
#define AERIE_CPU_TSC_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

/* Can a guest be promised `khz` on a host whose TSC runs at `host_khz` (0: unknown)? Pure. -EOPNOTSUPP. */
int tsc_check(uint32_t khz, uint32_t host_khz, bool can_scale, struct err *err);

/* KVM_SET_TSC_KHZ after that check; before CPUID and MSRs. `khz` 0: leave it as it is. */
int tsc_set(int vm_fd, int vcpu_fd, uint32_t khz, struct err *err);

#endif
