/* What all who listen on a UNIX socket have to see to first. */
#ifndef AERIE_DEVICES_BACKEND_UNIX_SOCKET_H
#define AERIE_DEVICES_BACKEND_UNIX_SOCKET_H

#include "base/err.h"

#include <sys/un.h>

/*
 * A socket file that nobody listens on was left by a process that was killed: remove it. 0 when nothing is in
 * the way any more; -EADDRINUSE when somebody listens there, or when it is no socket.
 */
int unix_socket_remove_stale(const struct sockaddr_un *address, struct err *err);

#endif
