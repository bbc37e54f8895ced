/* Devices of a running machine: disks, balloon, network. */
#include "control_impl.h"

#include "config/json.h"
#include "config/suggest.h"
#include "devices/balloon.h"
#include "devices/disk.h"
#include "devices/net.h"
#include "memory/memory.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { DEVICE_NAME_BYTES = 32 };

/* The index-th device of class `class`, which is called "class" and that number; NULL past the last. */
static struct device *nth_device(struct machine *machine, const char *class, size_t index)
{
	struct device *device;
	for (size_t i = 0; (device = machine_device(machine, i)); i++)
		if (strcmp(device->class->name, class) == 0 && index-- == 0)
			return device;
	return NULL;
}

static const char *name_device(const char *class, size_t index, char text[DEVICE_NAME_BYTES])
{
	(void)snprintf(text, DEVICE_NAME_BYTES, "%s%zu", class, index);
	return text;
}

static int find_device(struct request *request, const char *class, const char *name, struct device **ret,
		       struct err *err)
{
	struct machine *machine = request->control->machine;
	char own[DEVICE_NAME_BYTES], quoted[80];
	for (size_t i = 0; (*ret = nth_device(machine, class, i)); i++)
		if (strcmp(name_device(class, i, own), name) == 0)
			return 0;
	if (!nth_device(machine, class, 0))
		return err_set(err, -ENODEV, "%s: this machine has no %s", request->command->info.name,
			       class);
	return err_set(err, -ENODEV, "%s: there is no device %s; this machine has %s0 and so on",
		       request->command->info.name, json_quote(name, quoted, sizeof(quoted)), class);
}

/* ---- disks ---- */

static const char *disk_driver(const struct disk_config *config)
{
	return config->format == DISK_QCOW2 ? "qcow2" : "raw";
}

static void describe_image(cJSON *inserted, const struct disk_config *config, struct device *device)
{
	cJSON *image = cJSON_AddObjectToObject(inserted, "image");
	cJSON_AddStringToObject(image, "filename", config->path);
	cJSON_AddStringToObject(image, "format", disk_driver(config));
	json_add_u64(image, "virtual-size", disk_size(device));
	cJSON *cache = cJSON_AddObjectToObject(inserted, "cache");
	cJSON_AddBoolToObject(cache, "writeback", config->cache == DISK_WRITEBACK);
	cJSON_AddBoolToObject(cache, "direct", config->direct);
	cJSON_AddFalseToObject(cache, "no-flush");
}

static void describe_limits(cJSON *inserted, const struct disk_config *config)
{
	json_add_u64(inserted, "bps", config->rate.bytes_per_second);
	json_add_u64(inserted, "iops", config->rate.ops_per_second);
	static const char *const unused[] = {
		"bps_rd", "bps_wr", "iops_rd", "iops_wr", "backing_file_depth", "write_threshold"};
	for (size_t i = 0; i < sizeof(unused) / sizeof(unused[0]); i++)
		json_add_u64(inserted, unused[i], 0);
}

static int query_block(struct request *request, const struct value *values, cJSON **ret, struct err *err)
{
	struct device *device;
	char name[DEVICE_NAME_BYTES];
	(void)values, (void)err;
	*ret = cJSON_CreateArray();
	for (size_t i = 0; (device = nth_device(request->control->machine, "disk", i)); i++) {
		const struct disk_config *config =
			device->class->config(machine_config(request->control->machine), i);
		cJSON *entry = cJSON_CreateObject();
		cJSON_AddStringToObject(entry, "device", name_device("disk", i, name));
		cJSON_AddStringToObject(entry, "qdev", name);
		cJSON_AddStringToObject(entry, "type", "unknown");
		cJSON_AddFalseToObject(entry, "removable");
		cJSON_AddFalseToObject(entry, "locked");
		cJSON *inserted = cJSON_AddObjectToObject(entry, "inserted");
		cJSON_AddStringToObject(inserted, "file", config->path);
		cJSON_AddStringToObject(inserted, "node-name", name);
		cJSON_AddStringToObject(inserted, "drv", disk_driver(config));
		cJSON_AddBoolToObject(inserted, "ro", config->read_only);
		cJSON_AddFalseToObject(inserted, "encrypted");
		cJSON_AddStringToObject(inserted, "detect_zeroes", "off");
		describe_limits(inserted, config);
		describe_image(inserted, config, device);
		cJSON_AddItemToArray(*ret, entry);
	}
	return 0;
}

