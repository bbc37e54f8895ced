/* vhost-user: a device whose queues another process works on; that process stops, dies and comes back. */
#include "harness.h"
#include "vhost_user_rig.h"

static const uint64_t protocols[] = {PROTOCOL_CONFIG, PROTOCOL_CONFIG | PROTOCOL_ACK,
				     PROTOCOL_CONFIG | PROTOCOL_TRACKED, PROTOCOL_ALL};

START_TEST(requests_reach_the_back_end)
{
	for (size_t i = 0; i < ARRAY_LEN(protocols); i++) {
		rig_init(protocols[i]);
		ck_assert_uint_eq(driver_config_get(&rig.driver, 0, 8), PEER_DISK / PEER_SECTOR);
		ck_assert_uint_eq(driver_config_get(&rig.driver, 34, 2), 2); /* num_queues */
		check_disk(0, 5);
		check_disk(1, 6);
		rig_finish();
	}
}
END_TEST

START_TEST(features_are_what_both_know)
{
	rig_init(PROTOCOL_ALL);
	uint64_t offered = driver_offered(&rig.driver);
	ck_assert_uint_eq(offered, VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | VIRTIO_BIT(9) |
					   VIRTIO_BIT(11) | VIRTIO_BIT(12));
	check_disk(0, 1); /* it has got them by now */
	ck_assert_uint_eq(rig.peer.got_features, offered | PROTOCOL_F);
	rig_finish();
}
END_TEST

START_TEST(the_driver_starts_anew_and_anew)
{
	rig_init(PROTOCOL_ALL);
	for (unsigned i = 0; i < 20; i++) {
		check_disk(i & 1, (uint8_t)(i + 1));
		for (unsigned slot = 2; slot < 10 && (i & 2); slot++)
			submit(0, slot, true, 2000); /* in flight; beyond the disk, for what it is worth */
		rig_drive();
	}
	vhost_user_class.reset(rig.device);
	rig_finish();
}
END_TEST

START_TEST(a_pause_loses_nothing)
{
	struct err err = ERR_INIT;
	rig_init(PROTOCOL_ALL);
	void *regs = calloc(1, vhost_user_class.state->size);
	for (unsigned i = 0; i < 10; i++) {
		for (unsigned slot = 0; slot < 16; slot++)
			submit(0, slot, false, slot);
		vhost_user_class.save(rig.device, regs);
		for (unsigned slot = 0; slot < 16; slot++)
			(void)collect(0);
	}
	vhost_user_class.save(rig.device, regs);
	ck_assert_msg(vhost_user_class.restore(rig.device, regs, &err) == 0, "%s", err.text);
	free(regs);
	check_disk(0, 7);
	rig_finish();
}
END_TEST

START_TEST(it_comes_back_in_the_middle_of_traffic)
{
	rig_init(PROTOCOL_ALL);
	for (unsigned round = 0; round < 12; round++) {
		for (unsigned slot = 0; slot < 16; slot++) {
			memset(slot_data(slot), (int)(round * 16 + slot), DATA_BYTES);
			if (slot == 3)
				atomic_store(&rig.peer.die_in, (int)round % 6);
			submit(0, slot, true, slot * 8);
		}
		peer_join(&rig.peer);
		for (unsigned slot = 16; slot < 20; slot++) /* nobody is there to hear of it */
			submit(round & 1, slot, false, slot * 8);
		atomic_store(&rig.peer.die_in, -1);
		peer_start(&rig.peer);
		bool seen[20] = {false};
		for (unsigned i = 0; i < (round & 1 ? 16 : 20); i++) {
			unsigned slot = collect(0);
			ck_assert(!seen[slot]);
			seen[slot] = true;
		}
		for (unsigned i = 0; i < (round & 1 ? 4 : 0); i++)
			(void)collect(1);
		peer_stop(&rig.peer);
		for (unsigned slot = 0; slot < 16; slot++)
			ck_assert_uint_eq(rig.peer.disk[slot * DATA_BYTES + 77],
					  (uint8_t)(round * 16 + slot));
		peer_start(&rig.peer);
	}
	ck_assert_int_eq(driver_status(&rig.driver) & DRIVER_NEEDS_RESET, 0);
	rig_finish();
}
END_TEST

START_TEST(without_tracking_an_idle_disk_survives_and_a_busy_one_needs_a_reset)
{
	rig_init(PROTOCOL_CONFIG | PROTOCOL_ACK);
	check_disk(0, 3);
	peer_stop(&rig.peer);
	rig_wait_lost(1);
	submit(0, 9, false, 0);
	peer_start(&rig.peer);
	ck_assert_uint_eq(collect(0), 9);
	check_disk(1, 4);
	atomic_store(&rig.peer.die_in, 1);
	for (unsigned slot = 0; slot < 4; slot++)
		submit(0, slot, false, 0);
	peer_join(&rig.peer);
	ck_assert_int_eq(driver_wait_status(&rig.driver, DRIVER_NEEDS_RESET), 0);
	ck_assert_uint_eq(rig.device->counts.backend_lost.total, 2);
	atomic_store(&rig.peer.die_in, -1);
	peer_start(&rig.peer);
	rig_drive();
	check_disk(0, 5);
	rig_finish();
}
END_TEST

