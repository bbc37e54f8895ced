/* A world with the echo device and a driver for it: one test program, one file that includes this. */
#ifndef AERIE_TESTS_DEVICES_ECHO_RIG_H
#define AERIE_TESTS_DEVICES_ECHO_RIG_H

#include "base/log.h"
#include "echo.h"
#include "harness.h"

struct rig {
	struct world world;
	struct echo echo;
	struct driver driver;
	uint64_t in_gpa, out_gpa; /* 4096 bytes each */
};

static struct rig rig;

static const uint64_t layouts[] = {
	0,
	VIRTIO_F_EVENT_IDX,
	VIRTIO_F_INDIRECT_DESC,
	VIRTIO_F_RING_PACKED,
	VIRTIO_F_RING_PACKED | VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC,
};

static inline void rig_init(void)
{
	struct err err = ERR_INIT;
	log_set_level(LOG_ERROR); /* of the guest's mistakes we know */
	world_init(&rig.world, 1);
	ck_assert_msg(echo_create(&rig.echo, &rig.world, &err) == 0, "%s", err.text);
	ck_assert_int_eq(driver_init(&rig.driver, &rig.world, VIRTIO_ID_CONSOLE), 0);
	rig.in_gpa = world_alloc(&rig.world, 4096);
	rig.out_gpa = world_alloc(&rig.world, 4096);
}

static inline void rig_finish(void)
{
	driver_finish(&rig.driver);
	virtio_destroy(rig.echo.virtio);
	ck_assert_uint_eq(rig.echo.mistakes, 0);
	ck_assert(!rig.echo.running);
	ck_assert_uint_eq(rig.world.lost_messages, 0);
	world_finish(&rig.world);
}

static inline void start(uint64_t features)
{
	ck_assert_int_eq(driver_start(&rig.driver, &(struct driver_options){.features = features}), 0);
}

/* The buffers of a request of 256 bytes there and back. */
static inline void fill_request(struct ring_buffer buffers[3], uint8_t seed)
{
	uint8_t *in = world_at(&rig.world, rig.in_gpa, 256), *out = world_at(&rig.world, rig.out_gpa, 256);
	for (unsigned i = 0; i < 256; i++)
		in[i] = (uint8_t)(seed + 3 * i);
	memset(out, 0, 256);
	buffers[0] = (struct ring_buffer){rig.in_gpa, 100, false};
	buffers[1] = (struct ring_buffer){rig.in_gpa + 100, 156, false};
	buffers[2] = (struct ring_buffer){rig.out_gpa, 256, true};
}

/* One request there and back, with its data looked at. */
static inline void exchange(unsigned queue, uint8_t seed)
{
	struct ring_buffer buffers[3];
	fill_request(buffers, seed);
	ck_assert_int_eq(driver_request(&rig.driver, queue, buffers, 3), 256);
	ck_assert_mem_eq(world_at(&rig.world, rig.in_gpa, 256), world_at(&rig.world, rig.out_gpa, 256), 256);
}

/* Requests of 16 bytes that nobody waits for. */
static inline void submit(unsigned queue, unsigned count)
{
	const struct ring_buffer buffers[] = {{rig.in_gpa, 16, false}, {rig.out_gpa, 16, true}};
	for (unsigned i = 0; i < count; i++)
		ck_assert_int_ge(driver_submit(&rig.driver, queue, buffers, 2), 0);
}

static inline void collect(unsigned queue, unsigned count)
{
	struct ring_used used;
	for (unsigned i = 0; i < count; i++) {
		ck_assert_int_eq(driver_collect(&rig.driver, queue, &used), 0);
		ck_assert_uint_eq(used.len, 16);
	}
	ck_assert_int_eq(driver_try_collect(&rig.driver, queue, &used), 0);
}

static inline uint64_t get(enum driver_common offset, unsigned size)
{
	return driver_common_read(&rig.driver, offset, size);
}

static inline void set(enum driver_common offset, unsigned size, uint64_t value)
{
	driver_common_write(&rig.driver, offset, size, value);
}

#endif
