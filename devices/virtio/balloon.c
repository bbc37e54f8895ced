/*
 * The memory balloon (VIRTIO 1.3, 5.5): the guest gives pages back, takes them again, tells of its memory,
 * and reports free pages by itself.
 *
 * Its queues are numbered as drivers do it, without a gap for those whose feature was not negotiated:
 * inflate, deflate, then statistics, then reporting.
 */
#include "devices/balloon.h"

#include "../devices.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "virtio.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum {
	BALLOON_PAGE_BYTES = 4096,
	BALLOON_QUEUE_SIZE = 128,
	BALLOON_IOV = 64,
	BALLOON_PFNS = 256, /* read at once */
	PCI_CLASS_OTHER = 0xff00 << 8,
	STAT_BYTES = 10,     /* le16 tag, le64 value */
	STATS_TOLD_MAX = 64, /* more in one buffer are not read */
};

enum { QUEUE_INFLATE, QUEUE_DEFLATE, QUEUE_STATS, QUEUES = 4 };

#define BALLOON_F_STATS_VQ	 VIRTIO_BIT(1)
#define BALLOON_F_DEFLATE_ON_OOM VIRTIO_BIT(2)
#define BALLOON_F_REPORTING	 VIRTIO_BIT(5)

/* 5.5.4 */
struct balloon_space {
	uint32_t num_pages, actual;
};

struct balloon_regs {
	struct virtio_regs virtio;
	uint32_t num_pages, actual;
};

static const struct state_field balloon_fields[] = {
	VIRTIO_STATE_FIELDS(struct balloon_regs, virtio),
	STATE_FIELD(struct balloon_regs, num_pages),
	STATE_FIELD(struct balloon_regs, actual),
};
static const struct state_table balloon_state = STATE_TABLE("balloon", struct balloon_regs, balloon_fields);

struct balloon {
	struct virtio_device base;
	const struct balloon_config *config;
	struct guest_memory *memory;
	struct balloon_space space; /* under the transport's lock */
	uint64_t features;
	bool discard_failed; /* said once */

	struct virtq_chain chain; /* inflate, deflate and reporting: done when popped */
	struct iovec iov[BALLOON_IOV];
	struct virtq_chain stats_chain; /* the guest's, kept until new ones are wanted */
	struct iovec stats_iov[BALLOON_IOV];
	bool has_stats;
	struct balloon_info info;
	uint64_t told_ns;
	char name[16];
};

static uint64_t balloon_features(void *device)
{
	const struct balloon *balloon = device;
	return BALLOON_F_STATS_VQ | (balloon->config->deflate_on_oom ? BALLOON_F_DEFLATE_ON_OOM : 0) |
	       (balloon->config->free_page_reporting ? BALLOON_F_REPORTING : 0);
}

static void balloon_config_read(void *device, uint32_t offset, void *data, uint32_t len)
{
	const struct balloon *balloon = device;
	memcpy(data, (const char *)&balloon->space + offset, len);
}

/* The driver tells how much it has given; the rest is ours. */
static void balloon_config_write(void *device, uint32_t offset, const void *data, uint32_t len)
{
	struct balloon *balloon = device;
	if (offset != offsetof(struct balloon_space, actual) || len != sizeof(balloon->space.actual)) {
		(void)log_guest(&balloon->base.device.counts.guest_errors,
				"%s: the driver writes to its configuration at %u", balloon->name, offset);
		return;
	}
	if (memcmp(&balloon->space.actual, data, len) != 0)
		virtio_tell(balloon->base.virtio, &balloon->base.device, DEVICE_BALLOON_CHANGED);
	memcpy(&balloon->space.actual, data, len);
}

/* ---- pages ---- */

