/* The virtio PCI transport as a driver that keeps the rules sees it (VIRTIO 1.3, 2, 3 and 4.1). */
#include "echo_rig.h"

#include "base/layout.h"

#include <sys/eventfd.h>

START_TEST(requests_go_there_and_back_in_every_layout)
{
	rig_init();
	for (size_t i = 0; i < ARRAY_LEN(layouts); i++) {
		start(layouts[i]);
		for (unsigned n = 0; n < 200; n++)
			exchange(n % ECHO_QUEUES, (uint8_t)n);
		ck_assert_uint_eq(rig.echo.features, rig.driver.features);
		ck_assert_uint_eq(rig.echo.features, layouts[i] | VIRTIO_F_VERSION_1);
	}
	rig_finish();
}
END_TEST

START_TEST(requests_go_there_and_back_with_intx)
{
	rig_init();
	for (size_t i = 0; i < ARRAY_LEN(layouts); i++) {
		const struct driver_options options = {.features = layouts[i], .intx = true};
		ck_assert_int_eq(driver_start(&rig.driver, &options), 0);
		for (unsigned n = 0; n < 50; n++)
			exchange(n % ECHO_QUEUES, (uint8_t)n);
		ck_assert_uint_gt(driver_interrupts(&rig.driver, 0), 0);
	}
	for (unsigned vector = 0; vector <= ECHO_QUEUES; vector++)
		ck_assert_uint_eq(rig.world.messages[rig.driver.slot][vector], 0);
	rig_finish();
}
END_TEST

static uint32_t config(unsigned offset, unsigned size)
{
	return world_config_read(&rig.world, rig.driver.slot, offset, size);
}

/* 4.1.2 */
START_TEST(the_function_has_the_ids_of_a_modern_device)
{
	rig_init();
	ck_assert_uint_eq(config(0x00, 2), 0x1af4);
	ck_assert_uint_eq(config(0x02, 2), 0x1040 + VIRTIO_ID_CONSOLE);
	ck_assert_uint_ge(config(0x08, 1), 1);
	ck_assert_uint_eq(config(0x09, 1) | config(0x0a, 2) << 8, 0xff0000);
	ck_assert_uint_eq(config(0x2c, 2), 0x1af4);
	ck_assert_uint_ge(config(0x2e, 2), 0x40);
	ck_assert_uint_eq(config(0x3d, 1), 1);
	rig_finish();
}
END_TEST

/* 4.1.4: all structures in one BAR of 64 bits, none over another, the notify one with a page of its own. */
START_TEST(structures_lie_apart_in_one_bar)
{
	rig_init();
	uint64_t bar = rig.driver.common_gpa;
	ck_assert_uint_ge(bar, LAYOUT_HIGH_RAM_GPA);
	ck_assert_uint_eq(rig.driver.isr_gpa, bar + 0x1000);
	ck_assert_uint_eq(rig.driver.device_gpa, bar + 0x2000);
	ck_assert_uint_eq(rig.driver.notify_gpa, bar + 0x3000);
	ck_assert_uint_eq(rig.driver.notify_multiplier, 4);
	ck_assert_uint_eq(rig.driver.device_len, ECHO_CONFIG_BYTES);
	unsigned types = 0;
	for (uint8_t at = (uint8_t)config(0x34, 1); at; at = (uint8_t)config(at + 1U, 1)) {
		if (config(at, 1) != 0x09)
			continue;
		unsigned type = config(at + 3U, 1);
		types |= 1U << type;
		ck_assert_uint_eq(config(at + 2U, 1), type == 2 || type == 5 ? 20 : 16);
		ck_assert_uint_eq(config(at + 4U, 1), type == 5 ? 0 : 4);
		ck_assert_uint_eq(config(at + 5U, 1), 0); /* id */
		ck_assert_uint_eq(config(at + 6U, 2), 0);
		ck_assert_uint_eq(config(at + 8U, 4) % 4, 0);
		static const uint32_t lengths[] = {0, 64, 4 * ECHO_QUEUES, 1, ECHO_CONFIG_BYTES, 0};
		ck_assert_uint_eq(config(at + 12U, 4), lengths[type]);
		world_config_write(&rig.world, rig.driver.slot, at + 12U, 4, 7);
		ck_assert_uint_eq(config(at + 12U, 4), type == 5 ? 7 : lengths[type]);
	}
	ck_assert_uint_eq(types, 0x3e);
	rig_finish();
}
END_TEST

