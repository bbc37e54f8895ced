/* Making a snapshot: snapshot/snapshot.h has the files and the order in which they appear. */
#include "base.h"
#include "base/cleanup.h"
#include "base/crc32c.h"
#include "devices/device.h"
#include "files.h"
#include "manifest.h"
#include "ram.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct snapshot_save {
	struct machine *machine;
	struct manifest manifest;
	struct new_dir dir;
	struct state_writer *state;
	char *config;
	uint64_t *pages; /* NULL: all */
	struct ram_progress progress;
	uint64_t bytes;
};

static int take_state(struct snapshot_save *save, struct err *err)
{
	int r = state_writer_create(&save->state, err);
	return r < 0 ? r : machine_save_state(save->machine, save->state, err);
}

static int take_config(struct snapshot_save *save, struct err *err)
{
	char *folder = getcwd(NULL, 0);
	if (!folder)
		return err_sys(err, -errno, "working directory");
	save->config = config_print_in(machine_config(save->machine), folder);
	free(folder);
	return save->config ? 0 : err_sys(err, -ENOMEM, "config.json");
}

/* Before their times are noted: afterwards nothing is written to them until the machine goes on, and the
 * first write then changes the time, also one to memory that is a file. */
static int flush_disks(struct snapshot_save *save, struct err *err)
{
	struct device *device;
	int r = 0;
	for (size_t i = 0; r == 0 && (device = machine_device(save->machine, i)); i++)
		r = device->class->flush ? device->class->flush(device, err) : 0;
	return r;
}

static int take_pages(struct snapshot_save *save, struct snapshot_base *base, struct err *err)
{
	if (!base)
		return 0;
	save->pages =
		calloc(ram_bitmap_words(ram_bytes(machine_memory(save->machine))), sizeof(*save->pages));
	if (!save->pages)
		return err_sys(err, -ENOMEM, "pages");
	return snapshot_base_take(base, save->pages, &save->manifest, err);
}

static int begin(struct snapshot_save *save, const char *dir, struct snapshot_base *base, struct err *err)
{
	int r = new_dir_create(&save->dir, dir, err);
	if (r == 0)
		r = manifest_init(&save->manifest, err);
	if (r == 0)
		r = flush_disks(save, err);
	if (r == 0)
		r = take_state(save, err);
	if (r == 0)
		r = take_config(save, err);
	if (r == 0)
		r = manifest_add_disks(&save->manifest, machine_config(save->machine), err);
	/* Last: reading the state can write to RAM. */
	return r < 0 ? r : take_pages(save, base, err);
}

int snapshot_save_begin(struct machine *machine, const char *dir, struct snapshot_base *base,
			struct snapshot_save **ret, struct err *err)
{
	struct snapshot_save *save = calloc(1, sizeof(*save));
	if (!save)
		return err_sys(err, -ENOMEM, "snapshot");
	save->machine = machine;
	save->dir.fd = save->dir.parent_fd = -1;
	int r = begin(save, dir, base, err);
	if (r < 0) {
		snapshot_save_free(save);
		return err_prepend(err, "snapshot");
	}
	*ret = save;
	return 0;
}

static int write_file(struct snapshot_save *save, enum manifest_file file, const void *data, size_t len,
		      struct err *err)
{
	save->manifest.files[file].present = true;
	save->manifest.files[file].bytes = len;
	save->manifest.files[file].crc32c = crc32c(0, data, len);
	return file_write(save->dir.fd, manifest_file_names[file], data, len, err);
}

static int write_ram(struct snapshot_save *save, struct err *err)
{
	const struct guest_memory *memory = machine_memory(save->machine);
	const char *name = manifest_file_names[FILE_MEMORY];
	_cleanup_close_ int fd = openat(save->dir.fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_sys(err, -errno, "%s", name);
	save->manifest.files[FILE_MEMORY].present = true;
	save->manifest.files[FILE_MEMORY].bytes = ram_bytes(memory);
	int r = ram_write(memory, fd, save->pages, &save->progress, &save->manifest.files[FILE_MEMORY].crc32c,
			  &save->bytes, err);
	if (r == 0 && save->pages)
		r = write_file(save, FILE_PAGES, save->pages,
			       ram_bitmap_words(ram_bytes(memory)) * sizeof(*save->pages), err);
	return r;
}

static int write_manifest(struct snapshot_save *save, struct err *err)
{
	_cleanup_free_ char *text = manifest_print(&save->manifest);
	if (!text)
		return err_sys(err, -ENOMEM, MANIFEST_NAME);
	return file_write(save->dir.fd, MANIFEST_NAME, text, strlen(text), err);
}

int snapshot_save_write(struct snapshot_save *save, struct err *err)
{
	const void *state;
	size_t bytes;
	int r = state_writer_finish(save->state, &state, &bytes, err);
	if (r == 0)
		r = write_file(save, FILE_CONFIG, save->config, strlen(save->config), err);
	if (r == 0)
		r = write_file(save, FILE_STATE, state, bytes, err);
	if (r == 0)
		r = write_ram(save, err);
	if (r == 0)
		r = write_manifest(save, err);
	if (r == 0)
		r = new_dir_commit(&save->dir, err);
	return r < 0 ? err_prepend(err, "snapshot %s", save->dir.path) : 0;
}

void snapshot_save_progress(const struct snapshot_save *save, uint64_t *ret_done, uint64_t *ret_total)
{
	*ret_done = atomic_load(&save->progress.done);
	*ret_total = atomic_load(&save->progress.total);
}

void snapshot_save_cancel(struct snapshot_save *save)
{
	atomic_store(&save->progress.cancelled, true);
}

const char *snapshot_save_id(const struct snapshot_save *save)
{
	return save->manifest.id;
}

const char *snapshot_save_path(const struct snapshot_save *save)
{
	return save->dir.path;
}

uint64_t snapshot_save_bytes(const struct snapshot_save *save)
{
	return save->bytes;
}

void snapshot_save_free(struct snapshot_save *save)
{
	if (!save)
		return;
	new_dir_finish(&save->dir);
	manifest_finish(&save->manifest);
	state_writer_destroy(save->state);
	free(save->config);
	free(save->pages);
	free(save);
}
