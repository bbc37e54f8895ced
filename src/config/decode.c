#include "decode.h"

#include "base/cleanup.h"
#include "config/suggest.h"
#include "decode_values.h"
#include "reference.h"

#include <stdio.h>
#include <string.h>

enum { PATH_TEXT_BYTES = 256, VALUE_TEXT_BYTES = 80, WORDS_TEXT_BYTES = 384 };

static bool is_plain(const char *name)
{
	return *name && strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") ==
				strlen(name);
}

size_t place_text(const struct place *at, char *text, size_t size)
{
	if (!at->parent) {
		text[0] = '\0';
		return 0;
	}
	size_t used = place_text(at->parent, text, size);
	const char *dot = used ? "." : "";
	char quoted[VALUE_TEXT_BYTES];
	if (!at->name)
		(void)snprintf(text + used, size - used, "%s%zu", dot, at->index);
	else if (is_plain(at->name) && strlen(at->name) < VALUE_TEXT_BYTES)
		(void)snprintf(text + used, size - used, "%s%s", dot, at->name);
	else
		(void)snprintf(text + used, size - used, "%s%s", dot,
			       json_quote(at->name, quoted, sizeof(quoted)));
	return strlen(text);
}

int refuse(const struct decode *d, const struct place *at, const cJSON *node, const char *fmt, ...)
{
	char path[PATH_TEXT_BYTES], what[ERR_TEXT_BYTES];
	va_list args;
	va_start(args, fmt);
	(void)vsnprintf(what, sizeof(what), fmt, args);
	va_end(args);
	size_t len = place_text(at, path, sizeof(path));
	const char *colon = len ? ": " : "";
	if (!node || json_origin(node) == 0)
		return err_set(d->err, -EINVAL, "%s: %s%s%s", d->file, path, colon, what);
	const char *set = d->set[json_origin(node) - 1];
	if (strncmp(set, path, len) == 0 && set[len] == '=') { /* the override names the place already */
		path[0] = '\0';
		colon = "";
	}
	return err_set(d->err, -EINVAL, "--set %.200s: %s%s%s", set, path, colon, what);
}

static int out_of_memory(const struct decode *d)
{
	return err_sys(d->err, -ENOMEM, "%s", d->file);
}

int refuse_value(const struct decode *d, const struct place *at, const struct key *key, const cJSON *node,
		 const char *hint)
{
	char value[VALUE_TEXT_BYTES], expected[WORDS_TEXT_BYTES];
	return refuse(d, at, node, "%s is not %s%s", json_describe(node, value, sizeof(value)),
		      key_expects(key, expected, sizeof(expected)), hint);
}

/* The path of the first key below `object` that is called `name`, for those who left out where it belongs. */
static bool find_below(const struct object *object, const struct place *at, const char *name, char *text,
		       size_t size)
{
	for (const struct key *key = object->keys; key->name; key++) {
		const struct place key_at = {.parent = at, .name = key->name};
		if (strcmp(key->name, name) == 0) {
			(void)place_text(&key_at, text, size);
			return true;
		}
		if (key->object && find_below(key->object, &key_at, name, text, size))
			return true;
	}
	return false;
}

int refuse_unknown(const struct decode *d, const struct place *parent, const struct object *object,
		   const cJSON *node, const char *name)
{
	const struct place at = {.parent = parent, .name = name};
	struct suggestion near = suggestion_for(name);
	char words[WORDS_TEXT_BYTES] = "", elsewhere[PATH_TEXT_BYTES];
	for (const struct key *key = object->keys; key->name; key++) {
		size_t used = strlen(words);
		suggestion_try(&near, key->name);
		(void)snprintf(words + used, sizeof(words) - used, "%s%s", used ? ", " : "", key->name);
	}
	if (near.best)
		return refuse(d, &at, node, "unknown key (did you mean %s?)", near.best);
	if (find_below(d->object, &(struct place){.parent = NULL}, name, elsewhere, sizeof(elsewhere)))
		return refuse(d, &at, node, "unknown key (did you mean %s?)", elsewhere);
	return refuse(d, &at, node, "unknown key (known here: %s)", words);
}

static int decode_key(const struct decode *d, const struct place *at, const struct key *key, cJSON *node,
		      void *base);

/* Every key of the JSON object is known and stands there once. */
static int check_names(const struct decode *d, const struct place *at, const struct object *object,
		       cJSON *node, bool tagged)
{
	uint64_t seen = 0;
	cJSON *child;
	cJSON_ArrayForEach(child, node)
	{
		const struct key *key = key_find(object, child->string, strlen(child->string));
		bool tag = tagged && strcmp(child->string, "type") == 0;
		if (!key && !tag)
			return refuse_unknown(d, at, object, child, child->string);
		uint64_t bit = 1ULL << (tag ? 63 : key - object->keys);
		const struct place child_at = {.parent = at, .name = child->string};
		const cJSON *first = cJSON_GetObjectItemCaseSensitive(node, child->string);
		if (seen & bit) /* the first, as an override replaces one of two and goes to the end */
			return refuse(d, &child_at, first, "this key stands twice in its object");
		seen |= bit;
	}
	return 0;
}

/* The default of a key, put into the tree in its place. */
static int add_fallback(const struct decode *d, const struct key *key, cJSON *object, cJSON **ret)
{
	_cleanup_json_ cJSON *value = NULL;
	if (json_parse(key->name, key->fallback, strlen(key->fallback), 0, &value, d->err))
		return d->err->code;
	*ret = value;
	if (!cJSON_AddItemToObject(object, key->name, value))
		return out_of_memory(d);
	value = NULL;
	return 0;
}

