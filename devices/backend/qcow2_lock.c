/*
 * qcow2: the locks that keep tasks apart. All are first come, first served: who asks stands behind everyone
 * who asked before and got nothing.
 */
#include "qcow2.h"

#include <stdlib.h>

/* ---- ranges of guest clusters ---- */

static bool conflicts(const struct qcow2_task *a, enum qcow2_lock a_lock, const struct qcow2_task *b,
		      enum qcow2_lock b_lock)
{
	return (a_lock == QCOW2_EXCLUSIVE || b_lock == QCOW2_EXCLUSIVE) && a->first <= b->last &&
	       b->first <= a->last;
}

static bool is_free(const struct qcow2_task *task)
{
	const struct qcow2 *q = task->q;
	if (task->wanted == QCOW2_SHARED && q->exclusive_holders == 0)
		return true;
	for (const struct qcow2_task *held = q->holders; held; held = held->lock_next) {
		if (conflicts(task, task->wanted, held, held->lock))
			return false;
	}
	return true;
}

static void hold(struct qcow2_task *task)
{
	struct qcow2 *q = task->q;
	task->lock = task->wanted;
	q->exclusive_holders += task->lock == QCOW2_EXCLUSIVE;
	task->lock_prev = NULL;
	task->lock_next = q->holders;
	if (q->holders)
		q->holders->lock_prev = task;
	q->holders = task;
}

/* Nobody in the queue before `end` wants what `task` wants. */
static bool is_next(const struct qcow2_task *task, const struct qcow2_task *end)
{
	for (const struct qcow2_task *other = task->q->range_queue.head; other != end; other = other->next) {
		if (conflicts(task, task->wanted, other, other->wanted))
			return false;
	}
	return true;
}

void qcow2_lock_range(struct qcow2_task *task, enum qcow2_lock lock, uint64_t offset, uint64_t bytes,
		      void (*run)(struct qcow2_task *task))
{
	struct qcow2 *q = task->q;
	task->wanted = lock;
	task->first = offset >> q->cluster_bits;
	task->last = (offset + bytes - 1) >> q->cluster_bits;
	if (is_free(task) && is_next(task, NULL)) {
		hold(task);
		run(task);
		return;
	}
	task->run = run;
	qcow2_push(&q->range_queue, task);
}

void qcow2_unlock_range(struct qcow2_task *task)
{
	struct qcow2 *q = task->q;
	if (task->lock == QCOW2_UNLOCKED)
		return;
	q->exclusive_holders -= task->lock == QCOW2_EXCLUSIVE;
	if (task->lock_prev)
		task->lock_prev->lock_next = task->lock_next;
	else
		q->holders = task->lock_next;
	if (task->lock_next)
		task->lock_next->lock_prev = task->lock_prev;
	task->lock = QCOW2_UNLOCKED;

	struct qcow2_queue still = {NULL, NULL};
	struct qcow2_task *waiting;
	/* Those who go on waiting move to `still`, which is what is_next has to look at for the others. */
	struct qcow2_queue all = q->range_queue;
	q->range_queue = still;
	while ((waiting = qcow2_pop(&all))) {
		if (is_free(waiting) && is_next(waiting, NULL)) {
			hold(waiting);
			qcow2_wake(waiting, waiting->run);
		} else {
			qcow2_push(&q->range_queue, waiting);
		}
	}
}

/* ---- metadata ---- */

void qcow2_lock_meta(struct qcow2_task *task, void (*run)(struct qcow2_task *task))
{
	struct qcow2 *q = task->q;
	if (q->meta_owner) {
		task->run = run;
		qcow2_push(&q->meta_queue, task);
		return;
	}
	q->meta_owner = task;
	run(task);
}

void qcow2_unlock_meta(struct qcow2_task *task)
{
	struct qcow2 *q = task->q;
	q->meta_owner = qcow2_pop(&q->meta_queue);
	if (q->meta_owner)
		qcow2_wake(q->meta_owner, q->meta_owner->run);
}

/* ---- buffers ---- */

void qcow2_lock_buffer(struct qcow2_task *task, void (*run)(struct qcow2_task *task))
{
	struct qcow2 *q = task->q;
	if (q->buffers == 0) {
		task->run = run;
		qcow2_push(&q->buffer_queue, task);
		return;
	}
	q->buffers--;
	task->has_buffer = true;
	run(task);
}

void qcow2_unlock_buffer(struct qcow2_task *task)
{
	struct qcow2 *q = task->q;
	free(task->buffer);
	free(task->packed);
	free(task->unpacked);
	task->buffer = task->packed = task->unpacked = NULL;
	if (!task->has_buffer)
		return;
	task->has_buffer = false;
	struct qcow2_task *next = qcow2_pop(&q->buffer_queue);
	if (next) {
		next->has_buffer = true;
		qcow2_wake(next, next->run);
	} else {
		q->buffers++;
	}
}
