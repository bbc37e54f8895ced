/* How large an image is that another machine has open: nothing is locked, and nothing but its header is read.
 */
#include "block.h"

#include "base/cleanup.h"
#include "qcow2.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

static int file_size(int fd, const char *path, uint64_t *ret, struct err *err)
{
	struct stat st;
	if (fstat(fd, &st) < 0)
		return err_sys(err, -errno, "%s", path);
	if (S_ISBLK(st.st_mode))
		return ioctl(fd, BLKGETSIZE64, ret) < 0 ? err_sys(err, -errno, "%s: its size", path) : 0;
	if (!S_ISREG(st.st_mode))
		return err_set(err, -EINVAL, "%s: is neither a file nor a block device", path);
	*ret = (uint64_t)st.st_size;
	return 0;
}

static int qcow2_size(int fd, const char *path, uint64_t file_bytes, uint64_t *ret, struct err *err)
{
	struct qcow2_header header;
	size_t len = (size_t)1 << QCOW2_CLUSTER_BITS_MAX;
	if (len > file_bytes)
		len = (size_t)file_bytes;
	_cleanup_free_ uint8_t *start = malloc(len + 1);
	if (!start)
		return err_sys(err, -ENOMEM, "%s", path);
	ssize_t n = pread(fd, start, len, 0);
	if (n < 0)
		return err_sys(err, -errno, "%s", path);
	int r = qcow2_header_parse(start, (size_t)n, path, false, &header, err);
	if (r == 0)
		*ret = header.size_bytes;
	return r;
}

int block_look(const struct disk_config *config, uint64_t *ret_bytes, struct err *err)
{
	uint64_t bytes = 0;
	_cleanup_close_ int fd = open(config->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0)
		return err_sys(err, -errno, "%s", config->path);
	int r = file_size(fd, config->path, &bytes, err);
	if (r == 0 && config->format == DISK_QCOW2)
		r = qcow2_size(fd, config->path, bytes, &bytes, err);
	*ret_bytes = bytes;
	return r;
}