static int decode_fields(const struct decode *d, const struct place *at, const struct object *object,
			 cJSON *node, void *fields, bool tagged)
{
	if (check_names(d, at, object, node, tagged))
		return d->err->code;
	for (const struct key *key = object->keys; key->name; key++) {
		const struct place key_at = {.parent = at, .name = key->name};
		cJSON *value = cJSON_GetObjectItemCaseSensitive(node, key->name);
		char expected[WORDS_TEXT_BYTES];
		if (key->has_flag)
			*(bool *)((char *)fields + key->flag) = value != NULL;
		if (!value && key->required)
			return refuse(d, &key_at, NULL, "missing (it takes %s)",
				      key_expects(key, expected, sizeof(expected)));
		if (!value && !key->fallback)
			continue;
		if (!value && add_fallback(d, key, node, &value))
			return d->err->code;
		if (decode_key(d, &key_at, key, value, fields))
			return d->err->code;
	}
	return object->check ? object->check(d, at, node, fields) : 0;
}

static int decode_object(const struct decode *d, const struct place *at, const struct key *key, cJSON *node,
			 void *base)
{
	if (!cJSON_IsObject(node))
		return refuse_value(d, at, key, node, "");
	return decode_fields(d, at, key->object, node, field(key, base), false);
}

/* "off", "on" (all defaults of the object), or an object: on, with its changes. */
static int decode_switch(const struct decode *d, const struct place *at, const struct key *key, cJSON *node,
			 void *base)
{
	bool *on = (bool *)((char *)base + key->flag);
	const char *word = cJSON_IsString(node) ? node->valuestring : "";
	*on = cJSON_IsObject(node) || strcmp(word, "on") == 0;
	if (!*on)
		return strcmp(word, "off") == 0 ? 0 : refuse_value(d, at, key, node, "");
	if (cJSON_IsString(node)) { /* becomes the empty object, which the defaults then fill */
		cJSON_free(node->valuestring);
		node->valuestring = NULL;
		node->type = (node->type & ~0xff) | cJSON_Object;
	}
	return decode_fields(d, at, key->object, node, field(key, base), false);
}

static int decode_list(const struct decode *d, const struct place *at, const struct key *key, cJSON *node,
		       void *base)
{
	size_t *count = (size_t *)((char *)base + key->count);
	if (!cJSON_IsArray(node))
		return refuse_value(d, at, key, node, "");
	cJSON *item;
	cJSON_ArrayForEach(item, node)
	{
		const struct place item_at = {.parent = at, .index = *count};
		if (*count == key->max)
			return refuse(d, at, item, "more than %ju items", (uintmax_t)key->max);
		if (decode_key(d, &item_at, key->item, item,
			       (char *)field(key, base) + *count * key->item_size))
			return d->err->code;
		(*count)++;
	}
	return 0;
}

static int decode_tagged(const struct decode *d, const struct place *at, const struct key *key, cJSON *node,
			 void *base)
{
	const struct place type_at = {.parent = at, .name = "type"};
	if (!key->tags->word)
		return refuse(d, at, node,
			      "this version of aerie has nothing that may stand here (leave the list empty)");
	if (!cJSON_IsObject(node))
		return refuse_value(d, at, key, node, "");
	const cJSON *type = cJSON_GetObjectItemCaseSensitive(node, "type");
	struct suggestion near = suggestion_for(cJSON_IsString(type) ? type->valuestring : "");
	char words[WORDS_TEXT_BYTES] = "", value[VALUE_TEXT_BYTES];
	for (const struct tag *tag = key->tags; tag->word; tag++) {
		size_t used = strlen(words);
		if (cJSON_IsString(type) && strcmp(type->valuestring, tag->word) == 0) {
			*(unsigned *)field(key, base) = tag->value;
			return decode_fields(d, at, tag->object, node, base, true);
		}
		suggestion_try(&near, tag->word);
		(void)snprintf(words + used, sizeof(words) - used, "%s\"%s\"", used ? ", " : "", tag->word);
	}
	if (!type)
		return refuse(d, &type_at, NULL, "missing (one of %s)", words);
	if (near.best)
		return refuse(d, &type_at, type, "%s is not a type (did you mean \"%s\"?)",
			      json_describe(type, value, sizeof(value)), near.best);
	return refuse(d, &type_at, type, "%s is not one of %s", json_describe(type, value, sizeof(value)),
		      words);
}

static int decode_key(const struct decode *d, const struct place *at, const struct key *key, cJSON *node,
		      void *base)
{
	static int (*const decoders[KEY_TYPES])(const struct decode *, const struct place *,
						const struct key *, cJSON *, void *) = {
		[KEY_OBJECT] = decode_object,
		[KEY_SWITCH] = decode_switch,
		[KEY_LIST] = decode_list,
		[KEY_TAGGED] = decode_tagged,
	};
	return decoders[key->type] ? decoders[key->type](d, at, key, node, base)
				   : decode_value(d, at, key, node, base);
}

int decode_root(const struct decode *d, cJSON *root, void *fields)
{
	const struct place at = {.parent = NULL};
	char value[VALUE_TEXT_BYTES];
	if (!cJSON_IsObject(root))
		return refuse(d, &at, NULL, "%s is not an object", json_describe(root, value, sizeof(value)));
	return decode_fields(d, &at, d->object, root, fields, false);
}
