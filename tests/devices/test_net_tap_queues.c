/* A TAP interface with several queues, and a guest with as many pairs. */
#include "net_tap_rig.h"

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

NET_TAP_TEST_MAIN("net_tap_queues", several_pairs_are_used_when_the_guest_says_so,
		  frames_come_in_the_queue_of_their_hash, a_full_queue_does_not_hold_up_the_others,
		  without_mq_there_is_one_pair)
