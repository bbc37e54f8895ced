#include "base.h"

#include "base/cleanup.h"
#include "memory/dirty.h"
#include "ram.h"

#include <errno.h>
#include <string.h>

struct snapshot_base {
	struct dirty_tracker *tracker;
	uint64_t *pages; /* written since */
	size_t words;
	char id[SNAPSHOT_ID_CHARS + 1];
	char *path; /* as the operator named it */
};

static int check_devices(const struct machine_config *config, struct err *err)
{
	for (size_t i = 0; i < config->device_count; i++)
		if (config->devices[i].type == DEVICE_VHOST_USER)
			return err_set(err, -EOPNOTSUPP,
				       "devices.%zu: a vhost-user device writes to RAM without telling us",
				       i);
	return 0;
}

int snapshot_base_create(struct machine *machine, const struct snapshot_save *save,
			 struct snapshot_base **ret, struct err *err)
{
	int r = check_devices(machine_config(machine), err);
	if (r < 0)
		return r;
	struct snapshot_base *base = calloc(1, sizeof(*base));
	if (!base)
		return err_sys(err, -ENOMEM, "dirty pages");
	base->words = ram_bitmap_words(ram_bytes(machine_memory(machine)));
	base->pages = calloc(base->words, sizeof(*base->pages));
	base->path = strdup(snapshot_save_path(save));
	memcpy(base->id, snapshot_save_id(save), sizeof(base->id));
	r = base->pages && base->path ? dirty_tracker_create(machine_memory(machine), &base->tracker, err)
				      : err_sys(err, -ENOMEM, "dirty pages");
	if (r < 0) {
		snapshot_base_free(base);
		return r;
	}
	*ret = base;
	return 0;
}

void snapshot_base_free(struct snapshot_base *base)
{
	if (!base)
		return;
	dirty_tracker_destroy(base->tracker);
	free(base->pages);
	free(base->path);
	free(base);
}

int snapshot_base_check(const struct snapshot_base *base, const char *path, struct err *err)
{
	struct snapshot *snapshot;
	int r = snapshot_open(path, &snapshot, err);
	if (r < 0)
		return err_prepend(err, "base");
	bool same = base && strcmp(snapshot_id(snapshot), base->id) == 0;
	snapshot_close(snapshot);
	if (same)
		return 0;
	return err_set(err, -EINVAL,
		       "base: %s is not the snapshot since which this machine remembers what is written "
		       "(take that with track=true)",
		       path);
}

int snapshot_base_take(struct snapshot_base *base, uint64_t *pages, struct manifest *manifest,
		       struct err *err)
{
	uint64_t count;
	int r = dirty_tracker_harvest(base->tracker, base->pages, &count);
	if (r < 0)
		return err_sys(err, r, "dirty pages");
	memcpy(pages, base->pages, base->words * sizeof(*pages));
	manifest->base_path = realpath(base->path, NULL);
	if (!manifest->base_path)
		return err_sys(err, -errno, "base %s", base->path);
	memcpy(manifest->base_id, base->id, sizeof(manifest->base_id));
	return 0;
}
