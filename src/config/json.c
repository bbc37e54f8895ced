#include "config/json.h"

#include "base/cleanup.h"
#include "config/json_scan.h"

#include <stdio.h>
#include <string.h>

/*
 * Step to the next number literal outside strings. The text has passed json_scan, so nothing but a number
 * begins with
 * '-' or a digit there, and the order is that of the tree.
 */
static const char *next_number(const char *at, const char *end, size_t *ret_len)
{
	for (bool in_string = false; at < end; at++) {
		if (*at == '"')
			in_string = !in_string;
		else if (in_string && *at == '\\')
			at++;
		else if (!in_string && (*at == '-' || (*at >= '0' && *at <= '9')))
			break;
	}
	const char *stop = at;
	while (stop < end && strchr("+-.0123456789eE", *stop))
		stop++;
	*ret_len = (size_t)(stop - at);
	return at;
}

/* Recursion is bounded by JSON_DEPTH_MAX. */
static int annotate(cJSON *node, int origin, const char **at, const char *end)
{
	if (cJSON_IsNumber(node)) {
		size_t len;
		const char *literal = next_number(*at, end, &len);
		node->valuestring = cJSON_malloc(len + 1);
		if (!node->valuestring)
			return -ENOMEM;
		memcpy(node->valuestring, literal, len);
		node->valuestring[len] = '\0';
		node->type = cJSON_Raw;
		*at = literal + len;
	}
	node->valueint = origin;
	cJSON *child;
	cJSON_ArrayForEach(child, node)
	{
		if (annotate(child, origin, at, end))
			return -ENOMEM;
	}
	return 0;
}

int json_parse(const char *name, const char *text, size_t len, int origin, cJSON **ret, struct err *err)
{
	if (json_scan(name, text, len, err))
		return err->code;
	_cleanup_json_ cJSON *root = cJSON_ParseWithLength(text, len);
	const char *at = text;
	if (!root || annotate(root, origin, &at, text + len))
		return err_sys(err, -ENOMEM, "%s", name);
	*ret = take_ptr(root);
	return 0;
}

/* One character of a quoted text into `out` (at most 6 bytes); returns its length, and how much of `p` it
 * took. */
static size_t quote_char(const char *p, char out[8], size_t *ret_taken)
{
	unsigned char c = (unsigned char)*p, second = c ? (unsigned char)p[1] : 0;
	*ret_taken = 1;
	if (c == '"' || c == '\\')
		return (size_t)sprintf(out, "\\%c", c);
	if (c == '\n')
		return (size_t)sprintf(out, "\\n");
	if (c < 0x20 || c == 0x7f)
		return (size_t)sprintf(out, "\\u%04x", c);
	if (c == 0xc2 && second >= 0x80 && second < 0xa0) { /* C1: also moves cursors */
		*ret_taken = 2;
		return (size_t)sprintf(out, "\\u%04x", second);
	}
	size_t len = c < 0xc0 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
	len = strnlen(p, len);
	memcpy(out, p, len);
	*ret_taken = len;
	return len;
}

const char *json_quote(const char *value, char *text, size_t size)
{
	size_t used = 0, taken;
	text[used++] = '"';
	for (const char *p = value; *p; p += taken) {
		char out[8];
		size_t len = quote_char(p, out, &taken);
		if (used + len + sizeof("...\"") > size) {
			memcpy(text + used, "...", 3);
			used += 3;
			break;
		}
		memcpy(text + used, out, len);
		used += len;
	}
	text[used++] = '"';
	text[used] = '\0';
	return text;
}

const char *json_describe(const cJSON *node, char *text, size_t size)
{
	if (cJSON_IsString(node))
		return json_quote(node->valuestring, text, size);
	(void)snprintf(text, size, "%s",
		       cJSON_IsRaw(node)      ? node->valuestring
		       : cJSON_IsBool(node)   ? (cJSON_IsTrue(node) ? "true" : "false")
		       : cJSON_IsNull(node)   ? "null"
		       : cJSON_IsArray(node)  ? "a list"
		       : cJSON_IsObject(node) ? "an object"
					      : "an empty value");
	return text;
}
