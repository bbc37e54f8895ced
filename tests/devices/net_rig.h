/*
 * Network devices under a driver in this process: two that are each other's cable (a UNIX socket), or one
 * with something else behind it. A nic's receive buffers are numbered by the ids of their chains.
 */
#ifndef AERIE_TESTS_DEVICES_NET_RIG_H
#define AERIE_TESTS_DEVICES_NET_RIG_H

#include "../../devices/devices.h"
#include "../../devices/virtio/net.h"
#include "base/bytes.h"
#include "driver.h"
#include "harness.h"
#include "scratch.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum {
	RIG_QUEUE = 64,
	RIG_FRAME_MAX = 70000,
	RIG_TX_SLOTS = RIG_QUEUE,
	RIG_RX = 0,
	RIG_TX = 1,
	RIG_CONTROL = 2
};

struct nic {
	struct net_config config;
	struct device *device;
	struct driver driver;
	struct world *world;
	uint64_t tx_gpa;
	unsigned tx_slot;
	uint64_t buffer_gpa[VIRTIO_QUEUES_MAX][VIRTQ_SIZE_MAX]; /* by id */
	uint32_t buffer_len[VIRTIO_QUEUES_MAX][VIRTQ_SIZE_MAX];
	uint8_t frame[RIG_FRAME_MAX]; /* the last one received */
	struct net_header header;     /* and what stood before it */
};

static inline void rig_sleep_ms(unsigned ms)
{
	const struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};
	(void)nanosleep(&time, NULL);
}

static inline int nic_try_create(struct nic *nic, struct world *world, const struct net_config *config,
				 size_t index, struct err *err)
{
	memset(nic, 0, sizeof(*nic));
	nic->world = world;
	nic->config = *config;
	if (!nic->config.queue_size)
		nic->config.queue_size = RIG_QUEUE;
	*err = ERR_INIT;
	return net_class.create(&nic->config, index, &world->services, &nic->device, err);
}

/* What nic_try_create has made gets its driver. The slot is taken from the config. */
static inline void nic_find(struct nic *nic)
{
	ck_assert_int_eq(driver_init_at(&nic->driver, nic->world, nic->config.place.slot), 0);
	nic->tx_gpa = world_alloc(nic->world, (uint64_t)RIG_TX_SLOTS * RIG_FRAME_MAX);
}

static inline void nic_create(struct nic *nic, struct world *world, const struct net_config *config,
			      size_t index)
{
	struct err err;
	int r = nic_try_create(nic, world, config, index, &err);
	ck_assert_msg(r == 0, "%s", err.text);
	nic_find(nic);
}

static inline void nic_destroy(struct nic *nic)
{
	driver_finish(&nic->driver);
	net_class.destroy(nic->device);
}

static inline void nic_start(struct nic *nic, uint64_t features)
{
	const struct driver_options options = {.features = features};
	ck_assert_int_eq(driver_start(&nic->driver, &options), 0);
}

/* Receive buffers, each a chain of its own. */
static inline void nic_post(struct nic *nic, unsigned queue, unsigned count, uint32_t len)
{
	uint64_t gpa = world_alloc(nic->world, (uint64_t)count * len);
	for (unsigned i = 0; i < count; i++) {
		const struct ring_buffer buffer = {gpa + (uint64_t)i * len, len, true};
		int id = driver_submit(&nic->driver, queue, &buffer, 1);
		ck_assert_int_ge(id, 0);
		nic->buffer_gpa[queue][id] = buffer.gpa;
		nic->buffer_len[queue][id] = len;
	}
}

