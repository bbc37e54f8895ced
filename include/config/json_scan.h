/*
 * Strict RFC 8259 over bytes of unknown origin, before anything builds a tree from them.
 *
 * cJSON alone is too kind for a config: it takes any byte up to 0x20 for a space, raw control characters and
 * broken UTF-8 in strings, "01" for a number, cuts a string at \u0000, and says of a mistake only where it
 * stopped. What this scanner passes, cJSON parses without loss.
 */
#ifndef AERIE_CONFIG_JSON_SCAN_H
#define AERIE_CONFIG_JSON_SCAN_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

enum {
	JSON_DEPTH_MAX = 16,   /* of [ and {; our own tables need 5 */
	JSON_NUMBER_CHARS = 60 /* cJSON copies a number into 64 bytes */
};

/* 0, or -EINVAL with "name:line:column: what is wrong"; lines and columns count characters from 1. */
int json_scan(const char *name, const char *text, size_t len, struct err *err);

bool json_is_utf8(const char *text);

#endif