START_TEST(each_queue_has_its_vector_and_changes_of_config_theirs)
{
	rig_init();
	start(0);
	for (unsigned queue = 0; queue < ECHO_QUEUES; queue++) {
		unsigned before[ECHO_QUEUES];
		for (unsigned i = 0; i < ECHO_QUEUES; i++)
			before[i] = driver_interrupts(&rig.driver, i);
		exchange(queue, 1);
		for (unsigned i = 0; i < ECHO_QUEUES; i++)
			ck_assert_uint_eq(driver_interrupts(&rig.driver, i), before[i] + (i == queue));
	}
	ck_assert_uint_eq(driver_config_interrupts(&rig.driver), 0);
	uint8_t generation = (uint8_t)get(DRIVER_GENERATION, 1);
	echo_change_config(&rig.echo);
	ck_assert_uint_eq(driver_config_interrupts(&rig.driver), 1);
	ck_assert_uint_ne(get(DRIVER_GENERATION, 1), generation);
	rig_finish();
}
END_TEST

/* 4.1.5.1.2: without a vector, no interrupt; the ring has the result all the same. */
START_TEST(no_vector_is_no_interrupt)
{
	rig_init();
	start(0);
	set(DRIVER_QUEUE_SELECT, 2, 0);
	set(DRIVER_QUEUE_VECTOR, 2, 0xffff);
	set(DRIVER_CONFIG_VECTOR, 2, 0xffff);
	unsigned lines = rig.world.rises[rig.driver.gsi];
	submit(0, 1);
	echo_change_config(&rig.echo);
	struct ring_used used;
	while (driver_try_collect(&rig.driver, 0, &used) == 0)
		usleep(100);
	echo_settle(&rig.echo);
	ck_assert_uint_eq(driver_interrupts(&rig.driver, 0) + driver_config_interrupts(&rig.driver), 0);
	ck_assert_uint_eq(rig.world.rises[rig.driver.gsi], lines);
	rig_finish();
}
END_TEST

/* 4.1.4.5: without MSI-X the ISR says why, and reading it lowers the line. */
START_TEST(the_isr_tells_why_and_is_cleared_by_reading)
{
	rig_init();
	ck_assert_int_eq(driver_start(&rig.driver, &(struct driver_options){.intx = true}), 0);
	ck_assert_uint_eq(world_read(&rig.world, rig.driver.isr_gpa, 1), 0);
	echo_change_config(&rig.echo);
	ck_assert_uint_ne(rig.world.levels[rig.driver.gsi], 0);
	submit(0, 1);
	struct ring_used used;
	while (driver_try_collect(&rig.driver, 0, &used) == 0)
		usleep(100);
	echo_settle(&rig.echo);
	ck_assert_uint_eq(world_read(&rig.world, rig.driver.isr_gpa, 1), 3);
	ck_assert_uint_eq(rig.world.levels[rig.driver.gsi], 0);
	ck_assert_uint_eq(world_read(&rig.world, rig.driver.isr_gpa, 1), 0);
	rig_finish();
}
END_TEST

START_TEST(no_interrupt_before_driver_ok)
{
	rig_init();
	echo_change_config(&rig.echo);
	ck_assert_uint_eq(rig.world.rises[rig.driver.gsi], 0);
	ck_assert_uint_eq(world_read(&rig.world, rig.driver.isr_gpa, 1), 0);
	ck_assert_uint_eq(get(DRIVER_GENERATION, 1), 1);
	rig_finish();
}
END_TEST

/* Requests without doorbells: what the driver made available before DRIVER_OK is found. */
START_TEST(requests_that_were_there_before_driver_ok_are_served)
{
	rig_init();
	start(0);
	ck_assert_int_eq(driver_reset(&rig.driver), 0);
	ck_assert_int_eq(driver_negotiate(&rig.driver, VIRTIO_F_VERSION_1), 0);
	ck_assert_int_eq(driver_enable_queue(&rig.driver, 1, 8), 0);
	const struct ring_buffer buffers[] = {{rig.in_gpa, 16, false}, {rig.out_gpa, 16, true}};
	ck_assert_int_ge(ring_add(&rig.driver.queues[1]->ring, buffers, 2, false), 0);
	ring_publish(&rig.driver.queues[1]->ring);
	set(DRIVER_STATUS, 1, 15);
	collect(1, 1);
	echo_settle(&rig.echo);
	ck_assert_ptr_null(virtio_queue(rig.echo.virtio, 0)); /* was not enabled */
	rig_finish();
}
END_TEST