static void balloon_discard(struct balloon *balloon, void *host, uint64_t len)
{
	int r = guest_memory_discard(balloon->memory, host, len);
	if (r == -EFAULT) {
		(void)log_guest(&balloon->base.device.counts.guest_errors, "%s: a page that is no RAM",
				balloon->name);
	} else if (r < 0 && !balloon->discard_failed) {
		balloon->discard_failed =
			true; /* the guest gave them; that the host does not profit hurts nobody */
		log_warn("%s: pages cannot be given back to the host: %s", balloon->name, strerror(-r));
	}
}

/* A run of pages that are neighbours, up or down: one call to the host instead of one for each. */
struct page_run {
	uint64_t first, count;
};

static void run_end(struct balloon *balloon, struct page_run *run)
{
	uint64_t len = run->count * BALLOON_PAGE_BYTES;
	void *host =
		run->count ? guest_memory_at(balloon->memory, run->first * BALLOON_PAGE_BYTES, len) : NULL;
	if (host)
		balloon_discard(balloon, host, len);
	else if (run->count)
		(void)log_guest(&balloon->base.device.counts.guest_errors, "%s: pages that are no RAM",
				balloon->name);
	run->count = 0;
}

static void run_add(struct balloon *balloon, struct page_run *run, uint64_t pfn)
{
	if (run->count && pfn == run->first + run->count) {
		run->count++;
	} else if (run->count && pfn + 1 == run->first) {
		run->first--;
		run->count++;
	} else {
		run_end(balloon, run);
		*run = (struct page_run){.first = pfn, .count = 1};
	}
}

/* 5.5.6.1: an array of page numbers. */
static void balloon_inflate(struct balloon *balloon)
{
	uint32_t pfns[BALLOON_PFNS];
	struct page_run run = {0};
	size_t offset = 0, got;
	while ((got = virtq_chain_read(&balloon->chain, offset, pfns, sizeof(pfns))) >= sizeof(pfns[0])) {
		for (size_t i = 0; i < got / sizeof(pfns[0]); i++)
			run_add(balloon, &run, pfns[i]);
		offset += got;
	}
	run_end(balloon, &run);
}

/* 5.5.6.7: the buffers themselves are the free pages. */
static void balloon_report(struct balloon *balloon)
{
	for (unsigned i = 0; i < balloon->chain.write_count; i++) {
		const struct iovec *pages = &balloon->iov[balloon->chain.read_count + i];
		balloon_discard(balloon, pages->iov_base, pages->iov_len);
	}
}

/* ---- statistics ---- */

static void balloon_read_stats(struct balloon *balloon)
{
	uint8_t stat[STAT_BYTES];
	balloon->info.known = 0;
	for (size_t i = 0; i < STATS_TOLD_MAX; i++) {
		if (virtq_chain_read(&balloon->stats_chain, i * STAT_BYTES, stat, STAT_BYTES) < STAT_BYTES)
			break;
		uint16_t tag;
		memcpy(&tag, stat, sizeof(tag));
		if (tag >= BALLOON_STATS)
			continue; /* a younger guest knows more */
		memcpy(&balloon->info.stats[tag], stat + sizeof(tag), sizeof(uint64_t));
		balloon->info.known |= VIRTIO_BIT(tag);
	}
	balloon->told_ns = loop_now_ns();
}

/* 5.5.6.3: the driver fills the buffer anew when it gets it back. */
static void balloon_return_stats(struct balloon *balloon)
{
	struct virtq *vq = virtio_queue(balloon->base.virtio, QUEUE_STATS);
	if (!balloon->has_stats || !vq)
		return;
	balloon->has_stats = false;
	if (virtq_push(vq, &balloon->stats_chain, 0) < 0)
		virtio_needs_reset(balloon->base.virtio, "broken queue");
	virtio_interrupt(balloon->base.virtio, QUEUE_STATS);
}

static void balloon_take_stats(struct balloon *balloon, struct virtq *vq)
{
	while (virtq_has_request(vq)) {
		balloon_return_stats(
			balloon); /* one is kept, so a second one means that we do not want the first */
		int got = virtq_pop(vq, &balloon->stats_chain);
		if (got < 0)
			virtio_needs_reset(balloon->base.virtio, "broken queue");
		if (got <= 0)
			return;
		balloon->has_stats = true;
		balloon_read_stats(balloon);
	}
}

