/*
 * KVM's interrupt chips in the kernel: two 8259, one IOAPIC with 24 pins, a local APIC for each vCPU, the
 * 8254 timer (api.rst 4.24, 4.71). To be made after the VM and before its vCPUs.
 */
#ifndef AERIE_IRQ_IRQCHIP_H
#define AERIE_IRQ_IRQCHIP_H

#include "base/err.h"
#include "irq/irq.h"

struct irqchip;

/* `vm_fd` is borrowed. Remembers the chips' state at power-on for irqchip_reset. */
int irqchip_create(int vm_fd, struct irqchip **ret, struct err *err);
void irqchip_destroy(struct irqchip *irqchip); /* NULL is fine */

struct irq_sink *irqchip_sink(struct irqchip *irqchip);

/* Back to the state at power-on, all lines low. No vCPU may run. */
int irqchip_reset(struct irqchip *irqchip, struct err *err);

#endif
