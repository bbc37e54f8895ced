/* Getting at a TAP interface. */
#ifndef AERIE_DEVICES_BACKEND_NET_TAP_H
#define AERIE_DEVICES_BACKEND_NET_TAP_H

#include "base/err.h"

enum { NET_TAP_QUEUES_MAX = 16 };

/*
 * `count` descriptors of the interface `name`, non-blocking, with a vnet header of NET_HEADER_BYTES. It is
 * made, and brought up, when it does not exist; such a one goes with its last descriptor. Errors name what to
 * do.
 */
int net_tap_open(const char *name, unsigned count, int *fds, struct err *err);

/* A copy, in fds[0], of a TAP descriptor that somebody else has set up with IFF_NO_PI and IFF_VNET_HDR. */
int net_tap_adopt(int fd, int *fds, struct err *err);

#endif
