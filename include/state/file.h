/*
 * A whole saved state as one flattened device tree: the file state.dtb of a snapshot, and what a migration
 * sends last. `dtc -I dtb -O dts` prints it.
 *
 *	/	format	1 cell, STATE_FORMAT; a reader refuses a larger one
 *		crc32c	1 cell, CRC-32C of the whole blob with these four bytes as zeros
 *
 * Nodes below are their units' (src/machine/state.c lists them). The writer remembers the first failure, so
 * that a state is written straight through and checked once at its end. The reader takes foreign bytes:
 * nothing is believed before state_file_open has gone over all of them.
 */
#ifndef AERIE_STATE_FILE_H
#define AERIE_STATE_FILE_H

#include "base/err.h"
#include "state/state.h"

#include <stddef.h>
#include <stdint.h>

enum { STATE_FORMAT = 1, STATE_FILE_BYTES_MAX = 256 << 20 };

struct state_writer;

int state_writer_create(struct state_writer **ret, struct err *err);
void state_writer_destroy(struct state_writer *writer); /* NULL is fine */

/* A node within the one that is open; the properties of a node come before its nodes. "name" or "name7". */
void state_begin(struct state_writer *writer, const char *name);
void state_begin_numbered(struct state_writer *writer, const char *name, uint32_t number);
void state_end(struct state_writer *writer);
/* Properties of the open node. */
void state_write_table(struct state_writer *writer, const struct state_table *table, const void *data);
void state_write_bytes(struct state_writer *writer, const char *name, const void *data, size_t len);
void state_write_cells(struct state_writer *writer, const char *name, const uint32_t *cells, size_t count);
void state_write_u32(struct state_writer *writer, const char *name, uint32_t value);
void state_write_u64(struct state_writer *writer, const char *name, uint64_t value);

/* The blob, with its checksum. Borrowed from the writer, to which nothing may be added any more. */
int state_writer_finish(struct state_writer *writer, const void **ret, size_t *ret_bytes, struct err *err);

/* A blob that was found whole. */
struct state_file {
	const void *fdt; /* borrowed, aligned to 8 bytes */
};

/* -EINVAL: cut, damaged, no such tree; -ENOTSUP: of a newer format. The message says what. */
int state_file_open(const void *blob, size_t bytes, struct state_file *ret, struct err *err);

/* The node `name` in `parent` (0: the root); it is there once. A negative offset is -EINVAL with a message.
 */
int state_node(const struct state_file *file, int parent, const char *name, struct err *err);
int state_node_numbered(const struct state_file *file, int parent, const char *name, uint32_t number,
			struct err *err);
/* How many nodes there are in `parent`: for units that nobody knows. */
uint32_t state_node_count(const struct state_file *file, int parent);
/* `parent` has no other nodes than those. */
int state_check_nodes(const struct state_file *file, int parent, uint32_t expected, struct err *err);

/* Properties. Bytes are borrowed; NULL with a message when it is missing. */
const void *state_read_bytes(const struct state_file *file, int node, const char *name, size_t *ret_len,
			     struct err *err);
bool state_has(const struct state_file *file, int node, const char *name);
int state_read_exact(const struct state_file *file, int node, const char *name, void *ret, size_t len,
		     struct err *err);
int state_read_u32(const struct state_file *file, int node, const char *name, uint32_t *ret, struct err *err);
int state_read_u64(const struct state_file *file, int node, const char *name, uint64_t *ret, struct err *err);
/* A cell of a property that was found to be that long. */
uint32_t state_cell(const void *bytes, size_t index);

/* The node has these properties (`names` ends with NULL) or some of them, each once, and no others. */
int state_check_properties(const struct state_file *file, int node, const char *const *names,
			   struct err *err);

#endif