/* ---- life on the I/O thread ---- */

static int balloon_activate(void *device, uint64_t features)
{
	struct balloon *balloon = device;
	balloon->features = features;
	balloon->has_stats = false;
	return 0;
}

static void balloon_doorbell(void *device, unsigned index)
{
	struct balloon *balloon = device;
	struct virtq *vq = virtio_queue(balloon->base.virtio, index);
	bool has_stats_queue = balloon->features & BALLOON_F_STATS_VQ;
	int got;
	if (!vq)
		return;
	if (index == QUEUE_STATS && has_stats_queue) {
		balloon_take_stats(balloon, vq);
		return;
	}
	while ((got = virtq_pop(vq, &balloon->chain)) > 0) {
		if (index == QUEUE_INFLATE)
			balloon_inflate(balloon);
		else if (index != QUEUE_DEFLATE) /* deflated pages come back by themselves, when touched */
			balloon_report(balloon);
		got = virtq_push(vq, &balloon->chain, 0);
		if (got < 0)
			break;
	}
	if (got < 0)
		virtio_needs_reset(balloon->base.virtio, "broken queue");
	virtio_interrupt(balloon->base.virtio, index);
}

static void balloon_stop(void *device)
{
	struct balloon *balloon = device;
	if (!virtio_resetting(balloon->base.virtio))
		balloon_return_stats(balloon);
	balloon->has_stats = false;
	virtio_stopped(balloon->base.virtio);
}

/* Nothing but the statistics is held between two doorbells, and the driver takes that back. */
static void balloon_stop_queue(void *device, unsigned index)
{
	struct balloon *balloon = device;
	if (index == QUEUE_STATS)
		balloon->has_stats = false;
	virtio_queue_stopped(balloon->base.virtio, index);
}

static uint32_t first_target(const struct balloon *balloon)
{
	return (uint32_t)(balloon->config->size_bytes / BALLOON_PAGE_BYTES);
}

static void balloon_power_on(void *device)
{
	struct balloon *balloon = device;
	balloon->space.actual = 0; /* the target is the operator's and stays */
	balloon->info.known = 0;
}

static const struct virtio_ops balloon_ops = {
	.features = balloon_features,
	.config_read = balloon_config_read,
	.config_write = balloon_config_write,
	.activate = balloon_activate,
	.doorbell = balloon_doorbell,
	.stop = balloon_stop,
	.stop_queue = balloon_stop_queue,
	.reset = balloon_power_on,
};

/* ---- control ---- */

static struct balloon *balloon_of(struct device *device)
{
	return container_of(device, struct balloon, base.device);
}

void balloon_set_target(struct device *device, uint64_t bytes)
{
	struct balloon *balloon = balloon_of(device);
	uint64_t pages = bytes / BALLOON_PAGE_BYTES;
	const uint32_t num_pages = pages < UINT32_MAX ? (uint32_t)pages : UINT32_MAX;
	virtio_config_store(balloon->base.virtio, &balloon->space.num_pages, &num_pages, sizeof(num_pages));
}

struct info_call {
	struct balloon *balloon;
	struct balloon_info *ret;
};

static int info_on_thread(void *arg)
{
	struct info_call *call = arg;
	struct balloon *balloon = call->balloon;
	*call->ret = balloon->info;
	call->ret->age_ns = loop_now_ns() - balloon->told_ns;
	balloon_return_stats(balloon);
	return 0;
}

uint64_t balloon_held(struct device *device)
{
	struct balloon *balloon = balloon_of(device);
	uint32_t pages;
	virtio_config_load(balloon->base.virtio, &pages, &balloon->space.actual, sizeof(pages));
	return (uint64_t)pages * BALLOON_PAGE_BYTES;
}

