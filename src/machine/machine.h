/* The machine's parts, as build.c and lifecycle.c share them. */
#ifndef AERIE_MACHINE_PRIVATE_H
#define AERIE_MACHINE_PRIVATE_H

#include "bus/bus.h"
#include "cpu/vcpu.h"
#include "devices/device.h"
#include "host/loop.h"
#include "irq/irqchip.h"
#include "irq/msi.h"
#include "machine/machine.h"
#include "memory/memory.h"

#include <pthread.h>

enum { MACHINE_DEVICES_MAX = 64 };

/* Why the machine should stop what it is doing; the first one that ends it wins, a reset can be overtaken. */
enum machine_event { EVENT_NONE, EVENT_RESET, EVENT_END, EVENT_CRASH };

/* Telling the networks that the machine is here: rounds, with pauses between them. */
struct announcement {
	struct machine_announce params; /* for the next one that has none of its own */
	struct machine_announce now;	/* of the one under way */
	uint32_t left;			/* rounds */
	bool waits;			/* for the machine to run */
	struct loop_timer *timer;	/* NULL: never asked for */
};

struct machine {
	const struct machine_config *config; /* borrowed */
	int kvm_fd, vm_fd, signal_fd;
	int ram_fd; /* borrowed while it is built: what RAM is a mapping of; -1: nothing */
	struct loop *loop;
	struct bus *bus;
	struct irqchip *irqchip;
	struct msi *msi;
	struct pci_bus *pci;
	struct guest_memory *memory;
	struct vcpus *vcpus;
	struct device *devices[MACHINE_DEVICES_MAX];
	size_t device_count;
	struct loop_op signal_op;
	struct iothread *io_threads[CONFIG_IO_THREADS_MAX];
	size_t io_thread_count;
	bool vcpu_stats_open;
	struct kvm_stats *stats; /* of the VM; opened when first asked for */

	pthread_mutex_t lock; /* guards the three below: any thread may leave an event */
	enum machine_event event;
	enum machine_cause event_cause;
	int exit_code;
	struct loop_op event_op;

	/* The machine's thread only. */
	enum machine_status status;
	enum machine_cause cause;	   /* of the event that is acted on */
	bool held;			   /* paused before machine_run */
	bool at_rest;			   /* devices are quiesced */
	bool incoming;			   /* made to be loaded with a state from elsewhere */
	_Atomic bool partial;		   /* pages of RAM are on their way; others may look */
	bool absent;			   /* its images are another machine's */
	struct machine_throttle *throttle; /* NULL: never asked for (handover.c) */
	struct machine_observer *observers;
	struct announcement announcement; /* announce.c */

	/* news.c */
	struct loop_op news_op;	 /* posted by whoever has some */
	struct loop_op later_op; /* what came too soon after the last */
	uint64_t news_ns;	 /* when observers were told last; 0: never */
};

/* Its state is being read or written by somebody: a reset has to wait. */
bool machine_is_frozen(const struct machine *machine);
/* vCPUs are parked: do the reset that the guest had asked for, so that nobody sees the machine in between. */
void machine_settle(struct machine *machine);
/* The vCPUs run, if the machine does. Not when somebody left a note: what asked for it must not run on. */
void machine_go(struct machine *machine);
void machine_tell(struct machine *machine, enum machine_notice notice);

/* Devices come to rest, and take up work again; nothing when they have (state.c). The vCPUs are parked. */
void machine_quiesce_devices(struct machine *machine);
void machine_resume_devices(struct machine *machine);

/* Of include/machine/counts.h those that are not 0, to the log at level info. */
void machine_log_counts(const struct machine *machine);

void machine_throttle_free(struct machine *machine);
void machine_announce_go(struct machine *machine); /* it runs: begin what had to wait for that */
void machine_announce_free(struct machine *machine);

/* Everything but RAM is as at power-on. The vCPUs are parked. */
int machine_reset_parts(struct machine *machine, struct err *err);

/* What devices, vCPUs and the console ask for. Any thread. */
void machine_request(void *owner, enum machine_request request, int exit_code);
void machine_triple_fault(void *owner);
void machine_crashed(void *owner);
void machine_console(void *owner, enum console_action action);

/* What devices tell (device_services.tell). Any thread. */
void machine_news(void *owner, struct device *device, unsigned news);
void machine_news_init(struct machine *machine);
void machine_news_end(struct machine *machine); /* no device can tell any more */

/* Loop callbacks, set by build. */
void machine_on_event(struct loop_op *op, int res);
void machine_on_signal(struct loop_op *op, int res);

/* Kernel, tables and first registers; at the start and at each reset. */
int machine_load(struct machine *machine, struct err *err);

#endif
