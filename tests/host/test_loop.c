/* The event loop: what include/host/loop.h promises of operations, on the rings of older kernels too. */
#include "loop_bench.h"

#include <dlfcn.h>
#include <liburing.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

/*
 * An older kernel: this takes the place of liburing's function, and refuses the flags that such a kernel does
 * not know.
 */
static unsigned unknown_flags;

int io_uring_queue_init_params(unsigned entries, struct io_uring *ring, struct io_uring_params *params)
{
	int (*real)(unsigned, struct io_uring *, struct io_uring_params *);
	void *symbol = dlsym(RTLD_NEXT, "io_uring_queue_init_params");
	memcpy(&real, &symbol, sizeof(real));
	return params->flags & unknown_flags ? -EINVAL : real(entries, ring, params);
}

START_TEST(a_multishot_poll_reports_each_event)
{
	struct loop *loop = new_loop();
	int fds[2];
	new_pipe(fds);
	struct probe probe = probe_on(loop, 0);
	probe.drain_fd = fds[0];
	loop_poll(loop, &probe.op, fds[0], POLLIN);
	run_ms(loop, 2);
	ck_assert_uint_eq(probe.calls, 0);
	for (unsigned i = 1; i <= 5; i++) {
		ck_assert_int_eq(write(fds[1], "x", 1), 1);
		run_ms(loop, 2);
		ck_assert_uint_eq(probe.calls, i);
		ck_assert_int_eq(probe.res, POLLIN);
		ck_assert(probe.op.pending);
	}
	loop_cancel(loop, &probe.op);
	loop_cancel(loop, &probe.op); /* twice is once */
	run_ms(loop, 2);
	ck_assert_uint_eq(probe.calls, 6);
	ck_assert_int_eq(probe.res, -ECANCELED);
	ck_assert(!probe.op.pending);
	close_pipe(fds);
	loop_destroy(loop);
}
END_TEST

START_TEST(a_poll_once_reports_once)
{
	struct loop *loop = new_loop();
	int fds[2];
	new_pipe(fds);
	struct probe probe = probe_on(loop, 0);
	loop_poll_once(loop, &probe.op, fds[1], POLLOUT);
	run_ms(loop, 5);
	ck_assert_uint_eq(probe.calls, 1);
	ck_assert_int_eq(probe.res, POLLOUT);
	ck_assert(!probe.op.pending);
	close_pipe(fds);
	loop_destroy(loop);
}
END_TEST

START_TEST(a_poll_on_a_closed_descriptor_ends_with_its_error)
{
	struct loop *loop = new_loop();
	struct probe probe = probe_on(loop, 1);
	loop_poll(loop, &probe.op, 9999, POLLIN);
	ck_assert_int_eq(loop_run(loop), 0);
	ck_assert_int_eq(probe.res, -EBADF);
	ck_assert(!probe.op.pending);
	loop_destroy(loop);
}
END_TEST

START_TEST(read_and_write_move_bytes_at_their_offsets)
{
	struct loop *loop = new_loop();
	int fd = memfd_create("loop", MFD_CLOEXEC);
	struct probe probe = probe_on(loop, 1);
	loop_write(loop, &probe.op, fd, "hello", 5, 100);
	ck_assert_int_eq(loop_run(loop), 0);
	ck_assert_int_eq(probe.res, 5);
	char buf[16] = "";
	probe = probe_on(loop, 1);
	loop_read(loop, &probe.op, fd, buf, sizeof(buf), 101);
	ck_assert_int_eq(loop_run(loop), 0);
	ck_assert_int_eq(probe.res, 4);
	ck_assert_str_eq(buf, "ello");
	close(fd);
	loop_destroy(loop);
}
END_TEST

START_TEST(errors_of_a_write_are_its_result)
{
	struct loop *loop = new_loop();
	int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
	struct probe probe = probe_on(loop, 1);
	loop_write(loop, &probe.op, fd, "x", 1, -1);
	ck_assert_int_eq(loop_run(loop), 0);
	ck_assert_int_eq(probe.res, -ENOSPC);
	close(fd);
	loop_destroy(loop);
}
END_TEST

