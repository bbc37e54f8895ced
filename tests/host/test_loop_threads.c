/* The event loop and other threads: posts, quits, signals, timers; and hosts that have no ring for us. */
#include "loop_bench.h"

#include <liburing.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

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

struct post_then_release {
	struct loop_op op;
	struct probe *posted;
	struct loop_op *released;
};

static void post_then_release(struct loop_op *op, int res)
{
	struct post_then_release *both = container_of(op, struct post_then_release, op);
	(void)res;
	loop_post(both->posted->loop, &both->posted->op);
	(void)loop_release(both->posted->loop, both->released); /* takes the wake-up too */
}

static void ignore_event(struct loop_op *op, int res)
{
	(void)op, (void)res;
}

START_TEST(a_post_whose_wakeup_a_release_has_taken_is_not_forgotten)
{
	struct loop *loop = new_loop();
	int fds[2];
	new_pipe(fds);
	struct probe posted = probe_on(loop, 1), guard = probe_on(loop, 1);
	struct loop_op poll = {.done = ignore_event};
	struct post_then_release both = {.op.done = post_then_release, .posted = &posted, .released = &poll};
	loop_poll(loop, &poll, fds[0], POLLIN);
	loop_delay(loop, &both.op, 1000000);
	loop_delay(loop, &guard.op, 5000000000);
	ck_assert_int_eq(loop_run(loop), 0);
	ck_assert_uint_eq(guard.calls, 0);
	ck_assert_uint_eq(posted.calls, 1);
	(void)loop_release(loop, &guard.op);
	close_pipe(fds);
	loop_destroy(loop);
}
END_TEST

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
	for (unsigned i = 0; probe.fired == 0 && i < 1000; i++) /* on a busy host the thread begins late */
		run_ms(probe.loop, 10);
	pthread_join(thread, NULL);
	run_ms(probe.loop, 20);
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

TEST_MAIN("loop threads", quit_before_run_returns_at_once, quit_works_from_a_signal_handler,
	  a_posted_op_is_called_once_for_many_posts, an_op_may_post_itself_and_starves_nobody,
	  no_post_of_many_threads_is_lost, a_released_post_leaves_the_others_in_their_list,
	  a_post_wakes_a_loop_that_waits, a_post_whose_wakeup_a_release_has_taken_is_not_forgotten,
	  a_signal_does_not_end_the_run, a_timer_fires_when_armed_by_another_thread,
	  a_host_without_io_uring_is_told_what_to_type, a_run_on_a_foreign_thread_is_refused)
