/*
 * Requests of the block device (VIRTIO 1.3, 5.2.6).
 *
 *	device-readable:	type (4 bytes), reserved (4), sector (8), data of OUT, DISCARD, WRITE_ZEROES
 *	device-writable:	data of IN, GET_ID, then the status, one byte
 *
 * in whatever buffers the driver chose (2.7.4.1). What is read of it is copied once. A request that has no
 * place for header or status breaks the device; anything else that is wrong with it costs the driver an error
 * status. Data goes between the guest's buffers and the image without being touched.
 */
#include "blk.h"

#include "base/bytes.h"
#include "base/cleanup.h"

#include <assert.h>
#include <string.h>

enum { HEADER_BYTES = 16, RANGE_BYTES = 16, RANGE_UNMAP = 1 };

static_assert(sizeof(struct blk_range) == RANGE_BYTES, "5.2.6");

#define NSEC_PER_SEC	UINT64_C(1000000000)
#define LIMIT_MAX_BYTES (UINT64_C(1) << 33) /* more than that fails anyway, or takes long enough */

/* ---- the end of a request ---- */

static void interrupt_now(struct loop_op *op, int res)
{
	struct blk_queue *queue = container_of(op, struct blk_queue, interrupt_op);
	(void)res;
	virtio_interrupt(queue->blk->base.virtio, queue->index);
}

/* The driver hears of all that one round of the loop has brought at once. */
static void interrupt_soon(struct blk_queue *queue)
{
	if (!queue->interrupt_op.pending)
		loop_defer(queue->blk->block->loop, &queue->interrupt_op, 0);
}

/* The chain that is pushed has no buffers any more, so dirty tracking is told here. */
static void mark_written(const struct blk_request *request)
{
	struct virtq *vq = request->queue->vq;
	virtq_wrote(vq, request->status, 1);
	for (unsigned i = 0; request->io.command == BLOCK_READ && i < request->io.iov_count; i++)
		virtq_wrote(vq, request->io.iov[i].iov_base, request->io.iov[i].iov_len);
}

/* `written`: from the beginning of the device-writable buffers without a gap (2.7.8.2). */
static void end_with(struct blk_request *request, uint8_t status, uint32_t written)
{
	struct blk_queue *queue = request->queue;
	struct blk *blk = queue->blk;
	*request->status = status;
	mark_written(request);
	if (request->iov != request->inline_iov)
		free(request->iov);
	free(request->ranges);
	request->iov = NULL;
	request->ranges = NULL;
	(void)virtq_push(queue->vq, &request->chain, written); /* a queue that broke meanwhile takes none */
	queue->in_flight--;
	blk->in_flight--;
	interrupt_soon(queue);
	blk_ended(blk);
}

static void end_well(struct blk_request *request)
{
	uint64_t all = request->chain.write_bytes;
	end_with(request, BLK_S_OK, all < UINT32_MAX ? (uint32_t)all : UINT32_MAX);
}

static void end_badly(struct blk_request *request, uint8_t status)
{
	end_with(request, status, request->chain.write_bytes == 1 ? 1 : 0);
}

/* The driver's own mistake. */
static void refuse(struct blk_request *request, uint8_t status, const char *why)
{
	struct blk *blk = request->queue->blk;
	log_guest(&blk->base.device.counts.guest_errors, "%s: a request fails: %s", blk->name, why);
	end_badly(request, status);
}

/* ---- failures of the host ---- */

static void submit(struct blk_request *request)
{
	block_submit(request->queue->blk->block, &request->io);
}

void blk_retry_now(struct blk *blk)
{
	struct blk_request *request = blk->failed;
	blk->failed = NULL;
	while (request) {
		struct blk_request *next = request->next;
		submit(request);
		request = next;
	}
}

void blk_retry_done(struct loop_op *op, int res)
{
	struct blk *blk = container_of(op, struct blk, retry_op);
	(void)res;
	if (blk->stopping && virtio_resetting(blk->base.virtio))
		blk_drop_failed(blk, NULL);
	else
		blk_retry_now(blk);
}

