/* One walk over a view, two ways to write it down: an emitter is either text or JSON. */
#ifndef AERIE_CPU_NESTED_EMIT_H
#define AERIE_CPU_NESTED_EMIT_H

#include "nested_layout.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct emitter {
	bool json;
	char *text; /* grows; the caller's in the end */
	size_t used, room;
	bool failed; /* no memory */
	unsigned depth;
	bool follows; /* JSON: something stands before on this level */
};

struct emitted_segment {
	uint64_t selector, base, limit, attributes; /* attributes as in a VMCS */
	bool has_selector, has_limit, has_attributes;
};

/* A group of fields; NULL is the whole, which has no name. */
void emit_open(struct emitter *emitter, const char *name);
void emit_close(struct emitter *emitter);

void emit_string(struct emitter *emitter, const char *name, const char *value);
void emit_bool(struct emitter *emitter, const char *name, bool value);
/* By form; `brief`: text leaves it out when it is zero. */
void emit_value(struct emitter *emitter, const struct nested_row *row, uint64_t value, bool brief);
void emit_hex(struct emitter *emitter, const char *name, uint64_t value);
void emit_bits(struct emitter *emitter, const char *name, const struct nested_names *names, uint64_t value);
void emit_segment(struct emitter *emitter, const char *name, const struct emitted_segment *segment,
		  bool brief);
void emit_bytes(struct emitter *emitter, const char *name, const uint8_t *bytes, size_t count);

#endif
