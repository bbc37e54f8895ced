/*
 * Raw images: the requests.
 *
 * A read or write goes to the kernel as it is, the guest's buffers and all. Only what comes back short, and
 * what O_DIRECT does not take, is done piecewise: one buffer, or as much as a bounce buffer holds, at a time.
 *
 * Zeroes are tried from the cheapest to the dearest way, and a way that this file does not know is not tried
 * again: punch a hole (gives storage back), convert to zeroes (keeps it), write them.
 */
#include "block_raw.h"

#include "base/cleanup.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <string.h>

enum raw_step { STEP_WHOLE, STEP_PIECE, STEP_PUNCH, STEP_ZERO_RANGE, STEP_WRITE_ZEROES, STEP_SYNC };

/* A request that is interrupted this often in a row has no luck any more. */
enum { ATTEMPTS_MAX = 100 };

static void run_step(struct block_request *request);

/* ---- bounce buffers ---- */

static void start_waiting(struct block_raw *raw)
{
	while (raw->waiting && raw->bounces < BLOCK_BOUNCES_MAX) {
		struct block_request *request = raw->waiting;
		raw->waiting = request->next;
		run_step(request);
	}
}

/* False: the request waits for its turn, or is over for want of memory. */
static bool get_bounce(struct block_raw *raw, struct block_request *request)
{
	if (request->bounce)
		return true;
	if (raw->bounces == BLOCK_BOUNCES_MAX) {
		struct block_request **last = &raw->waiting;
		while (*last)
			last = &(*last)->next;
		request->next = NULL;
		*last = request;
		return false;
	}
	request->bounce = aligned_alloc(BLOCK_BOUNCE_ALIGN, BLOCK_BOUNCE_BYTES);
	if (!request->bounce) {
		block_finish_later(request, -ENOMEM);
		return false;
	}
	raw->bounces++;
	return true;
}

static void put_bounce(struct block_raw *raw, struct block_request *request)
{
	if (!request->bounce)
		return;
	free(take_ptr(request->bounce));
	raw->bounces--;
	start_waiting(raw);
}

static bool fits_direct(const struct block_raw *raw, const struct block_request *request)
{
	uintptr_t bits = 0, lengths = 0;
	for (unsigned i = 0; i < request->iov_count; i++) {
		bits |= (uintptr_t)request->iov[i].iov_base;
		lengths |= request->iov[i].iov_len;
	}
	return (bits & (raw->memory_align - 1)) == 0 && (lengths & (raw->io_align - 1)) == 0;
}

enum direction { FROM_IOV, TO_IOV, ZERO_IOV };

/* Between the request's buffers, from `finished` on, and flat memory. */
static void copy_iov(const struct block_request *request, enum direction direction, char *flat, size_t len)
{
	uint64_t skip = request->finished;
	for (unsigned i = 0; i < request->iov_count && len; i++) {
		const struct iovec *iov = &request->iov[i];
		if (skip >= iov->iov_len) {
			skip -= iov->iov_len;
			continue;
		}
		char *at = (char *)iov->iov_base + skip;
		size_t n = iov->iov_len - skip < len ? iov->iov_len - skip : len;
		skip = 0;
		len -= n;
		switch (direction) {
		case FROM_IOV:
			memcpy(flat, at, n);
			break;
		case TO_IOV:
			memcpy(at, flat, n);
			break;
		case ZERO_IOV:
			memset(at, 0, n);
			continue;
		}
		flat += n;
	}
}

/* ---- steps ---- */

static uint64_t rest(const struct block_request *request)
{
	return request->bytes - request->finished;
}

static void finish(struct block_request *request, int res)
{
	struct block_raw *raw = container_of(request->block, struct block_raw, block);
	uint64_t end = request->offset + request->bytes;
	if (raw->container && res == 0 && end > raw->block.size_bytes && request->step != STEP_PUNCH &&
	    request->command != BLOCK_READ)
		raw->block.size_bytes = end;
	put_bounce(raw, request);
	request->done(request, res); /* may free request */
}

