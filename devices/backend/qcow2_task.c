/* qcow2: a guest's request, from its coming to its end. */
#include "qcow2.h"

#include "base/cleanup.h"

#include <limits.h>

/* ---- queues ---- */

void qcow2_push(struct qcow2_queue *queue, struct qcow2_task *task)
{
	task->next = NULL;
	*(queue->tail ? &queue->tail->next : &queue->head) = task;
	queue->tail = task;
}

struct qcow2_task *qcow2_pop(struct qcow2_queue *queue)
{
	struct qcow2_task *task = queue->head;
	if (!task)
		return NULL;
	queue->head = task->next;
	if (!queue->head)
		queue->tail = NULL;
	task->next = NULL;
	return task;
}

void qcow2_wake(struct qcow2_task *task, void (*run)(struct qcow2_task *task))
{
	task->run = run;
	qcow2_push(&task->q->ready, task);
}

/* Run what is ready, and return the tasks that are over. */
static struct qcow2_queue run_all(struct qcow2 *q)
{
	struct qcow2_task *task;
	q->running = true;
	while ((task = qcow2_pop(&q->ready)))
		task->run(task);
	q->running = false;
	struct qcow2_queue finished = q->finished;
	q->finished = (struct qcow2_queue){NULL, NULL};
	return finished;
}

static void destroy_task(struct qcow2_task *task)
{
	free(task->iov);
	free(task);
}

void qcow2_run_ready(struct qcow2 *q)
{
	if (q->running)
		return;
	struct qcow2_queue finished = run_all(q);
	struct qcow2_task *task;
	while ((task = qcow2_pop(&finished))) { /* the last `done` may close the image */
		struct block_request *request = task->request;
		int res = task->res;
		destroy_task(task);
		request->done(request, res);
	}
}

/* ---- I/O ---- */

static void lower_done(struct block_request *io, int res)
{
	struct qcow2_task *task = container_of(io, struct qcow2_task, io);
	struct qcow2 *q = task->q;
	task->res = res;
	qcow2_wake(task, task->run);
	qcow2_run_ready(q);
}

void qcow2_lower(struct qcow2_task *task, struct block *lower, void (*then)(struct qcow2_task *task))
{
	task->run = then;
	task->io.done = lower_done;
	block_submit(lower, &task->io);
}

bool qcow2_slice_iov(struct qcow2_task *task, uint64_t skip, uint64_t len)
{
	const struct block_request *request = task->request;
	if (!task->iov)
		task->iov = calloc((size_t)request->iov_count + 2, sizeof(*task->iov));
	if (!task->iov)
		return false;
	task->iov_count = 0;
	for (unsigned i = 0; i < request->iov_count && len; i++) {
		const struct iovec *from = &request->iov[i];
		if (skip >= from->iov_len) {
			skip -= from->iov_len;
			continue;
		}
		size_t n = from->iov_len - skip < len ? from->iov_len - skip : len;
		task->iov[task->iov_count++] = (struct iovec){(char *)from->iov_base + skip, n};
		skip = 0;
		len -= n;
	}
	return true;
}

int qcow2_take_buffer(struct qcow2_task *task, uint8_t **ret, size_t bytes)
{
	(void)task;
	size_t rounded = (bytes + QCOW2_UNIT_BYTES - 1) / QCOW2_UNIT_BYTES * QCOW2_UNIT_BYTES;
	free(*ret);
	*ret = aligned_alloc(QCOW2_UNIT_BYTES, rounded);
	return *ret ? 0 : -ENOMEM;
}

/* ---- the end ---- */

static void finish(struct qcow2_task *task, int res)
{
	task->res = res;
	qcow2_push(&task->q->finished, task);
}

static void flushed(struct qcow2_task *task)
{
	qcow2_unlock_meta(task);
	finish(task, task->res);
}

/* A commit that began after this was asked for has done it. */
static void flush(struct qcow2_task *task)
{
	if (task->q->last_good_commit > task->commits) {
		task->res = 0;
		flushed(task);
	} else {
		qcow2_commit(task, flushed);
	}
}

static void start_flush(struct qcow2_task *task)
{
	task->commits = task->q->commits_begun;
	qcow2_lock_meta(task, flush);
}

static bool wants_flush(const struct qcow2_task *task)
{
	return task->request->command != BLOCK_READ && (task->request->fua || task->q->writethrough) &&
	       !task->q->block.read_only;
}

/* ---- pieces ---- */

static void next_piece(struct qcow2_task *task)
{
	const struct qcow2 *q = task->q;
	const struct block_request *request = task->request;
	uint64_t slice_bytes = qcow2_slice_entries(q) << q->cluster_bits;
	task->offset = request->offset + task->finished;
	task->bytes = request->bytes - task->finished;
	if (task->bytes == 0) {
		if (wants_flush(task))
			start_flush(task);
		else
			finish(task, 0);
		return;
	}
	if (task->bytes > slice_bytes - task->offset % slice_bytes)
		task->bytes = slice_bytes - task->offset % slice_bytes;
	switch (request->command) {
	case BLOCK_READ:
		qcow2_read_piece(task);
		break;
	case BLOCK_WRITE:
		qcow2_write_piece(task);
		break;
	case BLOCK_WRITE_ZEROES:
		qcow2_zero_piece(task);
		break;
	case BLOCK_DISCARD:
		qcow2_discard_piece(task);
		break;
	case BLOCK_FLUSH:
		break;
	}
}

void qcow2_piece_done(struct qcow2_task *task, int res)
{
	qcow2_unlock_buffer(task);
	qcow2_unlock_range(task);
	if (res < 0) {
		finish(task, res);
		return;
	}
	task->finished += task->bytes;
	qcow2_wake(task, next_piece);
}

void qcow2_submit(struct block *block, struct block_request *request)
{
	struct qcow2 *q = container_of(block, struct qcow2, block);
	struct qcow2_task *task = calloc(1, sizeof(*task));
	if (!task) {
		block_finish_later(request, -ENOMEM);
		return;
	}
	task->q = q;
	task->request = request;
	if (request->command != BLOCK_FLUSH)
		qcow2_wake(task, next_piece);
	else if (block->read_only)
		finish(task, 0);
	else
		qcow2_wake(task, start_flush);
	if (q->running)
		return;
	struct qcow2_queue finished = run_all(q);
	while ((task = qcow2_pop(&finished))) {
		request = task->request;
		int res = task->res;
		destroy_task(task);
		block_finish_later(request, res);
	}
}
