/* qcow2: reading, for the guest and for what is copied around a write. */
#include "base/cleanup.h"
#include "qcow2.h"

/* Zeros to task->iov, from byte `from` on. */
static void zero_iov(const struct qcow2_task *task, uint64_t from)
{
	for (unsigned i = 0; i < task->iov_count; i++) {
		size_t len = task->iov[i].iov_len;
		if (from < len)
			memset((char *)task->iov[i].iov_base + from, 0, len - from);
		from = from < len ? 0 : from - len;
	}
}

static void copy_out(const struct qcow2_task *task, const uint8_t *from)
{
	for (unsigned i = 0; i < task->iov_count; i++) {
		memcpy(task->iov[i].iov_base, from, task->iov[i].iov_len);
		from += task->iov[i].iov_len;
	}
}

/* Cut task->iov to its first `bytes`. */
static void cut_iov(struct qcow2_task *task, uint64_t bytes)
{
	for (unsigned i = 0; i < task->iov_count; i++) {
		if (task->iov[i].iov_len >= bytes) {
			task->iov[i].iov_len = (size_t)bytes;
			task->iov_count = i + 1;
			return;
		}
		bytes -= task->iov[i].iov_len;
	}
}

static void read_from(struct qcow2_task *task, struct block *lower, uint64_t offset, uint64_t bytes,
		      void (*then)(struct qcow2_task *task))
{
	task->io = (struct block_request){.command = BLOCK_READ,
					  .offset = offset,
					  .bytes = bytes,
					  .iov = task->iov,
					  .iov_count = task->iov_count};
	qcow2_lower(task, lower, then);
}

static void fetch_from_backing(struct qcow2_task *task, uint64_t offset, uint64_t bytes,
			       void (*then)(struct qcow2_task *task))
{
	struct qcow2 *q = task->q;
	uint64_t there = q->backing && offset < q->backing->size_bytes ? q->backing->size_bytes - offset : 0;
	if (there < bytes)
		zero_iov(task, there);
	if (there == 0) {
		task->res = 0;
		qcow2_wake(task, then);
		return;
	}
	if (there < bytes)
		cut_iov(task, there);
	read_from(task, q->backing, offset, there < bytes ? there : bytes, then);
}

/* ---- compressed clusters ---- */

static void unpack(struct qcow2_task *task)
{
	struct qcow2 *q = task->q;
	if (task->res == 0) {
		task->res =
			qcow2_unpack(q->compression, task->packed + task->packed_map.host % QCOW2_UNIT_BYTES,
				     task->packed_map.packed_bytes, task->unpacked, q->cluster_bytes);
		if (task->res == -EIO)
			(void)qcow2_broken(q, "a compressed cluster", task->packed_map.host);
	}
	if (task->res == 0)
		copy_out(task, task->unpacked + task->skip);
	task->then(task);
}

/* Whole units around it, for O_DIRECT; the file may end within the last. */
static void fetch_compressed(struct qcow2_task *task, const struct qcow2_map *map, uint64_t offset,
			     void (*then)(struct qcow2_task *task))
{
	struct qcow2 *q = task->q;
	uint64_t start = map->host / QCOW2_UNIT_BYTES * QCOW2_UNIT_BYTES;
	uint64_t end = map->host + map->packed_bytes;
	end = (end + QCOW2_UNIT_BYTES - 1) / QCOW2_UNIT_BYTES * QCOW2_UNIT_BYTES;
	task->packed_map = *map;
	task->skip = offset - map->guest;
	task->then = then;
	task->res = qcow2_take_buffer(task, &task->packed, end - start);
	if (task->res == 0)
		task->res = qcow2_take_buffer(task, &task->unpacked, q->cluster_bytes);
	if (task->res == 0 && map->host >= q->file->size_bytes)
		task->res = qcow2_broken(q, "a compressed cluster beyond the end of the file", map->host);
	if (task->res < 0) {
		qcow2_wake(task, then);
		return;
	}
	task->part = (struct iovec){task->packed, end - start};
	task->io = (struct block_request){.command = BLOCK_READ,
					  .offset = start,
					  .bytes = end - start,
					  .iov = &task->part,
					  .iov_count = 1};
	qcow2_lower(task, q->file, unpack);
}

void qcow2_fetch(struct qcow2_task *task, const struct qcow2_map *map, uint64_t offset, uint64_t bytes,
		 void (*then)(struct qcow2_task *task))
{
	switch (map->type) {
	case QCOW2_TYPE_NONE:
		fetch_from_backing(task, offset, bytes, then);
		break;
	case QCOW2_TYPE_ZERO:
		zero_iov(task, 0);
		task->res = 0;
		qcow2_wake(task, then);
		break;
	case QCOW2_TYPE_NORMAL:
		read_from(task, task->q->file, map->host + (offset - map->guest), bytes, then);
		break;
	case QCOW2_TYPE_COMPRESSED:
		fetch_compressed(task, map, offset, then);
		break;
	}
}

/* ---- the guest's reads ---- */

static void read_done(struct qcow2_task *task)
{
	qcow2_piece_done(task, task->res);
}

static void fetch_piece(struct qcow2_task *task)
{
	const struct qcow2_map map = task->map;
	qcow2_fetch(task, &map, task->offset, task->bytes, read_done);
}

static void look_up(struct qcow2_task *task)
{
	task->run = look_up;
	int res = qcow2_lookup(task, task->offset, task->bytes, &task->map);
	if (res == QCOW2_WAIT)
		return;
	if (res == 0 && !qcow2_slice_iov(task, task->finished, task->map.bytes))
		res = -ENOMEM;
	if (res < 0) {
		qcow2_piece_done(task, res);
		return;
	}
	task->bytes = task->map.bytes;
	if (task->map.type == QCOW2_TYPE_COMPRESSED)
		qcow2_lock_buffer(task, fetch_piece);
	else
		fetch_piece(task);
}

void qcow2_read_piece(struct qcow2_task *task)
{
	qcow2_lock_range(task, QCOW2_SHARED, task->offset, task->bytes, look_up);
}
