/* Receive-side scaling: the hashes that Microsoft published to verify it by, what is a frame with ports, what
 * is a configuration. */
#include "../../devices/virtio/net_rss.h"
#include "base/bytes.h"
#include "base/cleanup.h"
#include "harness.h"

#include <arpa/inet.h>
#include <string.h>

enum { FRAME = 300, TCP = 6, UDP = 17, ICMP = 1 };

static const uint8_t key[NET_RSS_KEY_BYTES] = {0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67,
					       0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0, 0xca, 0x2b, 0xcb,
					       0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30,
					       0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa};

static struct net_rss rss_of(uint32_t types)
{
	struct net_rss rss = {.on = true, .hash_types = types, .table_mask = 3, .unclassified = 9};
	memcpy(rss.key, key, sizeof(key));
	for (uint16_t i = 0; i < 4; i++)
		rss.table[i] = i;
	return rss;
}

static void put_be16(uint8_t *at, unsigned value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

/* Ethernet, IPv4 or IPv6 by the addresses' look, ports. Returns the length. */
static size_t make(uint8_t *frame, const char *from, const char *to, uint8_t protocol, unsigned from_port,
		   unsigned to_port)
{
	bool is_ipv6 = strchr(from, ':');
	memset(frame, 0, FRAME);
	put_be16(frame + 12, is_ipv6 ? 0x86dd : 0x0800);
	uint8_t *ip = frame + 14, *ports = ip + (is_ipv6 ? 40 : 20);
	ip[0] = is_ipv6 ? 0x60 : 0x45;
	ip[is_ipv6 ? 6 : 9] = protocol;
	ck_assert_int_eq(inet_pton(is_ipv6 ? AF_INET6 : AF_INET, from, ip + (is_ipv6 ? 8 : 12)), 1);
	ck_assert_int_eq(inet_pton(is_ipv6 ? AF_INET6 : AF_INET, to, ip + (is_ipv6 ? 24 : 16)), 1);
	put_be16(ports, from_port);
	put_be16(ports + 2, to_port);
	return (size_t)(ports - frame) + 20;
}

static uint32_t hash(uint32_t types, const uint8_t *frame, size_t len)
{
	const struct net_rss rss = rss_of(types);
	uint32_t ret = 0;
	ck_assert(net_rss_hash(&rss, frame, len, &ret));
	return ret;
}

static bool has_hash(uint32_t types, const uint8_t *frame, size_t len)
{
	const struct net_rss rss = rss_of(types);
	uint32_t ret;
	return net_rss_hash(&rss, frame, len, &ret);
}

static const struct {
	const char *to;
	unsigned to_port;
	const char *from;
	unsigned from_port;
	uint32_t with_ports, without;
} known[] = {
	{"161.142.100.80", 1766, "66.9.149.187", 2794, 0x51ccc178, 0x323e8fc2},
	{"65.69.140.83", 4739, "199.92.111.2", 14230, 0xc626b0ea, 0xd718262a},
	{"12.22.207.184", 38024, "24.19.198.95", 12898, 0x5c2b394a, 0xd2d0a5de},
	{"209.142.163.6", 2217, "38.27.205.30", 48228, 0xafc7327f, 0x82989176},
	{"202.188.127.2", 1303, "153.39.163.191", 44251, 0x10e828a2, 0x5d1809c5},
	{"3ffe:2501:200:3::1", 1766, "3ffe:2501:200:1fff::7", 2794, 0x40207d3d, 0x2cc18cd5},
	{"ff02::1", 4739, "3ffe:501:8::260:97ff:fe40:efab", 14230, 0xdde51bbf, 0x0f0c461c},
	{"fe80::200:f8ff:fe21:67cf", 38024, "3ffe:1900:4545:3:200:f8ff:fe21:67cf", 44251, 0x02d1feef,
	 0x4b61e985},
};

START_TEST(known_hashes)
{
	uint8_t frame[FRAME];
	for (size_t i = 0; i < ARRAY_LEN(known); i++) {
		size_t len =
			make(frame, known[i].from, known[i].to, TCP, known[i].from_port, known[i].to_port);
		ck_assert_uint_eq(hash(NET_HASH_ALL, frame, len), known[i].with_ports);
		ck_assert_uint_eq(hash(NET_HASH_IPV4 | NET_HASH_IPV6, frame, len), known[i].without);
		ck_assert_uint_eq(hash(NET_HASH_ALL & ~(NET_HASH_TCPV4 | NET_HASH_TCPV6), frame, len),
				  known[i].without);
		len = make(frame, known[i].from, known[i].to, UDP, known[i].from_port, known[i].to_port);
		ck_assert_uint_eq(hash(NET_HASH_UDPV4 | NET_HASH_UDPV6, frame, len), known[i].with_ports);
		ck_assert(!has_hash(NET_HASH_TCPV4 | NET_HASH_TCPV6, frame, len));
		len = make(frame, known[i].from, known[i].to, ICMP, 1, 2);
		ck_assert_uint_eq(hash(NET_HASH_ALL, frame, len), known[i].without);
	}
}
END_TEST

START_TEST(headers_on_the_way_are_skipped)
{
	uint8_t frame[FRAME], tagged[FRAME + 8] = {0};
	for (size_t i = 0; i < ARRAY_LEN(known); i++) {
		size_t len =
			make(frame, known[i].from, known[i].to, TCP, known[i].from_port, known[i].to_port);
		for (size_t tags = 1; tags <= 2; tags++) {
			memcpy(tagged, frame, 12);
			for (size_t tag = 0; tag < tags; tag++)
				put_be16(tagged + 12 + 4 * tag, tag + 1 < tags ? 0x88a8 : 0x8100);
			memcpy(tagged + 12 + 4 * tags, frame + 12, len - 12);
			ck_assert_uint_eq(hash(NET_HASH_ALL, tagged, len + 4 * tags), known[i].with_ports);
		}
	}
	/* Options of IPv4; extension headers of IPv6: hop by hop, then destination options of 16 bytes. */
	size_t len = make(frame, known[0].from, known[0].to, TCP, 0, 0);
	frame[14] = 0x47;
	put_be16(frame + 14 + 28, known[0].from_port);
	put_be16(frame + 14 + 30, known[0].to_port);
	ck_assert_uint_eq(hash(NET_HASH_ALL, frame, len + 8), known[0].with_ports);
	len = make(frame, known[5].from, known[5].to, 0, 0, 0);
	uint8_t *next = frame + 14 + 40;
	memset(next, 0, 24);
	next[0] = 60;
	next[8] = TCP;
	next[9] = 1;
	put_be16(next + 24, known[5].from_port);
	put_be16(next + 26, known[5].to_port);
	ck_assert_uint_eq(hash(NET_HASH_ALL, frame, len + 24), known[5].with_ports);
}
END_TEST

START_TEST(fragments_have_no_ports)
{
	uint8_t frame[FRAME];
	size_t len = make(frame, known[0].from, known[0].to, TCP, known[0].from_port, known[0].to_port);
	static const unsigned fields[] = {0x2000, 0x0001, 0x1fff};
	for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
		put_be16(frame + 14 + 6, fields[i]);
		ck_assert_uint_eq(hash(NET_HASH_ALL, frame, len), known[0].without);
	}
	put_be16(frame + 14 + 6, 0x4000); /* "do not fragment" */
	ck_assert_uint_eq(hash(NET_HASH_ALL, frame, len), known[0].with_ports);
	len = make(frame, known[5].from, known[5].to, 44, 0, 0);
	frame[14 + 40] = TCP;
	put_be16(frame + 14 + 42, 0x0001);
	ck_assert_uint_eq(hash(NET_HASH_ALL, frame, len), known[5].without);
}
END_TEST

