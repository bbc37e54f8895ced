/* Is it the same machine? See config_match.h. */
#include "config_match.h"

#include "base/cleanup.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* One pair of values; the first that differs is the error. */
struct match {
	struct err *err;
	char where[32]; /* "devices.3.", or empty */
};

static void number(struct match *match, const char *key, uint64_t ours, uint64_t theirs)
{
	if (ours != theirs)
		(void)err_set(match->err, -EINVAL, "%s%s: %" PRIu64 " here, %" PRIu64 " there", match->where,
			      key, ours, theirs);
}

static void text(struct match *match, const char *key, const char *ours, const char *theirs)
{
	if (strcmp(ours ? ours : "", theirs ? theirs : "") != 0)
		(void)err_set(match->err, -EINVAL, "%s%s: \"%s\" here, \"%.100s\" there", match->where, key,
			      ours ? ours : "", theirs ? theirs : "");
}

static void match_disk(struct match *match, const struct disk_config *a, const struct disk_config *b)
{
	/* Read as another one it would be ruined. */
	static const char *const formats[] = {[DISK_RAW] = "raw", [DISK_QCOW2] = "qcow2"};
	text(match, "format", formats[a->format], formats[b->format]);
	number(match, "read_only", a->read_only, b->read_only);
	number(match, "discard", a->discard, b->discard);
	number(match, "queues", a->queues, b->queues);
	number(match, "queue_size", a->queue_size, b->queue_size);
	number(match, "block_size", a->block_size, b->block_size);
	text(match, "serial", a->serial, b->serial);
}

static void match_net(struct match *match, const struct net_config *a, const struct net_config *b)
{
	text(match, "mac", a->mac, b->mac);
	number(match, "mtu", a->mtu, b->mtu);
	number(match, "queues", a->queues, b->queues);
	number(match, "queue_size", a->queue_size, b->queue_size);
	number(match, "offload", a->offload, b->offload);
}

static void match_device(struct match *match, const struct device_config *a, const struct device_config *b)
{
	number(match, "type", a->type, b->type);
	if (match->err->code)
		return;
	/* The place is the first member of each. */
	number(match, "slot", a->disk.place.slot, b->disk.place.slot);
	switch (a->type) {
	case DEVICE_DISK:
		match_disk(match, &a->disk, &b->disk);
		break;
	case DEVICE_NET:
		match_net(match, &a->net, &b->net);
		break;
	case DEVICE_CONSOLE:
		number(match, "ports", a->console.port_count, b->console.port_count);
		break;
	case DEVICE_BALLOON:
		number(match, "deflate_on_oom", a->balloon.deflate_on_oom, b->balloon.deflate_on_oom);
		number(match, "free_page_reporting", a->balloon.free_page_reporting,
		       b->balloon.free_page_reporting);
		break;
	case DEVICE_VSOCK:
		number(match, "cid", a->vsock.cid, b->vsock.cid);
		break;
	case DEVICE_RNG:
	case DEVICE_PMEM:
	case DEVICE_VHOST_USER:
		break;
	}
}

static void match_devices(struct match *match, const struct machine_config *a, const struct machine_config *b)
{
	number(match, "number of devices", a->device_count, b->device_count);
	for (size_t i = 0; match->err->code == 0 && i < a->device_count; i++) {
		(void)snprintf(match->where, sizeof(match->where), "devices.%zu.", i);
		match_device(match, &a->devices[i], &b->devices[i]);
		/* An address of its own is made of the machine's name. */
		if (a->devices[i].type == DEVICE_NET && !a->devices[i].net.mac && match->err->code == 0) {
			*match->where = '\0';
			text(match, "name", a->name, b->name);
		}
	}
	*match->where = '\0';
}

int config_match(const struct machine_config *ours, const char *theirs, size_t bytes, struct err *err)
{
	struct match match = {.err = err, .where = ""};
	struct machine_config *other = NULL;
	int r = config_parse("the source's configuration", theirs, bytes, NULL, 0, &other, err);
	if (r < 0)
		return r;
	number(&match, "cpus.sockets", ours->cpus.sockets, other->cpus.sockets);
	number(&match, "cpus.cores", ours->cpus.cores, other->cpus.cores);
	number(&match, "cpus.threads", ours->cpus.threads, other->cpus.threads);
	text(&match, "cpu.model", ours->cpu.model, other->cpu.model);
	number(&match, "memory.size", ours->memory.size_bytes, other->memory.size_bytes);
	number(&match, "nested", ours->nested, other->nested);
	number(&match, "number of serial ports", ours->serial_count, other->serial_count);
	number(&match, "debug.exit", ours->debug.exit, other->debug.exit);
	number(&match, "debug.console", ours->debug.has_console, other->debug.has_console);
	match_devices(&match, ours, other);
	config_free(other);
	return err->code;
}

static int check_disk(const struct disk_config *disk, size_t index, struct err *err)
{
	struct stat st;
	if (stat(disk->path, &st) < 0)
		return err_sys(err, -errno, "devices.%zu: %s", index, disk->path);
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return err_set(err, -EINVAL, "devices.%zu: %s is neither a file nor a block device", index,
			       disk->path);
	if (access(disk->path, disk->read_only ? R_OK : R_OK | W_OK) < 0)
		return err_sys(err, -errno, "devices.%zu: %s", index, disk->path);
	return 0;
}

int config_check_disks(const struct machine_config *config, struct err *err)
{
	int r = 0;
	for (size_t i = 0; r == 0 && i < config->device_count; i++)
		if (config->devices[i].type == DEVICE_DISK)
			r = check_disk(&config->devices[i].disk, i, err);
	return r;
}
