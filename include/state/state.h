/*
 * Tables that describe saved state, and their encoding as a flattened device tree (Devicetree Specification
 * 0.4, section 5).
 *
 * A unit (a device, a vCPU part) has one struct with all that must survive and one `struct state_table` with
 * a row for each field. Saving walks the rows, restoring decodes into a fresh copy that the caller checks and
 * then assigns; a failed restore has changed nothing.
 *
 *	static const struct state_field rtc_fields[] = {
 *		STATE_FIELD(struct rtc_regs, index),
 *		STATE_ARRAY(struct rtc_regs, ram),		// uint8_t ram[128]: bytes
 *		STATE_FIELD_OPTIONAL(struct rtc_regs, century), // absent in older files: the reset value
 *	};
 *	const struct state_table rtc_state = STATE_TABLE("rtc", struct rtc_regs, rtc_fields);
 *
 * Encoding: bool, u8, u16 and u32 are one big-endian 32-bit cell, u64 two cells (high first), arrays of u8
 * are bytes, arrays of others are that many elements. A property is never reused for another meaning.
 */
#ifndef AERIE_STATE_STATE_H
#define AERIE_STATE_STATE_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum state_type { STATE_BOOL, STATE_U8, STATE_U16, STATE_U32, STATE_U64 };

struct state_field {
	const char *name; /* the property: the member's name with '-' for '_' */
	size_t offset;
	uint32_t count; /* elements; 1 for a scalar */
	enum state_type type;
	bool is_array;
	bool optional;
};

struct state_table {
	const char *name;
	size_t size; /* of the struct, in bytes */
	const struct state_field *fields;
	size_t field_count;
};

/* The type of the member decides; another type than these does not compile. */
#define STATE_TYPE_OF(p)                                                                                     \
	_Generic((p),                          \
		bool *: STATE_BOOL,            \
		uint8_t *: STATE_U8,           \
		uint16_t *: STATE_U16,         \
		uint32_t *: STATE_U32,         \
		uint64_t *: STATE_U64)

#define STATE_MEMBER(s, m) (((s *)0)->m)

#define STATE_FIELD_(s, m, opt)                                                                              \
	{                                                                                                    \
		.name = #m, .offset = offsetof(s, m), .count = 1,                                            \
		.type = STATE_TYPE_OF(&STATE_MEMBER(s, m)), .optional = (opt)                                \
	}
#define STATE_FIELD(s, m)	   STATE_FIELD_(s, m, false)
#define STATE_FIELD_OPTIONAL(s, m) STATE_FIELD_(s, m, true)
#define STATE_ARRAY_(s, m, opt)                                                                              \
	{                                                                                                    \
		.name = #m, .offset = offsetof(s, m),                                                        \
		.count = sizeof(STATE_MEMBER(s, m)) / sizeof(STATE_MEMBER(s, m)[0]), .is_array = true,       \
		.type = STATE_TYPE_OF(&STATE_MEMBER(s, m)[0]), .optional = (opt)                             \
	}
#define STATE_ARRAY(s, m)	   STATE_ARRAY_(s, m, false)
#define STATE_ARRAY_OPTIONAL(s, m) STATE_ARRAY_(s, m, true)
#define STATE_TABLE(n, s, f)                                                                                 \
	{                                                                                                    \
		.name = (n), .size = sizeof(s), .fields = (f), .field_count = sizeof(f) / sizeof((f)[0])     \
	}

/*
 * Append the fields of `data` as properties to the node that is open in `fdt`, a device tree under sequential
 * write (libfdt's fdt_begin_node). -ENOSPC when the buffer is full: the caller grows it and starts again.
 */
int state_encode(const struct state_table *table, const void *data, void *fdt);

/*
 * Decode the properties of `node` of the complete tree `fdt` into `data`, which the caller has set to the
 * reset values. A missing required property, an unknown property, or one of the wrong length or with a value
 * its type cannot hold is -EINVAL with a message that names node and property; then `data` is partly written
 * and must be thrown away. `fdt` must have passed fdt_check_full.
 */
int state_decode(const struct state_table *table, void *data, const void *fdt, int node, struct err *err);

#endif
