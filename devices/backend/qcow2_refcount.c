/* qcow2: refcounts: finding clusters that nobody uses, and giving back those that nobody uses any more. */
#include "base/cleanup.h"
#include "qcow2.h"

/* Widths of 1 to 64 bits; below 8 the first refcount is in the lowest bits of a byte. */
uint64_t qcow2_refcount_get(const uint8_t *data, size_t index, uint32_t bits)
{
	uint64_t value = 0;
	if (bits < 8) {
		size_t bit = index * bits;
		return (uint64_t)(data[bit / 8] >> (bit % 8)) & ((1U << bits) - 1);
	}
	for (size_t i = 0; i < bits / 8; i++)
		value = value << 8 | data[index * (bits / 8) + i];
	return value;
}

void qcow2_refcount_set(uint8_t *data, size_t index, uint32_t bits, uint64_t value)
{
	if (bits < 8) {
		size_t bit = index * bits;
		unsigned mask = ((1U << bits) - 1) << (bit % 8);
		data[bit / 8] = (uint8_t)((data[bit / 8] & ~mask) | ((unsigned)value << (bit % 8) & mask));
		return;
	}
	for (size_t i = bits / 8; i-- > 0; value >>= 8)
		data[index * (bits / 8) + i] = (uint8_t)value;
}

static size_t per_slice(const struct qcow2 *q)
{
	return (size_t)q->unit_bytes * 8 / q->refcount_bits;
}

/* Where the refcount of `cluster` is; the block exists. */
static int refcounts_of(struct qcow2_task *task, uint64_t cluster, struct qcow2_slice **ret)
{
	struct qcow2 *q = task->q;
	uint64_t block = qcow2_reftable_get(q, cluster >> q->refcounts_log2);
	uint64_t within = cluster & ((UINT64_C(1) << q->refcounts_log2) - 1);
	if (block & (q->cluster_bytes - 1))
		return qcow2_broken(q, "an unaligned refcount block", block);
	return qcow2_slice_get(task, QCOW2_REFCOUNTS, block + within / per_slice(q) * q->unit_bytes, ret);
}

/* ---- allocation ---- */

/* Take what is free in the slice from next_free on. False: nothing is. */
static bool take_from_slice(struct qcow2 *q, struct qcow2_slice *slice, uint64_t want, struct qcow2_run *ret)
{
	size_t count = per_slice(q);
	size_t i = (size_t)(q->next_free % count);
	/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): callers got the slice with 0 */
	while (i < count && qcow2_refcount_get(slice->data, i, q->refcount_bits))
		i++;
	*ret = (struct qcow2_run){.cluster = q->next_free - q->next_free % count + i};
	q->next_free = ret->cluster;
	while (i < count && ret->count < want && !qcow2_refcount_get(slice->data, i, q->refcount_bits)) {
		ret->count++;
		i++;
	}
	return ret->count > 0;
}

int qcow2_alloc(struct qcow2_task *task, uint64_t want, struct qcow2_run *ret)
{
	struct qcow2 *q = task->q;
	for (;;) {
		struct qcow2_slice *slice = NULL;
		uint64_t block = q->next_free >> q->refcounts_log2;
		int res = 0;
		if (block >= qcow2_reftable_entries(q))
			res = qcow2_reftable_grow(q);
		else if (!qcow2_reftable_get(q, block))
			res = qcow2_refblock_new(q, block);
		if (res == 0)
			res = refcounts_of(task, q->next_free, &slice);
		if (res != 0)
			return res;
		if (take_from_slice(q, slice, want, ret))
			break;
	}
	uint64_t most = (UINT64_C(1) << 55) >> q->cluster_bits;
	if (ret->cluster + ret->count > most)
		return -ENOSPC;
	for (uint64_t i = 0; i < ret->count; i++) {
		if (qcow2_is_metadata(q, ret->cluster + i))
			return qcow2_broken(q, "a table whose refcount is 0",
					    (ret->cluster + i) << q->cluster_bits);
	}
	struct qcow2_slice *slice = NULL;
	int res = refcounts_of(task, ret->cluster, &slice); /* the one from above: does not wait */
	if (res != 0)
		return res;
	for (uint64_t i = 0; i < ret->count; i++)
		/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): set whenever the call before gave 0 */
		qcow2_refcount_set(slice->data, (size_t)((ret->cluster + i) % per_slice(q)), q->refcount_bits,
				   1);
	qcow2_slice_dirty(slice);
	q->next_free = ret->cluster + ret->count;
	return 0;
}

