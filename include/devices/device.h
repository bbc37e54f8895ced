/*
 * What every device is: a class (const: name, config, state table, functions) and instances made from it.
 *
 * All that the guest can see of a device lives in one `struct x_regs`, the struct of its state table. Reset
 * assigns a const image of it; save copies it out under the device's lock; restore checks a decoded copy,
 * assigns it and then re-creates its effects (interrupt level, timers). A failed restore changes nothing.
 * tests/devices/test_contract.c runs over the whole registry, so a new device is under test as soon as it is
 * listed.
 */
#ifndef AERIE_DEVICES_DEVICE_H
#define AERIE_DEVICES_DEVICE_H

#include "base/err.h"
#include "base/log.h"
#include "bus/bus.h"
#include "config/config.h"
#include "devices/chardev.h"
#include "devices/pci.h"
#include "host/iothread.h"
#include "host/loop.h"
#include "irq/irq.h"
#include "memory/memory.h"
#include "state/state.h"

#include <stdatomic.h>

/* What a device may ask of the machine. Any thread; returns at once, the machine acts after the access. */
enum machine_request {
	MACHINE_RESET,	   /* all of the machine, as the reset button */
	MACHINE_POWER_OFF, /* end with exit code 0 */
	MACHINE_EXIT,	   /* end with the given exit code (debug exit port) */
};

/* What a device tells whoever watches the machine. One bit for each kind: a flood of the same news is one. */
enum device_news {
	DEVICE_BALLOON_CHANGED = 1 << 0, /* the guest says that its balloon holds more, or less */
	DEVICE_READ_FAILED = 1 << 1,	 /* by the host's fault, whether the guest hears of it or not */
	DEVICE_WRITE_FAILED = 1 << 2,	 /* or a flush, or a discard */
	DEVICE_NO_SPACE = 1 << 3,	 /* with the former: the host's storage is full */
};

struct device;

/* Devices keep a copy; what it points to outlives them. */
struct device_services {
	const char *machine_name; /* for what a device derives from it; may be NULL */
	struct bus *bus;
	struct irq_sink *irq;
	struct loop *loop; /* the machine's own thread: legacy devices, consoles, timers */
	struct guest_memory *memory;
	int vm_fd; /* for devices with memory slots of their own (pmem); -1 without KVM */
	struct pci_bus *pci;
	/* The I/O threads. A device that its config does not place takes io_threads[index % io_thread_count].
	 */
	struct iothread **io_threads;
	size_t io_thread_count;
	uint32_t cpu_count; /* for devices with a queue for each vCPU; 0: unknown */
	void (*request)(void *owner, enum machine_request request, int exit_code);
	void *request_owner;
	/* `news`: of enum device_news. Any thread; returns at once. NULL: nobody listens. */
	void (*tell)(void *owner, struct device *device, unsigned news);
	void *tell_owner;
	struct console_keys keys;
	bool incoming; /* RAM comes from elsewhere and may be there already: create writes nothing to it */
	bool absent;   /* what can be only one machine's (images) is still another's: acquire opens it */
};

struct device_class {
	const char *name; /* unique in the registry; where there can be several, instance N is "nameN" */
	const struct state_table *state;
	/* The config of instance `index` of this class in this machine, or NULL at the end of them. */
	const void *(*config)(const struct machine_config *machine, size_t index);
	int (*create)(const void *config, size_t index, const struct device_services *services,
		      struct device **ret, struct err *err);
	void (*destroy)(struct device *device); /* NULL is fine */
	void (*reset)(struct device *device);
	/* `regs` has state->size bytes. */
	void (*save)(struct device *device, void *regs);
	int (*restore)(struct device *device, const void *regs, struct err *err);
	/*
	 * Come to rest: nothing of what was taken from the guest is unfinished afterwards, and nothing is
	 * taken until resume, whatever save, restore and reset do in between. Strictly in pairs. Output has
	 * left this process as far as its reader takes it (chardev_flush). NULL both: the device lives on the
	 * machine's thread, which is the caller's, and has nothing under way elsewhere; NULL resume: nor does
	 * it take up anything again.
	 */
	void (*quiesce)(struct device *device);
	void (*resume)(struct device *device);
	/*
	 * What the guest has stored is on the host's storage, the part of it that lay in our memory, too.
	 * Waits for that; not on an I/O thread. NULL: nothing is stored here.
	 */
	int (*flush)(struct device *device, struct err *err);
	/*
	 * What can be only one machine's changes hands: release writes it out and lets it go, acquire opens
	 * it (-EBUSY: the other machine still has it). At rest; -errno changes nothing. NULL both: there is
	 * nothing of the kind.
	 */
	int (*release)(struct device *device, struct err *err);
	int (*acquire)(struct device *device, struct err *err);
	/*
	 * The machine has just come here: tell the host's networks. Returns at once; a device that is still
	 * at rest does it as soon as it goes on. NULL: there is none to tell.
	 */
	void (*announce)(struct device *device);
	void (*power_button)(struct device *device); /* NULL for all but the one that has it; any thread */
};

/*
 * What went wrong between a device and its guest since this process began; a reset, a snapshot and a move do
 * not know of it. Any thread counts and looks (machine/counts.h says who shows it).
 */
struct device_counts {
	struct log_limit guest_errors; /* what the device refused, or what made it need a reset */
	struct log_limit backend_lost; /* the program that does its work went away (vhost-user) */
	_Atomic uint64_t needs_reset;  /* how often it came to DEVICE_NEEDS_RESET (virtio) */
};

/* The head of every device's own struct. */
struct device {
	const struct device_class *class;
	struct device_counts counts;
	_Atomic unsigned news; /* told, and not yet passed on by the machine */
};

/* The one list of devices, in the order of building (and, reversed, of destroying); ends with NULL. */
extern const struct device_class *const device_registry[];

#endif