/* The same with one doorbell for all of them. */
static inline void nic_post_together(struct nic *nic, unsigned queue, unsigned count, uint32_t len)
{
	uint64_t gpa = world_alloc(nic->world, (uint64_t)count * len);
	struct ring *ring = &nic->driver.queues[queue]->ring;
	for (unsigned i = 0; i < count; i++) {
		const struct ring_buffer buffer = {gpa + (uint64_t)i * len, len, true};
		int id = ring_add(ring, &buffer, 1, false);
		ck_assert_int_ge(id, 0);
		nic->buffer_gpa[queue][id] = buffer.gpa;
		nic->buffer_len[queue][id] = len;
	}
	ring_publish(ring);
	driver_ring_doorbell(&nic->driver, queue);
}

/* The id of the chain, or -ENOSPC. */
static inline int nic_submit(struct nic *nic, unsigned queue, const struct net_header *header,
			     const void *frame, size_t len)
{
	if (nic->driver.queues[queue]->ring.free_desc < 3)
		return -ENOSPC; /* or what is in flight would be overwritten */
	uint64_t gpa = nic->tx_gpa + (uint64_t)(nic->tx_slot++ % RIG_TX_SLOTS) * RIG_FRAME_MAX;
	uint8_t *at = world_at(nic->world, gpa, NET_HEADER_BYTES + len);
	memcpy(at, header, NET_HEADER_BYTES);
	memcpy(at + NET_HEADER_BYTES, frame, len);
	size_t first = len / 3; /* as Linux does: the header apart, the frame in pieces */
	const struct ring_buffer buffers[] = {
		{gpa, NET_HEADER_BYTES, false},
		{gpa + NET_HEADER_BYTES, (uint32_t)first, false},
		{gpa + NET_HEADER_BYTES + first, (uint32_t)(len - first), false},
	};
	return driver_submit(&nic->driver, queue, buffers, ARRAY_LEN(buffers));
}

static inline void nic_collect_sent(struct nic *nic, unsigned queue)
{
	struct ring_used used;
	ck_assert_int_eq(driver_collect(&nic->driver, queue, &used), 0);
	ck_assert_uint_eq(used.len, 0);
}

static inline void nic_send_with(struct nic *nic, unsigned queue, const struct net_header *header,
				 const void *frame, size_t len)
{
	ck_assert_int_ge(nic_submit(nic, queue, header, frame, len), 0);
	nic_collect_sent(nic, queue);
}

static inline void nic_send(struct nic *nic, const void *frame, size_t len)
{
	nic_send_with(nic, RIG_TX, &(struct net_header){0}, frame, len);
}

/* One packet, from as many buffers as it says. Returns the frame's length. */
static inline size_t nic_receive(struct nic *nic, unsigned queue)
{
	size_t bytes = 0;
	uint16_t count = 1;
	for (uint16_t i = 0; i < count; i++) {
		struct ring_used used;
		int r = i ? driver_try_collect(&nic->driver, queue, &used)
			  : driver_collect(&nic->driver, queue, &used);
		ck_assert_int_eq(r, i ? 1 : 0); /* those of one packet are there together */
		const uint8_t *data = world_at(nic->world, nic->buffer_gpa[queue][used.id], used.len);
		ck_assert_uint_le(used.len, nic->buffer_len[queue][used.id]);
		size_t skip = i ? 0 : NET_HEADER_BYTES;
		ck_assert_uint_ge(used.len, skip);
		if (i == 0) {
			memcpy(&nic->header, data, NET_HEADER_BYTES);
			count = nic->header.num_buffers;
			ck_assert_uint_ge(count, 1);
		} else {
			ck_assert_uint_gt(used.len, 0);
		}
		ck_assert_uint_le(bytes + used.len - skip, sizeof(nic->frame));
		memcpy(nic->frame + bytes, data + skip, used.len - skip);
		bytes += used.len - skip;
	}
	return bytes;
}

static inline bool nic_has_received(struct nic *nic, unsigned queue)
{
	struct ring_used used;
	return driver_try_collect(&nic->driver, queue, &used) == 1;
}

