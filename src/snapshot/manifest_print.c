/* Writing manifest.json: manifest.h has the format. */
#include "manifest.h"

#include "base/cleanup.h"
#include "base/crc32c.h"
#include "base/random.h"
#include "config/json.h"
#include "host/facts.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

const char *const manifest_file_names[MANIFEST_FILES] = {
	[FILE_CONFIG] = "config.json",
	[FILE_STATE] = "state.dtb",
	[FILE_MEMORY] = "memory",
	[FILE_PAGES] = "pages",
};

static const char *nested_name(enum host_extension extension)
{
	return extension == HOST_EXTENSION_VMX ? "vmx" : extension == HOST_EXTENSION_SVM ? "svm" : "none";
}

int manifest_init(struct manifest *manifest, struct err *err)
{
	static const char *const vendors[] = {
		[HOST_VENDOR_OTHER] = "other", [HOST_VENDOR_INTEL] = "Intel", [HOST_VENDOR_AMD] = "AMD"};
	uint8_t random[SNAPSHOT_ID_CHARS / 2];
	*manifest = (struct manifest){0};
	_cleanup_free_ struct host_facts *facts = calloc(1, sizeof(*facts));
	if (!facts)
		return err_sys(err, -ENOMEM, "manifest");
	if (host_facts_gather(NULL, facts, err) < 0)
		return err->code;
	int r = random_bytes(random, sizeof(random), 0);
	if (r < 0)
		return err_sys(err, r, "manifest: id");
	for (size_t i = 0; i < sizeof(random); i++)
		(void)snprintf(manifest->id + 2 * i, 3, "%02x", random[i]);
	(void)snprintf(manifest->host.vendor, MANIFEST_TEXT_BYTES, "%s", vendors[facts->cpu.vendor]);
	(void)snprintf(manifest->host.cpu, MANIFEST_TEXT_BYTES, "%s", facts->cpu.model);
	(void)snprintf(manifest->host.kernel, MANIFEST_TEXT_BYTES, "%s", facts->release);
	(void)snprintf(manifest->host.nested, MANIFEST_TEXT_BYTES, "%s", nested_name(facts->dev.offers));
	manifest->host.nested_state_bytes =
		facts->dev.nested_state_bytes > 0 ? (uint64_t)facts->dev.nested_state_bytes : 0;
	return 0;
}

void manifest_finish(struct manifest *manifest)
{
	free(manifest->base_path);
	for (size_t i = 0; i < manifest->disk_count; i++)
		free(manifest->disks[i].path);
	*manifest = (struct manifest){0};
}

/* ---- printing; every step answers false when memory ran out ---- */

static bool add_text(cJSON *object, const char *name, const char *text)
{
	return cJSON_AddStringToObject(object, name, text);
}

static bool add_u64(cJSON *object, const char *name, uint64_t value)
{
	char text[24]; /* cJSON would go through a double */
	(void)snprintf(text, sizeof(text), "%" PRIu64, value);
	return cJSON_AddRawToObject(object, name, text);
}

static bool add_crc(cJSON *object, const char *name, uint32_t value)
{
	char text[12];
	(void)snprintf(text, sizeof(text), "%08x", value);
	return add_text(object, name, text);
}

static bool print_files(const struct manifest *manifest, cJSON *root)
{
	cJSON *files = cJSON_AddObjectToObject(root, "files");
	bool good = files;
	for (size_t i = 0; good && i < MANIFEST_FILES; i++) {
		if (!manifest->files[i].present)
			continue;
		cJSON *file = cJSON_AddObjectToObject(files, manifest_file_names[i]);
		good = file && add_u64(file, "bytes", manifest->files[i].bytes) &&
		       add_crc(file, "crc32c", manifest->files[i].crc32c);
	}
	return good;
}

static bool print_host(const struct manifest *manifest, cJSON *root)
{
	cJSON *host = cJSON_AddObjectToObject(root, "host");
	return host && add_text(host, "vendor", manifest->host.vendor) &&
	       add_text(host, "cpu", manifest->host.cpu) && add_text(host, "kernel", manifest->host.kernel) &&
	       add_text(host, "nested", manifest->host.nested) &&
	       add_u64(host, "nested_state_bytes", manifest->host.nested_state_bytes);
}

static bool print_disks(const struct manifest *manifest, cJSON *root)
{
	cJSON *disks = cJSON_AddArrayToObject(root, "disks");
	bool good = disks;
	for (size_t i = 0; good && i < manifest->disk_count; i++) {
		const struct manifest_disk *disk = &manifest->disks[i];
		cJSON *object = cJSON_CreateObject();
		good = object && cJSON_AddItemToArray(disks, object);
		good = good && add_text(object, "path", disk->path) &&
		       add_u64(object, "bytes", disk->bytes) && add_u64(object, "mtime_ns", disk->mtime_ns) &&
		       cJSON_AddBoolToObject(object, "read_only", disk->read_only);
	}
	return good;
}

static bool print_base(const struct manifest *manifest, cJSON *root)
{
	if (!manifest->base_path)
		return true;
	cJSON *base = cJSON_AddObjectToObject(root, "base");
	return base && add_text(base, "path", manifest->base_path) && add_text(base, "id", manifest->base_id);
}

char *manifest_print(const struct manifest *manifest)
{
	_cleanup_json_ cJSON *root = cJSON_CreateObject();
	if (!root || !add_u64(root, "format", SNAPSHOT_FORMAT) || !add_text(root, "aerie", AERIE_VERSION) ||
	    !add_text(root, "id", manifest->id) || !print_base(manifest, root) ||
	    !print_files(manifest, root) || !print_host(manifest, root) || !print_disks(manifest, root))
		return NULL;
	_cleanup_free_ char *text = cJSON_Print(root);
	size_t len = text ? strlen(text) : 0;
	if (len < 2)
		return NULL;
	/* The end of the object, "\n}", makes room for the last line. */
	size_t bytes = len + MANIFEST_TEXT_BYTES;
	char *sealed = malloc(bytes);
	if (!sealed)
		return NULL;
	int used = snprintf(sealed, bytes, "%.*s,\n", (int)len - 2, text);
	(void)snprintf(sealed + used, bytes - (size_t)used, "\t\"manifest_crc32c\":\t\"%08x\"\n}\n",
		       crc32c(0, sealed, (size_t)used));
	return sealed;
}
