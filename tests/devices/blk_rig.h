/*
 * A disk of 1 MiB, its driver, and hands on what lies between device and image: faults can be made there, and
 * requests held back.
 */
#ifndef AERIE_TESTS_DEVICES_BLK_RIG_H
#define AERIE_TESTS_DEVICES_BLK_RIG_H

#include "../../devices/devices.h"
#include "../../devices/virtio/blk.h"
#include "base/cleanup.h"
#include "devices/disk.h"
#include "driver.h"
#include "harness.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

enum { RIG_SECTORS = 2048, RIG_DATA_BYTES = 1 << 17 };

/* Between the device and the image; used on the I/O thread, set before requests are sent or by rig_call. */
struct faults {
	struct block_ops ops;
	const struct block_ops *real;
	_Atomic int error; /* every request ends so; 0: none */
	_Atomic bool hold; /* requests are kept */
	_Atomic unsigned kept, failed, flushes;
	_Atomic bool fua; /* of the last request */
	struct block_request *held;
	struct block *block;
};

struct rig {
	struct world world;
	struct driver driver;
	struct device *device;
	struct blk *blk;
	struct disk_config config;
	char path[256];
	struct faults faults;
	uint64_t header_gpa, data_gpa, status_gpa;
	void *header;
	uint8_t *data, *status;
	uint8_t shadow[RIG_DATA_BYTES];
};

static inline struct disk_config rig_config(void)
{
	return (struct disk_config){
		.discard = true, .serial = "", .queues = 1, .queue_size = 128, .block_size = 512};
}

static inline void rig_fault_submit(struct block *block, struct block_request *request)
{
	struct faults *faults =
		(struct faults *)(void *)((char *)(uintptr_t)block->ops - offsetof(struct faults, ops));
	atomic_store(&faults->fua, request->fua);
	if (request->command == BLOCK_FLUSH)
		atomic_fetch_add(&faults->flushes, 1);
	int error = atomic_load(&faults->error);
	if (error) {
		block_finish_later(request, error);
		atomic_fetch_add(&faults->failed, 1);
	} else if (atomic_load(&faults->hold)) {
		request->next = faults->held;
		faults->held = request;
		atomic_fetch_add(&faults->kept, 1);
	} else {
		faults->real->submit(block, request);
	}
}

static inline int rig_release_held(void *arg)
{
	struct faults *faults = arg;
	atomic_store(&faults->hold, false);
	struct block_request *request = faults->held;
	faults->held = NULL;
	while (request) {
		struct block_request *next = request->next;
		faults->real->submit(faults->block, request);
		request = next;
	}
	return 0;
}

static inline int rig_insert_faults(void *arg)
{
	struct rig *rig = arg;
	struct faults *faults = &rig->faults;
	faults->block = rig->blk->block;
	faults->real = faults->block->ops;
	faults->ops = *faults->real;
	faults->ops.submit = rig_fault_submit;
	faults->block->ops = &faults->ops;
	return 0;
}

static inline void rig_make_file(struct rig *rig)
{
	const char *folder = getenv("AERIE_BUILD");
	snprintf(rig->path, sizeof(rig->path), "%s/blk-XXXXXX", folder ? folder : "/var/tmp");
	int fd = mkstemp(rig->path);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, RIG_SECTORS * 512), 0);
	close(fd);
}

static inline void rig_init_cpus(struct rig *rig, const struct disk_config *config, uint32_t cpus)
{
	struct err err = ERR_INIT;
	memset(rig, 0, sizeof(*rig));
	rig_make_file(rig);
	rig->config = *config;
	rig->config.path = rig->path;
	world_init(&rig->world, 1);
	rig->world.services.cpu_count = cpus;
	ck_assert_msg(disk_class.create(&rig->config, 0, &rig->world.services, &rig->device, &err) == 0, "%s",
		      err.text);
	rig->blk = container_of(rig->device, struct blk, base.device);
	ck_assert_int_eq(iothread_call(rig->world.threads[0], rig_insert_faults, rig), 0);
	ck_assert_int_eq(driver_init(&rig->driver, &rig->world, VIRTIO_ID_BLOCK), 0);
	rig->header_gpa = world_alloc(&rig->world, 4096);
	rig->data_gpa = world_alloc(&rig->world, RIG_DATA_BYTES);
	rig->status_gpa = world_alloc(&rig->world, 4096);
	rig->header = world_at(&rig->world, rig->header_gpa, 4096);
	rig->data = world_at(&rig->world, rig->data_gpa, RIG_DATA_BYTES);
	rig->status = world_at(&rig->world, rig->status_gpa, 4096);
}

static inline void rig_init(struct rig *rig, const struct disk_config *config)
{
	rig_init_cpus(rig, config, 1);
}

static inline void rig_finish(struct rig *rig)
{
	driver_finish(&rig->driver);
	disk_class.destroy(rig->device);
	world_finish(&rig->world);
	unlink(rig->path);
}

static inline void rig_start(struct rig *rig, uint64_t features)
{
	ck_assert_int_eq(driver_start(&rig->driver, &(struct driver_options){.features = features}), 0);
}

static inline void rig_fill(struct rig *rig, size_t len, unsigned seed)
{
	for (size_t i = 0; i < len; i++) {
		seed = seed * 1664525 + 1013904223;
		rig->data[i] = (uint8_t)(seed >> 24);
	}
}

/* The file has at `offset` what the data buffer has. */
static inline void rig_check_file(struct rig *rig, off_t offset, size_t len)
{
	static uint8_t back[RIG_DATA_BYTES];
	int fd = open(rig->path, O_RDONLY | O_CLOEXEC);
	ck_assert_int_eq(pread(fd, back, len, offset), (ssize_t)len);
	close(fd);
	ck_assert_int_eq(memcmp(back, rig->data, len), 0);
}

static inline void rig_header(struct rig *rig, uint32_t type, uint64_t sector)
{
	const struct {
		uint32_t type, reserved;
		uint64_t sector;
	} header = {type, 0xffffffff, sector};
	memcpy(rig->header, &header, sizeof(header));
	*rig->status = 0xff;
}

/* The status that comes back. */
static inline int rig_send(struct rig *rig, const struct ring_buffer *buffers, size_t count)
{
	int written = driver_request(&rig->driver, 0, buffers, count);
	ck_assert_int_ge(written, 0);
	return *rig->status;
}

/* Data to the device. */
static inline int rig_out(struct rig *rig, uint32_t type, uint64_t sector, uint32_t len)
{
	rig_header(rig, type, sector);
	const struct ring_buffer buffers[] = {
		{rig->header_gpa, 16, false}, {rig->data_gpa, len, false}, {rig->status_gpa, 1, true}};
	if (len)
		return rig_send(rig, buffers, 3);
	const struct ring_buffer bare[] = {buffers[0], buffers[2]};
	return rig_send(rig, bare, 2);
}

static inline int rig_io(struct rig *rig, uint32_t type, uint64_t sector, uint32_t len)
{
	if (type == BLK_T_OUT || len == 0)
		return rig_out(rig, type, sector, len);
	rig_header(rig, type, sector);
	const struct ring_buffer buffers[] = {
		{rig->header_gpa, 16, false}, {rig->data_gpa, len, true}, {rig->status_gpa, 1, true}};
	return rig_send(rig, buffers, 3);
}

static inline int rig_range(struct rig *rig, uint32_t type, uint64_t sector, uint32_t count, uint32_t flags)
{
	const struct blk_range range = {sector, count, flags};
	memcpy(rig->data, &range, sizeof(range));
	return rig_out(rig, type, 0, sizeof(range));
}

#endif
