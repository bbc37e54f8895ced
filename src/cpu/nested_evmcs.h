/*
 * Nested state of an L1 that keeps L2's VMCS enlightened, as a page of its own memory (TLFS 16.5.3), between
 * the moment it is put into a vCPU and the vCPU's first entry.
 *
 * KVM_SET_NESTED_STATE brings L2's fields, vmcs12, but not that page: the VP assist page, which an MSR names,
 * says where it is, and KVM looks there at the first entry, maps it and copies vmcs12 into it. While L2 runs
 * all is well. While L1 runs there are three traps, in Linux 6.1 and 6.12:
 *
 * 1. Asked for nested state before that entry, KVM takes vmcs12 from a shadow VMCS, empty then, and keeps
 *    what it took: the answer is an L2 without registers, and so is L1's as soon as L1 runs.
 * 2. L1 marks groups of fields as clean, unchanged since L2 was last entered, and KVM does not read those
 *    again. KVM takes the marks away when it maps the page, not when L2 is entered. L1 may set them between
 *    the two: KVM as L1 does, some hundred instructions after each exit of L2. Then all is clean at VMRESUME,
 *    and the VMCS that KVM has just made for L2 gets no segments: a failed entry (0x80000021).
 * 3. L1 may have named another VMCS in the meantime, to enter that one next. It gets the fields of the first.
 *
 * So until the entry what was put is the answer, and vcpu_enter_evmcs makes the entry a special one.
 */
#ifndef AERIE_CPU_NESTED_EVMCS_H
#define AERIE_CPU_NESTED_EVMCS_H

#include "memory/memory.h"

#include <linux/kvm.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MSR_HV_VP_ASSIST_PAGE 0x40000073

struct nested_evmcs {
	struct kvm_nested_state *put; /* owned; NULL: there is nothing of the kind, KVM may be asked */
};

/* Does L1 run, with an enlightened VMCS whose fields this state, `bytes` long or NULL, brings? */
bool nested_evmcs_is_l1s(const struct kvm_nested_state *state, size_t bytes);

/* `put`, `bytes` long, or NULL, was put: kept if it is of this kind, otherwise what was kept before is
 * forgotten. 0 or -ENOMEM. */
int nested_evmcs_put(struct nested_evmcs *evmcs, const struct kvm_nested_state *put, size_t bytes);
void nested_evmcs_forget(struct nested_evmcs *evmcs);

/*
 * Does L1 name the VMCS whose fields were put, in the VP assist page of which `msr` (MSR_HV_VP_ASSIST_PAGE)
 * tells? If not it is another one, or nothing that KVM would enter its guest with. Something must have been
 * put; `regs` are L1's. *ret_pointer, if so: where the address stands, 64 bits, little-endian, in guest
 * memory.
 *
 * Nothing says whose fields vmcs12 has. But KVM copies them into the page no later than L1 runs: where L1
 * stands at its first instruction after an exit it cannot have named another, and anywhere else the page that
 * they came from has them already. So yes is right, or makes no difference.
 */
bool nested_evmcs_is_named(const struct nested_evmcs *evmcs, const struct guest_memory *memory, uint64_t msr,
			   const struct kvm_regs *regs, uint8_t **ret_pointer);

/* The page that is named counts as written: KVM writes there through a mapping of its own, and tells its
 * dirty log only when it lets go of it. */
void nested_evmcs_mark(const struct guest_memory *memory, uint64_t msr);

#endif
