/* What a key takes, in words: for messages and for docs/config.md. */
#ifndef AERIE_SRC_CONFIG_REFERENCE_H
#define AERIE_SRC_CONFIG_REFERENCE_H

#include "schema.h"

/* Such as `a whole number from 1 to 1024`, into `text`, cut to `size` bytes; returns text. */
const char *key_expects(const struct key *key, char *text, size_t size);

/* "512M": in the largest unit that divides it. */
const char *size_text(uint64_t bytes, char text[24]);

/*
 * One line for each key below `object`, depth first, as a row of a Markdown table: path, what it takes, what
 * absence means, what it is for.
 */
void reference_walk(const struct object *object, void (*line)(const char *text, void *data), void *data);

#endif