enum { RESIZE_DEVICE, RESIZE_NODE, RESIZE_SIZE };

static int block_resize(struct request *request, const struct value *values, cJSON **ret, struct err *err)
{
	const struct value *name =
		values[RESIZE_DEVICE].given ? &values[RESIZE_DEVICE] : &values[RESIZE_NODE];
	struct device *device;
	(void)ret;
	if (values[RESIZE_DEVICE].given == values[RESIZE_NODE].given)
		return err_set(err, -EINVAL,
			       "block_resize: one of \"device\" and \"node-name\" says which disk");
	int r = find_device(request, "disk", name->text, &device, err);
	if (r == 0)
		r = disk_resize(device, values[RESIZE_SIZE].number, err);
	return r;
}

/* ---- balloon ---- */

static int find_balloon(struct request *request, struct device **ret, struct err *err)
{
	*ret = nth_device(request->control->machine, "balloon", 0);
	return *ret ? 0
		    : err_set(err, -ENXIO,
			      "%s: this machine has no balloon (\"devices\": [{\"type\": "
			      "\"balloon\"}])",
			      request->command->info.name);
}

static uint64_t ram_bytes(const struct request *request)
{
	return machine_config(request->control->machine)->memory.size_bytes;
}

static uint64_t without(uint64_t all, uint64_t part)
{
	return part < all ? all - part : 0;
}

static int balloon(struct request *request, const struct value *values, cJSON **ret, struct err *err)
{
	struct device *device;
	(void)ret;
	int r = find_balloon(request, &device, err);
	if (r == 0)
		balloon_set_target(device, without(ram_bytes(request), values[0].number));
	return r;
}

static const char *const stat_names[BALLOON_STATS] = {
	[BALLOON_SWAP_IN] = "stat-swap-in",
	[BALLOON_SWAP_OUT] = "stat-swap-out",
	[BALLOON_MAJOR_FAULTS] = "stat-major-faults",
	[BALLOON_MINOR_FAULTS] = "stat-minor-faults",
	[BALLOON_FREE] = "stat-free-memory",
	[BALLOON_TOTAL] = "stat-total-memory",
	[BALLOON_AVAILABLE] = "stat-available-memory",
	[BALLOON_CACHES] = "stat-disk-caches",
	[BALLOON_HUGE_ALLOCATED] = "stat-htlb-pgalloc",
	[BALLOON_HUGE_FAILED] = "stat-htlb-pgfail",
};

static int query_balloon(struct request *request, const struct value *values, cJSON **ret, struct err *err)
{
	struct balloon_info info;
	struct device *device;
	(void)values;
	int r = find_balloon(request, &device, err);
	if (r < 0)
		return r;
	balloon_get_info(device, &info);
	*ret = cJSON_CreateObject();
	json_add_u64(*ret, "actual", without(ram_bytes(request), info.actual_bytes));
	json_add_u64(*ret, "target", without(ram_bytes(request), info.target_bytes));
	cJSON *stats = cJSON_AddObjectToObject(*ret, "stats");
	for (size_t i = 0; i < BALLOON_STATS; i++)
		if (info.known & UINT64_C(1) << i)
			json_add_u64(stats, stat_names[i], info.stats[i]);
	if (info.known)
		json_add_u64(*ret, "stats-age-ms", info.age_ns / 1000000);
	return 0;
}

/* ---- network ---- */

enum { LINK_NAME, LINK_UP };

static int set_link(struct request *request, const struct value *values, cJSON **ret, struct err *err)
{
	struct device *device;
	(void)ret;
	int r = find_device(request, "net", values[LINK_NAME].text, &device, err);
	if (r == 0)
		net_set_link(device, values[LINK_UP].flag);
	return r;
}

