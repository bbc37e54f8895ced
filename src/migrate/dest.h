/*
 * The destination's side of a migration. One thread, but for what says otherwise.
 *
 * In two parts, since the machine may have to be made from what the first one gets.
 */
#ifndef AERIE_MIGRATE_DEST_H
#define AERIE_MIGRATE_DEST_H

#include "channel_tls.h"
#include "guest.h"
#include "link.h"
#include "migrate/migrate.h"
#include "protocol.h"
#include "unstage.h"

#include <pthread.h>

struct dest;
struct dest_late;

/* A further channel: a thread that puts pages into RAM. */
struct dest_channel {
	struct dest *dest;
	struct link link;
	struct unstage *unstage;
	pthread_t thread;
	bool has_thread;
	uint32_t rounds; /* that it has seen the end of; under dest->lock */
};

struct dest {
	struct canceller canceller;
	struct listener listener;
	struct tls_keys *keys; /* NULL: no TLS */
	struct guest *guest;   /* before dest_finish */
	struct link link;
	struct wire_hello hello;
	uint32_t flags;
	char *config; /* what the source's machine is, JSON; after dest_begin */
	size_t config_bytes;
	struct unstage *unstage; /* NULL: RAM is handed over */
	bool has_memfd;		 /* RAM has been handed over */
	unsigned channel_count;
	struct dest_channel channels[WIRE_CHANNELS_MAX];
	uint32_t timeout_ms; /* for connections; 0: the default */

	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct err err;			  /* of a channel; under lock */
	_Atomic unsigned state;		  /* enum protocol_state */
	void (*moved)(struct dest *dest); /* the status; on its thread; may be NULL */
	void *owner;
	int uffd;		/* of demand_open; -1: not to be had */
	struct dest_late *late; /* post-copy was agreed upon; else NULL */
};

/* `tls_creds`: a folder, or NULL. Listens from here on. `uri` outlives the dest. */
int dest_init(struct dest *dest, const struct uri *uri, const char *tls_creds, struct err *err);
void dest_finish(struct dest *dest); /* all zeros but for the fds at -1 is fine */

/*
 * Until a source has said what it wants to bring. Connections that are none of aerie's, or of a version that
 * we do not speak, are logged and forgotten.
 */
int dest_begin(struct dest *dest, struct err *err);
/*
 * All the rest. 0: the machine is ours and runs. An error: it has not run and must not. The source has been
 * told.
 */
int dest_run(struct dest *dest, struct err *err);

/* Tells the source that it will not be, for callers that fail between the two. */
void dest_refuse(struct dest *dest, const struct err *err);

/*
 * Any thread. Before RUN dest_run fails. In post-copy it returns with the memory partial: nobody may go on
 * who could touch it, so the process has to end.
 */
void dest_cancel(struct dest *dest);

enum migrate_status dest_status(const struct dest *dest); /* any thread */
/* Any thread: pages that are missing (0 but in post-copy), and those asked for so far. */
void dest_progress(struct dest *dest, uint64_t *ret_missing, uint64_t *ret_requests);
/* While paused in post-copy: what ended the connection. */
void dest_paused_why(struct dest *dest, struct err *ret);
/* Any thread: while paused in post-copy (-EBUSY otherwise) listen there; takes `text`, from malloc, over when
 * it succeeds. */
int dest_recover(struct dest *dest, char *text, struct err *err);

/* ---- for the files of the destination ---- */

/* Ask the table. */
int dest_step(struct dest *dest, enum protocol_what what, unsigned type, struct err *err);
void dest_tell(struct dest *dest);
/* The next connection, shaken hands with. */
int dest_accept(struct dest *dest, struct listener *listener, const struct canceller *canceller,
		int timeout_ms, struct link *ret, struct err *err);

/* ---- for handover.c; the last three do nothing when RAM is sent ---- */

int dest_check_local(const struct dest *dest, struct err *err);
int dest_take_memfd(struct dest *dest, const struct wire_header *header, struct err *err);
int dest_try_ram(struct dest *dest, struct err *err);  /* the guest stands over there */
int dest_keep_ram(struct dest *dest, struct err *err); /* it is ours */
void dest_settle_ram(struct dest *dest);	       /* it runs */

#endif
