/* The encoding of state/state.h, to the byte, and what a restore must refuse. */
#include "base/cleanup.h"
#include "harness.h"
#include "scratch.h"
#include "state/state.h"

#include <errno.h>
#include <libfdt.h>
#include <stdio.h>
#include <string.h>

struct unit {
	bool flag;
	uint8_t byte;
	uint16_t half;
	uint32_t word;
	uint64_t wide_one; /* '_' in a name */
	uint8_t bytes[5];
	bool flags[2];
	uint16_t halves[3];
	uint32_t words[2];
	uint64_t wides[2];
	uint32_t later; /* came with a later version */
};

static const struct state_field unit_fields[] = {
	STATE_FIELD(struct unit, flag),		  STATE_FIELD(struct unit, byte),
	STATE_FIELD(struct unit, half),		  STATE_FIELD(struct unit, word),
	STATE_FIELD(struct unit, wide_one),	  STATE_ARRAY(struct unit, bytes),
	STATE_ARRAY(struct unit, flags),	  STATE_ARRAY(struct unit, halves),
	STATE_ARRAY(struct unit, words),	  STATE_ARRAY(struct unit, wides),
	STATE_FIELD_OPTIONAL(struct unit, later),
};
static const struct state_table unit_table = STATE_TABLE("unit", struct unit, unit_fields);

static const struct unit sample = {
	.flag = true,
	.byte = 0xfe,
	.half = 0xfedc,
	.word = 0xfedcba98,
	.wide_one = 0xfedcba9876543210,
	.bytes = {1, 2, 3, 4, 0xff},
	.flags = {false, true},
	.halves = {1, 0x8000, 0xffff},
	.words = {1, 0xffffffff},
	.wides = {1, 0x8000000000000000},
	.later = 7,
};

enum { TREE_BYTES = 2048 };

static void tree_begin(void *fdt, size_t size)
{
	ck_assert_int_eq(fdt_create(fdt, (int)size), 0);
	ck_assert_int_eq(fdt_finish_reservemap(fdt), 0);
	ck_assert_int_eq(fdt_begin_node(fdt, ""), 0);
	ck_assert_int_eq(fdt_begin_node(fdt, "unit"), 0);
}

static size_t tree_end(void *fdt)
{
	ck_assert_int_eq(fdt_end_node(fdt), 0);
	ck_assert_int_eq(fdt_end_node(fdt), 0);
	ck_assert_int_eq(fdt_finish(fdt), 0);
	ck_assert_int_eq(fdt_check_full(fdt, fdt_totalsize(fdt)), 0);
	return fdt_totalsize(fdt);
}

/* The tree of `sample`, open for changes with fdt_setprop and friends. */
static void sample_tree(void *fdt)
{
	tree_begin(fdt, TREE_BYTES);
	ck_assert_int_eq(state_encode(&unit_table, &sample, fdt), 0);
	tree_end(fdt);
	ck_assert_int_eq(fdt_open_into(fdt, fdt, TREE_BYTES), 0);
}

static int unit_node(const void *fdt)
{
	int node = fdt_path_offset(fdt, "/unit");
	ck_assert_int_ge(node, 0);
	return node;
}

static int decode(const void *fdt, struct unit *unit, struct err *err)
{
	ck_assert_int_eq(fdt_check_full(fdt, fdt_totalsize(fdt)), 0);
	*err = ERR_INIT;
	return state_decode(&unit_table, unit, fdt, unit_node(fdt), err);
}

static void assert_refused(const void *fdt, const char *message)
{
	struct unit unit = {0};
	struct err err;
	ck_assert_int_eq(decode(fdt, &unit, &err), -EINVAL);
	ck_assert_str_eq(err.text, message);
}

static void assert_unit_eq(const struct unit *a, const struct unit *b)
{
	ck_assert_int_eq(a->flag, b->flag);
	ck_assert_uint_eq(a->byte, b->byte);
	ck_assert_uint_eq(a->half, b->half);
	ck_assert_uint_eq(a->word, b->word);
	ck_assert_uint_eq(a->wide_one, b->wide_one);
	ck_assert_mem_eq(a->bytes, b->bytes, sizeof(a->bytes));
	ck_assert_mem_eq(a->flags, b->flags, sizeof(a->flags));
	ck_assert_mem_eq(a->halves, b->halves, sizeof(a->halves));
	ck_assert_mem_eq(a->words, b->words, sizeof(a->words));
	ck_assert_mem_eq(a->wides, b->wides, sizeof(a->wides));
	ck_assert_uint_eq(a->later, b->later);
}

