/*
 * The machine: owns everything, and is the only place that knows the order of build, run, pause, resume,
 * reset and power-off.
 */
#ifndef AERIE_MACHINE_MACHINE_H
#define AERIE_MACHINE_MACHINE_H

#include "base/err.h"
#include "config/config.h"
#include "host/stats.h"
#include "state/file.h"

#include <stdbool.h>

struct device;
struct machine;

/* Builds all of it up to the first instruction. `config` is borrowed and must outlive the machine. */
int machine_create(const struct machine_config *config, struct machine **ret, struct err *err);
/*
 * The same machine, whose RAM and state come from elsewhere (machine_load_state): nothing of `boot` is read,
 * and its status is INMIGRATE, devices at rest. machine_run sets it going unless machine_pause is called
 * before. `ram_fd`: a file that RAM shall be a mapping of, borrowed, or -1; where that cannot be
 * (guest_memory_map_file) RAM is empty, and guest_memory_is_file tells.
 */
int machine_create_incoming(const struct machine_config *config, int ram_fd, struct machine **ret,
			    struct err *err);
/* The same, and its disks are still another machine's: machine_acquire opens them. */
int machine_create_absent(const struct machine_config *config, struct machine **ret, struct err *err);
void machine_destroy(struct machine *machine); /* NULL is fine */

/* May the guest run guests of its own? */
bool machine_nests(const struct machine *machine);

/*
 * Run until the guest powers off, exits through the debug port or crashes, or until SIGINT, SIGTERM or SIGHUP
 * arrives or the console's Ctrl-A x. SIGPWR presses the power button. On success *ret_exit_code is what the
 * process should exit with: 0 after power-off or by the operator's wish, (v << 1) | 1 from the debug exit
 * port. A crash or a host failure is an error. The guest starts at once unless machine_pause was called
 * before.
 */
int machine_run(struct machine *machine, int *ret_exit_code, struct err *err);

/*
 * What the machine is doing, by the names that QMP gives it (QAPI RunState). While it is not RUNNING no vCPU
 * runs and no device has a request in flight.
 */
enum machine_status {
	MACHINE_PRELAUNCH, /* built, not started (or restored with --paused) */
	MACHINE_RUNNING,   /* guest runs */
	MACHINE_PAUSED,	   /* by the operator */
	MACHINE_SAVE_VM,   /* a snapshot is taken */
	MACHINE_INMIGRATE, /* waits for what it shall be */
	MACHINE_FINISH_MIGRATE,
	MACHINE_POSTMIGRATE, /* runs elsewhere now */
	MACHINE_SHUTDOWN,
	MACHINE_PANICKED
};
const char *machine_status_name(enum machine_status status); /* "running", "paused", "save-vm", ... */
enum machine_status machine_status(const struct machine *machine);

/*
 * The machine's thread, the one in machine_run, only (its loop's callbacks are). Both may be called in any
 * status, and before machine_run: a machine that was paused then waits there for machine_continue. What the
 * guest had asked for when it was paused is done: a reset at once, so that nobody sees the machine in
 * between, its end by machine_run. A reset that comes later waits until the status is one of PRELAUNCH,
 * RUNNING and PAUSED.
 */
void machine_pause(struct machine *machine,
		   enum machine_status status); /* vCPUs park, devices come to rest */
void machine_continue(struct machine *machine);

/* What happens to the machine, for those who tell others (control socket). Called on the machine's thread. */
enum machine_notice {
	MACHINE_STOPPED, /* no longer RUNNING */
	MACHINE_RESUMED,
	MACHINE_WAS_RESET,
	MACHINE_POWERDOWN_ASKED,
	MACHINE_ENDS /* machine_run is about to return; the loop runs no more */
};
struct machine_observer {
	void (*notice)(struct machine_observer *observer, enum machine_notice notice);
	/* Of one device, a mask of enum device_news (devices/device.h): what came since the last time, which
	 * was a second ago or more. NULL: does not care. */
	void (*news)(struct machine_observer *observer, struct device *device, unsigned news);
	struct machine_observer *next; /* private to the machine */
};
void machine_observe(struct machine *machine, struct machine_observer *observer); /* borrowed */
void machine_unobserve(struct machine *machine,
		       struct machine_observer *observer); /* nothing if it is not there */

/* Why a machine was reset or ends, by the names of QAPI ShutdownCause; valid in those two notices. */
enum machine_cause {
	MACHINE_CAUSE_NONE,
	MACHINE_CAUSE_HOST_ERROR,
	MACHINE_CAUSE_HOST_QUIT,  /* "host-qmp-quit": machine_ask_end */
	MACHINE_CAUSE_HOST_RESET, /* "host-qmp-system-reset": machine_ask_reset */
	MACHINE_CAUSE_HOST_SIGNAL,
	MACHINE_CAUSE_HOST_UI,	      /* a key of the console */
	MACHINE_CAUSE_GUEST_SHUTDOWN, /* the first one that is the guest's doing */
	MACHINE_CAUSE_GUEST_RESET,
	MACHINE_CAUSE_GUEST_PANIC /* it cannot go on */
};
enum machine_cause machine_cause(const struct machine *machine);
const char *machine_cause_name(enum machine_cause cause);

