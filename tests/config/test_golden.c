/*
 * tests/golden/config: each NAME.json stands beside NAME.msg, the exact message that refuses it, or NAME.out,
 * the whole machine as config_print gives it back. NAME.set, where there is one, holds overrides, one a line.
 */
#include "base/cleanup.h"
#include "config/config.h"
#include "harness.h"

#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define FOLDER "tests/golden/config"

enum { SET_MAX = 16, MESSAGE_BYTES = 16384 };

/* Beside NAME.json: the contents of NAME<ending>, or NULL when there is none. The caller frees. */
static char *beside(const char *name, const char *ending)
{
	char path[512];
	ck_assert_int_lt(
		snprintf(path, sizeof(path), FOLDER "/%.*s%s", (int)(strlen(name) - 5), name, ending),
		sizeof(path));
	FILE *file = fopen(path, "re");
	if (!file)
		return NULL;
	char *text = calloc(1, MESSAGE_BYTES);
	ck_assert_ptr_nonnull(text);
	ck_assert_uint_lt(fread(text, 1, MESSAGE_BYTES - 1, file), MESSAGE_BYTES - 1);
	ck_assert_int_eq(fclose(file), 0);
	return text;
}

static size_t split_lines(char *text, const char **lines)
{
	size_t count = 0;
	for (char *line = text ? strtok(text, "\n") : NULL; line; line = strtok(NULL, "\n")) {
		ck_assert_uint_lt(count, SET_MAX);
		lines[count++] = line;
	}
	return count;
}

/* The line that a config gives: its message, or the whole machine. The caller frees. */
static char *outcome(const char *name, bool *ret_good)
{
	char path[512], *text = NULL;
	_cleanup_free_ char *set_text = beside(name, ".set");
	const char *set[SET_MAX];
	size_t set_count = split_lines(set_text, set);
	struct machine_config *config = NULL;
	struct err err = ERR_INIT;
	ck_assert_int_lt(snprintf(path, sizeof(path), FOLDER "/%s", name), sizeof(path));
	int rc = config_load(path, set, set_count, &config, &err);
	*ret_good = rc == 0;
	if (rc) {
		ck_assert_int_eq(rc, err.code);
		ck_assert_ptr_null(config);
		ck_assert_int_ge(asprintf(&text, "%s\n", err.text), 0);
		return text;
	}
	ck_assert_int_eq(err.code, 0);
	_cleanup_free_ char *printed = config_print(config);
	ck_assert_ptr_nonnull(printed);
	ck_assert_int_ge(asprintf(&text, "%s\n", printed), 0);
	config_free(config);
	return text;
}

static int is_json(const struct dirent *entry)
{
	size_t len = strlen(entry->d_name);
	return len > 5 && strcmp(entry->d_name + len - 5, ".json") == 0;
}

START_TEST(each_config_gives_exactly_its_message)
{
	struct dirent **entries;
	int count = scandir(FOLDER, &entries, is_json, alphasort), wrong = 0, refused = 0;
	ck_assert_int_gt(count, 0);
	for (int i = 0; i < count; i++) {
		const char *name = entries[i]->d_name;
		bool good;
		_cleanup_free_ char *message = beside(name, ".msg"), *machine = beside(name, ".out");
		_cleanup_free_ char *got = outcome(name, &good);
		const char *want = message ? message : machine;
		ck_assert_msg(!message != !machine, "%s needs either .msg or .out", name);
		if (good == !message && strcmp(got, want) == 0) {
			refused += !good;
		} else {
			wrong++;
			(void)fprintf(stderr, "%s\n  gives:    %s  expected: %s", name, got, want);
		}
		free(entries[i]);
	}
	free(entries);
	ck_assert_msg(wrong == 0, "%d of %d configs gave something else", wrong, count);
	ck_assert_int_gt(refused, 100); /* an empty folder must not look like success */
}
END_TEST

TEST_MAIN("config/golden", each_config_gives_exactly_its_message)
