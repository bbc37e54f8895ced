/*
 * Who may do what, and who may run: the states of both sides of a migration as one table. The code of either
 * side asks the table before each message it sends and for each it gets; tests/migrate/test_model.c walks
 * through everything the table allows, with losses at every point; docs/migration.md shows it.
 */
#ifndef AERIE_MIGRATE_PROTOCOL_H
#define AERIE_MIGRATE_PROTOCOL_H

#include "wire.h"

#include <stdbool.h>
#include <stddef.h>

enum protocol_state {
	/* The source. */
	SRC_START,
	SRC_HELLO,
	SRC_WELCOME,
	SRC_CONFIG,
	SRC_ACCEPTED,
	SRC_REHEARSAL,
	SRC_COPY,
	SRC_ROUND,
	SRC_STOPPED,
	SRC_STATE,
	SRC_READY,
	SRC_GIVEN,
	SRC_DONE,
	SRC_DOUBT,
	SRC_BACK,
	/* ... in post-copy: the guest runs there before all of its pages are there. */
	SRC_MISSING,
	SRC_LATE_STATE,
	SRC_LATE_READY,
	SRC_LATE_GIVEN,
	SRC_POSTCOPY,
	SRC_COMPLETE,
	SRC_PAUSED,
	SRC_RESUME,
	SRC_LATE_DOUBT,
	SRC_DOUBT_RESUME,
	/* The destination. */
	DST_START,
	DST_HELLO,
	DST_WELCOME,
	DST_CONFIG,
	DST_ACCEPTED,
	DST_REHEARSAL,
	DST_COPY,
	DST_ROUND,
	DST_STATE,
	DST_READY,
	DST_RUN,
	DST_DONE,
	DST_OVER,
	/* ... in post-copy. */
	DST_MISSING,
	DST_LATE_STATE,
	DST_LATE_READY,
	DST_LATE_RUN,
	DST_POSTCOPY,
	DST_COMPLETE,
	DST_PAUSED,
	DST_RESUME,
	PROTOCOL_STATES
};

struct protocol_state_row {
	const char *name;
	bool runs;  /* this side may run the machine */
	bool disks; /* this side may have the disks open */
	bool ends;  /* nothing follows */
	const char *meaning;
};
extern const struct protocol_state_row protocol_states[PROTOCOL_STATES];

/* What moves a state: a message of `type` that is sent or got, or something that happens to this side. */
enum protocol_what {
	PROTOCOL_SENDS,
	PROTOCOL_GETS,
	PROTOCOL_STOPS,	 /* the source: vCPUs and devices stand still, disks are flushed and let go */
	PROTOCOL_UNSENT, /* the source: not a byte of RUN has left */
	PROTOCOL_WHOLE,	 /* the destination: it lacks no page any more */
	PROTOCOL_LOST /* the connection failed, the other side refused, a time-out, the operator cancelled */
};

struct protocol_row {
	enum protocol_state from;
	enum protocol_what what;
	enum wire_type type; /* 0 but for SENDS and GETS */
	enum protocol_state to;
};
extern const struct protocol_row protocol_rows[];
extern const size_t protocol_row_count;

/*
 * The state after it, or -EPROTO: not allowed. REFUSED is no row: who gets or sends it is LOST. What is no
 * row for LOST stays where it is: the states that end.
 */
int protocol_step(enum protocol_state state, enum protocol_what what, unsigned type);

#endif