static void wait_lost(uint64_t times)
{
	for (unsigned n = 0; n < 5000 && rig.device->counts.backend_lost.total < times; n++)
		(void)usleep(1000);
	ck_assert_uint_eq(rig.device->counts.backend_lost.total, times);
}

/* Whoever goes on from where a pause left the rings, here or from a snapshot, does not know which requests
 * the dead one had, and done twice they would write to memory that is somebody else's. */
START_TEST(a_pause_while_it_is_away_with_requests_needs_a_reset)
{
	for (size_t i = 0; i < ARRAY_LEN(protocols); i++) {
		rig_init(protocols[i]);
		check_disk(0, 3);
		peer_stop(&rig.peer);
		wait_lost(1);
		submit(0, 9, false, 0); /* these it had not */
		vhost_user_class.quiesce(rig.device);
		vhost_user_class.resume(rig.device);
		peer_start(&rig.peer);
		ck_assert_uint_eq(collect(0), 9);
		atomic_store(&rig.peer.die_in, 1);
		for (unsigned slot = 0; slot < 4; slot++)
			submit(0, slot, false, 0);
		peer_join(&rig.peer);
		wait_lost(2);
		vhost_user_class.quiesce(rig.device);
		vhost_user_class.resume(rig.device);
		ck_assert_int_eq(driver_wait_status(&rig.driver, DRIVER_NEEDS_RESET), 0);
		atomic_store(&rig.peer.die_in, -1);
		peer_start(&rig.peer);
		rig_drive();
		check_disk(0, 5);
		rig_finish();
	}
}
END_TEST

START_TEST(a_reset_while_nobody_is_there)
{
	rig_init(PROTOCOL_ALL);
	check_disk(0, 3);
	peer_stop(&rig.peer);
	submit(0, 9, false, 0);
	rig_drive();
	submit(0, 9, false, 0);
	peer_start(&rig.peer);
	ck_assert_uint_eq(collect(0), 9);
	check_disk(1, 3);
	peer_stop(&rig.peer);
	rig_finish();
}
END_TEST

START_TEST(it_must_come_back_with_what_it_offered)
{
	rig_init(PROTOCOL_ALL);
	check_disk(0, 3);
	peer_stop(&rig.peer);
	uint64_t features = rig.peer.features;
	rig.peer.features &= ~VIRTIO_BIT(9);
	unsigned before = atomic_load(&rig.peer.connections);
	peer_start(&rig.peer);
	submit(0, 9, false, 0);
	while (atomic_load(&rig.peer.connections) < before + 2)
		(void)usleep(1000); /* it is asked, and asked again */
	peer_stop(&rig.peer);
	rig.peer.features = features;
	peer_start(&rig.peer);
	ck_assert_uint_eq(collect(0), 9);
	rig_finish();
}
END_TEST

START_TEST(the_configuration_changes)
{
	rig_init(PROTOCOL_ALL);
	check_disk(0, 3);
	unsigned before = driver_config_interrupts(&rig.driver);
	rig.peer.capacity = 1024;
	const uint32_t message[] = {2, 1 | 8, 0}; /* with an answer */
	uint32_t answer[5] = {0};
	_cleanup_close_ int channel = dup(rig.peer.channel_fd);
	peer_send(channel, message, sizeof(message), -1);
	ck_assert_int_eq(recv(channel, answer, sizeof(answer), MSG_WAITALL), sizeof(answer));
	ck_assert_uint_eq(answer[0], 2);
	ck_assert_uint_eq(answer[3], 0);
	ck_assert_int_eq(driver_wait_config_interrupt(&rig.driver, before), 0);
	ck_assert_uint_eq(driver_config_get(&rig.driver, 0, 8), 1024);
	driver_config_set(&rig.driver, 32, 1, 1);
	for (unsigned i = 0; i < 1000 && !rig.peer.writeback; i++) {
		check_disk(0, 2);
		(void)usleep(1000);
	}
	ck_assert_uint_eq(rig.peer.writeback, 1);
	rig_finish();
}
END_TEST

static void expect_writeback(uint8_t value)
{
	for (unsigned n = 0; n < 5000 && rig.peer.writeback != value; n++)
		(void)usleep(1000);
	ck_assert_uint_eq(rig.peer.writeback, value);
	ck_assert_uint_eq(driver_config_get(&rig.driver, 32, 1), value);
}