/* A device that leaves requests has no doorbells until it asks: nothing spins, nothing is lost. */
START_TEST(requests_left_in_the_queue_wait_for_a_retry)
{
	for (size_t i = 0; i < ARRAY_LEN(layouts); i++) {
		rig_init();
		rig.echo.hold = true;
		rig.echo.room = 4;
		start(layouts[i]);
		submit(0, 20);
		usleep(2000);
		echo_settle(&rig.echo);
		unsigned doorbells = rig.echo.doorbells;
		usleep(20000);
		echo_settle(&rig.echo);
		ck_assert_uint_eq(rig.echo.doorbells, doorbells);
		submit(0, 1); /* the device has said that it wants no doorbell */
		echo_settle(&rig.echo);
		ck_assert_uint_eq(rig.echo.doorbells, doorbells);
		for (unsigned n = 0; n < 6; n++)
			echo_release(&rig.echo);
		collect(0, 21);
		rig.echo.hold = false;
		exchange(0, 7); /* doorbells are on again */
		rig_finish();
	}
}
END_TEST

static int poll_busily(void *arg)
{
	loop_set_poll(virtio_loop(((struct echo *)arg)->virtio), 200000);
	return 0;
}

START_TEST(busy_polling_loses_nothing)
{
	for (size_t i = 0; i < ARRAY_LEN(layouts); i++) {
		rig_init();
		(void)virtio_call(rig.echo.virtio, poll_busily, &rig.echo);
		start(layouts[i]);
		for (unsigned n = 0; n < 300; n++) {
			exchange(n % ECHO_QUEUES, (uint8_t)n);
			if (n % 50 == 0)
				usleep(1000); /* longer than it polls */
		}
		rig.echo.hold = true;
		rig.echo.room = 4;
		submit(0, 20);
		for (unsigned n = 0; n < 10; n++)
			echo_release(&rig.echo);
		collect(0, 20);
		rig_finish();
	}
}
END_TEST

/* What vhost-user does: somebody else hears the doorbell and makes the interrupt. */
struct handover {
	struct echo *echo;
	int event_fd, doorbell_fd;
};

static int hand_over(void *arg)
{
	struct handover *handover = arg;
	struct virtio *virtio = handover->echo->virtio;
	handover->doorbell_fd = virtio_queue_doorbell_fd(virtio, 1);
	ck_assert_uint_eq(virtio_queue_setup(virtio, 1)->size, ECHO_QUEUE_SIZE);
	ck_assert_ptr_null(virtio_queue_setup(virtio, ECHO_QUEUES));
	return virtio_queue_attach_irq(virtio, 1, handover->event_fd);
}

START_TEST(a_queue_can_be_handed_to_somebody_else)
{
	rig_init();
	struct handover handover = {.echo = &rig.echo, .event_fd = eventfd(0, EFD_NONBLOCK)};
	for (unsigned intx = 0; intx < 2; intx++) {
		ck_assert_int_eq(driver_start(&rig.driver, &(struct driver_options){.intx = intx}), 0);
		echo_settle(&rig.echo);
		ck_assert_int_eq(virtio_call(rig.echo.virtio, hand_over, &handover), 0);
		unsigned doorbells = rig.echo.doorbells, before = driver_interrupts(&rig.driver, 1);
		uint64_t count;
		while (read(handover.doorbell_fd, &count, sizeof(count)) > 0)
			;
		driver_ring_doorbell(&rig.driver, 1);
		ck_assert_int_eq((int)read(handover.doorbell_fd, &count, sizeof(count)), 8);
		echo_settle(&rig.echo);
		ck_assert_uint_eq(rig.echo.doorbells, doorbells);
		count = 1;
		ck_assert_int_eq((int)write(handover.event_fd, &count, sizeof(count)), 8);
		for (unsigned ms = 0; driver_interrupts(&rig.driver, 1) == before && ms < 5000; ms++)
			usleep(1000);
		ck_assert_uint_eq(driver_interrupts(&rig.driver, 1), before + 1);
		exchange(0, 3); /* the others are ours as before */
	}
	rig_finish();
	close(handover.event_fd);
}
END_TEST

TEST_MAIN("virtio", requests_go_there_and_back_in_every_layout, requests_go_there_and_back_with_intx,
	  the_function_has_the_ids_of_a_modern_device, structures_lie_apart_in_one_bar,
	  each_queue_has_its_vector_and_changes_of_config_theirs, no_vector_is_no_interrupt,
	  the_isr_tells_why_and_is_cleared_by_reading, no_interrupt_before_driver_ok,
	  requests_that_were_there_before_driver_ok_are_served, requests_left_in_the_queue_wait_for_a_retry,
	  busy_polling_loses_nothing, a_queue_can_be_handed_to_somebody_else)
