/* Getting at a TAP interface: see net_tap.h, and the kernel's Documentation/networking/tuntap.rst. */
#include "net_tap.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "net_backend.h"

#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

static const char tun_path[] = "/dev/net/tun";

static int open_error(const char *name, int code, struct err *err)
{
	if (code == -ENOENT || code == -ENODEV || code == -ENXIO)
		return err_set(err, code,
			       "tap: %s: no %s: the host's kernel needs its module tun (modprobe tun)", name,
			       tun_path);
	return err_sys(err, code, "tap: %s: %s", name, tun_path);
}

static int attach_error(const char *name, unsigned count, int code, struct err *err)
{
	const char *more = count > 1 ? " multi_queue" : "";
	switch (code) {
	case -EPERM:
		return err_set(
			err, code,
			"tap: %s: not permitted; let root make it for you: ip tuntap add dev %s mode tap "
			"user $USER%s",
			name, name, more);
	case -EBUSY:
		return err_set(err, code, "tap: %s: another program has it open", name);
	case -E2BIG:
		return err_set(err, code, "tap: %s: it cannot have %u queues, or another program has some",
			       name, count);
	case -EINVAL:
		if (count > 1)
			return err_set(
				err, code,
				"tap: %s: not a TAP interface with several queues (ip tuntap add dev %s "
				"mode tap multi_queue makes one)",
				name, name);
		return err_set(err, code, "tap: %s: not a TAP interface", name);
	default:
		return err_sys(err, code, "tap: %s", name);
	}
}

/* Everything but what TUNSETIFF does. */
static int prepare(int fd, const char *name, struct err *err)
{
	int size = NET_HEADER_BYTES, flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return err_sys(err, -errno, "tap: %s", name);
	if (ioctl(fd, TUNSETVNETHDRSZ, &size) < 0)
		return err_sys(err, -errno, "tap: %s: no header of %d bytes", name, size);
	return 0;
}

/* One queue; with a single one an interface made for several does as well. */
static int attach(int fd, const char *name, unsigned count)
{
	struct ifreq request = {
		.ifr_flags = (short)(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | (count > 1 ? IFF_MULTI_QUEUE : 0))};
	(void)strncpy(request.ifr_name, name, IFNAMSIZ - 1);
	if (ioctl(fd, TUNSETIFF, &request) == 0)
		return 0;
	if (errno != EINVAL || count > 1)
		return -errno;
	request.ifr_flags = (short)(request.ifr_flags | IFF_MULTI_QUEUE);
	return ioctl(fd, TUNSETIFF, &request) < 0 ? -errno : 0;
}

/* An address or a bridge are the operator's affair. */
static void bring_up(const char *name)
{
	struct ifreq request = {.ifr_flags = 0};
	_cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	(void)strncpy(request.ifr_name, name, IFNAMSIZ - 1);
	bool up = fd >= 0 && ioctl(fd, SIOCGIFFLAGS, &request) == 0;
	request.ifr_flags = (short)(request.ifr_flags | IFF_UP);
	if (!up || ioctl(fd, SIOCSIFFLAGS, &request) < 0)
		log_warn("%s: was made, but cannot be brought up: %s", name, strerror(errno));
}

int net_tap_open(const char *name, unsigned count, int *fds, struct err *err)
{
	if (strlen(name) >= IFNAMSIZ)
		return err_set(err, -ENAMETOOLONG, "tap: %s: an interface has at most %d letters", name,
			       IFNAMSIZ - 1);
	bool existed = if_nametoindex(name) != 0;
	unsigned opened = 0;
	int r = 0;
	while (opened < count && r == 0) {
		int fd = fds[opened] = open(tun_path, O_RDWR | O_CLOEXEC);
		if (fd < 0) {
			r = open_error(name, -errno, err);
			break;
		}
		opened++;
		r = attach(fd, name, count);
		r = r < 0 ? attach_error(name, count, r, err) : prepare(fd, name, err);
	}
	while (r < 0 && opened > 0)
		(void)close_fd(fds[--opened]);
	if (r == 0 && !existed)
		bring_up(name);
	return r;
}

int net_tap_adopt(int fd, int *fds, struct err *err)
{
	struct ifreq request = {.ifr_flags = 0};
	if (ioctl(fd, TUNGETIFF, &request) < 0)
		return err_set(err, -EINVAL, "tap_fd: %d: not a TAP descriptor (%s)", fd, strerror(errno));
	request.ifr_name[IFNAMSIZ - 1] = 0;
	/* Whether IFF_NO_PI was set the kernel does not tell: its bit is that of IFF_NOFILTER here. */
	if (!(request.ifr_flags & IFF_TAP))
		return err_set(err, -EINVAL, "tap_fd: %d: %s is not a TAP interface but a TUN", fd,
			       request.ifr_name);
	if (!(request.ifr_flags & IFF_VNET_HDR))
		return err_set(err, -EINVAL, "tap_fd: %d: %s was opened without IFF_VNET_HDR", fd,
			       request.ifr_name);
	fds[0] = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (fds[0] < 0)
		return err_sys(err, -errno, "tap_fd: %d", fd);
	int r = prepare(fds[0], request.ifr_name, err);
	if (r < 0)
		(void)close_fd(fds[0]);
	return r;
}