/* Cut anywhere: never a byte beyond the end (each copy has its own end, for ASan), and never ports that are
 * not there. */
START_TEST(frames_that_are_cut)
{
	uint8_t frame[FRAME];
	for (size_t i = 0; i < ARRAY_LEN(known); i++) {
		size_t full =
			make(frame, known[i].from, known[i].to, TCP, known[i].from_port, known[i].to_port) -
			16; /* the ports are its last bytes */
		size_t ip = full - 4;
		for (size_t len = 0; len <= full; len++) {
			uint8_t *cut = malloc(len + !len);
			ck_assert_ptr_nonnull(cut);
			memcpy(cut, frame, len);
			ck_assert_int_eq(has_hash(NET_HASH_ALL, cut, len), len >= ip);
			if (len >= ip)
				ck_assert_uint_eq(hash(NET_HASH_ALL, cut, len),
						  len == full ? known[i].with_ports : known[i].without);
			free(cut);
		}
	}
	memset(frame, 0xff, sizeof(frame));
	ck_assert(!has_hash(NET_HASH_ALL, frame, sizeof(frame)));
}
END_TEST

START_TEST(the_table_says_which_queue)
{
	uint8_t frame[FRAME];
	const struct net_rss rss = rss_of(NET_HASH_IPV4);
	size_t len = make(frame, known[0].from, known[0].to, TCP, 1, 2);
	ck_assert_uint_eq(net_rss_queue(&rss, frame, len), known[0].without & 3);
	len = make(frame, known[5].from, known[5].to, TCP, 1, 2);
	ck_assert_uint_eq(net_rss_queue(&rss, frame, len), 9); /* of no type that is on */
	ck_assert_uint_eq(net_rss_queue(&rss, frame, 0), 9);
}
END_TEST

