/* A chain of snapshots as one: pages come from the highest of the chain that has them. */
#include "base/cleanup.h"
#include "files.h"
#include "open.h"
#include "ram.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CHAIN_MAX = 64 };

/* One of the chain, open; its own checksum is taken over on the way. */
struct layer {
	const struct snapshot *snapshot;
	int fd;
	uint32_t crc;
};

struct chain {
	struct layer layers[CHAIN_MAX + 1];
	size_t count;
};

static void chain_close(struct chain *chain)
{
	for (size_t i = 0; i < chain->count; i++)
		(void)close_fd(chain->layers[i].fd);
}

static int chain_open(struct chain *chain, const struct snapshot *top, struct err *err)
{
	for (const struct snapshot *at = top; at; at = at->base) {
		int fd = snapshot_open_memory(at, err);
		if (fd < 0)
			return fd;
		chain->layers[chain->count++] = (struct layer){.snapshot = at, .fd = fd};
	}
	return 0;
}

/* Every layer reads all of its pages, also those that a higher one covers: for its checksum. */
static int layer_page(struct layer *layer, uint64_t page, uint8_t *bytes, bool *ret_has)
{
	const uint64_t *pages = layer->snapshot->pages;
	*ret_has = !pages || (pages[page / 64] >> page % 64 & 1);
	if (!*ret_has)
		return 0;
	int r = read_all(layer->fd, bytes, RAM_PAGE_BYTES, page * RAM_PAGE_BYTES);
	if (r == 0 && !ram_page_is_zero(bytes))
		layer->crc = ram_crc(layer->crc, page, bytes);
	return r;
}

static int flatten_page(struct chain *chain, uint64_t page, int out, uint32_t *crc)
{
	uint8_t own[RAM_PAGE_BYTES], below[RAM_PAGE_BYTES];
	bool found = false, has;
	int r = 0;
	for (size_t i = 0; r == 0 && i < chain->count; i++) {
		r = layer_page(&chain->layers[i], page, found ? below : own, &has);
		found |= has;
	}
	if (r < 0 || ram_page_is_zero(own))
		return r;
	*crc = ram_crc(*crc, page, own);
	return write_all(out, own, sizeof(own), page * RAM_PAGE_BYTES);
}

static int flatten_memory(const struct snapshot *snapshot, int dir_fd, uint32_t *ret_crc, struct err *err)
{
	const char *name = manifest_file_names[FILE_MEMORY];
	uint64_t bytes = snapshot->manifest.files[FILE_MEMORY].bytes;
	struct chain chain = {.count = 0};
	_cleanup_close_ int out = openat(dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	int r = out < 0 ? err_sys(err, -errno, "%s", name) : chain_open(&chain, snapshot, err);
	if (r == 0 && ftruncate(out, (off_t)bytes) < 0)
		r = err_sys(err, -errno, "%s", name);
	for (uint64_t page = 0; r == 0 && page < bytes / RAM_PAGE_BYTES; page++) {
		r = flatten_page(&chain, page, out, ret_crc);
		if (r < 0)
			(void)err_sys(err, r, "%s", name);
	}
	for (size_t i = 0; r == 0 && i < chain.count; i++)
		if (chain.layers[i].crc != chain.layers[i].snapshot->manifest.files[FILE_MEMORY].crc32c)
			r = err_set(err, -EINVAL,
				    "%s: memory: damaged: crc32c is %08x, the manifest says %08x",
				    chain.layers[i].snapshot->path, chain.layers[i].crc,
				    chain.layers[i].snapshot->manifest.files[FILE_MEMORY].crc32c);
	if (r == 0 && fsync(out) < 0)
		r = err_sys(err, -errno, "%s", name);
	chain_close(&chain);
	return r;
}

static int write_manifest(const struct snapshot *snapshot, int dir_fd, uint32_t crc, struct err *err)
{
	struct manifest manifest = snapshot->manifest; /* its texts stay the snapshot's */
	manifest.base_path = NULL;
	manifest.files[FILE_PAGES].present = false;
	manifest.files[FILE_MEMORY].crc32c = crc;
	_cleanup_free_ char *text = manifest_print(&manifest);
	if (!text)
		return err_sys(err, -ENOMEM, MANIFEST_NAME);
	return file_write(dir_fd, MANIFEST_NAME, text, strlen(text), err);
}

static int flatten(const struct snapshot *snapshot, struct new_dir *dir, struct err *err)
{
	uint32_t crc = 0;
	int r = file_write(dir->fd, manifest_file_names[FILE_CONFIG], snapshot->config, snapshot->config_len,
			   err);
	if (r == 0)
		r = file_write(dir->fd, manifest_file_names[FILE_STATE], snapshot->state_blob,
			       snapshot->manifest.files[FILE_STATE].bytes, err);
	if (r == 0)
		r = flatten_memory(snapshot, dir->fd, &crc, err);
	if (r == 0)
		r = write_manifest(snapshot, dir->fd, crc, err);
	return r < 0 ? r : new_dir_commit(dir, err);
}

int snapshot_flatten(const char *dir, const char *out, struct err *err)
{
	struct snapshot *snapshot;
	struct new_dir target = {.fd = -1, .parent_fd = -1};
	int r = snapshot_open(dir, &snapshot, err);
	if (r < 0)
		return r;
	r = new_dir_create(&target, out, err);
	if (r == 0)
		r = flatten(snapshot, &target, err);
	new_dir_finish(&target);
	snapshot_close(snapshot);
	return r;
}
