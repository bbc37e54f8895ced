/* What the tests of the event loop share: an op that remembers, and loops that run for a while. */
#ifndef AERIE_TESTS_HOST_LOOP_BENCH_H
#define AERIE_TESTS_HOST_LOOP_BENCH_H

#include "base/cleanup.h"
#include "harness.h"
#include "host/loop.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* An op that counts, remembers its last result and ends the loop when it has seen enough. */
struct probe {
	struct loop_op op;
	struct loop *loop;
	unsigned calls;
	unsigned enough; /* quit at this many calls; 0 never */
	int res;
	int drain_fd; /* read empty on each call; -1 none */
};

static inline void probe_done(struct loop_op *op, int res)
{
	struct probe *probe = container_of(op, struct probe, op);
	char buf[256];
	probe->calls++;
	probe->res = res;
	if (probe->drain_fd >= 0 && read(probe->drain_fd, buf, sizeof(buf)) < 0)
		ck_assert_int_eq(errno, EAGAIN);
	if (probe->calls == probe->enough)
		loop_quit(probe->loop);
}

static inline struct probe probe_on(struct loop *loop, unsigned enough)
{
	return (struct probe){.op.done = probe_done, .loop = loop, .enough = enough, .drain_fd = -1};
}

static inline struct loop *new_loop(void)
{
	struct loop *loop = NULL;
	struct err err = ERR_INIT;
	ck_assert_msg(loop_create(64, &loop, &err) == 0, "%s", err.text);
	return loop;
}

static inline void run_ms(struct loop *loop, unsigned ms)
{
	struct probe stop = probe_on(loop, 1);
	loop_delay(loop, &stop.op, ms * 1000000ULL);
	ck_assert_int_eq(loop_run(loop), 0);
	ck_assert_int_eq(stop.res, -ETIME);
}

static inline void new_pipe(int fds[2])
{
	ck_assert_int_eq(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
}

static inline void close_pipe(int fds[2])
{
	close(fds[0]);
	close(fds[1]);
}

#endif
