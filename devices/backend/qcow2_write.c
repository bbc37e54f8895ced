/*
 * qcow2: writing.
 *
 * A piece whose clusters are there, and ours alone, is written in place under a shared lock. Everything else
 * gets new clusters: allocated in memory, then written (with what was around the guest's bytes), and only
 * then put into the L2 table, again in memory. Until the commit the disk knows nothing of it.
 */
#include "base/cleanup.h"
#include "qcow2.h"

#include <limits.h>

static uint64_t in_cluster(const struct qcow2 *q, uint64_t offset)
{
	return offset & (q->cluster_bytes - 1);
}

/* Bytes from the start of the first cluster to the piece, and from its end to the end of the last one. */
static uint64_t head_bytes(const struct qcow2_task *task)
{
	return in_cluster(task->q, task->offset);
}

static uint64_t tail_bytes(const struct qcow2_task *task)
{
	return -(task->offset + task->bytes) & (task->q->cluster_bytes - 1);
}

static uint64_t piece_clusters(const struct qcow2_task *task)
{
	return (head_bytes(task) + task->bytes + tail_bytes(task)) >> task->q->cluster_bits;
}

/* The piece's data is not the guest's buffers as they are, but lies in task->buffer, behind the head. */
static bool is_flat(const struct qcow2_task *task)
{
	return task->request->command != BLOCK_WRITE || task->request->iov_count > IOV_MAX - 2;
}

static bool in_place(const struct qcow2_map *map)
{
	return map->type == QCOW2_TYPE_NORMAL && map->copied;
}

/* The cluster reads as zeros, but is there and ours. */
static bool reuses_cluster(const struct qcow2_task *task)
{
	return task->map.type == QCOW2_TYPE_ZERO && task->map.copied;
}

/* No table names the new clusters. */
static void give_up(struct qcow2_task *task)
{
	if (!reuses_cluster(task))
		qcow2_free(task->q, task->host >> task->q->cluster_bits, piece_clusters(task));
}

static void piece_written(struct qcow2_task *task)
{
	qcow2_piece_done(task, task->res);
}

/* ---- in place ---- */

static int check_no_table(struct qcow2 *q, uint64_t host, uint64_t bytes)
{
	for (uint64_t cluster = host >> q->cluster_bits; cluster <= (host + bytes - 1) >> q->cluster_bits;
	     cluster++) {
		if (qcow2_is_metadata(q, cluster))
			return qcow2_broken(q, "data where a table is", cluster << q->cluster_bits);
	}
	return 0;
}

static void write_in_place(struct qcow2_task *task)
{
	struct qcow2 *q = task->q;
	uint64_t host = task->map.host + in_cluster(q, task->offset);
	task->bytes = task->map.bytes;
	bool zeroes = task->request->command == BLOCK_WRITE_ZEROES;
	int res = check_no_table(q, host, task->bytes);
	if (res == 0 && !zeroes && !qcow2_slice_iov(task, task->finished, task->bytes))
		res = -ENOMEM;
	if (res < 0) {
		qcow2_piece_done(task, res);
		return;
	}
	task->io = (struct block_request){.command = zeroes ? BLOCK_WRITE_ZEROES : BLOCK_WRITE,
					  .offset = host,
					  .bytes = task->bytes,
					  .iov = zeroes ? NULL : task->iov,
					  .iov_count = zeroes ? 0 : task->iov_count};
	qcow2_lower(task, q->file, piece_written);
}

/* ---- new clusters: 3. into the L2 table ---- */

static void link_clusters(struct qcow2_task *task)
{
	struct qcow2 *q = task->q;
	struct qcow2_slice *slice = NULL;
	task->run = link_clusters;
	int res = qcow2_own_slice(task, task->offset, &slice);
	if (res == QCOW2_WAIT)
		return;
	uint64_t count = piece_clusters(task);
	size_t index = qcow2_slice_index(q, task->offset);
	for (uint64_t i = 0; res == 0 && i < count; i++) {
		uint64_t host = task->host + (i << q->cluster_bits);
		uint64_t old = qcow2_entry_get(slice, index + i);
		struct qcow2_map map;
		qcow2_decode(q, old, &map);
		if (map.type == QCOW2_TYPE_COMPRESSED || map.host != host)
			qcow2_free_entry(q, old);
		qcow2_entry_set(slice, index + i, host | QCOW2_COPIED);
	}
	if (res == 0)
		qcow2_slice_dirty(slice);
	else
		give_up(task);
	qcow2_unlock_meta(task);
	qcow2_piece_done(task, res);
}

