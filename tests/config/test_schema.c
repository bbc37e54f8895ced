/* The parts under the loader: nearness of words, quoting, device types as rows, and the reference. */
#include "../../src/config/encode.h"
#include "../../src/config/override.h"
#include "../../src/config/reference.h"
#include "base/cleanup.h"
#include "config/suggest.h"
#include "harness.h"

#include <stdio.h>
#include <string.h>

START_TEST(edit_distance_counts_slips)
{
	ck_assert_uint_eq(edit_distance("", ""), 0);
	ck_assert_uint_eq(edit_distance("size", "size"), 0);
	ck_assert_uint_eq(edit_distance("SIZE", "size"), 0);
	ck_assert_uint_eq(edit_distance("", "size"), 4);
	ck_assert_uint_eq(edit_distance("size", ""), 4);
	ck_assert_uint_eq(edit_distance("sise", "size"), 1);
	ck_assert_uint_eq(edit_distance("sze", "size"), 1);
	ck_assert_uint_eq(edit_distance("sizes", "size"), 1);
	ck_assert_uint_eq(edit_distance("siez", "size"), 1);
	ck_assert_uint_eq(edit_distance("kitten", "sitting"), 3);
	ck_assert_uint_eq(edit_distance("size", "thirty-three-letters-are-too-long"), SIZE_MAX);
}
END_TEST

static const char *nearest(const char *word)
{
	static const char *const candidates[] = {"2M", "exit", "count", "cores", "memory", "hugepages"};
	struct suggestion near = suggestion_for(word);
	for (size_t i = 0; i < ARRAY_LEN(candidates); i++)
		suggestion_try(&near, candidates[i]);
	return near.best ? near.best : "";
}

START_TEST(only_near_words_are_suggested)
{
	ck_assert_str_eq(nearest("memroy"), "memory");
	ck_assert_str_eq(nearest("huge_page"), "hugepages");
	ck_assert_str_eq(nearest("hugetlb"), "");
	ck_assert_str_eq(nearest("cont"), "count");
	ck_assert_str_eq(nearest("core"), "cores");
	ck_assert_str_eq(nearest("exot"), "exit");
	ck_assert_str_eq(nearest("ecot"), "");
	ck_assert_str_eq(nearest("2m"), "2M");
	ck_assert_str_eq(nearest("4M"), "");
	ck_assert_str_eq(nearest(""), "");
}
END_TEST

START_TEST(quotes_keep_terminals_safe)
{
	char text[24];
	ck_assert_str_eq(json_quote("plain", text, sizeof(text)), "\"plain\"");
	ck_assert_str_eq(json_quote("a\"b\\c", text, sizeof(text)), "\"a\\\"b\\\\c\"");
	ck_assert_str_eq(json_quote("\x1b[m\n\x7f", text, sizeof(text)), "\"\\u001b[m\\n\\u007f\"");
	ck_assert_str_eq(json_quote("\xc2\x9b", text, sizeof(text)), "\"\\u009b\"");
	ck_assert_str_eq(json_quote("\xc3\xa9\xf0\x9f\x98\x80", text, sizeof(text)),
			 "\"\xc3\xa9\xf0\x9f\x98\x80\"");
	ck_assert_str_eq(json_quote("123456789012345678901234567890", text, sizeof(text)),
			 "\"123456789012345678...\"");
	/* never in the middle of a character */
	ck_assert_str_eq(json_quote("1234567890123456\xf0\x9f\x98\x80", text, sizeof(text)),
			 "\"1234567890123456...\"");
}
END_TEST

/* Device types as the next ones will come: rows, and no change to the code that walks them. */
enum { TYPE_DISK, TYPE_NET };

struct thing {
	unsigned type;
	union {
		struct {
			const char *path;
			bool readonly;
		} disk;
		struct {
			uint32_t queues;
		} net;
	};
};

struct things {
	struct thing items[2];
	size_t count;
};

