/*
 * qcow2: making tables durable.
 *
 * A table that is durable must not name what is not: each step below ends with a sync before the next begins.
 *
 *	1. refcount blocks	so that a cluster is counted before a table names it: a crash leaks it at
 *				worst. The sync also makes the data durable, and what was copied around it
 *				from an older cluster, before an L2 entry replaces the older cluster.
 *	2. refcount table	names the blocks of step 1
 *	3. header		names the refcount table, when that has moved
 *	4. L2 tables		name data; new tables are whole
 *	5. L1 table		names the L2 tables of step 4
 *
 * Then nothing durable names the clusters that were replaced, and they are freed, in memory: the next commit
 * writes that. Until then they keep their data.
 *
 * The metadata lock is held all the time, so that nothing changes between its being written and its being
 * synced. When a step fails everything stays dirty, and the next commit does all of it again.
 */
#include "base/cleanup.h"
#include "qcow2.h"

struct unit {
	void *data;
	size_t bytes;
	uint64_t offset;
};

/* ---- what there is to write ---- */

static int by_offset(const void *a, const void *b)
{
	const struct qcow2_slice *left = *(struct qcow2_slice *const *)a;
	const struct qcow2_slice *right = *(struct qcow2_slice *const *)b;
	return left->offset < right->offset ? -1 : left->offset > right->offset;
}

static int collect(struct qcow2 *q)
{
	struct qcow2_commit *commit = &q->commit;
	commit->slice_count = 0;
	if (q->dirty_count > commit->slice_capacity) {
		struct qcow2_slice **larger =
			reallocarray(commit->slices, q->dirty_count, sizeof(struct qcow2_slice *));
		if (!larger)
			return -ENOMEM;
		commit->slices = larger;
		commit->slice_capacity = q->dirty_count;
	}
	for (struct qcow2_slice *slice = q->newest; slice; slice = slice->older) {
		if (slice->dirty)
			commit->slices[commit->slice_count++] = slice;
	}
	if (commit->slice_count)
		qsort(commit->slices, commit->slice_count, sizeof(struct qcow2_slice *), by_offset);
	return 0;
}

static bool next_slice(struct qcow2 *q, enum qcow2_kind kind, struct unit *ret)
{
	struct qcow2_commit *commit = &q->commit;
	while (commit->cursor < commit->slice_count) {
		struct qcow2_slice *slice = commit->slices[commit->cursor++];
		if (slice->kind != kind)
			continue;
		*ret = (struct unit){slice->data, q->unit_bytes, slice->offset};
		return true;
	}
	return false;
}

/* Of a table that is in memory as a whole. */
static bool next_unit(struct qcow2 *q, const uint64_t *table, const bool *dirty, size_t units,
		      uint64_t offset, struct unit *ret)
{
	struct qcow2_commit *commit = &q->commit;
	while (commit->cursor < units) {
		size_t at = commit->cursor++ * q->unit_bytes;
		if (!dirty[at / q->unit_bytes])
			continue;
		*ret = (struct unit){(uint8_t *)table + at, q->unit_bytes, offset + at};
		return true;
	}
	return false;
}

static size_t reftable_bytes(const struct qcow2 *q)
{
	return (size_t)q->reftable_clusters * q->cluster_bytes;
}

static bool next_of_phase(struct qcow2 *q, struct unit *ret)
{
	struct qcow2_commit *commit = &q->commit;
	switch (commit->phase) {
	case QCOW2_PHASE_REFCOUNTS:
		return next_slice(q, QCOW2_REFCOUNTS, ret);
	case QCOW2_PHASE_REFTABLE:
		if (!q->reftable_moved)
			return next_unit(q, q->reftable, q->reftable_dirty, reftable_bytes(q) / q->unit_bytes,
					 q->reftable_offset, ret);
		*ret = (struct unit){q->reftable, reftable_bytes(q), q->reftable_offset};
		return commit->cursor++ == 0;
	case QCOW2_PHASE_HEADER:
		*ret = (struct unit){q->header, q->unit_bytes, 0};
		return q->reftable_moved && commit->cursor++ == 0;
	case QCOW2_PHASE_L2:
		return next_slice(q, QCOW2_L2, ret);
	case QCOW2_PHASE_L1:
		return next_unit(q, q->l1, q->l1_dirty, q->l1_units, q->l1_offset, ret);
	case QCOW2_PHASE_END:
		break;
	}
	return false;
}

static void begin(struct qcow2 *q)
{
	struct qcow2_commit *commit = &q->commit;
	q->commits_begun++;
	commit->phase = QCOW2_PHASE_REFCOUNTS;
	commit->cursor = 0;
	commit->wrote = commit->syncing = false;
	commit->outstanding = 0;
	commit->error = collect(q);
}

/* Step 1 syncs the data even when there is nothing else. */
static bool needs_sync(const struct qcow2_commit *commit)
{
	return commit->wrote || commit->phase == QCOW2_PHASE_REFCOUNTS;
}

