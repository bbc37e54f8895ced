/*
 * qcow2: discards and zeroes. Whole clusters change in the L2 table alone. The edges of a discard are left
 * alone; those of zeroes are written like data.
 */
#include "base/cleanup.h"
#include "qcow2.h"

static bool is_whole(const struct qcow2_task *task, uint64_t offset)
{
	return (offset & (task->q->cluster_bytes - 1)) == 0 || offset == task->q->block.size_bytes;
}

/* The end of the last whole cluster in the piece. */
static uint64_t whole_end(const struct qcow2_task *task)
{
	uint64_t end = task->offset + task->bytes;
	return is_whole(task, end) ? end : end & ~(uint64_t)(task->q->cluster_bytes - 1);
}

/*
 * What an entry becomes. Without a backing file nothing is zeros, too. `host` is kept, for the next write,
 * unless the storage may be given back, or somebody else has a part in it.
 */
static uint64_t cleared(const struct qcow2_task *task, uint64_t old)
{
	const struct qcow2 *q = task->q;
	bool discard = task->request->command == BLOCK_DISCARD;
	uint64_t nothing = q->backing ? QCOW2_ZERO : 0;
	struct qcow2_map map;
	qcow2_decode(q, old, &map);
	switch (map.type) {
	case QCOW2_TYPE_NONE:
		return discard ? old : nothing;
	case QCOW2_TYPE_ZERO:
	case QCOW2_TYPE_NORMAL:
		if (discard || !q->has_zero || !map.copied || (task->request->unmap && q->discard))
			return nothing;
		return map.host | QCOW2_COPIED | QCOW2_ZERO;
	case QCOW2_TYPE_COMPRESSED:
		return nothing;
	}
	return nothing;
}

/* Whether all this can be said in L2 tables: version 2 cannot cover a backing file with zeros. */
static bool can_clear(const struct qcow2 *q)
{
	return q->has_zero || !q->backing;
}

static void end(struct qcow2_task *task, int res)
{
	qcow2_unlock_meta(task);
	qcow2_piece_done(task, res);
}

static void clear(struct qcow2_task *task);

static void committed(struct qcow2_task *task)
{
	if (task->res < 0)
		end(task, task->res);
	else
		clear(task);
}

static void clear(struct qcow2_task *task)
{
	struct qcow2 *q = task->q;
	struct qcow2_slice *slice = NULL;
	task->run = clear;
	if (qcow2_commit_if_full(task, committed))
		return;
	int res = qcow2_own_slice(task, task->offset, &slice);
	if (res == QCOW2_WAIT)
		return;
	size_t index = qcow2_slice_index(q, task->offset);
	uint64_t count = (task->bytes + q->cluster_bytes - 1) >> q->cluster_bits;
	for (uint64_t i = 0; res == 0 && i < count; i++) {
		uint64_t old = qcow2_entry_get(slice, index + i);
		uint64_t new = cleared(task, old);
		if (new == old)
			continue;
		if (!(new &QCOW2_OFFSET_MASK))
			qcow2_free_entry(q, old);
		qcow2_entry_set(slice, index + i, new);
		qcow2_slice_dirty(slice);
	}
	end(task, res);
}

/* Nothing there and nothing below it: no table has to be made to say so. */
static void look_up(struct qcow2_task *task)
{
	struct qcow2 *q = task->q;
	struct qcow2_map map = {.type = QCOW2_TYPE_NONE};
	task->run = look_up;
	int res = qcow2_lookup(task, task->offset, task->bytes, &map);
	if (res == QCOW2_WAIT)
		return;
	bool reads_zeros = map.type == QCOW2_TYPE_ZERO || (map.type == QCOW2_TYPE_NONE && !q->backing);
	bool partial = !is_whole(task, task->offset) || !is_whole(task, task->offset + task->bytes);
	if (res < 0) {
		qcow2_piece_done(task, res);
	} else if (map.bytes == task->bytes && ((map.type == QCOW2_TYPE_NONE &&
						 (!q->backing || task->request->command == BLOCK_DISCARD)) ||
						(reads_zeros && partial))) {
		qcow2_piece_done(task, 0);
	} else if (partial || !can_clear(q)) {
		qcow2_write_zeros_as_data(task);
	} else {
		qcow2_lock_meta(task, clear);
	}
}

/* The part up to the next cluster, or the whole clusters of the piece, or the rest. */
void qcow2_zero_piece(struct qcow2_task *task)
{
	const struct qcow2 *q = task->q;
	uint64_t to_next = q->cluster_bytes - (task->offset & (q->cluster_bytes - 1));
	uint64_t last = whole_end(task);
	if (!is_whole(task, task->offset)) {
		if (task->bytes > to_next)
			task->bytes = to_next;
	} else if (last > task->offset) {
		task->bytes = last - task->offset;
	}
	qcow2_lock_range(task, QCOW2_EXCLUSIVE, task->offset, task->bytes, look_up);
}

void qcow2_discard_piece(struct qcow2_task *task)
{
	const struct qcow2 *q = task->q;
	uint64_t to_next = q->cluster_bytes - (task->offset & (q->cluster_bytes - 1));
	if (!q->discard || !can_clear(q)) {
		qcow2_piece_done(task, 0);
		return;
	}
	if (!is_whole(task, task->offset)) {
		if (task->bytes > to_next)
			task->bytes = to_next;
		qcow2_piece_done(task, 0);
		return;
	}
	uint64_t last = whole_end(task);
	if (last == task->offset) {
		qcow2_piece_done(task, 0);
		return;
	}
	task->bytes = last - task->offset;
	qcow2_lock_range(task, QCOW2_EXCLUSIVE, task->offset, task->bytes, look_up);
}
