/* The files that a machine keeps its disks in: a snapshot of RAM is worth nothing beside other disks. */
#include "manifest.h"

#include "base/cleanup.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The file of a device, or NULL. */
static const char *device_file(const struct device_config *device, bool *ret_read_only)
{
	switch (device->type) {
	case DEVICE_DISK:
		*ret_read_only = device->disk.read_only;
		return device->disk.path;
	case DEVICE_PMEM:
		*ret_read_only = device->pmem.read_only;
		return device->pmem.path;
	default:
		return NULL;
	}
}

/* As config_print_in has it. */
static char *absolute(const char *path)
{
	char *text = NULL, *folder;
	if (path[0] == '/')
		return strdup(path);
	folder = getcwd(NULL, 0);
	size_t bytes = folder ? strlen(folder) + strlen(path) + sizeof("/") : 0;
	text = folder ? malloc(bytes) : NULL;
	if (text)
		(void)snprintf(text, bytes, "%s/%s", folder, path);
	free(folder);
	return text;
}

static uint64_t mtime_ns(const struct stat *st)
{
	return (uint64_t)st->st_mtim.tv_sec * 1000000000 + (uint64_t)st->st_mtim.tv_nsec;
}

int manifest_add_disks(struct manifest *manifest, const struct machine_config *config, struct err *err)
{
	for (size_t i = 0; i < config->device_count; i++) {
		bool read_only = false;
		struct stat st;
		const char *path = device_file(&config->devices[i], &read_only);
		if (!path)
			continue;
		if (stat(path, &st) < 0)
			return err_sys(err, -errno, "devices.%zu: %s", i, path);
		struct manifest_disk *disk = &manifest->disks[manifest->disk_count];
		disk->path = absolute(path);
		if (!disk->path)
			return err_sys(err, -ENOMEM, "devices.%zu: %s", i, path);
		disk->bytes = (uint64_t)st.st_size;
		disk->mtime_ns = mtime_ns(&st);
		disk->read_only = read_only;
		manifest->disk_count++;
	}
	return 0;
}

static int check_disk(const struct manifest_disk *disk, struct err *err)
{
	struct stat st;
	if (stat(disk->path, &st) < 0)
		return err_sys(err, -errno, "disk %s", disk->path);
	if (!S_ISREG(st.st_mode))
		return 0; /* of a block device the time says nothing; its size is checked when it is opened */
	if ((uint64_t)st.st_size != disk->bytes)
		return err_set(err, -ESTALE,
			       "disk %s: %lld bytes, %" PRIu64
			       " when the snapshot was taken: give the machine a copy from then (--set)",
			       disk->path, (long long)st.st_size, disk->bytes);
	if (mtime_ns(&st) != disk->mtime_ns)
		return err_set(err, -ESTALE,
			       "disk %s: written since the snapshot was taken: give the machine a copy from "
			       "then (--set)",
			       disk->path);
	return 0;
}

int manifest_check_disks(const struct manifest *manifest, const struct machine_config *config,
			 struct err *err)
{
	int r = 0;
	for (size_t i = 0; r == 0 && i < config->device_count; i++) {
		bool read_only;
		const char *path = device_file(&config->devices[i], &read_only);
		for (size_t d = 0; path && r == 0 && d < manifest->disk_count; d++)
			if (strcmp(manifest->disks[d].path, path) == 0)
				r = check_disk(&manifest->disks[d], err);
	}
	return r;
}
