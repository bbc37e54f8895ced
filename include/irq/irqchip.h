/*
 * KVM's interrupt chips in the kernel: two 8259, one IOAPIC with 24 pins, a local APIC for each vCPU, the
 * 8254 timer (api.rst 4.24, 4.71). To be made after the VM and before its vCPUs.
 */
#ifndef AERIE_IRQ_IRQCHIP_H
#define AERIE_IRQ_IRQCHIP_H

#include "base/err.h"
#include "irq/irq.h"
#include "state/state.h"

#include <linux/kvm.h>

struct irqchip;

/* `vm_fd` is borrowed. Remembers the chips' state at power-on for irqchip_reset. */
int irqchip_create(int vm_fd, struct irqchip **ret, struct err *err);
void irqchip_destroy(struct irqchip *irqchip); /* NULL is fine */

struct irq_sink *irqchip_sink(struct irqchip *irqchip);

/* Back to the state at power-on, all lines low. No vCPU may run. */
int irqchip_reset(struct irqchip *irqchip, struct err *err);

/*
 * All of the chips, as KVM hands it out (struct kvm_pic_state, kvm_ioapic_state, kvm_pit_state2; the local
 * APICs are the vCPUs'). Levels of lines are not in it: each device drives its own anew when it is restored,
 * which must therefore come after the chips. No vCPU may run.
 */
struct irqchip_regs {
	uint8_t pic_master[sizeof(struct kvm_pic_state)];
	uint8_t pic_slave[sizeof(struct kvm_pic_state)];
	uint8_t ioapic[sizeof(struct kvm_ioapic_state)];
	uint8_t pit[sizeof(struct kvm_pit_state2)];
};
extern const struct state_table irqchip_state;
int irqchip_save(struct irqchip *irqchip, struct irqchip_regs *regs, struct err *err);
int irqchip_restore(struct irqchip *irqchip, const struct irqchip_regs *regs, struct err *err);

#endif
