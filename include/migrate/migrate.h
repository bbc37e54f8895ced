/*
 * Live migration: a running machine moves to another aerie. docs/migration.md has the protocol.
 */
#ifndef AERIE_MIGRATE_MIGRATE_H
#define AERIE_MIGRATE_MIGRATE_H

#include "base/err.h"
#include "machine/machine.h"

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

enum { MIGRATE_CHANNELS_MAX = 16, MIGRATE_HOSTNAME_MAX = 256 };

/* By the names of QAPI's MigMode: "normal", "cpr-transfer". */
enum migrate_mode {
	MIGRATE_MODE_NORMAL,
	MIGRATE_MODE_LOCAL /* RAM's memfd is handed over on one host, nothing is copied */
};

struct migrate_params {
	enum migrate_mode mode;
	uint64_t max_bandwidth;	    /* bytes a second, while the guest runs; 0: no limit */
	uint32_t downtime_limit_ms; /* how long the guest may stand still at the end, by estimate */
	uint32_t channels;	    /* further connections for pages; 0: the first one takes them */
	uint32_t zstd_level;	    /* 0: pages are not packed; 1 to 19 */
	bool zero_copy;	    /* pages leave by IORING_OP_SEND_ZC; over tcp: only, in plain and not packed */
	bool postcopy;	    /* both sides get ready for migrate_start_postcopy */
	bool auto_converge; /* slow the vCPUs down when they write faster than the connection carries */
	uint32_t throttle_initial, throttle_increment, throttle_max; /* percent */
	/* At the destination, by its own parameters: when the machine has come. */
	struct machine_announce announce;
	char tls_creds[PATH_MAX];		 /* a folder, see docs/migration.md; "": no TLS */
	char tls_hostname[MIGRATE_HOSTNAME_MAX]; /* what the server's certificate bears; "": the URI's host */
};
extern const struct migrate_params migrate_params_default;

/* By the names of QAPI's MigrationStatus. */
enum migrate_status {
	MIGRATE_NONE,
	MIGRATE_SETUP,
	MIGRATE_ACTIVE,
	MIGRATE_DEVICE,		  /* the guest stands, the rest is on its way */
	MIGRATE_POSTCOPY_ACTIVE,  /* it runs there, and its pages follow */
	MIGRATE_POSTCOPY_PAUSED,  /* ... and the connection is broken: it waits for migrate_resume */
	MIGRATE_POSTCOPY_RECOVER, /* ... and both sides find out what is missing */
	MIGRATE_CANCELLING,
	MIGRATE_COMPLETED,
	MIGRATE_CANCELLED, /* the guest runs on here */
	MIGRATE_FAILED	   /* the guest runs on here, unless info.in_doubt or it ended in post-copy */
};
const char *migrate_status_name(enum migrate_status status);

struct migrate_info {
	enum migrate_status status;
	bool is_incoming;	   /* it comes here */
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
	uint64_t requests; /* post-copy: pages that somebody waited for */
	uint32_t throttle_percent;
	struct err err; /* failed */
};

/* ---- the source ---- */

struct migrate;

/*
 * What a machine needs to be able to leave. `changed` (may be NULL) is called on the machine's thread when
 * the status is another. The machine is borrowed; create and destroy around machine_run, on its thread.
 */
int migrate_create(struct machine *machine, void (*changed)(void *owner), void *owner, struct migrate **ret,
		   struct err *err);
void migrate_destroy(struct migrate *migrate); /* NULL is fine */

/* All of these on the machine's thread. */

/* Begins, and returns. `uri`: docs/migration.md. -EBUSY: one is under way, or the machine is not ours. */
int migrate_start(struct migrate *migrate, const char *uri, struct err *err);
/* 0 also when nothing is under way; -EBUSY: too late. */
int migrate_cancel(struct migrate *migrate, struct err *err);
void migrate_query(struct migrate *migrate, struct migrate_info *ret);
const struct migrate_params *migrate_get_params(const struct migrate *migrate);
/* For the next one; bandwidth and downtime limit also for the one under way. -EINVAL names the parameter. */
int migrate_set_params(struct migrate *migrate, const struct migrate_params *params, struct err *err);
/*
 * The guest moves now, whatever is left, and runs there while its other pages follow. Needs `postcopy` in the
 * parameters when it began; only while it copies (MIGRATE_ACTIVE), else -EBUSY. From then on there is no way
 * back: the guest is lost if either side ends before all is there.
 */
int migrate_start_postcopy(struct migrate *migrate, struct err *err);
/* While paused in post-copy (-EBUSY otherwise): goes on over a new connection. */
int migrate_resume(struct migrate *migrate, const char *uri, struct err *err);
/*
 * After in_doubt, by an operator who knows that the machine does not run on the other side: it runs on here.
 * -EINVAL: there is no doubt; else what keeps it from running.
 */
int migrate_resume_here(struct migrate *migrate, struct err *err);

/* ---- the destination ---- */

struct incoming;

/* Listens. `tls_creds`: a folder, or NULL. */
int incoming_create(const char *uri, const char *tls_creds, struct incoming **ret, struct err *err);
/* Quits what is under way; after machine_run, before machine_destroy. NULL is fine. */
void incoming_destroy(struct incoming *incoming);

/*
 * Waits for a source and what it says of its machine: JSON for config_parse, borrowed. For who has no
 * configuration of its own; SIGINT and SIGTERM end the process as ever.
 */
int incoming_config(struct incoming *incoming, const char **ret, size_t *ret_bytes, struct err *err);
/* Tells the source why it will not be. */
void incoming_refuse(struct incoming *incoming, const struct err *err);

/*
 * Takes the machine (machine_create_absent, not running) in, by a thread of its own; then it runs, if it ran
 * over there. If it fails, machine_ask_end is called and incoming_error says why.
 */
int incoming_start(struct incoming *incoming, struct machine *machine, struct err *err);
/* `changed` is called on the machine's thread when the status is another. Before machine_run. */
void incoming_watch(struct incoming *incoming, void (*changed)(void *owner), void *owner);
void incoming_query(struct incoming *incoming, struct migrate_info *ret); /* machine's thread */
/* While paused in post-copy (-EBUSY otherwise): listens there for the source. The machine's thread. */
int incoming_recover(struct incoming *incoming, const char *uri, struct err *err);
int incoming_error(struct incoming *incoming, struct err *err); /* after machine_run; 0: it went well */

#endif