static void next_phase(struct qcow2_commit *commit)
{
	commit->phase++;
	commit->cursor = 0;
	commit->wrote = false;
}

static void succeeded(struct qcow2 *q)
{
	struct qcow2_commit *commit = &q->commit;
	for (size_t i = 0; i < commit->slice_count; i++)
		commit->slices[i]->dirty = false;
	q->dirty_count -= commit->slice_count;
	memset(q->l1_dirty, 0, q->l1_units * sizeof(*q->l1_dirty));
	memset(q->reftable_dirty, 0, reftable_bytes(q) / q->unit_bytes * sizeof(*q->reftable_dirty));
	q->reftable_moved = false;
	q->last_good_commit = q->commits_begun;
}

/* ---- by the loop ---- */

static void advance(struct qcow2 *q);

static void after_frees(struct qcow2_task *task)
{
	task->q->commit.then(task);
}

static void finish(struct qcow2 *q)
{
	struct qcow2_task *task = q->commit.task;
	task->res = q->commit.error;
	if (task->res < 0) {
		qcow2_wake(task, q->commit.then);
		return;
	}
	succeeded(q);
	qcow2_apply_frees(task, after_frees);
}

static void synced(struct block_request *io, int res)
{
	struct qcow2_write *write = container_of(io, struct qcow2_write, io);
	struct qcow2 *q = write->q;
	q->commit.syncing = false;
	q->commit.error = res;
	if (res == 0)
		next_phase(&q->commit);
	advance(q);
	qcow2_run_ready(q);
}

static void written(struct block_request *io, int res)
{
	struct qcow2_write *write = container_of(io, struct qcow2_write, io);
	struct qcow2 *q = write->q;
	write->busy = false;
	q->commit.outstanding--;
	if (res < 0 && q->commit.error == 0)
		q->commit.error = res;
	advance(q);
	qcow2_run_ready(q);
}

static void issue_writes(struct qcow2 *q)
{
	struct qcow2_commit *commit = &q->commit;
	struct unit unit;
	for (int i = 0; i < QCOW2_COMMIT_WRITES; i++) {
		struct qcow2_write *write = &commit->writes[i];
		if (write->busy)
			continue;
		if (!next_of_phase(q, &unit))
			return;
		write->q = q;
		write->busy = commit->wrote = true;
		write->iov = (struct iovec){unit.data, unit.bytes};
		write->io = (struct block_request){.command = BLOCK_WRITE,
						   .offset = unit.offset,
						   .bytes = unit.bytes,
						   .iov = &write->iov,
						   .iov_count = 1,
						   .done = written};
		commit->outstanding++;
		block_submit(q->file, &write->io);
	}
}

/* Go on: more writes of this phase, then its sync, then the next one. */
static void advance(struct qcow2 *q)
{
	struct qcow2_commit *commit = &q->commit;
	while (commit->error == 0 && commit->phase != QCOW2_PHASE_END) {
		issue_writes(q);
		if (commit->outstanding)
			return;
		if (needs_sync(commit)) {
			struct qcow2_write *sync = &commit->writes[0];
			commit->syncing = true;
			sync->q = q;
			sync->io = (struct block_request){.command = BLOCK_FLUSH, .done = synced};
			block_submit(q->file, &sync->io);
			return;
		}
		next_phase(commit);
	}
	if (commit->outstanding == 0 && !commit->syncing)
		finish(q);
}

void qcow2_commit(struct qcow2_task *task, void (*then)(struct qcow2_task *task))
{
	struct qcow2 *q = task->q;
	begin(q);
	q->commit.task = task;
	q->commit.then = then;
	advance(q);
}

bool qcow2_commit_if_full(struct qcow2_task *task, void (*then)(struct qcow2_task *task))
{
	struct qcow2 *q = task->q;
	if (q->dirty_count < QCOW2_DIRTY_MAX && q->free_count < QCOW2_FREES_MAX)
		return false;
	qcow2_commit(task, then);
	return true;
}

/* ---- without the loop ---- */

static void do_nothing(struct qcow2_task *task)
{
	(void)task;
}

int qcow2_commit_sync(struct qcow2 *q)
{
	struct qcow2_commit *commit = &q->commit;
	struct unit unit;
	begin(q);
	while (commit->error == 0 && commit->phase != QCOW2_PHASE_END) {
		while (commit->error == 0 && next_of_phase(q, &unit)) {
			commit->error = q->file_ops->pwrite(q->file, unit.data, unit.bytes, unit.offset);
			commit->wrote = true;
		}
		if (commit->error == 0 && needs_sync(commit))
			commit->error = q->file_ops->sync(q->file);
		next_phase(commit);
	}
	if (commit->error < 0)
		return commit->error;
	succeeded(q);
	struct qcow2_task task = {.q = q};
	qcow2_apply_frees(&task, do_nothing);
	return 0;
}
