/* Raw images: opening, locking, sizes. */
#include "block_raw.h"

#include "base/cleanup.h"
#include "base/log.h"

#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

/* ---- the file ---- */

/*
 * A machine that ended a moment ago may still hold its lock, or a block device for itself: its io_uring lets
 * go of files only when the kernel has taken it apart, after the process has gone. So what is taken is asked
 * for again for a while.
 */
enum { LOCK_TRIES = 100, LOCK_PAUSE_US = 5000 };

static int try_open(const char *path, int flags)
{
	int fd = open(path, flags);
	for (unsigned i = 1; i < LOCK_TRIES && fd < 0 && errno == EBUSY; i++) {
		(void)usleep(LOCK_PAUSE_US);
		fd = open(path, flags);
	}
	return fd;
}

static int try_lock(int fd, struct flock *range)
{
	int res = fcntl(fd, F_OFD_SETLK, range);
	for (unsigned i = 1; i < LOCK_TRIES && res < 0 && (errno == EAGAIN || errno == EACCES); i++) {
		(void)usleep(LOCK_PAUSE_US);
		res = fcntl(fd, F_OFD_SETLK, range);
	}
	return res;
}

int block_lock(int fd, const char *path, bool read_only, struct err *err)
{
	struct flock range = {.l_type = read_only ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET};
	if (try_lock(fd, &range) == 0)
		return 0;
	if (errno == EAGAIN || errno == EACCES)
		return err_set(err, -EBUSY,
			       "%s: in use by another machine or program, which %s; stop that one, or give "
			       "each its own image",
			       path, read_only ? "writes to it" : "reads or writes it (one writer is alone)");
	log_warn("%s: its file system has no locks (%s); nothing keeps a second machine from using it", path,
		 strerror(errno));
	return 0;
}

void block_unlock(int fd)
{
	struct flock range = {.l_type = F_UNLCK, .l_whence = SEEK_SET};
	(void)fcntl(fd, F_OFD_SETLK, &range);
}

static int explain_open(const struct block_raw_spec *spec, int code, struct err *err)
{
	switch (code) {
	case EACCES:
	case EROFS:
	case EPERM:
		return err_set(err, -code, "%s: %s for reading%s", spec->path, strerror(code),
			       spec->read_only ? "" : " and writing; or set \"read_only\": true");
	case EINVAL:
		if (spec->direct)
			return err_set(err, -code,
				       "%s: its file system does not do O_DIRECT; set \"direct\": false",
				       spec->path);
		break;
	case EBUSY:
		return err_set(err, -code, "%s: in use: mounted, or part of another device", spec->path);
	default:
		break;
	}
	return err_sys(err, -code, "%s", spec->path);
}

static int open_file(const struct block_raw_spec *spec, struct stat *ret_stat, struct err *err)
{
	if (stat(spec->path, ret_stat) < 0)
		return explain_open(spec, errno, err);
	if (!S_ISREG(ret_stat->st_mode) && !S_ISBLK(ret_stat->st_mode))
		return err_set(err, -EINVAL, "%s: is neither a file nor a block device", spec->path);
	int flags = O_CLOEXEC | O_NOCTTY | (spec->read_only ? O_RDONLY : O_RDWR);
	if (spec->direct)
		flags |= O_DIRECT;
	if (S_ISBLK(ret_stat->st_mode) && !spec->read_only)
		flags |= O_EXCL; /* not what is mounted */
	int fd = try_open(spec->path, flags);
	return fd < 0 ? explain_open(spec, errno, err) : fd;
}

/* ---- geometry ---- */

static int read_size(const struct block_raw *raw, uint64_t *ret, struct err *err)
{
	struct stat st;
	if (raw->is_device) {
		if (ioctl(raw->fd, BLKGETSIZE64, ret) < 0)
			return err_sys(err, -errno, "%s: its size", raw->path);
		return 0;
	}
	if (fstat(raw->fd, &st) < 0)
		return err_sys(err, -errno, "%s: its size", raw->path);
	*ret = (uint64_t)st.st_size;
	return 0;
}

static int check_size(const struct block_raw *raw, uint64_t bytes, struct err *err)
{
	if (raw->container)
		return 0;
	if (bytes == 0)
		return err_set(err, -EINVAL, "%s: is empty; a disk has at least one block (truncate -s 10G)",
			       raw->path);
	if (bytes % raw->block_size)
		return err_set(err, -EINVAL, "%s: its size of %llu bytes is no multiple of the block size %u",
			       raw->path, (unsigned long long)bytes, raw->block_size);
	return 0;
}

/* What O_DIRECT asks of addresses and offsets: Linux 6.1 says it; before, the logical block is what works. */
static void find_alignment(struct block_raw *raw)
{
	struct statx stx;
	int logical = 512;
	if (raw->is_device)
		(void)ioctl(raw->fd, BLKSSZGET, &logical);
	raw->memory_align = raw->io_align = (uint32_t)logical;
	if (statx(raw->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) == 0 && (stx.stx_mask & STATX_DIOALIGN) &&
	    stx.stx_dio_offset_align) {
		raw->memory_align = stx.stx_dio_mem_align;
		raw->io_align = stx.stx_dio_offset_align;
	}
}

