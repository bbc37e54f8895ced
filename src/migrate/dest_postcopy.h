/*
 * Post-copy, the destination's side: the guest runs here while pages of its RAM are still over there.
 *
 * Three threads, none of which touches RAM as anybody else does: one hears of pages that somebody stands
 * before and asks for them, one takes messages and puts pages where they belong, and the migration's own has
 * the machine loaded and run, which may stand before a page like everybody, and later waits for the second.
 */
#ifndef AERIE_MIGRATE_DEST_POSTCOPY_H
#define AERIE_MIGRATE_DEST_POSTCOPY_H

#include "dest.h"

struct dest_late {
	struct demand *demand;
	struct canceller stop; /* for the thread that hears of faults */
	struct canceller wake; /* somebody has called dest_recover, or dest_cancel */
	pthread_t faults, receiver;
	bool has_faults, has_receiver;

	pthread_mutex_t lock; /* guards what follows, up to send */
	pthread_cond_t changed;
	uint64_t *missing, *asked; /* bits; asked: somebody stands before it */
	uint64_t missing_count, requests;
	bool run_came, ended; /* the receiver */
	struct err err;
	struct listener listener; /* while paused: for who comes anew */
	char *listener_text;
	bool listens;
	unsigned listener_number; /* how many there were */
	bool whole;		  /* nobody is waited for any more */

	/* One message at a time, and only in a state that allows it; never waited for under lock. */
	pthread_mutex_t send;
};

static inline bool dest_late_bit(const uint64_t *bitmap, uint64_t page)
{
	return bitmap[page / 64] >> page % 64 & 1;
}

/* The memory is there, and post-copy agreed upon: whether the kernel can do it with this memory. */
int dest_late_create(struct dest *dest, struct err *err);
void dest_late_destroy(struct dest *dest);
void dest_late_cancel(struct dest *dest); /* any thread */

/* The link's payload is a MISSING. */
int dest_late_missing(struct dest *dest, size_t bytes, struct err *err);
/* MISSING came, then STATE. */
bool dest_is_late(const struct dest *dest);
/*
 * The link's payload is STATE, of so many bytes: from here to the last page. 0: all is here. An error:
 * nothing has run and nothing will, or, if the state says that it runs, the process has to end.
 */
int dest_late_run(struct dest *dest, size_t bytes, bool running, struct err *err);

/* ---- for dest_recover.c ---- */

/* Under late->send. */
int dest_late_send_locked(struct dest *dest, unsigned type, const void *payload, size_t len, struct err *err);
int dest_late_request_locked(struct dest *dest, const uint64_t *pages, size_t count, struct err *err);
uint64_t dest_late_count(struct dest_late *late);	   /* pages that are missing */
int dest_late_receive(struct dest *dest, struct err *err); /* until COMPLETE */
/* From RUNNING on; `err`: why the first connection ended, if it did before COMPLETE. -ECANCELED. */
int dest_late_follow(struct dest *dest, struct err *err);
void dest_late_unlisten(struct dest_late *late); /* nobody is waited for any more */
/*
 * RAM is whole, and the machine as any other: before the state says so, for who sees that will rely on it. It
 * does not matter how often.
 */
void dest_late_settle(struct dest *dest);

#endif