void balloon_get_info(struct device *device, struct balloon_info *ret)
{
	struct balloon *balloon = balloon_of(device);
	struct balloon_space space;
	(void)virtio_call(balloon->base.virtio, info_on_thread, &(struct info_call){balloon, ret});
	virtio_config_load(balloon->base.virtio, &space, &balloon->space, sizeof(space));
	ret->target_bytes = (uint64_t)space.num_pages * BALLOON_PAGE_BYTES;
	ret->actual_bytes = (uint64_t)space.actual * BALLOON_PAGE_BYTES;
}

/* ---- state ---- */

static void balloon_save(struct device *device, void *state)
{
	struct balloon *balloon = balloon_of(device);
	struct balloon_regs *regs = state;
	struct balloon_space space;
	memset(regs, 0, sizeof(*regs));
	virtio_save(balloon->base.virtio, &regs->virtio);
	virtio_config_load(balloon->base.virtio, &space, &balloon->space, sizeof(space));
	regs->num_pages = space.num_pages;
	regs->actual = space.actual;
}

static int balloon_restore(struct device *device, const void *state, struct err *err)
{
	struct balloon *balloon = balloon_of(device);
	const struct balloon_regs *regs = state;
	int r = virtio_restore(balloon->base.virtio, &regs->virtio, err);
	if (r < 0)
		return r;
	const struct balloon_space space = {.num_pages = regs->num_pages, .actual = regs->actual};
	virtio_config_store(balloon->base.virtio, &balloon->space, &space, sizeof(space));
	return 0;
}

/* ---- life ---- */

static void balloon_destroy(struct device *device)
{
	if (!device)
		return;
	virtio_destroy(balloon_of(device)->base.virtio);
	free(balloon_of(device));
}

static int balloon_create(const void *config, size_t index, const struct device_services *services,
			  struct device **ret, struct err *err)
{
	struct balloon *balloon = calloc(1, sizeof(*balloon));
	if (!balloon)
		return err_sys(err, -ENOMEM, "balloon");
	balloon->base.device.class = &balloon_class;
	balloon->config = config;
	balloon->memory = services->memory;
	balloon->space.num_pages = first_target(balloon);
	balloon->chain = (struct virtq_chain){.iov = balloon->iov, .iov_max = BALLOON_IOV};
	balloon->stats_chain = (struct virtq_chain){.iov = balloon->stats_iov, .iov_max = BALLOON_IOV};
	(void)snprintf(balloon->name, sizeof(balloon->name), "balloon%zu", index);
	const struct virtio_spec spec = {
		.name = balloon->name,
		.id = VIRTIO_ID_BALLOON,
		.class_code = PCI_CLASS_OTHER,
		.queue_count = balloon->config->free_page_reporting ? QUEUES : QUEUES - 1,
		.queue_size_max = {BALLOON_QUEUE_SIZE, BALLOON_QUEUE_SIZE, BALLOON_QUEUE_SIZE,
				   BALLOON_QUEUE_SIZE},
		.config_len = sizeof(balloon->space),
		.place = balloon->config->place,
		.ops = &balloon_ops,
		.device = balloon,
		.counts = &balloon->base.device.counts,
	};
	int r = virtio_create(&spec, services, &balloon->base.virtio, err);
	if (r < 0) {
		balloon_destroy(&balloon->base.device);
		return r;
	}
	*ret = &balloon->base.device;
	return 0;
}

static const void *balloon_config_at(const struct machine_config *machine, size_t index)
{
	return virtio_device_config(machine, DEVICE_BALLOON, index);
}

const struct device_class balloon_class = {
	.name = "balloon",
	.state = &balloon_state,
	.config = balloon_config_at,
	.create = balloon_create,
	.destroy = balloon_destroy,
	.reset = virtio_device_reset,
	.save = balloon_save,
	.restore = balloon_restore,
	.quiesce = virtio_device_quiesce,
	.resume = virtio_device_resume,
};
