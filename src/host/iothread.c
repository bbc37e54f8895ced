/*
 * A thread that owns a loop. It makes the loop itself, since a loop belongs to the thread that made it, and
 * destroys it when it has run.
 */
#include "host/iothread.h"

#include "base/cleanup.h"
#include "base/log.h"

#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>

enum { LOOP_ENTRIES = 256, NAME_BYTES = 16 };

struct iothread {
	pthread_t thread;
	char name[NAME_BYTES]; /* what pthread_setname_np takes */
	struct loop *loop;     /* set before iothread_create returns */
	struct err *err;       /* of the creator, until it returns */

	pthread_mutex_t lock; /* of what follows, and of the calls under way */
	pthread_cond_t changed;
	bool stands;   /* the loop was made, or could not be: see res */
	int res;       /* of making the loop; then of running it */
	bool quitting; /* the loop may end */
};

/* Lives on the caller's stack. */
struct call {
	struct loop_op op;
	struct iothread *thread;
	int (*fn)(void *arg);
	void *arg;
	int res;
	bool done;
};

static void say_it_stands(struct iothread *thread, int res)
{
	pthread_mutex_lock(&thread->lock);
	thread->stands = true;
	thread->res = res;
	pthread_cond_broadcast(&thread->changed);
	pthread_mutex_unlock(&thread->lock);
}

/*
 * A ring that the kernel no longer serves is the end of all devices on this thread, not of the machine: it
 * goes on until the operator sees the message, and nobody waits for a call that will not come.
 */
static void run(struct iothread *thread)
{
	int res = loop_run(thread->loop);
	pthread_mutex_lock(&thread->lock);
	if (res < 0 && !thread->quitting)
		log_error("%s: its io_uring failed: %s; the devices on it are dead", thread->name,
			  strerror(-res));
	thread->res = res;
	pthread_cond_broadcast(&thread->changed);
	while (!thread->quitting) /* the loop stays in existence for those who post to it */
		pthread_cond_wait(&thread->changed, &thread->lock);
	pthread_mutex_unlock(&thread->lock);
}

static void *thread_main(void *arg)
{
	struct iothread *thread = arg;
	(void)pthread_setname_np(pthread_self(), thread->name);
	int res = loop_create(LOOP_ENTRIES, &thread->loop, thread->err);
	say_it_stands(thread, res);
	if (res < 0)
		return NULL;
	run(thread);
	loop_destroy(thread->loop);
	return NULL;
}

/* Signals are for the thread that reads them, not for whichever the kernel picks. */
static int start(struct iothread *thread)
{
	sigset_t all, old;
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_BLOCK, &all, &old);
	int res = -pthread_create(&thread->thread, NULL, thread_main, thread);
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	return res;
}

static void release(struct iothread *thread)
{
	pthread_cond_destroy(&thread->changed);
	pthread_mutex_destroy(&thread->lock);
	free(thread);
}

int iothread_create(const char *name, struct iothread **ret, struct err *err)
{
	struct iothread *thread = calloc(1, sizeof(*thread));
	if (!thread)
		return err_sys(err, -ENOMEM, "%s", name);
	thread->err = err;
	strncpy(thread->name, name, sizeof(thread->name) - 1);
	pthread_mutex_init(&thread->lock, NULL);
	pthread_cond_init(&thread->changed, NULL);
	int res = start(thread);
	if (res < 0) {
		release(thread);
		return err_sys(err, res, "%s: thread", name);
	}
	pthread_mutex_lock(&thread->lock);
	while (!thread->stands)
		pthread_cond_wait(&thread->changed, &thread->lock);
	res = thread->res;
	thread->err = NULL;
	pthread_mutex_unlock(&thread->lock);
	if (res < 0) {
		(void)pthread_join(thread->thread, NULL);
		release(thread);
		return err_prepend(err, "%s", name);
	}
	*ret = thread;
	return 0;
}

void iothread_destroy(struct iothread *thread)
{
	if (!thread)
		return;
	pthread_mutex_lock(&thread->lock);
	thread->quitting = true;
	pthread_cond_broadcast(&thread->changed);
	loop_quit(thread->loop); /* under the lock: the thread destroys the loop as soon as it may */
	pthread_mutex_unlock(&thread->lock);
	(void)pthread_join(thread->thread, NULL);
	release(thread);
}

struct loop *iothread_loop(struct iothread *thread)
{
	return thread->loop;
}

static void call_done(struct loop_op *op, int res)
{
	struct call *call = container_of(op, struct call, op);
	struct iothread *thread = call->thread;
	(void)res;
	call->res = call->fn(call->arg);
	pthread_mutex_lock(&thread->lock);
	call->done = true;
	pthread_cond_broadcast(&thread->changed);
	pthread_mutex_unlock(&thread->lock);
}

int iothread_call(struct iothread *thread, int (*fn)(void *arg), void *arg)
{
	assert(!pthread_equal(pthread_self(), thread->thread));
	struct call call = {.op.done = call_done, .thread = thread, .fn = fn, .arg = arg};
	loop_post(thread->loop, &call.op);
	pthread_mutex_lock(&thread->lock);
	while (!call.done && thread->res == 0)
		pthread_cond_wait(&thread->changed, &thread->lock);
	bool done = call.done;
	int res = done ? call.res : thread->res;
	pthread_mutex_unlock(&thread->lock);
	if (!done) /* nobody runs the loop any more: take our op back from its list */
		(void)loop_release(thread->loop, &call.op);
	return res;
}
