/*
 * The block device (VIRTIO 1.3, 5.2) as the driver configures it: features, config space, life.
 *
 * size_max is not offered: a buffer may have any size. The driver's geometry is its own affair. Lifetime,
 * secure erase and zones are for disks that have them.
 */
#include "blk.h"

#include "../devices.h"
#include "base/cleanup.h"
#include "devices/disk.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

enum { PCI_CLASS_SCSI = 0x010000 };

enum { WRITEBACK_OFFSET = 32, CONFIG_BYTES = 60 };

static_assert(offsetof(struct blk_config, writeback) == WRITEBACK_OFFSET &&
		      offsetof(struct blk_config, unused1) + 3 == CONFIG_BYTES,
	      "5.2.4");

struct blk_regs {
	struct virtio_regs virtio;
	bool writeback;
};

static const struct state_field blk_fields[] = {
	VIRTIO_STATE_FIELDS(struct blk_regs, virtio),
	STATE_FIELD(struct blk_regs, writeback),
};

static const struct state_table blk_state = STATE_TABLE("disk", struct blk_regs, blk_fields);

/* ---- features and config space ---- */

static uint64_t blk_features(void *device)
{
	const struct blk *blk = device;
	uint64_t features = BLK_F_SEG_MAX | BLK_F_BLK_SIZE | BLK_F_TOPOLOGY | BLK_F_FLUSH;
	if (blk->space.num_queues > 1)
		features |= BLK_F_MQ;
	if (blk->block->read_only)
		return features | BLK_F_RO;
	if (blk->config->discard)
		features |= BLK_F_DISCARD;
	return features | BLK_F_CONFIG_WCE | BLK_F_WRITE_ZEROES;
}

static uint8_t log2_of(uint32_t power)
{
	return (uint8_t)__builtin_ctz(power);
}

void blk_fill_space(struct blk *blk)
{
	const struct disk_config *config = blk->config;
	const struct block *block = blk->block;
	uint32_t size = config->block_size;
	uint32_t physical = block->physical_block_bytes > size ? block->physical_block_bytes : size;
	blk->space = (struct blk_config){
		.capacity = block->size_bytes / BLK_SECTOR_BYTES,
		/* The queue's room for one request, less header and status. */
		.seg_max = config->queue_size > 3 ? config->queue_size - 2 : 1,
		.blk_size = size,
		.physical_block_exp = log2_of(physical / size),
		.min_io_size = (uint16_t)(physical / size < UINT16_MAX ? physical / size : 0),
		.opt_io_size = block->optimal_io_bytes / size,
		.num_queues = blk->queue_count,
		.max_discard_sectors = BLK_RANGE_SECTORS_MAX,
		.max_discard_seg = BLK_RANGES_MAX,
		.discard_sector_alignment =
			(block->discard_bytes > size ? block->discard_bytes : size) / BLK_SECTOR_BYTES,
		.max_write_zeroes_sectors = BLK_RANGE_SECTORS_MAX,
		.max_write_zeroes_seg = BLK_RANGES_MAX,
		.write_zeroes_may_unmap = config->discard,
	};
}

static void blk_config_read(void *device, uint32_t offset, void *data, uint32_t len)
{
	struct blk *blk = device;
	struct blk_config space = blk->space;
	space.writeback = atomic_load(&blk->writeback);
	memcpy(data, (const char *)&space + offset, len);
}

/* Only writeback can be written (5.2.5). */
static void blk_config_write(void *device, uint32_t offset, const void *data, uint32_t len)
{
	struct blk *blk = device;
	if (offset != WRITEBACK_OFFSET || len != 1 || blk->block->read_only) {
		log_guest(&blk->base.device.counts.guest_errors,
			  "%s: the driver writes to its configuration at %u", blk->name, offset);
		return;
	}
	bool writeback = *(const uint8_t *)data & 1;
	if (atomic_exchange(&blk->writeback, writeback) && !writeback)
		loop_post(blk->block->loop, &blk->settle_op);
}

/* ---- the driver turns its cache off ---- */

static void settle(struct blk *blk);

static void settle_done(struct block_request *request, int res)
{
	struct blk *blk = container_of(request, struct blk, settle);
	if (res < 0)
		log_warn("%s: %s: cannot flush: %s", blk->name, blk->config->path, strerror(-res));
	blk->settling = false;
	blk->in_flight--;
	settle(blk);
	blk_ended(blk);
}

static void settle(struct blk *blk)
{
	if (!blk->active || blk->stopping || blk->settling || !blk->settle_owed)
		return;
	blk->settling = true;
	blk->settle_owed = false;
	blk->in_flight++;
	blk->settle = (struct block_request){.command = BLOCK_FLUSH, .done = settle_done};
	block_submit(blk->block, &blk->settle);
}

static void settle_asked(struct loop_op *op, int res)
{
	struct blk *blk = container_of(op, struct blk, settle_op);
	(void)res;
	blk->settle_owed = true;
	settle(blk);
}

/* ---- start and stop ---- */

