/* What a TAP interface and the guest leave to each other: sums and segments. */
#include "net_tap_rig.h"

enum { IP_BYTES = 20, TCP_BYTES = 20, TCP_CSUM = 16 };

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

NET_TAP_TEST_MAIN("net_tap_offload", segments_are_left_to_the_host,
		  segments_are_left_to_the_guest_if_it_wants_them, without_offloads_none_is_offered)
