/* Reading manifest.json, which comes from anywhere: manifest.h has the format. */
#include "base/cleanup.h"
#include "base/crc32c.h"
#include "config/json.h"
#include "manifest.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SEAL_BEFORE "\t\"manifest_crc32c\":\t\""
#define SEAL_BEHIND "\"\n}\n"
enum { CRC_CHARS = 8, SEAL_BYTES = sizeof(SEAL_BEFORE) - 1 + CRC_CHARS + sizeof(SEAL_BEHIND) - 1 };

/* Where we are, for messages. */
struct parse {
	const char *name;
	struct err *err;
};

static int hex_u32(const char *text, uint32_t *ret)
{
	uint32_t value = 0;
	for (int i = 0; i < CRC_CHARS; i++) {
		const char *digit = text[i] ? strchr("0123456789abcdef", text[i]) : NULL;
		if (!digit)
			return -EINVAL;
		value = value << 4 | (uint32_t)(digit - "0123456789abcdef");
	}
	*ret = value;
	return 0;
}

static int check_seal(const char *name, const char *text, size_t len, struct err *err)
{
	uint32_t crc;
	if (len < SEAL_BYTES)
		return err_set(err, -EINVAL, "%s: damaged: its last line is missing", name);
	const char *seal = text + len - SEAL_BYTES;
	const char *digits = seal + sizeof(SEAL_BEFORE) - 1;
	if (memcmp(seal, SEAL_BEFORE, sizeof(SEAL_BEFORE) - 1) != 0 ||
	    memcmp(digits + CRC_CHARS, SEAL_BEHIND, sizeof(SEAL_BEHIND) - 1) != 0 ||
	    hex_u32(digits, &crc) < 0)
		return err_set(err, -EINVAL, "%s: damaged: its last line is missing", name);
	uint32_t found = crc32c(0, text, len - SEAL_BYTES);
	if (found != crc)
		return err_set(err, -EINVAL, "%s: damaged: manifest_crc32c is %08x, not %08x", name, found,
			       crc);
	return 0;
}

static const cJSON *member(const struct parse *parse, const cJSON *object, const char *key)
{
	const cJSON *node = cJSON_GetObjectItemCaseSensitive(object, key);
	if (!node)
		(void)err_set(parse->err, -EINVAL, "%s: %s is missing", parse->name, key);
	return node;
}

static int wrong(const struct parse *parse, const char *key, const cJSON *node, const char *expected)
{
	char text[64];
	return err_set(parse->err, -EINVAL, "%s: %s: %s is not %s", parse->name, key,
		       json_describe(node, text, sizeof(text)), expected);
}

static const char *get_text(const struct parse *parse, const cJSON *object, const char *key)
{
	const cJSON *node = member(parse, object, key);
	if (node && !cJSON_IsString(node)) {
		(void)wrong(parse, key, node, "a text");
		return NULL;
	}
	return node ? node->valuestring : NULL;
}

static int get_u64(const struct parse *parse, const cJSON *object, const char *key, uint64_t *ret)
{
	const cJSON *node = member(parse, object, key);
	if (!node)
		return -EINVAL;
	const char *text = cJSON_IsRaw(node) ? node->valuestring : "";
	char *end;
	errno = 0;
	*ret = strtoull(text, &end, 10);
	if (errno || end == text || *end || text[0] == '-')
		return wrong(parse, key, node, "a whole number");
	return 0;
}

static int get_crc(const struct parse *parse, const cJSON *object, const char *key, uint32_t *ret)
{
	const char *text = get_text(parse, object, key);
	if (!text)
		return -EINVAL;
	if (strlen(text) != CRC_CHARS || hex_u32(text, ret) < 0)
		return err_set(parse->err, -EINVAL, "%s: %s: not 8 hexadecimal digits", parse->name, key);
	return 0;
}

static int get_short(const struct parse *parse, const cJSON *object, const char *key, char *ret, size_t size)
{
	const char *text = get_text(parse, object, key);
	if (!text)
		return -EINVAL;
	if (strlen(text) >= size)
		return err_set(parse->err, -EINVAL, "%s: %s: longer than %zu bytes", parse->name, key,
			       size - 1);
	memcpy(ret, text, strlen(text) + 1);
	return 0;
}

static int get_id(const struct parse *parse, const cJSON *object, char ret[SNAPSHOT_ID_CHARS + 1])
{
	int r = get_short(parse, object, "id", ret, SNAPSHOT_ID_CHARS + 1);
	if (r == 0 && strspn(ret, "0123456789abcdef") != SNAPSHOT_ID_CHARS)
		return err_set(parse->err, -EINVAL, "%s: id: not %d hexadecimal digits", parse->name,
			       SNAPSHOT_ID_CHARS);
	return r;
}

static int copy_text(const struct parse *parse, const cJSON *object, const char *key, char **ret)
{
	const char *text = get_text(parse, object, key);
	if (!text)
		return -EINVAL;
	*ret = strdup(text);
	return *ret ? 0 : err_sys(parse->err, -ENOMEM, "%s", parse->name);
}

