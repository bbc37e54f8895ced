/* Resets, broken drivers and queues that come and go, at any moment (VIRTIO 1.3, 2.1, 2.4, 2.6). */
#include "echo_rig.h"

#include "base/layout.h"

#include <pthread.h>

/* ---- reset ---- */

START_TEST(a_reset_waits_for_what_is_in_flight)
{
	for (size_t i = 0; i < ARRAY_LEN(layouts); i++) {
		rig_init();
		rig.echo.hold = true;
		rig.echo.slow_stop = true;
		start(layouts[i]);
		submit(0, 5);
		submit(1, 5);
		while (rig.echo.held_seen < 10)
			usleep(100);
		set(DRIVER_STATUS, 1, 0);
		while (rig.echo.stops == 0)
			usleep(100);
		usleep(5000);
		ck_assert_uint_eq(rig.echo.stops, 1);
		ck_assert_uint_ne(driver_status(&rig.driver), 0);
		set(DRIVER_STATUS, 1, 0); /* impatience changes nothing, nor does anything else */
		set(DRIVER_STATUS, 1, DRIVER_ACKNOWLEDGE);
		set(DRIVER_QUEUE_SELECT, 2, 1);
		driver_config_set(&rig.driver, 0, 4, 77);
		driver_ring_doorbell(&rig.driver, 0);
		usleep(2000);
		ck_assert_uint_eq(get(DRIVER_STATUS, 1), 15);
		ck_assert_uint_ne(get(DRIVER_QUEUE_SELECT, 2), 1);
		ck_assert_uint_eq(driver_config_get(&rig.driver, 0, 4), 0);
		ck_assert_uint_eq(rig.echo.stops, 1);
		rig.echo.slow_stop = false;
		echo_release(&rig.echo);
		ck_assert_uint_eq(driver_status(&rig.driver), 0);
		ck_assert_uint_eq(get(DRIVER_QUEUE_ENABLE, 2), 0);
		ck_assert_uint_eq(driver_config_get(&rig.driver, 0, 4), 0);
		rig.echo.hold = false;
		start(layouts[i]);
		exchange(1, 1);
		rig_finish();
	}
}
END_TEST

START_TEST(a_reset_before_driver_ok_is_immediate)
{
	rig_init();
	set(DRIVER_STATUS, 1, DRIVER_ACKNOWLEDGE);
	set(DRIVER_QUEUE_DESC, 8, 0x1000);
	set(DRIVER_STATUS, 1, 0);
	ck_assert_uint_eq(get(DRIVER_STATUS, 1), 0);
	ck_assert_uint_eq(get(DRIVER_QUEUE_DESC, 8), 0);
	ck_assert_uint_eq(rig.echo.stops, 0);
	ck_assert_uint_eq(rig.echo.resets, 1);
	rig_finish();
}
END_TEST

/* The reset overtakes the activation, or follows on its heels; in any case what comes after works. */
START_TEST(resets_at_any_moment)
{
	rig_init();
	for (unsigned i = 0; i < 400; i++) {
		start(layouts[i % ARRAY_LEN(layouts)]);
		submit(i % ECHO_QUEUES, i % 7);
		if (i % 5 == 0)
			usleep(i % 300);
		set(DRIVER_STATUS, 1, 0);
		if (i % 3 == 0)
			echo_change_config(&rig.echo);
	}
	start(0);
	exchange(0, 1);
	rig_finish();
}
END_TEST

START_TEST(the_machine_is_reset_with_requests_in_flight)
{
	rig_init();
	rig.echo.hold = true;
	start(0);
	submit(0, 5);
	while (rig.echo.held_seen < 5)
		usleep(100);
	virtio_reset(rig.echo.virtio);
	ck_assert(!rig.echo.running);
	ck_assert_uint_eq(world_config_read(&rig.world, rig.driver.slot, 4, 2) & 2, 0);
	rig.echo.hold = false;
	world_config_write(&rig.world, rig.driver.slot, 4, 2, 6);
	start(0);
	exchange(0, 1);
	rig_finish();
}
END_TEST

