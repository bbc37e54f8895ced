/*
 * The event loop: one io_uring, one thread that runs it.
 *
 * An operation is a `struct loop_op` embedded in the object that waits for it: zeroed, but for `done`. From
 * its start until `done` is called the loop owns the op and every buffer handed in with it; the owner must
 * neither free nor reuse them. An op does one thing at a time, and can be started again from its own `done`.
 *
 * The thread that creates a loop is the loop's thread: it alone runs it, and unless it says "any thread", a
 * function may be called only there.
 *
 * SIGPIPE should be ignored by the process: a peer that hangs up is then -EPIPE.
 */
#ifndef AERIE_HOST_LOOP_H
#define AERIE_HOST_LOOP_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

struct loop;

struct loop_op {
	/* res: as the system call would return, with -errno for an error; -ECANCELED after loop_cancel. */
	void (*done)(struct loop_op *op, int res);
	bool pending; /* the loop owns the op (not set by loop_post) */

	/* The rest is private to the loop. */
	uint8_t kind;
	bool queued;	/* started, and the kernel has not seen it */
	bool flying;	/* the kernel has it */
	bool ready;	/* its result waits for delivery */
	bool cancelled; /* loop_cancel was called */
	bool posted;	/* under the loop's lock */
	int res;
	int fd;
	uint32_t len; /* bytes, buffers of a vector, or poll events */
	int flags;
	union {
		void *data;
		const void *const_data;
		off_t length;
	};
	union {
		off_t offset;
		struct {
			int64_t seconds;
			long long nanoseconds;
		} delay;
	};
	struct loop_op *next;
};

/* `entries`: operations that can be queued between two system calls, a power of two. */
int loop_create(unsigned entries, struct loop **ret, struct err *err);
void loop_destroy(struct loop *loop); /* NULL is fine; no op may be pending but cancelled ones */

/* Run until loop_quit. Returns 0, or -errno when the ring itself failed. Can be called again afterwards. */
int loop_run(struct loop *loop);
void loop_quit(struct loop *loop); /* any thread, and a signal handler */

/* Call done(op, 0) on the loop's thread, soon. Any thread. An op that is already posted and not yet called is
 * posted once. Posts wake the loop with one eventfd write for many posts. */
void loop_post(struct loop *loop, struct loop_op *op);

/*
 * Report `events` (POLLIN, …) on `fd`, every time anew (multishot) until cancelled; `res` is the revents
 * mask. What is true at the start is reported, then only what happens: read until there is nothing left. A
 * `res` below 0 is the end.
 */
void loop_poll(struct loop *loop, struct loop_op *op, int fd, unsigned events);
void loop_poll_once(struct loop *loop, struct loop_op *op, int fd, unsigned events);
/* One read or write; offset -1 for streams. */
void loop_read(struct loop *loop, struct loop_op *op, int fd, void *buf, size_t len, off_t offset);
void loop_write(struct loop *loop, struct loop_op *op, int fd, const void *buf, size_t len, off_t offset);
/* The same with `count` buffers (at most IOV_MAX) and RWF_ flags. `iov` itself is the loop's until `done`,
 * too. */
void loop_readv(struct loop *loop, struct loop_op *op, int fd, const struct iovec *iov, unsigned count,
		off_t offset, int rw_flags);
void loop_writev(struct loop *loop, struct loop_op *op, int fd, const struct iovec *iov, unsigned count,
		 off_t offset, int rw_flags);
void loop_fsync(struct loop *loop, struct loop_op *op, int fd, bool data_only); /* true: fdatasync */
void loop_fallocate(struct loop *loop, struct loop_op *op, int fd, int mode, off_t offset, off_t len);
/* done(op, res) on the next round, without the kernel: for what is known at once and must not be said from
 * within the call that asked. */