static int query_net(struct request *request, const struct value *values, cJSON **ret, struct err *err)
{
	struct device *device;
	char name[DEVICE_NAME_BYTES];
	(void)values, (void)err;
	*ret = cJSON_CreateArray();
	for (size_t i = 0; (device = nth_device(request->control->machine, "net", i)); i++) {
		struct net_counts counts;
		net_get_counts(device, &counts);
		cJSON *entry = cJSON_CreateObject();
		cJSON_AddStringToObject(entry, "name", name_device("net", i, name));
		json_add_u64(entry, "rx-packets", counts.rx_packets);
		json_add_u64(entry, "rx-bytes", counts.rx_bytes);
		json_add_u64(entry, "rx-dropped", counts.rx_dropped);
		json_add_u64(entry, "tx-packets", counts.tx_packets);
		json_add_u64(entry, "tx-bytes", counts.tx_bytes);
		json_add_u64(entry, "tx-dropped", counts.tx_dropped);
		cJSON_AddItemToArray(*ret, entry);
	}
	return 0;
}

/* ---- what they tell by themselves ---- */

static void tell_io_error(struct control *control, struct device *device, size_t index, const char *operation,
			  bool no_space)
{
	const struct disk_config *config = device->class->config(machine_config(control->machine), index);
	char name[DEVICE_NAME_BYTES];
	cJSON *data = cJSON_CreateObject();
	cJSON_AddStringToObject(data, "device", name_device("disk", index, name));
	cJSON_AddStringToObject(data, "qom-path", name);
	cJSON_AddStringToObject(data, "node-name", name);
	cJSON_AddStringToObject(data, "operation", operation);
	cJSON_AddStringToObject(data, "action", config->on_error == DISK_RETRY ? "retry" : "report");
	cJSON_AddBoolToObject(data, "nospace", no_space);
	cJSON_AddStringToObject(data, "reason",
				no_space ? "no space on the host" : "input/output error of the host");
	control_event(control, "BLOCK_IO_ERROR", data);
}

static void tell_balloon(struct control *control, struct device *device)
{
	cJSON *data = cJSON_CreateObject();
	json_add_u64(data, "actual",
		     without(machine_config(control->machine)->memory.size_bytes, balloon_held(device)));
	control_event(control, "BALLOON_CHANGE", data);
}

void control_tell_news(struct control *control, struct device *device, unsigned news)
{
	size_t index = 0;
	for (struct device *at;
	     (at = nth_device(control->machine, device->class->name, index)) && at != device; index++)
		continue;
	if (news & DEVICE_BALLOON_CHANGED)
		tell_balloon(control, device);
	if (news & DEVICE_READ_FAILED)
		tell_io_error(control, device, index, "read",
			      news & DEVICE_NO_SPACE && !(news & DEVICE_WRITE_FAILED));
	if (news & DEVICE_WRITE_FAILED)
		tell_io_error(control, device, index, "write", news & DEVICE_NO_SPACE);
}

const struct command commands_devices[] = {
	{{.name = "query-block", .doc = "the disks, their images and sizes"}, query_block},
	{{.name = "block_resize",
	  .doc = "make a disk larger (or smaller) while the guest uses it",
	  .args = {[RESIZE_DEVICE] = {.name = "device",
				      .type = ARG_TEXT,
				      .optional = true,
				      .min = 1,
				      .max = 64,
				      .doc = "as query-block has it: disk0"},
		   [RESIZE_NODE] = {.name = "node-name",
				    .type = ARG_TEXT,
				    .optional = true,
				    .min = 1,
				    .max = 64,
				    .doc = "the same, for clients that use this name"},
		   [RESIZE_SIZE] = {.name = "size",
				    .type = ARG_BYTES,
				    .max = INT64_MAX,
				    .doc = "new size; 0: as large as the host's disk has become"}}},
	 block_resize},
	{{.name = "query-balloon", .doc = "how much memory the guest has, and what it says of it"},
	 query_balloon},
	{{.name = "balloon",
	  .doc = "ask the guest to live in so much memory",
	  .args = {{.name = "value", .type = ARG_BYTES, .min = 1, .max = INT64_MAX, .doc = "its new size"}}},
	 balloon},
	{{.name = "query-net", .doc = "the network cards and what they have carried"}, query_net},
	{{.name = "set_link",
	  .doc = "plug a network cable in or out",
	  .args = {[LINK_NAME] = {.name = "name",
				  .type = ARG_TEXT,
				  .min = 1,
				  .max = 64,
				  .doc = "as query-net has it: net0"},
		   [LINK_UP] = {.name = "up", .type = ARG_BOOL, .doc = "true: in"}}},
	 set_link},
	{{.name = NULL}, NULL},
};