static void finish_queues(struct blk *blk)
{
	for (unsigned i = 0; i < blk->space.num_queues; i++)
		blk_queue_finish(&blk->queues[i]);
}

static int blk_activate(void *device, uint64_t features)
{
	struct blk *blk = device;
	blk->features = features;
	blk->stopping = false;
	for (unsigned i = 0; i < blk->space.num_queues; i++) {
		if (blk_queue_start(blk, i) < 0) {
			finish_queues(blk);
			return -ENOMEM;
		}
	}
	blk->active = true;
	settle(blk);
	return 0;
}

static void blk_doorbell(void *device, unsigned index)
{
	struct blk *blk = device;
	if (!blk->stopping && blk_queue_start(blk, index) < 0) /* enabled anew */
		virtio_needs_reset(blk->base.virtio, strerror(ENOMEM));
	blk_queue_run(&blk->queues[index]);
}

void blk_ended(struct blk *blk)
{
	for (unsigned i = 0; i < blk->space.num_queues; i++) {
		struct blk_queue *queue = &blk->queues[i];
		if (queue->stopping && queue->in_flight == 0) {
			queue->stopping = false;
			blk_queue_finish(queue);
			virtio_queue_stopped(blk->base.virtio, i);
		}
	}
	if (!blk->stopping || blk->in_flight)
		return;
	(void)loop_release(blk->block->loop, &blk->retry_op);
	finish_queues(blk);
	blk->active = blk->stopping = false;
	virtio_stopped(blk->base.virtio);
}

/*
 * What the kernel has been given it finishes. What waits for the host to become able again is tried once more
 * at a pause, and goes on waiting (and the pause with it): its data is in no other place.
 */
static void blk_stop(void *device)
{
	struct blk *blk = device;
	blk->in_flight++; /* so that it ends below, once */
	blk->stopping = true;
	if (virtio_resetting(blk->base.virtio))
		blk_drop_failed(blk, NULL);
	else
		blk_retry_now(blk);
	blk->in_flight--;
	blk_ended(blk);
}

static void blk_stop_queue(void *device, unsigned index)
{
	struct blk *blk = device;
	struct blk_queue *queue = &blk->queues[index];
	queue->in_flight++;
	queue->stopping = true;
	blk_drop_failed(blk, queue);
	queue->in_flight--;
	blk_ended(blk);
}

/* Under the transport's lock. */
static void blk_forget(void *device)
{
	struct blk *blk = device;
	atomic_store(&blk->writeback, blk->first_writeback);
}

static const struct virtio_ops blk_ops = {
	.features = blk_features,
	.config_read = blk_config_read,
	.config_write = blk_config_write,
	.activate = blk_activate,
	.doorbell = blk_doorbell,
	.stop = blk_stop,
	.stop_queue = blk_stop_queue,
	.reset = blk_forget,
};

/* ---- rate limit ---- */

static void run_queues(void *owner)
{
	struct blk *blk = owner;
	for (unsigned i = 0; i < blk->space.num_queues; i++) {
		if (blk->queues[i].vq)
			virtio_retry(blk->base.virtio, i);
	}
}

/* ---- resizing ---- */

struct resize {
	struct blk *blk;
	uint64_t bytes;
	struct err *err;
};

static int resize_on_thread(void *arg)
{
	struct resize *resize = arg;
	return block_resize(resize->blk->block, resize->bytes, resize->err);
}

int disk_resize(struct device *device, uint64_t bytes, struct err *err)
{
	struct blk *blk = container_of(device, struct blk, base.device);
	struct resize resize = {.blk = blk, .bytes = bytes, .err = err};
	virtio_pause(blk->base.virtio);
	int res = virtio_call(blk->base.virtio, resize_on_thread, &resize);
	uint64_t capacity = blk->block->size_bytes / BLK_SECTOR_BYTES;
	virtio_resume(blk->base.virtio);
	if (res < 0)
		return err_prepend(err, "%s", blk->name);
	virtio_config_store(blk->base.virtio, &blk->space.capacity, &capacity, sizeof(capacity));
	return 0;
}

uint64_t disk_size(struct device *device)
{
	struct blk *blk = container_of(device, struct blk, base.device);
	uint64_t capacity;
	virtio_config_load(blk->base.virtio, &capacity, &blk->space.capacity, sizeof(capacity));
	return capacity * BLK_SECTOR_BYTES;
}

/* ---- state ---- */

static void blk_save(struct device *device, void *state)
{
	struct blk *blk = container_of(device, struct blk, base.device);
	struct blk_regs *regs = state;
	memset(regs, 0, sizeof(*regs));
	virtio_save(blk->base.virtio, &regs->virtio);
	regs->writeback = atomic_load(&blk->writeback);
}

static int blk_restore(struct device *device, const void *state, struct err *err)
{
	struct blk *blk = container_of(device, struct blk, base.device);
	const struct blk_regs *regs = state;
	int res = virtio_check_regs(blk->base.virtio, &regs->virtio, err);
	if (res < 0)
		return res;
	bool before =
		atomic_exchange(&blk->writeback, regs->writeback); /* first: restoring starts requests */
	res = virtio_restore(blk->base.virtio, &regs->virtio, err);
	if (res < 0)
		atomic_store(&blk->writeback, before);
	return res;
}

