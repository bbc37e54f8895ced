/*
 * Frames on a stream, as passt and others send them: a length of four bytes, big-endian, and the frame. What
 * came is kept in one buffer, frames lie in it whole.
 */
#ifndef AERIE_DEVICES_BACKEND_NET_FRAMING_H
#define AERIE_DEVICES_BACKEND_NET_FRAMING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { NET_FRAMING_PREFIX = 4, NET_FRAMING_BYTES = 256 << 10 };

struct net_framing {
	uint8_t data[NET_FRAMING_BYTES];
	size_t start, end; /* what is there and not taken yet */
	size_t skipped;	   /* frames shorter than an Ethernet header */
};

/* Where more can be put, and how much: moves what is there to the front. 0: full, take frames first. */
size_t net_framing_room(struct net_framing *framing, uint8_t **ret);
void net_framing_put(struct net_framing *framing, size_t len);

/*
 * The next whole frame, in place until net_framing_room. 1; 0 when there is none; -EPROTO for a length that
 * no frame has: the rest of the stream is noise then.
 */
int net_framing_next(struct net_framing *framing, const uint8_t **ret, size_t *ret_len);
bool net_framing_ready(const struct net_framing *framing); /* next would not return 0, but for short frames */

#endif
