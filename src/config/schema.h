/*
 * The tables that say what a config may hold. One row for each key drives decoding, checking, --set, "did you
 * mean", printing and the reference in docs/config.md; the code that walks them (decode.c, override.c,
 * encode.c, reference.c) knows no key by name. A new device is a new row of `device_tags` with its own table
 * of keys.
 */
#ifndef AERIE_SRC_CONFIG_SCHEMA_H
#define AERIE_SRC_CONFIG_SCHEMA_H

#include "config/config.h"

#include <cjson/cJSON.h>

enum key_type {
	KEY_BOOL,    /* bool */
	KEY_UINT,    /* uint32_t, from min to max */
	KEY_HEX,     /* uint32_t, from min to max, written "0x1b" or 27 */
	KEY_SIZE,    /* uint64_t bytes from min to max, written "512M" */
	KEY_TEXT,    /* const char *, of min to max bytes */
	KEY_FILE,    /* const char *, resolved path of a readable regular file */
	KEY_PATH,    /* const char *, resolved path of anything; who opens it says what is wrong with it */
	KEY_CHOICE,  /* an enum: one of choices */
	KEY_CHARDEV, /* struct chardev_config */
	KEY_OBJECT,  /* a struct with keys of its own */
	KEY_SWITCH,  /* "off", "on", or an object: on, with changes; the bool at `flag` says which */
	KEY_LIST,    /* an array of at most max items and a size_t that counts them */
	KEY_TAGGED,  /* an object whose "type" picks its keys: an enum, and one member of a union */
	KEY_TYPES
};

struct choice {
	const char *word;
	unsigned value;
};

struct key {
	const char *name;
	enum key_type type;
	bool required;
	bool has_flag; /* `flag` is the offset of a bool that says whether the key was there */
	size_t offset; /* of the field in the struct that the table describes; AT_ macros check its type */
	size_t flag;
	uint64_t min, max;
	const char *fallback;	      /* what an absent key means, as JSON; NULL: the field stays zero */
	const struct choice *choices; /* CHOICE, ends with a NULL word */
	const struct object *object;  /* OBJECT, SWITCH */
	const struct key *item;	      /* LIST: how an item is read; its offset is within the item */
	size_t item_size;	      /* LIST */
	size_t count;		      /* LIST: offset of the size_t */
	const struct tag *tags;	      /* TAGGED, ends with a NULL word */
	const char *absent; /* for the reference: what absence means when fallback does not say it */
	const char *doc;    /* for the reference: one line */
};

struct place;
struct decode;

struct object {
	const struct key *keys; /* end with a NULL name */
	/* Rules between keys, and values derived from others; runs when all keys are read. May be NULL. */
	int (*check)(const struct decode *d, const struct place *at, const cJSON *node, void *fields);
};

/* {"type": word, ...}: `value` goes to the row's offset, the other keys by `object` into the same struct. */
struct tag {
	const char *word;
	unsigned value;
	const struct object *object;
};

/* What a chardev may be: a bare word, an object {word: path}, or either. */
struct chardev_form {
	const char *word;
	enum chardev_kind kind;
	bool bare, with_path;
	size_t path_max; /* bytes */
};

extern const struct object machine_object;
extern const struct object cpu_object;		  /* schema_cpu.c */
extern const struct key device_item;		  /* schema_devices.c */
extern const struct key port_item;		  /* one chardev of a list */
extern const struct chardev_form chardev_forms[]; /* ends with a NULL word */

/* offsetof, which does not compile unless the member has exactly this type. */
#define FIELD(type_, struct_, member) _Generic(((struct_ *)0)->member, type_ : offsetof(struct_, member))

#define AT_BOOL(s, m)	 .type = KEY_BOOL, .offset = FIELD(bool, s, m)
#define AT_UINT(s, m)	 .type = KEY_UINT, .offset = FIELD(uint32_t, s, m)
#define AT_SIZE(s, m)	 .type = KEY_SIZE, .offset = FIELD(uint64_t, s, m)
#define AT_TEXT(s, m)	 .type = KEY_TEXT, .offset = FIELD(const char *, s, m)
#define AT_FILE(s, m)	 .type = KEY_FILE, .offset = FIELD(const char *, s, m)
#define AT_PATH(s, m)	 .type = KEY_PATH, .offset = FIELD(const char *, s, m)
#define AT_CHARDEV(s, m) .type = KEY_CHARDEV, .offset = FIELD(struct chardev_config, s, m)
/* gcc and clang give an enum without negative values the type unsigned int, which is what gets stored. */
#define AT_CHOICE(s, m, words) .type = KEY_CHOICE, .offset = FIELD(unsigned, s, m), .choices = (words)
#define AT_OBJECT(s, m, t, o)  .type = KEY_OBJECT, .offset = FIELD(t, s, m), .object = &(o), .fallback = "{}"
#define AT_SWITCH(s, m, t, o, on)                                                                            \
	.type = KEY_SWITCH, .offset = FIELD(t, s, m), .object = &(o), .flag = FIELD(bool, s, m.on)
#define AT_LIST(s, m, n, row)                                                                                \
	.type = KEY_LIST, .offset = offsetof(s, m), .item = &(row), .item_size = sizeof(((s *)0)->m[0]),     \
	.count = FIELD(size_t, s, n), .max = sizeof(((s *)0)->m) / sizeof(((s *)0)->m[0])
#define FLAG(s, m) .has_flag = true, .flag = FIELD(bool, s, m)

/* The key called `name` (len bytes), or NULL. */
const struct key *key_find(const struct object *object, const char *name, size_t len);

#endif