START_TEST(each_type_comes_back)
{
	_Alignas(8) uint8_t fdt[TREE_BYTES];
	sample_tree(fdt);
	struct unit unit = {0};
	struct err err;
	ck_assert_int_eq(decode(fdt, &unit, &err), 0);
	assert_unit_eq(&unit, &sample);
}
END_TEST

/* The bytes that stand in users' files. Whoever must change this test has broken every snapshot. */
START_TEST(golden_bytes)
{
	static const struct {
		const char *name;
		int len;
		const char *bytes;
	} golden[] = {
		{"flag", 4, "\0\0\0\1"},
		{"byte", 4, "\0\0\0\xfe"},
		{"half", 4, "\0\0\xfe\xdc"},
		{"word", 4, "\xfe\xdc\xba\x98"},
		{"wide-one", 8, "\xfe\xdc\xba\x98\x76\x54\x32\x10"},
		{"bytes", 5, "\1\2\3\4\xff"},
		{"flags", 8, "\0\0\0\0\0\0\0\1"},
		{"halves", 12, "\0\0\0\1\0\0\x80\0\0\0\xff\xff"},
		{"words", 8, "\0\0\0\1\xff\xff\xff\xff"},
		{"wides", 16, "\0\0\0\0\0\0\0\1\x80\0\0\0\0\0\0\0"},
		{"later", 4, "\0\0\0\7"},
	};
	_Alignas(8) uint8_t fdt[TREE_BYTES];
	sample_tree(fdt);
	int offset = fdt_first_property_offset(fdt, unit_node(fdt));
	for (size_t i = 0; i < ARRAY_LEN(golden); i++) {
		const char *name;
		int len;
		const void *value = fdt_getprop_by_offset(fdt, offset, &name, &len);
		ck_assert_ptr_nonnull(value);
		ck_assert_str_eq(name, golden[i].name);
		ck_assert_int_eq(len, golden[i].len);
		ck_assert_mem_eq(value, golden[i].bytes, (size_t)len);
		offset = fdt_next_property_offset(fdt, offset);
	}
	ck_assert_int_eq(offset, -FDT_ERR_NOTFOUND);
}
END_TEST

/* Anyone can read a snapshot with dtc. */
START_TEST(dtc_prints_it)
{
	if (system("command -v dtc >/dev/null 2>&1") != 0) {
		printf("dtc_prints_it: not run: no dtc (Debian: device-tree-compiler)\n");
		return;
	}
	_Alignas(8) uint8_t fdt[TREE_BYTES];
	tree_begin(fdt, sizeof(fdt));
	ck_assert_int_eq(state_encode(&unit_table, &sample, fdt), 0);
	size_t size = tree_end(fdt);

	char path[64];
	_cleanup_close_ int fd = scratch_file(path, sizeof(path), "state-XXXXXX");
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, fdt, size), (ssize_t)size);
	char command[128];
	(void)snprintf(command, sizeof(command), "dtc -q -I dtb -O dts %s", path);
	FILE *dts = popen(command, "r");
	ck_assert_ptr_nonnull(dts);
	char text[4096];
	text[fread(text, 1, sizeof(text) - 1, dts)] = 0;
	ck_assert_int_eq(pclose(dts), 0);
	(void)unlink(path);
	ck_assert_str_eq(text, "/dts-v1/;\n\n/ {\n\n\tunit {\n"
			       "\t\tflag = <0x01>;\n"
			       "\t\tbyte = <0xfe>;\n"
			       "\t\thalf = <0xfedc>;\n"
			       "\t\tword = <0xfedcba98>;\n"
			       "\t\twide-one = <0xfedcba98 0x76543210>;\n"
			       "\t\tbytes = [01 02 03 04 ff];\n"
			       "\t\tflags = <0x00 0x01>;\n"
			       "\t\thalves = <0x01 0x8000 0xffff>;\n"
			       "\t\twords = <0x01 0xffffffff>;\n"
			       "\t\twides = <0x00 0x01 0x80000000 0x00>;\n"
			       "\t\tlater = <0x07>;\n"
			       "\t};\n};\n");
}
END_TEST

START_TEST(missing_required_is_refused)
{
	for (size_t i = 0; i + 1 < ARRAY_LEN(unit_fields); i++) {
		_Alignas(8) uint8_t fdt[TREE_BYTES];
		sample_tree(fdt);
		char name[32], message[128];
		(void)snprintf(name, sizeof(name), "%s", unit_fields[i].name);
		for (char *p = strchr(name, '_'); p; p = strchr(p, '_'))
			*p = '-';
		ck_assert_int_eq(fdt_delprop(fdt, unit_node(fdt), name), 0);
		(void)snprintf(message, sizeof(message), "unit: property %s is missing", name);
		assert_refused(fdt, message);
	}
}
END_TEST

