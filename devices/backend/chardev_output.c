/*
 * Output: the front end fills a ring of bytes, the loop's thread writes it out.
 *
 * The first byte after a quiet time is written at once, so that echo feels immediate; from then on a write
 * follows PACE_NS after the last one with all that has come meanwhile, or sooner when the ring is half full.
 * So a guest that prints without pause costs some 250 writes and as many wake-ups a second, whatever its
 * rate. A pause of the machine does not wait for that pace.
 *
 * At most one of write_op and drained_op is pending: there is one write at a time, which keeps the bytes in
 * order.
 */
#include "chardev_impl.h"

#include <fcntl.h>
#include <poll.h>

#define PACE_NS	     4000000ULL
#define FLUSH_NS     20000000ULL
#define FLUSH_END_MS 1000
#define MUCH	     (CHARDEV_OUTPUT_BYTES / 2)

size_t chardev_write(struct chardev *chardev, const void *data, size_t len)
{
	pthread_mutex_lock(&chardev->lock);
	if (!chardev->connected) {
		pthread_mutex_unlock(&chardev->lock);
		return len;
	}
	size_t room = CHARDEV_OUTPUT_BYTES - chardev->out_used, taken = len < room ? len : room;
	size_t tail = (chardev->out_head + chardev->out_used) % CHARDEV_OUTPUT_BYTES;
	size_t first = taken < CHARDEV_OUTPUT_BYTES - tail ? taken : CHARDEV_OUTPUT_BYTES - tail;
	memcpy(chardev->out + tail, data, first);
	memcpy(chardev->out, (const uint8_t *)data + first, taken - first);
	chardev->out_used += taken;
	if (taken < len)
		chardev->blocked = true;
	bool much = chardev->out_used >= MUCH;
	bool tell = taken && (!chardev->asked || (much && !chardev->hurried));
	chardev->asked |= tell;
	chardev->hurried |= much;
	pthread_mutex_unlock(&chardev->lock);
	if (tell)
		loop_post(chardev->loop, &chardev->flush_op);
	return taken;
}

/* `count` bytes have left the buffer. */
static void consume(struct chardev *chardev, size_t count)
{
	pthread_mutex_lock(&chardev->lock);
	chardev->out_head = (chardev->out_head + count) % CHARDEV_OUTPUT_BYTES;
	chardev->out_used -= count;
	chardev->hurried = chardev->out_used >= MUCH;
	bool tell = chardev->blocked && !chardev->hurried;
	if (tell)
		chardev->blocked = false;
	pthread_mutex_unlock(&chardev->lock);
	if (tell && chardev->user && chardev->user->writable)
		chardev->user->writable(chardev->owner);
}

struct piece {
	const uint8_t *data;
	size_t count;
	bool much; /* the ring is half full or more */
};

/* The oldest bytes that lie in one piece. When there are none, the next chardev_write tells us anew. */
static struct piece oldest(struct chardev *chardev)
{
	pthread_mutex_lock(&chardev->lock);
	size_t to_end = CHARDEV_OUTPUT_BYTES - chardev->out_head;
	struct piece piece = {
		.data = chardev->out + chardev->out_head,
		.count = chardev->out_used < to_end ? chardev->out_used : to_end,
		.much = chardev->out_used >= MUCH,
	};
	if (piece.count == 0)
		chardev->asked = false;
	pthread_mutex_unlock(&chardev->lock);
	return piece;
}

static void write_piece(struct chardev *chardev, const struct piece *piece)
{
	chardev->writing = piece->count;
	loop_write(chardev->loop, &chardev->write_op, chardev->out_fd, piece->data, piece->count, -1);
}

static void write_now(struct chardev *chardev)
{
	if (chardev->write_op.pending || chardev->drained_op.pending)
		return;
	struct piece piece = oldest(chardev);
	if (piece.count)
		write_piece(chardev, &piece);
}

static void flush(struct chardev *chardev)
{
	if (chardev->write_op.pending || chardev->drained_op.pending)
		return;
	struct piece piece = oldest(chardev);
	uint64_t due_ns = chardev->last_write_ns + PACE_NS, now_ns = loop_now_ns();
	if (piece.count == 0)
		return;
	if (piece.much || now_ns >= due_ns)
		write_piece(chardev, &piece);
	else if (!chardev->pace_op.pending)
		loop_delay(chardev->loop, &chardev->pace_op, due_ns - now_ns);
}

static void flush_asked(struct loop_op *op, int res)
{
	(void)res;
	flush(container_of(op, struct chardev, flush_op));
}

static void pace_over(struct loop_op *op, int res)
{
	(void)res;
	write_now(container_of(op, struct chardev, pace_op));
}

static void drained(struct loop_op *op, int res)
{
	(void)res;
	write_now(container_of(op, struct chardev, drained_op));
}

