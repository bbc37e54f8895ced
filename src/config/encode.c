#include "encode.h"

#include "base/cleanup.h"
#include "config/json.h"
#include "reference.h"

#include <stdio.h>
#include <string.h>

#include <stdio.h>

/* A path as it is, or behind the folder that it is relative to. */
static cJSON *encode_path(const char *path, const char *folder)
{
	if (!folder || path[0] == '/')
		return cJSON_CreateString(path);
	size_t bytes = strlen(folder) + strlen(path) + sizeof("/");
	_cleanup_free_ char *text = malloc(bytes);
	if (!text)
		return NULL;
	(void)snprintf(text, bytes, "%s/%s", folder, path);
	return cJSON_CreateString(text);
}

static cJSON *encode_chardev(const struct chardev_config *chardev, const char *folder)
{
	const struct chardev_form *form = chardev_forms;
	while (form->word && form->kind != chardev->kind)
		form++;
	if (!chardev->path)
		return cJSON_CreateString(form->word);
	_cleanup_json_ cJSON *object = cJSON_CreateObject();
	cJSON *path = object ? encode_path(chardev->path, folder) : NULL;
	if (!path || !cJSON_AddItemToObject(object, form->word, path)) {
		cJSON_Delete(path);
		return NULL;
	}
	return take_ptr(object);
}

static cJSON *encode_choice(const struct choice *choices, unsigned value)
{
	while (choices->word && choices->value != value)
		choices++;
	return cJSON_CreateString(choices->word);
}

static cJSON *encode_key(const struct key *key, const void *base, const char *folder);

static cJSON *encode_list(const struct key *key, const void *base, const char *folder)
{
	size_t count = *(const size_t *)((const char *)base + key->count);
	const char *items = (const char *)base + key->offset;
	_cleanup_json_ cJSON *list = cJSON_CreateArray();
	for (size_t i = 0; list && i < count; i++) {
		cJSON *item = encode_key(key->item, items + i * key->item_size, folder);
		if (!item)
			return NULL;
		(void)cJSON_AddItemToArray(list, item); /* fails only for NULL */
	}
	return take_ptr(list);
}

static cJSON *encode_tagged(const struct key *key, const void *base, const char *folder)
{
	unsigned value = *(const unsigned *)((const char *)base + key->offset);
	const struct tag *tag = key->tags;
	while (tag->word && tag->value != value)
		tag++;
	_cleanup_json_ cJSON *object = tag->word ? encode_object(tag->object, base, folder) : NULL;
	if (!object || !cJSON_AddStringToObject(object, "type", tag->word))
		return NULL;
	return take_ptr(object);
}

static cJSON *encode_key(const struct key *key, const void *base, const char *folder)
{
	const void *field = (const char *)base + key->offset;
	char size[24];
	switch (key->type) {
	case KEY_BOOL:
		return cJSON_CreateBool(*(const bool *)field);
	case KEY_UINT:
		return cJSON_CreateNumber(*(const uint32_t *)field);
	case KEY_HEX:
		(void)snprintf(size, sizeof(size), "0x%x", *(const uint32_t *)field);
		return cJSON_CreateString(size);
	case KEY_SIZE:
		return cJSON_CreateString(size_text(*(const uint64_t *)field, size));
	case KEY_TEXT:
		return cJSON_CreateString(*(const char *const *)field);
	case KEY_FILE:
	case KEY_PATH:
		return encode_path(*(const char *const *)field, folder);
	case KEY_CHOICE:
		return encode_choice(key->choices, *(const unsigned *)field);
	case KEY_CHARDEV:
		return encode_chardev(field, folder);
	case KEY_SWITCH:
		if (!*(const bool *)((const char *)base + key->flag))
			return cJSON_CreateString("off");
		return encode_object(key->object, field, folder);
	case KEY_OBJECT:
		return encode_object(key->object, field, folder);
	case KEY_LIST:
		return encode_list(key, base, folder);
	case KEY_TAGGED:
		return encode_tagged(key, base, folder);
	case KEY_TYPES:
		break;
	}
	return NULL;
}

/* Absent without a value of its own: an optional text, a number that cannot be 0, or what a flag says was not
 * given. */
static bool is_absent(const struct key *key, const void *fields)
{
	if (key->has_flag)
		return !*(const bool *)((const char *)fields + key->flag);
	const char *field = (const char *)fields + key->offset;
	switch (key->type) {
	case KEY_TEXT:
	case KEY_FILE:
	case KEY_PATH:
		return !*(const char *const *)field;
	case KEY_UINT:
		return key->min && !*(const uint32_t *)field;
	case KEY_SIZE:
		return key->min && !*(const uint64_t *)field;
	default:
		return false;
	}
}

cJSON *encode_object(const struct object *object, const void *fields, const char *folder)
{
	_cleanup_json_ cJSON *node = cJSON_CreateObject();
	for (const struct key *key = object->keys; node && key->name; key++) {
		if (is_absent(key, fields))
			continue;
		cJSON *value = encode_key(key, fields, folder);
		if (!value)
			return NULL;
		if (!cJSON_AddItemToObject(node, key->name, value)) {
			cJSON_Delete(value);
			return NULL;
		}
	}
	return take_ptr(node);
}
