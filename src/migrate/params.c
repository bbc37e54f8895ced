/* What a migration may be told, and what it says of itself: names and defaults. */
#include "migrate/migrate.h"

const struct migrate_params migrate_params_default = {
	.downtime_limit_ms = 300,
	.throttle_initial = 20,
	.throttle_increment = 10,
	.throttle_max = 99,
};

const char *migrate_status_name(enum migrate_status status)
{
	static const char *const names[] = {
		[MIGRATE_NONE] = "none",
		[MIGRATE_SETUP] = "setup",
		[MIGRATE_ACTIVE] = "active",
		[MIGRATE_DEVICE] = "device",
		[MIGRATE_CANCELLING] = "cancelling",
		[MIGRATE_COMPLETED] = "completed",
		[MIGRATE_CANCELLED] = "cancelled",
		[MIGRATE_FAILED] = "failed",
	};
	return names[status];
}
