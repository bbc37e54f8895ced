/* virtio-rng (VIRTIO 1.3, 5.4). */
#include "../../devices/devices.h"
#include "driver.h"
#include "harness.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

/* Takes the place of the C library's: fails as often as a test says, and gives short. */
static _Atomic unsigned failures;
static _Atomic int failure;
static _Atomic size_t most = SIZE_MAX;
static _Atomic unsigned calls;

ssize_t getrandom(void *data, size_t len, unsigned flags)
{
	(void)flags;
	calls++;
	if (failures) {
		failures--;
		errno = failure;
		return -1;
	}
	size_t got = len < most ? len : most;
	memset(data, 0x5a, got);
	return (ssize_t)got;
}

struct rig {
	struct world world;
	struct device *device;
	struct driver driver;
	uint64_t gpa;
};

static struct rig rig;

static void rig_init(struct rate_config rate)
{
	struct err err = ERR_INIT;
	const struct rng_config config = {.rate = rate};
	world_init(&rig.world, 1);
	ck_assert_msg(rng_class.create(&config, 0, &rig.world.services, &rig.device, &err) == 0, "%s",
		      err.text);
	ck_assert_int_eq(driver_init(&rig.driver, &rig.world, VIRTIO_ID_RNG), 0);
	ck_assert_int_eq(driver_start(&rig.driver, &(struct driver_options){.features = VIRTIO_F_EVENT_IDX}),
			 0);
	rig.gpa = world_alloc(&rig.world, 1 << 20);
}

static void rig_finish(void)
{
	driver_finish(&rig.driver);
	rng_class.destroy(rig.device);
	rng_class.destroy(NULL);
	world_finish(&rig.world);
	failures = 0;
	most = SIZE_MAX;
}

static int ask(uint32_t len)
{
	const struct ring_buffer buffer = {rig.gpa, len, true};
	memset(world_at(&rig.world, rig.gpa, 1 << 20), 0, 1 << 20);
	return driver_request(&rig.driver, 0, &buffer, 1);
}

static void assert_filled(size_t len)
{
	const uint8_t *data = world_at(&rig.world, rig.gpa, 1 << 20);
	size_t i = 0; /* an assertion for each byte would take minutes */
	while (i < 1 << 20 && data[i] == (i < len ? 0x5a : 0))
		i++;
	ck_assert_msg(i == 1 << 20, "byte %zu of %zu", i, len);
}

START_TEST(it_fills_buffers)
{
	rig_init((struct rate_config){0});
	static const uint32_t lens[] = {1, 7, 64, 4095, 4096};
	for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		ck_assert_int_eq(ask(lens[i]), (int)lens[i]);
		assert_filled(lens[i]);
	}
	rig_finish();
}
END_TEST

START_TEST(a_large_request_gets_less)
{
	rig_init((struct rate_config){0});
	ck_assert_int_eq(ask(1 << 20), 4096);
	assert_filled(4096);
	rig_finish();
}
END_TEST

START_TEST(odd_requests_are_answered)
{
	rig_init((struct rate_config){0});
	const struct ring_buffer read_only = {rig.gpa, 16, false};
	ck_assert_int_eq(driver_request(&rig.driver, 0, &read_only, 1), 0);
	const struct ring_buffer scattered[] = {
		{rig.gpa, 3, false}, {rig.gpa, 1, true}, {rig.gpa + 1, 0, true}, {rig.gpa + 1, 5, true}};
	ck_assert_int_eq(driver_request(&rig.driver, 0, scattered, 4), 6);
	ck_assert_int_eq(driver_status(&rig.driver) & DRIVER_NEEDS_RESET, 0);
	rig_finish();
}
END_TEST

START_TEST(a_host_that_is_interrupted_or_gives_short_is_asked_again)
{
	rig_init((struct rate_config){0});
	failure = EINTR;
	failures = 3;
	most = 10;
	calls = 0;
	ck_assert_int_eq(ask(64), 64);
	assert_filled(64);
	ck_assert_uint_eq(calls, 3 + 7);
	rig_finish();
}
END_TEST

START_TEST(a_host_without_entropy_is_waited_for)
{
	rig_init((struct rate_config){0});
	failure = EAGAIN;
	failures = 2;
	uint64_t begin = loop_now_ns();
	ck_assert_int_eq(ask(64), 64);
	assert_filled(64);
	ck_assert_uint_ge(loop_now_ns() - begin, 150000000);
	failures = 1000000; /* and a device that waits can be reset and destroyed */
	const struct ring_buffer buffer = {rig.gpa, 8, true};
	ck_assert_int_ge(driver_submit(&rig.driver, 0, &buffer, 1), 0);
	rig_finish();
}
END_TEST

