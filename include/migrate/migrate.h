/*
 * Live migration: a running machine moves to another aerie. docs/migration.md has the protocol.
 */
#ifndef AERIE_MIGRATE_MIGRATE_H
#define AERIE_MIGRATE_MIGRATE_H

#include "base/err.h"

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

enum { MIGRATE_CHANNELS_MAX = 16, MIGRATE_HOSTNAME_MAX = 256 };

struct migrate_params {
	uint64_t max_bandwidth;	    /* bytes a second, while the guest runs; 0: no limit */
	uint32_t downtime_limit_ms; /* how long the guest may stand still at the end, by estimate */
	uint32_t channels;	    /* further connections for pages; 0: the first one takes them */
	uint32_t zstd_level;	    /* 0: pages are not packed; 1 to 19 */
	bool auto_converge; /* slow the vCPUs down when they write faster than the connection carries */
	uint32_t throttle_initial, throttle_increment, throttle_max; /* percent */
	char tls_creds[PATH_MAX];		 /* a folder, see docs/migration.md; "": no TLS */
	char tls_hostname[MIGRATE_HOSTNAME_MAX]; /* what the server's certificate bears; "": the URI's host */
};
extern const struct migrate_params migrate_params_default;

/* By the names of QAPI's MigrationStatus. */
enum migrate_status {
	MIGRATE_NONE,
	MIGRATE_SETUP,
	MIGRATE_ACTIVE,
	MIGRATE_DEVICE, /* the guest stands, the rest is on its way */
	MIGRATE_CANCELLING,
	MIGRATE_COMPLETED,
	MIGRATE_CANCELLED, /* the guest runs on here */
	MIGRATE_FAILED	   /* the guest runs on here, unless info.in_doubt */
};
const char *migrate_status_name(enum migrate_status status);

struct migrate_info {
	enum migrate_status status;
	bool in_doubt;		   /* the right to run was given away, and nobody said that it arrived */
	const char *state;	   /* of the protocol, by the names in docs/migration.md */
	uint64_t total_ms;	   /* since its start, or how long it took */
	uint64_t down_ms;	   /* completed: how long the guest stood still */
	uint64_t expected_down_ms; /* active: if it were stopped now; UINT64_MAX: unknown */
	uint64_t total_bytes, remaining_bytes; /* RAM */
	uint64_t sent_bytes;
	uint64_t zero_pages, normal_pages;
	uint64_t bytes_per_second;	 /* of the last second or so */
	uint64_t dirty_pages_per_second; /* of the last round */
	uint32_t rounds;
	uint32_t throttle_percent;
	struct err err; /* failed */
};

#endif
