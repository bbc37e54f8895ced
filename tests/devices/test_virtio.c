/* The virtio PCI transport as a driver that keeps the rules sees it (VIRTIO 1.3, 2, 3 and 4.1). */
#include "base/log.h"
#include "echo.h"
#include "harness.h"

struct rig {
	struct world world;
	struct echo echo;
	struct driver driver;
	uint64_t in_gpa, out_gpa;
};

static struct rig rig;

static void rig_init(void)
{
	struct err err = ERR_INIT;
	log_set_level(LOG_ERROR);
	world_init(&rig.world, 1);
	ck_assert_msg(echo_create(&rig.echo, &rig.world, &err) == 0, "%s", err.text);
	ck_assert_int_eq(driver_init(&rig.driver, &rig.world, VIRTIO_ID_CONSOLE), 0);
	rig.in_gpa = world_alloc(&rig.world, 4096);
	rig.out_gpa = world_alloc(&rig.world, 4096);
}

static void rig_finish(void)
{
	driver_finish(&rig.driver);
	virtio_destroy(rig.echo.virtio);
	ck_assert_uint_eq(rig.echo.mistakes, 0);
	ck_assert_uint_eq(rig.world.lost_messages, 0);
	world_finish(&rig.world);
}

static void start(uint64_t features)
{
	ck_assert_int_eq(driver_start(&rig.driver, &(struct driver_options){.features = features}), 0);
}

/* One request there and back, with its data looked at. */
static void exchange(unsigned queue, uint8_t seed)
{
	uint8_t *in = world_at(&rig.world, rig.in_gpa, 256), *out = world_at(&rig.world, rig.out_gpa, 256);
	for (unsigned i = 0; i < 256; i++)
		in[i] = (uint8_t)(seed + 3 * i);
	memset(out, 0, 256);
	const struct ring_buffer buffers[] = {
		{rig.in_gpa, 100, false}, {rig.in_gpa + 100, 156, false}, {rig.out_gpa, 256, true}};
	ck_assert_int_eq(driver_request(&rig.driver, queue, buffers, ARRAY_LEN(buffers)), 256);
	ck_assert_mem_eq(in, out, 256);
}

static const uint64_t layouts[] = {
	0,
	VIRTIO_F_EVENT_IDX,
	VIRTIO_F_INDIRECT_DESC,
	VIRTIO_F_RING_PACKED,
	VIRTIO_F_RING_PACKED | VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC,
};

START_TEST(requests_go_there_and_back_in_every_layout)
{
	rig_init();
	for (size_t i = 0; i < ARRAY_LEN(layouts); i++) {
		start(layouts[i]);
		for (unsigned n = 0; n < 200; n++)
			exchange(n % ECHO_QUEUES, (uint8_t)n);
		ck_assert_uint_eq(rig.echo.features, rig.driver.features);
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

TEST_MAIN("virtio", requests_go_there_and_back_in_every_layout, requests_go_there_and_back_with_intx)
