/*
 * The nested state that was put into a vCPU which has not run since.
 *
 * KVM maps an enlightened VMCS when the vCPU enters its guest, not before: the address stands in guest
 * memory. Asked for nested state earlier, while L1 runs (and not L2), Linux 6.1 and 6.12 take the fields of
 * vmcs12 from the shadow VMCS, which is empty then, and keep what they took: the answer is an L2 without
 * registers, and L1's own VMCS gets the same as soon as L1 runs. So KVM must not be asked; what was put is
 * the answer, for as long as it counts no further exit of the vCPU. L1 cannot have come to its next
 * instruction by then.
 */
#ifndef AERIE_CPU_NESTED_KEPT_H
#define AERIE_CPU_NESTED_KEPT_H

#include "host/stats.h"

#include <linux/kvm.h>
#include <stddef.h>
#include <stdint.h>

struct nested_kept {
	struct kvm_nested_state *nested; /* owned; NULL: ask KVM */
	uint64_t exits;			 /* of the vCPU when it was put */
};

/*
 * `put`, `bytes` long, or NULL, was put: kept if it is one that KVM must not be asked for, otherwise what was
 * kept before is forgotten. `stats` are the vCPU's, NULL on kernels before 5.14: without them nobody knows
 * whether it ran, and nothing is kept. 0 or -ENOMEM.
 */
int nested_kept_set(struct nested_kept *kept, const struct kvm_nested_state *put, size_t bytes,
		    struct kvm_stats *stats);

/* Borrowed; NULL when KVM can be asked, because nothing is kept or the vCPU ran. */
const struct kvm_nested_state *nested_kept_get(const struct nested_kept *kept, struct kvm_stats *stats);

void nested_kept_drop(struct nested_kept *kept);

#endif
