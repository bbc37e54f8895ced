#include "override.h"

#include "base/cleanup.h"
#include "config/json_scan.h"

#include <limits.h>
#include <string.h>

enum { KEY_PATH_BYTES_MAX = 255 };

struct override {
	const struct decode *d;
	const char *value; /* what stands after the '=' */
	int origin;
	cJSON mark; /* a node that came from this override, for refuse() */
};

static int out_of_memory(const struct override *o)
{
	return err_sys(o->d->err, -ENOMEM, "%s", o->d->file);
}

/* Cut the first name off a dotted path; *rest is NULL after the last. */
static char *next_name(char **rest)
{
	char *name = *rest, *dot = strchr(name, '.');
	if (dot)
		*dot = '\0';
	*rest = dot ? dot + 1 : NULL;
	return name;
}

/*
 * On a command line quotes are a burden, so a key that takes a text takes the bare word also when the word
 * happens to be a JSON number or null: `--set name=7`, `--set serial.0=null`.
 */
static bool takes_word(const struct key *key)
{
	return key->type == KEY_TEXT || key->type == KEY_FILE || key->type == KEY_PATH ||
	       key->type == KEY_CHOICE || key->type == KEY_SIZE || key->type == KEY_CHARDEV ||
	       key->type == KEY_SWITCH;
}

static int parse_value(const struct override *o, const struct key *key, cJSON **ret)
{
	struct err not_json = ERR_INIT;
	_cleanup_json_ cJSON *value = NULL;
	int rc = json_parse("", o->value, strlen(o->value), o->origin, &value, &not_json);
	if (rc == -ENOMEM)
		return out_of_memory(o);
	bool container = cJSON_IsObject(value) || cJSON_IsArray(value);
	if (rc || (takes_word(key) && !container && !cJSON_IsString(value))) {
		cJSON_Delete(value);
		value = cJSON_CreateString(o->value);
		if (!value)
			return out_of_memory(o);
		value->valueint = o->origin;
	}
	*ret = take_ptr(value);
	return 0;
}

/* Give `value` to `parent`, in place of `old` if there is one. Takes `value` in any case. */
static int put(const struct override *o, cJSON *parent, cJSON *old, const char *name, cJSON *value)
{
	bool ok;
	if (!cJSON_IsObject(parent)) {
		ok = old ? cJSON_ReplaceItemViaPointer(parent, old, value)
			 : cJSON_AddItemToArray(parent, value);
	} else {
		if (old)
			cJSON_Delete(cJSON_DetachItemViaPointer(parent, old));
		ok = cJSON_AddItemToObject(parent, name, value);
	}
	if (ok)
		return 0;
	cJSON_Delete(value);
	return out_of_memory(o);
}

static int override_object(const struct override *o, const struct place *at, const struct object *object,
			   bool tagged, cJSON *node, char *rest);
static int override_list(const struct override *o, const struct place *at, const struct key *key, cJSON *node,
			 char *rest);

static const struct key type_keys[] = {{.name = "type", .type = KEY_TEXT}, {.name = NULL}};

static const struct object *tagged_object(const struct key *key, const cJSON *node)
{
	static const struct object untyped = {.keys = type_keys};
	const cJSON *type = cJSON_GetObjectItemCaseSensitive(node, "type");
	for (const struct tag *tag = key->tags; cJSON_IsString(type) && tag->word; tag++)
		if (strcmp(tag->word, type->valuestring) == 0)
			return tag->object;
	return &untyped;
}

/* `rest` names something below `key`, whose value `node` is what the file says or the default. */
static int override_below(const struct override *o, const struct place *at, const struct key *key,
			  cJSON *node, char *rest)
{
	if (key->type == KEY_LIST)
		return override_list(o, at, key, node, rest);
	if (key->type == KEY_OBJECT || key->type == KEY_SWITCH)
		return override_object(o, at, key->object, false, node, rest);
	if (key->type == KEY_TAGGED)
		return override_object(o, at, tagged_object(key, node), true, node, rest);
	return refuse(o->d, at, &o->mark, "this key holds one value, nothing named %.40s", rest);
}

