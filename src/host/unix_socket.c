#include "host/unix_socket.h"

#include "base/cleanup.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static int remove_stale(const struct sockaddr_un *address, struct err *err)
{
	struct stat file;
	const char *path = address->sun_path;
	if (lstat(path, &file) < 0)
		return errno == ENOENT ? 0 : err_sys(err, -errno, "%s", path);
	if (!S_ISSOCK(file.st_mode))
		return err_set(err, -EADDRINUSE, "%s: exists and is not a socket", path);
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_sys(err, -errno, "%s", path);
	if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 || errno != ECONNREFUSED)
		return err_set(err, -EADDRINUSE, "%s: another process listens there", path);
	return unlink(path) < 0 && errno != ENOENT ? err_sys(err, -errno, "%s", path) : 0;
}

int unix_socket_address(const char *path, struct sockaddr_un *ret, struct err *err)
{
	*ret = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof(ret->sun_path))
		return err_set(err, -ENAMETOOLONG, "%s: a socket's path has at most %zu characters", path,
			       sizeof(ret->sun_path) - 1);
	memcpy(ret->sun_path, path, strlen(path) + 1);
	return 0;
}

/*
 * Between bind and listen who connects is refused, which says that nobody is there: to a client that has
 * waited for the file, and to another aerie, which would take its place. So the file gets its name when the
 * socket listens; until then it has another. (In a path too long for that the moment remains.)
 */
static int bind_and_listen(int fd, const struct sockaddr_un *address, int backlog, struct err *err)
{
	const char *path = address->sun_path;
	struct sockaddr_un first = *address;
	int len = snprintf(first.sun_path, sizeof(first.sun_path), "%s.%d", path, (int)getpid());
	bool fits = len < (int)sizeof(first.sun_path);
	if (!fits)
		first = *address;
	int r = fits ? remove_stale(&first, err) : 0;
	if (r < 0)
		return r;
	if (bind(fd, (const struct sockaddr *)&first, sizeof(first)) < 0)
		return err_sys(err, -errno, "%s", path);
	r = listen(fd, backlog) < 0 || (fits && link(first.sun_path, path) < 0) ? -errno : 0;
	if (r < 0 || fits)
		(void)unlink(first.sun_path);
	return r < 0 ? err_sys(err, r == -EEXIST ? -EADDRINUSE : r, "%s", path) : 0;
}

int unix_socket_listen(const char *path, mode_t mode, int backlog, struct unix_listener *ret, struct err *err)
{
	struct sockaddr_un address;
	struct stat file;
	*ret = (struct unix_listener){.fd = -1, .path = path};
	int r = unix_socket_address(path, &address, err);
	if (r == 0)
		r = remove_stale(&address, err);
	if (r < 0)
		return r;
	/* The file that bind makes gets the mode of the socket itself (unix(7)), so there is no moment in
	 * which others could connect. */
	ret->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (ret->fd < 0 || fchmod(ret->fd, mode) < 0)
		return err_sys(err, -errno, "%s", path);
	r = bind_and_listen(ret->fd, &address, backlog, err);
	if (r == 0 && lstat(path, &file) == 0) {
		ret->device = file.st_dev;
		ret->inode = file.st_ino;
	}
	return r;
}

void unix_socket_unlisten(struct unix_listener *listener)
{
	struct stat file;
	listener->fd = close_fd(listener->fd);
	if (listener->inode && lstat(listener->path, &file) == 0 && file.st_dev == listener->device &&
	    file.st_ino == listener->inode)
		(void)unlink(listener->path);
	listener->inode = 0;
}
