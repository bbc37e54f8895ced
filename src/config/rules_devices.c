/* Rules between the keys of a device. `fields` is its struct device_config. */
#include "rules.h"

#include <stdio.h>
#include <string.h>

static const cJSON *member(const cJSON *object, const char *name)
{
	return cJSON_GetObjectItemCaseSensitive(object, name);
}

static int refuse_member(const struct decode *d, const struct place *at, const cJSON *node, const char *name,
			 const char *why)
{
	const struct place member_at = {.parent = at, .name = name};
	const cJSON *value = member(node, name);
	return refuse(d, &member_at, value ? value : node, "%s", why);
}

static int check_queue_size(const struct decode *d, const struct place *at, const cJSON *node, uint32_t size)
{
	return (size & (size - 1)) ? refuse_member(d, at, node, "queue_size", "not a power of two") : 0;
}

/* Six pairs of hex digits; the first byte names one station, not a group. */
static int check_mac(const struct decode *d, const struct place *at, const cJSON *node, const char *mac)
{
	unsigned byte[6];
	char more;
	if (!mac)
		return 0;
	if (strspn(mac, "0123456789abcdefABCDEF:") != strlen(mac) ||
	    sscanf(mac, "%2x:%2x:%2x:%2x:%2x:%2x%c", &byte[0], &byte[1], &byte[2], &byte[3], &byte[4],
		   &byte[5], &more) != 6)
		return refuse_member(d, at, node, "mac",
				     "not a hardware address (such as 52:54:00:12:34:56)");
	if (byte[0] & 1)
		return refuse_member(d, at, node, "mac",
				     "a group address; the first byte of a station's is even (such as 52)");
	return 0;
}

int rule_disk(const struct decode *d, const struct place *at, const cJSON *node, void *fields)
{
	const struct disk_config *disk = &((struct device_config *)fields)->disk;
	if (disk->block_size != 512 && disk->block_size != 4096)
		return refuse_member(d, at, node, "block_size", "neither 512 nor 4096");
	return check_queue_size(d, at, node, disk->queue_size);
}

int rule_net(const struct decode *d, const struct place *at, const cJSON *node, void *fields)
{
	struct net_config *net = &((struct device_config *)fields)->net;
	int ways = (net->tap != NULL) + (net->tap_fd != 0) + (net->passt != NULL) + (net->socket != NULL);
	if (ways != 1)
		return refuse(d, at, node, "a net needs %s of tap, tap_fd, passt and socket",
			      ways ? "only one" : "one");
	net->backend = net->passt ? NET_PASST : net->socket ? NET_UNIX : NET_TAP;
	if (net->queues > 1 && net->backend != NET_TAP)
		return refuse_member(d, at, node, "queues", "more than one needs tap");
	if (net->queues > 1 && net->tap_fd)
		return refuse_member(d, at, node, "queues", "more than one needs tap by name, not tap_fd");
	int r = check_queue_size(d, at, node, net->queue_size);
	return r ? r : check_mac(d, at, node, net->mac);
}

int rule_vhost_user(const struct decode *d, const struct place *at, const cJSON *node, void *fields)
{
	const struct vhost_user_config *vu = &((struct device_config *)fields)->vhost_user;
	if (vu->kind == VHOST_USER_FS && !vu->tag)
		return refuse_member(d, at, node, "tag", "required for fs");
	if (vu->kind != VHOST_USER_FS && vu->tag)
		return refuse_member(d, at, node, "tag", "only fs has one");
	if (vu->kind != VHOST_USER_NET && vu->mac)
		return refuse_member(d, at, node, "mac", "only net has one");
	int r = check_queue_size(d, at, node, vu->queue_size);
	return r ? r : check_mac(d, at, node, vu->mac);
}

static const struct pci_place_config *device_place(const struct device_config *device)
{
	switch (device->type) {
	case DEVICE_DISK:
		return &device->disk.place;
	case DEVICE_NET:
		return &device->net.place;
	case DEVICE_CONSOLE:
		return &device->console.place;
	case DEVICE_RNG:
		return &device->rng.place;
	case DEVICE_BALLOON:
		return &device->balloon.place;
	case DEVICE_VSOCK:
		return &device->vsock.place;
	case DEVICE_PMEM:
		return &device->pmem.place;
	case DEVICE_VHOST_USER:
		return &device->vhost_user.place;
	}
	return NULL;
}

static uint32_t io_thread_count(const struct machine_config *config)
{
	return config->io.threads ? config->io.threads : config->cpus.count < 4 ? config->cpus.count : 4;
}

/* A terminal has one reader: COM1 or one console port, not both. */
static bool stdio_taken(const struct machine_config *config, size_t before, size_t *ret_owner)
{
	for (size_t i = 0; i < config->serial_count; i++) {
		*ret_owner = i;
		if (config->serial[i].kind == CHARDEV_STDIO)
			return true;
	}
	for (size_t i = 0; i < before; i++)
		for (size_t p = 0;
		     config->devices[i].type == DEVICE_CONSOLE && p < config->devices[i].console.port_count;
		     p++)
			if (config->devices[i].console.ports[p].kind == CHARDEV_STDIO)
				return true;
	return false;
}

static int check_console(const struct decode *d, const struct place *at, const cJSON *node,
			 const struct machine_config *config, size_t index)
{
	const struct console_config *console = &config->devices[index].console;
	size_t owner, mine = 0;
	for (size_t p = 0; p < console->port_count; p++)
		mine += console->ports[p].kind == CHARDEV_STDIO;
	if (mine > 1 || (mine && stdio_taken(config, index, &owner)))
		return refuse_member(d, at, node, "ports",
				     "\"stdio\" is taken already (serial defaults to it)");
	return 0;
}

static int check_device(const struct decode *d, const struct place *at, const cJSON *node,
			const struct machine_config *config, size_t index)
{
	const struct device_config *device = &config->devices[index];
	const struct pci_place_config *place = device_place(device);
	const struct place slot_at = {.parent = at, .name = "slot"};
	const struct place thread_at = {.parent = at, .name = "iothread"};
	for (size_t i = 0; place->slot && i < index; i++)
		if (device_place(&config->devices[i])->slot == place->slot)
			return refuse(d, &slot_at, node, "%u is already the slot of devices.%zu", place->slot,
				      i);
	if (place->iothread > io_thread_count(config))
		return refuse(d, &thread_at, node, "%u, but there are %u (see io.threads)", place->iothread,
			      io_thread_count(config));
	if (device->type == DEVICE_VHOST_USER && !config->memory.shared)
		return refuse(d, at, node, "vhost-user needs memory.shared to be true");
	return device->type == DEVICE_CONSOLE ? check_console(d, at, node, config, index) : 0;
}

int rule_devices(const struct decode *d, const struct place *at, const cJSON *node,
		 const struct machine_config *config)
{
	const struct place list_at = {.parent = at, .name = "devices"};
	const cJSON *list = member(node, "devices");
	for (size_t i = 0; i < config->device_count; i++) {
		const struct place item_at = {.parent = &list_at, .index = i};
		const cJSON *item = cJSON_GetArrayItem(list, (int)i);
		int r = check_device(d, &item_at, item ? item : node, config, i);
		if (r)
			return r;
	}
	return 0;
}
