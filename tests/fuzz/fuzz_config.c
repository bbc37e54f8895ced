/*
 * The config loader. The first byte says what the rest is: 'J', a config file as it stands; else the choices
 * of a generator that walks the tables of keys and writes a config that is mostly valid. After the config,
 * either kind may have --set arguments: in a 'J' input each follows a byte 0x01.
 *
 * Rules: a result or a message, never both; a message is one printable line that names the file or the
 * override; what config_print gives is read back as the same machine.
 */
#include "feed.h"
#include "fuzz.h"

#include "../../src/config/schema.h"
#include "base/bytes.h"
#include "base/cleanup.h"
#include "config/config.h"

#include <errno.h>

enum { SET_MAX = 8, TEXT_BYTES = 1 << 15 };

static void put(struct writer *w, const char *text)
{
	write_bytes(w, text, strlen(text));
}

static void put_word(struct feed *f, struct writer *w, const char *const *words, size_t count)
{
	put(w, words[take(f, 1) % count]);
}

static void put_text(struct feed *f, struct writer *w)
{
	static const char *const pieces[] = {
		"",   "a",  "console=ttyS0", " ",    "\\u00e9", "\\n",
		"\"", "\\", "\xc3\xa9",	     "null", "2G",	"\\ud83d\\ude00"};
	put(w, "\"");
	for (unsigned n = take(f, 1) % 4; n; n--)
		put_word(f, w, pieces, ARRAY_LEN(pieces));
	put(w, "\"");
}

static void put_object(struct feed *f, struct writer *w, const struct object *object);

static void put_chardev(struct feed *f, struct writer *w)
{
	const struct chardev_form *form = chardev_forms;
	for (unsigned n = take(f, 1) % 7; n && form[1].word; n--)
		form++;
	put(w, form->bare ? "\"" : "{\"");
	put(w, form->word);
	put(w, form->bare ? "\"" : "\":");
	if (!form->bare) {
		put_text(f, w);
		put(w, "}");
	}
}

static void put_value(struct feed *f, struct writer *w, const struct key *key)
{
	static const char *const bools[] = {"true", "false", "1", "null"};
	static const char *const counts[] = {"1",    "2", "4",	 "8",  "3",	"1024",
					     "1025", "0", "1.5", "-1", "1e400", "9007199254740993",
					     "\"2\""};
	static const char *const sizes[] = {"\"2G\"",	 "\"512M\"", "\"4096K\"", "\"1T\"",
					    "\"2049K\"", "\"2Q\"",   "2"};
	static const char *const files[] = {"\"/proc/self/exe\"", "\"/proc/self/exe\"", "\"none\"", "\"/\"",
					    "\"\""};
	static const char *const hexes[] = {"27",	"\"0x1b\"", "\"0xC0010015\"",
					    "\"0x1g\"", "\"27\"",   "4294967296"};
	static const char *const switches[] = {"\"on\"", "\"off\"", "\"maybe\"", "true"};
	const struct choice *choice = key->choices;
	switch (key->type) {
	case KEY_BOOL:
		put_word(f, w, bools, ARRAY_LEN(bools));
		break;
	case KEY_UINT:
		put_word(f, w, counts, ARRAY_LEN(counts));
		break;
	case KEY_HEX:
		put_word(f, w, hexes, ARRAY_LEN(hexes));
		break;
	case KEY_SWITCH:
		if (take(f, 1) % 2)
			put_object(f, w, key->object);
		else
			put_word(f, w, switches, ARRAY_LEN(switches));
		break;
	case KEY_SIZE:
		put_word(f, w, sizes, ARRAY_LEN(sizes));
		break;
	case KEY_FILE:
		put_word(f, w, files, ARRAY_LEN(files));
		break;
	case KEY_CHOICE:
		for (unsigned n = take(f, 1) % 5; n && choice[1].word; n--)
			choice++;
		put(w, "\"");
		put(w, choice->word);
		put(w, "\"");
		break;
	case KEY_CHARDEV:
		put_chardev(f, w);
		break;
	case KEY_OBJECT:
		put_object(f, w, key->object);
		break;
	case KEY_LIST:
		put(w, "[");
		for (unsigned n = take(f, 1) % 6; n; n--) {
			put_value(f, w, key->item);
			put(w, n > 1 ? "," : "");
		}
		put(w, "]");
		break;
	default:
		put_text(f, w);
	}
}