/* Function-level reset: what is behind a vfio-pci in the guest does it before anybody drives the device. */
START_TEST(the_function_is_reset_with_requests_in_flight)
{
	for (unsigned i = 0; i < 2; i++) {
		rig_init();
		rig.echo.hold = rig.echo.slow_stop = true;
		ck_assert_int_eq(driver_start(&rig.driver, &(struct driver_options){.intx = i}), 0);
		submit(0, 5);
		while (rig.echo.held_seen < 5)
			usleep(100);
		uint32_t slot = rig.driver.slot, control = 0x40 + 8; /* of the Express capability */
		uint32_t value = world_config_read(&rig.world, slot, control, 2);
		world_config_write(&rig.world, slot, control, 2, value | 0x8000);
		ck_assert_uint_eq(world_config_read(&rig.world, slot, control, 2), value);
		ck_assert_uint_eq(world_config_read(&rig.world, slot, 4, 2), 0);
		while (!rig.echo.stops)
			usleep(100);
		world_config_write(&rig.world, slot, 4, 2, 6);
		ck_assert_uint_ne(driver_status(&rig.driver), 0); /* it still has the requests */
		unsigned before = driver_interrupts(&rig.driver, 0);
		rig.echo.slow_stop = false;
		echo_release(&rig.echo);
		ck_assert_uint_eq(driver_status(&rig.driver), 0);
		ck_assert_uint_eq(driver_interrupts(&rig.driver, 0), before);
		ck_assert_uint_eq(world_config_read(&rig.world, slot, 6, 2) & 8, 0);
		rig.echo.hold = false;
		start(0);
		exchange(0, 1);
		rig_finish();
	}
}
END_TEST

START_TEST(a_device_is_destroyed_with_requests_in_flight)
{
	rig_init();
	rig.echo.hold = true;
	start(VIRTIO_F_RING_PACKED);
	submit(0, 5);
	virtio_destroy(rig.echo.virtio);
	ck_assert_uint_eq(rig.echo.mistakes, 0);
	for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++)
		free(rig.driver.queues[i]);
	world_finish(&rig.world);
}
END_TEST

/* ---- drivers that break the device ---- */

/* DEVICE_NEEDS_RESET with an interrupt, no more requests, and a reset that helps. */
static void assert_needs_reset(unsigned interrupts_before)
{
	ck_assert_int_eq(driver_wait_status(&rig.driver, DRIVER_NEEDS_RESET), 0);
	ck_assert_int_eq(driver_wait_config_interrupt(&rig.driver, interrupts_before), 0);
	echo_settle(&rig.echo);
	unsigned doorbells = rig.echo.doorbells;
	for (unsigned i = 0; i < ECHO_QUEUES; i++)
		driver_ring_doorbell(&rig.driver, i);
	echo_settle(&rig.echo);
	ck_assert_uint_eq(rig.echo.doorbells, doorbells);
	start(0);
	exchange(0, 1);
}

START_TEST(a_queue_in_a_bad_place_needs_a_reset)
{
	static const uint64_t places[] = {
		1,	    WORLD_RAM_MIB * MIB, WORLD_RAM_MIB * MIB - 2, UINT64_MAX - 15,
		UINT64_MAX, LAYOUT_LAPIC_GPA};
	static const enum driver_common registers[] = {DRIVER_QUEUE_DESC, DRIVER_QUEUE_DRIVER,
						       DRIVER_QUEUE_DEVICE};
	rig_init();
	start(0);
	for (size_t i = 0; i < ARRAY_LEN(places) * ARRAY_LEN(registers) * 2; i++) {
		uint64_t layout = i & 1 ? VIRTIO_F_RING_PACKED : 0;
		ck_assert_int_eq(driver_reset(&rig.driver), 0);
		ck_assert_int_eq(driver_negotiate(&rig.driver, VIRTIO_F_VERSION_1 | layout), 0);
		set(DRIVER_CONFIG_VECTOR, 2, 0);
		unsigned activations = rig.echo.activations, before = driver_config_interrupts(&rig.driver);
		ck_assert_int_eq(driver_enable_queue(&rig.driver, 0, 0), 0);
		set(DRIVER_QUEUE_SELECT, 2, 1);
		for (size_t r = 0; r < ARRAY_LEN(registers); r++)
			set(registers[r], 8, 0x100000);
		set(registers[i / 2 % ARRAY_LEN(registers)], 8, places[i / 2 / ARRAY_LEN(registers)]);
		set(DRIVER_QUEUE_ENABLE, 2, 1);
		set(DRIVER_STATUS, 1, 15);
		assert_needs_reset(before);
		ck_assert_uint_eq(rig.echo.activations, activations + 1); /* that of the start which helps */
	}
	rig_finish();
}
END_TEST

