/* What a machine that moves from one process to another needs beyond saving and loading its state. */
#include "base/cleanup.h"
#include "machine.h"

#include <errno.h>
#include <stdlib.h>

/* ---- state ---- */

int machine_peek_state(struct machine *machine, struct state_writer *writer, struct err *err)
{
	bool was_running = machine->status == MACHINE_RUNNING;
	if (was_running) {
		vcpus_pause(machine->vcpus);
		machine_quiesce_devices(machine);
		machine->status = MACHINE_SAVE_VM;
	}
	int r = machine_save_state(machine, writer, err);
	if (was_running) {
		machine->status = MACHINE_RUNNING;
		machine_go(machine);
	}
	return r;
}

/* As a reset does it, but that nothing is loaded: vCPUs leave nested operation, which loading another state
 * into them needs. */
int machine_forget_state(struct machine *machine, struct err *err)
{
	return machine_reset_parts(machine, err);
}

/* ---- what only one machine can have ---- */

int machine_release(struct machine *machine, struct err *err)
{
	int r = 0;
	if (machine->absent)
		return 0;
	for (size_t i = 0; r == 0 && i < machine->device_count; i++)
		if (machine->devices[i]->class->release)
			r = machine->devices[i]->class->release(machine->devices[i], err);
	machine->absent = true; /* some of it at least, and acquire opens them all anew */
	return r;
}

int machine_acquire(struct machine *machine, struct err *err)
{
	size_t i = 0;
	int r = 0;
	if (!machine->absent)
		return 0;
	for (; r == 0 && i < machine->device_count; i++)
		if (machine->devices[i]->class->acquire)
			r = machine->devices[i]->class->acquire(machine->devices[i], err);
	machine->absent = false;
	if (r < 0) {
		struct err ignored = ERR_INIT;
		(void)machine_release(machine, &ignored);
	}
	return r;
}

/* ---- slowing down ---- */

/*
 * Of each period the vCPUs run a part and stand for the rest. A period is long enough for the guest to get
 * something done in its part, and short enough for its clocks and watchdogs not to notice.
 */
enum { THROTTLE_PERIOD_NS = 50000000, THROTTLE_MAX = 99 };

struct machine_throttle {
	struct machine *machine;
	struct loop_timer *timer;
	unsigned percent;
	bool standing;
};

static void throttle_turn(void *owner)
{
	struct machine_throttle *throttle = owner;
	struct machine *machine = throttle->machine;
	bool stand = throttle->percent && !throttle->standing;
	throttle->standing = stand && machine->status == MACHINE_RUNNING;
	if (throttle->standing)
		vcpus_pause(machine->vcpus);
	else
		machine_go(machine); /* nothing unless it runs */
	if (throttle->percent) {
		uint64_t part = throttle->standing ? throttle->percent : 100 - throttle->percent;
		loop_timer_arm(throttle->timer, loop_now_ns() + THROTTLE_PERIOD_NS / 100 * part);
	}
}

int machine_throttle(struct machine *machine, unsigned percent, struct err *err)
{
	if (!machine->throttle) {
		if (percent == 0)
			return 0;
		machine->throttle = calloc(1, sizeof(*machine->throttle));
		if (!machine->throttle)
			return err_sys(err, -ENOMEM, "throttle");
		machine->throttle->machine = machine;
		int r = loop_timer_create(machine->loop, throttle_turn, machine->throttle,
					  &machine->throttle->timer, err);
		if (r < 0) {
			free(take_ptr(machine->throttle));
			return r;
		}
	}
	machine->throttle->percent = percent > THROTTLE_MAX ? THROTTLE_MAX : percent;
	throttle_turn(machine->throttle);
	return 0;
}

void machine_throttle_free(struct machine *machine)
{
	if (!machine->throttle)
		return;
	loop_timer_destroy(machine->throttle->timer);
	free(take_ptr(machine->throttle));
}
