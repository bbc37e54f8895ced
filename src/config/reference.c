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
	const char *separator = "";
	for (const struct chardev_form *f = chardev_forms; f->word; f++) {
		if (f->bare)
			append(text, size, "%s\"%s\"", separator, f->word);
		if (f->bare)
			separator = ", ";
	}
	for (const struct chardev_form *f = chardev_forms; f->word; f++)
		if (f->with_path)
			append(text, size, "%s{\"%s\": path}", separator, f->word);
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
	case KEY_CHOICE:
		choices_text(key->choices, text, size);
		break;
	case KEY_CHARDEV:
		chardev_text(text, size);
		break;
	case KEY_LIST:
		append(text, size, "a list of at most %" PRIu64 " items", key->max);
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
