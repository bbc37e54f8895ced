/* One KVM virtual machine, before it has chips, memory or vCPUs. */
#ifndef AERIE_HOST_VM_H
#define AERIE_HOST_VM_H

#include "base/err.h"

#include <stdint.h>

/*
 * KVM_CREATE_VM (api.rst 4.2) and what must be said to it before anything else exists: where Intel's TSS and
 * identity map pages lie (4.36, 4.40), 32-bit x2APIC ids, and that exception payloads and triple faults are
 * saved apart. `cpu_count` is checked against what this KVM allows. Returns the VM fd.
 */
int vm_create(int kvm_fd, uint32_t cpu_count, uint32_t max_apic_id, struct err *err);

#endif
