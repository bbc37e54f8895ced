/*
 * Receive-side scaling (VIRTIO 1.3, 5.1.6.4.3 and 5.1.6.5.7): which queue a frame is for, by a hash of the
 * addresses and ports in it. The hash itself is not reported (NET_F_HASH_REPORT): that lengthens the header
 * of every frame for a number that drivers compute themselves when they want it.
 */
#ifndef AERIE_DEVICES_VIRTIO_NET_RSS_H
#define AERIE_DEVICES_VIRTIO_NET_RSS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	NET_RSS_KEY_BYTES = 40,
	NET_RSS_TABLE_MAX = 128,
	NET_RSS_FRAME_BYTES = 256, /* of a frame that are looked at */
	/* struct virtio_net_rss_config with the largest table and key */
	NET_RSS_CONFIG_BYTES = 4 + 2 + 2 + 2 * NET_RSS_TABLE_MAX + 2 + 1 + NET_RSS_KEY_BYTES,
};

/* 5.1.6.4.3: types of hash. Those of extension headers (EX) are not offered. */
enum {
	NET_HASH_IPV4 = 1 << 0,
	NET_HASH_TCPV4 = 1 << 1,
	NET_HASH_UDPV4 = 1 << 2,
	NET_HASH_IPV6 = 1 << 3,
	NET_HASH_TCPV6 = 1 << 4,
	NET_HASH_UDPV6 = 1 << 5,
	NET_HASH_ALL = (1 << 6) - 1,
};

/* What the driver has set; queues are numbers of pairs. */
struct net_rss {
	bool on; /* else the backend chooses */
	uint32_t hash_types;
	uint16_t table_mask; /* entries - 1 */
	uint16_t unclassified;
	uint16_t table[NET_RSS_TABLE_MAX];
	uint8_t key[NET_RSS_KEY_BYTES];
};

/*
 * A struct virtio_net_rss_config of `len` bytes, for `pairs` pairs of queues. False: it is not as 5.1.6.5.7
 * says, and nothing has changed. *ret_pairs: how many pairs it uses.
 */
bool net_rss_parse(const uint8_t *data, size_t len, uint16_t pairs, struct net_rss *ret, uint16_t *ret_pairs);
/* Can this have been set by the driver of such a device? */
bool net_rss_check(const struct net_rss *rss, uint16_t pairs);
/* The hash of an Ethernet frame; false: of none of the types that are on. `len` may be less than all of it.
 */
bool net_rss_hash(const struct net_rss *rss, const uint8_t *frame, size_t len, uint32_t *ret);
/* The pair of queues that it is for. */
uint16_t net_rss_queue(const struct net_rss *rss, const uint8_t *frame, size_t len);

#endif