static int write_flags(const struct block_raw *raw, const struct block_request *request)
{
	return raw->writethrough || request->fua ? RWF_DSYNC : 0;
}

static void start_whole(struct block_raw *raw, struct block_request *request)
{
	if (request->command == BLOCK_READ)
		loop_readv(raw->block.loop, &request->op, raw->fd, request->iov, request->iov_count,
			   (off_t)request->offset, 0);
	else
		loop_writev(raw->block.loop, &request->op, raw->fd, request->iov, request->iov_count,
			    (off_t)request->offset, write_flags(raw, request));
}

/* The buffer that `finished` points into, from there to its end. */
static struct iovec next_buffer(const struct block_request *request)
{
	uint64_t skip = request->finished;
	unsigned i = 0;
	for (; skip >= request->iov[i].iov_len; i++)
		skip -= request->iov[i].iov_len;
	return (struct iovec){(char *)request->iov[i].iov_base + skip, request->iov[i].iov_len - skip};
}

static void start_piece(struct block_raw *raw, struct block_request *request)
{
	off_t offset = (off_t)(request->offset + request->finished);
	if (raw->direct) {
		if (!get_bounce(raw, request))
			return;
		size_t len = rest(request) < BLOCK_BOUNCE_BYTES ? rest(request) : BLOCK_BOUNCE_BYTES;
		request->part = (struct iovec){request->bounce, len};
		if (request->command == BLOCK_WRITE)
			copy_iov(request, FROM_IOV, request->bounce, len);
	} else {
		request->part = next_buffer(request);
	}
	if (request->command == BLOCK_READ)
		loop_readv(raw->block.loop, &request->op, raw->fd, &request->part, 1, offset, 0);
	else
		loop_writev(raw->block.loop, &request->op, raw->fd, &request->part, 1, offset,
			    write_flags(raw, request));
}

static void start_zeroes(struct block_raw *raw, struct block_request *request)
{
	if (!get_bounce(raw, request))
		return;
	size_t len = rest(request) < BLOCK_BOUNCE_BYTES ? rest(request) : BLOCK_BOUNCE_BYTES;
	request->part = (struct iovec){memset(request->bounce, 0, len), len};
	loop_writev(raw->block.loop, &request->op, raw->fd, &request->part, 1,
		    (off_t)(request->offset + request->finished), write_flags(raw, request));
}

static void run_step(struct block_request *request)
{
	struct block_raw *raw = container_of(request->block, struct block_raw, block);
	switch ((enum raw_step)request->step) {
	case STEP_WHOLE:
		start_whole(raw, request);
		break;
	case STEP_PIECE:
		start_piece(raw, request);
		break;
	case STEP_PUNCH:
		loop_fallocate(raw->block.loop, &request->op, raw->fd,
			       FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)request->offset,
			       (off_t)request->bytes);
		break;
	case STEP_ZERO_RANGE:
		loop_fallocate(raw->block.loop, &request->op, raw->fd,
			       FALLOC_FL_ZERO_RANGE | (raw->container ? 0 : FALLOC_FL_KEEP_SIZE),
			       (off_t)request->offset, (off_t)request->bytes);
		break;
	case STEP_WRITE_ZEROES:
		start_zeroes(raw, request);
		break;
	case STEP_SYNC:
		loop_fsync(raw->block.loop, &request->op, raw->fd, true);
		break;
	}
}

/* ---- results ---- */

/*
 * What buffered writes could not bring to the disk, the kernel tells once, and then calls the pages clean. To
 * say of a later flush that all is well would be a lie, so from then on there is none (the guest sees errors
 * until the image is opened anew).
 */
static void synced(struct block_raw *raw, struct block_request *request, int res)
{
	if (res < 0 && !raw->direct)
		raw->flush_error = res;
	finish(request, res);
}

/* A container's file may end within a block; beyond that all is zero. */
static bool at_end(const struct block_raw *raw, const struct block_request *request, int res)
{
	return raw->container && request->command == BLOCK_READ &&
	       (res == 0 || request->finished % raw->io_align);
}