static int check_alignment(const struct block_raw *raw, struct err *err)
{
	if (raw->io_align > raw->block_size || raw->memory_align > BLOCK_BOUNCE_ALIGN)
		return err_set(err, -EINVAL,
			       "%s: O_DIRECT works in blocks of %u bytes here; set \"block_size\": %u, or "
			       "\"direct\": false",
			       raw->path, raw->io_align, raw->io_align);
	return 0;
}

static void find_topology(struct block_raw *raw, const struct stat *st)
{
	unsigned physical = 0, optimal = 0;
	if (raw->is_device) {
		(void)ioctl(raw->fd, BLKPBSZGET, &physical);
		(void)ioctl(raw->fd, BLKIOOPT, &optimal);
	} else {
		physical = (unsigned)st->st_blksize;
	}
	bool is_power = physical && (physical & (physical - 1)) == 0;
	raw->block.physical_block_bytes = is_power ? physical : 0;
	raw->block.optimal_io_bytes = optimal;
	raw->block.discard_bytes = is_power && physical > raw->block_size ? physical : raw->block_size;
}

/* ---- life ---- */

static void raw_close(struct block *block)
{
	struct block_raw *raw = container_of(block, struct block_raw, block);
	if (raw->registered)
		loop_unregister_file(block->loop, raw->fd);
	block_unlock(raw->fd);
	close_fd(raw->fd);
	free(raw->path);
	free(raw);
}

static int raw_resize(struct block *block, uint64_t bytes, struct err *err)
{
	struct block_raw *raw = container_of(block, struct block_raw, block);
	if (bytes && (block->read_only || raw->is_device))
		return err_set(err, block->read_only ? -EROFS : -EOPNOTSUPP,
			       "%s: %s cannot be resized from here", raw->path,
			       block->read_only ? "what is open for reading only" : "a block device");
	if (check_size(raw, bytes ? bytes : raw->block_size, err) < 0)
		return err->code;
	if (bytes > INT64_MAX)
		return err_sys(err, -EFBIG, "%s", raw->path);
	while (bytes && ftruncate(raw->fd, (off_t)bytes) < 0) {
		if (errno != EINTR)
			return err_sys(err, -errno, "%s: resizing to %llu bytes", raw->path,
				       (unsigned long long)bytes);
	}
	uint64_t now = 0;
	if (read_size(raw, &now, err) < 0 || check_size(raw, now, err) < 0)
		return err->code;
	block->size_bytes = now;
	return 0;
}

static const struct block_ops raw_ops = {
	.name = "raw", .submit = block_raw_submit, .resize = raw_resize, .close = raw_close};

static int inspect(struct block_raw *raw, const struct stat *st, struct err *err)
{
	if (raw->direct) {
		find_alignment(raw);
		if (check_alignment(raw, err) < 0)
			return err->code;
	}
	uint64_t bytes = 0;
	if (read_size(raw, &bytes, err) < 0 || check_size(raw, bytes, err) < 0)
		return err->code;
	raw->block.size_bytes = bytes;
	find_topology(raw, st);
	return 0;
}

int block_raw_open(const struct block_raw_spec *spec, struct loop *loop, struct block **ret, struct err *err)
{
	struct stat st;
	_cleanup_close_ int fd = open_file(spec, &st, err);
	if (fd < 0 || block_lock(fd, spec->path, spec->read_only, err) < 0)
		return err->code;
	struct block_raw *raw = calloc(1, sizeof(*raw));
	char *path = strdup(spec->path);
	if (!raw || !path) {
		free(raw);
		free(path);
		return err_sys(err, -ENOMEM, "%s", spec->path);
	}
	*raw = (struct block_raw){.block = {.ops = &raw_ops,
					    .loop = loop,
					    .read_only = spec->read_only,
					    .extends = spec->container},
				  .fd = take_fd(&fd),
				  .path = path,
				  .block_size = spec->block_size,
				  .is_device = S_ISBLK(st.st_mode),
				  .direct = spec->direct,
				  .writethrough = spec->writethrough,
				  .discard = spec->discard,
				  .container = spec->container,
				  .memory_align = 1,
				  .io_align = 1};
	int res = inspect(raw, &st, err);
	if (res < 0) {
		raw_close(&raw->block);
		return res;
	}
	*ret = &raw->block;
	return 0;
}

int block_raw_pread(struct block *block, void *buf, size_t len, uint64_t offset, struct err *err)
{
	struct block_raw *raw = container_of(block, struct block_raw, block);
	_cleanup_free_ char *bounce = aligned_alloc(BLOCK_BOUNCE_ALIGN, BLOCK_BOUNCE_BYTES);
	if (!bounce)
		return err_sys(err, -ENOMEM, "%s", raw->path);
	/* Whole aligned blocks, whatever was asked for: O_DIRECT wants them. */
	for (size_t done = 0; done < len;) {
		uint64_t at = offset + done;
		size_t skip = at % BLOCK_BOUNCE_ALIGN;
		ssize_t got = pread(raw->fd, bounce, BLOCK_BOUNCE_BYTES, (off_t)(at - skip));
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return err_sys(err, -errno, "%s: reading at %" PRIu64, raw->path, at);
		if ((size_t)got <= skip)
			return err_set(err, -EIO, "%s: ends before byte %" PRIu64, raw->path, offset + len);
		size_t n = (size_t)got - skip < len - done ? (size_t)got - skip : len - done;
		memcpy((char *)buf + done, bounce + skip, n);
		done += n;
	}
	return 0;
}