void blk_drop_failed(struct blk *blk, const struct blk_queue *queue)
{
	struct blk_request *request = blk->failed;
	blk->failed = NULL;
	while (request) {
		struct blk_request *next = request->next;
		if (queue && request->queue != queue) {
			request->next = blk->failed;
			blk->failed = request;
		} else {
			end_badly(request, BLK_S_IOERR);
		}
		request = next;
	}
}

/* One line a second, not one for each request. */
static void complain(struct blk *blk, int res, bool retry)
{
	uint64_t now = loop_now_ns();
	if (blk->complained_ns && now - blk->complained_ns < NSEC_PER_SEC)
		return;
	blk->complained_ns = now;
	log_warn("%s: %s: %s%s", blk->name, blk->config->path, strerror(-res),
		 retry ? "; requests wait until the host can do them" : "");
}

static void tell(const struct blk_request *request, int res)
{
	struct blk *blk = request->queue->blk;
	bool full = res == -ENOSPC || res == -EDQUOT;
	unsigned news = request->io.command == BLOCK_READ ? DEVICE_READ_FAILED : DEVICE_WRITE_FAILED;
	virtio_tell(blk->base.virtio, &blk->base.device, news | (full ? DEVICE_NO_SPACE : 0));
}

static void failed(struct blk_request *request, int res)
{
	struct blk *blk = request->queue->blk;
	bool retry = blk->config->on_error == DISK_RETRY && res != -EINVAL && res != -EROFS;
	bool going = blk->stopping || request->queue->stopping;
	complain(blk, res, retry);
	tell(request, res);
	if (!retry || (going && virtio_resetting(blk->base.virtio)) || request->queue->stopping) {
		end_badly(request, BLK_S_IOERR);
		return;
	}
	request->next = blk->failed;
	blk->failed = request;
	if (!blk->retry_op.pending)
		loop_delay(blk->block->loop, &blk->retry_op, NSEC_PER_SEC);
}

/* ---- the image's answers ---- */

static void start_range(struct blk_request *request)
{
	const struct blk_range *range = &request->ranges[request->range_at];
	request->io.offset = range->sector * BLK_SECTOR_BYTES;
	request->io.bytes = (uint64_t)range->count * BLK_SECTOR_BYTES;
	request->io.unmap = range->flags & RANGE_UNMAP;
	submit(request);
}

static void io_done(struct block_request *io, int res)
{
	struct blk_request *request = container_of(io, struct blk_request, io);
	if (res < 0) {
		failed(request, res);
	} else if (++request->range_at < request->range_count) {
		start_range(request);
	} else {
		end_well(request);
	}
}

/* Without a cache that the driver knows of, what is done is durable (5.2.6.2). */
static bool must_be_durable(const struct blk *blk)
{
	if (!(blk->features & BLK_F_FLUSH))
		return true;
	return (blk->features & BLK_F_CONFIG_WCE) &&
	       !atomic_load_explicit(&blk->writeback, memory_order_acquire);
}

static void start_io(struct blk_request *request, enum block_command command)
{
	request->io.command = command;
	request->io.fua = command != BLOCK_READ && must_be_durable(request->queue->blk);
	request->io.done = io_done;
	submit(request);
}

/* ---- reads and writes ---- */

/* Are `sectors` from `sector` on part of the disk, in whole blocks? Nothing in here can overflow. */
static bool in_range(const struct blk *blk, uint64_t sector, uint64_t sectors)
{
	uint64_t capacity = blk->block->size_bytes / BLK_SECTOR_BYTES;
	uint64_t mask = blk->config->block_size / BLK_SECTOR_BYTES - 1;
	return sector <= capacity && sectors <= capacity - sector && ((sector | sectors) & mask) == 0;
}

/*
 * The request's own list of buffers: those of `from` without the first `skip` bytes, `bytes` in all. The
 * caller knows that there are so many.
 */
static int take_buffers(struct blk_request *request, const struct iovec *from, unsigned count, size_t skip,
			uint64_t bytes)
{
	while (count && from->iov_len <= skip) {
		skip -= from->iov_len;
		from++;
		count--;
	}
	request->iov = request->inline_iov;
	if (count > BLK_INLINE_BUFFERS)
		request->iov = malloc(count * sizeof(*request->iov));
	if (!request->iov) {
		request->iov = request->inline_iov;
		return -ENOMEM;
	}
	unsigned used = 0;
	request->io.bytes = bytes;
	for (unsigned i = 0; i < count && bytes; i++) {
		size_t len = from[i].iov_len - skip < bytes ? from[i].iov_len - skip : bytes;
		request->iov[used++] = (struct iovec){(char *)from[i].iov_base + skip, len};
		bytes -= len;
		skip = 0;
	}
	request->io.iov = request->iov;
	request->io.iov_count = used;
	return 0;
}

