/* Whole state files: what was written is read, and what was damaged is refused with a reason. */
#include "state/file.h"

#include "base/crc32c.h"
#include "harness.h"

#include <errno.h>
#include <libfdt.h>
#include <string.h>

enum { BIG = 300000, FLIPS = 1000 };

struct unit {
	uint32_t a;
	uint64_t b;
	uint8_t bytes[5000];
};

static const struct state_field unit_fields[] = {
	STATE_FIELD(struct unit, a),
	STATE_FIELD(struct unit, b),
	STATE_ARRAY(struct unit, bytes),
};
static const struct state_table unit_table = STATE_TABLE("unit", struct unit, unit_fields);

/* A file with a bit of everything, larger than the writer's first buffer. Aligned as malloc does. */
static void *make(size_t *ret_bytes)
{
	static uint8_t big[BIG];
	static struct unit unit = {.a = 7, .b = 1ULL << 40};
	const uint32_t cells[] = {1, 0xfffffffe};
	struct err err = ERR_INIT;
	struct state_writer *writer;
	const void *blob;
	ck_assert_int_eq(state_writer_create(&writer, &err), 0);
	state_begin(writer, "vcpus");
	state_begin_numbered(writer, "vcpu", 0);
	state_write_u32(writer, "id", 5);
	state_write_u64(writer, "offset", 0x123456789abcdef0);
	state_write_cells(writer, "cells", cells, 2);
	state_write_bytes(writer, "xsave", big, sizeof(big));
	state_write_bytes(writer, "empty", "", 0);
	state_end(writer);
	state_end(writer);
	for (uint32_t i = 0; i < 20; i++) {
		state_begin_numbered(writer, "unit", i);
		state_write_table(writer, &unit_table, &unit);
		state_end(writer);
	}
	ck_assert_msg(state_writer_finish(writer, &blob, ret_bytes, &err) == 0, "%s", err.text);
	void *copy = malloc(*ret_bytes);
	ck_assert_ptr_nonnull(copy);
	memcpy(copy, blob, *ret_bytes);
	state_writer_destroy(writer);
	return copy;
}

START_TEST(what_was_written_is_read)
{
	struct err err = ERR_INIT;
	struct state_file file;
	size_t bytes, len;
	void *blob = make(&bytes);
	ck_assert_msg(state_file_open(blob, bytes, &file, &err) == 0, "%s", err.text);
	ck_assert_uint_eq(state_node_count(&file, 0), 21);
	int vcpus = state_node(&file, 0, "vcpus", &err);
	int vcpu = state_node_numbered(&file, vcpus, "vcpu", 0, &err);
	ck_assert_int_ge(vcpu, 0);
	uint32_t id;
	uint64_t offset;
	ck_assert_int_eq(state_read_u32(&file, vcpu, "id", &id, &err), 0);
	ck_assert_uint_eq(id, 5);
	ck_assert_int_eq(state_read_u64(&file, vcpu, "offset", &offset, &err), 0);
	ck_assert_uint_eq(offset, 0x123456789abcdef0);
	const void *cells = state_read_bytes(&file, vcpu, "cells", &len, &err);
	ck_assert_uint_eq(len, 8);
	ck_assert_uint_eq(state_cell(cells, 1), 0xfffffffe);
	struct unit unit = {0};
	int node = state_node(&file, 0, "unit19", &err);
	ck_assert_int_eq(state_decode(&unit_table, &unit, file.fdt, node, &err), 0);
	ck_assert_uint_eq(unit.b, 1ULL << 40);
	free(blob);
}
END_TEST

