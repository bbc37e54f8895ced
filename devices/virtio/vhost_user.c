/* Devices whose back end is another process: the device class. See vhost_user.h. */
#include "vhost_user.h"

#include "net_mac.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>

enum { FS_TAG = 36, FS_CONFIG = 40, NET_CONFIG = 10, NET_LINK_UP = 1 };

#define BITS(from, to) ((VIRTIO_BIT((to) + 1) - 1) & ~(VIRTIO_BIT(from) - 1))

/* Core features that the back end has to have, too, since it is it that works on the rings. */
#define CORE_OF_BACKEND (VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX | VIRTIO_F_ORDER_PLATFORM)

/*
 * A disk's features are the back end's up to WRITE_ZEROES (14), but for SCSI and barriers of old. Of a
 * network card's: checksums, segmentation, mergeable buffers; a control queue would be ours and is not there.
 */
static const struct vhost_user_kind_info kinds[] = {
	[VHOST_USER_BLK] = {.name = "blk",
			    .id = VIRTIO_ID_BLOCK,
			    .class_code = 0x010000,
			    .passed = BITS(1, 2) | BITS(4, 6) | BITS(9, 14),
			    .config_len = VHOST_USER_SPACE,
			    .config_from_backend = true},
	[VHOST_USER_NET] = {.name = "net",
			    .id = VIRTIO_ID_NET,
			    .class_code = 0x020000,
			    .passed = BITS(0, 1) | BITS(7, 15),
			    .own = VIRTIO_BIT(5) | VIRTIO_BIT(16), /* MAC, STATUS */
			    .config_len = NET_CONFIG,
			    .forgets = true},
	[VHOST_USER_FS] = {.name = "fs", .id = VIRTIO_ID_FS, .class_code = 0x018000, .config_len = FS_CONFIG},
};

/* ---- what the guest sees ---- */

static uint64_t vu_features(void *device)
{
	const struct vhost_user_device *vu = device;
	return (vu->offered & vu->kind->passed) | vu->kind->own;
}

static void vu_config_read(void *device, uint32_t offset, void *data, uint32_t len)
{
	const struct vhost_user_device *vu = device;
	memcpy(data, vu->space + offset, len);
}

/* 5.2.5.2: the driver may choose the cache mode of a disk. */
static void vu_config_write(void *device, uint32_t offset, const void *data, uint32_t len)
{
	struct vhost_user_device *vu = device;
	if (vu->kind->id != VIRTIO_ID_BLOCK || offset != VHOST_USER_WCE || len != 1) {
		(void)log_guest(&vu->base.device.counts.guest_errors,
				"%s: the driver writes to its configuration at %u", vu->name, offset);
		return;
	}
	const uint8_t writeback = *(const uint8_t *)data & 1;
	vu->space[VHOST_USER_WCE] = writeback;
	vu->cache = 1 + writeback;
	loop_post(virtio_loop(vu->base.virtio), &vu->write_op);
}

/* ---- on the I/O thread ---- */

static int vu_activate(void *device, uint64_t features)
{
	struct vhost_user_device *vu = device;
	vu->features = features;
	vu->active = true;
	vu->broken = false;
	for (unsigned i = 0; i < vu->queue_count; i++)
		vhost_user_claim(vu, i);
	vhost_user_next(vu);
	return 0;
}

/* Not the guest's: a look at a queue that was enabled now. The back end finds the doorbells on. */
static void vu_doorbell(void *device, unsigned index)
{
	struct vhost_user_device *vu = device;
	struct virtq *vq = virtio_queue(vu->base.virtio, index);
	if (vq)
		(void)virtq_enable_doorbell(vq);
	if (!vu->active || vu->stopping)
		return;
	vhost_user_claim(vu, index);
	vhost_user_next(vu);
}

static void vu_stop(void *device)
{
	struct vhost_user_device *vu = device;
	vu->stopping = true;
	vhost_user_next(vu);
}

static const struct virtio_ops vu_ops = {
	.features = vu_features,
	.config_read = vu_config_read,
	.config_write = vu_config_write,
	.activate = vu_activate,
	.doorbell = vu_doorbell,
	.stop = vu_stop,
};

/* ---- state ---- */

static struct vhost_user_device *vu_of(struct device *device)
{
	return container_of(device, struct vhost_user_device, base.device);
}

struct vu_regs {
	struct virtio_regs virtio;
	uint8_t cache;
};

static const struct state_field vu_fields[] = {
	VIRTIO_STATE_FIELDS(struct vu_regs, virtio),
	STATE_FIELD_OPTIONAL(struct vu_regs, cache),
};
static const struct state_table vu_state = STATE_TABLE("vhost-user", struct vu_regs, vu_fields);

static void vu_save(struct device *device, void *state)
{
	struct vhost_user_device *vu = vu_of(device);
	struct vu_regs *regs = state;
	virtio_save(vu->base.virtio, &regs->virtio);
	virtio_config_load(vu->base.virtio, &regs->cache, &vu->cache, sizeof(regs->cache));
}