/* The bytes of this write are gone; the guest goes on, and the operator is told once. */
static void lose(struct chardev *chardev, int code)
{
	chardev->lost += chardev->writing;
	if (!chardev->complained)
		log_warn("%s: %s; output is lost", chardev->path, strerror(-code));
	chardev->complained = true;
	consume(chardev, chardev->writing);
}

static void wrote(struct loop_op *op, int res)
{
	struct chardev *chardev = container_of(op, struct chardev, write_op);
	if (res == -EAGAIN) { /* the descriptor is non-blocking, perhaps by somebody else's wish */
		loop_poll_once(chardev->loop, &chardev->drained_op, chardev->out_fd, POLLOUT);
		return;
	}
	if (res == -EINTR || res == -ECANCELED) {
		write_now(chardev);
		return;
	}
	chardev->last_write_ns = loop_now_ns();
	if (res > 0) {
		consume(chardev, (size_t)res);
	} else if (chardev->kind->hung_up) {
		chardev->kind->hung_up(chardev, res);
		return;
	} else {
		lose(chardev, res ? res : -EIO);
	}
	flush(chardev);
}

/* Each op goes on as it does when the loop calls it, with the pace left out. */
void chardev_flush(struct chardev *chardev)
{
	uint64_t end_ns = loop_now_ns() + FLUSH_NS, now_ns;
	do {
		write_now(chardev);
		struct loop_op *op = chardev->write_op.pending ? &chardev->write_op : &chardev->drained_op;
		if (!op->pending)
			return;
		now_ns = loop_now_ns();
		op->done(op, loop_wait(chardev->loop, op, now_ns < end_ns ? end_ns - now_ns : 0));
	} while (now_ns < end_ns);
}

void chardev_output_init(struct chardev *chardev)
{
	pthread_mutex_init(&chardev->lock, NULL);
	chardev->flush_op.done = flush_asked;
	chardev->pace_op.done = pace_over;
	chardev->write_op.done = wrote;
	chardev->drained_op.done = drained;
}

/*
 * Plain files are appended to, ours and the one that stdout or stderr may be. Without O_APPEND a write that
 * is cut short (a full disk) leaves the file's position where it was: io_uring of Linux 6.18 forgets to
 * advance it when it has tried the rest itself, and the next write would overwrite what is there.
 */
static void append_to_plain_file(int fd)
{
	struct stat file;
	int flags = fcntl(fd, F_GETFL);
	if (flags >= 0 && fstat(fd, &file) == 0 && S_ISREG(file.st_mode))
		(void)fcntl(fd, F_SETFL, flags | O_APPEND);
}

void chardev_output_connect(struct chardev *chardev, int fd)
{
	append_to_plain_file(fd);
	chardev->out_fd = fd;
	pthread_mutex_lock(&chardev->lock);
	chardev->connected = true;
	pthread_mutex_unlock(&chardev->lock);
}

/* Take all ops back from the loop. */
static void stop(struct chardev *chardev)
{
	loop_release(chardev->loop, &chardev->flush_op);
	loop_release(chardev->loop, &chardev->pace_op);
	loop_release(chardev->loop, &chardev->drained_op);
	int res = loop_release(chardev->loop, &chardev->write_op);
	if (res > 0)
		consume(chardev, (size_t)res);
}

void chardev_output_disconnect(struct chardev *chardev)
{
	pthread_mutex_lock(&chardev->lock);
	chardev->connected = false; /* nobody adds to the ring from here on */
	pthread_mutex_unlock(&chardev->lock);
	stop(chardev);
	pthread_mutex_lock(&chardev->lock);
	size_t left = chardev->out_used;
	chardev->asked = false;
	pthread_mutex_unlock(&chardev->lock);
	consume(chardev, left);
	chardev->out_fd = -1;
}

static void write_out(struct chardev *chardev)
{
	uint64_t end_ns = loop_now_ns() + FLUSH_END_MS * 1000000ULL, now_ns;
	struct piece piece;
	while ((piece = oldest(chardev)).count && (now_ns = loop_now_ns()) < end_ns) {
		struct pollfd ready = {.fd = chardev->out_fd, .events = POLLOUT};
		if (poll(&ready, 1, (int)((end_ns - now_ns) / 1000000) + 1) <= 0)
			continue;
		ssize_t done = write(chardev->out_fd, piece.data, piece.count);
		if (done > 0) {
			consume(chardev, (size_t)done);
		} else if (done == 0 || (errno != EAGAIN && errno != EINTR)) {
			chardev->writing = piece.count;
			lose(chardev, done ? -errno : -EIO);
		}
	}
	chardev->lost += chardev->out_used;
}

void chardev_output_finish(struct chardev *chardev)
{
	stop(chardev);
	if (chardev->out_fd < 0 || !chardev->out_used)
		return;
	/* A terminal on hold, or a pipe that nobody reads, must not keep us. */
	int flags = fcntl(chardev->out_fd, F_GETFL);
	(void)fcntl(chardev->out_fd, F_SETFL, flags | O_NONBLOCK);
	write_out(chardev);
	(void)fcntl(chardev->out_fd, F_SETFL, flags);
}
