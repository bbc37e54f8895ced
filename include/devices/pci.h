/*
 * PCI: one host bridge, bus 0, configuration mechanism #1 and ECAM (PCI Local Bus 3.0; PCI Express
 * Base 5.0, 7.2).
 *
 * A device makes a function with its ids and BARs. The bus keeps the configuration space, sizes and moves
 * BARs (the guest may do so at any time), holds the MSI-X table and pending bits, and routes INTx. All
 * functions marked "any thread" may be called while vCPUs touch the same function.
 */
#ifndef AERIE_DEVICES_PCI_H
#define AERIE_DEVICES_PCI_H

#include "base/err.h"
#include "bus/bus.h"
#include "irq/irq.h"
#include "irq/msi.h"
#include "state/state.h"

#include <stdbool.h>
#include <stdint.h>

enum { PCI_SLOTS = 32, PCI_BARS = 6, PCI_MSIX_MAX = 128 };

struct pci_bus;
struct pci_function;

/* `ram_end_gpa`: 64-bit BARs lie above it (layout.h). Adds its ports and ECAM to `bus`. All borrowed. */
int pci_bus_create(struct bus *bus, struct irq_sink *irq, struct msi_sink *msi, uint64_t ram_end_gpa,
		   struct pci_bus **ret, struct err *err);
void pci_bus_destroy(struct pci_bus *pci); /* all functions are gone; NULL is fine */

/* The host bridge as the guest sees it: 0:0.0 and the configuration address. Functions are their devices'. */
struct pci_host_regs {
	uint32_t config_address;
};
extern const struct state_table pci_host_state;
void pci_bus_reset(struct pci_bus *pci);
void pci_bus_save(struct pci_bus *pci, struct pci_host_regs *regs);
int pci_bus_restore(struct pci_bus *pci, const struct pci_host_regs *regs, struct err *err);

/*
 * A BAR in memory: accesses go to `ops` of `owner`, as a bus range. size 0: none. A power of two, at least 16
 * bytes. There are no BARs in I/O space: PCI Express asks for none, and virtio 1 needs none.
 */
struct pci_bar_spec {
	uint64_t size;
	bool is_64bit; /* takes the next BAR's place too */
	bool prefetchable;
	const struct bus_ops *ops;
	void *owner;
	const char *name;
};

struct pci_spec {
	const char *name; /* for messages */
	uint32_t slot;	  /* 1 to 31, or 0 for the first free one */
	uint16_t vendor_id, device_id, subsystem_vendor_id, subsystem_id;
	uint8_t revision;
	uint32_t class_code; /* 24 bits: class, subclass, interface */
	struct pci_bar_spec bars[PCI_BARS];
	uint16_t msix_vectors; /* 0: no MSI-X */
	uint8_t msix_bar;      /* its index: the bus makes this BAR with table and pending bits */
	bool has_intx;
	/* The guest wrote within a capability that was added with a write mask; NULL: nobody cares. */
	void (*capability_written)(void *owner, uint8_t offset, unsigned size);
	/* The guest is about to read it: refresh its bytes by pci_capability_set. */
	void (*capability_read)(void *owner, uint8_t offset, unsigned size);
	/* Function-level reset: all that the guest can see of the device is to be as after its creation, and
	 * no interrupt comes any more; what that takes may go on for a while (100 ms). The function's own
	 * registers are reset by the bus. NULL: no such reset is offered. */
	void (*reset)(void *owner);
	void *owner;
};

/*
 * -EEXIST: the slot is taken (the message names both); -ENOSPC: no slot or no address space is left. The
 * function is a PCI Express endpoint of the root complex, with the power states D0 and D3hot. Its BARs have
 * addresses from the start, as if firmware had been there, and memory decoding is off. `spec` is copied, what
 * it points to is borrowed.
 */
int pci_function_create(struct pci_bus *pci, const struct pci_spec *spec, struct pci_function **ret,
			struct err *err);
void pci_function_destroy(struct pci_function *function); /* NULL is fine */
void pci_function_reset(struct pci_function *function);	  /* as after pci_function_create */
uint32_t pci_function_slot(const struct pci_function *function);

/*
 * Append a capability: id and the bytes after the next pointer (`body`, `len`). `writable` has `len` bytes of
 * masks, or is NULL for read only. Returns the offset of the capability's id, or -ENOSPC. Before vCPUs run.
 * pci_capability_set changes bytes until the next reset; those without a mask must be the same again before
 * a restore.
 */
int pci_capability_add(struct pci_function *function, uint8_t id, const void *body, uint8_t len,
		       const uint8_t *writable);
void pci_capability_get(struct pci_function *function, uint8_t offset, void *data, unsigned size);
void pci_capability_set(struct pci_function *function, uint8_t offset, const void *data, unsigned size);

/* Interrupts, any thread. A masked or disabled vector becomes pending, as the specification says (6.8.2). */
void pci_msix_signal(struct pci_function *function, uint16_t vector);
bool pci_msix_enabled(struct pci_function *function);
/*
 * From now on each write to `event_fd` (an eventfd, borrowed) signals this vector, without us where KVM can;
 * follows what the guest does to the vector. -1: no longer. Any thread, but not from the callbacks above. An
 * event fd is attached to one vector at a time: first detach it from the old one. 0 or -errno.
 */
int pci_msix_attach(struct pci_function *function, uint16_t vector, int event_fd);
/* Asserted only while the guest has neither disabled INTx nor enabled MSI-X. */
void pci_intx_set(struct pci_function *function, bool level);

/*
 * A doorbell inside a BAR: a write of `size` bytes (0: of any size) at `offset` makes `event_fd` readable,
 * without an exit to us where KVM can. Follows the BAR when the guest moves or disables it, and ends with the
 * function.
 */
int pci_doorbell_add(struct pci_function *function, unsigned bar, uint64_t offset, unsigned size,
		     int event_fd, struct err *err);

/*
 * State of a function, as part of its device's: a member of the device's regs struct, with
 * PCI_STATE_FIELDS(struct x_regs, member) among the rows of its table. Restore checks that the file describes
 * this function (ids, capabilities, BARs), then puts BARs, interrupts and doorbells where they were; -EINVAL
 * changes nothing.
 */
enum { PCI_CONFIG_BYTES = 256, PCI_MSIX_DWORDS = PCI_MSIX_MAX * 4, PCI_MSIX_WORDS = PCI_MSIX_MAX / 64 };
struct pci_regs {
	uint8_t config[PCI_CONFIG_BYTES];
	uint32_t msix_table[PCI_MSIX_DWORDS]; /* address, address high, data, control of each vector */
	uint64_t msix_pending[PCI_MSIX_WORDS];
	bool intx;
	uint8_t slot; /* where the guest found it */
};
#define PCI_STATE_FIELDS(s, m)                                                                               \
	STATE_ARRAY(s, m.config), STATE_ARRAY(s, m.msix_table), STATE_ARRAY(s, m.msix_pending),              \
		STATE_FIELD(s, m.intx), STATE_FIELD(s, m.slot)

void pci_function_save(struct pci_function *function, struct pci_regs *regs);
int pci_function_restore(struct pci_function *function, const struct pci_regs *regs, struct err *err);

#endif