START_TEST(many_more_ops_than_entries_may_start_before_the_run)
{
	enum { COUNT = 500 }; /* the ring has 64 */
	struct loop *loop = new_loop();
	struct probe probes[COUNT];
	int fds[2];
	new_pipe(fds);
	for (int i = 0; i < COUNT; i++) {
		probes[i] = probe_on(loop, 0);
		loop_poll(loop, &probes[i].op, fds[0], POLLIN);
	}
	run_ms(loop, 5);
	ck_assert_int_eq(write(fds[1], "x", 1), 1);
	run_ms(loop, 20);
	for (int i = 0; i < COUNT; i++)
		ck_assert_uint_ge(probes[i].calls, 1);
	for (int i = 0; i < COUNT; i++)
		loop_cancel(loop, &probes[i].op);
	run_ms(loop, 20);
	for (int i = 0; i < COUNT; i++)
		ck_assert(!probes[i].op.pending && probes[i].res == -ECANCELED);
	close_pipe(fds);
	loop_destroy(loop);
}
END_TEST

START_TEST(an_op_cancelled_before_the_run_is_told)
{
	struct loop *loop = new_loop();
	struct probe probe = probe_on(loop, 1);
	loop_delay(loop, &probe.op, 3600ULL * 1000000000ULL);
	loop_cancel(loop, &probe.op);
	ck_assert_uint_eq(probe.calls, 0); /* never from within loop_cancel */
	ck_assert_int_eq(loop_run(loop), 0);
	ck_assert_int_eq(probe.res, -ECANCELED);
	loop_cancel(loop, &probe.op); /* not pending: nothing */
	run_ms(loop, 1);
	ck_assert_uint_eq(probe.calls, 1);
	loop_destroy(loop);
}
END_TEST

START_TEST(release_takes_back_every_kind_without_a_call)
{
	struct loop *loop = new_loop();
	int fds[2], listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un any = {.sun_family = AF_UNIX};
	ck_assert_int_eq(bind(listener, (struct sockaddr *)&any, sizeof(sa_family_t)), 0);
	ck_assert_int_eq(listen(listener, 1), 0);
	ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
	static char buf[8];
	for (int round = 0; round < 2; round++) { /* 0: never run, 1: in the kernel */
		struct probe poll = probe_on(loop, 0), once = poll, read = poll, delay = poll, accept = poll,
			     post = poll;
		loop_poll(loop, &poll.op, fds[0], POLLIN);
		loop_poll_once(loop, &once.op, fds[0], POLLIN);
		loop_read(loop, &read.op, fds[0], buf, sizeof(buf), -1);
		loop_delay(loop, &delay.op, 3600ULL * 1000000000ULL);
		loop_accept(loop, &accept.op, listener);
		if (round == 1)
			run_ms(loop, 5);
		loop_post(loop, &post.op);
		ck_assert_int_eq(loop_release(loop, &poll.op), -ECANCELED);
		ck_assert_int_eq(loop_release(loop, &once.op), -ECANCELED);
		int res = loop_release(loop, &read.op);
		ck_assert(res == -ECANCELED || res == -EINTR);
		ck_assert_int_eq(loop_release(loop, &delay.op), -ECANCELED);
		ck_assert_int_eq(loop_release(loop, &accept.op), -ECANCELED);
		ck_assert_int_eq(loop_release(loop, &post.op), 0);
		ck_assert_int_eq(loop_release(loop, &post.op), 0); /* nothing to release */
		run_ms(loop, 5);
		ck_assert_uint_eq(
			poll.calls + once.calls + read.calls + delay.calls + accept.calls + post.calls, 0);
		ck_assert(!poll.op.pending && !read.op.pending);
	}
	close_pipe(fds);
	close(listener);
	loop_destroy(loop);
}
END_TEST

