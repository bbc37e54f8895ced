/* One table: what is counted, by which name, and whom to ask. */
#include "machine/counts.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "machine.h"

#include <inttypes.h>
#include <stdio.h>

struct count {
	const char *name;
	uint64_t (*read)(const struct machine *machine, size_t index);
};

static uint64_t unclaimed_accesses(const struct machine *machine, size_t index)
{
	(void)index;
	return bus_unclaimed_count(machine->bus);
}

static uint64_t refused_doorbells(const struct machine *machine, size_t index)
{
	(void)index;
	return bus_refused_doorbell_count(machine->bus);
}

static uint64_t lost_messages(const struct machine *machine, size_t index)
{
	(void)index;
	return msi_lost_count(machine->msi);
}

static uint64_t unknown_msrs(const struct machine *machine, size_t index)
{
	(void)index;
	return vcpus_unknown_msr_count(machine->vcpus);
}

static uint64_t vcpu_errors(const struct machine *machine, size_t index)
{
	return vcpus_guest_error_count(machine->vcpus, (uint32_t)index);
}

static uint64_t device_errors(const struct machine *machine, size_t index)
{
	return machine->devices[index]->counts.guest_errors.total;
}

static uint64_t device_needs_reset(const struct machine *machine, size_t index)
{
	return machine->devices[index]->counts.needs_reset;
}

static uint64_t device_backend_lost(const struct machine *machine, size_t index)
{
	return machine->devices[index]->counts.backend_lost.total;
}

enum { ROWS_MAX = 5 };

static const struct count counts[][ROWS_MAX] = {
	[MACHINE_COUNTED_VM] = {{"unclaimed-accesses", unclaimed_accesses},
				{"unknown-msrs", unknown_msrs},
				{"lost-messages", lost_messages},
				{"refused-doorbells", refused_doorbells},
				{NULL, NULL}},
	[MACHINE_COUNTED_VCPU] = {{"guest-errors", vcpu_errors}, {NULL, NULL}},
	[MACHINE_COUNTED_DEVICE] = {{"guest-errors", device_errors},
				    {"needs-reset", device_needs_reset},
				    {"backend-lost", device_backend_lost},
				    {NULL, NULL}},
};

const char *machine_count_name(enum machine_counted of, size_t row)
{
	return counts[of][row].name;
}

uint64_t machine_count(const struct machine *machine, enum machine_counted of, size_t row, size_t index)
{
	return counts[of][row].read(machine, index);
}

/* The log is for people: what never happened is not in it. */
static void log_counts(const struct machine *machine, enum machine_counted of, size_t index, const char *who)
{
	char line[256];
	size_t used = 0;
	for (size_t row = 0; counts[of][row].name && used < sizeof(line); row++) {
		uint64_t value = counts[of][row].read(machine, index);
		int n = value == 0 ? 0
				   : snprintf(line + used, sizeof(line) - used, "%s%s %" PRIu64,
					      used ? ", " : "", counts[of][row].name, value);
		used += n > 0 ? (size_t)n : 0;
	}
	if (used)
		log_info("%s: %s", who, line);
}

void machine_log_counts(const struct machine *machine)
{
	char who[32];
	log_counts(machine, MACHINE_COUNTED_VM, 0, "guest");
	for (uint32_t i = 0; i < machine->config->cpus.count; i++) {
		(void)snprintf(who, sizeof(who), "guest: vCPU %u", i);
		log_counts(machine, MACHINE_COUNTED_VCPU, i, who);
	}
	for (size_t i = 0; i < machine->device_count; i++) {
		(void)snprintf(who, sizeof(who), "guest: %s%u", machine->devices[i]->class->name,
			       machine_device_instance(machine, i));
		log_counts(machine, MACHINE_COUNTED_DEVICE, i, who);
	}
}
