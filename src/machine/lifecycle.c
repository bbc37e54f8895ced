/*
 * Running, resetting and ending.
 *
 * Whoever wants something of the machine (a device, a triple fault, a signal, a key) leaves an event; the
 * loop's thread acts on it with all vCPUs parked. Requests also kick the vCPUs at once, so that a guest which
 * asked for a reset does not run on until the loop gets its turn.
 */
#include "base/cleanup.h"
#include "base/log.h"
#include "devices/chardev.h"
#include "devices/console.h"
#include "machine.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

/* Leave a note for machine_run and stop the vCPUs. Any thread. */
static void leave(struct machine *machine, enum machine_event event, enum machine_cause cause, int exit_code)
{
	pthread_mutex_lock(&machine->lock);
	/* An end that waits for pages gives way to the operator's, which does not. */
	bool overrides = machine->partial && event == EVENT_END && cause < MACHINE_CAUSE_GUEST_SHUTDOWN;
	if (event > machine->event || (overrides && event == machine->event)) {
		machine->event = event;
		machine->event_cause = cause;
		machine->exit_code = exit_code;
	}
	pthread_mutex_unlock(&machine->lock);
	vcpus_kick(machine->vcpus);
	loop_post(machine->loop, &machine->event_op);
}

void machine_request(void *owner, enum machine_request request, int exit_code)
{
	switch (request) {
	case MACHINE_RESET:
		leave(owner, EVENT_RESET, MACHINE_CAUSE_GUEST_RESET, 0);
		break;
	case MACHINE_POWER_OFF:
		leave(owner, EVENT_END, MACHINE_CAUSE_GUEST_SHUTDOWN, 0);
		break;
	case MACHINE_EXIT:
		leave(owner, EVENT_END, MACHINE_CAUSE_GUEST_SHUTDOWN, exit_code);
		break;
	}
}

void machine_triple_fault(void *owner)
{
	leave(owner, EVENT_RESET, MACHINE_CAUSE_GUEST_RESET, 0);
}

void machine_crashed(void *owner)
{
	leave(owner, EVENT_CRASH, MACHINE_CAUSE_GUEST_PANIC, 0);
}

void machine_ask_reset(struct machine *machine)
{
	leave(machine, EVENT_RESET, MACHINE_CAUSE_HOST_RESET, 0);
}

void machine_ask_end(struct machine *machine)
{
	leave(machine, EVENT_END, MACHINE_CAUSE_HOST_QUIT, 0);
}

void machine_ask_powerdown(struct machine *machine)
{
	machine_tell(machine, MACHINE_POWERDOWN_ASKED);
	for (size_t i = 0; i < machine->device_count; i++)
		if (machine->devices[i]->class->power_button)
			machine->devices[i]->class->power_button(machine->devices[i]);
}

static void machine_window_changed(struct machine *machine)
{
	for (size_t i = 0; i < machine->device_count; i++)
		console_window_changed(machine->devices[i]);
}

void machine_console(void *owner, enum console_action action)
{
	struct machine *machine = owner;
	switch (action) {
	case CONSOLE_QUIT:
		leave(machine, EVENT_END, MACHINE_CAUSE_HOST_UI, 0);
		break;
	case CONSOLE_RESET:
		leave(machine, EVENT_RESET, MACHINE_CAUSE_HOST_UI, 0);
		break;
	case CONSOLE_POWER_BUTTON:
		machine_ask_powerdown(machine);
		break;
	}
}

