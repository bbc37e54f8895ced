/* What the loop's files share: the loop itself (loop.c), what an op says to the kernel (loop_ops.c), what
 * this kernel's ring can do (loop_ring.c). */
#ifndef AERIE_HOST_LOOP_IMPL_H
#define AERIE_HOST_LOOP_IMPL_H

#include "host/loop.h"

#include <liburing.h>
#include <pthread.h>

#define NSEC_PER_SEC 1000000000ULL

enum loop_op_kind {
	OP_POLL,
	OP_POLL_ONCE,
	OP_READ,
	OP_WRITE,
	OP_READV,
	OP_WRITEV,
	OP_FSYNC,
	OP_FALLOCATE,
	OP_DELAY,
	OP_DEFER,
	OP_ACCEPT,
	OP_CONNECT,
	OP_RECV,
	OP_SEND,
	OP_RECVMSG,
	OP_SENDMSG,
};

enum { LOOP_FILES_MAX = 1024, LOOP_BUFFERS_MAX = 1024 };

struct op_list {
	struct loop_op *first, *last;
	unsigned count;
};

struct loop {
	struct io_uring ring;
	bool started; /* the wake_op flies */
	struct op_list queued, ready;

	/* Registered files: slot N of the kernel's table is descriptor N, when its bit is set. */
	unsigned file_slots; /* 0: no table (yet) */
	bool files_refused;  /* this kernel or a limit does not allow it: do not ask again */
	uint64_t files[LOOP_FILES_MAX / 64];
	/* Registered memory, by address, as the kernel numbers it. */
	struct iovec *buffers;
	unsigned buffer_count;

	/* Busy-polling. */
	struct loop_poller *pollers;
	uint64_t poll_most_ns, poll_ns; /* the window: at most, and now */

	_Atomic bool quit;
	int wake_fd; /* an eventfd: posts, and loop_quit */
	uint64_t wake_count;
	struct loop_op wake_op;

	pthread_mutex_t lock;	/* of what follows */
	struct op_list posted;	/* since the loop last looked */
	struct op_list posting; /* those that the loop is working on */
	bool woken;		/* wake_fd was written since then */
};

void loop_start(struct loop *loop, struct loop_op *op, enum loop_op_kind kind); /* queues it */
void loop_prepare(const struct loop *loop, struct io_uring_sqe *sqe, struct loop_op *op);

void loop_reap(struct loop *loop); /* take the results that the kernel has left to the ready list */

/* Look for work as long as the window allows; true when there is some, and the loop should not sleep. */
bool loop_busy_poll(struct loop *loop);
void loop_slept(struct loop *loop, uint64_t ns); /* what the window is judged by */

/* Opens the best ring that this kernel has; the reason of a failure in words. */
int loop_ring_open(unsigned entries, struct io_uring *ring, struct err *err);

#endif
