/* qcow2: its file without the loop, for the tables at opening and closing. */
#include "base/cleanup.h"
#include "block_raw.h"
#include "qcow2.h"

static int file_pwrite(struct block *block, const void *buf, size_t len, uint64_t offset)
{
	struct block_raw *raw = container_of(block, struct block_raw, block);
	for (size_t done = 0; done < len;) {
		ssize_t n = pwrite(raw->fd, (const char *)buf + done, len - done, (off_t)(offset + done));
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0)
			return -EIO;
		if (n > 0)
			done += (size_t)n;
	}
	if (offset + len > block->size_bytes)
		block->size_bytes = offset + len;
	return 0;
}

static int file_sync(struct block *block)
{
	struct block_raw *raw = container_of(block, struct block_raw, block);
	if (raw->flush_error)
		return raw->flush_error;
	while (fdatasync(raw->fd) < 0) {
		if (errno != EINTR)
			return -errno;
	}
	return 0;
}

const struct qcow2_file_ops qcow2_raw_file = {
	.pread = block_raw_pread, .pwrite = file_pwrite, .sync = file_sync};