START_TEST(release_keeps_what_others_completed)
{
	struct loop *loop = new_loop();
	struct probe held = probe_on(loop, 0), other = probe_on(loop, 0);
	int fds[2];
	new_pipe(fds);
	loop_delay(loop, &held.op, 3600ULL * 1000000000ULL);
	loop_poll_once(loop, &other.op, fds[0], POLLIN);
	run_ms(loop, 1);
	ck_assert_int_eq(write(fds[1], "x", 1), 1); /* the other's result lies in the ring */
	ck_assert_int_eq(loop_release(loop, &held.op), -ECANCELED);
	ck_assert_uint_eq(other.calls, 0);
	run_ms(loop, 1);
	ck_assert_uint_eq(other.calls, 1);
	ck_assert_int_eq(other.res, POLLIN);
	close_pipe(fds);
	loop_destroy(loop);
}
END_TEST

START_TEST(wait_gives_an_op_its_time)
{
	struct loop *loop = new_loop();
	int fds[2];
	static char bytes[65536 + 1], got[8];
	ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
	struct probe other = probe_on(loop, 0), write = other, read = other;
	loop_delay(loop, &other.op, 1000000);
	loop_write(loop, &write.op, fds[1], "abc", 3, -1);
	ck_assert_int_eq(loop_wait(loop, &write.op, 1000000000), 3); /* it was not even handed over */
	ck_assert(!write.op.pending);
	loop_read(loop, &read.op, fds[0], got, sizeof(got), -1);
	run_ms(loop, 5); /* its result waits, or has been told */
	ck_assert_uint_eq(read.calls, 1);
	ck_assert_mem_eq(got, "abc", 3);
	uint64_t start_ns = loop_now_ns();
	loop_read(loop, &read.op, fds[0], got, sizeof(got), -1);
	int res = loop_wait(loop, &read.op, 20000000);
	ck_assert(res == -ECANCELED || res == -EINTR);
	ck_assert_uint_ge(loop_now_ns() - start_ns, 20000000);
	loop_write(loop, &write.op, fds[1], bytes, sizeof(bytes), -1);
	ck_assert_int_eq(loop_wait(loop, &write.op, 20000000), 65536); /* as far as it came */
	ck_assert_int_eq(loop_wait(loop, &write.op, 20000000), 0);     /* nothing to wait for */
	run_ms(loop, 5);
	ck_assert_uint_eq(other.calls, 1); /* kept meanwhile */
	ck_assert_uint_eq(write.calls + read.calls, 1);
	close_pipe(fds);
	loop_destroy(loop);
}
END_TEST

/* Without DEFER_TASKRUN the kernel reports at each system call, so that two reports can lie in the ring. */
START_TEST(reports_that_pile_up_are_one_call_with_all_events)
{
	unknown_flags = IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN;
	struct loop *loop = new_loop();
	static char bytes[4096];
	int fds[2];
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
	while (write(fds[0], bytes, sizeof(bytes)) > 0)
		;
	struct probe probe = probe_on(loop, 0);
	loop_poll(loop, &probe.op, fds[0], POLLIN | POLLOUT);
	run_ms(loop, 2);
	ck_assert_uint_eq(probe.calls, 0);
	ck_assert_int_eq(write(fds[1], "x", 1), 1);
	ck_assert_int_eq(read(fds[0], bytes, 1), 1); /* no longer readable, but it was reported */
	while (read(fds[1], bytes, sizeof(bytes)) > 0)
		;
	run_ms(loop, 2);
	ck_assert_int_eq(probe.res & POLLOUT, POLLOUT);
	ck_assert_uint_ge(probe.calls, 1);

	/* A report that lies there when the poll is cancelled is no call any more. */
	unsigned calls = probe.calls;
	ck_assert_int_eq(write(fds[1], "x", 1), 1);
	loop_cancel(loop, &probe.op);
	run_ms(loop, 5);
	ck_assert_uint_eq(probe.calls, calls + 1);
	ck_assert_int_eq(probe.res, -ECANCELED);
	close_pipe(fds);
	loop_destroy(loop);
	unknown_flags = 0;
}
END_TEST

