/*
 * From a JSON tree to a struct, by the tables of schema.h. Defaults are added to the tree as they are
 * applied, so that the strings of the result all belong to the tree.
 */
#ifndef AERIE_SRC_CONFIG_DECODE_H
#define AERIE_SRC_CONFIG_DECODE_H

#include "config/json.h"
#include "schema.h"

struct decode {
	const struct object *object; /* of the whole config */
	const char *file;	     /* as the operator named it, for messages */
	int folder_bytes;	     /* of `file` up to its last '/'; relative paths begin with them */
	const char *const *set;	     /* the --set arguments, for messages: origin n is set[n - 1] */
	struct err *err;
};

/*
 * Where in the config a value stands: a chain on the stack, from the value up to the root, which has no
 * parent.
 */
struct place {
	const struct place *parent;
	const char *name; /* of a key; NULL for an item of a list */
	size_t index;
};

/*
 * Record "FILE: key.path: MESSAGE", or "--set key.path=value: MESSAGE" when `node` (NULL: nothing there) came
 * from an override. Returns -EINVAL.
 */
int refuse(const struct decode *d, const struct place *at, const cJSON *node, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

/* Refuse a key that `object` does not have, with what it may have meant. */
int refuse_unknown(const struct decode *d, const struct place *parent, const struct object *object,
		   const cJSON *node, const char *name);

/* "key.path" into `text`; returns its length. The root gives "". */
size_t place_text(const struct place *at, char *text, size_t size);

/* Read `root` by d->object into `fields`, zeroed by the caller. 0, -EINVAL, -ENOMEM. */
int decode_root(const struct decode *d, cJSON *root, void *fields);

#endif