START_TEST(missing_optional_keeps_the_reset_value)
{
	_Alignas(8) uint8_t fdt[TREE_BYTES];
	sample_tree(fdt);
	ck_assert_int_eq(fdt_delprop(fdt, unit_node(fdt), "later"), 0);
	struct unit unit = {.later = 99};
	struct err err;
	ck_assert_int_eq(decode(fdt, &unit, &err), 0);
	ck_assert_uint_eq(unit.later, 99);
	ck_assert_uint_eq(unit.word, sample.word);
}
END_TEST

START_TEST(unknown_property_is_refused)
{
	_Alignas(8) uint8_t fdt[TREE_BYTES];
	sample_tree(fdt);
	ck_assert_int_eq(fdt_setprop_u32(fdt, unit_node(fdt), "wide-on", 1), 0);
	assert_refused(fdt, "unit: unknown property wide-on");

	sample_tree(fdt); /* the C name is not the property's name */
	ck_assert_int_eq(fdt_setprop_u32(fdt, unit_node(fdt), "wide_one", 1), 0);
	assert_refused(fdt, "unit: unknown property wide_one");
}
END_TEST

START_TEST(property_twice_is_refused)
{
	_Alignas(8) uint8_t fdt[TREE_BYTES];
	tree_begin(fdt, sizeof(fdt));
	ck_assert_int_eq(state_encode(&unit_table, &sample, fdt), 0);
	ck_assert_int_eq(fdt_property_u32(fdt, "byte", 1), 0);
	tree_end(fdt);
	assert_refused(fdt, "unit: a property is there twice");
}
END_TEST

START_TEST(wrong_length_is_refused)
{
	static const uint8_t zeros[24];
	_Alignas(8) uint8_t fdt[TREE_BYTES];
	sample_tree(fdt);
	ck_assert_int_eq(fdt_setprop(fdt, unit_node(fdt), "byte", zeros, 1), 0);
	assert_refused(fdt, "unit: property byte has 1 bytes instead of 4");
	sample_tree(fdt);
	ck_assert_int_eq(fdt_setprop(fdt, unit_node(fdt), "word", zeros, 8), 0);
	assert_refused(fdt, "unit: property word has 8 bytes instead of 4");
	sample_tree(fdt);
	ck_assert_int_eq(fdt_setprop(fdt, unit_node(fdt), "wide-one", zeros, 4), 0);
	assert_refused(fdt, "unit: property wide-one has 4 bytes instead of 8");
	sample_tree(fdt);
	ck_assert_int_eq(fdt_setprop(fdt, unit_node(fdt), "bytes", zeros, 6), 0);
	assert_refused(fdt, "unit: property bytes has 6 bytes instead of 5");
	sample_tree(fdt);
	ck_assert_int_eq(fdt_setprop(fdt, unit_node(fdt), "wides", zeros, 24), 0);
	assert_refused(fdt, "unit: property wides has 24 bytes instead of 16");
	sample_tree(fdt);
	ck_assert_int_eq(fdt_setprop_empty(fdt, unit_node(fdt), "flag"), 0);
	assert_refused(fdt, "unit: property flag has 0 bytes instead of 4");
}
END_TEST

START_TEST(value_out_of_range_is_refused)
{
	static const struct {
		const char *name;
		uint32_t most;
		const char *message;
	} cases[] = {
		{"flag", 1, "unit: property flag: 0x2 is more than 0x1"},
		{"byte", 0xff, "unit: property byte: 0x100 is more than 0xff"},
		{"half", 0xffff, "unit: property half: 0x10000 is more than 0xffff"},
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		_Alignas(8) uint8_t fdt[TREE_BYTES];
		sample_tree(fdt);
		struct unit unit = {0};
		struct err err;
		ck_assert_int_eq(fdt_setprop_u32(fdt, unit_node(fdt), cases[i].name, cases[i].most), 0);
		ck_assert_int_eq(decode(fdt, &unit, &err), 0);
		ck_assert_int_eq(fdt_setprop_u32(fdt, unit_node(fdt), cases[i].name, cases[i].most + 1), 0);
		assert_refused(fdt, cases[i].message);
	}
	_Alignas(8) uint8_t fdt[TREE_BYTES];
	sample_tree(fdt);
	const fdt32_t flags[] = {cpu_to_fdt32(1), cpu_to_fdt32(0xffffffff)};
	ck_assert_int_eq(fdt_setprop(fdt, unit_node(fdt), "flags", flags, sizeof(flags)), 0);
	assert_refused(fdt, "unit: property flags: 0xffffffff is more than 0x1");
}
END_TEST

