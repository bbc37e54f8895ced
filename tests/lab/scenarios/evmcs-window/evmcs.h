/*
 * The enlightened VMCS, version 1, and the VP assist page: Hypervisor Top Level Functional
 * Specification 6.0b, "Nested virtualization". With these a hypervisor L1 keeps a VMCS as a page of its
 * memory, which it reads and writes by MOV, where VMREAD and VMWRITE would leave to L0 each time.
 *
 * What the two sides must agree on beyond the fields:
 * - At VMLAUNCH and VMRESUME, L0 looks into the assist page for the eVMCS that is meant. No VMPTRLD, no
 * VMCLEAR.
 * - L0 need not read what L1 has not changed: L1 says so by a bit of clean_fields for each group of fields.
 */
#ifndef AERIE_LAB_EVMCS_H
#define AERIE_LAB_EVMCS_H

#include <stddef.h>
#include <stdint.h>

/* In the order of the arrays below; GDTR and IDTR have a limit and a base only. */
enum segment { ES, CS, SS, DS, FS, GS, LDTR, TR, SEGMENTS, GDTR = SEGMENTS, IDTR, TABLES };

/* Bits of clean_fields: the groups that this L1 changes after VMLAUNCH. guest_rip is in none and always read.
 */
enum {
	CLEAN_GUEST_GROUP1 = 1 << 11, /* SYSENTER */
	CLEAN_GUEST_GROUP2 = 1 << 12, /* segments */
	CLEAN_ALL = 0xffff,
};

enum { EVMCS_VERSION = 1 };

struct evmcs {
	uint32_t revision, abort;
	uint16_t host_selector[7], reserved_22; /* ES to GS, then TR */
	uint64_t host_pat, host_efer;
	uint64_t host_cr0, host_cr3, host_cr4;
	uint64_t host_sysenter_esp, host_sysenter_eip, host_rip;
	uint32_t host_sysenter_cs;
	uint32_t pin_controls, exit_controls, secondary_controls;
	uint64_t io_bitmap[2], msr_bitmap;
	uint16_t guest_selector[SEGMENTS];
	uint32_t guest_limit[TABLES];
	uint32_t guest_access[SEGMENTS];
	uint64_t guest_base[TABLES];
	uint64_t unused_296[13]; /* lists of MSRs, CR3 targets, masks of page faults */
	uint64_t tsc_offset, virtual_apic, link_pointer;
	uint64_t guest_debugctl, guest_pat, guest_efer;
	uint64_t guest_pdptr[4], guest_pending_debug;
	uint64_t guest_sysenter_esp, guest_sysenter_eip;
	uint32_t guest_activity, guest_sysenter_cs;
	uint64_t cr0_mask, cr4_mask, cr0_shadow, cr4_shadow;
	uint64_t guest_cr0, guest_cr3, guest_cr4, guest_dr7;
	uint64_t host_fs_base, host_gs_base, host_tr_base, host_gdtr_base, host_idtr_base, host_rsp;
	uint64_t unused_624[8]; /* EPT, VPID */
	uint32_t instruction_error, exit_reason, exit_event, exit_event_error;
	uint32_t idt_vectoring, idt_vectoring_error, exit_instruction_bytes, exit_instruction;
	uint64_t exit_qualification;
	uint64_t unused_728[5];
	uint64_t guest_rsp, guest_rflags;
	uint32_t guest_interruptibility, cpu_controls, exception_bitmap, entry_controls;
	uint32_t entry_event, entry_event_error, entry_instruction_bytes, tpr_threshold;
	uint64_t guest_rip;
	uint32_t clean_fields;
	uint8_t unused_828[4096 - 828];
};

_Static_assert(offsetof(struct evmcs, host_selector) == 0x8, "eVMCS");
_Static_assert(offsetof(struct evmcs, host_cr0) == 0x28, "eVMCS");
_Static_assert(offsetof(struct evmcs, host_rip) == 0x50, "eVMCS");
_Static_assert(offsetof(struct evmcs, pin_controls) == 0x5c, "eVMCS");
_Static_assert(offsetof(struct evmcs, msr_bitmap) == 0x78, "eVMCS");
_Static_assert(offsetof(struct evmcs, guest_selector) == 0x80, "eVMCS");
_Static_assert(offsetof(struct evmcs, guest_limit) == 0x90, "eVMCS");
_Static_assert(offsetof(struct evmcs, guest_access) == 0xb8, "eVMCS");
_Static_assert(offsetof(struct evmcs, guest_base) == 0xd8, "eVMCS");
_Static_assert(offsetof(struct evmcs, tsc_offset) == 0x190, "eVMCS");
_Static_assert(offsetof(struct evmcs, link_pointer) == 0x1a0, "eVMCS");
_Static_assert(offsetof(struct evmcs, guest_sysenter_esp) == 0x1e8, "eVMCS");
_Static_assert(offsetof(struct evmcs, guest_sysenter_cs) == 0x1fc, "eVMCS");
_Static_assert(offsetof(struct evmcs, guest_cr0) == 0x220, "eVMCS");
_Static_assert(offsetof(struct evmcs, host_tr_base) == 0x250, "eVMCS");
_Static_assert(offsetof(struct evmcs, host_rsp) == 0x268, "eVMCS");
_Static_assert(offsetof(struct evmcs, instruction_error) == 0x2b0, "eVMCS");
_Static_assert(offsetof(struct evmcs, exit_qualification) == 0x2d0, "eVMCS");
_Static_assert(offsetof(struct evmcs, guest_rsp) == 0x300, "eVMCS");
_Static_assert(offsetof(struct evmcs, cpu_controls) == 0x314, "eVMCS");
_Static_assert(offsetof(struct evmcs, entry_event) == 0x320, "eVMCS");
_Static_assert(offsetof(struct evmcs, guest_rip) == 0x330, "eVMCS");
_Static_assert(offsetof(struct evmcs, clean_fields) == 0x338, "eVMCS");
_Static_assert(sizeof(struct evmcs) == 4096, "eVMCS");

struct assist_page {
	uint8_t unused_0[40];
	uint8_t enlighten_entry; /* 1: the next field says which eVMCS an entry means */
	uint8_t reserved_41[7];
	uint64_t current_evmcs;
	uint8_t unused_56[4096 - 56];
};

_Static_assert(offsetof(struct assist_page, enlighten_entry) == 40, "VP assist page");
_Static_assert(offsetof(struct assist_page, current_evmcs) == 48, "VP assist page");

#endif