static void transferred(struct block_raw *raw, struct block_request *request, int res)
{
	if (request->bounce && request->command == BLOCK_READ)
		copy_iov(request, TO_IOV, request->bounce, (size_t)res);
	request->finished += (uint64_t)res;
	request->attempts = 0;
	if (rest(request) == 0) {
		finish(request, 0);
	} else if (at_end(raw, request, res)) {
		copy_iov(request, ZERO_IOV, NULL, rest(request));
		finish(request, 0);
	} else if (res == 0) {
		finish(request, -EIO); /* the file is shorter than it was */
	} else {
		if (request->step == STEP_WHOLE)
			request->step = STEP_PIECE;
		run_step(request);
	}
}

static bool is_unknown(int res)
{
	return res == -EOPNOTSUPP || res == -ENOSYS || res == -ENODEV;
}

/* A hole was punched or a range zeroed: or it has to be done in another way. */
static void fallocated(struct block_raw *raw, struct block_request *request, int res)
{
	bool punch = request->step == STEP_PUNCH;
	if (is_unknown(res)) {
		raw->no_punch |= punch;
		raw->no_zero_range |= !punch;
	}
	if (is_unknown(res) || res == -EINVAL) { /* EINVAL: a device with larger blocks than this range has */
		if (request->command == BLOCK_DISCARD) {
			finish(request, 0);
			return;
		}
		request->step = punch && !raw->no_zero_range ? STEP_ZERO_RANGE : STEP_WRITE_ZEROES;
		run_step(request);
	} else if (res == 0 && (request->fua || raw->writethrough)) {
		request->step = STEP_SYNC;
		run_step(request);
	} else {
		finish(request, res);
	}
}

static void step_done(struct loop_op *op, int res)
{
	struct block_request *request = container_of(op, struct block_request, op);
	struct block_raw *raw = container_of(request->block, struct block_raw, block);
	if ((res == -EINTR || res == -EAGAIN) && ++request->attempts < ATTEMPTS_MAX) {
		run_step(request);
		return;
	}
	switch ((enum raw_step)request->step) {
	case STEP_WHOLE:
	case STEP_PIECE:
	case STEP_WRITE_ZEROES:
		if (res < 0)
			finish(request, res);
		else
			transferred(raw, request, res);
		break;
	case STEP_PUNCH:
	case STEP_ZERO_RANGE:
		fallocated(raw, request, res);
		break;
	case STEP_SYNC:
		synced(raw, request, res);
		break;
	}
}

/* ---- requests ---- */

static enum raw_step first_step(const struct block_raw *raw, const struct block_request *request)
{
	switch (request->command) {
	case BLOCK_FLUSH:
		return STEP_SYNC;
	case BLOCK_DISCARD:
		return STEP_PUNCH;
	case BLOCK_WRITE_ZEROES:
		if (request->unmap && raw->discard && !raw->no_punch)
			return STEP_PUNCH;
		return raw->no_zero_range ? STEP_WRITE_ZEROES : STEP_ZERO_RANGE;
	case BLOCK_READ:
	case BLOCK_WRITE:
		break;
	}
	return raw->direct && !fits_direct(raw, request) ? STEP_PIECE : STEP_WHOLE;
}

void block_raw_submit(struct block *block, struct block_request *request)
{
	struct block_raw *raw = container_of(block, struct block_raw, block);
	if (!raw->files_tried) {
		raw->files_tried = true;
		raw->registered = loop_register_file(block->loop, raw->fd) == 0;
	}
	request->op = (struct loop_op){.done = step_done};
	request->finished = 0;
	request->attempts = 0;
	request->bounce = NULL;
	request->step = (uint8_t)first_step(raw, request);
	if (request->command == BLOCK_FLUSH && raw->flush_error)
		block_finish_later(request, raw->flush_error);
	else if (request->command == BLOCK_DISCARD && (!raw->discard || raw->no_punch))
		block_finish_later(request, 0);
	else
		run_step(request);
}
