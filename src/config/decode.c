#include "decode.h"

#include "base/cleanup.h"
#include "config/suggest.h"
#include "reference.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { PATH_TEXT_BYTES = 256, VALUE_TEXT_BYTES = 80, WORDS_TEXT_BYTES = 384, PATH_SHOWN_BYTES = 600 };

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

static int refuse_value(const struct decode *d, const struct place *at, const struct key *key,
			const cJSON *node, const char *hint)
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
		if (key->type == KEY_OBJECT && find_below(key->object, &key_at, name, text, size))
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

static void *field(const struct key *key, void *base)
{
	return (char *)base + key->offset;
}

static int decode_key(const struct decode *d, const struct place *at, const struct key *key, cJSON *node,
		      void *base);

static int decode_bool(const struct decode *d, const struct place *at, const struct key *key, cJSON *node,
		       void *base)
{
	if (!cJSON_IsBool(node)) {
		bool quoted = cJSON_IsString(node) && (strcmp(node->valuestring, "true") == 0 ||
						       strcmp(node->valuestring, "false") == 0);
		return refuse_value(d, at, key, node, quoted ? " (write it without quotes)" : "");
	}
	*(bool *)field(key, base) = cJSON_IsTrue(node);
	return 0;
}

/* The value of a string of decimal digits and nothing else; false also when 64 bits do not hold it. */
static bool digits_value(const char *text, size_t len, uint64_t *ret)
{
	uint64_t value = 0;
	for (size_t i = 0; i < len; i++) {
		if (text[i] < '0' || text[i] > '9' || __builtin_mul_overflow(value, 10, &value) ||
		    __builtin_add_overflow(value, (uint64_t)(text[i] - '0'), &value))
			return false;
	}
	*ret = value;
	return len > 0;
}

static int decode_uint(const struct decode *d, const struct place *at, const struct key *key, cJSON *node,
		       void *base)
{
	uint64_t value;
	if (!cJSON_IsRaw(node)) {
		bool quoted = cJSON_IsString(node) &&
			      digits_value(node->valuestring, strlen(node->valuestring), &value);
		return refuse_value(d, at, key, node, quoted ? " (write it without quotes)" : "");
	}
	if (strpbrk(node->valuestring, ".eE"))
		return refuse_value(d, at, key, node, " (digits only, no fraction or exponent)");
	if (!digits_value(node->valuestring, strlen(node->valuestring), &value) || value < key->min ||
	    value > key->max)
		return refuse_value(d, at, key, node, "");
	*(uint32_t *)field(key, base) = (uint32_t)value;
	return 0;
}

static int decode_size(const struct decode *d, const struct place *at, const struct key *key, cJSON *node,
		       void *base)
{
	static const char units[] = "KMGT";
	char value[VALUE_TEXT_BYTES];
	const char *text = cJSON_IsString(node) ? node->valuestring : "";
	size_t len = strlen(text);
	const char *unit = len ? strchr(units, text[len - 1]) : NULL;
	uint64_t number, scale;
	/* A bare number is refused: QEMU reads it as MiB, others as bytes. */
	if (!unit || strspn(text, "0123456789") != len - 1 || len == 1)
		return refuse(d, at, node, "%s is not a size (use K, M, G, T)",
			      json_describe(node, value, sizeof(value)));
	scale = 1024ULL << (10 * (unit - units));
	if (!digits_value(text, len - 1, &number) || number > key->max / scale || number * scale < key->min)
		return refuse_value(d, at, key, node, "");
	*(uint64_t *)field(key, base) = number * scale;
	return 0;
}

