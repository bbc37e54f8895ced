/* The source's side of a migration, from connecting to the end. One thread, but for what says otherwise. */
#ifndef AERIE_MIGRATE_SOURCE_H
#define AERIE_MIGRATE_SOURCE_H

#include "guest.h"
#include "link.h"
#include "memory/dirty.h"
#include "migrate/migrate.h"
#include "protocol.h"
#include "stage.h"
#include "workers.h"

#include <pthread.h>

struct source {
	/* Set before source_run. */
	struct guest *guest;
	const struct uri *uri;
	struct migrate_params params; /* under lock: max_bandwidth and downtime_limit_ms may change */
	struct canceller canceller;
	void (*changed)(struct source *source); /* the status; on the source's thread; may be NULL */
	void *owner;

	/* Its thread's own. */
	struct link link;
	struct tls_keys *keys;
	struct stage *stage;	 /* pages on the first channel */
	struct workers *workers; /* or on others; NULL: none */
	struct dirty_tracker *tracker;
	uint64_t *bitmap; /* pages to be sent */
	uint8_t id[WIRE_ID_BYTES];
	uint32_t flags; /* agreed upon */
	struct stage_counts counts;
	uint64_t round_started_ns, round_started_bytes, stopped_ns, paced_bytes, paced_since_ns;
	unsigned slow_rounds; /* in which more was dirtied than sent */
	bool was_running, stopped;

	/* Post-copy (source_postcopy.c). */
	bool late;	       /* it is: chosen when the guest stopped */
	bool told;	       /* the machine knows that it runs elsewhere */
	uint64_t left;	       /* bits in the bitmap */
	uint64_t next_page;    /* where pages are pushed from when nobody asks */
	struct canceller wake; /* post-copy is asked for; later: resume */

	pthread_mutex_t lock; /* guards what follows, and who reads it is any thread */
	enum protocol_state state;
	bool cancel_asked, postcopy_asked, resume_asked;
	struct uri resume_uri;
	uint64_t started_ns, ended_ns;
	struct migrate_info info;
};

int source_init(struct source *source, struct guest *guest, const struct uri *uri,
		const struct migrate_params *params, struct err *err);
void source_finish(struct source *source); /* source_run has returned, or was never called */

/*
 * All of it. 0: the machine runs elsewhere. An error: source->state says what of the machine is now:
 * SRC_BACK, it runs here, or SRC_DOUBT. info.status says the same for people.
 */
int source_run(struct source *source, struct err *err);

/* Any thread. -EBUSY: too late, the right to run has been given away. */
int source_cancel(struct source *source, struct err *err);
void source_info(struct source *source, struct migrate_info *ret);		/* any thread */
void source_adjust(struct source *source, const struct migrate_params *params); /* any thread */

/*
 * Any thread: the guest shall move as soon as the other side is ready, and its other pages follow. -EINVAL:
 * this migration began without post-copy; -EBUSY: it is too late for that.
 */
int source_start_postcopy(struct source *source, struct err *err);
/* Any thread, while it is paused in post-copy: connect there. The URI's text is borrowed until the next one.
 */
int source_resume(struct source *source, const struct uri *uri, struct err *err);
/* Any thread: ends a source in doubt, so that the machine may be set going here. */
int source_leave_doubt(struct source *source, struct err *err);

/* ---- for the files of the source ---- */

/* Ask the table. -ECANCELED: the operator wants it to end; -EPROTO: not allowed. */
int source_step(struct source *source, enum protocol_what what, unsigned type, struct err *err);
void source_set_status(struct source *source, enum migrate_status status);

int source_open_link(struct source *source, struct link *link, struct err *err);
void source_report(struct source *source, uint64_t left_pages);
/* How long to wait until the limit on the bandwidth lets more go. */
uint64_t source_pace_ns(struct source *source);
bool source_asked_postcopy(struct source *source);

/* With the guest standing: what the other side lacks, instead of source_copy_rest. */
int source_tell_missing(struct source *source, uint32_t *ret_round, struct err *err);
/* Serves pages until this message has come. */
int source_serve(struct source *source, unsigned type, struct err *err);
/* In post-copy, RUN has left. */
bool source_is_late(struct source *source);
/*
 * All the rest of it, through as many connections as it takes; `r` and `err`: what became of the first one.
 * 0, or -ECANCELED when this process ends before.
 */
int source_follow(struct source *source, int r, struct err *err);

/* Rounds until what is left fits into the downtime limit. */
int source_copy(struct source *source, struct err *err);
/* With the guest standing: all that is left; then ROUND on the further channels. */
int source_copy_rest(struct source *source, uint32_t *ret_round, struct err *err);

/* ---- for handover.c: a hand-over of RAM on one host, instead of source_copy ---- */

int source_check_local(const struct source *source, struct err *err);  /* before connecting */
int source_check_socket(const struct source *source, struct err *err); /* connected */
int source_pass_ram(struct source *source, struct err *err);
/* RUN has left: whatever becomes of this process, it does not touch RAM any more. */
void source_leave_ram(struct source *source);

#endif
