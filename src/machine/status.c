/* What the machine is doing, who is told of it, and how it is stopped and set going by an operator. */
#include "base/cleanup.h"
#include "machine.h"

static const char *const status_names[] = {
	[MACHINE_PRELAUNCH] = "prelaunch",     [MACHINE_RUNNING] = "running",
	[MACHINE_PAUSED] = "paused",	       [MACHINE_SAVE_VM] = "save-vm",
	[MACHINE_INMIGRATE] = "inmigrate",     [MACHINE_FINISH_MIGRATE] = "finish-migrate",
	[MACHINE_POSTMIGRATE] = "postmigrate", [MACHINE_SHUTDOWN] = "shutdown",
	[MACHINE_PANICKED] = "guest-panicked",
};

const char *machine_status_name(enum machine_status status)
{
	return status_names[status];
}

enum machine_status machine_status(const struct machine *machine)
{
	return machine->status;
}

static const char *const cause_names[] = {
	[MACHINE_CAUSE_NONE] = "none",
	[MACHINE_CAUSE_HOST_ERROR] = "host-error",
	[MACHINE_CAUSE_HOST_QUIT] = "host-qmp-quit",
	[MACHINE_CAUSE_HOST_RESET] = "host-qmp-system-reset",
	[MACHINE_CAUSE_HOST_SIGNAL] = "host-signal",
	[MACHINE_CAUSE_HOST_UI] = "host-ui",
	[MACHINE_CAUSE_GUEST_SHUTDOWN] = "guest-shutdown",
	[MACHINE_CAUSE_GUEST_RESET] = "guest-reset",
	[MACHINE_CAUSE_GUEST_PANIC] = "guest-panic",
};

const char *machine_cause_name(enum machine_cause cause)
{
	return cause_names[cause];
}

enum machine_cause machine_cause(const struct machine *machine)
{
	return machine->cause;
}

void machine_observe(struct machine *machine, struct machine_observer *observer)
{
	observer->next = machine->observers;
	machine->observers = observer;
}

void machine_unobserve(struct machine *machine, struct machine_observer *observer)
{
	for (struct machine_observer **at = &machine->observers; *at; at = &(*at)->next) {
		if (*at == observer) {
			*at = observer->next;
			return;
		}
	}
}

void machine_tell(struct machine *machine, enum machine_notice notice)
{
	for (struct machine_observer *at = machine->observers, *next; at; at = next) {
		next = at->next; /* it may leave */
		at->notice(at, notice);
	}
}

void machine_go(struct machine *machine)
{
	pthread_mutex_lock(&machine->lock);
	bool has_event = machine->event != EVENT_NONE;
	pthread_mutex_unlock(&machine->lock);
	if (machine->status != MACHINE_RUNNING || has_event)
		return;
	machine_resume_devices(machine); /* what they took up while nobody ran is done first */
	vcpus_resume(machine->vcpus);
}

bool machine_is_frozen(const struct machine *machine)
{
	return machine->status == MACHINE_SAVE_VM || machine->status == MACHINE_INMIGRATE ||
	       machine->status == MACHINE_FINISH_MIGRATE || machine->status == MACHINE_POSTMIGRATE;
}

/* What had to wait while it was frozen. */
static void machine_thaw(struct machine *machine, bool was_frozen)
{
	if (was_frozen && !machine_is_frozen(machine))
		loop_post(machine->loop, &machine->event_op); /* harmless when there is nothing */
}

void machine_pause(struct machine *machine, enum machine_status status)
{
	bool was_running = machine->status == MACHINE_RUNNING, was_frozen = machine_is_frozen(machine);
	machine->held = true;
	if (was_running)
		vcpus_pause(machine->vcpus);
	machine_quiesce_devices(machine); /* after the vCPUs, who would give them more to do */
	machine->status = status;
	if (was_running) {
		machine_settle(machine);
		machine_tell(machine, MACHINE_STOPPED);
	}
	machine_thaw(machine, was_frozen);
}

void machine_continue(struct machine *machine)
{
	bool was_frozen = machine_is_frozen(machine);
	if (machine->status == MACHINE_RUNNING)
		return;
	machine->status = MACHINE_RUNNING;
	machine_go(machine);
	machine_announce_go(machine);
	machine_tell(machine, MACHINE_RESUMED);
	machine_thaw(machine, was_frozen);
}

struct loop *machine_loop(struct machine *machine)
{
	return machine->loop;
}

struct guest_memory *machine_memory(struct machine *machine)
{
	return machine->memory;
}

const struct machine_config *machine_config(const struct machine *machine)
{
	return machine->config;
}

struct device *machine_device(struct machine *machine, size_t index)
{
	return index < machine->device_count ? machine->devices[index] : NULL;
}

struct vcpus *machine_vcpus(struct machine *machine)
{
	return machine->vcpus;
}