/* ---- 2. the data ---- */

static void data_written(struct qcow2_task *task)
{
	qcow2_unlock_buffer(task);
	if (task->res < 0) {
		give_up(task);
		qcow2_piece_done(task, task->res);
		return;
	}
	qcow2_lock_meta(task, link_clusters);
}

static void append(struct qcow2_task *task, uint8_t *data, uint64_t len)
{
	task->iov[task->iov_count++] = (struct iovec){data, (size_t)len};
}

/* Head, piece, tail: whole clusters. */
static bool gather(struct qcow2_task *task)
{
	uint64_t head = head_bytes(task), tail = tail_bytes(task);
	if (is_flat(task)) {
		if (!qcow2_slice_iov(task, 0, 0))
			return false;
		append(task, task->buffer, head + task->bytes + tail);
		return true;
	}
	if (!qcow2_slice_iov(task, task->finished, task->bytes))
		return false;
	if (head) {
		memmove(task->iov + 1, task->iov, task->iov_count * sizeof(*task->iov));
		task->iov[0] = (struct iovec){task->buffer, (size_t)head};
		task->iov_count++;
	}
	if (tail)
		append(task, task->buffer + head, tail);
	return true;
}

static void write_data(struct qcow2_task *task)
{
	if (task->res == 0 && !gather(task))
		task->res = -ENOMEM;
	if (task->res < 0) {
		data_written(task);
		return;
	}
	task->io = (struct block_request){.command = BLOCK_WRITE,
					  .offset = task->host,
					  .bytes = piece_clusters(task) << task->q->cluster_bits,
					  .iov = task->iov,
					  .iov_count = task->iov_count};
	qcow2_lower(task, task->q->file, data_written);
}

/* One buffer, to be read into. */
static bool target(struct qcow2_task *task, uint8_t *data, uint64_t len)
{
	if (!qcow2_slice_iov(task, 0, 0))
		return false;
	append(task, data, len);
	return true;
}

static void read_tail(struct qcow2_task *task)
{
	uint64_t tail = tail_bytes(task);
	if (task->res < 0 || tail == 0) {
		write_data(task);
		return;
	}
	uint64_t before = head_bytes(task) + (is_flat(task) ? task->bytes : 0);
	if (!target(task, task->buffer + before, tail)) {
		task->res = -ENOMEM;
		write_data(task);
		return;
	}
	const struct qcow2_map map = task->map_last;
	qcow2_fetch(task, &map, task->offset + task->bytes, tail, write_data);
}

/* The data of a flat piece: zeros, or the guest's many small buffers in one. */
static void flatten(struct qcow2_task *task, uint8_t *to)
{
	uint64_t skip = task->finished, len = task->bytes;
	const struct block_request *request = task->request;
	if (request->command != BLOCK_WRITE)
		memset(to, 0, len);
	for (unsigned i = 0; request->command == BLOCK_WRITE && i < request->iov_count && len; i++) {
		const struct iovec *from = &request->iov[i];
		if (skip >= from->iov_len) {
			skip -= from->iov_len;
			continue;
		}
		size_t n = from->iov_len - skip < len ? from->iov_len - skip : len;
		memcpy(to, (const char *)from->iov_base + skip, n);
		to += n;
		skip = 0;
		len -= n;
	}
}

static void read_head(struct qcow2_task *task)
{
	uint64_t head = head_bytes(task), tail = tail_bytes(task);
	uint64_t flat = is_flat(task) ? task->bytes : 0;
	task->res = qcow2_take_buffer(task, &task->buffer, head + flat + tail);
	if (task->res == 0 && flat)
		flatten(task, task->buffer + head);
	if (task->res == 0 && head && !target(task, task->buffer, head))
		task->res = -ENOMEM;
	if (task->res < 0 || head == 0) {
		read_tail(task);
		return;
	}
	const struct qcow2_map map = task->map;
	qcow2_fetch(task, &map, task->offset - head, head, read_tail);
}

/* ---- 1. clusters ---- */

static void allocated(struct qcow2_task *task)
{
	task->res = 0;
	if (head_bytes(task) == 0 && tail_bytes(task) == 0 && !is_flat(task))
		write_data(task);
	else
		qcow2_lock_buffer(task, read_head);
}

