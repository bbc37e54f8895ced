/* Everything that a manifest of foreign hands may have wrong, behind a good seal: each is named. */
#include "../../src/snapshot/manifest.h"
#include "base/crc32c.h"
#include "harness.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char good[] =
	"{\n\"format\": 1, \"aerie\": \"0.1.0\", \"id\": \"a9a73aeba0f0962390baadb6d96f7603\",\n"
	"\"base\": {\"path\": \"/below\", \"id\": \"90c249696b7185e6dbb549d9d0969a95\"},\n"
	"\"files\": {\"config.json\": {\"bytes\": 681, \"crc32c\": \"b02a8bdd\"},\n"
	"\"state.dtb\": {\"bytes\": 25785, \"crc32c\": \"b8eb2046\"},\n"
	"\"memory\": {\"bytes\": 134217728, \"crc32c\": \"26e5d56c\"},\n"
	"\"pages\": {\"bytes\": 4096, \"crc32c\": \"5e8d51ac\"}},\n"
	"\"host\": {\"vendor\": \"Intel\", \"cpu\": \"Xeon\", \"kernel\": \"6.18\", \"nested\": \"none\", "
	"\"nested_state_bytes\": 0},\n\"disks\": [],\n";

/* `from` is replaced by `to` (NULL: nothing is), then it is sealed. */
static int parse(const char *from, const char *to, struct err *err)
{
	enum { ROOM = 65536 };
	static char text[ROOM];
	struct manifest manifest;
	const char *at = from ? strstr(good, from) : good;
	ck_assert_msg(at != NULL, "%s", from);
	size_t before = (size_t)(at - good), cut = from ? strlen(from) : 0;
	int len = snprintf(text, ROOM, "%.*s%s%s", (int)before, good, from ? to : "", at + cut);
	len += snprintf(text + len, (size_t)(ROOM - len), "\t\"manifest_crc32c\":\t\"%08x\"\n}\n",
			crc32c(0, text, (size_t)len));
	ck_assert_int_lt(len, ROOM);
	*err = ERR_INIT;
	int r = manifest_parse("m", text, (size_t)len, &manifest, err);
	if (r == 0)
		manifest_finish(&manifest);
	return r;
}

START_TEST(each_mistake_is_named)
{
	static const struct {
		const char *from, *to, *why;
	} rows[] = {
		{"\"format\": 1, ", "", "m: format is missing"},
		{"\"format\": 1", "\"format\": 99", "m: format 99, this aerie reads up to "},
		{"\"format\": 1", "\"format\": 0", "m: format 0, this aerie reads up to "},
		{"a9a73aeba0f0962390baadb6d96f7603", "a9a7", "m: id"},
		{"\"b02a8bdd\"", "\"b02a8bd\"", "config.json: m: crc32c: not 8 hexadecimal digits"},
		{"\"b02a8bdd\"", "\"b02a8bdX\"", "config.json: m: crc32c: not 8 hexadecimal digits"},
		{"25785", "-1", "state.dtb: m: bytes"},
		{"25785", "99999999999999999999", "state.dtb: m: bytes"},
		{"\"pages\":", "\"others\":", "m: files: one that this aerie does not know"},
		{"\"memory\": {\"bytes\": 134217728, \"crc32c\": \"26e5d56c\"},\n", "",
		 "m: files: memory is missing or too much"},
		{"\"base\": {\"path\": \"/below\", \"id\": \"90c249696b7185e6dbb549d9d0969a95\"},\n", "",
		 "m: files: pages is missing or too much"},
		{"\"vendor\": \"Intel\", ", "", "m: vendor is missing"},
		{"\"disks\": []", "\"disk\": []", "m: disks is missing"},
	};
	struct err err;
	ck_assert_msg(parse(NULL, NULL, &err) == 0, "%s", err.text);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		ck_assert_msg(parse(rows[i].from, rows[i].to, &err) < 0, "%s is taken", rows[i].to);
		ck_assert_msg(strncmp(err.text, rows[i].why, strlen(rows[i].why)) == 0, "%s: %s", rows[i].to,
			      err.text);
	}
}
END_TEST

START_TEST(what_is_too_long_or_too_many_is_refused)
{
	static char many[CONFIG_DEVICES_MAX * 64], text[MANIFEST_TEXT_BYTES + 1],
		huge[MANIFEST_BYTES_MAX + 1];
	struct manifest manifest;
	struct err err;
	size_t used = 0;
	for (unsigned i = 0; i <= CONFIG_DEVICES_MAX; i++)
		used += (size_t)snprintf(many + used, sizeof(many) - used,
					 "%s{\"path\": \"/d\", \"bytes\": 1, \"mtime_ns\": 1}",
					 i ? "," : "\"disks\": [");
	ck_assert_uint_lt(used, sizeof(many));
	ck_assert_int_lt(parse("\"disks\": [", many, &err), 0);
	ck_assert_ptr_nonnull(strstr(err.text, "m: disks: more than "));

	memset(text, 'x', MANIFEST_TEXT_BYTES);
	ck_assert_int_lt(parse("Xeon", text, &err), 0);
	ck_assert_ptr_nonnull(strstr(err.text, "m: cpu: longer than "));
	text[MANIFEST_TEXT_BYTES - 1] = '\0';
	ck_assert_int_eq(parse("Xeon", text, &err), 0);

	memset(huge, ' ', sizeof(huge));
	err = ERR_INIT;
	ck_assert_int_eq(manifest_parse("m", huge, sizeof(huge), &manifest, &err), -EFBIG);
	ck_assert_ptr_nonnull(strstr(err.text, "m: larger than "));
	err = ERR_INIT;
	ck_assert_int_eq(manifest_parse("m", huge, 10, &manifest, &err), -EINVAL);
	ck_assert_str_eq(err.text, "m: damaged: its last line is missing");
}
END_TEST

TEST_MAIN("manifest", each_mistake_is_named, what_is_too_long_or_too_many_is_refused)
