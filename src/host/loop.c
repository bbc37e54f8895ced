/*
 * The event loop over io_uring.
 *
 * An op moves through lists: `queued` (started; the kernel has not seen it), then the kernel (`flying`), then
 * `ready` (its result waits), then its `done`. Starting an op only appends to a list, so that any number of
 * ops can be started before loop_run, and all that one round of callbacks starts goes to the
 * kernel with the one io_uring_enter that also waits.
 *
 * The thread that creates the loop also runs it: SINGLE_ISSUER binds the ring to it. (A ring created disabled
 * could be bound later, but enabling one waits for a grace period of the kernel, which costs milliseconds at
 * start-up.)
 */
#include "loop_impl.h"

#include "base/cleanup.h"
#include "base/log.h"

#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>

enum { HALVES_FROM = 24 }; /* ops that are worth a system call and perhaps an interrupt more */

/* ---- lists ---- */

static void list_push(struct op_list *list, struct loop_op *op)
{
	op->next = NULL;
	if (list->first)
		list->last->next = op;
	else
		list->first = op;
	list->last = op;
	list->count++;
}

static struct loop_op *list_pop(struct op_list *list)
{
	struct loop_op *op = list->first;
	if (op) {
		list->first = op->next;
		list->count--;
	}
	return op;
}

static bool list_remove(struct op_list *list, struct loop_op *op)
{
	struct loop_op *before = NULL;
	for (struct loop_op *at = list->first; at; before = at, at = at->next) {
		if (at != op)
			continue;
		if (before)
			before->next = op->next;
		else
			list->first = op->next;
		if (list->last == op)
			list->last = before;
		list->count--;
		return true;
	}
	return false;
}

/* ---- the ring ---- */

void loop_reap(struct loop *loop)
{
	struct io_uring_cqe *cqe;
	while (io_uring_peek_cqe(&loop->ring, &cqe) == 0) {
		struct loop_op *op = io_uring_cqe_get_data(cqe);
		int res = cqe->res;
		bool more = cqe->flags & IORING_CQE_F_MORE;
		io_uring_cqe_seen(&loop->ring, cqe);
		if (!op)
			continue; /* the answer to a cancellation: the op itself tells all */
		op->flying = more;
		if (op->ready) { /* a poll reported again before its last report was delivered */
			op->res = res < 0 ? res : op->res | res;
			continue;
		}
		op->res = res;
		op->ready = true;
		list_push(&loop->ready, op);
	}
}

/* A submission entry for now; when the queue is full, the kernel takes what is there. */
static struct io_uring_sqe *entry(struct loop *loop)
{
	struct io_uring_sqe *sqe;
	while (!(sqe = io_uring_get_sqe(&loop->ring))) {
		if (io_uring_submit(&loop->ring) < 0)
			loop_reap(loop); /* -EBUSY: it wants results taken first */
	}
	return sqe;
}

/*
 * What the page cache has, the kernel does while it takes it. A long queue of that in one piece leaves
 * whoever waits for the results idle until all are there, and then us until he asks for more. So it goes in
 * halves, and when the first has its results at once, they are told before the second goes.
 */
static void hand_over_queued(struct loop *loop)
{
	struct loop_op *op;
	unsigned rest = loop->queued.count >= HALVES_FROM ? loop->queued.count / 2 : 0;
	while ((op = list_pop(&loop->queued))) {
		op->queued = false;
		op->flying = true;
		loop_prepare(loop, entry(loop), op);
		if (rest == 0 || loop->queued.count != rest)
			continue;
		(void)io_uring_submit(&loop->ring); /* should it fail, so does the next one, and is heard */
		loop_reap(loop);
		if (loop->ready.first)
			return;
	}
}

static int ring_lost(int res)
{
	return res >= 0 || res == -EINTR || res == -EAGAIN || res == -EBUSY || res == -ETIME ? 0 : res;
}