static int parse_files(const struct parse *parse, const cJSON *root, struct manifest *manifest)
{
	const cJSON *files = member(parse, root, "files"), *file;
	if (!files)
		return -EINVAL;
	cJSON_ArrayForEach(file, files)
	{
		size_t i = 0;
		while (i < MANIFEST_FILES &&
		       strcmp(manifest_file_names[i], file->string ? file->string : "") != 0)
			i++;
		if (i == MANIFEST_FILES)
			return err_set(parse->err, -EINVAL, "%s: files: one that this aerie does not know",
				       parse->name);
		int r = get_u64(parse, file, "bytes", &manifest->files[i].bytes);
		if (r == 0)
			r = get_crc(parse, file, "crc32c", &manifest->files[i].crc32c);
		if (r < 0)
			return err_prepend(parse->err, "%s", manifest_file_names[i]);
		manifest->files[i].present = true;
	}
	for (size_t i = 0; i < MANIFEST_FILES; i++)
		if (manifest->files[i].present != (i != FILE_PAGES || manifest->base_path))
			return err_set(parse->err, -EINVAL, "%s: files: %s is missing or too much",
				       parse->name, manifest_file_names[i]);
	return 0;
}

static int parse_host(const struct parse *parse, const cJSON *root, struct manifest *manifest)
{
	const cJSON *host = member(parse, root, "host");
	if (!host)
		return -EINVAL;
	int r = get_short(parse, host, "vendor", manifest->host.vendor, MANIFEST_TEXT_BYTES);
	if (r == 0)
		r = get_short(parse, host, "cpu", manifest->host.cpu, MANIFEST_TEXT_BYTES);
	if (r == 0)
		r = get_short(parse, host, "kernel", manifest->host.kernel, MANIFEST_TEXT_BYTES);
	if (r == 0)
		r = get_short(parse, host, "nested", manifest->host.nested, MANIFEST_TEXT_BYTES);
	return r < 0 ? r : get_u64(parse, host, "nested_state_bytes", &manifest->host.nested_state_bytes);
}

static int parse_disks(const struct parse *parse, const cJSON *root, struct manifest *manifest)
{
	const cJSON *disks = member(parse, root, "disks"), *node;
	if (!disks)
		return -EINVAL;
	cJSON_ArrayForEach(node, disks)
	{
		if (manifest->disk_count == CONFIG_DEVICES_MAX)
			return err_set(parse->err, -EINVAL, "%s: disks: more than %d", parse->name,
				       CONFIG_DEVICES_MAX);
		struct manifest_disk *disk = &manifest->disks[manifest->disk_count++];
		int r = copy_text(parse, node, "path", &disk->path);
		if (r == 0)
			r = get_u64(parse, node, "bytes", &disk->bytes);
		if (r == 0)
			r = get_u64(parse, node, "mtime_ns", &disk->mtime_ns);
		if (r < 0)
			return r;
		disk->read_only = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(node, "read_only"));
	}
	return 0;
}

static int parse_base(const struct parse *parse, const cJSON *root, struct manifest *manifest)
{
	const cJSON *base = cJSON_GetObjectItemCaseSensitive(root, "base");
	if (!base)
		return 0;
	int r = copy_text(parse, base, "path", &manifest->base_path);
	return r < 0 ? r : get_id(parse, base, manifest->base_id);
}

static int parse_root(const struct parse *parse, const cJSON *root, struct manifest *manifest)
{
	uint64_t format;
	int r = get_u64(parse, root, "format", &format);
	if (r == 0 && (format == 0 || format > SNAPSHOT_FORMAT))
		return err_set(parse->err, -ENOTSUP,
			       "%s: format %llu, this aerie reads up to %d: use the aerie that wrote it",
			       parse->name, (unsigned long long)format, SNAPSHOT_FORMAT);
	if (r == 0)
		r = get_id(parse, root, manifest->id);
	if (r == 0)
		r = parse_base(parse, root, manifest);
	if (r == 0)
		r = parse_files(parse, root, manifest);
	if (r == 0)
		r = parse_host(parse, root, manifest);
	return r < 0 ? r : parse_disks(parse, root, manifest);
}

int manifest_parse(const char *name, const char *text, size_t len, struct manifest *ret, struct err *err)
{
	const struct parse parse = {.name = name, .err = err};
	_cleanup_json_ cJSON *root = NULL;
	*ret = (struct manifest){0};
	if (len > MANIFEST_BYTES_MAX)
		return err_set(err, -EFBIG, "%s: larger than %d bytes", name, MANIFEST_BYTES_MAX);
	int r = check_seal(name, text, len, err);
	if (r == 0)
		r = json_parse(name, text, len, 0, &root, err);
	if (r == 0)
		r = parse_root(&parse, root, ret);
	if (r < 0)
		manifest_finish(ret);
	return r;
}