static void start_transfer(struct blk_request *request, const struct virtq_chain *chain, uint64_t sector,
			   bool write)
{
	const struct blk *blk = request->queue->blk;
	uint64_t bytes = write ? chain->read_bytes - HEADER_BYTES : chain->write_bytes - 1;
	if (bytes == 0 || bytes % BLK_SECTOR_BYTES || !in_range(blk, sector, bytes / BLK_SECTOR_BYTES)) {
		refuse(request, BLK_S_IOERR, "it is not of whole blocks within the disk");
		return;
	}
	if (write && blk->block->read_only) {
		refuse(request, BLK_S_IOERR, "a write to a disk that is read-only");
		return;
	}
	int res = write ? take_buffers(request, chain->iov, chain->read_count, HEADER_BYTES, bytes)
			: take_buffers(request, chain->iov + chain->read_count, chain->write_count, 0, bytes);
	request->io.offset = sector * BLK_SECTOR_BYTES;
	if (res < 0)
		end_badly(request, BLK_S_IOERR);
	else
		start_io(request, write ? BLOCK_WRITE : BLOCK_READ);
}

/* ---- discard, write zeroes, id ---- */

/* What is wrong with a range: a status, and why (5.2.6.2). */
static uint8_t judge_range(const struct blk *blk, const struct blk_range *range, bool discard,
			   const char **why)
{
	*why = "a range with flags that it cannot have";
	if (range->flags & ~(discard ? 0u : RANGE_UNMAP))
		return BLK_S_UNSUPP;
	*why = "a range that is not of whole blocks within the disk, or too long";
	if (range->count > BLK_RANGE_SECTORS_MAX || !in_range(blk, range->sector, range->count))
		return BLK_S_IOERR;
	return BLK_S_OK;
}

static void start_ranges(struct blk_request *request, const struct virtq_chain *chain, bool discard)
{
	const struct blk *blk = request->queue->blk;
	uint64_t bytes = chain->read_bytes - HEADER_BYTES;
	const char *why = "its ranges are none, or too many, or cut";
	if (bytes == 0 || bytes % RANGE_BYTES || bytes / RANGE_BYTES > BLK_RANGES_MAX) {
		refuse(request, BLK_S_IOERR, why);
		return;
	}
	request->range_count = (uint32_t)(bytes / RANGE_BYTES);
	request->ranges = malloc(bytes);
	if (!request->ranges) {
		end_badly(request, BLK_S_IOERR);
		return;
	}
	(void)virtq_chain_read(chain, HEADER_BYTES, request->ranges, bytes);
	for (uint32_t i = 0; i < request->range_count; i++) {
		uint8_t status = judge_range(blk, &request->ranges[i], discard, &why);
		if (status != BLK_S_OK) {
			refuse(request, status, why);
			return;
		}
	}
	request->io.command = discard ? BLOCK_DISCARD : BLOCK_WRITE_ZEROES;
	request->io.fua = must_be_durable(blk);
	request->io.done = io_done;
	start_range(request);
}

static void get_id(struct blk_request *request, const struct virtq_chain *chain)
{
	char id[BLK_ID_BYTES] = {0}; /* not terminated when it has all 20 (5.2.6) */
	const char *serial = request->queue->blk->config->serial;
	if (chain->write_bytes - 1 < BLK_ID_BYTES) {
		refuse(request, BLK_S_IOERR, "no room for the serial number");
		return;
	}
	memcpy(id, serial, strnlen(serial, sizeof(id)));
	(void)virtq_chain_write(chain, 0, id, sizeof(id));
	virtq_wrote_chain(request->queue->vq, chain, sizeof(id));
	end_with(request, BLK_S_OK, chain->write_bytes == BLK_ID_BYTES + 1 ? BLK_ID_BYTES + 1 : BLK_ID_BYTES);
}