static const struct key disk_keys[] = {
	{.name = "path", AT_TEXT(struct thing, disk.path), .min = 1, .max = 9, .required = true, .doc = "d"},
	{.name = "readonly", AT_BOOL(struct thing, disk.readonly), .fallback = "false", .doc = "r"},
	{.name = NULL},
};
static const struct key net_keys[] = {
	{.name = "queues",
	 AT_UINT(struct thing, net.queues),
	 .min = 1,
	 .max = 8,
	 .fallback = "1",
	 .doc = "q"},
	{.name = NULL},
};
static const struct object disk_object = {.keys = disk_keys}, net_object = {.keys = net_keys};
static const struct tag thing_tags[] = {
	{"disk", TYPE_DISK, &disk_object},
	{"net", TYPE_NET, &net_object},
	{NULL, 0, NULL},
};
static const struct key thing_item = {.type = KEY_TAGGED, .tags = thing_tags, .doc = "i"};
static const struct key things_keys[] = {
	{.name = "devices", AT_LIST(struct things, items, count, thing_item), .fallback = "[]", .doc = "l"},
	{.name = NULL},
};
static const struct object things_object = {.keys = things_keys};

static int decode_things(const char *text, const char *set, cJSON **tree, struct things *things,
			 struct err *err)
{
	const struct decode d = {.object = &things_object, .file = "x.json", .set = &set, .err = err};
	*things = (struct things){.count = 0};
	ck_assert_int_eq(json_parse("x.json", text, strlen(text), 0, tree, err), 0);
	int rc = set ? override_all(&d, *tree, 1) : 0;
	return rc ? rc : decode_root(&d, *tree, things);
}

START_TEST(a_type_picks_the_keys_of_its_object)
{
	_cleanup_json_ cJSON *tree = NULL, *encoded = NULL;
	struct things things;
	struct err err = ERR_INIT;
	int rc = decode_things(
		"{ \"devices\": [{ \"path\": \"a\", \"type\": \"disk\" }, { \"type\": \"net\" }] }",
		"devices.1.queues=4", &tree, &things, &err);
	ck_assert_msg(rc == 0, "%s", err.text);
	ck_assert_uint_eq(things.count, 2);
	ck_assert_uint_eq(things.items[0].type, TYPE_DISK);
	ck_assert_str_eq(things.items[0].disk.path, "a");
	ck_assert(!things.items[0].disk.readonly);
	ck_assert_uint_eq(things.items[1].type, TYPE_NET);
	ck_assert_uint_eq(things.items[1].net.queues, 4);
	encoded = encode_object(&things_object, &things, NULL);
	_cleanup_free_ char *text = cJSON_PrintUnformatted(encoded);
	ck_assert_str_eq(text, "{\"devices\":[{\"path\":\"a\",\"readonly\":false,\"type\":\"disk\"},"
			       "{\"queues\":4,\"type\":\"net\"}]}");
}
END_TEST