/* Submit, wait for `results` of them at least, and take what there is. 0, or -errno when the ring is lost. */
static int submit_and_wait(struct loop *loop, unsigned results)
{
	int res = io_uring_submit_and_wait(&loop->ring, results);
	loop_reap(loop);
	return ring_lost(res);
}

/* The same for one result, which may take `most_ns` to come. */
static int submit_and_wait_for(struct loop *loop, uint64_t most_ns)
{
	struct __kernel_timespec most = {(int64_t)(most_ns / NSEC_PER_SEC),
					 (long long)(most_ns % NSEC_PER_SEC)};
	struct io_uring_cqe *first;
	int res = io_uring_submit_and_wait_timeout(&loop->ring, &first, 1, &most, NULL);
	loop_reap(loop);
	return ring_lost(res);
}

void loop_start(struct loop *loop, struct loop_op *op, enum loop_op_kind kind)
{
	op->kind = (uint8_t)kind;
	op->pending = op->queued = true;
	op->cancelled = false;
	list_push(&loop->queued, op);
}

static void deliver(struct loop *loop)
{
	struct loop_op *op;
	while ((op = list_pop(&loop->ready))) {
		int res = op->res;
		op->ready = false;
		if (op->kind == OP_POLL && op->cancelled) {
			if (op->flying)
				continue; /* an event that was under way; the end is still to come */
			res = -ECANCELED;
		}
		if (!op->flying) {
			op->pending = false;
			/* The kernel ends a multishot poll when it runs short of something. */
			if (op->kind == OP_POLL && res >= 0)
				loop_start(loop, op, OP_POLL);
		}
		op->done(op, res); /* may free op */
	}
}

/* ---- operations that need no kernel ---- */

void loop_defer(struct loop *loop, struct loop_op *op, int res)
{
	op->kind = OP_DEFER;
	op->pending = op->ready = true;
	op->cancelled = false;
	op->res = res;
	list_push(&loop->ready, op);
}

void loop_cancel(struct loop *loop, struct loop_op *op)
{
	if (!op->pending || op->cancelled)
		return;
	op->cancelled = true;
	if (op->queued) {
		list_remove(&loop->queued, op);
		op->queued = false;
		op->res = -ECANCELED;
		if (!op->ready)
			list_push(&loop->ready, op);
		op->ready = true;
	} else if (op->flying) {
		struct io_uring_sqe *sqe = entry(loop);
		io_uring_prep_cancel(sqe, op, 0);
		io_uring_sqe_set_data(sqe, NULL);
	}
}

int loop_release(struct loop *loop, struct loop_op *op)
{
	pthread_mutex_lock(&loop->lock);
	if (op->posted && !list_remove(&loop->posted, op))
		list_remove(&loop->posting, op);
	op->posted = false;
	pthread_mutex_unlock(&loop->lock);

	if (!op->pending)
		return 0;
	loop_cancel(loop, op);
	while (op->flying) {
		int res = submit_and_wait(loop, 1);
		if (res == 0)
			continue;
		/* The kernel may still write to memory that our caller is about to free: there is no way on.
		 */
		log_error("event loop: cannot take back an operation (%s)", strerror(-res));
		abort();
	}
	if (op->ready)
		list_remove(&loop->ready, op);
	op->pending = op->ready = false;
	return op->res;
}

int loop_wait(struct loop *loop, struct loop_op *op, uint64_t most_ns)
{
	uint64_t end_ns = loop_now_ns() + most_ns, now_ns;
	int res = 0;
	while (op->queued)
		hand_over_queued(loop);
	while (res == 0 && op->flying && (now_ns = loop_now_ns()) < end_ns)
		res = submit_and_wait_for(loop, end_ns - now_ns);
	return loop_release(loop, op);
}

/* ---- other threads ---- */