static void look_up_last(struct qcow2_task *task)
{
	task->run = look_up_last;
	int res = qcow2_lookup(task, task->offset + task->bytes - 1, 1, &task->map_last);
	if (res == QCOW2_WAIT)
		return;
	if (res == 0) {
		allocated(task);
		return;
	}
	task->res = res;
	data_written(task);
}

static void allocate(struct qcow2_task *task);

/* The commit that had to come first. */
static void committed(struct qcow2_task *task)
{
	if (task->res < 0) {
		qcow2_unlock_meta(task);
		qcow2_piece_done(task, task->res);
		return;
	}
	allocate(task);
}

static int find_clusters(struct qcow2_task *task)
{
	struct qcow2 *q = task->q;
	struct qcow2_slice *slice = NULL;
	struct qcow2_run run = {0, 1};
	int res = qcow2_own_slice(task, task->offset, &slice);
	if (res != 0)
		return res;
	if (reuses_cluster(task)) {
		run.cluster = task->map.host >> q->cluster_bits;
		res = check_no_table(q, task->map.host, 1);
	} else {
		res = qcow2_alloc(task, piece_clusters(task), &run);
	}
	if (res != 0)
		return res;
	task->host = run.cluster << q->cluster_bits;
	uint64_t most = (run.count << q->cluster_bits) - head_bytes(task);
	if (task->bytes > most)
		task->bytes = most;
	return 0;
}

static void allocate(struct qcow2_task *task)
{
	task->run = allocate;
	if (qcow2_commit_if_full(task, committed))
		return;
	int res = find_clusters(task);
	if (res == QCOW2_WAIT)
		return;
	qcow2_unlock_meta(task);
	if (res < 0)
		qcow2_piece_done(task, res);
	else
		look_up_last(task);
}

/* How much of the piece needs new clusters, without a cluster that can be written in place. */
static int measure(struct qcow2_task *task)
{
	struct qcow2 *q = task->q;
	int res = qcow2_lookup(task, task->offset, task->bytes, &task->map);
	if (res != 0 || in_place(&task->map))
		return res;
	uint64_t bytes = q->cluster_bytes - in_cluster(q, task->offset);
	while (bytes < task->bytes && !reuses_cluster(task)) {
		struct qcow2_map next;
		res = qcow2_lookup(task, task->offset + bytes, 1, &next);
		if (res != 0)
			return res;
		if (in_place(&next) || (next.type == QCOW2_TYPE_ZERO && next.copied))
			break;
		bytes += q->cluster_bytes;
	}
	if (bytes < task->bytes)
		task->bytes = bytes;
	return 0;
}

static void look_up_alone(struct qcow2_task *task)
{
	task->run = look_up_alone;
	int res = measure(task);
	if (res == QCOW2_WAIT)
		return;
	if (res < 0)
		qcow2_piece_done(task, res);
	else if (in_place(&task->map))
		write_in_place(task);
	else
		qcow2_lock_meta(task, allocate);
}

static void lock_alone(struct qcow2_task *task)
{
	const struct qcow2 *q = task->q;
	uint64_t most = q->cluster_bytes > QCOW2_PIECE_BYTES ? q->cluster_bytes : QCOW2_PIECE_BYTES;
	most -= in_cluster(q, task->offset);
	if (task->bytes > most)
		task->bytes = most;
	qcow2_lock_range(task, QCOW2_EXCLUSIVE, task->offset, task->bytes, look_up_alone);
}

/* ---- entries ---- */

static void look_up(struct qcow2_task *task)
{
	task->run = look_up;
	int res = qcow2_lookup(task, task->offset, task->bytes, &task->map);
	if (res == QCOW2_WAIT)
		return;
	if (res < 0) {
		qcow2_piece_done(task, res);
	} else if (in_place(&task->map)) {
		write_in_place(task);
	} else {
		qcow2_unlock_range(task);
		lock_alone(task);
	}
}

void qcow2_write_piece(struct qcow2_task *task)
{
	qcow2_lock_range(task, QCOW2_SHARED, task->offset, task->bytes, look_up);
}

void qcow2_write_zeros_as_data(struct qcow2_task *task)
{
	const struct qcow2 *q = task->q;
	uint64_t most = q->cluster_bytes > QCOW2_PIECE_BYTES ? q->cluster_bytes : QCOW2_PIECE_BYTES;
	most -= in_cluster(q, task->offset);
	if (task->bytes > most)
		task->bytes = most;
	look_up_alone(task);
}