/* Checks what every text must be: no control characters (JSON's escapes can write them), not too long. */
static int check_text(const struct decode *d, const struct place *at, const cJSON *node, uint64_t max)
{
	char value[VALUE_TEXT_BYTES];
	const char *text = node->valuestring;
	for (const char *p = text; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			return refuse(d, at, node, "%s has a control character",
				      json_describe(node, value, sizeof(value)));
	if (strlen(text) > max)
		return refuse(d, at, node, "%s is %zu bytes long, more than %ju",
			      json_describe(node, value, sizeof(value)), strlen(text), (uintmax_t)max);
	return 0;
}

static int decode_text(const struct decode *d, const struct place *at, const struct key *key, cJSON *node,
		       void *base)
{
	if (!cJSON_IsString(node) || strlen(node->valuestring) < key->min)
		return refuse_value(d, at, key, node, "");
	if (check_text(d, at, node, key->max))
		return d->err->code;
	*(const char **)field(key, base) = node->valuestring;
	return 0;
}

/* Make the path in `node` one from the working directory: a relative one stands for a file beside the config.
 */
static int resolve_path(const struct decode *d, cJSON *node)
{
	if (node->valuestring[0] == '/' || d->folder_bytes == 0)
		return 0;
	size_t size = (size_t)d->folder_bytes + strlen(node->valuestring) + 1;
	char *path = cJSON_malloc(size);
	if (!path)
		return out_of_memory(d);
	(void)snprintf(path, size, "%.*s%s", d->folder_bytes, d->file, node->valuestring);
	cJSON_free(node->valuestring);
	node->valuestring = path;
	return 0;
}

static int decode_path(const struct decode *d, const struct place *at, const struct key *key, cJSON *node,
		       void *base)
{
	if (!cJSON_IsString(node) || !*node->valuestring)
		return refuse_value(d, at, key, node, "");
	if (resolve_path(d, node) || check_text(d, at, node, key->max))
		return d->err->code;
	*(const char **)field(key, base) = node->valuestring;
	return 0;
}

static int decode_file(const struct decode *d, const struct place *at, const struct key *key, cJSON *node,
		       void *base)
{
	struct stat st;
	if (!cJSON_IsString(node) || !*node->valuestring)
		return refuse_value(d, at, key, node, "");
	if (check_text(d, at, node, PATH_MAX - 1) || resolve_path(d, node))
		return d->err->code;
	const char *path = node->valuestring;
	if (stat(path, &st) < 0)
		return refuse(d, at, node, "%.*s: %s", PATH_SHOWN_BYTES, path, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return refuse(d, at, node, "%.*s: %s", PATH_SHOWN_BYTES, path,
			      S_ISDIR(st.st_mode) ? strerror(EISDIR) : "Not a regular file");
	if (faccessat(AT_FDCWD, path, R_OK, AT_EACCESS) < 0)
		return refuse(d, at, node, "%.*s: %s", PATH_SHOWN_BYTES, path, strerror(errno));
	*(const char **)field(key, base) = path;
	return 0;
}

static int decode_choice(const struct decode *d, const struct place *at, const struct key *key, cJSON *node,
			 void *base)
{
	struct suggestion near = suggestion_for(cJSON_IsString(node) ? node->valuestring : "");
	char hint[64] = "";
	for (const struct choice *c = key->choices; c->word; c++) {
		suggestion_try(&near, c->word);
		if (cJSON_IsString(node) && strcmp(node->valuestring, c->word) == 0) {
			*(unsigned *)field(key, base) = c->value;
			return 0;
		}
	}
	if (near.best)
		(void)snprintf(hint, sizeof(hint), " (did you mean \"%s\"?)", near.best);
	return refuse_value(d, at, key, node, hint);
}

static const struct chardev_form *form_find(const char *word)
{
	for (const struct chardev_form *f = chardev_forms; f->word; f++)
		if (strcmp(f->word, word) == 0)
			return f;
	return NULL;
}

/* Not a form of a chardev, or not in this shape; say which of the shapes is near. */
static int refuse_form(const struct decode *d, const struct place *at, const struct key *key,
		       const cJSON *node, const char *word)
{
	struct suggestion near = suggestion_for(word);
	char hint[64] = "";
	for (const struct chardev_form *f = chardev_forms; f->word; f++)
		suggestion_try(&near, f->word);
	const struct chardev_form *form = near.best ? form_find(near.best) : NULL;
	if (form)
		(void)snprintf(hint, sizeof(hint),
			       form->bare ? " (did you mean \"%s\"?)" : " (did you mean {\"%s\": path}?)",
			       form->word);
	return refuse_value(d, at, key, node, hint);
}

/* {"file": "path"}: one member, whose name is a form that takes a path. */
static int decode_chardev_path(const struct decode *d, const struct place *at, const struct key *key,
			       cJSON *node, struct chardev_config *chardev)
{
	char value[VALUE_TEXT_BYTES];
	cJSON *path = node->child;
	const struct chardev_form *form = path && !path->next ? form_find(path->string) : NULL;
	if (!form || !form->with_path)
		return refuse_form(d, at, key, node, path && !path->next ? path->string : "");
	const struct place path_at = {.parent = at, .name = form->word};
	if (!cJSON_IsString(path) || !*path->valuestring)
		return refuse(d, &path_at, path, "%s is not a path",
			      json_describe(path, value, sizeof(value)));
	if (resolve_path(d, path) || check_text(d, &path_at, path, form->path_max))
		return d->err->code;
	*chardev = (struct chardev_config){.kind = form->kind, .path = path->valuestring};
	return 0;
}

static int decode_chardev(const struct decode *d, const struct place *at, const struct key *key, cJSON *node,
			  void *base)
{
	struct chardev_config *chardev = field(key, base);
	if (cJSON_IsObject(node))
		return decode_chardev_path(d, at, key, node, chardev);
	const struct chardev_form *form = cJSON_IsString(node) ? form_find(node->valuestring) : NULL;
	if (!form || !form->bare)
		return refuse_form(d, at, key, node, cJSON_IsString(node) ? node->valuestring : "");
	*chardev = (struct chardev_config){.kind = form->kind};
	return 0;
}

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
		[KEY_BOOL] = decode_bool,     [KEY_UINT] = decode_uint,	    [KEY_SIZE] = decode_size,
		[KEY_TEXT] = decode_text,     [KEY_FILE] = decode_file,	    [KEY_PATH] = decode_path,
		[KEY_CHOICE] = decode_choice, [KEY_OBJECT] = decode_object, [KEY_CHARDEV] = decode_chardev,
		[KEY_LIST] = decode_list,     [KEY_TAGGED] = decode_tagged,
	};
	return decoders[key->type](d, at, key, node, base);
}

int decode_root(const struct decode *d, cJSON *root, void *fields)
{
	const struct place at = {.parent = NULL};
	char value[VALUE_TEXT_BYTES];
	if (!cJSON_IsObject(root))
		return refuse(d, &at, NULL, "%s is not an object", json_describe(root, value, sizeof(value)));
	return decode_fields(d, &at, d->object, root, fields, false);
}
