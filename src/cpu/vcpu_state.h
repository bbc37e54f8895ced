/*
 * All of one vCPU's state that KVM keeps, as an ordered table of parts.
 *
 * The order matters more than anything else here: KVM checks nested state against MSRs and control registers,
 * drops pending events when registers are set, and refuses capability MSRs once the guest is in VMX
 * operation. Each part says in `why` what breaks when it moves.
 */
#ifndef AERIE_CPU_VCPU_STATE_H
#define AERIE_CPU_VCPU_STATE_H

#include "base/err.h"

#include <linux/kvm.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { VCPU_MSRS_MAX = 512 };

/* What this host's KVM saves; the same for all vCPUs. */
struct vcpu_layout {
	size_t xsave_bytes; /* KVM_CAP_XSAVE2, or the 4096 of before it */
	bool has_xsave2;
	bool has_xcrs;	       /* not on a host CPU without XSAVE, as some clouds offer */
	uint32_t nested_bytes; /* largest nested-state blob; 0: this host cannot nest */
	uint32_t msr_count;    /* that can be read on a vCPU here, in the order in which they go back */
	uint32_t msrs[VCPU_MSRS_MAX];
};

struct vcpu_state {
	struct kvm_mp_state mp_state;
	struct kvm_regs regs;
	struct kvm_sregs2 sregs;
	struct kvm_xcrs xcrs;
	struct kvm_debugregs debugregs;
	struct kvm_lapic_state lapic;
	struct kvm_vcpu_events events;
	struct kvm_xsave *xsave;	 /* layout->xsave_bytes */
	struct kvm_nested_state *nested; /* layout->nested_bytes, or NULL */
	/* To get: what `nested` is, where KVM must not be asked (nested_evmcs.h); borrowed. NULL: ask. */
	const struct kvm_nested_state *nested_put;
	struct kvm_msr_entry *msrs; /* layout->msr_count */
};

/* Ask the host, and try which MSRs of its list this first vCPU can read. */
int vcpu_layout_init(struct vcpu_layout *layout, int kvm_fd, int vm_fd, int vcpu_fd, struct err *err);

int vcpu_state_init(struct vcpu_state *state, const struct vcpu_layout *layout, struct err *err);
void vcpu_state_finish(struct vcpu_state *state);

/* Read or write the whole, in the order of the tables. The vCPU must not run. (put changes nothing in
 * `state`; the kernel's ioctls know no const.) */
int vcpu_state_get(struct vcpu_state *state, const struct vcpu_layout *layout, int vcpu_fd, struct err *err);
int vcpu_state_put(struct vcpu_state *state, const struct vcpu_layout *layout, int vcpu_fd, struct err *err);

/* Throw the vCPU out of VMX or SVM operation, so that `power_on` can be put back whatever the guest was
 * doing. */
int vcpu_state_leave_nested(struct vcpu_state *power_on, const struct vcpu_layout *layout, int vcpu_fd,
			    struct err *err);

/* For tests: the same in another order, `positions` being one of the table's positions for each of its rows.
 */
int vcpu_state_get_as(struct vcpu_state *state, const struct vcpu_layout *layout, int vcpu_fd,
		      const size_t *positions, struct err *err);
int vcpu_state_put_as(struct vcpu_state *state, const struct vcpu_layout *layout, int vcpu_fd,
		      const size_t *positions, struct err *err);

/* For tests and docs: the orders as names, and the reason for a part's place. NULL past the end. */
const char *vcpu_state_get_name(size_t position);
const char *vcpu_state_put_name(size_t position);
const char *vcpu_state_why(const char *name);

#endif
