/* A machine that has moved tells its networks: the frame byte by byte, and what it does not disturb. */
#include "net_rig.h"

static struct rig rig;

static const uint8_t mac[6] = {0x52, 0x54, 0x00, 0xab, 0xcd, 0xef};

/* RFC 903, in Ethernet; what follows the second hardware address is zero. */
static const uint8_t golden[60] = {
	0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x52, 0x54, 0x00, 0xab, 0xcd, 0xef, 0x80, 0x35, /* to all, RARP */
	0x00, 0x01, 0x08, 0x00, 0x06, 0x04, 0x00, 0x03, /* Ethernet, IPv4, 6, 4, request reverse */
	0x52, 0x54, 0x00, 0xab, 0xcd, 0xef, 0x00, 0x00, 0x00, 0x00, /* sender */
	0x52, 0x54, 0x00, 0xab, 0xcd, 0xef, 0x00, 0x00, 0x00, 0x00, /* who is that? */
};

static void set_up(uint64_t features)
{
	rig_init(&rig);
	nic_start(&rig.a, 0);
	nic_post(&rig.a, RIG_RX, 32, 2048);
	nic_start(&rig.b, features);
}

static void set_mac(void)
{
	ck_assert_int_eq(nic_command(&rig.b, RIG_CONTROL, 1, 1, mac, sizeof(mac)), 0);
}

START_TEST(the_frame_is_rarp_with_the_guests_address)
{
	set_up(NET_F_CTRL_VQ | NET_F_CTRL_MAC_ADDR | NET_F_STATUS | NET_F_GUEST_ANNOUNCE | NET_F_MAC);
	set_mac();
	unsigned before = driver_config_interrupts(&rig.b.driver);
	nic_announce(&rig.b);
	ck_assert_uint_eq(nic_receive(&rig.a, RIG_RX), sizeof(golden));
	ck_assert_mem_eq(rig.a.frame, golden, sizeof(golden));
	/* And the guest is asked for the rest. */
	ck_assert_int_eq(driver_wait_config_interrupt(&rig.b.driver, before), 0);
	ck_assert_uint_eq(nic_status(&rig.b), NET_S_LINK_UP | NET_S_ANNOUNCE);
	nic_announce(&rig.b);
	ck_assert_uint_eq(nic_receive(&rig.a, RIG_RX), sizeof(golden));
	ck_assert_int_eq(nic_command(&rig.b, RIG_CONTROL, 3, 0, NULL, 0), 0);
	ck_assert_uint_eq(nic_status(&rig.b), NET_S_LINK_UP);
	/* None of it is the guest's traffic. */
	ck_assert_uint_eq(nic_counts(&rig.b).tx_packets + nic_counts(&rig.b).tx_dropped, 0);
	rig_finish(&rig);
}
END_TEST

START_TEST(a_driver_that_cannot_announce_has_the_frame)
{
	set_up(0);
	nic_announce(&rig.b);
	ck_assert_uint_eq(nic_receive(&rig.a, RIG_RX), sizeof(golden));
	ck_assert_mem_eq(rig.a.frame, golden, 6);
	ck_assert_uint_eq(rig.a.frame[12] << 8 | rig.a.frame[13], 0x8035);
	ck_assert_mem_eq(rig.a.frame + 6, rig.a.frame + 22, 6);
	rig_finish(&rig);
}
END_TEST

START_TEST(nothing_goes_without_a_driver_or_a_link)
{
	rig_init(&rig);
	nic_start(&rig.a, 0);
	nic_post(&rig.a, RIG_RX, 8, 2048);
	nic_announce(&rig.b);
	nic_start(&rig.b, 0);
	net_set_link(rig.b.device, false);
	nic_announce(&rig.b);
	rig_sleep_ms(30);
	ck_assert(!nic_has_received(&rig.a, RIG_RX));
	/* With the cable back in it goes before what the guest sends. */
	net_set_link(rig.b.device, true);
	uint8_t frame[100];
	nic_send(&rig.b, frame, make_frame(frame, sizeof(frame), 1));
	ck_assert_uint_eq(nic_receive(&rig.a, RIG_RX), 60);
	ck_assert_uint_eq(nic_receive(&rig.a, RIG_RX), 100);
	rig_finish(&rig);
}
END_TEST

/* A device that has been set going a moment ago may not be there yet: then it is told as soon as it is. */
START_TEST(at_rest_it_waits)
{
	set_up(NET_F_CTRL_VQ | NET_F_STATUS | NET_F_GUEST_ANNOUNCE);
	net_class.quiesce(rig.b.device);
	nic_announce(&rig.b);
	ck_assert(!nic_has_received(&rig.a, RIG_RX));
	unsigned before = driver_config_interrupts(&rig.b.driver);
	net_class.resume(rig.b.device);
	ck_assert_uint_eq(nic_receive(&rig.a, RIG_RX), 60);
	ck_assert_int_eq(driver_wait_config_interrupt(&rig.b.driver, before), 0);
	ck_assert_uint_eq(nic_status(&rig.b), NET_S_LINK_UP | NET_S_ANNOUNCE);
	ck_assert_int_eq(nic_command(&rig.b, RIG_CONTROL, 3, 0, NULL, 0), 0);
	/* Once. */
	net_class.quiesce(rig.b.device);
	net_class.resume(rig.b.device);
	uint8_t frame[100];
	nic_send(&rig.b, frame, make_frame(frame, sizeof(frame), 1));
	ck_assert_uint_eq(nic_receive(&rig.a, RIG_RX), 100);
	ck_assert_uint_eq(nic_status(&rig.b), NET_S_LINK_UP);
	rig_finish(&rig);
}
END_TEST

/* The guest sends all it can meanwhile, pauses and resets come in between: each frame of the guest's arrives
 * once, in order, and so do ours, between them. */
START_TEST(it_goes_between_the_guests_frames)
{
	enum { ROUNDS = 200 };
	for (size_t layout = 0; layout < ARRAY_LEN(rig_layouts); layout++) {
		unsigned ours = 0, theirs = 0;
		rig_init(&rig);
		nic_start(&rig.a, rig_layouts[layout]);
		nic_post(&rig.a, RIG_RX, 60, 2048);
		nic_start(&rig.b, rig_layouts[layout]);
		for (unsigned i = 0; i < ROUNDS; i++) {
			uint8_t frame[200];
			size_t len = make_frame(frame, 200, i);
			ck_assert_int_ge(nic_submit(&rig.b, RIG_TX, &(struct net_header){0}, frame, len), 0);
			nic_announce(&rig.b);
			if (i % 16 == 5) {
				net_class.quiesce(rig.b.device);
				net_class.resume(rig.b.device);
			}
			nic_collect_sent(&rig.b, RIG_TX);
			do {
				len = nic_receive(&rig.a, RIG_RX);
				nic_post(&rig.a, RIG_RX, 1, 2048);
				ours += len == 60;
			} while (len == 60);
			ck_assert_uint_eq(len, 200);
			ck_assert_mem_eq(rig.a.frame, frame, len);
			theirs++;
		}
		ck_assert_uint_eq(theirs, ROUNDS);
		ck_assert_uint_ge(ours, ROUNDS / 2);
		ck_assert_uint_le(ours, ROUNDS);
		ck_assert_uint_eq(nic_counts(&rig.b).tx_packets, ROUNDS);
		rig_finish(&rig);
	}
}
END_TEST

TEST_MAIN("net-announce", the_frame_is_rarp_with_the_guests_address,
	  a_driver_that_cannot_announce_has_the_frame, nothing_goes_without_a_driver_or_a_link,
	  at_rest_it_waits, it_goes_between_the_guests_frames)