static void wake(struct loop *loop)
{
	uint64_t one = 1;
	while (write(loop->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

static void wake_done(struct loop_op *op, int res)
{
	struct loop *loop = container_of(op, struct loop, wake_op);
	(void)res; /* the posts are looked at on every round, whatever woke us */
	loop_read(loop, op, loop->wake_fd, &loop->wake_count, sizeof(loop->wake_count), -1);
}

void loop_post(struct loop *loop, struct loop_op *op)
{
	pthread_mutex_lock(&loop->lock);
	bool must_wake = false;
	if (!op->posted) {
		op->posted = true;
		list_push(&loop->posted, op);
		must_wake = !loop->woken;
		loop->woken = true;
	}
	pthread_mutex_unlock(&loop->lock);
	if (must_wake)
		wake(loop);
}

static void deliver_posts(struct loop *loop)
{
	pthread_mutex_lock(&loop->lock);
	loop->posting = loop->posted;
	loop->posted = (struct op_list){NULL, NULL, 0};
	loop->woken = false;
	struct loop_op *op;
	while ((op = list_pop(&loop->posting))) {
		op->posted = false;
		pthread_mutex_unlock(&loop->lock);
		op->done(op, 0); /* may free op, or post it again for the next round */
		pthread_mutex_lock(&loop->lock);
	}
	pthread_mutex_unlock(&loop->lock);
}

void loop_quit(struct loop *loop)
{
	int saved = errno; /* for a signal handler's sake */
	atomic_store(&loop->quit, true);
	wake(loop);
	errno = saved;
}

/*
 * Is there something to do before the kernel has news? A post's wake-up may have been taken already, by an
 * op's `done` that released another op: then nothing else will tell of it.
 */
static bool has_work(struct loop *loop)
{
	pthread_mutex_lock(&loop->lock);
	bool posts = loop->posted.first;
	pthread_mutex_unlock(&loop->lock);
	return posts || loop->ready.first;
}

static int poll_or_sleep(struct loop *loop)
{
	if (loop->poll_ns && !loop->ready.first) {
		int res = submit_and_wait(loop, 0);
		if (res < 0 || loop->ready.first || loop_busy_poll(loop))
			return res;
	}
	if (has_work(loop))
		return submit_and_wait(loop, 0);
	uint64_t start = loop_now_ns();
	int res = submit_and_wait(loop, 1);
	loop_slept(loop, loop_now_ns() - start);
	return res;
}

int loop_run(struct loop *loop)
{
	if (!loop->started) {
		loop->started = true;
		wake_done(&loop->wake_op, 0);
	}
	int res = 0;
	while (res == 0) {
		deliver_posts(loop);
		deliver(loop);
		if (atomic_exchange(&loop->quit, false))
			break;
		hand_over_queued(loop); /* may take results on the way, when the submission queue is short */
		res = loop->poll_most_ns ? poll_or_sleep(loop)
					 : submit_and_wait(loop, has_work(loop) ? 0 : 1);
	}
	return res;
}

/* ---- life ---- */

int loop_create(unsigned entries, struct loop **ret, struct err *err)
{
	_cleanup_close_ int wake_fd = eventfd(0, EFD_CLOEXEC);
	if (wake_fd < 0)
		return err_sys(err, -errno, "eventfd");
	_cleanup_free_ struct loop *loop = calloc(1, sizeof(*loop));
	if (!loop)
		return err_sys(err, -ENOMEM, "event loop");
	int res = loop_ring_open(entries, &loop->ring, err);
	if (res < 0)
		return res;
	pthread_mutex_init(&loop->lock, NULL);
	loop->wake_op.done = wake_done;
	loop->wake_fd = take_fd(&wake_fd);
	*ret = take_ptr(loop);
	return 0;
}

void loop_destroy(struct loop *loop)
{
	if (!loop)
		return;
	/* Linux lets go of an unregistered file as much as a second later; this waits until it has, so that
	 * whoever comes next finds a disk free. */
	if (loop->file_slots)
		(void)io_uring_unregister_files(&loop->ring);
	io_uring_queue_exit(&loop->ring);
	free(loop->buffers);
	close_fd(loop->wake_fd);
	pthread_mutex_destroy(&loop->lock);
	free(loop);
}

uint64_t loop_now_ns(void)
{
	struct timespec ts;
	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}