/* A frame of a kind that nobody answers, with bytes that tell it from others. */
static inline size_t make_frame(uint8_t *frame, size_t len, unsigned seed)
{
	static const uint8_t to[] = {0x52, 0x54, 0, 1, 2, 3}, from[] = {0x52, 0x54, 0, 4, 5, 6};
	memcpy(frame, to, 6);
	memcpy(frame + 6, from, 6);
	frame[12] = 0x88; /* for local experiments */
	frame[13] = 0xb5;
	for (size_t i = NET_ETHERNET_BYTES; i < len; i++)
		frame[i] = (uint8_t)(seed + i * 7 + i / 256);
	return len;
}

static inline uint16_t nic_status(struct nic *nic)
{
	return (uint16_t)driver_config_get(&nic->driver, 6, 2);
}

static inline void nic_wait_link(struct nic *nic, bool up)
{
	for (unsigned i = 0; i < 5000 && (nic_status(nic) & NET_S_LINK_UP) != (up ? NET_S_LINK_UP : 0); i++)
		rig_sleep_ms(1);
	ck_assert_uint_eq(nic_status(nic) & NET_S_LINK_UP, up ? NET_S_LINK_UP : 0);
}

static inline struct net_counts nic_counts(struct nic *nic)
{
	struct net_counts counts;
	net_get_counts(nic->device, &counts);
	return counts;
}

/* As the machine does it, and no sooner back than it is done: the I/O thread does one thing after the other.
 */
static inline void nic_announce(struct nic *nic)
{
	net_class.announce(nic->device);
	(void)nic_counts(nic);
}

/* A command on the control queue; the answer. */
static inline int nic_command(struct nic *nic, unsigned queue, uint8_t class, uint8_t number,
			      const void *data, size_t len)
{
	uint64_t gpa = world_alloc(nic->world, len + 3);
	uint8_t *at = world_at(nic->world, gpa, len + 3);
	at[0] = class;
	at[1] = number;
	if (len)
		memcpy(at + 2, data, len);
	at[len + 2] = 0xee;
	const struct ring_buffer buffers[] = {
		{gpa, 2, false}, {gpa + 2, (uint32_t)len, false}, {gpa + 2 + len, 1, true}};
	int r = driver_request(&nic->driver, queue, buffers, ARRAY_LEN(buffers));
	ck_assert_int_eq(r, 1);
	return at[len + 2];
}

/* ---- two that are connected ---- */

struct rig {
	struct world world;
	struct nic a, b;
	char folder[64], path[96];
};

static inline void rig_open(struct rig *rig)
{
	log_set_level(LOG_ERROR);
	world_init(&rig->world, 2);
	ck_assert_ptr_nonnull(scratch_folder(rig->folder, sizeof(rig->folder), "net-XXXXXX"));
	(void)snprintf(rig->path, sizeof(rig->path), "%s/cable", rig->folder);
}

static inline void rig_close(struct rig *rig)
{
	ck_assert_uint_eq(rig->world.lost_messages, 0);
	world_finish(&rig->world);
	(void)unlink(rig->path);
	(void)rmdir(rig->folder);
}

static inline struct net_config rig_config(const struct rig *rig, uint32_t slot)
{
	return (struct net_config){
		.place = {.slot = slot, .iothread = 1 + slot % 2}, .backend = NET_UNIX, .socket = rig->path};
}

static inline void rig_init(struct rig *rig)
{
	rig_open(rig);
	struct net_config config = rig_config(rig, 4);
	nic_create(&rig->a, &rig->world, &config, 0);
	config = rig_config(rig, 5);
	nic_create(&rig->b, &rig->world, &config, 1);
	nic_wait_link(&rig->a, true);
	nic_wait_link(&rig->b, true);
}

static inline void rig_finish(struct rig *rig)
{
	nic_destroy(&rig->a);
	nic_destroy(&rig->b);
	rig_close(rig);
}

static const uint64_t rig_layouts[] = {
	0,
	VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC,
	VIRTIO_F_RING_PACKED,
	VIRTIO_F_RING_PACKED | VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC,
};

#endif
