/* The network device on TAP interfaces of a network namespace of our own; the other side is a packet socket.
 * Needs root, or a user namespace. */
#include "net_rig.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>

enum { ETHERTYPE = 0x88b5, QUIET_MS = 50, IP_BYTES = 20, TCP_BYTES = 20, TCP_CSUM = 16 };

static struct rig rig;
static uint8_t frame[RIG_FRAME_MAX], got[RIG_FRAME_MAX];

static const uint64_t offloads =
	NET_F_CSUM | NET_F_HOST_TSO4 | NET_F_HOST_TSO6 | NET_GUEST_OFFLOADS | NET_F_MRG_RXBUF;

static struct net_config tap_config(const char *name, uint32_t queues)
{
	return (struct net_config){.place = {.slot = 4, .iothread = 1},
				   .backend = NET_TAP,
				   .tap = name,
				   .queues = queues,
				   .offload = true};
}

/* Frames of `protocol` on an interface, from the host's side. */
static int open_socket(const char *name, uint16_t protocol, bool vnet_header)
{
	const int one = 1;
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(protocol));
	ck_assert_int_ge(fd, 0);
	if (vnet_header)
		ck_assert_int_eq(setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof(one)), 0);
	const struct sockaddr_ll address = {.sll_family = AF_PACKET,
					    .sll_protocol = htons(protocol),
					    .sll_ifindex = (int)if_nametoindex(name)};
	ck_assert_int_eq(bind(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

/* 0: nothing came. What we sent ourselves is not counted. */
static size_t host_receive(int fd, unsigned timeout_ms)
{
	struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
	struct sockaddr_ll from;
	socklen_t from_len = sizeof(from);
	while (poll(&poll_fd, 1, (int)timeout_ms) > 0) {
		ssize_t len = recvfrom(fd, got, sizeof(got), 0, (struct sockaddr *)&from, &from_len);
		ck_assert_int_gt(len, 0);
		if (from.sll_pkttype != PACKET_OUTGOING)
			return (size_t)len;
	}
	return 0;
}

static void start_tap(const struct net_config *config, uint64_t features)
{
	rig_open(&rig);
	nic_create(&rig.a, &rig.world, config, 0);
	nic_start(&rig.a, features);
}

static void finish_tap(void)
{
	nic_destroy(&rig.a);
	rig_close(&rig);
}

START_TEST(frames_pass_between_host_and_guest)
{
	const struct net_config config = tap_config("aerie0", 1);
	start_tap(&config, 0);
	int fd = open_socket("aerie0", ETHERTYPE, false);
	for (size_t i = 0; i < ARRAY_LEN(rig_layouts) * 2; i++) {
		nic_start(&rig.a, rig_layouts[i / 2] | (i & 1 ? offloads : 0));
		nic_wait_link(&rig.a, true);
		nic_post(&rig.a, RIG_RX, RIG_QUEUE, 2048);
		for (unsigned n = 0; n < 40; n++) {
			size_t len = make_frame(frame, 60 + 30 * n, n);
			nic_send(&rig.a, frame, len);
			ck_assert_uint_eq(host_receive(fd, 2000), len);
			ck_assert_mem_eq(got, frame, len);
			ck_assert_int_eq(send(fd, frame, len, 0), (ssize_t)len);
			ck_assert_uint_eq(nic_receive(&rig.a, RIG_RX), len);
			ck_assert_mem_eq(rig.a.frame, frame, len);
		}
	}
	(void)close_fd(fd);
	finish_tap();
}
END_TEST

/* A burst while the guest has no buffers stays in the interface, and comes in order. */
START_TEST(a_burst_waits_in_the_interface)
{
	enum { FRAMES = 200 };
	const struct net_config config = tap_config("aerie0", 1);
	start_tap(&config, VIRTIO_F_RING_PACKED);
	int fd = open_socket("aerie0", ETHERTYPE, false);
	for (unsigned n = 0; n < FRAMES; n++)
		ck_assert_int_eq(send(fd, frame, make_frame(frame, 100 + n, n), 0), 100 + (ssize_t)n);
	for (unsigned n = 0; n < FRAMES; n++) {
		if (n % 50 == 0)
			nic_post(&rig.a, RIG_RX, 50, 2048);
		ck_assert_uint_eq(nic_receive(&rig.a, RIG_RX), make_frame(frame, 100 + n, n));
		ck_assert_mem_eq(rig.a.frame, frame, 100 + n);
	}
	(void)close_fd(fd);
	finish_tap();
}
END_TEST

/* IPv4 and TCP around `payload` bytes, with the pseudo header's sum where the checksum will be. */
static size_t make_tcp(uint8_t *at, size_t payload)
{
	size_t tcp = TCP_BYTES + payload;
	memset(at, 0, ETH_HLEN + IP_BYTES + TCP_BYTES);
	make_frame(at, ETH_HLEN, 0);
	at[12] = 0x08;
	at[13] = 0;
	uint8_t *ip = at + ETH_HLEN, *header = ip + IP_BYTES;
	const uint8_t ip_header[] = {0x45,
				     0,
				     (uint8_t)((IP_BYTES + tcp) >> 8),
				     (uint8_t)(IP_BYTES + tcp),
				     0,
				     1,
				     0x40,
				     0,
				     64,
				     6,
				     0,
				     0,
				     10,
				     0,
				     0,
				     1,
				     10,
				     0,
				     0,
				     2};
	memcpy(ip, ip_header, sizeof(ip_header));
	uint32_t sum = 0;
	for (unsigned i = 0; i < IP_BYTES; i += 2)
		sum += (uint32_t)ip[i] << 8 | ip[i + 1];
	sum = (sum & 0xffff) + (sum >> 16);
	ip[10] = (uint8_t)(~sum >> 8);
	ip[11] = (uint8_t)~sum;
	sum = (uint32_t)tcp + 6 + 2 * 0x0a00 + 1 + 2;
	sum = (sum & 0xffff) + (sum >> 16);
	header[0] = 0x12;
	header[3] = 80;
	header[12] = 0x50;
	header[13] = 0x10;
	header[TCP_CSUM] = (uint8_t)(sum >> 8);
	header[TCP_CSUM + 1] = (uint8_t)sum;
	for (size_t i = 0; i < payload; i++)
		header[TCP_BYTES + i] = (uint8_t)(i * 13 + i / 256);
	return ETH_HLEN + IP_BYTES + tcp;
}

static bool tcp_sum_is_right(const uint8_t *at, size_t len)
{
	const uint8_t *tcp = at + ETH_HLEN + IP_BYTES;
	size_t tcp_len = len - ETH_HLEN - IP_BYTES;
	uint32_t sum = (uint32_t)tcp_len + 6 + 2 * 0x0a00 + 1 + 2;
	for (size_t i = 0; i < tcp_len; i++)
		sum += i & 1 ? tcp[i] : (uint32_t)tcp[i] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum == 0xffff;
}

static const struct net_header tso = {.flags = 1,
				      .gso_type = 1,
				      .hdr_len = ETH_HLEN + IP_BYTES + TCP_BYTES,
				      .gso_size = 1400,
				      .csum_start = ETH_HLEN + IP_BYTES,
				      .csum_offset = TCP_CSUM};

/* 64 KB in one packet, as the guest's TCP makes it; the host sees it whole. */
START_TEST(segments_are_left_to_the_host)
{
	const struct net_config config = tap_config("aerie0", 1);
	start_tap(&config, offloads);
	int fd = open_socket("aerie0", ETH_P_IP, true);
	const size_t payloads[] = {100, 1400, 14000, 65000};
	for (size_t i = 0; i < ARRAY_LEN(payloads); i++) {
		struct net_header header = tso, seen;
		size_t len = make_tcp(frame, payloads[i]);
		if (payloads[i] <= 1400)
			header.gso_type = 0;
		nic_send_with(&rig.a, RIG_TX, &header, frame, len);
		ck_assert_uint_eq(host_receive(fd, 2000), 10 + len);
		memcpy(&seen, got, 10);
		ck_assert_uint_eq(seen.flags, 1);
		ck_assert_uint_eq(seen.gso_type, header.gso_type);
		ck_assert_mem_eq(got + 10, frame, len);
	}
	(void)close_fd(fd);
	finish_tap();
}
END_TEST

static void inject(int fd, const struct net_header *header, size_t len)
{
	static uint8_t packet[10 + RIG_FRAME_MAX];
	memcpy(packet, header, 10);
	memcpy(packet + 10, frame, len);
	ck_assert_int_eq(send(fd, packet, 10 + len, 0), 10 + (ssize_t)len);
}

/* The other way: whole to a guest that can, in segments with sums to one that cannot (5.1.6.5.6). */
START_TEST(segments_are_left_to_the_guest_if_it_wants_them)
{
	const struct net_config config = tap_config("aerie0", 1);
	const size_t len = make_tcp(frame, 60000);
	start_tap(&config, offloads | NET_F_CTRL_VQ | NET_F_CTRL_GUEST_OFFLOADS);
	int fd = open_socket("aerie0", ETH_P_IP, true);
	nic_post(&rig.a, RIG_RX, RIG_QUEUE, 4096);
	for (unsigned n = 0; n < 10; n++) {
		inject(fd, &tso, len);
		ck_assert_uint_eq(nic_receive(&rig.a, RIG_RX), len);
		ck_assert_mem_eq(rig.a.frame, frame, len);
		ck_assert_uint_eq(rig.a.header.gso_type, 1);
		ck_assert_uint_eq(rig.a.header.gso_size, 1400);
		ck_assert_uint_eq(rig.a.header.flags, 1);
		nic_post(&rig.a, RIG_RX, rig.a.header.num_buffers, 4096);
	}
	const uint8_t only_sums[8] = {2}, none[8] = {0}, wrong[8] = {0x80}, unknown[8] = {0, 0, 1};
	ck_assert_int_eq(nic_command(&rig.a, RIG_CONTROL, 5, 0, wrong, 8), 1); /* TSO without sums */
	ck_assert_int_eq(nic_command(&rig.a, RIG_CONTROL, 5, 0, unknown, 8), 1);
	ck_assert_int_eq(nic_command(&rig.a, RIG_CONTROL, 5, 0, only_sums, 8), 0);
	inject(fd, &tso, len);
	size_t received = 0;
	while (received < 60000) {
		size_t part = nic_receive(&rig.a, RIG_RX);
		ck_assert_uint_le(part, 1454);
		ck_assert_uint_eq(rig.a.header.gso_type, 0);
		received += part - ETH_HLEN - IP_BYTES - TCP_BYTES;
	}
	ck_assert_uint_eq(received, 60000);
	ck_assert_int_eq(nic_command(&rig.a, RIG_CONTROL, 5, 0, none, 8), 0);
	const size_t small = make_tcp(frame, 1000);
	struct net_header sum_only = tso;
	sum_only.gso_type = 0;
	inject(fd, &sum_only, small);
	ck_assert_uint_eq(nic_receive(&rig.a, RIG_RX), small);
	ck_assert_uint_eq(rig.a.header.flags & 1, 0);
	ck_assert(tcp_sum_is_right(rig.a.frame, small));
	(void)close_fd(fd);
	finish_tap();
}
END_TEST

START_TEST(without_offloads_none_is_offered)
{
	struct net_config config = tap_config("aerie0", 1);
	config.offload = false;
	start_tap(&config, offloads);
	ck_assert_uint_eq(driver_offered(&rig.a.driver) & offloads, NET_F_MRG_RXBUF);
	int fd = open_socket("aerie0", ETH_P_IP, true);
	nic_post(&rig.a, RIG_RX, 8, 2048);
	const size_t len = make_tcp(frame, 1000);
	struct net_header sum_only = tso;
	sum_only.gso_type = 0;
	inject(fd, &sum_only, len);
	ck_assert_uint_eq(nic_receive(&rig.a, RIG_RX), len);
	ck_assert_uint_eq(rig.a.header.flags, 0);
	ck_assert(tcp_sum_is_right(rig.a.frame, len));
	(void)close_fd(fd);
	finish_tap();
}
END_TEST

/* ---- several queues ---- */

static void set_pairs(uint16_t pairs, int answer)
{
	ck_assert_int_eq(nic_command(&rig.a, 8, 4, 0, &pairs, sizeof(pairs)), answer);
}

START_TEST(several_pairs_are_used_when_the_guest_says_so)
{
	const struct net_config config = tap_config("aeriemq", 4);
	start_tap(&config, NET_F_MQ | NET_F_CTRL_VQ);
	ck_assert_uint_eq(driver_config_get(&rig.a.driver, 8, 2), 4);
	int fd = open_socket("aeriemq", ETHERTYPE, false);
	set_pairs(0, 1);
	set_pairs(5, 1);
	for (unsigned round = 0; round < 3; round++) {
		set_pairs(4, 0);
		for (unsigned pair = 0; pair < 4; pair++) {
			if (round == 0)
				nic_post(&rig.a, 2 * pair, RIG_QUEUE, 2048);
			size_t len = make_frame(frame, 500, pair);
			nic_send_with(&rig.a, 2 * pair + 1, &(struct net_header){0}, frame, len);
			ck_assert_uint_eq(host_receive(fd, 2000), len);
			ck_assert_mem_eq(got, frame, len);
		}
		set_pairs(1, 0); /* then everything comes by the first */
		for (unsigned n = 0; n < 10; n++) {
			size_t len = make_frame(frame, 500, n);
			frame[6 + 5] = (uint8_t)n;
			ck_assert_int_eq(send(fd, frame, len, 0), (ssize_t)len);
			ck_assert_uint_eq(nic_receive(&rig.a, RIG_RX), len);
			ck_assert_mem_eq(rig.a.frame, frame, len);
		}
	}
	(void)close_fd(fd);
	finish_tap();
}
END_TEST

/* IPv4 and UDP from one of our ports, to somebody who is not there. */
static size_t make_udp(uint8_t *at, uint16_t port)
{
	static const uint8_t ip[] = {0x45, 0, 0, 28 + 72, 0, 0, 0, 0, 64, 17, 0, 0, 10, 9, 8, 7, 10, 9, 8, 6};
	size_t len = make_frame(at, ETH_HLEN + 100, port);
	at[12] = 0x08;
	at[13] = 0;
	memcpy(at + ETH_HLEN, ip, sizeof(ip));
	at[ETH_HLEN + 20] = (uint8_t)(port >> 8);
	at[ETH_HLEN + 21] = (uint8_t)port;
	return len;
}

static int set_rss(uint16_t table_first, uint8_t seed, struct net_rss *ret)
{
	uint8_t data[8 + 2 * 4 + 3 + NET_RSS_KEY_BYTES];
	uint16_t pairs;
	store_le32(data, NET_HASH_UDPV4);
	store_le16(data + 4, 3);
	store_le16(data + 6, 2);
	for (uint16_t i = 0; i < 4; i++)
		store_le16(data + 8 + 2 * (size_t)i, i == 0 ? table_first : i);
	store_le16(data + 16, 4);
	data[18] = NET_RSS_KEY_BYTES;
	for (unsigned i = 0; i < NET_RSS_KEY_BYTES; i++)
		data[19 + i] = (uint8_t)(seed + 37 * i);
	(void)net_rss_parse(data, sizeof(data), 4, ret, &pairs);
	return nic_command(&rig.a, 8, 4, 1, data, sizeof(data));
}

/* 5.1.6.4.3: every frame in the queue that its hash names; the rest in the one for the rest. */
START_TEST(frames_come_in_the_queue_of_their_hash)
{
	const struct net_config config = tap_config("aeriemq", 4);
	for (size_t i = 0; i < ARRAY_LEN(rig_layouts); i++) {
		struct net_rss rss;
		unsigned used = 0;
		start_tap(&config, NET_F_RSS | NET_F_CTRL_VQ | NET_F_MRG_RXBUF | rig_layouts[i]);
		int fd = open_socket("aeriemq", ETHERTYPE, false);
		ck_assert_uint_eq(driver_config_get(&rig.a.driver, 17, 1), NET_RSS_KEY_BYTES);
		ck_assert_uint_eq(driver_config_get(&rig.a.driver, 18, 2), NET_RSS_TABLE_MAX);
		ck_assert_uint_eq(driver_config_get(&rig.a.driver, 20, 4), NET_HASH_ALL);
		for (unsigned pair = 0; pair < 4; pair++)
			nic_post(&rig.a, 2 * pair, RIG_QUEUE, 64); /* so that a frame takes several */
		ck_assert_int_eq(set_rss(4, 1, &rss), 1);	   /* there is no fifth */
		ck_assert_int_eq(set_rss(0, 1, &rss), 0);
		for (uint16_t port = 1000; port < 1020; port++) {
			size_t len = make_udp(frame, port);
			unsigned pair = net_rss_queue(&rss, frame, len);
			used |= 1U << pair;
			ck_assert_int_eq(send(fd, frame, len, 0), (ssize_t)len);
			ck_assert_uint_eq(nic_receive(&rig.a, 2 * pair), len);
			ck_assert_mem_eq(rig.a.frame, frame, len);
		}
		ck_assert_uint_eq(used, 15);
		size_t len = make_frame(frame, 90, 5);
		ck_assert_int_eq(send(fd, frame, len, 0), (ssize_t)len);
		ck_assert_uint_eq(nic_receive(&rig.a, 2 * 2), len);
		ck_assert_uint_eq(nic_counts(&rig.a).rx_dropped, 0);
		(void)close_fd(fd);
		finish_tap();
	}
}
END_TEST

/* A queue that the driver does not empty loses its frames, and the others go on. */
START_TEST(a_full_queue_does_not_hold_up_the_others)
{
	const struct net_config config = tap_config("aeriemq", 4);
	struct net_rss rss;
	start_tap(&config, NET_F_RSS | NET_F_CTRL_VQ);
	int fd = open_socket("aeriemq", ETHERTYPE, false);
	nic_post(&rig.a, 2 * 2, 8, 2048);
	for (unsigned pair = 0; pair < 4; pair++)
		if (pair != 2)
			nic_post(&rig.a, 2 * pair, RIG_QUEUE, 2048);
	ck_assert_int_eq(set_rss(0, 1, &rss), 0);
	for (unsigned n = 0; n < 40; n++) { /* not IP: all for pair 2 */
		size_t len = make_frame(frame, 90, n);
		frame[6 + 5] = (uint8_t)n;
		ck_assert_int_eq(send(fd, frame, len, 0), (ssize_t)len);
	}
	for (uint16_t port = 1; port < 30; port++) {
		size_t len = make_udp(frame, port);
		unsigned pair = net_rss_queue(&rss, frame, len);
		if (pair == 2)
			continue;
		ck_assert_int_eq(send(fd, frame, len, 0), (ssize_t)len);
		ck_assert_uint_eq(nic_receive(&rig.a, 2 * pair), len);
		ck_assert_mem_eq(rig.a.frame, frame, len);
	}
	(void)close_fd(fd);
	finish_tap();
}
END_TEST

/* 5.1.2: a driver that does not speak of MQ finds the control queue behind the first pair. */
START_TEST(without_mq_there_is_one_pair)
{
	const struct net_config config = tap_config("aeriemq", 4);
	const uint8_t off = 0;
	start_tap(&config, NET_F_CTRL_VQ | NET_F_CTRL_RX);
	ck_assert_int_eq(nic_command(&rig.a, RIG_CONTROL, 0, 1, &off, 1), 0);
	finish_tap();
}
END_TEST

/* ---- what may be wrong ---- */

static void refused(const struct net_config *config, int code, const char *message)
{
	struct err err;
	ck_assert_int_eq(nic_try_create(&rig.b, &rig.world, config, 0, &err), code);
	ck_assert_str_eq(err.text, message);
}

START_TEST(interfaces_that_cannot_be_used_are_refused)
{
	rig_open(&rig);
	struct net_config config = tap_config("lo", 1);
	refused(&config, -EINVAL, "tap: lo: not a TAP interface");
	config = tap_config("lo", 2);
	refused(&config, -EINVAL,
		"tap: lo: not a TAP interface with several queues (ip tuntap add dev lo mode tap multi_queue "
		"makes one)");
	config = tap_config("aerie1", 1);
	nic_create(&rig.a, &rig.world, &config, 0);
	refused(&config, -EBUSY, "tap: aerie1: another program has it open");
	nic_destroy(&rig.a);
	ck_assert_uint_eq(if_nametoindex("aerie1"), 0);
	config = (struct net_config){.backend = NET_TAP, .tap_fd = 0x7fff};
	refused(&config, -EINVAL, "tap_fd: 32767: not a TAP descriptor (Bad file descriptor)");
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	config.tap_fd = (uint32_t)null;
	char message[128];
	(void)snprintf(message, sizeof(message),
		       "tap_fd: %d: not a TAP descriptor (Inappropriate ioctl for device)", null);
	refused(&config, -EINVAL, message);
	(void)close_fd(null);
	rig_close(&rig);
}
END_TEST

static int open_tap_fd(const char *name, short flags)
{
	struct ifreq request = {.ifr_flags = flags};
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	(void)snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
	ck_assert_int_eq(ioctl(fd, TUNSETIFF, &request), 0);
	return fd;
}

START_TEST(an_inherited_descriptor_must_be_a_tap_with_header)
{
	static const struct {
		short flags;
		const char *message;
	} cases[] = {
		{IFF_TUN | IFF_NO_PI | IFF_VNET_HDR, "is not a TAP interface but a TUN"},
		{IFF_TAP | IFF_NO_PI, "was opened without IFF_VNET_HDR"},
	};
	rig_open(&rig);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char message[128];
		int fd = open_tap_fd("aerie2", cases[i].flags);
		const struct net_config config = {.backend = NET_TAP, .tap_fd = (uint32_t)fd};
		(void)snprintf(message, sizeof(message), "tap_fd: %d: aerie2 %s", fd, cases[i].message);
		refused(&config, -EINVAL, message);
		(void)close_fd(fd);
	}
	int fd = open_tap_fd("aerie2", IFF_TAP | IFF_NO_PI | IFF_VNET_HDR);
	const struct net_config config = {
		.place = {.slot = 4}, .backend = NET_TAP, .tap_fd = (uint32_t)fd, .offload = true};
	nic_create(&rig.a, &rig.world, &config, 0);
	(void)close_fd(fd);
	ck_assert_int_eq(system("ip link set aerie2 up"), 0);
	nic_start(&rig.a, 0);
	int host = open_socket("aerie2", ETHERTYPE, false);
	nic_send(&rig.a, frame, make_frame(frame, 99, 1));
	ck_assert_uint_eq(host_receive(host, 2000), 99);
	(void)close_fd(host);
	nic_destroy(&rig.a);
	rig_close(&rig);
}
END_TEST

/* It goes while the guest uses it: nothing worse than silence. */
START_TEST(an_interface_that_is_deleted_is_only_silent)
{
	ck_assert_int_eq(system("ip tuntap add dev aerie3 mode tap && ip link set aerie3 up"), 0);
	const struct net_config config = tap_config("aerie3", 1);
	start_tap(&config, 0);
	nic_post(&rig.a, RIG_RX, 8, 2048);
	ck_assert_int_eq(system("ip link del aerie3"), 0);
	for (unsigned n = 0; n < 5; n++)
		nic_send(&rig.a, frame, make_frame(frame, 99, n));
	rig_sleep_ms(QUIET_MS);
	ck_assert_uint_ge(nic_counts(&rig.a).tx_dropped, 4);
	finish_tap();
}
END_TEST

START_TEST(resets_with_traffic_in_flight)
{
	const struct net_config config = tap_config("aerie0", 1);
	start_tap(&config, 0);
	int fd = open_socket("aerie0", ETHERTYPE, false);
	for (unsigned round = 0; round < 60; round++) {
		nic_start(&rig.a, VIRTIO_F_RING_RESET | rig_layouts[round % 4] | (round & 4 ? offloads : 0));
		nic_post(&rig.a, RIG_RX, 20, 2048);
		for (unsigned n = 0; n < 40; n++) {
			(void)send(fd, frame, make_frame(frame, 700, n), MSG_DONTWAIT);
			if (n < 20)
				ck_assert_int_ge(
					nic_submit(&rig.a, RIG_TX, &(struct net_header){0}, frame, 700), 0);
		}
		if (round % 3 == 0) {
			ck_assert_int_eq(driver_reset_queue(&rig.a.driver, RIG_RX), 0);
			ck_assert_int_eq(driver_reset_queue(&rig.a.driver, RIG_TX), 0);
			ck_assert_int_eq(driver_enable_queue(&rig.a.driver, RIG_RX, 0), 0);
			ck_assert_int_eq(driver_enable_queue(&rig.a.driver, RIG_TX, 0), 0);
			nic_post(&rig.a, RIG_RX, 20, 2048);
			nic_send(&rig.a, frame, 700);
		}
	}
	(void)close_fd(fd);
	finish_tap();
}
END_TEST

static bool enter_namespace(void)
{
	if (unshare(CLONE_NEWNET) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
		return false;
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return false;
	(void)close_fd(fd);
	/* No frames but ours. */
	return system("echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6 && ip link set lo up && "
		      "ip tuntap add dev probe mode tap && ip link del probe") == 0;
}

int main(void)
{
	const TTest *const tests[] = {frames_pass_between_host_and_guest,
				      a_burst_waits_in_the_interface,
				      segments_are_left_to_the_host,
				      segments_are_left_to_the_guest_if_it_wants_them,
				      without_offloads_none_is_offered,
				      several_pairs_are_used_when_the_guest_says_so,
				      frames_come_in_the_queue_of_their_hash,
				      a_full_queue_does_not_hold_up_the_others,
				      without_mq_there_is_one_pair,
				      interfaces_that_cannot_be_used_are_refused,
				      an_inherited_descriptor_must_be_a_tap_with_header,
				      an_interface_that_is_deleted_is_only_silent,
				      resets_with_traffic_in_flight};
	if (!enter_namespace()) {
		(void)printf("skipped: no TAP in a network namespace of our own (root, /dev/net/tun, ip)\n");
		return TEST_SKIP;
	}
	return harness_run("net_tap", tests, ARRAY_LEN(tests));
}
