/*
 * A connection: bytes both ways over one stream socket, in plain or by TLS.
 *
 * One thread sends and one receives, which may be the same. Calls wait: until all is done, the connection
 * fails, nothing has moved for the time-out, or the canceller was fired (-ECANCELED). After an error the
 * connection is of no use any more.
 */
#ifndef AERIE_MIGRATE_CHANNEL_H
#define AERIE_MIGRATE_CHANNEL_H

#include "base/err.h"
#include "uri.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Ends every wait of the channels that know it; any thread may fire it, once and for all. */
struct canceller {
	int fd; /* an eventfd that becomes readable */
};
int canceller_init(struct canceller *canceller, struct err *err);
void canceller_finish(struct canceller *canceller);
void canceller_fire(struct canceller *canceller);
bool canceller_fired(const struct canceller *canceller);
void canceller_reset(struct canceller *canceller); /* as if it had not been fired */
/* Until `other` fires or so long has passed (-1: only until it fires), 0; -ECANCELED when `canceller` was. */
int canceller_wait_other(const struct canceller *canceller, const struct canceller *other, int timeout_ms);

struct tls_session;
struct zero_copy;

struct channel {
	int fd;				   /* non-blocking */
	const struct canceller *canceller; /* borrowed */
	uint32_t timeout_ms;
	bool is_unix;			 /* the other end can be given descriptors */
	struct tls_session *tls;	 /* NULL: plain */
	struct zero_copy *zero_copy;	 /* owned; NULL: none */
	_Atomic uint64_t sent, received; /* bytes of ours, not of TLS */
};

enum { CHANNEL_TIMEOUT_MS = 30000 };

/* Connect. */
int channel_connect(const struct uri *uri, const struct canceller *canceller, struct channel *ret,
		    struct err *err);
void channel_close(struct channel *channel); /* all zeros but fd -1 is fine */

/* Where others connect to. */
struct listener {
	struct uri uri;
	int fd;	   /* -1: what `uri` names is a connection already, and gives one channel */
	bool used; /* ... and has given it */
	struct unix_listener *socket_file;
};
int listener_open(const struct uri *uri, struct listener *ret, struct err *err);
void listener_close(struct listener *listener);
/* The next connection; -ETIMEDOUT after `timeout_ms` (-1: waits for ever). */
int listener_accept(struct listener *listener, const struct canceller *canceller, int timeout_ms,
		    struct channel *ret, struct err *err);
/* The port that the kernel has chosen for port 0; 0: not TCP. */
unsigned listener_port(const struct listener *listener);

/*
 * All of it. *ret_sent (may be NULL) is what has left at an error: 0 means that the other side cannot have
 * got a byte of it.
 */
int channel_send(struct channel *channel, const void *data, size_t len, size_t *ret_sent, struct err *err);
int channel_receive(struct channel *channel, void *data, size_t len, struct err *err);

/* Is there something to receive, or does the connection end, now or within so long? 1, 0, or -errno. */
int channel_readable(struct channel *channel, uint32_t timeout_ms, struct err *err);
/* Ends what waits on it, in any thread, with an error; closing is still to be done. */
void channel_break(struct channel *channel);
/* What is sent later must not wait behind much that was sent before. */
void channel_keep_short(struct channel *channel);

/* One descriptor with one byte, over a plain UNIX socket. */
int channel_send_fd(struct channel *channel, int fd, struct err *err);
int channel_receive_fd(struct channel *channel, int *ret_fd, struct err *err);

/* For channel_tls.c: until the socket can do `events` (POLLIN, POLLOUT). */
int channel_wait(const struct channel *channel, short events, struct err *err);

#endif
