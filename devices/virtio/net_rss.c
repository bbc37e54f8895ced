/* Receive-side scaling; see net_rss.h. Frames and configurations are the enemy's: every byte is bounded. */
#include "net_rss.h"

#include "base/bytes.h"

#include <string.h>

/* ---- the configuration ---- */

enum { AT_TYPES = 0, AT_MASK = 4, AT_UNCLASSIFIED = 6, AT_TABLE = 8 };

/* struct rss_rq_id: bits 1 to 16 of a receive queue's index, which is twice its pair; bit 15 is reserved. */
static bool take_queue(const uint8_t *at, uint16_t pairs, uint16_t *ret, uint16_t *most)
{
	*ret = load_le16(at);
	if (*ret >= *most)
		*most = (uint16_t)(*ret + 1);
	return *ret < pairs;
}

bool net_rss_parse(const uint8_t *data, size_t len, uint16_t pairs, struct net_rss *ret, uint16_t *ret_pairs)
{
	struct net_rss rss = {.on = true};
	uint16_t most = 1;
	if (len < AT_TABLE)
		return false;
	rss.hash_types = load_le32(data + AT_TYPES);
	rss.table_mask = load_le16(data + AT_MASK);
	size_t entries = rss.table_mask + 1U;
	if ((rss.hash_types & ~(uint32_t)NET_HASH_ALL) || entries > NET_RSS_TABLE_MAX ||
	    (rss.table_mask & entries) || len < AT_TABLE + 2 * entries + 3 ||
	    !take_queue(data + AT_UNCLASSIFIED, pairs, &rss.unclassified, &most))
		return false;
	for (size_t i = 0; i < entries; i++)
		if (!take_queue(data + AT_TABLE + 2 * i, pairs, &rss.table[i], &most))
			return false;
	const uint8_t *tail = data + AT_TABLE + 2 * entries;
	uint16_t tx_pairs = load_le16(tail);
	size_t key_bytes = tail[2];
	if (tx_pairs < 1 || tx_pairs > pairs || key_bytes > NET_RSS_KEY_BYTES ||
	    len != AT_TABLE + 2 * entries + 3 + key_bytes)
		return false;
	memcpy(rss.key, tail + 3, key_bytes);
	*ret = rss;
	*ret_pairs = tx_pairs > most ? tx_pairs : most;
	return true;
}

bool net_rss_check(const struct net_rss *rss, uint16_t pairs)
{
	if ((rss->hash_types & ~(uint32_t)NET_HASH_ALL) || rss->table_mask >= NET_RSS_TABLE_MAX ||
	    (rss->table_mask & (rss->table_mask + 1U)) || rss->unclassified >= pairs)
		return false;
	for (size_t i = 0; i < NET_RSS_TABLE_MAX; i++)
		if (rss->table[i] >= pairs)
			return false;
	return true;
}

/* ---- what is in a frame ---- */

enum { ETHERTYPE_IPV4 = 0x0800, ETHERTYPE_IPV6 = 0x86dd, ETHERTYPE_VLAN = 0x8100, ETHERTYPE_QINQ = 0x88a8 };
enum { ETHERNET_BYTES = 14, VLAN_BYTES = 4, IPV4_BYTES = 20, IPV6_BYTES = 40, PORTS_BYTES = 4 };
enum { NEXT_HOPS = 0, NEXT_TCP = 6, NEXT_UDP = 17, NEXT_ROUTING = 43, NEXT_FRAGMENT = 44, NEXT_OPTIONS = 60 };
enum { VLANS_MAX = 2, EXTENSIONS_MAX = 8 };

struct flow {
	const uint8_t *addresses, *ports; /* ports: NULL when it has none that can be seen */
	size_t address_bytes;		  /* of both */
	uint8_t protocol;
	bool is_ipv6;
};

static uint16_t be16_at(const uint8_t *at)
{
	return (uint16_t)(at[0] << 8 | at[1]);
}

/* Of a fragment only the first has ports, so none of them is taken for having them. */
static bool look_at_ipv4(const uint8_t *ip, size_t len, struct flow *flow)
{
	if (len < IPV4_BYTES || ip[0] >> 4 != 4)
		return false;
	size_t header = (ip[0] & 0xfU) * 4U;
	bool fragment = be16_at(ip + 6) & 0x3fff;
	*flow = (struct flow){.addresses = ip + 12, .address_bytes = 8, .protocol = ip[9]};
	if (!fragment && header >= IPV4_BYTES && len >= header + PORTS_BYTES)
		flow->ports = ip + header;
	return true;
}

