/*
 * Who is at the other end of a stream. passt listens and we connect, again when it has gone. Two machines are
 * alike: whoever finds nobody listening listens itself. When they have met, the socket's name is taken away,
 * so that a third one does not join them, and when one goes the other begins from the start.
 */
#include "net_stream.h"

#include "base/cleanup.h"
#include "base/log.h"

#include <string.h>
#include <sys/stat.h>

#define AGAIN_NS UINT64_C(300000000)

enum { SOCKET_BUFFER_BYTES = 1 << 20 };

static struct err *no_matter(struct err *err)
{
	*err = ERR_INIT;
	return err;
}

/* Large bursts fit then; the default is less than four packets of the largest size. */
static void enlarge(int fd)
{
	const int bytes = SOCKET_BUFFER_BYTES;
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
}

static int new_socket(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	return fd < 0 ? -errno : fd;
}

/* Connecting on a UNIX socket does not wait. The descriptor, or -errno. */
static int try_connect(const struct sockaddr_un *address)
{
	int fd = new_socket();
	if (fd < 0)
		return fd;
	if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0) {
		enlarge(fd);
		return fd;
	}
	(void)close_fd(fd);
	return -errno;
}

/* A socket that nobody listens on was left by a process that was killed. */
static int remove_stale(const char *path, struct err *err)
{
	struct stat file;
	if (lstat(path, &file) < 0)
		return errno == ENOENT ? 0 : err_sys(err, -errno, "socket: %s", path);
	if (!S_ISSOCK(file.st_mode))
		return err_set(err, -EADDRINUSE, "socket: %s: exists and is not a socket", path);
	return unlink(path) < 0 && errno != ENOENT ? err_sys(err, -errno, "socket: %s", path) : 0;
}

static int start_listening(struct net_stream *stream, struct err *err)
{
	const char *path = stream->address.sun_path;
	struct stat file;
	int r = remove_stale(path, err);
	if (r < 0)
		return r;
	_cleanup_close_ int fd = new_socket();
	if (fd < 0)
		return err_sys(err, fd, "socket: %s", path);
	if (bind(fd, (const struct sockaddr *)&stream->address, sizeof(stream->address)) < 0 ||
	    listen(fd, 1) < 0 || lstat(path, &file) < 0)
		return err_sys(err, -errno, "socket: %s", path);
	stream->listen_device = file.st_dev;
	stream->listen_inode = file.st_ino;
	stream->listen_fd = take_fd(&fd);
	return 0;
}

/* Does the name still lead to us? Two that come at once may each take the other's socket for a stale one. */
static bool owns_path(const struct net_stream *stream)
{
	struct stat file;
	return lstat(stream->address.sun_path, &file) == 0 && file.st_dev == stream->listen_device &&
	       file.st_ino == stream->listen_inode;
}

static void stop_listening(struct net_stream *stream)
{
	if (stream->listen_fd < 0)
		return;
	if (stream->base.loop) {
		int fd = loop_release(stream->base.loop, &stream->accept_op);
		if (fd > 0) /* it came in just now */
			(void)close_fd(fd);
	}
	if (owns_path(stream))
		(void)unlink(stream->address.sun_path);
	stream->listen_fd = close_fd(stream->listen_fd);
}

int net_peer_meet(struct net_stream *stream, struct err *err)
{
	const char *path = stream->address.sun_path;
	int fd = try_connect(&stream->address);
	if (fd >= 0) {
		stream->fd = fd;
		return 0;
	}
	if (!stream->may_listen)
		return err_set(err, fd, "passt: %s: %s; start it first: passt --socket %s", path,
			       strerror(-fd), path);
	if (fd == -ENOENT || fd == -ECONNREFUSED)
		return start_listening(stream, err);
	return err_sys(err, fd, "socket: %s", path);
}

/* ---- on the loop ---- */

static void try_again(struct net_stream *stream)
{
	loop_delay(stream->base.loop, &stream->again_op, AGAIN_NS);
}

static void go_on(struct net_stream *stream)
{
	if (stream->fd >= 0) {
		if (stream->complained)
			log_warn("%s: %s: connected again", stream->base.name, stream->address.sun_path);
		stream->complained = false;
		net_stream_connected(stream);
		return;
	}
	if (stream->listen_fd >= 0 && !stream->accept_op.pending)
		loop_accept(stream->base.loop, &stream->accept_op, stream->listen_fd);
	try_again(stream);
}

static void again_done(struct loop_op *op, int res)
{
	struct net_stream *stream = container_of(op, struct net_stream, again_op);
	struct err err;
	(void)res;
	if (stream->fd >= 0)
		return;
	if (stream->listen_fd >= 0 && !owns_path(stream))
		stop_listening(stream);
	if (stream->listen_fd < 0)
		(void)net_peer_meet(stream, no_matter(&err)); /* what is wrong was said; later, perhaps */
	go_on(stream);
}

static void accept_done(struct loop_op *op, int res)
{
	struct net_stream *stream = container_of(op, struct net_stream, accept_op);
	if (res < 0)
		return; /* it has gone already, or descriptors are short: again_op asks again */
	(void)loop_release(stream->base.loop, &stream->again_op);
	stop_listening(stream);
	enlarge(res);
	stream->fd = res;
	go_on(stream);
}

void net_peer_lost(struct net_stream *stream, const char *why)
{
	if (stream->fd < 0)
		return;
	log_warn("%s: %s: the connection is lost (%s); the link is down until it is back", stream->base.name,
		 stream->address.sun_path, why);
	stream->complained = true;
	net_stream_disconnected(stream);
	stream->fd = close_fd(stream->fd);
	try_again(stream);
}

void net_peer_init(struct net_stream *stream)
{
	stream->address.sun_family = AF_UNIX;
	stream->fd = stream->listen_fd = -1;
	stream->accept_op.done = accept_done;
	stream->again_op.done = again_done;
}

void net_peer_start(struct net_stream *stream)
{
	go_on(stream);
}

void net_peer_finish(struct net_stream *stream)
{
	stop_listening(stream);
	if (stream->base.loop)
		(void)loop_release(stream->base.loop, &stream->again_op);
	stream->fd = close_fd(stream->fd);
}