/* ---- life ---- */

static const void *blk_config(const struct machine_config *machine, size_t index)
{
	return virtio_device_config(machine, DEVICE_DISK, index);
}

static int close_on_thread(void *arg)
{
	struct blk *blk = arg;
	(void)loop_release(blk->block->loop, &blk->settle_op);
	ratelimit_finish(&blk->limit);
	block_close(take_ptr(blk->block));
	return 0;
}

static void blk_destroy(struct device *device)
{
	if (!device)
		return;
	struct blk *blk = container_of(device, struct blk, base.device);
	virtio_destroy(blk->base.virtio);
	if (blk->block)
		(void)iothread_call(blk->iothread, close_on_thread, blk);
	free(blk);
}

/* Disks that the config does not place are spread over the I/O threads. */
static int choose_thread(struct blk *blk, const struct device_services *services, size_t index,
			 struct pci_place_config *place, struct err *err)
{
	size_t count = services->io_thread_count;
	*place = blk->config->place;
	if (place->iothread > count || count == 0)
		return err_set(err, -EINVAL, "iothread: %u, but there are %zu (io.threads)", place->iothread,
			       count);
	if (place->iothread == 0)
		place->iothread = (uint32_t)((place->slot ? place->slot : index) % count + 1);
	blk->iothread = services->io_threads[place->iothread - 1];
	return 0;
}

/* As the config says, or one for each vCPU, so that none has to wait for another's lock in the driver. */
static uint16_t count_queues(const struct disk_config *config, const struct device_services *services)
{
	uint32_t cpus = services->cpu_count ? services->cpu_count : 1;
	if (config->queues)
		return (uint16_t)config->queues;
	return (uint16_t)(cpus < BLK_QUEUES_MAX ? cpus : BLK_QUEUES_MAX);
}

static int open_image(struct blk *blk, bool absent, struct err *err)
{
	struct loop *loop = iothread_loop(blk->iothread);
	const struct block elsewhere = {.loop = loop, .read_only = blk->config->read_only};
	return absent ? block_absent_open(&elsewhere, &blk->block, err)
		      : block_open(blk->config, loop, &blk->block, err);
}

static int build(struct blk *blk, size_t index, const struct device_services *services, struct err *err)
{
	const struct disk_config *config = blk->config;
	uint16_t queues = count_queues(config, services);
	struct virtio_spec spec = {.name = blk->name,
				   .id = VIRTIO_ID_BLOCK,
				   .class_code = PCI_CLASS_SCSI,
				   .queue_count = queues,
				   .config_len = CONFIG_BYTES,
				   .ops = &blk_ops,
				   .device = blk,
				   .counts = &blk->base.device.counts};
	if (queues > BLK_QUEUES_MAX)
		return err_set(err, -EINVAL, "queues: %u, but a disk has at most %d", config->queues,
			       BLK_QUEUES_MAX);
	for (unsigned i = 0; i < queues; i++)
		spec.queue_size_max[i] = (uint16_t)config->queue_size;
	int res = choose_thread(blk, services, index, &spec.place, err);
	if (res == 0)
		res = open_image(blk, services->absent, err);
	if (res < 0)
		return res;
	ratelimit_init(&blk->limit, &config->rate, blk->block->loop, run_queues, blk);
	blk->queue_count = queues;
	blk_fill_space(blk);
	return virtio_create(&spec, services, &blk->base.virtio, err);
}

static int blk_create(const void *config, size_t index, const struct device_services *services,
		      struct device **ret, struct err *err)
{
	struct blk *blk = calloc(1, sizeof(*blk));
	if (!blk)
		return err_sys(err, -ENOMEM, "disk%zu", index);
	blk->base.device.class = &disk_class;
	blk->config = config;
	(void)snprintf(blk->name, sizeof(blk->name), "disk%zu", index);
	blk->first_writeback = blk->config->cache == DISK_WRITEBACK;
	atomic_init(&blk->writeback, blk->first_writeback);
	blk->settle_op.done = settle_asked;
	blk->retry_op.done = blk_retry_done;
	for (unsigned i = 0; i < BLK_QUEUES_MAX; i++)
		blk->queues[i] = (struct blk_queue){.blk = blk, .index = i};
	int res = build(blk, index, services, err);
	if (res < 0) {
		blk_destroy(&blk->base.device);
		return res;
	}
	*ret = &blk->base.device;
	return 0;
}

const struct device_class disk_class = {
	.name = "disk",
	.state = &blk_state,
	.config = blk_config,
	.create = blk_create,
	.destroy = blk_destroy,
	.reset = virtio_device_reset,
	.save = blk_save,
	.restore = blk_restore,
	.quiesce = virtio_device_quiesce,
	.resume = virtio_device_resume,
	.flush = blk_flush,
	.release = blk_release,
	.acquire = blk_acquire,
};
