#include "wire.h"

#include "command.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- ASCII ---- */

/* One character beyond ASCII at `p`, NUL-terminated; how many bytes it took goes to *ret_len. */
static uint32_t utf8_char(const unsigned char *p, size_t *ret_len)
{
	size_t len = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : p[0] >= 0xc2 ? 2 : 1;
	uint32_t c = len == 4 ? p[0] & 0x07 : len == 3 ? p[0] & 0x0f : p[0] & 0x1f;
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	*ret_len = 1;
	if (len == 1)
		return 0xfffd;
	for (size_t i = 1; i < len; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0xfffd;
		c = c << 6 | (p[i] & 0x3f);
	}
	if (c < least[len] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
		return 0xfffd;
	*ret_len = len;
	return c;
}

/* JSON lets it stand as it is, a terminal does not. */
enum { ASCII_DEL = 0x7f };

/* Outside strings JSON is printable ASCII already, so escapes come to stand in strings only. */
static size_t to_ascii(const char *text, char *out)
{
	char *to = out;
	for (size_t len; *text; text += len) {
		len = 1;
		if ((unsigned char)*text < ASCII_DEL) {
			*to++ = *text;
			continue;
		}
		uint32_t c = *text == ASCII_DEL ? ASCII_DEL : utf8_char((const unsigned char *)text, &len);
		if (c >= 0x10000) {
			to += sprintf(to, "\\u%04x", 0xd800 + ((c - 0x10000) >> 10));
			c = 0xdc00 + (c & 0x3ff);
		}
		to += sprintf(to, "\\u%04x", c);
	}
	return (size_t)(to - out);
}

char *wire_print(const cJSON *object, size_t *ret_len)
{
	char *text = cJSON_PrintUnformatted(object), *out = NULL;
	if (text)
		out = malloc(strlen(text) * 6 + sizeof("\r\n")); /* a bad byte becomes six */
	if (out) {
		size_t len = to_ascii(text, out);
		memcpy(out + len, "\r\n", sizeof("\r\n"));
		*ret_len = len + 2;
	}
	free(text);
	return out;
}

/* ---- the messages of the specification ---- */

/* NULL unless memory was enough for all members. */
static cJSON *if_whole(cJSON *message, int members, const cJSON *inner, int inner_members)
{
	if (cJSON_GetArraySize(message) == members && cJSON_GetArraySize(inner) == inner_members)
		return message;
	cJSON_Delete(message);
	return NULL;
}

cJSON *wire_version(void)
{
	cJSON *version = cJSON_CreateObject();
	cJSON *triple = cJSON_AddObjectToObject(version, "qemu");
	unsigned part[3] = {0};
	(void)sscanf(AERIE_VERSION, "%u.%u.%u", &part[0], &part[1], &part[2]);
	json_add_u64(triple, "micro", part[2]);
	json_add_u64(triple, "minor", part[1]);
	json_add_u64(triple, "major", part[0]);
	cJSON_AddStringToObject(version, "package", "aerie " AERIE_VERSION);
	return version;
}

cJSON *wire_greeting(void)
{
	cJSON *greeting = cJSON_CreateObject();
	cJSON *qmp = cJSON_AddObjectToObject(greeting, "QMP");
	cJSON_AddItemToObject(qmp, "version", wire_version());
	cJSON_AddArrayToObject(qmp, "capabilities");
	return greeting;
}

cJSON *wire_error(const char *class, const char *desc)
{
	cJSON *reply = cJSON_CreateObject();
	cJSON *error = cJSON_AddObjectToObject(reply, "error");
	cJSON_AddStringToObject(error, "class", class);
	cJSON_AddStringToObject(error, "desc", desc);
	return if_whole(reply, 1, error, 2);
}

cJSON *wire_event(const char *name, cJSON *data)
{
	struct timespec now;
	cJSON *event = cJSON_CreateObject();
	cJSON *stamp = cJSON_AddObjectToObject(event, "timestamp");
	(void)clock_gettime(CLOCK_REALTIME, &now);
	json_add_u64(stamp, "seconds", (uint64_t)now.tv_sec);
	json_add_u64(stamp, "microseconds", (uint64_t)now.tv_nsec / 1000);
	cJSON_AddStringToObject(event, "event", name);
	int members = data ? 3 : 2;
	if (data && !cJSON_AddItemToObject(event, "data", data))
		cJSON_Delete(data);
	return if_whole(event, members, stamp, 2);
}