/* 5.1.6.4.3.4: extension headers are skipped. */
static bool look_at_ipv6(const uint8_t *ip, size_t len, struct flow *flow)
{
	if (len < IPV6_BYTES || ip[0] >> 4 != 6)
		return false;
	size_t at = IPV6_BYTES;
	uint8_t next = ip[6];
	bool fragment = false;
	for (unsigned i = 0; i < EXTENSIONS_MAX && len >= at + 8; i++) {
		if (next != NEXT_HOPS && next != NEXT_ROUTING && next != NEXT_OPTIONS &&
		    next != NEXT_FRAGMENT)
			break;
		fragment |= next == NEXT_FRAGMENT && (be16_at(ip + at + 2) & 0xfff9);
		size_t bytes = next == NEXT_FRAGMENT ? 8 : (ip[at + 1] + 1U) * 8U;
		next = ip[at];
		at += bytes;
	}
	*flow = (struct flow){.addresses = ip + 8, .address_bytes = 32, .protocol = next, .is_ipv6 = true};
	if (!fragment && len >= at + PORTS_BYTES)
		flow->ports = ip + at;
	return true;
}

static bool look_at(const uint8_t *frame, size_t len, struct flow *flow)
{
	size_t at = ETHERNET_BYTES;
	if (len < at)
		return false;
	uint16_t type = be16_at(frame + at - 2);
	for (unsigned i = 0; i < VLANS_MAX && (type == ETHERTYPE_VLAN || type == ETHERTYPE_QINQ); i++) {
		at += VLAN_BYTES;
		if (len < at)
			return false;
		type = be16_at(frame + at - 2);
	}
	if (type == ETHERTYPE_IPV4)
		return look_at_ipv4(frame + at, len - at, flow);
	return type == ETHERTYPE_IPV6 && look_at_ipv6(frame + at, len - at, flow);
}

/* ---- the hash ---- */

struct toeplitz {
	const uint8_t *key;
	uint32_t window; /* the key's 32 bits that belong to the next bit of input */
	size_t next;	 /* byte of the key that comes into the window next */
	uint32_t hash;
};

/* Bit by bit: where the input has a one the window is added, then it moves on by one bit of the key. */
static void toeplitz_add(struct toeplitz *t, const uint8_t *data, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		uint8_t in = t->next < NET_RSS_KEY_BYTES ? t->key[t->next] : 0;
		t->next++;
		for (unsigned bit = 0; bit < 8; bit++) {
			t->hash ^= t->window & (0U - (data[i] >> (7 - bit) & 1U));
			t->window = t->window << 1 | (in >> (7 - bit) & 1U);
		}
	}
}

bool net_rss_hash(const struct net_rss *rss, const uint8_t *frame, size_t len, uint32_t *ret)
{
	struct flow flow;
	if (!look_at(frame, len, &flow))
		return false;
	uint32_t tcp = flow.is_ipv6 ? NET_HASH_TCPV6 : NET_HASH_TCPV4;
	uint32_t udp = flow.is_ipv6 ? NET_HASH_UDPV6 : NET_HASH_UDPV4;
	uint32_t ip = flow.is_ipv6 ? NET_HASH_IPV6 : NET_HASH_IPV4;
	bool ports = flow.ports && ((flow.protocol == NEXT_TCP && rss->hash_types & tcp) ||
				    (flow.protocol == NEXT_UDP && rss->hash_types & udp));
	if (!ports && !(rss->hash_types & ip))
		return false;
	const uint8_t *key = rss->key;
	struct toeplitz t = {.key = key,
			     .window = (uint32_t)key[0] << 24 | (uint32_t)key[1] << 16 |
				       (uint32_t)key[2] << 8 | key[3],
			     .next = 4};
	toeplitz_add(&t, flow.addresses, flow.address_bytes);
	if (ports)
		toeplitz_add(&t, flow.ports, PORTS_BYTES);
	*ret = t.hash;
	return true;
}

uint16_t net_rss_queue(const struct net_rss *rss, const uint8_t *frame, size_t len)
{
	uint32_t hash;
	return net_rss_hash(rss, frame, len, &hash) ? rss->table[hash & rss->table_mask] : rss->unclassified;
}
