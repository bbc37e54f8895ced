/*
 * A machine that has moved says so: its switches have learned its addresses at another port, and go on
 * sending there. Once is not enough, since a network needs a while to carry frames behind a new port
 * (spanning tree).
 */
#include "machine.h"

#define NSEC_PER_MSEC UINT64_C(1000000)

const struct machine_announce machine_announce_default = {
	.initial_ms = 50, .max_ms = 550, .rounds = 5, .step_ms = 100};

static uint64_t pause_ns(const struct announcement *announcement)
{
	const struct machine_announce *params = &announcement->now;
	uint64_t done = params->rounds - announcement->left; /* at least one */
	uint64_t ms = params->initial_ms + (done - 1) * params->step_ms;
	return (ms < params->max_ms ? ms : params->max_ms) * NSEC_PER_MSEC;
}

static void announce(void *owner)
{
	struct machine *machine = owner;
	struct announcement *announcement = &machine->announcement;
	if (announcement->left == 0)
		return;
	if (machine->status != MACHINE_RUNNING) {
		announcement->waits = true;
		return;
	}
	for (size_t i = 0; i < machine->device_count; i++)
		if (machine->devices[i]->class->announce)
			machine->devices[i]->class->announce(machine->devices[i]);
	if (--announcement->left)
		loop_timer_arm(announcement->timer, loop_now_ns() + pause_ns(announcement));
}

void machine_set_announce(struct machine *machine, const struct machine_announce *params)
{
	machine->announcement.params = *params;
}

/* By the timer also the first time: who has just set the machine going is not kept. */
static void begin(struct announcement *announcement)
{
	announcement->waits = false;
	loop_timer_arm(announcement->timer, loop_now_ns());
}

int machine_announce(struct machine *machine, const struct machine_announce *params, struct err *err)
{
	struct announcement *announcement = &machine->announcement;
	int r = announcement->timer
			? 0
			: loop_timer_create(machine->loop, announce, machine, &announcement->timer, err);
	if (r < 0)
		return r;
	announcement->now = params ? *params : announcement->params;
	announcement->left = announcement->now.rounds;
	begin(announcement);
	return 0;
}

void machine_announce_go(struct machine *machine)
{
	if (machine->announcement.waits)
		begin(&machine->announcement);
}

void machine_announce_free(struct machine *machine)
{
	loop_timer_destroy(machine->announcement.timer);
	machine->announcement.timer = NULL;
}
