/* Reading a saved state that comes from anywhere: see state/file.h for the format. */
#include "state/file.h"

#include "base/crc32c.h"

#include <errno.h>
#include <libfdt.h>
#include <stdio.h>
#include <string.h>

enum { NODE_NAME_BYTES = 64 };

/* Messages stand on a terminal: what a file calls its nodes and properties is cut and made printable. */
struct shown {
	char text[48];
};

static struct shown show(const char *name)
{
	struct shown shown;
	(void)snprintf(shown.text, sizeof(shown.text), "%s", name && name[0] ? name : "/");
	for (char *p = shown.text; *p; p++)
		if (*p < 0x20 || *p > 0x7e)
			*p = '?';
	return shown;
}

static struct shown show_node(const struct state_file *file, int node)
{
	return show(fdt_get_name(file->fdt, node, NULL));
}

/* The checksum is that of the blob with its own four bytes as zeros. */
static int check_sum(const void *blob, size_t bytes, struct err *err)
{
	static const uint8_t zeros[sizeof(fdt32_t)];
	int len;
	const uint8_t *at = fdt_getprop(blob, 0, "crc32c", &len);
	if (!at || len != (int)sizeof(zeros))
		return err_set(err, -EINVAL, "state: property crc32c is missing");
	const uint8_t *begin = blob, *behind = at + sizeof(zeros);
	uint32_t crc = crc32c(0, begin, (size_t)(at - begin));
	crc = crc32c(crc, zeros, sizeof(zeros));
	crc = crc32c(crc, behind, (size_t)(begin + bytes - behind));
	if (crc != fdt32_ld((const fdt32_t *)(const void *)at))
		return err_set(err, -EINVAL, "state: damaged: crc32c is %#x, not %#x", crc,
			       fdt32_ld((const fdt32_t *)(const void *)at));
	return 0;
}

int state_file_open(const void *blob, size_t bytes, struct state_file *ret, struct err *err)
{
	if (bytes < sizeof(struct fdt_header) || bytes > STATE_FILE_BYTES_MAX)
		return err_set(err, -EINVAL, "state: %zu bytes cannot be a device tree", bytes);
	if (fdt_check_header(blob) != 0)
		return err_set(err, -EINVAL, "state: not a device tree, or its header is damaged");
	if (fdt_totalsize(blob) != bytes)
		return err_set(err, -EINVAL, "state: %zu bytes of %u: cut, or something behind it", bytes,
			       fdt_totalsize(blob));
	int r = fdt_check_full(blob, bytes);
	if (r != 0)
		return err_set(err, -EINVAL, "state: damaged device tree: %s", fdt_strerror(r));
	struct state_file file = {.fdt = blob};
	uint32_t format = 0;
	r = check_sum(blob, bytes, err);
	if (r == 0)
		r = state_read_u32(&file, 0, "format", &format, err);
	if (r < 0)
		return r;
	if (format == 0 || format > STATE_FORMAT)
		return err_set(err, -ENOTSUP,
			       "state: format %u, this aerie reads up to %d: use the aerie that wrote it",
			       format, STATE_FORMAT);
	*ret = file;
	return 0;
}

int state_node(const struct state_file *file, int parent, const char *name, struct err *err)
{
	int found = -1, node;
	fdt_for_each_subnode(node, file->fdt, parent)
	{
		const char *candidate = fdt_get_name(file->fdt, node, NULL);
		if (!candidate || strcmp(candidate, name) != 0)
			continue;
		if (found >= 0)
			return err_set(err, -EINVAL, "%s: node %s is there twice",
				       show_node(file, parent).text, name);
		found = node;
	}
	if (found < 0)
		return err_set(err, -EINVAL, "%s: node %s is missing", show_node(file, parent).text, name);
	return found;
}

int state_node_numbered(const struct state_file *file, int parent, const char *name, uint32_t number,
			struct err *err)
{
	char text[NODE_NAME_BYTES];
	(void)snprintf(text, sizeof(text), "%s%u", name, number);
	return state_node(file, parent, text, err);
}

uint32_t state_node_count(const struct state_file *file, int parent)
{
	uint32_t count = 0;
	int node;
	fdt_for_each_subnode(node, file->fdt, parent) count++;
	return count;
}

int state_check_nodes(const struct state_file *file, int parent, uint32_t expected, struct err *err)
{
	uint32_t count = state_node_count(file, parent);
	if (count == expected)
		return 0;
	return err_set(err, -EINVAL, "%s: has %u nodes, this machine knows %u of them",
		       show_node(file, parent).text, count, expected);
}

bool state_has(const struct state_file *file, int node, const char *name)
{
	return fdt_getprop(file->fdt, node, name, NULL);
}

const void *state_read_bytes(const struct state_file *file, int node, const char *name, size_t *ret_len,
			     struct err *err)
{
	int len;
	const void *value = fdt_getprop(file->fdt, node, name, &len);
	if (!value) {
		(void)err_set(err, -EINVAL, "%s: property %s is missing", show_node(file, node).text, name);
		return NULL;
	}
	*ret_len = (size_t)len;
	return value;
}

int state_read_exact(const struct state_file *file, int node, const char *name, void *ret, size_t len,
		     struct err *err)
{
	size_t have;
	const void *value = state_read_bytes(file, node, name, &have, err);
	if (!value)
		return -EINVAL;
	if (have != len)
		return err_set(err, -EINVAL, "%s: property %s has %zu bytes instead of %zu",
			       show_node(file, node).text, name, have, len);
	memcpy(ret, value, len);
	return 0;
}

int state_read_u32(const struct state_file *file, int node, const char *name, uint32_t *ret, struct err *err)
{
	uint8_t cell[sizeof(uint32_t)];
	int r = state_read_exact(file, node, name, cell, sizeof(cell), err);
	if (r == 0)
		*ret = state_cell(cell, 0);
	return r;
}

int state_read_u64(const struct state_file *file, int node, const char *name, uint64_t *ret, struct err *err)
{
	uint8_t cells[sizeof(uint64_t)];
	int r = state_read_exact(file, node, name, cells, sizeof(cells), err);
	if (r == 0)
		*ret = (uint64_t)state_cell(cells, 0) << 32 | state_cell(cells, 1);
	return r;
}

uint32_t state_cell(const void *bytes, size_t index)
{
	const uint8_t *p = (const uint8_t *)bytes + index * sizeof(uint32_t);
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static bool is_among(const char *name, const char *const *names)
{
	for (; *names; names++)
		if (strcmp(*names, name) == 0)
			return true;
	return false;
}

int state_check_properties(const struct state_file *file, int node, const char *const *names, struct err *err)
{
	size_t count = 0, known = 0;
	int offset;
	fdt_for_each_property_offset(offset, file->fdt, node)
	{
		const char *name;
		if (!fdt_getprop_by_offset(file->fdt, offset, &name, NULL))
			return err_set(err, -EINVAL, "%s: broken property", show_node(file, node).text);
		if (!is_among(name, names))
			return err_set(err, -EINVAL, "%s: unknown property %s", show_node(file, node).text,
				       show(name).text);
		count++;
	}
	for (; *names; names++)
		known += state_has(file, node, *names);
	if (count != known)
		return err_set(err, -EINVAL, "%s: a property is there twice", show_node(file, node).text);
	return 0;
}