START_TEST(mistakes_in_tagged_objects_are_named)
{
	static const struct {
		const char *item, *set, *message;
	} cases[] = {
		{"{ \"type\": \"tape\" }", NULL,
		 "x.json: devices.0.type: \"tape\" is not one of \"disk\", \"net\""},
		{"{ \"type\": \"dsik\" }", NULL,
		 "x.json: devices.0.type: \"dsik\" is not a type (did you mean \"disk\"?)"},
		{"{ \"type\": 1 }", NULL, "x.json: devices.0.type: 1 is not one of \"disk\", \"net\""},
		{"{ \"path\": \"a\" }", NULL, "x.json: devices.0.type: missing (one of \"disk\", \"net\")"},
		{"\"disk\"", NULL, "x.json: devices.0: \"disk\" is not an object"},
		{"{ \"type\": \"disk\" }", NULL,
		 "x.json: devices.0.path: missing (it takes a text of 1 to 9 bytes)"},
		{"{ \"type\": \"net\", \"path\": \"a\" }", NULL,
		 "x.json: devices.0.path: unknown key (known here: queues)"},
		{"{ \"type\": \"net\", \"type\": \"disk\" }", NULL,
		 "x.json: devices.0.type: this key stands twice in its object"},
		{"{ \"type\": \"net\" }", "devices.0.queues=9",
		 "--set devices.0.queues=9: 9 is not a whole number from 1 to 8"},
		{"{ \"type\": \"net\" }", "devices.0.path=a",
		 "--set devices.0.path=a: unknown key (known here: queues)"},
		{"{ \"type\": \"net\" }", "devices.0.type=tape",
		 "--set devices.0.type=tape: \"tape\" is not one of \"disk\", \"net\""},
		{"{ \"type\": \"net\" }", "devices.1.type=tape",
		 "--set devices.1.type=tape: \"tape\" is not one of \"disk\", \"net\""},
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		_cleanup_json_ cJSON *tree = NULL;
		struct things things;
		struct err err = ERR_INIT;
		char text[128];
		(void)snprintf(text, sizeof(text), "{ \"devices\": [%s] }", cases[i].item);
		ck_assert_int_eq(decode_things(text, cases[i].set, &tree, &things, &err), -EINVAL);
		ck_assert_str_eq(err.text, cases[i].message);
	}
}
END_TEST

static void append_row(const char *row, void *data)
{
	char *text = data;
	(void)snprintf(text + strlen(text), 65536 - strlen(text), "%s\n", row);
}

START_TEST(types_stand_in_the_reference)
{
	char text[16384] = "";
	reference_walk(&things_object, append_row, text);
	ck_assert_str_eq(text, "| `devices` | a list of at most 2 items | `[]` | l |\n"
			       "| `devices.N` | an object |  | i |\n"
			       "| `devices.N.disk.path` | a text of 1 to 9 bytes | required | d |\n"
			       "| `devices.N.disk.readonly` | true or false | `false` | r |\n"
			       "| `devices.N.net.queues` | a whole number from 1 to 8 | `1` | q |\n");
}
END_TEST

/* docs/config.md holds the rows of the tables, all of them, in order, and no other row that begins with a
 * key. */
START_TEST(the_reference_is_the_tables)
{
	static char want[65536], got[65536];
	char line[1024];
	config_reference(append_row, want);
	FILE *file = fopen("docs/config.md", "re");
	ck_assert_ptr_nonnull(file);
	while (fgets(line, sizeof(line), file))
		if (strncmp(line, "| `", 3) == 0)
			(void)snprintf(got + strlen(got), sizeof(got) - strlen(got), "%s", line);
	ck_assert_int_eq(fclose(file), 0);
	ck_assert_uint_gt(strlen(want), 1000);
	ck_assert_msg(strcmp(want, got) == 0, "docs/config.md should hold what `aerie check --keys` prints");
}
END_TEST

/* check_names keeps one bit for each key. */
static void walk_objects(const struct object *object)
{
	size_t count = 0;
	for (const struct key *key = object->keys; key->name; key++, count++) {
		ck_assert_msg(key->doc && *key->doc, "%s has no doc", key->name);
		ck_assert_msg(strpbrk(key->name, ".= \"") == NULL, "%s cannot stand in --set", key->name);
		if (key->object)
			walk_objects(key->object);
	}
	ck_assert_uint_lt(count, 63);
}

START_TEST(tables_fit_the_code_that_walks_them)
{
	walk_objects(&machine_object);
}
END_TEST

TEST_MAIN("config/schema", edit_distance_counts_slips, only_near_words_are_suggested,
	  quotes_keep_terminals_safe, a_type_picks_the_keys_of_its_object,
	  mistakes_in_tagged_objects_are_named, types_stand_in_the_reference, the_reference_is_the_tables,
	  tables_fit_the_code_that_walks_them)
