/*
 * qcow2: an image and the files behind it.
 *
 * The header names the backing file and its format. A format is never guessed: the guest that owns a raw disk
 * could write a qcow2 header into it, and would read any file of the host at the next start.
 */
#include "base/cleanup.h"
#include "qcow2.h"

#include <string.h>
#include <sys/stat.h>

/* The images above one that is being opened. */
struct link {
	const struct link *above;
	unsigned depth;
	dev_t device;
	ino_t inode;
};

static int open_image(const struct qcow2_options *options, const struct link *above, struct loop *loop,
		      struct block **ret, struct err *err);

static int look_at(const char *path, const struct link *above, struct link *ret, struct err *err)
{
	struct stat st;
	if (stat(path, &st) < 0)
		return err_sys(err, -errno, "%s", path);
	*ret = (struct link){.above = above,
			     .depth = above ? above->depth + 1 : 1,
			     .device = st.st_dev,
			     .inode = st.st_ino};
	for (const struct link *link = above; link; link = link->above) {
		if (link->device == ret->device && link->inode == ret->inode)
			return err_set(err, -ELOOP,
				       "%s: is, by way of its backing files, its own backing file", path);
	}
	if (ret->depth > QCOW2_CHAIN_MAX)
		return err_set(
			err, -ELOOP,
			"%s: is the %uth image of a chain, of at most %u; shorten it with: qemu-img commit",
			path, ret->depth, QCOW2_CHAIN_MAX);
	return 0;
}

/* Relative to the folder of the image that names it. NULL: no memory. */
static char *backing_path(const char *image, const char *name)
{
	const char *slash = strrchr(image, '/');
	char *path = NULL;
	if (name[0] == '/' || !slash)
		return strdup(name);
	if (asprintf(&path, "%.*s/%s", (int)(slash - image), image, name) < 0)
		return NULL;
	return path;
}

/* "nbd://…", "json:…", "file:…": QEMU's other ways to name a file. */
static bool is_protocol(const char *name)
{
	const char *colon = strchr(name, ':');
	const char *slash = strchr(name, '/');
	return colon && (!slash || colon < slash);
}

static int open_raw(const struct qcow2_options *options, bool container, struct loop *loop,
		    struct block **ret, struct err *err)
{
	const struct block_raw_spec spec = {.path = options->path,
					    .read_only = options->read_only,
					    .direct = options->direct,
					    .discard = options->discard,
					    .container = container,
					    .block_size = options->block_size};
	return block_raw_open(&spec, loop, ret, err);
}

static int open_backing_path(const char *path, const struct qcow2_header *header,
			     const struct qcow2_options *above_options, const struct link *above,
			     struct loop *loop, struct block **ret, struct err *err)
{
	const struct qcow2_options options = {.path = path,
					      .read_only = true,
					      .direct = above_options->direct,
					      .block_size = above_options->block_size};
	struct link link;
	if (strcmp(header->backing_format, "qcow2") == 0)
		return open_image(&options, above, loop, ret, err);
	if (strcmp(header->backing_format, "raw") != 0)
		return err_set(err, -EOPNOTSUPP, "%s: format '%s'; a backing file may be raw or qcow2", path,
			       header->backing_format);
	if (look_at(path, above, &link, err) < 0)
		return err->code;
	/* As a container it may end anywhere; zeros follow. */
	return open_raw(&options, true, loop, ret, err);
}

static int open_backing(const struct qcow2_header *header, const struct qcow2_options *options,
			const struct link *link, struct loop *loop, struct block **ret, struct err *err)
{
	const char *name = header->backing_name;
	if (!name[0])
		return 0;
	if (!header->backing_format[0])
		return err_set(
			err, -EINVAL,
			"%s: does not say the format of its backing file, and aerie does not guess; tell "
			"it with: qemu-img rebase -u -b %s -F FORMAT %s (FORMAT is raw or qcow2)",
			options->path, name, options->path);
	if (is_protocol(name))
		return err_set(err, -EOPNOTSUPP,
			       "%s: its backing file is '%s'; aerie opens files, by their path",
			       options->path, name);
	_cleanup_free_ char *path = backing_path(options->path, name);
	if (!path)
		return err_sys(err, -ENOMEM, "%s", options->path);
	if (open_backing_path(path, header, options, link, loop, ret, err) < 0)
		return link->above ? err->code : err_prepend(err, "%s: backing file", options->path);
	return 0;
}

static int open_image(const struct qcow2_options *options, const struct link *above, struct loop *loop,
		      struct block **ret, struct err *err)
{
	struct link link;
	struct block *file = NULL, *backing = NULL;
	struct qcow2_header header;
	int res = look_at(options->path, above, &link, err);
	if (res == 0)
		res = open_raw(options, true, loop, &file, err);
	if (res == 0)
		res = qcow2_read_header(file, &qcow2_raw_file, options, &header, err);
	if (res == 0)
		res = open_backing(&header, options, &link, loop, &backing, err);
	if (res == 0)
		res = qcow2_attach(file, &qcow2_raw_file, backing, &header, options, loop, ret, err);
	if (res < 0) {
		block_close(backing);
		block_close(file);
	}
	return res;
}

int qcow2_open(const struct disk_config *config, struct loop *loop, struct block **ret, struct err *err)
{
	const struct qcow2_options options = {.path = config->path,
					      .read_only = config->read_only,
					      .direct = config->direct,
					      .discard = config->discard,
					      .writethrough = config->cache == DISK_WRITETHROUGH,
					      .block_size = config->block_size};
	struct block *block = NULL;
	if (open_image(&options, NULL, loop, &block, err) < 0)
		return err->code;
	/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): set whenever the call before gave 0 */
	if (block->size_bytes == 0) {
		block_close(block);
		return err_set(err, -EINVAL, "%s: is a disk of 0 bytes; qemu-img resize makes it larger",
			       config->path);
	}
	*ret = block;
	return 0;
}