START_TEST(the_rate_limits_bytes)
{
	rig_init((struct rate_config){.bytes_per_second = 100000});
	uint64_t begin = loop_now_ns();
	unsigned bytes = 0;
	while (bytes < 40000) /* 10000 at once, the rest takes its time, less the last one's debt */
		bytes += (unsigned)ask(2000);
	ck_assert_uint_ge(loop_now_ns() - begin, 270000000);
	rig_finish();
}
END_TEST

START_TEST(the_rate_limits_requests_and_all_that_wait_come_through)
{
	rig_init((struct rate_config){.ops_per_second = 100});
	uint64_t begin = loop_now_ns();
	const struct ring_buffer buffer = {rig.gpa, 8, true};
	for (unsigned i = 0; i < 40; i++)
		ck_assert_int_ge(driver_submit(&rig.driver, 0, &buffer, 1), 0);
	struct ring_used used;
	for (unsigned i = 0; i < 40; i++) {
		ck_assert_int_eq(driver_collect(&rig.driver, 0, &used), 0);
		ck_assert_uint_eq(used.len, 8);
	}
	ck_assert_uint_ge(loop_now_ns() - begin, 280000000);
	ck_assert_int_eq(ask(8), 8); /* doorbells are on again */
	rig_finish();
}
END_TEST

START_TEST(a_limited_device_is_reset_and_destroyed_with_requests_waiting)
{
	rig_init((struct rate_config){.ops_per_second = 1});
	const struct ring_buffer buffer = {rig.gpa, 8, true};
	for (unsigned i = 0; i < 10; i++)
		ck_assert_int_ge(driver_submit(&rig.driver, 0, &buffer, 1), 0);
	ck_assert_int_eq(driver_reset(&rig.driver), 0);
	ck_assert_int_eq(driver_start(&rig.driver, &(struct driver_options){0}), 0);
	for (unsigned i = 0; i < 10; i++)
		ck_assert_int_ge(driver_submit(&rig.driver, 0, &buffer, 1), 0);
	rng_class.destroy(rig.device);
	free(rig.driver.queues[0]);
	world_finish(&rig.world);
}
END_TEST

START_TEST(config_places_it)
{
	const struct machine_config machine = {
		.devices = {{.type = DEVICE_BALLOON},
			    {.type = DEVICE_RNG, .rng.place.slot = 9},
			    {.type = DEVICE_RNG, .rng.place.slot = 4, .rng.place.iothread = 2}},
		.device_count = 3};
	ck_assert_ptr_eq(rng_class.config(&machine, 0), &machine.devices[1].rng);
	ck_assert_ptr_eq(rng_class.config(&machine, 1), &machine.devices[2].rng);
	ck_assert_ptr_null(rng_class.config(&machine, 2));
	struct err err = ERR_INIT;
	struct device *nine = NULL, *four = NULL;
	world_init(&rig.world, 1);
	ck_assert_int_eq(rng_class.create(&machine.devices[1].rng, 0, &rig.world.services, &nine, &err), 0);
	ck_assert_int_eq(driver_init(&rig.driver, &rig.world, VIRTIO_ID_RNG), 0);
	ck_assert_uint_eq(rig.driver.slot, 9);
	ck_assert_int_eq(rng_class.create(&machine.devices[2].rng, 1, &rig.world.services, &four, &err),
			 -EINVAL);
	ck_assert_str_eq(err.text, "iothread: 2, but there are 1 (io.threads)");
	ck_assert_ptr_null(four);
	err = ERR_INIT;
	ck_assert_int_eq(rng_class.create(&machine.devices[1].rng, 1, &rig.world.services, &four, &err),
			 -EEXIST);
	rng_class.destroy(nine);
	world_finish(&rig.world);
}
END_TEST

TEST_MAIN("rng", it_fills_buffers, a_large_request_gets_less, odd_requests_are_answered,
	  a_host_that_is_interrupted_or_gives_short_is_asked_again, a_host_without_entropy_is_waited_for,
	  the_rate_limits_bytes, the_rate_limits_requests_and_all_that_wait_come_through,
	  a_limited_device_is_reset_and_destroyed_with_requests_waiting, config_places_it)
