/* qcow2: units of L2 tables and refcount blocks in memory. */
#include "base/cleanup.h"
#include "qcow2.h"

static size_t bucket_of(const struct qcow2 *q, uint64_t offset)
{
	return (size_t)(offset / q->unit_bytes * UINT64_C(0x9e3779b97f4a7c15) >> 40) % QCOW2_BUCKETS;
}

static struct qcow2_slice *find(const struct qcow2 *q, uint64_t offset)
{
	struct qcow2_slice *slice = q->buckets[bucket_of(q, offset)];
	while (slice && slice->offset != offset)
		slice = slice->hash_next;
	return slice;
}

static void unlink_age(struct qcow2_slice *slice)
{
	struct qcow2 *q = slice->q;
	*(slice->newer ? &slice->newer->older : &q->newest) = slice->older;
	*(slice->older ? &slice->older->newer : &q->oldest) = slice->newer;
}

static void link_newest(struct qcow2_slice *slice)
{
	struct qcow2 *q = slice->q;
	slice->newer = NULL;
	slice->older = q->newest;
	*(q->newest ? &q->newest->newer : &q->oldest) = slice;
	q->newest = slice;
}

static void touch(struct qcow2_slice *slice)
{
	if (!slice->newer)
		return;
	unlink_age(slice);
	link_newest(slice);
}

static void destroy(struct qcow2_slice *slice)
{
	struct qcow2 *q = slice->q;
	struct qcow2_slice **link = &q->buckets[bucket_of(q, slice->offset)];
	while (*link != slice)
		link = &(*link)->hash_next;
	*link = slice->hash_next;
	unlink_age(slice);
	q->slice_count--;
	q->dirty_count -= slice->dirty;
	free(slice->data);
	free(slice);
}

/* Make room for one more. What is in use goes to the other end, so that it is not looked at again soon. */
static void evict(struct qcow2 *q)
{
	enum { LOOK_AT = 8 };
	for (int i = 0; i < LOOK_AT && q->slice_count >= QCOW2_SLICES_MAX; i++) {
		if (q->oldest->dirty || q->oldest->loading)
			touch(q->oldest);
		else
			destroy(q->oldest);
	}
}

static struct qcow2_slice *create(struct qcow2 *q, enum qcow2_kind kind, uint64_t offset)
{
	evict(q);
	struct qcow2_slice *slice = calloc(1, sizeof(*slice));
	uint8_t *data = aligned_alloc(QCOW2_UNIT_BYTES, QCOW2_UNIT_BYTES);
	if (!slice || !data) {
		free(slice);
		free(data);
		return NULL;
	}
	struct qcow2_slice **bucket = &q->buckets[bucket_of(q, offset)];
	*slice = (struct qcow2_slice){
		.q = q, .offset = offset, .kind = kind, .data = data, .hash_next = *bucket};
	*bucket = slice;
	link_newest(slice);
	q->slice_count++;
	return slice;
}

/* ---- loading ---- */

static void loaded(struct block_request *io, int res)
{
	struct qcow2_slice *slice = container_of(io, struct qcow2_slice, io);
	struct qcow2 *q = slice->q;
	struct qcow2_task *task = slice->waiters;
	slice->loading = false;
	slice->waiters = NULL;
	while (task) {
		struct qcow2_task *next = task->next;
		task->load_error = res;
		qcow2_wake(task, task->run);
		task = next;
	}
	if (res < 0)
		destroy(slice);
	qcow2_run_ready(q);
}

static int load(struct qcow2_task *task, enum qcow2_kind kind, uint64_t offset, struct qcow2_slice **ret)
{
	struct qcow2 *q = task->q;
	if (offset > q->file->size_bytes || q->unit_bytes > q->file->size_bytes - offset)
		return qcow2_broken(q, "a table beyond the end of the file", offset);
	struct qcow2_slice *slice = create(q, kind, offset);
	if (!slice)
		return -ENOMEM;
	if (q->sync) {
		struct err err = ERR_INIT;
		int res = q->file_ops->pread(q->file, slice->data, q->unit_bytes, offset, &err);
		if (res < 0)
			destroy(slice);
		else
			*ret = slice;
		return res;
	}
	slice->loading = true;
	slice->waiters = task;
	task->next = NULL;
	slice->iov = (struct iovec){slice->data, q->unit_bytes};
	slice->io = (struct block_request){.command = BLOCK_READ,
					   .offset = offset,
					   .bytes = q->unit_bytes,
					   .iov = &slice->iov,
					   .iov_count = 1,
					   .done = loaded};
	block_submit(q->file, &slice->io);
	return QCOW2_WAIT;
}

int qcow2_slice_get(struct qcow2_task *task, enum qcow2_kind kind, uint64_t offset, struct qcow2_slice **ret)
{
	if (task->load_error) {
		int res = task->load_error;
		task->load_error = 0;
		return res;
	}
	struct qcow2_slice *slice = find(task->q, offset);
	if (!slice)
		return load(task, kind, offset, ret);
	if (slice->kind != kind)
		return qcow2_broken(task->q, "a table that is of two kinds", offset);
	touch(slice);
	if (slice->loading) {
		task->next = slice->waiters;
		slice->waiters = task;
		return QCOW2_WAIT;
	}
	*ret = slice;
	return 0;
}

/* ---- new tables ---- */

void qcow2_slice_dirty(struct qcow2_slice *slice)
{
	slice->q->dirty_count += !slice->dirty;
	slice->dirty = true;
}

struct qcow2_slice *qcow2_slice_new(struct qcow2 *q, enum qcow2_kind kind, uint64_t offset)
{
	struct qcow2_slice *slice = find(q, offset);
	if (slice && slice->loading)
		return NULL; /* somebody reads, as a table, what was free: the image is broken */
	if (!slice)
		slice = create(q, kind, offset);
	if (!slice)
		return NULL;
	slice->kind = kind;
	memset(slice->data, 0, q->unit_bytes);
	qcow2_slice_dirty(slice);
	return slice;
}

int qcow2_table_new(struct qcow2 *q, enum qcow2_kind kind, uint64_t offset)
{
	uint32_t slices = q->cluster_bytes / q->unit_bytes;
	for (uint32_t i = 0; i < slices; i++) {
		if (!qcow2_slice_new(q, kind, offset + (uint64_t)i * q->unit_bytes)) {
			qcow2_table_drop(q, offset, i);
			return -ENOMEM;
		}
	}
	return 0;
}

void qcow2_table_drop(struct qcow2 *q, uint64_t offset, uint32_t slices)
{
	for (uint32_t i = 0; i < slices; i++) {
		struct qcow2_slice *slice = find(q, offset + (uint64_t)i * q->unit_bytes);
		if (slice && !slice->loading)
			destroy(slice);
	}
}

void qcow2_cache_free(struct qcow2 *q)
{
	while (q->oldest)
		destroy(q->oldest);
}
