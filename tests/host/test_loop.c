/* The event loop: what include/host/loop.h promises. */
#include "base/cleanup.h"
#include "harness.h"
#include "host/loop.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

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

/* An op that counts, remembers its last result and ends the loop when it has seen enough. */
struct probe {
	struct loop_op op;
	struct loop *loop;
	unsigned calls;
	unsigned enough; /* quit at this many calls; 0 never */
	int res;
	int drain_fd; /* read empty on each call; -1 none */
};

static void probe_done(struct loop_op *op, int res)
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

static struct probe probe_on(struct loop *loop, unsigned enough)
{
	return (struct probe){.op.done = probe_done, .loop = loop, .enough = enough, .drain_fd = -1};
}

static struct loop *new_loop(void)
{
	struct loop *loop = NULL;
	struct err err = ERR_INIT;
	ck_assert_msg(loop_create(64, &loop, &err) == 0, "%s", err.text);
	return loop;
}

static void run_ms(struct loop *loop, unsigned ms)
{
	struct probe stop = probe_on(loop, 1);
	loop_delay(loop, &stop.op, ms * 1000000ULL);
	ck_assert_int_eq(loop_run(loop), 0);
	ck_assert_int_eq(stop.res, -ETIME);
}

static void new_pipe(int fds[2])
{
	ck_assert_int_eq(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
}

static void close_pipe(int fds[2])
{
	close(fds[0]);
	close(fds[1]);
}

START_TEST(quit_before_run_returns_at_once)
{
	struct loop *loop = new_loop();
	loop_quit(loop);
	ck_assert_int_eq(loop_run(loop), 0);
	run_ms(loop, 1); /* and it can run again */
	loop_destroy(loop);
	loop_destroy(NULL);
}
END_TEST

static struct loop *signalled_loop;

static void on_alarm(int signal)
{
	(void)signal;
	loop_quit(signalled_loop);
}

START_TEST(quit_works_from_a_signal_handler)
{
	signalled_loop = new_loop();
	struct sigaction old, action = {.sa_handler = on_alarm};
	sigaction(SIGALRM, &action, &old);
	ualarm(20000, 0);
	ck_assert_int_eq(loop_run(signalled_loop), 0);
	sigaction(SIGALRM, &old, NULL);
	loop_destroy(signalled_loop);
}
END_TEST

START_TEST(a_posted_op_is_called_once_for_many_posts)
{
	struct loop *loop = new_loop();
	struct probe probe = probe_on(loop, 0);
	for (int i = 0; i < 1000; i++)
		loop_post(loop, &probe.op);
	run_ms(loop, 5);
	ck_assert_uint_eq(probe.calls, 1);
	loop_post(loop, &probe.op);
	run_ms(loop, 5);
	ck_assert_uint_eq(probe.calls, 2);
	loop_destroy(loop);
}
END_TEST

static void repost(struct loop_op *op, int res)
{
	struct probe *probe = container_of(op, struct probe, op);
	(void)res;
	if (++probe->calls == probe->enough)
		loop_quit(probe->loop);
	else
		loop_post(probe->loop, op);
}

START_TEST(an_op_may_post_itself_and_starves_nobody)
{
	struct loop *loop = new_loop();
	struct probe self = probe_on(loop, 0), delay = probe_on(loop, 1);
	self.op.done = repost;
	loop_post(loop, &self.op);
	loop_delay(loop, &delay.op, 5000000);
	ck_assert_int_eq(loop_run(loop), 0);
	ck_assert_uint_eq(delay.calls, 1);
	ck_assert_uint_gt(self.calls, 1);
	loop_release(loop, &self.op);
	loop_destroy(loop);
}
END_TEST

enum { POSTERS = 4, POSTS = 5000 };

struct poster {
	struct probe probe;
	pthread_t thread;
	unsigned counter; /* plain: loop_post must order it before the callback */
	unsigned seen;
};

static void poster_done(struct loop_op *op, int res)
{
	struct poster *poster = container_of(op, struct poster, probe.op);
	(void)res;
	poster->probe.calls++;
	poster->seen = __atomic_load_n(&poster->counter, __ATOMIC_RELAXED);
}

static void *poster_main(void *arg)
{
	struct poster *poster = arg;
	for (unsigned i = 1; i <= POSTS; i++) {
		__atomic_store_n(&poster->counter, i, __ATOMIC_RELAXED);
		loop_post(poster->probe.loop, &poster->probe.op);
	}
	return NULL;
}

static void *quit_when_joined(void *arg)
{
	struct poster *posters = arg;
	for (int i = 0; i < POSTERS; i++)
		pthread_join(posters[i].thread, NULL);
	loop_quit(posters[0].probe.loop);
	return NULL;
}

START_TEST(no_post_of_many_threads_is_lost)
{
	struct loop *loop = new_loop();
	struct poster posters[POSTERS];
	memset(posters, 0, sizeof(posters));
	for (int i = 0; i < POSTERS; i++) {
		posters[i].probe = probe_on(loop, 0);
		posters[i].probe.op.done = poster_done;
		ck_assert_int_eq(pthread_create(&posters[i].thread, NULL, poster_main, &posters[i]), 0);
	}
	pthread_t quitter;
	ck_assert_int_eq(pthread_create(&quitter, NULL, quit_when_joined, posters), 0);
	ck_assert_int_eq(loop_run(loop), 0);
	pthread_join(quitter, NULL);
	run_ms(loop, 1); /* what was posted just before the quit */
	for (int i = 0; i < POSTERS; i++) {
		ck_assert_uint_eq(posters[i].seen, POSTS);
		ck_assert_uint_ge(posters[i].probe.calls, 1);
	}
	loop_destroy(loop);
}
END_TEST

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
	loop_delay(loop, &held.op, 3600ULL * 1000000000ULL);
	loop_delay(loop, &other.op, 100000000);
	run_ms(loop, 1);
	usleep(110000); /* the other's result lies in the ring */
	ck_assert_int_eq(loop_release(loop, &held.op), -ECANCELED);
	ck_assert_uint_eq(other.calls, 0);
	run_ms(loop, 1);
	ck_assert_uint_eq(other.calls, 1);
	loop_destroy(loop);
}
END_TEST

