/* Small files of a snapshot, and the directory that appears at once or not at all. */
#ifndef AERIE_SRC_SNAPSHOT_FILES_H
#define AERIE_SRC_SNAPSHOT_FILES_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

/* All of a regular file of at most `max` bytes. Aligned for a device tree; the caller frees it. */
int file_read(int dir_fd, const char *name, size_t max, void **ret, size_t *ret_len, struct err *err);

/* A new file with these bytes, on disk when it returns. */
int file_write(int dir_fd, const char *name, const void *data, size_t len, struct err *err);

/* All bytes or an error, whatever the kernel does piecewise. */
int write_all(int fd, const void *data, size_t len, uint64_t offset);
int read_all(int fd, void *data, size_t len, uint64_t offset); /* -EIO: the file ends before */

/*
 * A directory on its way: made as PATH.tmp-XXXXXX beside where it shall be, it takes that name at the end.
 * What was there before is exchanged in one step and then removed, so a kill at any moment leaves one or the
 * other whole (and perhaps a PATH.tmp-XXXXXX that nobody refers to).
 */
struct new_dir {
	char *path, *temporary;
	int fd, parent_fd; /* of the new one, and of what it lies in */
};
/* -EEXIST: `path` is there and is nothing that a snapshot may replace. */
int new_dir_create(struct new_dir *dir, const char *path, struct err *err);
/* Its files are on disk. On an error what was there before has its name again. */
int new_dir_commit(struct new_dir *dir, struct err *err);
void new_dir_finish(struct new_dir *dir); /* not committed: all of it goes */

#endif
