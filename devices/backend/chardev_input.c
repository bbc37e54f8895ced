/*
 * Input: read when the front end has room for it. What it has no room for is better left where it is: who
 * has the descriptor after us (another aerie, which restores the machine) finds it there. Two things are
 * read ahead, as much as a buffer holds: what a peer that has hung up left behind, so that the next one can
 * come, and a terminal, for the keys that are ours.
 *
 * Descriptors may be blocking (a terminal's flags are shared with the shell), so each read is preceded by a
 * poll that does not wait.
 */
#include "chardev_impl.h"

#include <poll.h>

#define READ_BYTES 4096

static void deliver(struct chardev *chardev)
{
	const struct chardev_user *user = chardev->user;
	if (!user || !user->room || !user->receive)
		return;
	while (chardev->in_head < chardev->in_tail) {
		/* Before the question: if room is made after the answer, receive_ready must find this set. */
		atomic_store(&chardev->held, true);
		size_t room = user->room(chardev->owner), have = chardev->in_tail - chardev->in_head;
		if (room == 0)
			return;
		size_t count = have < room ? have : room;
		user->receive(chardev->owner, chardev->in + chardev->in_head, count);
		chardev->in_head += count;
	}
	atomic_store(&chardev->held, false);
	chardev->in_head = chardev->in_tail = 0;
}

/* 0: nothing to read; POLLIN, and POLLHUP or POLLRDHUP when no more than that will come. */
static short input_events(const struct chardev *chardev)
{
	struct pollfd ready = {.fd = chardev->in_fd, .events = POLLIN | POLLRDHUP};
	return poll(&ready, 1, 0) > 0 ? ready.revents : 0;
}

/* How much may be read now. */
static size_t read_limit(struct chardev *chardev, short events)
{
	const struct chardev_user *user = chardev->user;
	if (chardev->in_tail - chardev->in_head == CHARDEV_INPUT_BYTES)
		return chardev->reads_on ? READ_BYTES : 0;
	if (chardev->reads_on || events & (POLLHUP | POLLRDHUP))
		return READ_BYTES;
	if (!user || !user->room || !user->receive)
		return 0;
	atomic_store(&chardev->held, true); /* before the question, as in deliver */
	size_t room = user->room(chardev->owner);
	return room < READ_BYTES ? room : READ_BYTES;
}

/* Makes one piece of what the buffer has left, at most `limit`. */
static size_t space(struct chardev *chardev, size_t limit)
{
	size_t used = chardev->in_tail - chardev->in_head;
	if (chardev->in_head > 0) {
		memmove(chardev->in, chardev->in + chardev->in_head, used);
		chardev->in_head = 0;
		chardev->in_tail = used;
	}
	size_t left = CHARDEV_INPUT_BYTES - used;
	return left < limit ? left : limit;
}

static void read_some(struct chardev *chardev, size_t limit)
{
	uint8_t excess[256];
	size_t len = space(chardev, limit);
	uint8_t *data = len ? chardev->in + chardev->in_tail : excess;
	ssize_t count = read(chardev->in_fd, data, len ? len : sizeof(excess));
	if (count < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (count <= 0) {
		int code = count < 0 ? -errno : 0;
		if (chardev->kind->hung_up)
			chardev->kind->hung_up(chardev, code);
		else
			chardev_input_disconnect(chardev);
		return;
	}
	size_t kept = (size_t)count;
	if (chardev->kind->filter)
		kept = chardev->kind->filter(chardev, data, kept);
	if (len)
		chardev->in_tail += kept;
}

static void resume(struct chardev *chardev)
{
	short events;
	deliver(chardev);
	while (chardev->in_open && (events = input_events(chardev))) {
		if (chardev->kind->may_read && !chardev->kind->may_read(chardev))
			return;
		size_t limit = read_limit(chardev, events);
		if (limit == 0)
			return;
		read_some(chardev, limit);
		deliver(chardev);
	}
}

void chardev_receive_ready(struct chardev *chardev)
{
	if (atomic_load(&chardev->held))
		loop_post(chardev->loop, &chardev->resume_op);
}

static void resume_posted(struct loop_op *op, int res)
{
	(void)res;
	resume(container_of(op, struct chardev, resume_op));
}

static void readable(struct loop_op *op, int res)
{
	/* An error: what cannot be polled (a plain file) is read when the front end has room. */
	if (res > 0)
		resume(container_of(op, struct chardev, readable_op));
}

void chardev_input_init(struct chardev *chardev)
{
	chardev->readable_op.done = readable;
	chardev->resume_op.done = resume_posted;
}

void chardev_input_connect(struct chardev *chardev, int fd)
{
	chardev->in_fd = fd;
	chardev->in_open = true;
	loop_poll(chardev->loop, &chardev->readable_op, fd, POLLIN | POLLRDHUP);
}

void chardev_input_disconnect(struct chardev *chardev)
{
	loop_release(chardev->loop, &chardev->readable_op);
	chardev->in_open = false;
	chardev->in_fd = -1;
}