START_TEST(a_released_post_leaves_the_others_in_their_list)
{
	struct loop *loop = new_loop();
	struct probe probes[3] = {probe_on(loop, 0), probe_on(loop, 0), probe_on(loop, 0)};
	for (int gone = 0; gone < 3; gone++) {
		loop_post(loop, &probes[0].op);
		loop_post(loop, &probes[1].op);
		loop_release(loop, &probes[gone % 2].op);
		loop_post(loop, &probes[2].op);
		run_ms(loop, 2);
	}
	ck_assert_uint_eq(probes[0].calls, 1);
	ck_assert_uint_eq(probes[1].calls, 2);
	ck_assert_uint_eq(probes[2].calls, 3);
	loop_destroy(loop);
}
END_TEST

static void *post_late(void *arg)
{
	struct probe *probe = arg;
	usleep(20000);
	loop_post(probe->loop, &probe->op);
	return NULL;
}

START_TEST(a_post_wakes_a_loop_that_waits)
{
	struct loop *loop = new_loop();
	struct probe probe = probe_on(loop, 0);
	for (unsigned i = 1; i <= 3; i++) {
		pthread_t thread;
		probe.enough = i;
		pthread_create(&thread, NULL, post_late, &probe);
		ck_assert_int_eq(loop_run(loop), 0); /* nothing else would end it */
		pthread_join(thread, NULL);
	}
	loop_destroy(loop);
}
END_TEST

static void ignore_signal(int signal)
{
	(void)signal;
}

