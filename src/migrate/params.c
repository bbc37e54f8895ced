/* What a migration may be told, and what it says of itself: names and defaults. */
#include "params.h"
#include "migrate/migrate.h"

#include <errno.h>
#include <inttypes.h>

const struct migrate_params migrate_params_default = {
	.downtime_limit_ms = 300,
	.throttle_initial = 20,
	.throttle_increment = 10,
	.throttle_max = 99,
	.announce = {.initial_ms = 50, .max_ms = 550, .rounds = 5, .step_ms = 100}, /* QEMU's */
};

const char *migrate_status_name(enum migrate_status status)
{
	static const char *const names[] = {
		[MIGRATE_NONE] = "none",
		[MIGRATE_SETUP] = "setup",
		[MIGRATE_ACTIVE] = "active",
		[MIGRATE_DEVICE] = "device",
		[MIGRATE_POSTCOPY_ACTIVE] = "postcopy-active",
		[MIGRATE_POSTCOPY_PAUSED] = "postcopy-paused",
		[MIGRATE_POSTCOPY_RECOVER] = "postcopy-recover",
		[MIGRATE_CANCELLING] = "cancelling",
		[MIGRATE_COMPLETED] = "completed",
		[MIGRATE_CANCELLED] = "cancelled",
		[MIGRATE_FAILED] = "failed",
	};
	return names[status];
}

static int check(struct err *err, const char *name, uint64_t value, uint64_t min, uint64_t max)
{
	if (value >= min && value <= max)
		return 0;
	return err_set(err, -EINVAL, "%s: %" PRIu64 ", where %" PRIu64 " to %" PRIu64 " are good", name,
		       value, min, max);
}

/* QEMU's limits. */
static int check_announce(const struct machine_announce *announce, struct err *err)
{
	int r = check(err, "announce-initial", announce->initial_ms, 0, 100000);
	if (r == 0)
		r = check(err, "announce-max", announce->max_ms, 0, 100000);
	if (r == 0)
		r = check(err, "announce-rounds", announce->rounds, 0, 1000);
	return r < 0 ? r : check(err, "announce-step", announce->step_ms, 0, 10000);
}

/* Below a MiB a second a single message would take longer than the other side waits. */
int migrate_check_params(const struct migrate_params *params, struct err *err)
{
	int r = params->max_bandwidth ? check(err, "max-bandwidth", params->max_bandwidth, 1 << 20, INT64_MAX)
				      : 0;
	if (r == 0)
		r = check(err, "downtime-limit", params->downtime_limit_ms, 1, 2000000);
	if (r == 0)
		r = check(err, "multifd-channels", params->channels, 0, MIGRATE_CHANNELS_MAX);
	if (r == 0)
		r = check(err, "multifd-zstd-level", params->zstd_level, 0, 19);
	if (r == 0)
		r = check(err, "cpu-throttle-initial", params->throttle_initial, 1, 99);
	if (r == 0)
		r = check(err, "cpu-throttle-increment", params->throttle_increment, 1, 99);
	if (r == 0)
		r = check(err, "max-cpu-throttle", params->throttle_max, params->throttle_initial, 99);
	return r < 0 ? r : check_announce(&params->announce, err);
}
