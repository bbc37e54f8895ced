/* What all who listen on a UNIX socket have to see to. */
#ifndef AERIE_HOST_UNIX_SOCKET_H
#define AERIE_HOST_UNIX_SOCKET_H

#include "base/err.h"

#include <stddef.h>
#include <sys/types.h>
#include <sys/un.h>

/* Puts `path` into *ret; -ENAMETOOLONG, with a message, when it does not fit. */
int unix_socket_address(const char *path, struct sockaddr_un *ret, struct err *err);

struct unix_listener {
	int fd;		  /* -1: none */
	dev_t device;	  /* of the socket file that we made, and nobody else's */
	ino_t inode;	  /* 0: none */
	const char *path; /* borrowed */
};

/*
 * Listen on `path`, which gets `mode` (of the permission bits, those that the umask leaves) from the moment
 * it exists. A socket file that nobody listens on was left by a process that was killed, and is removed
 * first; -EADDRINUSE when somebody listens there, or when it is no socket. On error *ret is what
 * unix_socket_unlisten takes all the same.
 */
int unix_socket_listen(const char *path, mode_t mode, int backlog, struct unix_listener *ret,
		       struct err *err);

/* Closes, and removes the socket file if it is still ours. All zero but fd -1 is fine. */
void unix_socket_unlisten(struct unix_listener *listener);

#endif