START_TEST(a_signal_does_not_end_the_run)
{
	struct loop *loop = new_loop();
	struct sigaction old, action = {.sa_handler = ignore_signal};
	sigaction(SIGALRM, &action, &old);
	ualarm(10000, 10000);
	run_ms(loop, 100); /* which checks that it took its time */
	ualarm(0, 0);
	sigaction(SIGALRM, &old, NULL);
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

struct clock_probe {
	struct loop *loop;
	_Atomic unsigned fired;
	uint64_t at_ns;
	struct loop_timer *destroy; /* from its own callback */
};

static void clock_fired(void *owner)
{
	struct clock_probe *probe = owner;
	probe->at_ns = loop_now_ns();
	probe->fired++;
	loop_timer_destroy(probe->destroy);
}

static void *arm_main(void *arg)
{
	loop_timer_arm(arg, loop_now_ns() + 10000000);
	return NULL;
}

START_TEST(a_timer_fires_when_armed_by_another_thread)
{
	struct clock_probe probe = {.loop = new_loop()};
	struct err err = ERR_INIT;
	struct loop_timer *timer;
	ck_assert_int_eq(loop_timer_create(probe.loop, clock_fired, &probe, &timer, &err), 0);
	run_ms(probe.loop, 5);
	ck_assert_uint_eq(probe.fired, 0);
	uint64_t before = loop_now_ns();
	pthread_t thread;
	pthread_create(&thread, NULL, arm_main, timer);
	run_ms(probe.loop, 60);
	pthread_join(thread, NULL);
	ck_assert_uint_eq(probe.fired, 1);
	ck_assert_uint_ge(probe.at_ns - before, 10000000);

	loop_timer_arm(timer, loop_now_ns() + 10000000);
	loop_timer_arm(timer, 0);
	run_ms(probe.loop, 20);
	ck_assert_uint_eq(probe.fired, 1); /* disarmed */

	loop_timer_arm(timer, 1);
	usleep(1000);
	loop_timer_arm(timer, 0); /* it was over, and nobody had looked */
	run_ms(probe.loop, 5);
	ck_assert_uint_eq(probe.fired, 1);

	loop_timer_arm(timer, 1);
	run_ms(probe.loop, 5);
	ck_assert_uint_eq(probe.fired, 2); /* a deadline in the past is now */

	probe.destroy = timer;
	loop_timer_arm(timer, 1);
	run_ms(probe.loop, 5);
	ck_assert_uint_eq(probe.fired, 3);
	loop_timer_destroy(NULL);
	loop_destroy(probe.loop);
}
END_TEST

/* In a child whose io_uring_setup fails with `code`: the message that loop_create gives. */
static void refused_message(int code, char *text, size_t size)
{
	int fds[2];
	ck_assert_int_eq(pipe(fds), 0);
	pid_t child = fork();
	if (child == 0) {
		struct sock_filter filter[] = {
			BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
			BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
			BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)code),
			BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		};
		struct sock_fprog program = {.len = ARRAY_LEN(filter), .filter = filter};
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
		prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
		struct loop *loop = NULL;
		struct err err = ERR_INIT;
		int res = loop_create(64, &loop, &err);
		ssize_t done = res == -code && !loop ? write(fds[1], err.text, strlen(err.text)) : 0;
		_exit(done > 0 ? 0 : 1);
	}
	close(fds[1]);
	ssize_t len = read(fds[0], text, size - 1);
	text[len > 0 ? len : 0] = 0;
	close(fds[0]);
	int status;
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_int_eq(status, 0);
}

START_TEST(a_host_without_io_uring_is_told_what_to_type)
{
	char text[512];
	refused_message(EPERM, text, sizeof(text));
	ck_assert_ptr_nonnull(strstr(text, "sysctl kernel.io_uring_disabled=0"));
	refused_message(ENOSYS, text, sizeof(text));
	ck_assert_ptr_nonnull(strstr(text, "CONFIG_IO_URING"));
	refused_message(ENOMEM, text, sizeof(text));
	ck_assert_ptr_nonnull(strstr(text, "ulimit -l"));
	refused_message(EMFILE, text, sizeof(text));
	ck_assert_ptr_nonnull(strstr(text, "Too many open files"));
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
		no_post_of_many_threads_is_lost_fn(0);
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

static void *run_main(void *arg)
{
	return (void *)(intptr_t)loop_run(arg);
}

/* The ring belongs to the thread that made it: another one gets an error, and does not hang. */
START_TEST(a_run_on_a_foreign_thread_is_refused)
{
	struct loop *loop = new_loop();
	struct io_uring_params params = {.flags = IORING_SETUP_SINGLE_ISSUER};
	struct io_uring ring;
	pthread_t thread;
	void *res = NULL;
	if (io_uring_queue_init_params(4, &ring, &params) == 0) { /* Linux 6.0 and later */
		io_uring_queue_exit(&ring);
		ck_assert_int_eq(pthread_create(&thread, NULL, run_main, loop), 0);
		pthread_join(thread, &res);
		ck_assert_int_eq((int)(intptr_t)res, -EEXIST);
	}
	loop_destroy(loop);
}
END_TEST

TEST_MAIN("loop", quit_before_run_returns_at_once, quit_works_from_a_signal_handler,
	  a_posted_op_is_called_once_for_many_posts, an_op_may_post_itself_and_starves_nobody,
	  no_post_of_many_threads_is_lost, a_multishot_poll_reports_each_event, a_poll_once_reports_once,
	  a_poll_on_a_closed_descriptor_ends_with_its_error, read_and_write_move_bytes_at_their_offsets,
	  errors_of_a_write_are_its_result, many_more_ops_than_entries_may_start_before_the_run,
	  an_op_cancelled_before_the_run_is_told, release_takes_back_every_kind_without_a_call,
	  release_keeps_what_others_completed, a_report_that_a_cancel_overtakes_is_not_delivered,
	  accept_gives_a_connection, a_released_post_leaves_the_others_in_their_list,
	  a_post_wakes_a_loop_that_waits, a_signal_does_not_end_the_run,
	  reports_that_pile_up_are_one_call_with_all_events, a_timer_fires_when_armed_by_another_thread,
	  older_kernels_do_with_what_they_have, a_run_on_a_foreign_thread_is_refused,
	  a_host_without_io_uring_is_told_what_to_type)
