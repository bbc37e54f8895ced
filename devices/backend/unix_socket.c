#include "unix_socket.h"

#include "base/cleanup.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

int unix_socket_remove_stale(const struct sockaddr_un *address, struct err *err)
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
