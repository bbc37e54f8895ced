/* The network device's control queue, config space and state (VIRTIO 1.3, 5.1.4 and 5.1.6.5). */
#include "net_rig.h"

static struct rig rig;
static uint8_t frame[RIG_FRAME_MAX];

enum { CLASS_RX, CLASS_MAC, CLASS_ANNOUNCE = 3, CLASS_MQ, CLASS_OFFLOADS };

static const uint64_t control = NET_F_CTRL_VQ | NET_F_CTRL_RX | NET_F_CTRL_RX_EXTRA | NET_F_CTRL_MAC_ADDR |
				NET_F_GUEST_ANNOUNCE | NET_F_STATUS | NET_F_MAC;

static int command(uint8_t class, uint8_t number, const void *data, size_t len)
{
	return nic_command(&rig.b, RIG_CONTROL, class, number, data, len);
}

static void mode(uint8_t number, uint8_t on)
{
	ck_assert_int_eq(command(CLASS_RX, number, &on, 1), 0);
}

static const uint8_t own[6] = {0x52, 0x54, 0, 1, 2, 3}, other[6] = {0x52, 0x54, 0, 9, 9, 9},
		     group[6] = {0x01, 0, 0x5e, 1, 2, 3}, group2[6] = {0x01, 0, 0x5e, 1, 2, 4},
		     everyone[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

/* Does a frame to `to` come through? A broadcast after it shows when it should have. */
static bool comes(const uint8_t *to)
{
	static unsigned seed;
	uint8_t mark[64];
	make_frame(frame, 64, ++seed);
	memcpy(frame, to, 6);
	make_frame(mark, 64, 99);
	memcpy(mark, own, 6);
	mark[20] = 0xbb;
	nic_send(&rig.a, frame, 64);
	nic_send(&rig.a, mark, 64);
	ck_assert_uint_eq(nic_receive(&rig.b, RIG_RX), 64);
	nic_post(&rig.b, RIG_RX, 1, 2048);
	if (memcmp(rig.b.frame, mark, 64) == 0)
		return false;
	ck_assert_mem_eq(rig.b.frame, frame, 64);
	ck_assert_uint_eq(nic_receive(&rig.b, RIG_RX), 64);
	nic_post(&rig.b, RIG_RX, 1, 2048);
	return true;
}

static void start(uint64_t features)
{
	nic_start(&rig.a, 0);
	nic_start(&rig.b, features);
	nic_post(&rig.b, RIG_RX, 16, 2048);
}

START_TEST(the_guest_filters_what_it_receives)
{
	rig_init(&rig);
	start(control);
	ck_assert(comes(other) && comes(group) && comes(everyone)); /* all, until it says otherwise */
	ck_assert_int_eq(command(CLASS_MAC, 1, own, 6), 0);
	mode(0, 0);
	ck_assert(!comes(other) && !comes(group) && comes(everyone) && comes(own));
	mode(1, 1);
	ck_assert(comes(group) && !comes(other));
	mode(3, 1);
	ck_assert(!comes(group) && comes(everyone));
	mode(3, 0);
	mode(1, 0);
	mode(2, 1);
	ck_assert(comes(other) && !comes(group));
	mode(2, 0);
	mode(5, 1);
	ck_assert(!comes(everyone));
	mode(0, 1);
	ck_assert(comes(everyone) && comes(other));
	ck_assert_uint_gt(nic_counts(&rig.b).rx_dropped, 5);
	start(control); /* a reset forgets it all */
	ck_assert(comes(other));
	rig_finish(&rig);
}
END_TEST

/* Two tables: unicast, multicast. */
static size_t make_tables(uint8_t *at, const uint8_t *unicast, uint32_t unicasts, const uint8_t *multicast,
			  uint32_t multicasts)
{
	store_le32(at, unicasts);
	for (uint32_t i = 0; i < unicasts; i++)
		memcpy(at + 4 + 6 * i, unicast, 6);
	uint8_t *second = at + 4 + 6 * (size_t)unicasts;
	store_le32(second, multicasts);
	for (uint32_t i = 0; i < multicasts; i++)
		memcpy(second + 4 + 6 * i, multicast, 6);
	return 8 + 6 * ((size_t)unicasts + multicasts);
}

START_TEST(the_address_table_is_taken_whole_or_not_at_all)
{
	static uint8_t data[8 + 6 * 400];
	rig_init(&rig);
	start(control);
	ck_assert_int_eq(command(CLASS_MAC, 1, own, 6), 0);
	mode(0, 0);
	size_t len = make_tables(data, other, 1, group, 2);
	ck_assert_int_eq(command(CLASS_MAC, 0, data, len), 0);
	ck_assert(comes(other) && comes(group) && !comes(group2));
	size_t empty = make_tables(data, other, 0, group2, 1);
	for (size_t cut = 0; cut < empty; cut++)
		ck_assert_int_eq(command(CLASS_MAC, 0, data, cut), 1);
	ck_assert_int_eq(command(CLASS_MAC, 0, data, empty + 1), 1);
	store_le32(data, 0xffffffff);
	ck_assert_int_eq(command(CLASS_MAC, 0, data, empty), 1);
	ck_assert(comes(other) && comes(group) && !comes(group2));
	/* More than fit: then all of that kind come. */
	len = make_tables(data, own, 300, group2, 1);
	ck_assert_int_eq(command(CLASS_MAC, 0, data, len), 0);
	ck_assert(comes(other) && !comes(group) && comes(group2));
	len = make_tables(data, own, 60, group2, 5);
	ck_assert_int_eq(command(CLASS_MAC, 0, data, len), 0);
	ck_assert(!comes(other) && comes(group) && comes(group2));
	rig_finish(&rig);
}
END_TEST

START_TEST(commands_that_are_not_right_are_refused)
{
	const uint8_t zero[16] = {0};
	rig_init(&rig);
	start(control);
	for (unsigned class = 0; class < 256; class ++)
		ck_assert_int_eq(command((uint8_t) class, 200, zero, 1), 1);
	ck_assert_int_eq(command(CLASS_RX, 0, zero, 0), 1);
	ck_assert_int_eq(command(CLASS_RX, 0, zero, 2), 1);
	ck_assert_int_eq(command(CLASS_MAC, 1, zero, 5), 1);
	ck_assert_int_eq(command(CLASS_MAC, 1, zero, 7), 1);
	ck_assert_int_eq(command(CLASS_MQ, 0, zero, 2), 1);	  /* not negotiated */
	ck_assert_int_eq(command(CLASS_OFFLOADS, 0, zero, 8), 1); /* not offered */
	start(NET_F_CTRL_VQ);
	ck_assert_int_eq(command(CLASS_RX, 0, zero, 1), 1);
	ck_assert_int_eq(command(CLASS_MAC, 1, own, 6), 1);
	ck_assert_int_eq(command(CLASS_ANNOUNCE, 0, zero, 0), 1);
	const struct ring_buffer answer_only = {world_alloc(&rig.world, 8), 1, true};
	ck_assert_int_eq(driver_request(&rig.b.driver, RIG_CONTROL, &answer_only, 1), 1);
	ck_assert_uint_eq(*(uint8_t *)world_at(&rig.world, answer_only.gpa, 1), 1);
	rig_finish(&rig);
}
END_TEST

START_TEST(a_command_without_room_for_its_answer_needs_a_reset)
{
	rig_init(&rig);
	for (size_t i = 0; i < ARRAY_LEN(rig_layouts); i++) {
		start(control | rig_layouts[i]);
		const struct ring_buffer buffer = {world_alloc(&rig.world, 8), 3, false};
		ck_assert_int_ge(driver_submit(&rig.b.driver, RIG_CONTROL, &buffer, 1), 0);
		ck_assert_int_eq(driver_wait_status(&rig.b.driver, DRIVER_NEEDS_RESET), 0);
	}
	rig_finish(&rig);
}
END_TEST

START_TEST(the_address_can_be_changed_until_a_reset)
{
	uint8_t mac[6], before[6];
	rig_init(&rig);
	start(control);
	driver_config_read(&rig.b.driver, 0, before, 6);
	ck_assert_int_eq(command(CLASS_MAC, 1, other, 6), 0);
	driver_config_read(&rig.b.driver, 0, mac, 6);
	ck_assert_mem_eq(mac, other, 6);
	start(control);
	driver_config_read(&rig.b.driver, 0, mac, 6);
	ck_assert_mem_eq(mac, before, 6);
	rig_finish(&rig);
}
END_TEST

/* ---- config space ---- */

START_TEST(the_address_is_given_or_derived)
{
	static const char *const names[] = {"one", "two", NULL};
	uint8_t macs[4][6], given[6];
	rig_open(&rig);
	struct net_config config = rig_config(&rig, 7);
	for (unsigned i = 0; i < 4; i++) {
		rig.world.services.machine_name = names[i % 3];
		nic_create(&rig.a, &rig.world, &config, 0);
		driver_config_read(&rig.a.driver, 0, macs[i], 6);
		ck_assert_uint_eq(macs[i][0] & 3, 2); /* locally administered, a station */
		nic_destroy(&rig.a);
	}
	ck_assert_mem_eq(macs[0], macs[3], 6);
	ck_assert_mem_ne(macs[0], macs[1], 6);
	ck_assert_mem_ne(macs[1], macs[2], 6);
	config.mac = "52:54:00:aB:cd:EF";
	config.mtu = 9000;
	nic_create(&rig.a, &rig.world, &config, 0);
	driver_config_read(&rig.a.driver, 0, given, 6);
	const uint8_t expected[] = {0x52, 0x54, 0, 0xab, 0xcd, 0xef};
	ck_assert_mem_eq(given, expected, 6);
	ck_assert_uint_eq(driver_config_get(&rig.a.driver, 10, 2), 9000);
	ck_assert_uint_eq(driver_config_get(&rig.a.driver, 12, 4), 10000);
	ck_assert_uint_eq(driver_config_get(&rig.a.driver, 16, 1), 1);
	const uint64_t not_here = NET_F_CSUM | NET_F_HOST_TSO4 | NET_F_HOST_TSO6 | NET_F_HOST_ECN | NET_F_MQ |
				  NET_GUEST_OFFLOADS | NET_F_CTRL_GUEST_OFFLOADS;
	ck_assert_uint_eq(driver_offered(&rig.a.driver) & not_here, 0);
	ck_assert_uint_eq(driver_offered(&rig.a.driver) & NET_F_MTU, NET_F_MTU);
	nic_destroy(&rig.a);
	rig_close(&rig);
}
END_TEST

START_TEST(the_link_follows_the_cable_and_the_operator)
{
	rig_init(&rig);
	start(control);
	unsigned before = driver_config_interrupts(&rig.b.driver);
	net_set_link(rig.b.device, false);
	ck_assert_int_eq(driver_wait_config_interrupt(&rig.b.driver, before), 0);
	ck_assert_uint_eq(nic_status(&rig.b), 0);
	nic_send(&rig.b, frame, make_frame(frame, 100, 1)); /* taken, and dropped */
	nic_send(&rig.a, frame, 100);
	for (unsigned i = 0; i < 5000 && nic_counts(&rig.b).rx_dropped == 0; i++)
		rig_sleep_ms(1);
	ck_assert_uint_eq(nic_counts(&rig.b).tx_dropped, 1);
	ck_assert_uint_eq(nic_counts(&rig.b).rx_dropped, 1);
	net_set_link(rig.b.device, true);
	ck_assert_uint_eq(nic_status(&rig.b), NET_S_LINK_UP);
	ck_assert(comes(own));
	before = driver_config_interrupts(&rig.b.driver);
	nic_destroy(&rig.a);
	ck_assert_int_eq(driver_wait_config_interrupt(&rig.b.driver, before), 0);
	ck_assert_uint_eq(nic_status(&rig.b), 0);
	for (unsigned n = 0; n < 200; n++)
		nic_send(&rig.b, frame, 100);
	const struct net_config config = rig_config(&rig, 4);
	nic_create(&rig.a, &rig.world, &config, 0);
	nic_wait_link(&rig.a, true);
	nic_wait_link(&rig.b, true);
	nic_start(&rig.a, 0);
	ck_assert(comes(own));
	rig_finish(&rig);
}
END_TEST

START_TEST(the_guest_is_asked_to_announce_itself)
{
	rig_init(&rig);
	nic_announce(&rig.b); /* there is no driver */
	ck_assert_uint_eq(nic_status(&rig.b), NET_S_LINK_UP);
	start(NET_F_STATUS | NET_F_CTRL_VQ); /* and here none that could */
	ck_assert_uint_eq(nic_status(&rig.b), NET_S_LINK_UP);
	nic_announce(&rig.b);
	ck_assert_uint_eq(nic_status(&rig.b), NET_S_LINK_UP);
	start(control);
	unsigned before = driver_config_interrupts(&rig.b.driver);
	nic_announce(&rig.b);
	ck_assert_int_eq(driver_wait_config_interrupt(&rig.b.driver, before), 0);
	ck_assert_uint_eq(nic_status(&rig.b), NET_S_LINK_UP | NET_S_ANNOUNCE);
	ck_assert_int_eq(command(CLASS_ANNOUNCE, 0, NULL, 0), 0);
	ck_assert_uint_eq(nic_status(&rig.b), NET_S_LINK_UP);
	nic_announce(&rig.b);
	ck_assert_uint_eq(nic_status(&rig.b), NET_S_LINK_UP | NET_S_ANNOUNCE);
	ck_assert_int_eq(driver_reset(&rig.b.driver), 0);
	ck_assert_uint_eq(nic_status(&rig.b), NET_S_LINK_UP);
	rig_finish(&rig);
}
END_TEST

/* ---- state ---- */

static void *save(struct nic *nic)
{
	void *regs = calloc(1, net_class.state->size);
	ck_assert_ptr_nonnull(regs);
	net_class.save(nic->device, regs);
	return regs;
}

/* The same guest goes on with another device that has the saved state. */
START_TEST(a_restored_device_goes_on_where_the_saved_one_was)
{
	struct err err = ERR_INIT;
	rig_init(&rig);
	for (size_t i = 0; i < ARRAY_LEN(rig_layouts); i++) {
		start(control | rig_layouts[i]);
		ck_assert_int_eq(command(CLASS_MAC, 1, own, 6), 0);
		mode(0, 0);
		ck_assert(comes(own) && !comes(other));
		nic_announce(&rig.b);
		_cleanup_free_ void *regs = save(&rig.b);
		net_class.reset(rig.b.device);
		ck_assert_int_eq(net_class.restore(rig.b.device, regs, &err), 0);
		for (unsigned n = 0; n < 1000 && nic_status(&rig.b) != (NET_S_LINK_UP | NET_S_ANNOUNCE); n++)
			rig_sleep_ms(1);
		ck_assert_uint_eq(nic_status(&rig.b), NET_S_LINK_UP | NET_S_ANNOUNCE);
		uint8_t mac[6];
		driver_config_read(&rig.b.driver, 0, mac, 6);
		ck_assert_mem_eq(mac, own, 6);
		ck_assert(comes(own) && !comes(other) && comes(everyone));
		ck_assert_int_eq(command(CLASS_ANNOUNCE, 0, NULL, 0), 0);
	}
	rig_finish(&rig);
}
END_TEST

/* It was the operator who pulled it, and nobody has put it in again. */
START_TEST(a_cable_that_was_pulled_stays_out)
{
	struct err err = ERR_INIT;
	rig_init(&rig);
	start(control);
	net_set_link(rig.b.device, false);
	_cleanup_free_ void *regs = save(&rig.b);
	net_set_link(rig.b.device, true); /* as in a new process */
	ck_assert_int_eq(net_class.restore(rig.b.device, regs, &err), 0);
	for (unsigned n = 0; n < 1000 && nic_status(&rig.b) != 0; n++)
		rig_sleep_ms(1);
	ck_assert_uint_eq(nic_status(&rig.b), 0);
	net_set_link(rig.b.device, true);
	ck_assert(comes(own));
	rig_finish(&rig);
}
END_TEST

/* The guest knows the link of the host that it was saved on, and asks for it no more until it is told to. */
START_TEST(a_link_that_changed_meanwhile_is_told)
{
	struct err err = ERR_INIT;
	rig_init(&rig);
	start(control);
	nic_destroy(&rig.a);
	nic_wait_link(&rig.b, false);
	_cleanup_free_ void *regs = save(&rig.b);
	const struct net_config config = rig_config(&rig, 4);
	nic_create(&rig.a, &rig.world, &config, 0);
	nic_wait_link(&rig.a, true);
	nic_wait_link(&rig.b, true);
	net_class.quiesce(rig.b.device);
	net_class.reset(rig.b.device);
	unsigned before = driver_config_interrupts(&rig.b.driver);
	ck_assert_int_eq(net_class.restore(rig.b.device, regs, &err), 0);
	net_class.resume(rig.b.device);
	ck_assert_int_eq(driver_wait_config_interrupt(&rig.b.driver, before), 0);
	ck_assert_uint_eq(nic_status(&rig.b), NET_S_LINK_UP);
	rig_finish(&rig);
}
END_TEST

/* Pauses while frames fly: buffers that wait for frames go back, and no frame is torn. */
START_TEST(a_pause_gives_back_what_is_not_used)
{
	rig_init(&rig);
	for (size_t i = 0; i < ARRAY_LEN(rig_layouts); i++) {
		nic_start(&rig.a, rig_layouts[i]);
		nic_start(&rig.b, rig_layouts[i] | NET_F_MRG_RXBUF);
		nic_post(&rig.b, RIG_RX, RIG_QUEUE, 600);
		for (unsigned n = 0; n < 30; n++) {
			size_t len = make_frame(frame, 100 + 90 * n, n);
			nic_send(&rig.a, frame, len);
			ck_assert_uint_eq(nic_receive(&rig.b, RIG_RX), len);
			ck_assert_mem_eq(rig.b.frame, frame, len);
			nic_post(&rig.b, RIG_RX, rig.b.header.num_buffers, 600);
			free(save(&rig.b));
		}
	}
	rig_finish(&rig);
}
END_TEST

static void refuse(const struct net_guest *guest, const char *message)
{
	struct err err = ERR_INIT;
	_cleanup_free_ uint8_t *regs = save(&rig.b);
	memcpy(regs + sizeof(struct virtio_regs), guest, sizeof(*guest));
	ck_assert_int_eq(net_class.restore(rig.b.device, regs, &err), -EINVAL);
	ck_assert_str_eq(err.text, message);
}

START_TEST(state_that_cannot_be_is_refused)
{
	rig_init(&rig);
	start(control);
	refuse(&(struct net_guest){.pairs = 0}, "guest.pairs: 0 (1 to 1)");
	refuse(&(struct net_guest){.pairs = 2}, "guest.pairs: 2 (1 to 1)");
	refuse(&(struct net_guest){.pairs = 1, .unicast_count = 60, .multicast_count = 5},
	       "guest.multicast_count: 5 addresses after 60 (at most 64)");
	refuse(&(struct net_guest){.pairs = 1, .offloads = 1},
	       "guest.offloads: 0x1 has bits that there are not");
	ck_assert(comes(other));
	rig_finish(&rig);
}
END_TEST

START_TEST(rates_are_kept)
{
	rig_open(&rig);
	struct net_config config = rig_config(&rig, 4);
	config.rate.ops_per_second = 200;
	nic_create(&rig.a, &rig.world, &config, 0);
	config = rig_config(&rig, 5);
	nic_create(&rig.b, &rig.world, &config, 1);
	nic_wait_link(&rig.a, true);
	start(0);
	uint64_t from = loop_now_ns();
	for (unsigned n = 0; n < 60; n++)
		nic_send(&rig.a, frame, make_frame(frame, 100, n));
	uint64_t took = loop_now_ns() - from;
	ck_assert_uint_ge(took, UINT64_C(150000000)); /* 20 at once, 40 at 5 ms each */
	nic_post(&rig.a, RIG_RX, RIG_QUEUE - 4, 2048);
	from = loop_now_ns();
	for (unsigned n = 0; n < 60; n++) {
		nic_send(&rig.b, frame, make_frame(frame, 100, n));
		ck_assert_uint_eq(nic_receive(&rig.a, RIG_RX), 100);
	}
	took = loop_now_ns() - from;
	ck_assert_uint_ge(took, UINT64_C(150000000));
	rig_finish(&rig);
}
END_TEST

TEST_MAIN("net_control", the_guest_filters_what_it_receives, the_address_table_is_taken_whole_or_not_at_all,
	  commands_that_are_not_right_are_refused, a_command_without_room_for_its_answer_needs_a_reset,
	  the_address_can_be_changed_until_a_reset, the_address_is_given_or_derived,
	  the_link_follows_the_cable_and_the_operator, the_guest_is_asked_to_announce_itself,
	  a_restored_device_goes_on_where_the_saved_one_was, a_cable_that_was_pulled_stays_out,
	  a_link_that_changed_meanwhile_is_told, a_pause_gives_back_what_is_not_used,
	  state_that_cannot_be_is_refused, rates_are_kept)
