/* Pausing, saving and restoring virtio devices that are in use. */
#include "echo_rig.h"

static int restore(const struct virtio_regs *regs, struct err *err)
{
	*err = ERR_INIT;
	return virtio_restore(rig.echo.virtio, regs, err);
}

/* The device as another process would make it: same place, same spec, memory and driver as they are. */
static void replace_device(void)
{
	struct err err = ERR_INIT;
	virtio_destroy(rig.echo.virtio);
	ck_assert_uint_eq(rig.echo.mistakes, 0);
	ck_assert_msg(echo_create(&rig.echo, &rig.world, &err) == 0, "%s", err.text);
}

/* ---- pause ---- */

START_TEST(a_paused_device_has_finished_and_takes_nothing)
{
	for (size_t i = 0; i < ARRAY_LEN(layouts); i++) {
		rig_init();
		start(layouts[i]);
		rig.echo.hold = true;
		submit(0, 5);
		submit(1, 3);
		while (rig.echo.held_seen < 8)
			usleep(100);
		virtio_pause(rig.echo.virtio);
		collect(0, 5);
		collect(1, 3);
		ck_assert(!rig.echo.running);
		ck_assert_uint_eq(driver_status(&rig.driver), 15);
		rig.echo.hold = false;
		submit(0, 7);
		virtio_pause(rig.echo.virtio); /* pauses count */
		virtio_resume(rig.echo.virtio);
		usleep(2000);
		struct ring_used used;
		ck_assert_int_eq(driver_try_collect(&rig.driver, 0, &used), 0);
		virtio_resume(rig.echo.virtio);
		collect(0, 7);
		for (unsigned n = 0; n < 100; n++)
			exchange(n % ECHO_QUEUES, (uint8_t)n);
		rig_finish();
	}
}
END_TEST

START_TEST(the_driver_goes_on_with_a_paused_device)
{
	rig_init();
	start(VIRTIO_F_RING_RESET);
	virtio_pause(rig.echo.virtio);
	ck_assert_int_eq(driver_reset_queue(&rig.driver, 1), 0);
	ck_assert_int_eq(driver_enable_queue(&rig.driver, 1, 8), 0);
	ck_assert_int_eq(driver_reset(&rig.driver), 0); /* there is nothing that it would have to wait for */
	unsigned activations = rig.echo.activations;
	start(0);
	usleep(2000);
	ck_assert_uint_eq(rig.echo.activations, activations);
	virtio_resume(rig.echo.virtio);
	exchange(2, 1);
	virtio_pause(rig.echo.virtio);
	virtio_needs_reset(rig.echo.virtio, "the test says so");
	virtio_resume(rig.echo.virtio);
	echo_settle(&rig.echo);
	ck_assert_uint_eq(rig.echo.activations, activations + 1);
	start(0);
	exchange(0, 2);
	rig_finish();
}
END_TEST

/* ---- save and restore ---- */

START_TEST(a_restored_device_goes_on_where_it_was)
{
	for (size_t i = 0; i < ARRAY_LEN(layouts); i++) {
		rig_init();
		start(layouts[i]);
		for (unsigned round = 0; round < 20; round++) {
			for (unsigned n = 0; n < 11 * round; n++)
				exchange(n % ECHO_QUEUES, (uint8_t)n);
			rig.echo.hold = round % 2;
			submit(1, round);
			struct virtio_regs regs, again;
			struct err err;
			virtio_save(rig.echo.virtio, &regs);
			rig.echo.hold = false;
			echo_release(&rig.echo); /* those that came after the save */
			collect(1, round);
			virtio_save(rig.echo.virtio, &regs);
			replace_device();
			ck_assert_msg(restore(&regs, &err) == 0, "%s", err.text);
			virtio_save(rig.echo.virtio, &again);
			ck_assert_mem_eq(&regs, &again, sizeof(regs));
			echo_settle(&rig.echo);
			ck_assert_uint_eq(rig.echo.features, rig.driver.features);
		}
		rig_finish();
	}
}
END_TEST

START_TEST(requests_made_while_the_state_was_on_its_way_are_served)
{
	for (size_t i = 0; i < ARRAY_LEN(layouts); i++) {
		struct virtio_regs regs;
		struct err err;
		rig_init();
		start(layouts[i]);
		exchange(0, 1);
		virtio_pause(rig.echo.virtio);
		submit(0, 9);
		virtio_save(rig.echo.virtio, &regs);
		replace_device();
		ck_assert_int_eq(restore(&regs, &err), 0);
		collect(0, 9);
		rig_finish();
	}
}
END_TEST

