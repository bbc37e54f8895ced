/* Reading a snapshot, all but RAM: nothing of it is believed before its checksum is right. */
#include "open.h"

#include "base/cleanup.h"
#include "base/crc32c.h"
#include "files.h"
#include "ram.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum {
	CONFIG_BYTES_MAX = 1 << 20,
	PAGES_BYTES_MAX = 1 << 30, /* of 32 TiB of RAM */
	CHAIN_MAX = 64
};

void snapshot_close(struct snapshot *snapshot)
{
	while (snapshot) {
		struct snapshot *base = snapshot->base;
		manifest_finish(&snapshot->manifest);
		(void)close_fd(snapshot->dir_fd);
		free(snapshot->path);
		free(snapshot->config);
		free(snapshot->state_blob);
		free(snapshot->pages);
		free(snapshot);
		snapshot = base;
	}
}

const struct state_file *snapshot_state(const struct snapshot *snapshot)
{
	return &snapshot->state;
}

const char *snapshot_id(const struct snapshot *snapshot)
{
	return snapshot->manifest.id;
}

static int read_checked(const struct snapshot *snapshot, enum manifest_file file, size_t max, void **ret,
			size_t *ret_len, struct err *err)
{
	const char *name = manifest_file_names[file];
	_cleanup_free_ void *data = NULL;
	int r = file_read(snapshot->dir_fd, name, max, &data, ret_len, err);
	if (r < 0)
		return r;
	if (*ret_len != snapshot->manifest.files[file].bytes)
		return err_set(err, -EINVAL, "%s: %zu bytes, the manifest says %" PRIu64, name, *ret_len,
			       snapshot->manifest.files[file].bytes);
	uint32_t crc = crc32c(0, data, *ret_len);
	if (crc != snapshot->manifest.files[file].crc32c)
		return err_set(err, -EINVAL, "%s: damaged: crc32c is %08x, the manifest says %08x", name, crc,
			       snapshot->manifest.files[file].crc32c);
	*ret = take_ptr(data);
	return 0;
}

int snapshot_open_memory(const struct snapshot *snapshot, struct err *err)
{
	const char *name = manifest_file_names[FILE_MEMORY];
	struct stat st;
	_cleanup_close_ int fd = openat(snapshot->dir_fd, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_sys(err, -errno, "%s", name);
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != snapshot->manifest.files[FILE_MEMORY].bytes)
		return err_set(err, -EINVAL, "%s: not a file of %" PRIu64 " bytes, as the manifest says",
			       name, snapshot->manifest.files[FILE_MEMORY].bytes);
	return take_fd(&fd);
}

static int read_manifest(struct snapshot *snapshot, struct err *err)
{
	_cleanup_free_ void *text = NULL;
	size_t len;
	int r = file_read(snapshot->dir_fd, MANIFEST_NAME, MANIFEST_BYTES_MAX, &text, &len, err);
	return r < 0 ? r : manifest_parse(MANIFEST_NAME, text, len, &snapshot->manifest, err);
}

static int read_pages(struct snapshot *snapshot, struct err *err)
{
	void *pages;
	size_t len;
	if (!snapshot->manifest.base_path)
		return 0;
	int r = read_checked(snapshot, FILE_PAGES, PAGES_BYTES_MAX, &pages, &len, err);
	if (r < 0)
		return r;
	snapshot->pages = pages;
	if (len != ram_bitmap_words(snapshot->manifest.files[FILE_MEMORY].bytes) * sizeof(uint64_t))
		return err_set(err, -EINVAL, "pages: %zu bytes do not fit memory", len);
	return 0;
}

static int read_files(struct snapshot *snapshot, struct err *err)
{
	size_t len;
	int r = read_manifest(snapshot, err);
	if (r == 0)
		r = read_checked(snapshot, FILE_CONFIG, CONFIG_BYTES_MAX, (void **)&snapshot->config,
				 &snapshot->config_len, err);
	if (r == 0)
		r = read_checked(snapshot, FILE_STATE, STATE_FILE_BYTES_MAX, &snapshot->state_blob, &len,
				 err);
	if (r == 0)
		r = state_file_open(snapshot->state_blob, len, &snapshot->state, err);
	if (r == 0)
		r = read_pages(snapshot, err);
	if (r < 0)
		return r;
	int fd = snapshot_open_memory(snapshot,
				      err); /* only to see that it is there and as long as it must be */
	if (fd < 0)
		return fd;
	(void)close_fd(fd);
	return 0;
}

static int open_one(const char *path, struct snapshot **ret, struct err *err)
{
	struct snapshot *snapshot = calloc(1, sizeof(*snapshot));
	if (!snapshot)
		return err_sys(err, -ENOMEM, "%s", path);
	snapshot->dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = snapshot->dir_fd < 0 ? err_sys(err, -errno, "cannot be opened") : 0;
	snapshot->path = strdup(path);
	if (r == 0 && !snapshot->path)
		r = err_sys(err, -ENOMEM, "path");
	if (r == 0)
		r = read_files(snapshot, err);
	if (r < 0) {
		snapshot_close(snapshot);
		return err_prepend(err, "%s", path);
	}
	*ret = snapshot;
	return 0;
}

/* Where it was, or, when both were moved together, beside the one that stands on it. */
static int open_base(struct snapshot *snapshot, struct err *err)
{
	const char *path = snapshot->manifest.base_path, *slash = strrchr(path, '/');
	char beside[4096];
	struct stat st;
	if (stat(path, &st) < 0 && slash) {
		(void)snprintf(beside, sizeof(beside), "%s/..%s", snapshot->path, slash);
		path = beside;
	}
	int r = open_one(path, &snapshot->base, err);
	if (r < 0)
		return r;
	const struct manifest *below = &snapshot->base->manifest;
	if (strcmp(below->id, snapshot->manifest.base_id) != 0)
		return err_set(err, -ESTALE, "%s: another snapshot than the one that %s stands on", path,
			       snapshot->path);
	if (below->files[FILE_MEMORY].bytes != snapshot->manifest.files[FILE_MEMORY].bytes)
		return err_set(err, -EINVAL, "%s: RAM of another size than in %s", path, snapshot->path);
	return 0;
}

int snapshot_open(const char *dir, struct snapshot **ret, struct err *err)
{
	struct snapshot *snapshot;
	int r = open_one(dir, &snapshot, err), depth = 1;
	if (r < 0)
		return r;
	for (struct snapshot *at = snapshot; r == 0 && at->manifest.base_path; at = at->base) {
		if (++depth > CHAIN_MAX)
			r = err_set(err, -ELOOP, "%s: stands on more than %d snapshots", dir, CHAIN_MAX);
		else
			r = open_base(at, err);
	}
	if (r < 0) {
		snapshot_close(snapshot);
		return r;
	}
	*ret = snapshot;
	return 0;
}

int snapshot_config(const struct snapshot *snapshot, const char *const *set, size_t set_count,
		    struct machine_config **ret, struct err *err)
{
	/* Its own paths are absolute; those of `set` are relative to where the operator stands. So no folder
	 * in the name. */
	int r = config_parse(manifest_file_names[FILE_CONFIG], snapshot->config, snapshot->config_len, set,
			     set_count, ret, err);
	return r < 0 ? err_prepend(err, "%s", snapshot->path) : 0;
}