START_TEST(what_is_wrong_is_named)
{
	static const char *const few[] = {"id", "offset", NULL};
	static const char *const all[] = {"id", "offset", "cells", "xsave", "empty", "more", NULL};
	struct state_file file;
	size_t bytes;
	void *blob = make(&bytes);
	struct err err = ERR_INIT;
	uint32_t value;
	ck_assert_int_eq(state_file_open(blob, bytes, &file, &err), 0);
	int vcpu = state_node(&file, state_node(&file, 0, "vcpus", &err), "vcpu0", &err);
	ck_assert_int_eq(state_check_properties(&file, vcpu, all, &err), 0);
	ck_assert_int_eq(state_check_properties(&file, vcpu, few, &err), -EINVAL);
	ck_assert_str_eq(err.text, "vcpu0: unknown property cells");
	err = ERR_INIT;
	ck_assert_int_eq(state_read_u32(&file, vcpu, "cells", &value, &err), -EINVAL);
	ck_assert_str_eq(err.text, "vcpu0: property cells has 8 bytes instead of 4");
	err = ERR_INIT;
	ck_assert_int_eq(state_read_u32(&file, vcpu, "gone", &value, &err), -EINVAL);
	ck_assert_str_eq(err.text, "vcpu0: property gone is missing");
	err = ERR_INIT;
	ck_assert_int_eq(state_node(&file, 0, "gone", &err), -EINVAL);
	ck_assert_str_eq(err.text, "/: node gone is missing");
	err = ERR_INIT;
	ck_assert_int_eq(state_check_nodes(&file, 0, 20, &err), -EINVAL);
	ck_assert_str_eq(err.text, "/: has 21 nodes, this machine knows 20 of them");
	free(blob);
}
END_TEST

/* Sets the checksum anew, as somebody would who means it. */
static void seal(void *blob, size_t bytes)
{
	ck_assert_int_eq(fdt_setprop_inplace_u32(blob, 0, "crc32c", 0), 0);
	ck_assert_int_eq(fdt_setprop_inplace_u32(blob, 0, "crc32c", crc32c(0, blob, bytes)), 0);
}

START_TEST(a_newer_format_is_refused)
{
	struct state_file file;
	size_t bytes;
	void *blob = make(&bytes);
	struct err err = ERR_INIT;
	ck_assert_int_eq(fdt_setprop_inplace_u32(blob, 0, "format", STATE_FORMAT + 1), 0);
	seal(blob, bytes);
	ck_assert_int_eq(state_file_open(blob, bytes, &file, &err), -ENOTSUP);
	ck_assert_ptr_nonnull(strstr(err.text, "format 2"));
	free(blob);
}
END_TEST

START_TEST(a_cut_file_is_refused_wherever_it_is_cut)
{
	struct state_file file;
	size_t bytes;
	void *blob = make(&bytes);
	for (size_t len = 0; len < bytes; len += len < 4096 || len > bytes - 4096 ? 1 : 997) {
		struct err err = ERR_INIT;
		void *cut = malloc(len ? len : 1);
		memcpy(cut, blob, len);
		ck_assert_msg(state_file_open(cut, len, &file, &err) < 0, "cut at %zu", len);
		ck_assert_str_ne(err.text, "");
		/* And when its header claims that this is all there was. */
		if (len >= sizeof(struct fdt_header)) {
			err = ERR_INIT;
			fdt_set_totalsize(cut, (uint32_t)len);
			ck_assert_msg(state_file_open(cut, len, &file, &err) < 0, "cut at %zu", len);
		}
		free(cut);
	}
	free(blob);
}
END_TEST

START_TEST(a_flipped_bit_is_refused_wherever_it_is)
{
	struct state_file file;
	size_t bytes;
	uint8_t *blob = make(&bytes);
	uint64_t seed = 1;
	for (int i = 0; i < FLIPS; i++) {
		struct err err = ERR_INIT;
		seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
		size_t at = i < 200 ? (size_t)i : (size_t)(seed >> 20) % bytes;
		uint8_t bit = (uint8_t)(1U << (seed >> 60 & 7));
		blob[at] ^= bit;
		ck_assert_msg(state_file_open(blob, bytes, &file, &err) < 0, "byte %zu", at);
		ck_assert_str_ne(err.text, "");
		blob[at] ^= bit;
	}
	struct err err = ERR_INIT;
	ck_assert_int_eq(state_file_open(blob, bytes, &file, &err), 0);
	free(blob);
}
END_TEST

TEST_MAIN("state file", what_was_written_is_read, what_is_wrong_is_named, a_newer_format_is_refused,
	  a_cut_file_is_refused_wherever_it_is_cut, a_flipped_bit_is_refused_wherever_it_is)