START_TEST(registers_are_restored_at_every_step_of_the_driver)
{
	for (unsigned step = 0; step < 8; step++) {
		struct virtio_regs regs, again;
		struct err err;
		rig_init();
		set(DRIVER_STATUS, 1, step > 0 ? 3 : 0);
		if (step > 1)
			ck_assert_int_eq(driver_negotiate(&rig.driver, VIRTIO_F_VERSION_1), 0);
		if (step > 2)
			ck_assert_int_eq(driver_enable_queue(&rig.driver, 1, 16), 0);
		if (step > 3) {
			set(DRIVER_QUEUE_SELECT, 2, 2);
			set(DRIVER_QUEUE_DESC, 8, UINT64_MAX); /* a guest's mistake is state like any other */
			set(DRIVER_QUEUE_ENABLE, 2, 1);
		}
		if (step > 4)
			set(DRIVER_STATUS, 1, 15);
		if (step > 5)
			ck_assert_int_eq(driver_wait_status(&rig.driver, DRIVER_NEEDS_RESET), 0);
		if (step > 6)
			start(0);
		echo_settle(&rig.echo);
		set(DRIVER_DEVICE_FEATURE_SELECT, 4, 1);
		set(DRIVER_FEATURE_SELECT, 4, 77);
		virtio_save(rig.echo.virtio, &regs);
		replace_device();
		ck_assert_msg(restore(&regs, &err) == 0, "step %u: %s", step, err.text);
		echo_settle(&rig.echo);
		virtio_save(rig.echo.virtio, &again);
		ck_assert_msg(memcmp(&regs, &again, sizeof(regs)) == 0, "step %u", step);
		start(0);
		exchange(0, (uint8_t)step);
		rig_finish();
	}
}
END_TEST

START_TEST(an_interrupt_that_waits_is_restored)
{
	rig_init();
	ck_assert_int_eq(driver_start(&rig.driver, &(struct driver_options){.intx = true}), 0);
	echo_change_config(&rig.echo);
	ck_assert_uint_ne(rig.world.levels[rig.driver.gsi], 0);
	struct virtio_regs regs;
	struct err err;
	virtio_save(rig.echo.virtio, &regs);
	virtio_reset(rig.echo.virtio);
	ck_assert_uint_eq(rig.world.levels[rig.driver.gsi], 0);
	replace_device();
	ck_assert_int_eq(restore(&regs, &err), 0);
	ck_assert_uint_ne(rig.world.levels[rig.driver.gsi], 0);
	ck_assert_uint_eq(world_read(&rig.world, rig.driver.isr_gpa, 1), 2);
	ck_assert_uint_eq(rig.world.levels[rig.driver.gsi], 0);
	rig_finish();
}
END_TEST

START_TEST(what_no_device_can_have_saved_is_refused_whole)
{
	rig_init();
	start(VIRTIO_F_EVENT_IDX);
	exchange(0, 1);
	struct virtio_regs good, bad, after;
	struct err err;
	virtio_save(rig.echo.virtio, &good);
#define REFUSED(change, message)                                                                             \
	do {                                                                                                 \
		bad = good;                                                                                  \
		bad.change;                                                                                  \
		ck_assert_int_eq(restore(&bad, &err), -EINVAL);                                              \
		ck_assert_str_eq(err.text, message);                                                         \
		virtio_save(rig.echo.virtio, &after);                                                        \
		ck_assert_mem_eq(&good, &after, sizeof(good));                                               \
		exchange(0, 2);                                                                              \
		virtio_save(rig.echo.virtio, &good);                                                         \
	} while (0)
	REFUSED(status |= 0x10, "status: 0x1f has bits that there are not");
	REFUSED(status = 7, "status: DRIVER_OK without FEATURES_OK");
	REFUSED(driver_features |= VIRTIO_F_IN_ORDER,
		"driver-features: the guest uses 0x800000000, which this device does not offer");
	REFUSED(driver_features = VIRTIO_F_EVENT_IDX, "driver-features: 0x20000000 lacks VIRTIO_F_VERSION_1");
	REFUSED(isr = 4, "isr: 0x4 has bits that there are not");
	REFUSED(config_vector = ECHO_QUEUES + 1, "config-vector: 4 of 4");
	REFUSED(queue_vector[1] = 99, "queue-vector: queue 1 has 99 of 4");
	REFUSED(queue_size[2] = 33, "queue-size: queue 2 has 33 entries (1 to 32)");
	REFUSED(queue_size[0] = 0, "queue-size: queue 0 has 0 entries (1 to 64)");
	REFUSED(queue_size[3] = 8, "queue-size: queue 3 of 3");
	REFUSED(queue_enable[63] = true, "queue-size: queue 63 of 3");
#undef REFUSED
	bad = good; /* PCI judges its own */
	bad.pci.config[0] ^= 1;
	ck_assert_int_eq(restore(&bad, &err), -EINVAL);
	exchange(0, 3);
	rig_finish();
}
END_TEST

/* Positions come from a file: a wrong one costs the guest its device, and nothing else. */
START_TEST(a_position_that_cannot_be_needs_a_reset)
{
	for (size_t i = 0; i < ARRAY_LEN(layouts); i++) {
		rig_init();
		start(layouts[i]);
		exchange(0, 1);
		struct virtio_regs regs;
		struct err err;
		virtio_save(rig.echo.virtio, &regs);
		regs.queue_next_avail[0] = (uint16_t)(regs.queue_next_avail[0] + 1);
		replace_device();
		ck_assert_int_eq(restore(&regs, &err), 0);
		ck_assert_int_eq(driver_wait_status(&rig.driver, DRIVER_NEEDS_RESET), 0);
		start(0);
		exchange(0, 2);
		rig_finish();
	}
}
END_TEST

TEST_MAIN("virtio_state", a_paused_device_has_finished_and_takes_nothing,
	  the_driver_goes_on_with_a_paused_device, a_restored_device_goes_on_where_it_was,
	  requests_made_while_the_state_was_on_its_way_are_served,
	  registers_are_restored_at_every_step_of_the_driver, an_interrupt_that_waits_is_restored,
	  what_no_device_can_have_saved_is_refused_whole, a_position_that_cannot_be_needs_a_reset)