START_TEST(a_split_queue_of_odd_size_needs_a_reset)
{
	rig_init();
	start(0);
	ck_assert_int_eq(driver_reset(&rig.driver), 0);
	ck_assert_int_eq(driver_negotiate(&rig.driver, VIRTIO_F_VERSION_1), 0);
	set(DRIVER_CONFIG_VECTOR, 2, 0);
	unsigned before = driver_config_interrupts(&rig.driver);
	ck_assert_int_eq(driver_enable_queue(&rig.driver, 0, 7), 0);
	set(DRIVER_STATUS, 1, 15);
	assert_needs_reset(before);
	rig_finish();
}
END_TEST

START_TEST(a_broken_ring_needs_a_reset)
{
	rig_init();
	start(0);
	unsigned before = driver_config_interrupts(&rig.driver);
	struct ring *ring = &rig.driver.queues[0]->ring;
	ring->avail->ring[ring->next_avail % ring->setup.size] = 0xfff0;
	__atomic_store_n(&ring->avail->idx, (uint16_t)(ring->next_avail + 1), __ATOMIC_RELEASE);
	driver_ring_doorbell(&rig.driver, 0);
	assert_needs_reset(before);
	before = driver_config_interrupts(&rig.driver);
	ring = &rig.driver.queues[0]->ring;
	__atomic_store_n(&ring->avail->idx, (uint16_t)(ring->next_avail + 1000), __ATOMIC_RELEASE);
	driver_ring_doorbell(&rig.driver, 0);
	assert_needs_reset(before);
	rig_finish();
}
END_TEST

START_TEST(a_device_that_cannot_start_needs_a_reset)
{
	rig_init();
	rig.echo.activate_result = -ENOMEM;
	unsigned before = driver_config_interrupts(&rig.driver);
	start(0);
	ck_assert_int_eq(driver_wait_status(&rig.driver, DRIVER_NEEDS_RESET), 0);
	echo_settle(&rig.echo);
	ck_assert_ptr_null(virtio_queue(rig.echo.virtio, 0));
	rig.echo.activate_result = 0;
	assert_needs_reset(before);
	ck_assert_uint_eq(rig.echo.stops, 0);
	rig_finish();
}
END_TEST

START_TEST(the_device_says_that_it_needs_a_reset)
{
	rig_init();
	for (unsigned i = 0; i < 10; i++) {
		start(0);
		echo_settle(&rig.echo);
		unsigned before = driver_config_interrupts(&rig.driver);
		virtio_needs_reset(rig.echo.virtio, "the test says so");
		virtio_needs_reset(rig.echo.virtio, "and again, which is nothing new");
		ck_assert_uint_eq(driver_config_interrupts(&rig.driver), before + 1);
		assert_needs_reset(before);
		ck_assert_uint_eq(rig.echo.counts.needs_reset, i + 1);
		ck_assert_uint_eq(rig.echo.counts.guest_errors.total, 2 * (i + 1));
	}
	rig_finish();
}
END_TEST

/* ---- one queue (2.6.1) ---- */

