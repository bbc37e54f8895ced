#include "image.h"

#include "base/cleanup.h"

#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

int image_open(struct image *image, const char *path, struct err *err)
{
	/* O_NONBLOCK: a FIFO must be refused below, not waited for here. */
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return err_sys(err, -errno, "%s", path);
	struct stat st;
	if (fstat(fd, &st) < 0)
		return err_sys(err, -errno, "%s", path);
	if (!S_ISREG(st.st_mode))
		return err_set(err, -EINVAL, "%s: not a regular file", path);
	if (st.st_size == 0)
		return err_set(err, -EINVAL, "%s: the file is empty", path);
	*image = (struct image){.path = path, .size = (uint64_t)st.st_size, .fd = take_fd(&fd)};
	return 0;
}

void image_close(struct image *image)
{
	image->fd = close_fd(image->fd);
}

static int truncated(const struct image *image, uint64_t offset, uint64_t len, const char *what,
		     struct err *err)
{
	return err_set(err, -EINVAL,
		       "%s: truncated: %s (%" PRIu64 " bytes at offset %" PRIu64 ") lies beyond its %" PRIu64
		       " bytes",
		       image->path, what, len, offset, image->size);
}

int image_read(const struct image *image, uint64_t offset, void *dst, uint64_t len, const char *what,
	       struct err *err)
{
	if (offset > image->size || len > image->size - offset)
		return truncated(image, offset, len, what, err);
	uint8_t *at = dst;
	uint64_t done = 0;
	while (done < len) {
		ssize_t n = pread(image->fd, at + done, len - done, (off_t)(offset + done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(err, -errno, "%s: reading %s", image->path, what);
		if (n == 0) /* someone shortened the file under us */
			return truncated(image, offset, len, what, err);
		done += (uint64_t)n;
	}
	return 0;
}