void machine_on_signal(struct loop_op *op, int res)
{
	struct machine *machine = container_of(op, struct machine, signal_op);
	struct signalfd_siginfo info;
	if (res == -ECANCELED)
		return;
	while (read(machine->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		if (info.ssi_signo == (uint32_t)SIGPWR)
			machine_ask_powerdown(machine);
		else if (info.ssi_signo == (uint32_t)SIGWINCH)
			machine_window_changed(machine);
		else
			leave(machine, EVENT_END, MACHINE_CAUSE_HOST_SIGNAL, 0);
	}
}

static enum machine_event machine_take_event(struct machine *machine, int *exit_code)
{
	pthread_mutex_lock(&machine->lock);
	enum machine_event event = machine->event;
	if (event == EVENT_RESET && machine_is_frozen(machine)) {
		pthread_mutex_unlock(&machine->lock); /* whoever thaws it sees to that */
		return EVENT_NONE;
	}
	machine->event = EVENT_NONE;
	machine->cause = machine->event_cause;
	*exit_code = machine->exit_code;
	pthread_mutex_unlock(&machine->lock);
	return event;
}

/*
 * vCPUs and devices may stand before pages that never come, with requests half read: they must neither be
 * waited for nor go on with anything else in those pages' place. So the process ends with them as they are.
 */
static void machine_pull_plug(struct machine *machine)
{
	bool began = machine->status != MACHINE_INMIGRATE;
	machine->status = MACHINE_SHUTDOWN;
	log_error("the machine ends (%s) before all of its memory has come%s",
		  machine_cause_name(machine->cause), began ? ": the guest is lost" : "");
	machine_tell(machine, MACHINE_ENDS);
	chardev_restore_terminal();
	_exit(EXIT_FAILURE);
}

/* The loop ends for every event; machine_run acts and, after a reset, runs it again. */
void machine_on_event(struct loop_op *op, int res)
{
	struct machine *machine = container_of(op, struct machine, event_op);
	(void)res;
	if (!machine->partial) {
		loop_quit(machine->loop);
		return;
	}
	pthread_mutex_lock(&machine->lock);
	bool waits = machine->event == EVENT_NONE || machine->event == EVENT_RESET ||
		     (machine->event == EVENT_END && machine->event_cause >= MACHINE_CAUSE_GUEST_SHUTDOWN);
	machine->cause = machine->event_cause;
	pthread_mutex_unlock(&machine->lock);
	if (!waits)
		machine_pull_plug(machine);
}

struct register_wish {
	struct loop *loop;
	const struct iovec *regions;
	unsigned count;
};

static int register_memory_here(void *arg)
{
	const struct register_wish *wish = arg;
	return loop_register_memory(wish->loop, wish->regions, wish->count);
}

/*
 * The I/O threads' rings find pages faster when they know all of RAM beforehand. That pins all of it, so it
 * is done only where the operator wants all of it to be there anyway, and nobody gives pages back (a
 * balloon) or has them come when they are touched (a lazy restore). Not before the machine runs: a restore
 * may put other pages in their place.
 */
static void register_memory(struct machine *machine, bool known)
{
	const struct guest_region *regions;
	struct iovec iov[2];
	unsigned count = (unsigned)guest_memory_regions(machine->memory, &regions);
	bool fits = machine->config->memory.prealloc && count <= ARRAY_LEN(iov) &&
		    !guest_memory_is_file(machine->memory);
	if (machine->absent && machine->config->memory.shared)
		fits = false; /* its RAM may be handed over by another process: other pages then */
	for (size_t i = 0; i < machine->config->device_count; i++)
		fits = fits && machine->config->devices[i].type != DEVICE_BALLOON;
	for (unsigned i = 0; i < count && fits; i++)
		iov[i] = (struct iovec){regions[i].host, regions[i].size};
	for (size_t i = 0; i < machine->io_thread_count && fits; i++) {
		struct register_wish wish = {iothread_loop(machine->io_threads[i]), iov, known ? count : 0};
		int r = iothread_call(machine->io_threads[i], register_memory_here, &wish);
		log_debug("I/O thread %zu: RAM is %s%s", i + 1,
			  r < 0	  ? "not registered: "
			  : known ? "registered"
				  : "not registered",
			  r < 0 ? strerror(-r) : "");
	}
}

void machine_set_partial(struct machine *machine, bool partial)
{
	if (machine->partial == partial)
		return;
	if (partial)
		register_memory(machine, false);
	machine->partial = partial;
	if (partial)
		return;
	register_memory(machine, true);
	loop_post(machine->loop, &machine->event_op); /* what had to wait; harmless when there is nothing */
}

bool machine_is_partial(const struct machine *machine)
{
	return machine->partial;
}

/* vCPUs first, since nothing else may change under a running guest; then the chips, whose lines the devices
 * then drive anew. */
int machine_reset_parts(struct machine *machine, struct err *err)
{
	int r = vcpus_reset(machine->vcpus, err);
	if (r == 0)
		r = irqchip_reset(machine->irqchip, err);
	if (r < 0)
		return err_prepend(err, "reset");
	pci_bus_reset(machine->pci);
	for (size_t i = 0; i < machine->device_count; i++)
		machine->devices[i]->class->reset(machine->devices[i]);
	return 0;
}

/* As pressing the button. The kernel is loaded again, because the guest may have written over it; RAM is
 * otherwise left as it is, as on a PC. */
static int machine_reset(struct machine *machine, struct err *err)
{
	int r = machine_reset_parts(machine, err);
	return r < 0 ? r : machine_load(machine, err);
}

void machine_settle(struct machine *machine)
{
	struct err err = ERR_INIT;
	pthread_mutex_lock(&machine->lock);
	bool reset = machine->event == EVENT_RESET && machine->config->on_reset == ON_RESET_RESTART;
	if (reset) {
		machine->event = EVENT_NONE;
		machine->cause = machine->event_cause;
	}
	pthread_mutex_unlock(&machine->lock);
	if (!reset)
		return;
	if (machine_reset(machine, &err) == 0) {
		machine_tell(machine, MACHINE_WAS_RESET);
		return;
	}
	log_error("%s", err.text);
	leave(machine, EVENT_CRASH, MACHINE_CAUSE_HOST_ERROR, 0);
}

/* Act on what was left while the loop ran, vCPUs parked. Returns true to go on. */
static bool machine_act(struct machine *machine, int *ret_exit_code, int *ret_error, struct err *err)
{
	enum machine_event event = machine_take_event(machine, ret_exit_code);
	if (event == EVENT_RESET && machine->config->on_reset == ON_RESET_EXIT)
		event = EVENT_END;
	if (event == EVENT_CRASH) {
		*ret_error = err_set(err, -EIO, "the guest cannot go on (see the report above)");
	} else if (event == EVENT_RESET) {
		*ret_error = machine_reset(machine, err);
		if (*ret_error == 0)
			machine_tell(machine, MACHINE_WAS_RESET);
		else
			machine->cause = MACHINE_CAUSE_HOST_ERROR;
	}
	return *ret_error == 0 && event != EVENT_END;
}

int machine_run(struct machine *machine, int *ret_exit_code, struct err *err)
{
	int r = 0;
	if (!machine->partial)
		register_memory(machine, true);
	loop_poll(machine->loop, &machine->signal_op, machine->signal_fd, POLLIN);
	if (!machine->held)
		machine->status = MACHINE_RUNNING;
	do {
		machine_go(machine);
		r = loop_run(machine->loop);
		if (machine->partial) { /* the ring has failed: no event ends the loop then */
			machine->cause = MACHINE_CAUSE_HOST_ERROR;
			machine_pull_plug(machine);
		}
		vcpus_pause(machine->vcpus);
		if (r < 0) {
			(void)err_sys(err, r, "event loop");
			machine->cause = MACHINE_CAUSE_HOST_ERROR;
			break;
		}
	} while (machine_act(machine, ret_exit_code, &r, err));
	machine->status = machine->cause == MACHINE_CAUSE_GUEST_PANIC ? MACHINE_PANICKED : MACHINE_SHUTDOWN;
	machine_tell(machine, MACHINE_ENDS);
	(void)loop_release(machine->loop, &machine->signal_op);
	return r;
}
