#include "reference.h"

#include "decode.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { ROW_BYTES = 1024 };

const char *size_text(uint64_t bytes, char text[24])
{
	static const char units[] = "KMGT";
	size_t unit = 0;
	uint64_t value = bytes / 1024;
	while (unit < 3 && value && value % 1024 == 0) {
		value /= 1024;
		unit++;
	}
	(void)snprintf(text, 24, "%" PRIu64 "%c", value, units[unit]);
	return text;
}

__attribute__((format(printf, 3, 4))) static void append(char *text, size_t size, const char *fmt, ...)
{
	size_t used = strlen(text);
	va_list args;
	va_start(args, fmt);
	(void)vsnprintf(text + used, size - used, fmt, args);
	va_end(args);
}

static void choices_text(const struct choice *choices, char *text, size_t size)
{
	for (const struct choice *c = choices; c->word; c++)
		append(text, size, "%s\"%s\"", c == choices ? "" : c[1].word ? ", " : " or ", c->word);
}

static void chardev_text(char *text, size_t size)
{
	append(text, size, "one of");
	for (const struct chardev_form *f = chardev_forms; f->word; f++)
		if (f->bare)
			append(text, size, " \"%s\",", f->word);
	for (const struct chardev_form *f = chardev_forms; f->word; f++)
		if (f->with_path)
			append(text, size, " {\"%s\": path}%s", f->word, f[1].word ? "," : "");
}

const char *key_expects(const struct key *key, char *text, size_t size)
{
	char low[24], high[24];
	text[0] = '\0';
	switch (key->type) {
	case KEY_BOOL:
		append(text, size, "true or false");
		break;
	case KEY_UINT:
		append(text, size, "a whole number from %" PRIu64 " to %" PRIu64, key->min, key->max);
		break;
	case KEY_HEX:
		append(text, size, "a number of 32 bits such as 27 or \"0x1b\"");
		break;
	case KEY_SIZE:
		append(text, size, "a size from %s to %s", size_text(key->min, low),
		       size_text(key->max, high));
		break;
	case KEY_TEXT:
		append(text, size, "a text of %" PRIu64 " to %" PRIu64 " bytes", key->min, key->max);
		break;
	case KEY_FILE:
		append(text, size, "the path of a file");
		break;
	case KEY_PATH:
		append(text, size, "a path");
		break;
	case KEY_CHOICE:
		choices_text(key->choices, text, size);
		break;
	case KEY_CHARDEV:
		chardev_text(text, size);
		break;
	case KEY_LIST:
		append(text, size, "a list of at most %" PRIu64 " items", key->max);
		break;
	case KEY_SWITCH:
		append(text, size, "\"off\", \"on\" or an object");
		break;
	case KEY_OBJECT:
	case KEY_TAGGED:
		append(text, size, "an object");
		break;
	case KEY_TYPES:
		break;
	}
	return text;
}

struct walk {
	void (*line)(const char *text, void *data);
	void *data;
};

static void walk_object(const struct walk *w, const struct place *at, const struct object *object);

static void walk_key(const struct walk *w, const struct place *at, const struct key *key)
{
	char row[ROW_BYTES], path[256], expected[384];
	(void)place_text(at, path, sizeof(path));
	const char *absent = key->required ? "required" : key->absent ? key->absent : key->fallback;
	const char *code = !key->required && !key->absent && key->fallback ? "`" : "";
	(void)snprintf(row, sizeof(row), "| `%s` | %s | %s%s%s | %s |", path,
		       key_expects(key, expected, sizeof(expected)), code, absent ? absent : "", code,
		       key->doc);
	w->line(row, w->data);
	if (key->type == KEY_OBJECT || key->type == KEY_SWITCH)
		walk_object(w, at, key->object);
	if (key->type == KEY_LIST)
		walk_key(w, &(struct place){.parent = at, .name = "N"}, key->item);
	for (const struct tag *tag = key->tags; tag && tag->word; tag++) {
		struct place tag_at = {.parent = at, .name = tag->word};
		walk_object(w, &tag_at, tag->object);
	}
}

static void walk_object(const struct walk *w, const struct place *at, const struct object *object)
{
	for (const struct key *key = object->keys; key->name; key++)
		walk_key(w, &(struct place){.parent = at, .name = key->name}, key);
}

void reference_walk(const struct object *object, void (*line)(const char *text, void *data), void *data)
{
	walk_object(&(struct walk){.line = line, .data = data}, &(struct place){.parent = NULL}, object);
}
