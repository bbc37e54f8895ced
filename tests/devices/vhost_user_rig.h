/* A vhost-user disk, its driver, and the back end of vhost_user_peer.h. */
#ifndef AERIE_TESTS_DEVICES_VHOST_USER_RIG_H
#define AERIE_TESTS_DEVICES_VHOST_USER_RIG_H

#include "../../devices/devices.h"
#include "base/log.h"
#include "driver.h"
#include "scratch.h"
#include "vhost_user_peer.h"

enum { SLOTS = 64, SLOT_BYTES = 8192, DATA_BYTES = 4096 };
#define PROTOCOL_F	 (UINT64_C(1) << 30)
#define PROTOCOL_CONFIG	 (UINT64_C(1) << 9)
#define PROTOCOL_ACK	 (UINT64_C(1) << 3)
#define PROTOCOL_REQ	 (UINT64_C(1) << 5)
#define PROTOCOL_TRACKED (UINT64_C(1) << 12)
#define PROTOCOL_MQ	 (UINT64_C(1) << 0)
#define PROTOCOL_ALL	 (PROTOCOL_CONFIG | PROTOCOL_ACK | PROTOCOL_REQ | PROTOCOL_TRACKED | PROTOCOL_MQ)

struct rig {
	struct world world;
	struct device *device;
	struct driver driver;
	struct vhost_user_config config;
	struct peer peer;
	uint64_t gpa;
	uint64_t slot_of[2][VIRTQ_SIZE_MAX]; /* by queue and id */
};

static struct rig rig;

static inline void rig_world(uint64_t protocol)
{
	static unsigned runs;
	log_set_level(LOG_ERROR);
	memset(&rig, 0, sizeof(rig));
	world_init(&rig.world, 1);
	rig.gpa = world_alloc(&rig.world, SLOTS * SLOT_BYTES);
	char name[32];
	(void)snprintf(name, sizeof(name), "vu-%d-%u", (int)getpid(), runs++);
	scratch_path(rig.peer.path, sizeof(rig.peer.path), name);
	rig.peer.disk = calloc(1, PEER_DISK);
	rig.peer.capacity = PEER_DISK / PEER_SECTOR;
	rig.peer.features = VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | PROTOCOL_F | VIRTIO_BIT(9) |
			    VIRTIO_BIT(11) | VIRTIO_BIT(12) | VIRTIO_BIT(16) | VIRTIO_BIT(40);
	rig.peer.protocol = protocol;
	atomic_store(&rig.peer.die_in, -1);
	rig.config = (struct vhost_user_config){
		.kind = VHOST_USER_BLK, .path = rig.peer.path, .queues = 2, .queue_size = 64};
}

static inline int rig_create(struct err *err)
{
	return vhost_user_class.create(&rig.config, 0, &rig.world.services, &rig.device, err);
}

static inline void rig_drive(void)
{
	ck_assert_int_eq(driver_start(&rig.driver, &(struct driver_options){.features = UINT64_MAX}), 0);
}

static inline void rig_init(uint64_t protocol)
{
	struct err err = ERR_INIT;
	rig_world(protocol);
	peer_start(&rig.peer);
	ck_assert_msg(rig_create(&err) == 0, "%s", err.text);
	ck_assert_int_eq(driver_init(&rig.driver, &rig.world, VIRTIO_ID_BLOCK), 0);
	rig_drive();
}

/* The device has seen `count` times that its back end went away. */
static inline void rig_wait_lost(unsigned count)
{
	while (atomic_load(&rig.device->counts.backend_lost.total) < count)
		(void)usleep(1000);
}

static inline void rig_end_world(void)
{
	peer_stop(&rig.peer);
	(void)unlink(rig.peer.path);
	free(rig.peer.disk);
	world_finish(&rig.world);
}

static inline void rig_finish(void)
{
	driver_finish(&rig.driver);
	vhost_user_class.destroy(rig.device);
	rig_end_world();
}

/* ---- requests: slot S has a header, a status and a page of data ---- */

static inline uint8_t *slot_data(unsigned slot)
{
	return (uint8_t *)world_at(&rig.world, rig.gpa + (uint64_t)slot * SLOT_BYTES, SLOT_BYTES) + 4096;
}

static inline uint8_t slot_status(unsigned slot)
{
	return slot_data(slot)[-1024];
}

static inline void submit(unsigned queue, unsigned slot, bool write, uint64_t sector)
{
	uint64_t gpa = rig.gpa + (uint64_t)slot * SLOT_BYTES;
	uint8_t *header = slot_data(slot) - 4096;
	const struct ring_buffer buffers[] = {
		{gpa, 16, false}, {gpa + 4096, DATA_BYTES, !write}, {gpa + 3072, 1, true}};
	store_le32(header, write);
	store_le64(header + 8, sector);
	header[3072] = 0xff;
	int id = driver_submit(&rig.driver, queue, buffers, 3);
	ck_assert_int_ge(id, 0);
	rig.slot_of[queue][id] = slot;
}

static inline unsigned collect(unsigned queue)
{
	struct ring_used used;
	ck_assert_int_eq(driver_collect(&rig.driver, queue, &used), 0);
	unsigned slot = (unsigned)rig.slot_of[queue][used.id];
	ck_assert_uint_eq(slot_status(slot), 0);
	return slot;
}

/* Write a page and read it back. */
static inline void check_disk(unsigned queue, uint8_t value)
{
	memset(slot_data(0), value, DATA_BYTES);
	submit(queue, 0, true, 8 * value);
	(void)collect(queue);
	memset(slot_data(1), 0, DATA_BYTES);
	submit(queue, 1, false, 8 * value);
	(void)collect(queue);
	for (unsigned i = 0; i < DATA_BYTES; i++)
		ck_assert_uint_eq(slot_data(1)[i], value);
}

#endif