/* ---- the beginning of a request ---- */

static void start(struct blk_request *request, const struct virtq_chain *chain, uint32_t type,
		  uint64_t sector)
{
	const struct blk *blk = request->queue->blk;
	switch (type) {
	case BLK_T_IN:
	case BLK_T_OUT:
		start_transfer(request, chain, sector, type == BLK_T_OUT);
		return;
	case BLK_T_FLUSH:
		start_io(request, BLOCK_FLUSH);
		return;
	case BLK_T_GET_ID:
		get_id(request, chain);
		return;
	case BLK_T_DISCARD:
	case BLK_T_WRITE_ZEROES:
		if (!(blk->features & (type == BLK_T_DISCARD ? BLK_F_DISCARD : BLK_F_WRITE_ZEROES)))
			break;
		start_ranges(request, chain, type == BLK_T_DISCARD);
		return;
	default:
		break;
	}
	refuse(request, BLK_S_UNSUPP, "of a type that this disk does not have");
}

/* The last byte that the device may write; NULL: there is none. */
static uint8_t *find_status(const struct virtq_chain *chain)
{
	for (unsigned i = chain->write_count; i > 0; i--) {
		const struct iovec *iov = &chain->iov[chain->read_count + i - 1];
		if (iov->iov_len)
			return (uint8_t *)iov->iov_base + iov->iov_len - 1;
	}
	return NULL;
}

/* False: the device is broken. */
static bool begin(struct blk_queue *queue, const struct virtq_chain *chain)
{
	struct blk *blk = queue->blk;
	uint8_t header[HEADER_BYTES];
	uint8_t *status = find_status(chain);
	if (virtq_chain_read(chain, 0, header, sizeof(header)) < sizeof(header) || !status) {
		(void)virtq_push(queue->vq, chain, 0);
		virtio_needs_reset(blk->base.virtio,
				   status ? "a request without a header" : "a request without a status");
		return false;
	}
	struct blk_request *request = &queue->requests[chain->head];
	request->io.unmap = false;
	request->io.offset = request->io.bytes = 0;
	request->io.iov_count = 0;
	request->queue = queue;
	request->chain = *chain;
	request->chain.iov = NULL;
	request->status = status;
	request->iov = request->inline_iov;
	request->ranges = NULL;
	request->range_count = request->range_at = 0;
	queue->in_flight++;
	blk->in_flight++;
	start(request, chain, load_le32(header), load_le64(header + 8));
	return true;
}

void blk_queue_run(struct blk_queue *queue)
{
	struct blk *blk = queue->blk;
	while (queue->vq && !blk->stopping && !queue->stopping) {
		struct virtq_chain chain = {.iov = blk->iov, .iov_max = VIRTQ_SIZE_MAX};
		if (virtq_pop(queue->vq, &chain) <= 0)
			break; /* a broken queue is the transport's affair */
		uint64_t bytes = chain.read_bytes + chain.write_bytes;
		if (!ratelimit_take(&blk->limit, bytes < LIMIT_MAX_BYTES ? bytes : LIMIT_MAX_BYTES)) {
			(void)virtq_unpop(queue->vq, &chain);
			break;
		}
		if (!begin(queue, &chain))
			break;
	}
}

int blk_queue_start(struct blk *blk, unsigned index)
{
	struct blk_queue *queue = &blk->queues[index];
	struct virtq *vq = virtio_queue(blk->base.virtio, index);
	if (!vq || queue->vq)
		return 0;
	queue->requests = calloc(vq->setup.size, sizeof(*queue->requests));
	if (!queue->requests)
		return -ENOMEM;
	queue->vq = vq;
	queue->stopping = false;
	queue->interrupt_op = (struct loop_op){.done = interrupt_now};
	return 0;
}

void blk_queue_finish(struct blk_queue *queue)
{
	struct blk *blk = queue->blk;
	if (!queue->vq)
		return;
	if (queue->interrupt_op.pending) {
		(void)loop_release(blk->block->loop, &queue->interrupt_op);
		virtio_interrupt(blk->base.virtio, queue->index);
	}
	free(take_ptr(queue->requests));
	queue->vq = NULL;
}
