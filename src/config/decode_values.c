/* Values that stand for themselves: everything but objects and lists. */
#include "decode_values.h"

#include "base/cleanup.h"
#include "config/suggest.h"
#include "reference.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { VALUE_TEXT_BYTES = 80, PATH_SHOWN_BYTES = 600 };

static int out_of_memory(const struct decode *d)
{
	return err_sys(d->err, -ENOMEM, "%s", d->file);
}

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

/* A number of 32 bits as manuals write it, in hex, which JSON has not: "0x40000073". Plain numbers will do.
 */
static int decode_hex(const struct decode *d, const struct place *at, const struct key *key, cJSON *node,
		      void *base)
{
	const char *text = cJSON_IsString(node) || cJSON_IsRaw(node) ? node->valuestring : "";
	uint64_t value = 0;
	bool good;
	if (cJSON_IsString(node)) {
		size_t digits = strncmp(text, "0x", 2) == 0 ? strspn(text + 2, "0123456789abcdefABCDEF") : 0;
		good = digits > 0 && digits <= 8 && text[2 + digits] == '\0';
		value = good ? strtoul(text, NULL, 16) : 0;
	} else {
		good = digits_value(text, strlen(text), &value);
	}
	if (!good || value < key->min || value > key->max)
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

int decode_value(const struct decode *d, const struct place *at, const struct key *key, cJSON *node,
		 void *base)
{
	static int (*const decoders[KEY_TYPES])(const struct decode *, const struct place *,
						const struct key *, cJSON *, void *) = {
		[KEY_BOOL] = decode_bool, [KEY_UINT] = decode_uint,	[KEY_HEX] = decode_hex,
		[KEY_SIZE] = decode_size, [KEY_TEXT] = decode_text,	[KEY_FILE] = decode_file,
		[KEY_PATH] = decode_path, [KEY_CHOICE] = decode_choice, [KEY_CHARDEV] = decode_chardev,
	};
	return decoders[key->type](d, at, key, node, base);
}