static struct probe rivals[2];

/* Whoever is called first cancels the other, whose report lies there already. */
static void cancel_rival(struct loop_op *op, int res)
{
	probe_done(op, res);
	if (res > 0)
		loop_cancel(rivals[0].loop, op == &rivals[0].op ? &rivals[1].op : &rivals[0].op);
}

START_TEST(a_report_that_a_cancel_overtakes_is_not_delivered)
{
	struct loop *loop = new_loop();
	int fds[2];
	new_pipe(fds);
	for (int i = 0; i < 2; i++) {
		rivals[i] = probe_on(loop, 0);
		rivals[i].op.done = cancel_rival;
		loop_poll(loop, &rivals[i].op, fds[0], POLLIN);
	}
	run_ms(loop, 2);
	ck_assert_int_eq(write(fds[1], "x", 1), 1);
	run_ms(loop, 5);
	struct probe *winner = rivals[0].res > 0 ? &rivals[0] : &rivals[1];
	struct probe *loser = winner == &rivals[0] ? &rivals[1] : &rivals[0];
	ck_assert_int_eq(winner->res, POLLIN);
	ck_assert_uint_eq(winner->calls, 1);
	ck_assert_int_eq(loser->res, -ECANCELED);
	ck_assert_uint_eq(loser->calls, 1);
	loop_release(loop, &winner->op);
	close_pipe(fds);
	loop_destroy(loop);
}
END_TEST

START_TEST(accept_gives_a_connection)
{
	struct loop *loop = new_loop();
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	socklen_t len = sizeof(address);
	ck_assert_int_eq(bind(listener, (struct sockaddr *)&address, sizeof(sa_family_t)), 0);
	ck_assert_int_eq(getsockname(listener, (struct sockaddr *)&address, &len), 0);
	ck_assert_int_eq(listen(listener, 1), 0);
	struct probe probe = probe_on(loop, 1);
	loop_accept(loop, &probe.op, listener);
	int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_eq(connect(client, (struct sockaddr *)&address, len), 0);
	ck_assert_int_eq(loop_run(loop), 0);
	ck_assert_int_ge(probe.res, 0);
	ck_assert_int_eq(fcntl(probe.res, F_GETFD), FD_CLOEXEC);
	close(probe.res);
	close(client);
	close(listener);
	loop_destroy(loop);
}
END_TEST

START_TEST(older_kernels_do_with_what_they_have)
{
	static const unsigned lacking[] = {
		IORING_SETUP_DEFER_TASKRUN,
		IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SINGLE_ISSUER,
		IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN,
	};
	for (size_t i = 0; i < ARRAY_LEN(lacking); i++) {
		unknown_flags = lacking[i];
		a_multishot_poll_reports_each_event_fn(0);
		release_takes_back_every_kind_without_a_call_fn(0);
		many_more_ops_than_entries_may_start_before_the_run_fn(0);
	}
	unknown_flags = 0;
	struct loop *loop = NULL;
	struct err err = ERR_INIT;
	int res = loop_create(0, &loop, &err); /* no entries: every mode refuses */
	ck_assert_int_eq(res, -EINVAL);
	ck_assert_str_eq(err.text, "io_uring: Invalid argument");
}
END_TEST

TEST_MAIN("loop", a_multishot_poll_reports_each_event, a_poll_once_reports_once,
	  a_poll_on_a_closed_descriptor_ends_with_its_error, read_and_write_move_bytes_at_their_offsets,
	  errors_of_a_write_are_its_result, many_more_ops_than_entries_may_start_before_the_run,
	  an_op_cancelled_before_the_run_is_told, release_takes_back_every_kind_without_a_call,
	  release_keeps_what_others_completed, wait_gives_an_op_its_time,
	  reports_that_pile_up_are_one_call_with_all_events,
	  a_report_that_a_cancel_overtakes_is_not_delivered, accept_gives_a_connection,
	  older_kernels_do_with_what_they_have)
