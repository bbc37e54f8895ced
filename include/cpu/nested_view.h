/*
 * What a vCPU that nests is doing: KVM's nested-state blob, taken apart for people and programs.
 *
 * A pure function of bytes, so that it works on a snapshot from another host, without /dev/kvm. The bytes are
 * hostile (a snapshot is a file that anybody may have written): nothing is read past their end, and no value
 * is believed. The blob's frame is UAPI (api.rst 4.114, KVM_GET_NESTED_STATE). What it holds is not: vmcs12
 * is laid out by KVM itself (arch/x86/kvm/vmx/vmcs12.h), which promises never to move a field under one
 * revision, and vmcb12 is the VMCB of the AMD APM, volume 2, appendix B, of which KVM fills the control area
 * from L1's VMCB and the save area with L1's own state.
 */
#ifndef AERIE_CPU_NESTED_VIEW_H
#define AERIE_CPU_NESTED_VIEW_H

#include "base/err.h"
#include "cpu/cpuid.h"
#include "state/file.h"

#include <linux/kvm.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One vCPU as it was saved. */
struct nested_source {
	uint32_t index;
	const void *nested; /* as KVM_GET_NESTED_STATE gave it; NULL: its host could not nest */
	size_t nested_bytes;
	const struct kvm_regs *regs; /* of the level that runs; may be NULL */
	const struct kvm_sregs2 *sregs;
	const struct kvm_vcpu_events *events;
};

struct nested_layout; /* of a region: where its fields are */

/* 4096 bytes of vmcs12, shadow vmcs12 or vmcb12. */
struct nested_region {
	const uint8_t *bytes;		    /* NULL: not there */
	const struct nested_layout *layout; /* NULL: a revision that we do not know, shown raw */
	uint32_t revision;		    /* of vmcs12 */
};

/* Borrows the source and its bytes. */
struct nested_view {
	struct nested_source source;
	enum cpu_nested kind; /* by the blob's format; NONE when there is no blob */
	bool runs_l2;
	uint16_t flags;			   /* KVM_STATE_NESTED_* */
	uint64_t vmxon_gpa, vmcs12_gpa;	   /* VMX; ~0: not in VMX operation, no current VMCS */
	uint16_t smm_flags;		   /* VMX: KVM_STATE_NESTED_SMM_* */
	bool has_deadline;		   /* VMX: the preemption timer runs */
	uint64_t deadline_tsc;		   /* in L1's TSC */
	uint64_t vmcb12_gpa;		   /* SVM, while L2 runs */
	struct nested_region vmcs, shadow; /* shadow: what vmcs12's link pointer names, while L2 runs */
};

/* -EINVAL with a message that says what is wrong with the blob: cut short, another format, impossible sizes.
 */
int nested_view_init(const struct nested_source *source, struct nested_view *ret, struct err *err);

/*
 * The view for people (fields that are zero are left out) and as one JSON object (all fields; numbers of
 * 64 bits are strings in hexadecimal, names of fields are QMP's way, with hyphens). To be freed; NULL when
 * memory is short.
 */
char *nested_view_text(const struct nested_view *view);
char *nested_view_json(const struct nested_view *view);

/*
 * All vCPUs of a saved state (nodes /vcpus/vcpuN, see cpu/vcpu.h): views as text one after the other, or as a
 * JSON array. *ret is to be freed. -EINVAL names the node and what is wrong with it.
 */
int nested_report(const struct state_file *file, bool json, char **ret, struct err *err);

#endif