START_TEST(a_queue_is_reset_while_the_others_work)
{
	for (size_t i = 0; i < ARRAY_LEN(layouts); i++) {
		rig_init();
		start(layouts[i] | VIRTIO_F_RING_RESET);
		rig.echo.hold = true;
		rig.echo.slow_stop = true;
		submit(0, 5);
		while (rig.echo.held_seen < 5)
			usleep(100);
		set(DRIVER_QUEUE_SELECT, 2, 0);
		set(DRIVER_QUEUE_RESET, 2, 1);
		set(DRIVER_QUEUE_RESET, 2, 1);
		usleep(2000);
		ck_assert_uint_eq(get(DRIVER_QUEUE_RESET, 2), 1);
		set(DRIVER_QUEUE_ENABLE, 2, 1); /* not yet */
		set(DRIVER_QUEUE_SIZE, 2, 8);
		rig.echo.hold = false;
		rig.echo.slow_stop = false;
		echo_release(&rig.echo);
		ck_assert_uint_eq(get(DRIVER_QUEUE_RESET, 2), 0);
		ck_assert_uint_eq(get(DRIVER_QUEUE_ENABLE, 2), 0);
		ck_assert_uint_eq(get(DRIVER_QUEUE_SIZE, 2), ECHO_QUEUE_SIZE);
		ck_assert_uint_eq(get(DRIVER_QUEUE_DESC, 8), 0);
		ck_assert_uint_eq(rig.echo.queue_stops, 1);
		exchange(1, 1);
		ck_assert_int_eq(driver_enable_queue(&rig.driver, 0, 16), 0);
		for (unsigned n = 0; n < 40; n++)
			exchange(n % 2, (uint8_t)n);
		rig_finish();
	}
}
END_TEST

START_TEST(queues_are_reset_and_enabled_at_any_moment)
{
	rig_init();
	start(VIRTIO_F_RING_RESET | VIRTIO_F_EVENT_IDX);
	for (unsigned i = 0; i < 300; i++) {
		unsigned queue = i % ECHO_QUEUES;
		submit(queue, i % 5);
		ck_assert_int_eq(driver_reset_queue(&rig.driver, queue), 0);
		ck_assert_int_eq(driver_enable_queue(&rig.driver, queue, (uint16_t)(8U << i % 3)), 0);
		if (i % 4 == 0)
			exchange(queue, (uint8_t)i);
		if (i % 50 == 49)
			start(VIRTIO_F_RING_RESET);
	}
	ck_assert_uint_eq(driver_status(&rig.driver), 15);
	rig_finish();
}
END_TEST

START_TEST(a_device_reset_overtakes_a_queue_reset)
{
	rig_init();
	rig.echo.hold = true;
	rig.echo.slow_stop = true;
	start(VIRTIO_F_RING_RESET);
	submit(0, 5);
	while (rig.echo.held_seen < 5) /* before that a reset may have nothing to wait for */
		usleep(100);
	set(DRIVER_QUEUE_SELECT, 2, 0);
	set(DRIVER_QUEUE_RESET, 2, 1);
	while (rig.echo.queue_stops == 0)
		usleep(100);
	set(DRIVER_STATUS, 1, 0);
	usleep(1000);
	ck_assert_uint_ne(driver_status(&rig.driver), 0);
	rig.echo.hold = false;
	rig.echo.slow_stop = false;
	echo_release(&rig.echo);
	ck_assert_int_eq(driver_reset(&rig.driver), 0);
	start(0);
	exchange(0, 1);
	rig_finish();
}
END_TEST