/* ---- configurations ---- */

static size_t make_config(uint8_t *at, uint32_t types, unsigned entries, unsigned tx, unsigned key_bytes)
{
	memset(at, 0, NET_RSS_CONFIG_BYTES + 64);
	store_le32(at, types);
	store_le16(at + 4, (uint16_t)(entries - 1));
	store_le16(at + 6, 1);
	for (unsigned i = 0; i < entries; i++)
		store_le16(at + 8 + 2 * (size_t)i, (uint16_t)(i % 3));
	uint8_t *tail = at + 8 + 2 * (size_t)entries;
	store_le16(tail, (uint16_t)tx);
	tail[2] = (uint8_t)key_bytes;
	memset(tail + 3, 0xab, key_bytes);
	return 8 + 2 * (size_t)entries + 3 + key_bytes;
}

static bool parses(const uint8_t *data, size_t len)
{
	struct net_rss rss = {.unclassified = 77};
	uint16_t pairs;
	uint8_t *cut = malloc(len + !len);
	ck_assert_ptr_nonnull(cut);
	memcpy(cut, data, len);
	bool good = net_rss_parse(cut, len, 4, &rss, &pairs);
	ck_assert(good || rss.unclassified == 77);
	ck_assert(!good || net_rss_check(&rss, 4));
	free(cut);
	return good;
}

START_TEST(configurations)
{
	uint8_t data[NET_RSS_CONFIG_BYTES + 64];
	struct net_rss rss;
	uint16_t pairs;
	size_t len = make_config(data, 0x3f, 128, 2, 40);
	ck_assert_uint_eq(len, NET_RSS_CONFIG_BYTES);
	ck_assert(net_rss_parse(data, len, 4, &rss, &pairs));
	ck_assert_uint_eq(pairs, 3); /* the table names three, though only two send */
	ck_assert_uint_eq(rss.table[5], 2);
	ck_assert_uint_eq(rss.table_mask, 127);
	ck_assert_uint_eq(rss.unclassified, 1);
	ck_assert_uint_eq(rss.key[39], 0xab);
	for (size_t cut = 0; cut < len; cut++)
		ck_assert(!parses(data, cut));
	ck_assert(!parses(data, len + 1));
	ck_assert(parses(data, make_config(data, 0, 1, 4, 0)));
	ck_assert(!parses(data, make_config(data, 0x40, 1, 1, 40))); /* a type that is not offered */
	ck_assert(!parses(data, make_config(data, 1, 3, 1, 40)));    /* no power of two */
	ck_assert(!parses(data, make_config(data, 1, 1, 0, 40)));
	ck_assert(!parses(data, make_config(data, 1, 1, 5, 40)));
	ck_assert(!parses(data, make_config(data, 1, 1, 1, 41)));
	len = make_config(data, 1, 4, 1, 40);
	store_le16(data + 4, 0xffff); /* 65536 entries */
	ck_assert(!parses(data, len));
	len = make_config(data, 1, 4, 1, 40);
	store_le16(data + 8 + 6, 4); /* pairs are 0 to 3 */
	ck_assert(!parses(data, len));
	store_le16(data + 8 + 6, 3);
	ck_assert(parses(data, len));
	store_le16(data + 6, 0x8000); /* the reserved bit */
	ck_assert(!parses(data, len));
}
END_TEST

TEST_MAIN("net_rss", known_hashes, headers_on_the_way_are_skipped, fragments_have_no_ports,
	  frames_that_are_cut, the_table_says_which_queue, configurations)