/* serial.0.file=log is serial.0={"file":"log"}: the other forms do not stay beside it. */
static int override_chardev(const struct override *o, const struct key *key, cJSON *parent, cJSON *old,
			    const char *name, const char *form)
{
	cJSON *path = NULL, *chardev = cJSON_CreateObject();
	if (!chardev)
		return out_of_memory(o);
	chardev->valueint = o->origin;
	if (parse_value(o, key, &path) || put(o, chardev, NULL, form, path)) {
		cJSON_Delete(chardev);
		return o->d->err->code;
	}
	return put(o, parent, old, name, chardev);
}

/* The member or item `old` of `parent` (NULL: not there yet), which `key` describes and `at` and `name` name.
 */
static int override_child(const struct override *o, const struct place *at, const struct key *key,
			  cJSON *parent, cJSON *old, const char *name, char *rest)
{
	cJSON *value = NULL;
	if (!rest)
		return parse_value(o, key, &value) ? o->d->err->code : put(o, parent, old, name, value);
	if (key->type == KEY_CHARDEV)
		return override_chardev(o, key, parent, old, name, rest);
	/* To name a part of a switch turns it on: the word makes place for the object. */
	bool word = key->type == KEY_SWITCH && cJSON_IsString(old);
	if (!old || word) {
		const char *start = key->fallback && key->type != KEY_SWITCH ? key->fallback : "{}";
		if (json_parse("", start, strlen(start), o->origin, &value, o->d->err) ||
		    put(o, parent, old, name, value))
			return o->d->err->code;
		old = value;
	}
	return override_below(o, at, key, old, rest);
}

static int override_object(const struct override *o, const struct place *at, const struct object *object,
			   bool tagged, cJSON *node, char *rest)
{
	if (!cJSON_IsObject(node))
		return 0; /* decoding refuses what the file has here, and that is the mistake to report */
	const char *name = next_name(&rest);
	const struct key *key = key_find(object, name, strlen(name));
	if (!key && tagged && strcmp(name, "type") == 0)
		key = type_keys;
	if (!key)
		return refuse_unknown(o->d, at, object, &o->mark, name);
	const struct place child_at = {.parent = at, .name = key->name};
	return override_child(o, &child_at, key, node, cJSON_GetObjectItemCaseSensitive(node, name),
			      key->name, rest);
}

static int override_list(const struct override *o, const struct place *at, const struct key *key, cJSON *node,
			 char *rest)
{
	if (!cJSON_IsArray(node))
		return 0; /* as in override_object */
	const char *name = next_name(&rest);
	int count = cJSON_GetArraySize(node);
	size_t digits = strspn(name, "0123456789");
	if (digits == 0 || digits > 6 || name[digits] != '\0')
		return refuse(o->d, at, &o->mark, "%.40s is not the number of an item of this list (from 0)",
			      name);
	int index = atoi(name);
	if (index > count)
		return refuse(o->d, at, &o->mark, "the next item of this list is %d, not %d", count, index);
	const struct place item_at = {.parent = at, .index = (size_t)index};
	return override_child(o, &item_at, key->item, node, cJSON_GetArrayItem(node, index), NULL, rest);
}

static int override_one(const struct decode *d, cJSON *root, size_t n)
{
	struct override o = {.d = d, .origin = (int)n + 1, .mark = {.valueint = (int)n + 1}};
	const struct place at = {.parent = NULL};
	const char *equals = strchr(d->set[n], '=');
	char path[KEY_PATH_BYTES_MAX + 1], *rest = path;
	if (!equals || equals == d->set[n])
		return refuse(d, &at, &o.mark, "not of the form key.path=value");
	size_t len = (size_t)(equals - d->set[n]);
	if (len > KEY_PATH_BYTES_MAX)
		return refuse(d, &at, &o.mark, "the key is longer than %d bytes", KEY_PATH_BYTES_MAX);
	if (!json_is_utf8(d->set[n]))
		return refuse(d, &at, &o.mark, "not UTF-8");
	memcpy(path, d->set[n], len);
	path[len] = '\0';
	o.value = equals + 1;
	return override_object(&o, &at, d->object, false, root, rest);
}

int override_all(const struct decode *d, cJSON *root, size_t count)
{
	for (size_t n = 0; n < count; n++)
		if (override_one(d, root, n))
			return d->err->code;
	return 0;
}