static int vu_restore(struct device *device, const void *state, struct err *err)
{
	struct vhost_user_device *vu = vu_of(device);
	struct virtio *virtio = vu->base.virtio;
	const struct vu_regs *regs = state;
	if (regs->cache > (vu->kind->id == VIRTIO_ID_BLOCK ? 2 : 0))
		return err_set(err, -EINVAL, "cache: %u is no cache mode of a vhost-user %s", regs->cache,
			       vu->kind->name);
	int r = virtio_restore(virtio, &regs->virtio, err);
	if (r < 0)
		return r;
	virtio_config_store(virtio, &vu->cache, &regs->cache, sizeof(regs->cache));
	if (regs->cache) {
		const uint8_t writeback = regs->cache - 1;
		virtio_config_store(virtio, vu->space + VHOST_USER_WCE, &writeback, sizeof(writeback));
		loop_post(virtio_loop(virtio), &vu->write_op);
	}
	return 0;
}

/* ---- life ---- */

static void vu_destroy(struct device *device)
{
	if (!device)
		return;
	struct vhost_user_device *vu = vu_of(device);
	if (vu->base.virtio) {
		virtio_reset(vu->base.virtio);
		(void)virtio_call(vu->base.virtio, vhost_user_leave, vu);
	}
	virtio_destroy(vu->base.virtio);
	vhost_user_finish(&vu->link);
	vhost_user_drop_inflight(vu);
	(void)close_fd(vu->channel_theirs);
	for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++)
		(void)close_fd(vu->queues[i].call_fd);
	free(vu);
}

static int describe(struct vhost_user_device *vu, const char *machine, struct err *err)
{
	const struct vhost_user_config *config = vu->config;
	uint64_t offset;
	const struct guest_region *regions;
	(void)guest_memory_regions(vu->memory, &regions);
	if (guest_memory_fd(vu->memory, regions, &offset) < 0)
		return err_set(err, -EINVAL, "%s: vhost-user needs memory.shared to be true", config->path);
	vu->queue_count = config->queues;
	if (config->kind == VHOST_USER_NET) {
		if (config->queues > 1)
			return err_set(err, -EINVAL, "%s: a vhost-user net has one pair of queues",
				       config->path);
		vu->queue_count = 2;
		net_mac_choose(vu->space, config->mac, machine, config->place.slot, vu->name);
		store_le16(vu->space + NET_MAC_BYTES, NET_LINK_UP);
		store_le16(vu->space + NET_MAC_BYTES + 2, 1);
	} else if (config->kind == VHOST_USER_FS) {
		vu->queue_count = config->queues + 1; /* one more, of high priority (5.11.2) */
		memcpy(vu->space, config->tag, strnlen(config->tag, FS_TAG));
		store_le32(vu->space + FS_TAG, config->queues);
	}
	for (unsigned i = 0; i < vu->queue_count; i++) {
		vu->queues[i].call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (vu->queues[i].call_fd < 0)
			return err_sys(err, -errno, "%s: event fd", config->path);
	}
	return 0;
}

static int appear(struct vhost_user_device *vu, const struct device_services *services, struct err *err)
{
	struct virtio_spec spec = {
		.name = vu->name,
		.id = vu->kind->id,
		.class_code = vu->kind->class_code,
		.queue_count = vu->queue_count,
		.config_len = vu->config_len,
		.no_packed = true,
		.withhold = CORE_OF_BACKEND & ~vu->backend_features,
		.place = vu->config->place,
		.ops = &vu_ops,
		.device = vu,
		.counts = &vu->base.device.counts,
	};
	for (unsigned i = 0; i < vu->queue_count; i++)
		spec.queue_size_max[i] = (uint16_t)vu->config->queue_size;
	vu->offered = vu->backend_features & (vu->kind->passed | CORE_OF_BACKEND | VIRTIO_F_VERSION_1);
	int r = virtio_create(&spec, services, &vu->base.virtio, err);
	return r < 0 ? r : virtio_call(vu->base.virtio, vhost_user_enter, vu);
}

static int vu_create(const void *config, size_t index, const struct device_services *services,
		     struct device **ret, struct err *err)
{
	struct vhost_user_device *vu = calloc(1, sizeof(*vu));
	if (!vu)
		return err_sys(err, -ENOMEM, "vhost-user");
	vu->base.device.class = &vhost_user_class;
	vu->config = config;
	vu->kind = &kinds[vu->config->kind];
	vu->config_len = vu->kind->config_len;
	vu->memory = services->memory;
	vu->inflight_fd = vu->channel_theirs = -1;
	vu->write_op.done = vhost_user_write_config;
	for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++)
		vu->queues[i].call_fd = -1;
	(void)snprintf(vu->name, sizeof(vu->name), "vhost-user%zu", index % 1000);
	int r = describe(vu, services->machine_name, err);
	if (r == 0)
		r = vhost_user_first_greeting(vu, err);
	if (r == 0)
		r = appear(vu, services, err);
	if (r < 0) {
		vu_destroy(&vu->base.device);
		return r;
	}
	*ret = &vu->base.device;
	return 0;
}

static const void *vu_config_at(const struct machine_config *machine, size_t index)
{
	return virtio_device_config(machine, DEVICE_VHOST_USER, index);
}

const struct device_class vhost_user_class = {
	.name = "vhost-user",
	.state = &vu_state,
	.config = vu_config_at,
	.create = vu_create,
	.destroy = vu_destroy,
	.reset = virtio_device_reset,
	.save = vu_save,
	.restore = vu_restore,
	.quiesce = virtio_device_quiesce,
	.resume = virtio_device_resume,
};