/* A cut file is refused by fdt_check_full; a tree cut short that pretends to be whole must not be believed
 * either. */
START_TEST(truncation_is_refused)
{
	_Alignas(8) uint8_t whole[TREE_BYTES];
	tree_begin(whole, sizeof(whole));
	ck_assert_int_eq(state_encode(&unit_table, &sample, whole), 0);
	size_t size = tree_end(whole);
	for (size_t cut = 0; cut < size; cut++) {
		_cleanup_free_ uint8_t *part = malloc(cut ? cut : 1); /* ASan watches its end */
		ck_assert_ptr_nonnull(part);
		memcpy(part, whole, cut);
		ck_assert_int_ne(fdt_check_full(part, cut), 0);
		if (cut < FDT_V17_SIZE)
			continue;
		fdt_set_totalsize(part, (uint32_t)cut);
		fdt_set_size_dt_strings(part, (uint32_t)(cut - fdt_off_dt_strings(whole)));
		if (fdt_check_full(part, cut) != 0)
			continue;
		struct unit unit = {0};
		struct err err = ERR_INIT;
		ck_assert_int_eq(state_decode(&unit_table, &unit, part, unit_node(part), &err), -EINVAL);
	}
}
END_TEST

/* Single bytes changed anywhere: refused or decoded, never a crash. */
START_TEST(damage_never_crashes)
{
	_Alignas(8) uint8_t fdt[TREE_BYTES];
	tree_begin(fdt, sizeof(fdt));
	ck_assert_int_eq(state_encode(&unit_table, &sample, fdt), 0);
	size_t size = tree_end(fdt);
	static const uint8_t masks[] = {0x01, 0x80, 0xff};
	for (size_t i = 0; i < size * ARRAY_LEN(masks); i++) {
		_cleanup_free_ uint8_t *bad = malloc(size);
		ck_assert_ptr_nonnull(bad);
		memcpy(bad, fdt, size);
		bad[i / ARRAY_LEN(masks)] ^= masks[i % ARRAY_LEN(masks)];
		if (fdt_check_full(bad, size) != 0)
			continue;
		int node = fdt_path_offset(bad, "/unit");
		if (node < 0)
			continue;
		struct unit unit = {0};
		struct err err = ERR_INIT;
		int r = state_decode(&unit_table, &unit, bad, node, &err);
		ck_assert(r == 0 || (r == -EINVAL && err.text[0]));
	}
}
END_TEST

START_TEST(full_buffer_asks_for_more)
{
	_Alignas(8) uint8_t fdt[TREE_BYTES];
	int no_space = 0;
	for (size_t size = 128; size < TREE_BYTES; size += 4) {
		tree_begin(fdt, size);
		int r = state_encode(&unit_table, &sample, fdt);
		if (r == 0)
			break;
		ck_assert_int_eq(r, -ENOSPC);
		no_space++;
	}
	ck_assert_int_gt(no_space, 10);
}
END_TEST

START_TEST(name_too_long_is_our_mistake)
{
	static const struct state_field fields[] = {
		{.name = "a_name_of_thirty_two_characters_", .count = 1, .type = STATE_U8},
	};
	static const struct state_table table = {"long", 1, fields, 1};
	_Alignas(8) uint8_t fdt[TREE_BYTES];
	uint8_t byte = 0;
	tree_begin(fdt, sizeof(fdt));
	ck_assert_int_eq(state_encode(&table, &byte, fdt), -EINVAL);
}
END_TEST

START_TEST(empty_table_wants_an_empty_node)
{
	static const struct state_table nothing = {.name = "nothing"};
	_Alignas(8) uint8_t fdt[TREE_BYTES];
	struct err err = ERR_INIT;
	tree_begin(fdt, sizeof(fdt));
	ck_assert_int_eq(state_encode(&nothing, NULL, fdt), 0);
	tree_end(fdt);
	ck_assert_int_eq(state_decode(&nothing, NULL, fdt, unit_node(fdt), &err), 0);
	ck_assert_int_eq(state_decode(&unit_table, &(struct unit){0}, fdt, unit_node(fdt), &err), -EINVAL);
}
END_TEST

TEST_MAIN("state", each_type_comes_back, golden_bytes, dtc_prints_it, missing_required_is_refused,
	  missing_optional_keeps_the_reset_value, unknown_property_is_refused, property_twice_is_refused,
	  wrong_length_is_refused, value_out_of_range_is_refused, truncation_is_refused, damage_never_crashes,
	  full_buffer_asks_for_more, name_too_long_is_our_mistake, empty_table_wants_an_empty_node)