START_TEST(queues_are_not_reset_or_enabled_late_without_the_feature)
{
	rig_init();
	ck_assert_int_eq(driver_start(&rig.driver, &(struct driver_options){.queues = 1}), 0);
	set(DRIVER_QUEUE_SELECT, 2, 0);
	set(DRIVER_QUEUE_RESET, 2, 1);
	ck_assert_uint_eq(get(DRIVER_QUEUE_RESET, 2), 0);
	ck_assert_uint_eq(get(DRIVER_QUEUE_ENABLE, 2), 1);
	ck_assert_int_eq(driver_enable_queue(&rig.driver, 1, 0), 0);
	ck_assert_uint_eq(get(DRIVER_QUEUE_ENABLE, 2), 0);
	exchange(0, 1);
	/* A queue reset before DRIVER_OK is immediate. */
	ck_assert_int_eq(driver_reset(&rig.driver), 0);
	ck_assert_int_eq(driver_negotiate(&rig.driver, VIRTIO_F_VERSION_1 | VIRTIO_F_RING_RESET), 0);
	ck_assert_int_eq(driver_enable_queue(&rig.driver, 0, 16), 0);
	set(DRIVER_QUEUE_RESET, 2, 1);
	ck_assert_uint_eq(get(DRIVER_QUEUE_RESET, 2), 0);
	ck_assert_uint_eq(get(DRIVER_QUEUE_ENABLE, 2), 0);
	ck_assert_uint_eq(rig.echo.queue_stops, 0);
	rig_finish();
}
END_TEST

START_TEST(a_late_queue_in_a_bad_place_needs_a_reset)
{
	rig_init();
	start(VIRTIO_F_RING_RESET);
	unsigned before = driver_config_interrupts(&rig.driver);
	ck_assert_int_eq(driver_reset_queue(&rig.driver, 2), 0);
	set(DRIVER_QUEUE_DESC, 8, UINT64_MAX);
	set(DRIVER_QUEUE_ENABLE, 2, 1);
	assert_needs_reset(before);
	rig_finish();
}
END_TEST

/* ---- vCPUs without manners, all at once: ThreadSanitizer looks on ---- */

static _Atomic bool rampage;

static void *vcpu(void *arg)
{
	uint64_t seed = (uintptr_t)arg;
	while (rampage) {
		seed = seed * 6364136223846793005 + 1442695040888963407;
		uint64_t r = seed >> 16;
		unsigned size = 1U << (r & 3);
		uint64_t gpa = rig.driver.common_gpa + (r >> 4 & 3) * 0x1000 + (r >> 6) % 64;
		if (r >> 20 & 1)
			(void)world_read(&rig.world, gpa, size);
		else
			world_write(&rig.world, gpa, size, r >> 24 & (r >> 40 & 1 ? 0x0f : 0xffff));
	}
	return NULL;
}

START_TEST(vcpus_run_wild)
{
	rig_init();
	pthread_t vcpus[3];
	rampage = true;
	for (size_t i = 0; i < ARRAY_LEN(vcpus); i++)
		ck_assert_int_eq(pthread_create(&vcpus[i], NULL, vcpu, (void *)(i + 1)), 0);
	struct virtio_regs regs;
	for (unsigned i = 0; i < 60; i++) {
		usleep(2000);
		echo_change_config(&rig.echo);
		virtio_save(rig.echo.virtio, &regs);
		if (i % 8 == 0)
			virtio_reset(rig.echo.virtio);
		world_config_write(&rig.world, rig.driver.slot, 4, 2, 6);
	}
	rampage = false;
	for (size_t i = 0; i < ARRAY_LEN(vcpus); i++)
		ck_assert_int_eq(pthread_join(vcpus[i], NULL), 0);
	start(0);
	exchange(0, 1);
	rig_finish();
}
END_TEST

TEST_MAIN("virtio_life", a_reset_waits_for_what_is_in_flight, a_reset_before_driver_ok_is_immediate,
	  resets_at_any_moment, the_machine_is_reset_with_requests_in_flight,
	  the_function_is_reset_with_requests_in_flight, a_device_is_destroyed_with_requests_in_flight,
	  a_queue_in_a_bad_place_needs_a_reset, a_split_queue_of_odd_size_needs_a_reset,
	  a_broken_ring_needs_a_reset, a_device_that_cannot_start_needs_a_reset,
	  the_device_says_that_it_needs_a_reset, a_queue_is_reset_while_the_others_work,
	  queues_are_reset_and_enabled_at_any_moment, a_device_reset_overtakes_a_queue_reset,
	  queues_are_not_reset_or_enabled_late_without_the_feature, a_late_queue_in_a_bad_place_needs_a_reset,
	  vcpus_run_wild)