/* Every key, a few left out, rarely one twice or misspelt. */
static void put_object(struct feed *f, struct writer *w, const struct object *object)
{
	const char *comma = "";
	put(w, "{");
	for (const struct key *key = object->keys; key->name; key++) {
		unsigned choice = take(f, 1) % 32;
		if (choice < 8 && !key->required && key->type != KEY_OBJECT)
			continue;
		for (int times = choice == 31 ? 2 : 1; times; times--) {
			put(w, comma);
			put(w, "\"");
			put(w, choice == 30 ? key->name + 1 : key->name);
			put(w, "\":");
			put_value(f, w, key);
			comma = ",";
		}
	}
	put(w, "}");
}

/* "key.path=value" with a path that the tables have, or nearly. */
static void put_override(struct feed *f, struct writer *w)
{
	const struct object *object = &machine_object;
	const struct key *key = NULL;
	while (object) {
		key = object->keys;
		for (unsigned n = take(f, 1) % 8; n && key[1].name; n--)
			key++;
		put(w, object == &machine_object ? "" : ".");
		put(w, key->name);
		if (key->type == KEY_LIST && take(f, 1) % 4) {
			static const char *const numbers[] = {".0", ".1", ".2", ".7", ".x"};
			put_word(f, w, numbers, ARRAY_LEN(numbers));
			key = key->item;
		}
		object = take(f, 1) % 8 ? key->object : NULL;
	}
	if (key->type == KEY_CHARDEV && take(f, 1) % 2)
		put(w, ".file");
	put(w, "=");
	put_value(f, w, key);
}

static void check_message(const struct err *err, int rc)
{
	FUZZ_CHECK(rc == -EINVAL || rc == -EFBIG);
	FUZZ_CHECK(err->code == rc);
	FUZZ_CHECK(strncmp(err->text, "f.json:", 7) == 0 || strncmp(err->text, "--set ", 6) == 0);
	for (const char *p = err->text; *p; p++)
		FUZZ_CHECK((unsigned char)*p >= 0x20 && *p != 0x7f);
}

static void check_config(const char *text, size_t len, const char *const *set, size_t set_count)
{
	struct machine_config *config = NULL, *again = NULL;
	struct err err = ERR_INIT;
	int rc = config_parse("f.json", text, len, set, set_count, &config, &err);
	FUZZ_CHECK((rc == 0) == (config != NULL));
	if (rc) {
		check_message(&err, rc);
		return;
	}
	FUZZ_CHECK(config->cpus.count == config->cpus.sockets * config->cpus.cores * config->cpus.threads);
	_cleanup_free_ char *first = config_print(config);
	FUZZ_CHECK(first != NULL);
	rc = config_parse("f.json", first, strlen(first), NULL, 0, &again, &err);
	FUZZ_CHECK(rc == 0);
	_cleanup_free_ char *second = config_print(again);
	FUZZ_CHECK(second && strcmp(first, second) == 0);
	config_free(config);
	config_free(again);
}

static void check_text(const uint8_t *data, size_t size)
{
	_cleanup_free_ char *text = malloc(size + 1);
	const char *set[SET_MAX];
	size_t set_count = 0, len = size;
	FUZZ_CHECK(text != NULL);
	memcpy(text, data, size);
	text[size] = '\0';
	for (size_t i = 0; i < size && set_count < SET_MAX; i++) {
		if (text[i] != 0x01)
			continue;
		text[i] = '\0';
		set[set_count++] = text + i + 1;
		if (len == size)
			len = i;
	}
	check_config(text, len, set, set_count);
}

static void check_generated(struct feed *f)
{
	static char text[TEXT_BYTES], set_text[SET_MAX][TEXT_BYTES / SET_MAX];
	const char *set[SET_MAX];
	size_t set_count = 0;
	struct writer w = writer_on(text, sizeof(text));
	put_object(f, &w, &machine_object);
	for (; f->size && set_count < SET_MAX && take(f, 1) % 2; set_count++) {
		struct writer s = writer_on(set_text[set_count], sizeof(set_text[0]) - 1);
		put_override(f, &s);
		set_text[set_count][s.used] = '\0';
		set[set_count] = set_text[set_count];
	}
	check_config(text, w.used, set, set_count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!size)
		return 0;
	if (data[0] == 'J')
		check_text(data + 1, size - 1);
	else
		check_generated(&(struct feed){.data = data + 1, .size = size - 1});
	return 0;
}
