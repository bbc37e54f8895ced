/*
 * Sends whose bytes the kernel takes from our pages when they leave, and does not copy before
 * (IORING_OP_SEND_ZC, Linux 6.0). A buffer is the kernel's until it says that it has let go of it, which is
 * after the other side has got it. Who makes messages takes turns with several therefore. One thread at a
 * time.
 *
 * What is saved is one copy in memory. Over loopback nothing is: the kernel copies there after all, and
 * later.
 */
#ifndef AERIE_MIGRATE_ZERO_COPY_H
#define AERIE_MIGRATE_ZERO_COPY_H

#include "base/err.h"
#include "channel.h"

#include <sys/types.h>

struct zero_copy;

/* With buffers of `bytes`. -ENOTSUP: this kernel cannot. */
int zero_copy_create(size_t bytes, struct zero_copy **ret, struct err *err);
/* What is still on its way goes there. NULL is fine. */
void zero_copy_destroy(struct zero_copy *zero_copy);

/* The next buffer; waits until the kernel has let go of it. NULL: an error, as those of channel_send. */
uint8_t *zero_copy_buffer(struct zero_copy *zero_copy, const struct channel *channel, struct err *err);
bool zero_copy_owns(const struct zero_copy *zero_copy, const void *data);

/*
 * For channel_send: some of a buffer's bytes. 0 with *ret_wait: nothing now. -ENOBUFS: the kernel does not
 * want to pin as much (RLIMIT_MEMLOCK), or this socket cannot; these bytes have to be copied.
 */
ssize_t zero_copy_send(struct zero_copy *zero_copy, int fd, const void *data, size_t len, short *ret_wait,
		       struct err *err);

#endif
