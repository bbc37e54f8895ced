/* A timer for the event loop that any thread may arm: a timerfd, since the ring belongs to the loop's thread.
 */
#include "host/loop.h"

#include "base/cleanup.h"

#include <poll.h>
#include <sys/timerfd.h>

#define NSEC_PER_SEC 1000000000ULL

struct loop_timer {
	struct loop *loop;
	int fd;
	void (*fire)(void *owner);
	void *owner;
	struct loop_op op;
};

static void timer_ready(struct loop_op *op, int res)
{
	struct loop_timer *timer = container_of(op, struct loop_timer, op);
	uint64_t count;
	/* Nothing to read: it was armed anew or disarmed meanwhile. */
	if (res > 0 && read(timer->fd, &count, sizeof(count)) == sizeof(count))
		timer->fire(timer->owner); /* may destroy timer */
}

int loop_timer_create(struct loop *loop, void (*fire)(void *owner), void *owner, struct loop_timer **ret,
		      struct err *err)
{
	_cleanup_close_ int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (fd < 0)
		return err_sys(err, -errno, "timerfd");
	struct loop_timer *timer = malloc(sizeof(*timer));
	if (!timer)
		return err_sys(err, -ENOMEM, "timer");
	*timer = (struct loop_timer){
		.loop = loop, .fd = take_fd(&fd), .fire = fire, .owner = owner, .op.done = timer_ready};
	loop_poll(loop, &timer->op, timer->fd, POLLIN);
	*ret = timer;
	return 0;
}

void loop_timer_destroy(struct loop_timer *timer)
{
	if (!timer)
		return;
	loop_release(timer->loop, &timer->op);
	close_fd(timer->fd);
	free(timer);
}

void loop_timer_arm(struct loop_timer *timer, uint64_t deadline_ns)
{
	struct itimerspec when = {.it_value = {.tv_sec = (time_t)(deadline_ns / NSEC_PER_SEC),
					       .tv_nsec = (long)(deadline_ns % NSEC_PER_SEC)}};
	/* Cannot fail: the descriptor is ours and the value is normalised. */
	(void)timerfd_settime(timer->fd, TFD_TIMER_ABSTIME, &when, NULL);
}
