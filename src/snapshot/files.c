#include "files.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "manifest.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { PIECE_BYTES = 1 << 30 };

int write_all(int fd, const void *data, size_t len, uint64_t offset)
{
	const uint8_t *at = data;
	while (len) {
		ssize_t n = pwrite(fd, at, len < PIECE_BYTES ? len : PIECE_BYTES, (off_t)offset);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		at += n;
		len -= (size_t)n;
		offset += (uint64_t)n;
	}
	return 0;
}

int read_all(int fd, void *data, size_t len, uint64_t offset)
{
	uint8_t *at = data;
	while (len) {
		ssize_t n = pread(fd, at, len < PIECE_BYTES ? len : PIECE_BYTES, (off_t)offset);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		at += n;
		len -= (size_t)n;
		offset += (uint64_t)n;
	}
	return 0;
}

int file_read(int dir_fd, const char *name, size_t max, void **ret, size_t *ret_len, struct err *err)
{
	struct stat st;
	_cleanup_close_ int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_sys(err, -errno, "%s", name);
	if (!S_ISREG(st.st_mode) || st.st_size < 0 || (uint64_t)st.st_size > max)
		return err_set(err, -EINVAL, "%s: not a file of at most %zu bytes", name, max);
	size_t len = (size_t)st.st_size;
	_cleanup_free_ char *data = calloc(1, len + 1);
	if (!data)
		return err_sys(err, -ENOMEM, "%s", name);
	int r = read_all(fd, data, len, 0);
	if (r < 0)
		return err_sys(err, r, "%s", name);
	*ret = take_ptr(data);
	*ret_len = len;
	return 0;
}

int file_write(int dir_fd, const char *name, const void *data, size_t len, struct err *err)
{
	_cleanup_close_ int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_sys(err, -errno, "%s", name);
	int r = write_all(fd, data, len, 0);
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	return r < 0 ? err_sys(err, r, "%s", name) : 0;
}

/* ---- the directory ---- */

static int make_beside(struct new_dir *dir, struct err *err)
{
	size_t bytes = strlen(dir->path) + sizeof(".tmp-XXXXXX");
	dir->temporary = malloc(bytes);
	if (!dir->temporary)
		return err_sys(err, -ENOMEM, "%s", dir->path);
	(void)snprintf(dir->temporary, bytes, "%s.tmp-XXXXXX", dir->path);
	if (!mkdtemp(dir->temporary)) {
		int code = -errno;
		dir->temporary[0] = '\0';
		return err_sys(err, code, "%s", dir->path);
	}
	dir->fd = open(dir->temporary, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return dir->fd < 0 ? err_sys(err, -errno, "%s", dir->temporary) : 0;
}

static int open_parent(struct new_dir *dir, struct err *err)
{
	_cleanup_free_ char *parent = strdup(dir->path);
	if (!parent)
		return err_sys(err, -ENOMEM, "%s", dir->path);
	char *slash = strrchr(parent, '/');
	if (slash == parent)
		slash[1] = '\0';
	else if (slash)
		*slash = '\0';
	dir->parent_fd = open(slash ? parent : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return dir->parent_fd < 0 ? err_sys(err, -errno, "%s", slash ? parent : ".") : 0;
}

static bool is_empty(const char *path)
{
	DIR *dir = opendir(path);
	size_t count = 0;
	if (!dir)
		return false;
	while (readdir(dir))
		count++;
	(void)closedir(dir);
	return count == 2; /* itself and its parent */
}

/* Only what is a snapshot, or empty, may be replaced: a mistyped name must not cost somebody's home. */
static int check_target(const char *path, struct err *err)
{
	struct stat st;
	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : err_sys(err, -errno, "%s", path);
	if (!S_ISDIR(st.st_mode))
		return err_set(err, -EEXIST, "%s: is there, and not a directory", path);
	_cleanup_close_ int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_sys(err, -errno, "%s", path);
	if (faccessat(fd, MANIFEST_NAME, F_OK, 0) == 0 || is_empty(path))
		return 0;
	return err_set(err, -EEXIST, "%s: is there, and not a snapshot", path);
}

int new_dir_create(struct new_dir *dir, const char *path, struct err *err)
{
	*dir = (struct new_dir){.fd = -1, .parent_fd = -1};
	dir->path = strdup(path);
	if (!dir->path)
		return err_sys(err, -ENOMEM, "%s", path);
	for (size_t len = strlen(dir->path); len > 1 && dir->path[len - 1] == '/'; len--)
		dir->path[len - 1] = '\0';
	int r = check_target(dir->path, err);
	if (r == 0)
		r = open_parent(dir, err);
	return r < 0 ? r : make_beside(dir, err);
}

static int remove_files(int fd)
{
	/* The manifest first: what is left of a directory is then no snapshot. */
	int r = unlinkat(fd, MANIFEST_NAME, 0) < 0 && errno != ENOENT ? -errno : 0;
	for (size_t i = 0; i < MANIFEST_FILES; i++)
		if (unlinkat(fd, manifest_file_names[i], 0) < 0 && errno != ENOENT && r == 0)
			r = -errno;
	return r;
}

/* Whatever of a snapshot is in `path`, and the directory. Other files stay, and so does it then. */
static void remove_dir(const char *path)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = fd < 0 ? -errno : remove_files(fd);
	if (rmdir(path) < 0 && r == 0)
		r = -errno;
	if (r < 0 && r != -ENOENT)
		log_warn("%s: left over, to be removed by hand: %s", path, strerror(-r));
}

/*
 * The new one has its name, but nobody knows whether a crash would keep it so: the caller is told that
 * nothing was saved, so what was there comes back. When not even that can be done, both stay.
 */
static int take_back(struct new_dir *dir, bool replaces, int code, struct err *err)
{
	unsigned flags = replaces ? RENAME_EXCHANGE : RENAME_NOREPLACE;
	if (renameat2(AT_FDCWD, dir->path, AT_FDCWD, dir->temporary, flags) == 0)
		return err_sys(err, code, "%s", dir->path);
	int again = errno;
	if (replaces)
		log_warn("%s: the old snapshot is here now: %s", dir->temporary, strerror(again));
	dir->temporary[0] = '\0';
	return err_sys(err, code, "%s: is there, but perhaps not after a crash", dir->path);
}

int new_dir_commit(struct new_dir *dir, struct err *err)
{
	if (fsync(dir->fd) < 0)
		return err_sys(err, -errno, "%s", dir->temporary);
	int r = renameat2(AT_FDCWD, dir->temporary, AT_FDCWD, dir->path, RENAME_NOREPLACE);
	bool replaces = r < 0 && errno == EEXIST;
	if (replaces)
		r = renameat2(AT_FDCWD, dir->temporary, AT_FDCWD, dir->path, RENAME_EXCHANGE);
	if (r < 0)
		return err_sys(err, -errno, "%s", dir->path);
	if (fsync(dir->parent_fd) < 0)
		return take_back(dir, replaces, -errno, err);
	if (replaces)
		remove_dir(dir->temporary); /* the old one lies there now */
	dir->temporary[0] = '\0';
	return 0;
}

void new_dir_finish(struct new_dir *dir)
{
	if (dir->temporary && dir->temporary[0])
		remove_dir(dir->temporary);
	dir->fd = close_fd(dir->fd);
	dir->parent_fd = close_fd(dir->parent_fd);
	free(take_ptr(dir->path));
	free(take_ptr(dir->temporary));
}