/* ---- giving back ---- */

void qcow2_free(struct qcow2 *q, uint64_t cluster, uint64_t count)
{
	if (q->free_count > q->free_at) {
		struct qcow2_run *last = &q->frees[q->free_count - 1];
		bool begun = q->free_at == q->free_count - 1 && q->free_done;
		if (!begun && last->cluster + last->count == cluster) {
			last->count += count;
			return;
		}
	}
	if (q->free_count == q->free_capacity) {
		size_t capacity = q->free_capacity ? q->free_capacity * 2 : 64;
		struct qcow2_run *larger = reallocarray(q->frees, capacity, sizeof(*larger));
		if (!larger)
			return; /* lost until somebody checks the image */
		q->frees = larger;
		q->free_capacity = capacity;
	}
	q->frees[q->free_count++] = (struct qcow2_run){cluster, count};
}

/* One reference less. QCOW2_WAIT, or 0 and whether nobody uses the cluster any more. */
static int drop_reference(struct qcow2_task *task, uint64_t cluster, bool *ret_unused)
{
	struct qcow2 *q = task->q;
	struct qcow2_slice *slice = NULL;
	uint64_t block = cluster >> q->refcounts_log2;
	*ret_unused = false;
	if (block >= qcow2_reftable_entries(q) || !qcow2_reftable_get(q, block) ||
	    qcow2_is_metadata(q, cluster)) {
		(void)qcow2_broken(q, "a cluster without a refcount, or a table's",
				   cluster << q->cluster_bits);
		return 0;
	}
	int res = refcounts_of(task, cluster, &slice);
	if (res != 0)
		return res == QCOW2_WAIT ? res : 0;
	size_t index = (size_t)(cluster % per_slice(q));
	/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): set whenever the call before gave 0 */
	uint64_t count = qcow2_refcount_get(slice->data, index, q->refcount_bits);
	if (count == 0) {
		(void)qcow2_broken(q, "a cluster in use whose refcount is 0", cluster << q->cluster_bits);
		return 0;
	}
	qcow2_refcount_set(slice->data, index, q->refcount_bits, count - 1);
	qcow2_slice_dirty(slice);
	*ret_unused = count == 1;
	if (count == 1 && cluster < q->next_free)
		q->next_free = cluster;
	return 0;
}

static void apply_frees(struct qcow2_task *task);

static void punched(struct qcow2_task *task)
{
	apply_frees(task); /* a host that keeps the storage is no error */
}

/* All of frees[free_at] is done. True: the task waits until the host has taken the storage back. */
static bool finish_run(struct qcow2_task *task)
{
	struct qcow2 *q = task->q;
	const struct qcow2_run run = q->frees[q->free_at++];
	bool punch = q->free_punch && q->discard && !q->sync;
	q->free_done = 0;
	if (!punch)
		return false;
	task->io = (struct block_request){.command = BLOCK_DISCARD,
					  .offset = run.cluster << q->cluster_bits,
					  .bytes = run.count << q->cluster_bits};
	qcow2_lower(task, q->file, punched);
	return true;
}

static void apply_frees(struct qcow2_task *task)
{
	struct qcow2 *q = task->q;
	while (q->free_at < q->free_count) {
		const struct qcow2_run *run = &q->frees[q->free_at];
		if (q->free_done == 0)
			q->free_punch = true;
		while (q->free_done < run->count) {
			bool unused;
			task->run = apply_frees;
			if (drop_reference(task, run->cluster + q->free_done, &unused) == QCOW2_WAIT)
				return;
			q->free_punch &= unused;
			q->free_done++;
		}
		if (finish_run(task))
			return;
	}
	q->free_at = q->free_count = 0;
	task->res = 0;
	task->then(task);
}

void qcow2_apply_frees(struct qcow2_task *task, void (*then)(struct qcow2_task *task))
{
	task->then = then;
	apply_frees(task);
}
