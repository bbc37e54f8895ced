/*
 * JSON as aerie reads it: a cJSON tree with two additions.
 *
 *  - A number is a cJSON_Raw node whose valuestring is its literal. cJSON keeps a double, in which 2^53 + 1,
 * 1e400 and many others silently become something else.
 *  - valueint, which cJSON does not need for the node types that remain, names the origin: 0 for the file, n
 * for the n-th --set (from 1).
 */
#ifndef AERIE_CONFIG_JSON_H
#define AERIE_CONFIG_JSON_H

#include "base/err.h"

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>

/*
 * Parse `len` bytes at `text`; `name` stands in messages as "name:line:column: ...". -EINVAL for bad JSON,
 * -ENOMEM. *ret belongs to the caller (cJSON_Delete).
 */
int json_parse(const char *name, const char *text, size_t len, int origin, cJSON **ret, struct err *err);

static inline int json_origin(const cJSON *node)
{
	return node->valueint;
}

/* The node as a person would write it, in one line and cut to `size` bytes: "text", 12, true, "a list", "an
 * object". */
const char *json_describe(const cJSON *node, char *text, size_t size);

/* `value` in double quotes, with what does not belong on a terminal escaped, cut to `size` bytes. */
const char *json_quote(const char *value, char *text, size_t size);

static inline void cleanup_json(cJSON **node)
{
	cJSON_Delete(*node);
}

#define _cleanup_json_ __attribute__((cleanup(cleanup_json)))

#endif
