/* Frames on a stream: see net_framing.h. */
#include "net_framing.h"

#include "net_backend.h"

#include <errno.h>
#include <string.h>

static size_t length_at(const struct net_framing *framing)
{
	const uint8_t *p = framing->data + framing->start;
	return (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];
}

size_t net_framing_room(struct net_framing *framing, uint8_t **ret)
{
	size_t len = framing->end - framing->start;
	if (framing->start) {
		memmove(framing->data, framing->data + framing->start, len);
		framing->start = 0;
		framing->end = len;
	}
	*ret = framing->data + framing->end;
	return sizeof(framing->data) - framing->end;
}

void net_framing_put(struct net_framing *framing, size_t len)
{
	framing->end += len;
}

bool net_framing_ready(const struct net_framing *framing)
{
	size_t have = framing->end - framing->start;
	if (have < NET_FRAMING_PREFIX)
		return false;
	size_t len = length_at(framing);
	return len > NET_FRAME_MAX || have - NET_FRAMING_PREFIX >= len;
}

int net_framing_next(struct net_framing *framing, const uint8_t **ret, size_t *ret_len)
{
	while (net_framing_ready(framing)) {
		size_t len = length_at(framing);
		if (len > NET_FRAME_MAX)
			return -EPROTO;
		const uint8_t *frame = framing->data + framing->start + NET_FRAMING_PREFIX;
		framing->start += NET_FRAMING_PREFIX + len;
		if (len >= NET_ETHERNET_BYTES) {
			*ret = frame;
			*ret_len = len;
			return 1;
		}
		framing->skipped++;
	}
	return 0;
}
