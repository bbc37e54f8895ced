/*
 * TLS 1.3 for a channel, both sides with certificates of one authority. A folder has them by the names that
 * other VMMs use, too: ca-cert.pem, then server-cert.pem and server-key.pem for who listens, client-cert.pem
 * and client-key.pem for who connects.
 */
#ifndef AERIE_MIGRATE_CHANNEL_TLS_H
#define AERIE_MIGRATE_CHANNEL_TLS_H

#include "channel.h"

#include <sys/types.h>

struct tls_keys;

/* Reads and checks the files. `server`: those of who listens. */
int tls_keys_load(const char *folder, bool server, struct tls_keys **ret, struct err *err);
void tls_keys_free(struct tls_keys *keys); /* NULL is fine; no session may need them any more */

/*
 * Shake hands on a connected channel. `host` (NULL on the server's side): the name or address that the
 * server's certificate has to bear. The other side's certificate must be of our authority.
 */
int tls_start(struct channel *channel, struct tls_keys *keys, const char *host, struct err *err);
void tls_session_destroy(struct tls_session *session); /* NULL is fine */

/* As send and recv: bytes, or 0 with *ret_wait set: wait for that and try again; -errno with a message. */
ssize_t tls_send(struct tls_session *session, const void *data, size_t len, short *ret_wait, struct err *err);
ssize_t tls_receive(struct tls_session *session, void *data, size_t len, short *ret_wait, struct err *err);

/* Has something arrived that tls_receive would give at once? */
bool tls_pending(struct tls_session *session);

#endif
