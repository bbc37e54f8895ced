/*
 * State tables to flattened device trees and back (Devicetree Specification 0.4, sections 2.2.4 and 5.4).
 *
 *	field			property value
 *	bool, u8, u16, u32	one 32-bit cell, big-endian; bool is 0 or 1
 *	u64			two cells, the high one first
 *	array of u8		its bytes
 *	any other array		its elements, one after another, as above
 *
 * The property's name is the field's, with '-' for '_'.
 */
#include "state/state.h"

#include <errno.h>
#include <libfdt.h>
#include <string.h>

enum { PROPERTY_NAME_BYTES = 31 + 1 }; /* section 2.2.4.1: 1 to 31 characters */

/* How a type lies in memory and in a property. */
static const struct {
	uint8_t host_bytes;
	uint8_t cell_bytes;
	uint64_t max;
} types[] = {
	[STATE_BOOL] = {sizeof(bool), 4, 1}, [STATE_U8] = {1, 4, UINT8_MAX},
	[STATE_U16] = {2, 4, UINT16_MAX},    [STATE_U32] = {4, 4, UINT32_MAX},
	[STATE_U64] = {8, 8, UINT64_MAX},
};

static size_t element_bytes(const struct state_field *field)
{
	return field->is_array && field->type == STATE_U8 ? 1 : types[field->type].cell_bytes;
}

static char property_char(char c)
{
	return c == '_' ? '-' : c;
}

static int property_name(const struct state_field *field, char name[PROPERTY_NAME_BYTES])
{
	size_t len = strlen(field->name);
	if (len == 0 || len >= PROPERTY_NAME_BYTES)
		return -EINVAL; /* a mistake in our own table */
	for (size_t i = 0; i <= len; i++)
		name[i] = property_char(field->name[i]);
	return 0;
}

static uint64_t load_element(enum state_type type, const void *p)
{
	/* x86-64 is little-endian: the low bytes of `v` are the value, whatever its width. */
	uint64_t v = 0;
	memcpy(&v, p, types[type].host_bytes);
	return v;
}

static void store_element(enum state_type type, void *p, uint64_t v)
{
	memcpy(p, &v, types[type].host_bytes);
}

static void store_be(uint8_t *p, size_t bytes, uint64_t v)
{
	for (size_t i = bytes; i-- > 0; v >>= 8)
		p[i] = (uint8_t)v;
}

static uint64_t load_be(const uint8_t *p, size_t bytes)
{
	uint64_t v = 0;
	for (size_t i = 0; i < bytes; i++)
		v = v << 8 | p[i];
	return v;
}

static int encode_field(const struct state_field *field, const uint8_t *data, void *fdt)
{
	char name[PROPERTY_NAME_BYTES];
	int r = property_name(field, name);
	if (r < 0)
		return r;
	size_t bytes = element_bytes(field);
	void *value;
	r = fdt_property_placeholder(fdt, name, (int)(field->count * bytes), &value);
	if (r < 0)
		return r == -FDT_ERR_NOSPACE ? -ENOSPC : -EINVAL;
	for (uint32_t i = 0; i < field->count; i++) {
		const uint8_t *element = data + field->offset + i * (size_t)types[field->type].host_bytes;
		store_be((uint8_t *)value + i * bytes, bytes, load_element(field->type, element));
	}
	return 0;
}

int state_encode(const struct state_table *table, const void *data, void *fdt)
{
	for (size_t i = 0; i < table->field_count; i++) {
		int r = encode_field(&table->fields[i], data, fdt);
		if (r < 0)
			return r;
	}
	return 0;
}

static const char *node_name(const void *fdt, int node)
{
	const char *name = fdt_get_name(fdt, node, NULL);
	if (!name)
		return "?";
	return name[0] ? name : "/";
}

/* Returns 1 if the property was there, 0 if it was not and need not be. */
static int decode_field(const struct state_field *field, uint8_t *data, const void *fdt, int node,
			struct err *err)
{
	char name[PROPERTY_NAME_BYTES];
	if (property_name(field, name) < 0)
		return err_set(err, -EINVAL, "%s: not a property name: %s", node_name(fdt, node),
			       field->name);
	int len;
	const uint8_t *value = fdt_getprop(fdt, node, name, &len);
	if (!value && len == -FDT_ERR_NOTFOUND && field->optional)
		return 0;
	if (!value)
		return err_set(err, -EINVAL, "%s: property %s is missing", node_name(fdt, node), name);
	size_t bytes = element_bytes(field);
	if ((size_t)len != field->count * bytes)
		return err_set(err, -EINVAL, "%s: property %s has %d bytes instead of %zu",
			       node_name(fdt, node), name, len, field->count * bytes);
	for (uint32_t i = 0; i < field->count; i++) {
		uint64_t v = load_be(value + i * bytes, bytes);
		if (v > types[field->type].max)
			return err_set(err, -EINVAL, "%s: property %s: %#llx is more than %#llx",
				       node_name(fdt, node), name, (unsigned long long)v,
				       (unsigned long long)types[field->type].max);
		store_element(field->type, data + field->offset + i * (size_t)types[field->type].host_bytes,
			      v);
	}
	return 1;
}

static bool names_field(const char *property, const struct state_field *field)
{
	const char *f = field->name;
	while (*f && property_char(*f) == *property) {
		f++;
		property++;
	}
	return !*f && !*property;
}

static bool is_known(const struct state_table *table, const char *property)
{
	for (size_t i = 0; i < table->field_count; i++)
		if (names_field(property, &table->fields[i]))
			return true;
	return false;
}

/*
 * Every property of the node must be one of the `expected` that the table found; what is known and still too
 * many is there twice, and a reader that takes the first of two would not see what another one sees.
 */
static int check_properties(const struct state_table *table, const void *fdt, int node, int expected,
			    struct err *err)
{
	int count = 0;
	int offset;
	fdt_for_each_property_offset(offset, fdt, node)
	{
		const char *name;
		if (!fdt_getprop_by_offset(fdt, offset, &name, NULL))
			return err_set(err, -EINVAL, "%s: broken property", node_name(fdt, node));
		if (!is_known(table, name))
			return err_set(err, -EINVAL, "%s: unknown property %s", node_name(fdt, node), name);
		count++;
	}
	if (offset != -FDT_ERR_NOTFOUND)
		return err_set(err, -EINVAL, "%s: broken node", node_name(fdt, node));
	if (count != expected)
		return err_set(err, -EINVAL, "%s: a property is there twice", node_name(fdt, node));
	return 0;
}

int state_decode(const struct state_table *table, void *data, const void *fdt, int node, struct err *err)
{
	int found = 0;
	for (size_t i = 0; i < table->field_count; i++) {
		int r = decode_field(&table->fields[i], data, fdt, node, err);
		if (r < 0)
			return r;
		found += r;
	}
	return check_properties(table, fdt, node, found, err);
}
