/*
 * Where to: "unix:PATH", "tcp:HOST:PORT" ("tcp:[::1]:4444" for IPv6; an empty host listens on all addresses),
 * "fd:N" (an inherited stream socket, connected or listening) and "exec:COMMAND" (a shell's, with the
 * migration as its standard input and output, one socket for both).
 */
#ifndef AERIE_MIGRATE_URI_H
#define AERIE_MIGRATE_URI_H

#include "base/err.h"

enum uri_kind { URI_UNIX, URI_TCP, URI_FD, URI_EXEC };
enum { URI_MAX = 4096 };

struct uri {
	enum uri_kind kind;
	const char *text; /* what follows the scheme: path, command; borrowed from the text that was parsed */
	char host[256];	  /* TCP, without brackets; "" when empty */
	char port[6];	  /* TCP, decimal, 0 to 65535 */
	int fd;
};

/* -EINVAL with a message that says what would be accepted. */
int uri_parse(const char *text, struct uri *ret, struct err *err);

#endif
