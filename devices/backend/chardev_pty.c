/*
 * A pseudo-terminal: aerie holds the master, a person opens the slave (screen /dev/pts/3).
 *
 * While nobody has the slave open, output is dropped, and the master reports a hang-up all the time; so it is
 * not polled then but looked at a few times a second.
 */
#include "chardev_impl.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>

#define LOOK_AGAIN_NS 200000000ULL

static void look_later(struct chardev *chardev)
{
	loop_delay(chardev->loop, &chardev->pty.look, LOOK_AGAIN_NS);
}

static void look(struct loop_op *op, int res)
{
	struct chardev *chardev = container_of(op, struct chardev, pty.look);
	struct pollfd state = {.fd = chardev->pty.master_fd, .events = POLLIN};
	(void)res;
	if (poll(&state, 1, 0) > 0 && (state.revents & (POLLHUP | POLLERR))) {
		look_later(chardev);
		return;
	}
	chardev_output_connect(chardev, chardev->pty.master_fd);
	chardev_input_connect(chardev, chardev->pty.master_fd);
}

/* EIO: the last one who had the slave open has closed it. */
static void slave_closed(struct chardev *chardev, int code)
{
	(void)code;
	chardev_input_disconnect(chardev);
	chardev_output_disconnect(chardev);
	look_later(chardev);
}

/* Bytes pass as they are until somebody sets the slave otherwise: an echo would answer the guest's own login
 * prompt. */
static int prepare_slave(const char *name)
{
	struct termios raw;
	/* Opened and closed once, the pty knows that it has no slave: before, the master looks connected. */
	_cleanup_close_ int slave_fd = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (slave_fd < 0 || tcgetattr(slave_fd, &raw) < 0)
		return -errno;
	cfmakeraw(&raw);
	return tcsetattr(slave_fd, TCSANOW, &raw) < 0 ? -errno : 0;
}

/* The link takes the place of an older link in one step; anything else there is the operator's and stays. */
static int make_link(const char *path, const char *name, struct err *err)
{
	struct stat old;
	char fresh[PATH_MAX];
	if (lstat(path, &old) == 0 && !S_ISLNK(old.st_mode))
		return err_set(err, -EEXIST, "%s: exists and is not a symbolic link", path);
	if (snprintf(fresh, sizeof(fresh), "%s.%d", path, (int)getpid()) >= (int)sizeof(fresh))
		return err_sys(err, -ENAMETOOLONG, "%s", path);
	if (symlink(name, fresh) < 0)
		return err_sys(err, -errno, "%s", path);
	if (rename(fresh, path) < 0) {
		int res = err_sys(err, -errno, "%s", path);
		(void)unlink(fresh);
		return res;
	}
	return 0;
}

static int open_pty(struct chardev *chardev, const struct chardev_config *config, struct err *err)
{
	struct chardev_pty *pty = &chardev->pty;
	pty->look.done = look;
	pty->master_fd = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
	if (pty->master_fd < 0)
		return err_sys(err, -errno, "/dev/ptmx");
	if (grantpt(pty->master_fd) < 0 || unlockpt(pty->master_fd) < 0)
		return err_sys(err, -errno, "/dev/ptmx");
	int res = -ptsname_r(pty->master_fd, pty->name, sizeof(pty->name));
	if (res == 0)
		res = prepare_slave(pty->name);
	if (res < 0)
		return err_sys(err, res, "pty %s", pty->name);
	if (config->path && (res = make_link(config->path, pty->name, err)) < 0)
		return res;
	pty->linked = config->path != NULL;
	look_later(chardev);
	return 0;
}

static void close_pty(struct chardev *chardev)
{
	struct chardev_pty *pty = &chardev->pty;
	char target[sizeof(pty->name)];
	loop_release(chardev->loop, &pty->look);
	pty->master_fd = close_fd(pty->master_fd);
	if (!pty->linked)
		return;
	/* Another aerie may have put its own link there since. */
	ssize_t len = readlink(chardev->path, target, sizeof(target));
	if (len == (ssize_t)strlen(pty->name) && memcmp(target, pty->name, (size_t)len) == 0)
		(void)unlink(chardev->path);
}

const struct chardev_backend chardev_pty = {.open = open_pty, .close = close_pty, .hung_up = slave_closed};