/* A guest that counts on writing through must not be given a cache by the next back end. */
START_TEST(the_cache_mode_is_the_drivers_choice)
{
	struct err err = ERR_INIT;
	rig_world(PROTOCOL_ALL);
	rig.peer.writeback = 1;
	peer_start(&rig.peer);
	ck_assert_msg(rig_create(&err) == 0, "%s", err.text);
	ck_assert_int_eq(driver_init(&rig.driver, &rig.world, VIRTIO_ID_BLOCK), 0);
	rig_drive();
	driver_config_set(&rig.driver, 32, 1, 0);
	expect_writeback(0);
	_cleanup_free_ uint8_t *regs = calloc(1, vhost_user_class.state->size);
	check_disk(0, 3);
	peer_stop(&rig.peer);
	rig.peer.writeback = 1; /* as a new one begins */
	peer_start(&rig.peer);
	check_disk(0, 4);
	expect_writeback(0);
	driver_config_set(&rig.driver, 32, 1, 1);
	expect_writeback(1);
	vhost_user_class.save(rig.device, regs);
	driver_config_set(&rig.driver, 32, 1, 0);
	expect_writeback(0);
	ck_assert_msg(vhost_user_class.restore(rig.device, regs, &err) == 0, "%s", err.text);
	expect_writeback(1);
	regs[vhost_user_class.state->fields[vhost_user_class.state->field_count - 1].offset] = 3;
	ck_assert_int_eq(vhost_user_class.restore(rig.device, regs, &err), -EINVAL);
	rig_finish();
}
END_TEST

START_TEST(a_network_card_has_an_address_and_a_link)
{
	struct err err = ERR_INIT;
	rig_world(0);
	rig.peer.features =
		VIRTIO_F_VERSION_1 | VIRTIO_BIT(0) | VIRTIO_BIT(15) | VIRTIO_BIT(17) | VIRTIO_BIT(22);
	rig.config = (struct vhost_user_config){.kind = VHOST_USER_NET,
						.path = rig.peer.path,
						.mac = "52:54:00:12:34:56",
						.queues = 1,
						.queue_size = 64};
	peer_start(&rig.peer); /* without protocol features: an old one */
	ck_assert_msg(rig_create(&err) == 0, "%s", err.text);
	ck_assert_int_eq(driver_init(&rig.driver, &rig.world, VIRTIO_ID_NET), 0);
	rig_drive();
	ck_assert_uint_eq(driver_offered(&rig.driver), VIRTIO_F_VERSION_1 | VIRTIO_BIT(0) | VIRTIO_BIT(5) |
							       VIRTIO_BIT(15) | VIRTIO_BIT(16));
	ck_assert_uint_eq(driver_config_get(&rig.driver, 0, 4), 0x12005452);
	ck_assert_uint_eq(driver_config_get(&rig.driver, 4, 4), 0x00015634); /* link is up */
	rig_finish();
}
END_TEST

/* Wherever the back end's socket is: the guest's network depends on it. */
START_TEST(an_address_that_nobody_gave_is_of_the_machine)
{
	static const char *const machines[] = {"one", "two", "one"};
	uint64_t addresses[3];
	for (unsigned i = 0; i < 3; i++) {
		struct err err = ERR_INIT;
		rig_world(0);
		rig.peer.features = VIRTIO_F_VERSION_1;
		rig.world.services.machine_name = machines[i];
		rig.config = (struct vhost_user_config){
			.kind = VHOST_USER_NET, .path = rig.peer.path, .queues = 1, .queue_size = 64};
		peer_start(&rig.peer);
		ck_assert_msg(rig_create(&err) == 0, "%s", err.text);
		ck_assert_int_eq(driver_init(&rig.driver, &rig.world, VIRTIO_ID_NET), 0);
		addresses[i] = driver_config_get(&rig.driver, 0, 4) | driver_config_get(&rig.driver, 4, 2)
									      << 32;
		ck_assert_uint_eq(addresses[i] & 3, 2);
		rig_finish();
	}
	ck_assert_uint_eq(addresses[0], addresses[2]);
	ck_assert_uint_ne(addresses[0], addresses[1]);
}
END_TEST

TEST_MAIN("vhost_user", an_address_that_nobody_gave_is_of_the_machine,
	  a_network_card_has_an_address_and_a_link, requests_reach_the_back_end, features_are_what_both_know,
	  the_driver_starts_anew_and_anew, a_pause_loses_nothing, it_comes_back_in_the_middle_of_traffic,
	  without_tracking_an_idle_disk_survives_and_a_busy_one_needs_a_reset,
	  a_pause_while_it_is_away_with_requests_needs_a_reset, a_reset_while_nobody_is_there,
	  it_must_come_back_with_what_it_offered, the_configuration_changes,
	  the_cache_mode_is_the_drivers_choice)