void loop_defer(struct loop *loop, struct loop_op *op, int res);
/* done(-ETIME) once, after `delay_ns`. */
void loop_delay(struct loop *loop, struct loop_op *op, uint64_t delay_ns);
/* One connection from a listening socket; res is the new fd. */
void loop_accept(struct loop *loop, struct loop_op *op, int fd);
/* As the system calls. `address`, `msg` and what it points to are the loop's until `done`. A send or a
 * receive on a socket waits until it can do something, whether the descriptor is non-blocking or not, unless
 * `flags` has MSG_DONTWAIT. */
void loop_connect(struct loop *loop, struct loop_op *op, int fd, const struct sockaddr *address,
		  socklen_t len);
void loop_recv(struct loop *loop, struct loop_op *op, int fd, void *buf, size_t len, int flags);
void loop_send(struct loop *loop, struct loop_op *op, int fd, const void *buf, size_t len, int flags);
void loop_recvmsg(struct loop *loop, struct loop_op *op, int fd, struct msghdr *msg, int flags);
void loop_sendmsg(struct loop *loop, struct loop_op *op, int fd, const struct msghdr *msg, int flags);
/* The op will complete with -ECANCELED or with its result, whichever comes first. Nothing if it is not
 * pending. */
void loop_cancel(struct loop *loop, struct loop_op *op);
/*
 * For destructors: cancel, and wait until the kernel has let go. `done` is not called; what it would have
 * been given is returned, 0 if the op was not pending. A post is withdrawn. Completions of other ops are kept
 * for later.
 */
int loop_release(struct loop *loop, struct loop_op *op);
/* The same, but the op has `most_ns` to come to its own end before it is cancelled. */
int loop_wait(struct loop *loop, struct loop_op *op, uint64_t most_ns);

/*
 * A file that many ops will name: the kernel then looks it up once. Only a hint: after an error (a limit, an
 * old kernel) ops on it work all the same. Unregister it before closing it; no op on it may be pending then.
 */
int loop_register_file(struct loop *loop, int fd);
void loop_unregister_file(struct loop *loop, int fd);
/*
 * Memory that many reads and writes will use: the kernel then finds its pages once. Replaces what was
 * registered before; `count` 0 only takes that back. -errno changes nothing but speed: ENOMEM beyond
 * RLIMIT_MEMLOCK. The pages are pinned, all of them: not for memory that is given back while the loop lives
 * (a balloon, free page reporting) or filled on demand. Memory whose pages were replaced would be read stale.
 */
int loop_register_memory(struct loop *loop, const struct iovec *regions, unsigned count);

/*
 * Busy-polling: before the loop sleeps it looks for work for up to `most_ns`, less when that finds nothing
 * (the window doubles when a short sleep ends, and halves after a long one). 0, the default: never. Pollers
 * are what it looks at besides its own ring: a queue in memory whose owner need not ring a doorbell
 * meanwhile.
 */
struct loop_poller {
	void (*begin)(struct loop_poller *poller); /* no doorbells from now on */
	bool (*poll)(struct loop_poller *poller);  /* do what there is to do; true when there was something */
	bool (*end)(struct loop_poller *poller);   /* doorbells again; as poll, for what came in between */
	struct loop_poller *next;		   /* private to the loop */
};
void loop_set_poll(struct loop *loop, uint64_t most_ns);
void loop_add_poller(struct loop *loop, struct loop_poller *poller); /* not from within a poller */
void loop_remove_poller(struct loop *loop,
			struct loop_poller *poller); /* nor this; nothing if it is not there */

/*
 * A timer that any thread may arm (a vCPU thread that writes a device register, for example).
 * CLOCK_MONOTONIC. The callback runs on the loop's thread. Arming replaces the former deadline; 0 disarms. A
 * callback that was already on its way may still come after a disarm, so owners check their own state under
 * their own lock.
 */
struct loop_timer;
int loop_timer_create(struct loop *loop, void (*fire)(void *owner), void *owner, struct loop_timer **ret,
		      struct err *err);
void loop_timer_destroy(struct loop_timer *timer); /* loop's thread, or loop not running; NULL is fine */
void loop_timer_arm(struct loop_timer *timer, uint64_t deadline_ns); /* any thread */

uint64_t loop_now_ns(void); /* CLOCK_MONOTONIC; any thread */

#endif
