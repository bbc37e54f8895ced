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

#include <stdbool.h>
#include <stdint.h>

enum { PCI_SLOTS = 32, PCI_BARS = 6, PCI_MSIX_MAX = 128 };

struct pci_bus;
struct pci_function;

/* `ram_end_gpa`: 64-bit BARs lie above it. The bus adds its ports and ECAM to `bus`. All borrowed. */
int pci_bus_create(struct bus *bus, struct irq_sink *irq, struct msi_sink *msi, uint64_t ram_end_gpa,
		   struct pci_bus **ret, struct err *err);
void pci_bus_destroy(struct pci_bus *pci); /* all functions are gone; NULL is fine */
void pci_bus_reset(struct pci_bus *pci);   /* the host bridge; functions are reset by their devices */

/* A BAR: accesses go to `ops` of `owner`, as a bus range. size 0: none. A power of two, at least 16 bytes. */
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
	/* An MSI-X vector was written, masked or unmasked: for owners that attached an event fd. May be NULL.
	 */
	void (*msix_changed)(void *owner, uint16_t vector);
	void *owner;
};

/* -EEXIST: the slot is taken (the message names both). */
int pci_function_create(struct pci_bus *pci, const struct pci_spec *spec, struct pci_function **ret,
			struct err *err);
void pci_function_destroy(struct pci_function *function); /* NULL is fine */
void pci_function_reset(struct pci_function *function);	  /* as at power-on: BARs 0, command 0, MSI-X off */
uint32_t pci_function_slot(const struct pci_function *function);

/*
 * Append a capability: id and the bytes after the next pointer (`body`, `len`). `writable` has `len` bytes of
 * masks, or is NULL for read only. Returns the offset of the capability's id, or -ENOSPC.
 */
int pci_capability_add(struct pci_function *function, uint8_t id, const void *body, uint8_t len,
		       const uint8_t *writable);
void pci_capability_get(const struct pci_function *function, uint8_t offset, void *data, unsigned size);
void pci_capability_set(struct pci_function *function, uint8_t offset, const void *data, unsigned size);

/* Interrupts, any thread. A masked or disabled vector becomes pending, as the specification says. */
void pci_msix_signal(struct pci_function *function, uint16_t vector);
bool pci_msix_enabled(const struct pci_function *function);
bool pci_msix_get(const struct pci_function *function, uint16_t vector, uint64_t *address,
		  uint32_t *data); /* false while the vector is masked or MSI-X is off */
void pci_intx_set(struct pci_function *function, bool level);

/*
 * A doorbell inside a BAR: a write of `size` bytes at `offset` makes `event_fd` readable, without an exit to
 * us where KVM can. Follows the BAR when the guest moves or disables it.
 */
int pci_doorbell_add(struct pci_function *function, unsigned bar, uint64_t offset, unsigned size,
		     int event_fd, struct err *err);

#endif
