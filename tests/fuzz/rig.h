/*
 * A virtio device and its driver for a fuzz target, made once for all inputs: a machine costs more than what
 * is done with it. What goes wrong here stops the program.
 */
#ifndef AERIE_TESTS_FUZZ_RIG_H
#define AERIE_TESTS_FUZZ_RIG_H

#include "../devices/driver.h"
#include "base/log.h"
#include "devices/device.h"
#include "feed.h"
#include "fuzz.h"
#include "host/iothread.h"

#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

enum { RIG_AREA_BYTES = 65536, RIG_PIECES = 4, RIG_PATH_BYTES = 64 };

struct rig {
	struct world world;
	struct driver driver;
	const struct device_class *class;
	struct device *device;
	uint64_t read_gpa, write_gpa; /* what the device reads, and writes: RIG_AREA_BYTES each */
	uint8_t *read, *write;
};

/* A file in memory, full of zeros, for devices that open one by its path. Close the descriptor at the end. */
static inline int rig_file(off_t bytes, char path[RIG_PATH_BYTES])
{
	int fd = memfd_create("fuzz", MFD_CLOEXEC);
	FUZZ_CHECK(fd >= 0 && ftruncate(fd, bytes) == 0);
	(void)snprintf(path, RIG_PATH_BYTES, "/proc/self/fd/%d", fd);
	return fd;
}

/* `config` has to stay. The target registers its own function with atexit, which calls rig_unmake. */
static inline void rig_make(struct rig *rig, const struct device_class *class, const void *config,
			    enum virtio_id id)
{
	struct err err = ERR_INIT;
	log_set_level(LOG_ERROR); /* of the guest's many mistakes we know */
	world_init(&rig->world, 1);
	rig->class = class;
	int r = class->create(config, 0, &rig->world.services, &rig->device, &err);
	if (r < 0)
		(void)fprintf(stderr, "%s: %s\n", class->name, err.text);
	FUZZ_CHECK(r == 0 && driver_init(&rig->driver, &rig->world, id) == 0);
	rig->read_gpa = world_alloc(&rig->world, RIG_AREA_BYTES);
	rig->write_gpa = world_alloc(&rig->world, RIG_AREA_BYTES);
	rig->read = world_at(&rig->world, rig->read_gpa, RIG_AREA_BYTES);
	rig->write = world_at(&rig->world, rig->write_gpa, RIG_AREA_BYTES);
}

static inline void rig_unmake(struct rig *rig)
{
	driver_finish(&rig->driver);
	rig->class->destroy(rig->device);
	world_finish(&rig->world);
}

/* Whatever was done, the device comes back from a reset, with any features. */
static inline void rig_start(struct rig *rig, uint64_t features)
{
	int r = driver_start(&rig->driver, &(struct driver_options){.features = features});
	if (r < 0)
		(void)fprintf(stderr, "start: %d, status %#x\n", r, driver_status(&rig->driver));
	FUZZ_CHECK(r == 0);
}

/* The features of the transport that `choice` wants; those of the device begin at bit 4. */
static inline uint64_t rig_features(unsigned choice)
{
	static const uint64_t some[] = {VIRTIO_F_RING_PACKED, VIRTIO_F_INDIRECT_DESC, VIRTIO_F_EVENT_IDX,
					VIRTIO_F_IN_ORDER};
	uint64_t features = 0;
	for (unsigned i = 0; i < sizeof(some) / sizeof(some[0]); i++)
		features |= choice >> i & 1 ? some[i] : 0;
	return features;
}

static inline int rig_nothing(void *arg)
{
	(void)arg;
	return 0;
}

/* The device has seen every doorbell that was rung, and has done what can be done at once. */
static inline void rig_settle(struct rig *rig)
{
	for (unsigned i = 0; i < 3; i++)
		(void)iothread_call(rig->world.threads[0], rig_nothing, NULL);
}

/* Cuts `bytes` at `gpa` into up to RIG_PIECES buffers, as the input says. Returns how many. */
static inline size_t rig_cut(struct feed *feed, struct ring_buffer *buffers, uint64_t gpa, uint32_t bytes,
			     bool write)
{
	size_t count = 0;
	while (bytes) {
		uint32_t len = take(feed, 1);
		len = len & 0x80 ? len & 0x7f : len * 64;
		if (len == 0 || len > bytes || count == RIG_PIECES - 1)
			len = bytes;
		buffers[count++] = (struct ring_buffer){gpa, len, write};
		gpa += len;
		bytes -= len;
	}
	return count;
}

/*
 * A byte of what the driver tells the device, mostly at the front of an area, and the doorbell. From here on
 * the two need not agree: the target has to start anew. A guest may write where the device reads,
 * ThreadSanitizer shall not tell of it.
 */
__attribute__((no_sanitize("thread"))) static inline void rig_scribble(struct rig *rig, struct feed *feed)
{
	uint32_t how = take(feed, 1), offset = take(feed, 1), index = how % rig->driver.queue_count;
	const struct virtq_setup *setup = &rig->driver.queues[index]->ring.setup;
	uint64_t gpa = how & 0x80 ? setup->driver_gpa : setup->desc_gpa; /* VIRTIO 1.3, 2.7 and 2.8 */
	volatile uint8_t *area = world_at(&rig->world, gpa, 256);
	area[offset] = (uint8_t)take(feed, 1);
	driver_ring_doorbell(&rig->driver, index);
	rig_settle(rig);
}

#endif
