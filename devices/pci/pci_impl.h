/*
 * The PCI bus and its functions, as the files of this folder share them.
 *
 * A function's lock guards its registers and what follows from them (where its BARs are, what its interrupts
 * are). Callbacks to the function's owner are made without it, but within `access`: what an owner refreshes
 * for a read is what this read returns, and what it is told of is what was written.
 */
#ifndef AERIE_DEVICES_PCI_IMPL_H
#define AERIE_DEVICES_PCI_IMPL_H

#include "devices/pci.h"

#include <pthread.h>
#include <stdatomic.h>

/* Type 0 configuration header (PCI 3.0, 6.1 and 6.2). */
enum {
	PCI_VENDOR_ID = 0x00,
	PCI_DEVICE_ID = 0x02,
	PCI_COMMAND = 0x04,
	PCI_STATUS = 0x06,
	PCI_REVISION = 0x08,
	PCI_CLASS = 0x09, /* interface, subclass, class */
	PCI_CACHE_LINE = 0x0c,
	PCI_BAR0 = 0x10,
	PCI_BAR_END = 0x28,
	PCI_SUBSYSTEM_VENDOR_ID = 0x2c,
	PCI_SUBSYSTEM_ID = 0x2e,
	PCI_CAPABILITIES = 0x34,
	PCI_INTERRUPT_LINE = 0x3c,
	PCI_INTERRUPT_PIN = 0x3d,
	PCI_HEADER_END = 0x40,
	PCI_ECAM_BYTES = 4096, /* of configuration space, of which we use the first 256 */

	PCI_COMMAND_MEMORY = 1 << 1,
	PCI_COMMAND_MASTER = 1 << 2,
	PCI_COMMAND_PARITY = 1 << 6,
	PCI_COMMAND_SERR = 1 << 8,
	PCI_COMMAND_INTX_OFF = 1 << 10,
	PCI_STATUS_INTX = 1 << 3,
	PCI_STATUS_CAPABILITIES = 1 << 4,

	PCI_BAR_64BIT = 1 << 2,
	PCI_BAR_PREFETCHABLE = 1 << 3,
	PCI_BAR_FLAGS = 0xf,
	PCI_BAR_BYTES_MIN = 16,

	PCI_CAPABILITY_POWER = 0x01,
	PCI_CAPABILITY_MSIX = 0x11,
	PCI_CAPABILITY_EXPRESS = 0x10,
};

struct pci_bar {
	uint64_t size;	   /* 0: none */
	uint64_t home_gpa; /* after reset */
	bool is_64bit;
	struct bus_mapping *mapping;
};

struct pci_vector {
	int event_fd; /* attached, -1: none */
	bool live;    /* the message sink signals it by itself, with this message: */
	uint64_t address;
	uint32_t data;
};

struct pci_function {
	struct pci_bus *pci;
	struct pci_spec spec;
	uint32_t slot;
	struct irq_line line;
	struct pci_bar bars[PCI_BARS];
	uint8_t image[PCI_CONFIG_BYTES];    /* config after reset */
	uint8_t writable[PCI_CONFIG_BYTES]; /* bits that the guest can change */
	uint64_t owned;			    /* a bit for each dword in a capability of the owner's */
	unsigned next_at;		    /* where the next capability's offset is written */
	unsigned free_at;		    /* where the next capability can stand */
	unsigned msix_at;		    /* the MSI-X capability, 0: none */
	unsigned express_at, power_at;	    /* the same */

	pthread_mutex_t
		access; /* to configuration space, one at a time; taken before the owner's locks and `lock` */
	pthread_mutex_t lock; /* of what follows, and of the BARs' places */
	struct pci_regs regs;
	bool level; /* of INTx, as the sink knows it */
	struct pci_vector vectors[PCI_MSIX_MAX];
};

struct pci_bus {
	struct bus *bus;
	struct irq_sink *irq;
	struct msi_sink *msi;
	uint64_t window64_gpa;
	pthread_mutex_t lock; /* who comes and goes */
	_Atomic(struct pci_function *) slots[PCI_SLOTS];
	_Atomic uint32_t address; /* the configuration address at 0xcf8 */
};

/* function.c: with `is_host`, the host bridge in slot 0: no PCI Express capability. */
int pci_function_make(struct pci_bus *pci, const struct pci_spec *spec, bool is_host,
		      struct pci_function **ret, struct err *err);

/* As pci_capability_add, for capabilities that the bus itself looks after. */
int capability_append(struct pci_function *function, uint8_t id, const void *body, uint8_t len,
		      const uint8_t *writable);

/* express.c */
void express_create(struct pci_function *function);
/* Does this write to configuration space begin a function-level reset? */
bool express_asks_reset(const struct pci_function *function, unsigned offset, unsigned size, uint32_t value);
void power_create(struct pci_function *function);
/* Under the lock. D3hot: no BAR decodes and no interrupt leaves the function. */
bool function_awake(const struct pci_function *function);
uint8_t power_control(const struct pci_function *function);
/* Under the lock: the power state may have been written; `before` is what power_control was. */
void power_written(struct pci_function *function, uint8_t before);

/* config.c. `offset` is below PCI_ECAM_BYTES, the access does not cross a dword. Any thread. */
uint32_t pci_config_read(struct pci_function *function, unsigned offset, unsigned size);
void pci_config_write(struct pci_function *function, unsigned offset, unsigned size, uint32_t value);
void intx_update(struct pci_function *function); /* under the lock: drive the line as the registers say */

/* bars.c. Places are given under the bus's lock, the rest is under the function's. */
int bars_create(struct pci_function *function, struct err *err);
void bars_destroy(struct pci_function *function);
void bars_update(struct pci_function *function);

/* msix.c */
int msix_create(struct pci_function *function, struct err *err); /* before bars_create: it makes one */
void msix_clear(struct pci_function *function);			 /* under the lock: as after reset */
void msix_update(struct pci_function *function); /* under the lock: after any change of the registers */
void msix_detach_all(struct pci_function *function);
int msix_check(const struct pci_function *function, const struct pci_regs *regs, struct err *err);
bool msix_usable(const struct pci_function *function); /* under the lock: MSI-X is on */

#endif
