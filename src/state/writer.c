/* Writing a saved state: see state/file.h for the format. */
#include "base/cleanup.h"
#include "base/crc32c.h"
#include "state/file.h"

#include <errno.h>
#include <libfdt.h>
#include <stdio.h>
#include <string.h>

enum { FIRST_BYTES = 64 << 10, NODE_NAME_BYTES = 64, PROPERTY_OVERHEAD = 64 };

struct state_writer {
	void *fdt;
	size_t size;
	int error; /* the first, -errno */
};

static void fail(struct state_writer *writer, int error)
{
	if (writer->error == 0)
		writer->error = error;
}

/* Room for `bytes` more. libfdt moves a tree that is being written, but only into another buffer. */
static int grow(struct state_writer *writer, size_t bytes)
{
	size_t size = writer->size * 2 > writer->size + bytes ? writer->size * 2 : writer->size + bytes;
	if (size > STATE_FILE_BYTES_MAX)
		return -EFBIG;
	void *fdt = calloc(1, size);
	if (!fdt)
		return -ENOMEM;
	if (fdt_resize(writer->fdt, fdt, (int)size) != 0) {
		free(fdt);
		return -EINVAL;
	}
	free(writer->fdt);
	writer->fdt = fdt;
	writer->size = size;
	return 0;
}

/* While a tree is written its structure grows from the front and its strings from the end. */
static size_t room(const struct state_writer *writer)
{
	const void *fdt = writer->fdt;
	return writer->size - fdt_off_dt_struct(fdt) - fdt_size_dt_struct(fdt) - fdt_size_dt_strings(fdt);
}

/*
 * libfdt says that the buffer is full only when it tries; the unfinished try changes nothing. `need`: what
 * the call will add at most.
 */
#define TRY(writer, need, call)                                                                              \
	do {                                                                                                 \
		int r_ = 0;                                                                                  \
		while ((writer)->error == 0 && (r_ = (call)) == -FDT_ERR_NOSPACE) {                          \
			int grown_ = grow((writer), (need));                                                 \
			if (grown_ < 0)                                                                      \
				fail((writer), grown_);                                                      \
		}                                                                                            \
		if ((writer)->error == 0 && r_ < 0)                                                          \
			fail((writer), -EINVAL);                                                             \
	} while (0)

int state_writer_create(struct state_writer **ret, struct err *err)
{
	struct state_writer *writer = calloc(1, sizeof(*writer));
	if (writer)
		writer->fdt = calloc(1, FIRST_BYTES);
	if (!writer || !writer->fdt) {
		free(writer);
		return err_sys(err, -ENOMEM, "state");
	}
	writer->size = FIRST_BYTES;
	TRY(writer, PROPERTY_OVERHEAD, fdt_create(writer->fdt, (int)writer->size));
	TRY(writer, PROPERTY_OVERHEAD, fdt_finish_reservemap(writer->fdt));
	TRY(writer, PROPERTY_OVERHEAD, fdt_begin_node(writer->fdt, ""));
	state_write_u32(writer, "format", STATE_FORMAT);
	state_write_u32(writer, "crc32c", 0);
	*ret = writer;
	return 0;
}

void state_writer_destroy(struct state_writer *writer)
{
	if (!writer)
		return;
	free(writer->fdt);
	free(writer);
}

void state_begin(struct state_writer *writer, const char *name)
{
	TRY(writer, PROPERTY_OVERHEAD + strlen(name), fdt_begin_node(writer->fdt, name));
}

void state_begin_numbered(struct state_writer *writer, const char *name, uint32_t number)
{
	char text[NODE_NAME_BYTES];
	(void)snprintf(text, sizeof(text), "%s%u", name, number);
	state_begin(writer, text);
}

void state_end(struct state_writer *writer)
{
	TRY(writer, PROPERTY_OVERHEAD, fdt_end_node(writer->fdt));
}

/*
 * Unlike one property, a table that does not fit is left behind in part: so the room is made first. An
 * element takes at most 8 bytes.
 */
void state_write_table(struct state_writer *writer, const struct state_table *table, const void *data)
{
	size_t need = PROPERTY_OVERHEAD;
	for (size_t i = 0; i < table->field_count; i++)
		need += PROPERTY_OVERHEAD + sizeof(uint64_t) * table->fields[i].count;
	if (writer->error == 0) {
		int r = room(writer) < need ? grow(writer, need) : 0;
		if (r == 0)
			r = state_encode(table, data, writer->fdt);
		if (r < 0)
			fail(writer, r);
	}
}

void state_write_bytes(struct state_writer *writer, const char *name, const void *data, size_t len)
{
	if (len > STATE_FILE_BYTES_MAX) {
		fail(writer, -EFBIG);
		return;
	}
	TRY(writer, PROPERTY_OVERHEAD + len, fdt_property(writer->fdt, name, data, (int)len));
}

void state_write_cells(struct state_writer *writer, const char *name, const uint32_t *cells, size_t count)
{
	void *value = NULL;
	if (count > STATE_FILE_BYTES_MAX / sizeof(uint32_t)) {
		fail(writer, -EFBIG);
		return;
	}
	size_t len = count * sizeof(uint32_t);
	TRY(writer, PROPERTY_OVERHEAD + len, fdt_property_placeholder(writer->fdt, name, (int)len, &value));
	for (size_t i = 0; writer->error == 0 && i < count; i++)
		fdt32_st((uint8_t *)value + i * sizeof(uint32_t), cells[i]);
}

void state_write_u32(struct state_writer *writer, const char *name, uint32_t value)
{
	TRY(writer, PROPERTY_OVERHEAD, fdt_property_u32(writer->fdt, name, value));
}

void state_write_u64(struct state_writer *writer, const char *name, uint64_t value)
{
	TRY(writer, PROPERTY_OVERHEAD, fdt_property_u64(writer->fdt, name, value));
}

int state_writer_finish(struct state_writer *writer, const void **ret, size_t *ret_bytes, struct err *err)
{
	state_end(writer);
	TRY(writer, PROPERTY_OVERHEAD, fdt_finish(writer->fdt));
	if (writer->error < 0)
		return err_sys(err, writer->error, "state");
	size_t bytes = fdt_totalsize(writer->fdt);
	uint32_t crc = crc32c(0, writer->fdt, bytes); /* the property is still zero */
	if (fdt_setprop_inplace_u32(writer->fdt, 0, "crc32c", crc) != 0)
		return err_set(err, -EINVAL, "state: no place for its checksum");
	*ret = writer->fdt;
	*ret_bytes = bytes;
	return 0;
}