/* What an operator may ask of it. The first two leave a note and return: machine_run acts. Any thread. */
void machine_ask_reset(struct machine *machine);
void machine_ask_end(struct machine *machine);
void machine_ask_powerdown(struct machine *machine); /* the machine's thread: presses the power button */

/*
 * KVM's figures (host/stats.h), borrowed, opened when first asked for: of vCPU number `vcpu`, or of the VM
 * with MACHINE_STATS_VM. The machine's thread; the machine may run. -ENOENT: no such vCPU; -ENOSYS: a kernel
 * without.
 */
enum { MACHINE_STATS_VM = -1 };
int machine_stats(struct machine *machine, int vcpu, struct kvm_stats **ret, struct err *err);
/* The most telling of them to the log, at level info. */
void machine_log_stats(struct machine *machine);

/*
 * All that the guest can see but RAM, as nodes of a state file (state/file.h) below its root:
 *
 *	/vcpus, /clock	cpu/vcpu.h
 *	/irqchip	irq/irqchip.h
 *	/pci-host	devices/pci.h
 *	/devices/nameN	instance N of the class `name`: its state table
 *
 * Save: the machine is paused (not RUNNING); the writer is new. -EBUSY: the guest has just asked for a reset
 * or an end, which machine_run has yet to act on. RAM does not change between this and the next
 * machine_continue, but a dirty tracker must be harvested after it: reading state can write to RAM.
 *
 * Load: into a machine from machine_create_incoming that never ran, after its RAM (or what stands for it) is
 * there. Everything is decoded and compared before anything is applied; a message names node and property.
 * When it fails the machine is good for nothing but machine_destroy. `went_on`: the guest's clocks jump over
 * the time since the save, as for one that moved; false: they stood still.
 */
int machine_save_state(struct machine *machine, struct state_writer *writer, struct err *err);
/* The vCPUs' nodes of it alone, in any status, for those who look on: vCPUs that run stop for it, unnoticed
 * by observers. */
int machine_save_vcpus(struct machine *machine, struct state_writer *writer, struct err *err);
int machine_load_state(struct machine *machine, const struct state_file *file, bool went_on, struct err *err);

/*
 * For a machine that moves; all on the machine's thread.
 *
 * peek: the state of now, without anybody being told that the guest stood still for so long; -EBUSY as above.
 * forget: undo a machine_load_state, which may then come again; RAM stays as it is. The machine never ran.
 * release, acquire: let go of what only one machine can have (disk images), written out; and open it again.
 * The machine is paused. -EBUSY: another machine has it. When acquire fails nothing is open. throttle: from
 * now on the vCPUs stand still for so many percent of the time (0 to 99), in slices; 0: none.
 */
int machine_peek_state(struct machine *machine, struct state_writer *writer, struct err *err);
int machine_forget_state(struct machine *machine, struct err *err);
int machine_release(struct machine *machine, struct err *err);
int machine_acquire(struct machine *machine, struct err *err);
int machine_throttle(struct machine *machine, unsigned percent, struct err *err);

/*
 * Tell the networks where the machine is, in rounds: the first at once, the second after `initial_ms`, each
 * further one `step_ms` later than that, but none later than `max_ms` (QEMU's AnnounceParameters). A machine
 * that does not run does it when it does. The machine's thread.
 */
struct machine_announce {
	uint32_t initial_ms, max_ms, rounds, step_ms;
};
extern const struct machine_announce machine_announce_default; /* 50, 550, 5, 100 */
/* For those who announce without parameters of their own; the default until then. */
void machine_set_announce(struct machine *machine, const struct machine_announce *params);
int machine_announce(struct machine *machine, const struct machine_announce *params, struct err *err);

/*
 * Post-copy: pages of RAM are still on their way, and who touches one stands until it has come, which may be
 * never. While that is so nothing here waits for a vCPU or a device: a reset or an end that the guest asks
 * for comes when RAM is whole; an end by the operator, or a guest that cannot go on, ends the process there
 * and then (exit code 1), as pulling the plug, after MACHINE_ENDS was told. Whoever may ask for something
 * that waits has to look at machine_is_partial first. The machine's thread; devices at rest when it begins.
 */
void machine_set_partial(struct machine *machine, bool partial);
bool machine_is_partial(const struct machine *machine);

/* Parts, borrowed, for the floors above. */
struct loop *machine_loop(struct machine *machine);
struct guest_memory *machine_memory(struct machine *machine);
const struct machine_config *machine_config(const struct machine *machine);
struct device *machine_device(struct machine *machine, size_t index); /* in registry order; NULL at the end */
/* Which instance of its class that one is, from 0. */
uint32_t machine_device_instance(const struct machine *machine, size_t index);
struct vcpus *machine_vcpus(struct machine *machine);

#endif
