#include "rules.h"

#include "reference.h"

#include <inttypes.h>
#include <string.h>

static const cJSON *member(const cJSON *object, const char *name)
{
	return cJSON_GetObjectItemCaseSensitive(object, name);
}

/* A rule between keys is broken by the last --set among them, or else by the file. */
static const cJSON *culprit(const cJSON *object)
{
	const cJSON *child, *last = object->child;
	cJSON_ArrayForEach(child, object)
	{
		if (json_origin(child) > json_origin(last))
			last = child;
	}
	return last;
}

/*
 * As QEMU since 6.2: of what is missing, cores get what count leaves over, then sockets, then threads; the
 * rest is 1.
 */
int rule_cpus(const struct decode *d, const struct place *at, const cJSON *node, void *fields)
{
	struct cpus_config *cpus = fields;
	const struct place count_at = {.parent = at, .name = "count"};
	uint32_t *derived = !cpus->cores     ? &cpus->cores
			    : !cpus->sockets ? &cpus->sockets
			    : !cpus->threads ? &cpus->threads
					     : NULL;
	cpus->sockets += !cpus->sockets;
	cpus->cores += !cpus->cores;
	cpus->threads += !cpus->threads;
	uint64_t known =
		(uint64_t)cpus->sockets * cpus->cores * cpus->threads; /* bounds keep it below 2^30 */
	if (!cpus->count) {
		if (known > CONFIG_CPUS_MAX)
			return refuse(d, &count_at, culprit(node),
				      "sockets * cores * threads is %" PRIu64 ", more than %d", known,
				      CONFIG_CPUS_MAX);
		cpus->count = (uint32_t)known;
	}
	if (derived && cpus->count % known == 0)
		*derived = (uint32_t)(cpus->count / known);
	else if (cpus->count != known)
		return refuse(d, &count_at, culprit(node),
			      "%u is not %ssockets * cores * threads (%u * %u * %u)", cpus->count,
			      derived ? "a multiple of " : "", cpus->sockets, cpus->cores, cpus->threads);
	return 0;
}

int rule_memory(const struct decode *d, const struct place *at, const cJSON *node, void *fields)
{
	static const uint64_t page_bytes[] = {
		[HUGEPAGES_OFF] = 4ULL << 10,
		[HUGEPAGES_2M] = 2ULL << 20,
		[HUGEPAGES_1G] = 1ULL << 30,
	};
	const struct memory_config *memory = fields;
	const struct place size_at = {.parent = at, .name = "size"};
	uint64_t page = page_bytes[memory->hugepages];
	char page_text[24], value[64];
	if (memory->size_bytes % page == 0)
		return 0;
	return refuse(d, &size_at, culprit(node), "%s is not a multiple of the page size, %s",
		      json_describe(member(node, "size"), value, sizeof(value)), size_text(page, page_text));
}

/* Two readers of one terminal steal each other's keys, two writers of one file each other's bytes. */
static bool chardevs_clash(const struct chardev_config *a, const struct chardev_config *b)
{
	if (a->path && b->path)
		return strcmp(a->path, b->path) == 0;
	return a->kind == CHARDEV_STDIO && b->kind == CHARDEV_STDIO;
}

static int refuse_clash(const struct decode *d, const struct place *at, const cJSON *node,
			const struct chardev_config *chardev, size_t owner)
{
	char path[80];
	return refuse(d, at, node, "%s is already serial.%zu",
		      chardev->path ? json_quote(chardev->path, path, sizeof(path)) : "\"stdio\"", owner);
}

/* RFC 9562, 4: 8-4-4-4-12 hexadecimal digits. */
static bool is_uuid(const char *text)
{
	for (size_t i = 0; i < 36; i++) {
		bool dash = i == 8 || i == 13 || i == 18 || i == 23;
		if (dash ? text[i] != '-' : !text[i] || !strchr("0123456789abcdefABCDEF", text[i]))
			return false;
	}
	return !text[36];
}

static int rule_generation_id(const struct decode *d, const struct place *at, const cJSON *node,
			      const struct machine_config *config)
{
	const struct place id_at = {.parent = at, .name = "vm_generation_id"};
	const cJSON *id = member(node, "vm_generation_id");
	char value[64];
	if (!config->vm_generation_id || is_uuid(config->vm_generation_id))
		return 0;
	return refuse(d, &id_at, id, "%s is not a UUID (as 00112233-4455-6677-8899-aabbccddeeff)",
		      json_describe(id, value, sizeof(value)));
}

int rule_machine(const struct decode *d, const struct place *at, const cJSON *node, void *fields)
{
	const struct machine_config *config = fields;
	const struct place serial_at = {.parent = at, .name = "serial"};
	const struct place debug_at = {.parent = at, .name = "debug"};
	const struct place console_at = {.parent = &debug_at, .name = "console"};
	const cJSON *serial = member(node, "serial"), *console = member(member(node, "debug"), "console");
	for (size_t owner = 0; owner < config->serial_count; owner++) {
		for (size_t i = owner + 1; i < config->serial_count; i++) {
			const struct place item_at = {.parent = &serial_at, .index = i};
			if (chardevs_clash(&config->serial[owner], &config->serial[i]))
				return refuse_clash(d, &item_at, cJSON_GetArrayItem(serial, (int)i),
						    &config->serial[i], owner);
		}
		if (config->debug.has_console &&
		    chardevs_clash(&config->serial[owner], &config->debug.console))
			return refuse_clash(d, &console_at, console, &config->debug.console, owner);
	}
	int r = rule_generation_id(d, at, node, config);
	return r < 0 ? r : rule_devices(d, at, node, config);
}
