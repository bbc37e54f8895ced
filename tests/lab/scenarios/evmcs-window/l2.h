/*
 * Two L2s, A and B, which L1 runs by turns on its one processor, each in an enlightened VMCS of its own. They
 * run the same code and differ in whatever their VMCS gives them: stack, selectors, limits, bases, SYSENTER's
 * registers. An L2 looks at all of it, counts, tells L1 by VMCALL, and so on for ever.
 */
#ifndef AERIE_LAB_L2_H
#define AERIE_LAB_L2_H

#include "evmcs.h"
#include "machine.h"

#include <stdbool.h>

/* In the order in which enter.S knows them. */
struct registers {
	uint32_t eax, ebx, ecx, edx, esi, edi, ebp;
};

/* What of an L2 is its own. */
struct traits {
	uint32_t name; /* 'A' or 'B': EBX of its VMCALL */
	uint32_t limit;
	uint16_t code, data, tss, gdt_limit;
	uint32_t sysenter_cs, sysenter_esp, sysenter_eip;
};

struct l2 {
	struct l2 *self; /* its GS:0 is here */
	struct traits traits;
	struct evmcs *evmcs;
	struct registers registers;
	void (*errand)(void); /* NULL, or what it does, once, before its next VMCALL */
	uint32_t count;	      /* as last told */
	uint32_t worked[3];   /* where the exits of its work are; 0: not known yet */
	bool launched;
	const char *wrong; /* what l2_enter() found, with a value */
	uint32_t value;
};

/* L1 becomes a hypervisor: false and a line if it cannot. Once. */
bool vmx_on(void);

/* As new: the next entry is its first. */
void l2_create(struct l2 *l2, unsigned number);

/* The next entry means this one. What runs by VMPTRLD otherwise is a store into the assist page here. */
void l2_select(const struct l2 *l2);

/*
 * Enters the selected L2, which is to be this one, and looks at what comes back: is it this L2's next VMCALL,
 * with all that is its own? False: no, see wrong and value.
 */
bool l2_enter(struct l2 *l2);

/*
 * As a hypervisor has it all day: the L2 looks at CPUID, writes to a port, and tells its count by VMCALL.
 * Each exit must be the next of these, at its place and of its length, or an interrupt's, which may come
 * anywhere and is taken. From the L2's first entry on.
 */
void l2_give_work(struct l2 *l2);
bool l2_work(struct l2 *l2);

/*
 * All is as L0 knows it. KVM as L1 says so after each exit, before it does anything else (vmx_vcpu_run());
 * what it changes from then on takes bits away.
 */
void l2_mark_clean(struct l2 *l2);

/* Past the VMCALL. */
void l2_skip(struct l2 *l2);

/* Gives it other limits and another SYSENTER_EIP, and takes the marks of their groups away. */
void l2_change(struct l2 *l2);

/* VMCLEAR: L0 is to forget the eVMCS; the next entry is its first. */
void l2_clear(struct l2 *l2);

#endif
