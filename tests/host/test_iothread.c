/* I/O threads: what include/host/iothread.h promises. */
#include "base/cleanup.h"
#include "base/log.h"
#include "harness.h"
#include "host/iothread.h"

#include <dlfcn.h>
#include <errno.h>
#include <liburing.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

/* These take the place of liburing's functions, and fail when a test wants them to. */
static _Atomic int create_fails, wait_fails;

int io_uring_queue_init_params(unsigned entries, struct io_uring *ring, struct io_uring_params *params)
{
	int (*real)(unsigned, struct io_uring *, struct io_uring_params *);
	void *symbol = dlsym(RTLD_NEXT, "io_uring_queue_init_params");
	memcpy(&real, &symbol, sizeof(real));
	return create_fails ? create_fails : real(entries, ring, params);
}

int io_uring_submit_and_wait(struct io_uring *ring, unsigned count)
{
	int (*real)(struct io_uring *, unsigned);
	void *symbol = dlsym(RTLD_NEXT, "io_uring_submit_and_wait");
	memcpy(&real, &symbol, sizeof(real));
	return wait_fails ? wait_fails : real(ring, count);
}

static struct iothread *new_thread(void)
{
	struct iothread *thread = NULL;
	struct err err = ERR_INIT;
	ck_assert_msg(iothread_create("io7-with-a-long-name", &thread, &err) == 0, "%s", err.text);
	return thread;
}

struct place {
	pthread_t thread;
	char name[16];
	sigset_t blocked;
	unsigned calls;
};

static int look_around(void *arg)
{
	struct place *place = arg;
	place->thread = pthread_self();
	(void)pthread_getname_np(pthread_self(), place->name, sizeof(place->name));
	(void)pthread_sigmask(SIG_BLOCK, NULL, &place->blocked);
	place->calls++;
	return -EDOM;
}

START_TEST(a_call_runs_on_the_thread_and_brings_its_result)
{
	struct iothread *thread = new_thread();
	struct place first = {0}, second = {0};
	ck_assert_int_eq(iothread_call(thread, look_around, &first), -EDOM);
	ck_assert_int_eq(iothread_call(thread, look_around, &second), -EDOM);
	ck_assert_int_eq((int)first.calls, 1);
	ck_assert(!pthread_equal(first.thread, pthread_self()));
	ck_assert(pthread_equal(first.thread, second.thread));
	ck_assert_str_eq(first.name, "io7-with-a-long");
	ck_assert(sigismember(&first.blocked, SIGTERM) && sigismember(&first.blocked, SIGALRM));
	iothread_destroy(thread);
	iothread_destroy(NULL);
}
END_TEST

START_TEST(the_creator_keeps_its_signal_mask)
{
	sigset_t before, after;
	(void)pthread_sigmask(SIG_BLOCK, NULL, &before);
	iothread_destroy(new_thread());
	(void)pthread_sigmask(SIG_BLOCK, NULL, &after);
	for (int signal = 1; signal < SIGRTMIN; signal++)
		ck_assert_int_eq(sigismember(&before, signal), sigismember(&after, signal));
}
END_TEST

struct delay {
	struct loop_op op;
	struct loop *loop;
	_Atomic int res;
};

static void delay_done(struct loop_op *op, int res)
{
	container_of(op, struct delay, op)->res = res;
}

static int delay_start(void *arg)
{
	struct delay *delay = arg;
	loop_delay(delay->loop, &delay->op, 1000000);
	return 0;
}

START_TEST(its_loop_is_used_from_its_thread)
{
	struct iothread *thread = new_thread();
	struct delay delay = {.op.done = delay_done, .loop = iothread_loop(thread)};
	ck_assert_int_eq(iothread_call(thread, delay_start, &delay), 0);
	for (unsigned ms = 0; delay.res == 0 && ms < 10000; ms++)
		usleep(1000);
	ck_assert_int_eq(delay.res, -ETIME);
	iothread_destroy(thread);
}
END_TEST

static int increment(void *arg)
{
	return (int)++*(unsigned *)arg; /* without an atomic: it is one thread that does it */
}

struct caller {
	pthread_t pthread;
	struct iothread *thread;
	unsigned *counter;
};

static void *call_often(void *arg)
{
	struct caller *caller = arg;
	for (unsigned i = 0; i < 1000; i++)
		if (iothread_call(caller->thread, increment, caller->counter) <= 0)
			return NULL;
	return caller;
}

START_TEST(many_threads_call_at_once)
{
	struct iothread *thread = new_thread();
	struct caller callers[4];
	unsigned counter = 0;
	for (size_t i = 0; i < ARRAY_LEN(callers); i++) {
		callers[i] = (struct caller){.thread = thread, .counter = &counter};
		ck_assert_int_eq(pthread_create(&callers[i].pthread, NULL, call_often, &callers[i]), 0);
	}
	for (size_t i = 0; i < ARRAY_LEN(callers); i++) {
		void *ret;
		ck_assert_int_eq(pthread_join(callers[i].pthread, &ret), 0);
		ck_assert_ptr_eq(ret, &callers[i]);
	}
	ck_assert_int_eq((int)counter, 4000);
	iothread_destroy(thread);
}
END_TEST

START_TEST(a_loop_that_cannot_be_made_is_an_error_with_the_name)
{
	struct iothread *thread = NULL;
	struct err err = ERR_INIT;
	create_fails = -ENOMEM;
	ck_assert_int_eq(iothread_create("io0", &thread, &err), -ENOMEM);
	create_fails = 0;
	ck_assert_ptr_null(thread);
	ck_assert_msg(strncmp(err.text, "io0: io_uring: ", 15) == 0, "%s", err.text);
}
END_TEST

START_TEST(a_lost_ring_hangs_nobody)
{
	struct iothread *thread = new_thread();
	struct place place = {0};
	ck_assert_int_eq(iothread_call(thread, look_around, &place), -EDOM);
	int saved = dup(STDERR_FILENO);
	ck_assert_ptr_nonnull(freopen("/dev/null", "w", stderr)); /* the message is not for the test's log */
	wait_fails = -EBADF;
	(void)iothread_call(thread, look_around, &place); /* may still be served: the loop is in its wait */
	ck_assert_int_eq(iothread_call(thread, look_around, &place), -EBADF);
	ck_assert_int_eq(iothread_call(thread, look_around, &place), -EBADF);
	iothread_destroy(thread);
	wait_fails = 0;
	(void)dup2(saved, STDERR_FILENO);
	close(saved);
}
END_TEST

TEST_MAIN("iothread", a_call_runs_on_the_thread_and_brings_its_result, the_creator_keeps_its_signal_mask,
	  its_loop_is_used_from_its_thread, many_threads_call_at_once,
	  a_loop_that_cannot_be_made_is_an_error_with_the_name, a_lost_ring_hangs_nobody)
