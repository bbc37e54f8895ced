/*
 * Message-signalled interrupts: an address and a value that the guest chose, written by a device
 * (PCI 3.0, 6.8). Behind the sink is KVM, or a recorder in a test.
 */
#ifndef AERIE_IRQ_MSI_H
#define AERIE_IRQ_MSI_H

#include "base/err.h"

#include <stdint.h>

struct msi_sink {
	/* Any thread. A message to nowhere is the guest's mistake and is dropped. */
	void (*signal)(struct msi_sink *sink, uint64_t address, uint32_t data);
	/*
	 * For devices whose work is done elsewhere (vhost-user): from now on each write to `event_fd` is this
	 * message, without us. Replaces what was there; address 0 takes it away. 0 or -errno.
	 */
	int (*attach)(struct msi_sink *sink, int event_fd, uint64_t address, uint32_t data);
};

/*
 * Messages by KVM (api.rst 4.70, KVM_SIGNAL_MSI; 4.75, KVM_IRQFD). Sets the VM's interrupt routes (4.52),
 * those of the interrupt chips included, so it is made after the chips. `vm_fd` is borrowed.
 */
struct msi;
int msi_create(int vm_fd, struct msi **ret, struct err *err);
void msi_destroy(struct msi *msi); /* NULL is fine */
struct msi_sink *msi_get_sink(struct msi *msi);
uint64_t msi_lost_count(const struct msi *msi); /* messages to nowhere; any thread */

#endif
