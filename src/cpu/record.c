/*
 * A recorded host: one JSON object, all of whose keys have to be there.
 *
 *	"aerie_host"		1: the version of this format
 *	"kernel"		its release
 *	"nested_state_bytes"	KVM_CAP_NESTED_STATE
 *	"tsc_khz"		0: KVM does not know it
 *	"tsc_deadline", "tsc_control", "enlightened_vmcs"
 *				whether KVM has these capabilities
 *	"cpuid", "hyperv"	{ leaf: [eax, ebx, ecx, edx], ... } in the order that KVM gave. A leaf is
 *				hex, such as "0x80000008"; with an index that counts it is
 *				"0x0000000d.1", the index in decimal
 *	"msrs"			{ "0x480": value, ... }
 *
 * Registers and values are text in hex, "0x1f": JSON's numbers are doubles to many of its readers. Of a
 * leaf's flags only the index's is kept; the others have meant nothing since KVM left the stateful leaf 2.
 */
#include "cpu/record.h"

#include "base/cleanup.h"
#include "config/json.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { RECORD_VERSION = 1, RECORD_BYTES_MAX = 1 << 20 };

/* Writing. A NULL at any step becomes the NULL of the whole. */

static bool add_hex(cJSON *to, const char *name, int digits, uint64_t value)
{
	char text[24];
	(void)snprintf(text, sizeof(text), "0x%0*" PRIx64, digits, value);
	if (name)
		return cJSON_AddStringToObject(to, name, text);
	cJSON *item = cJSON_CreateString(text);
	return item && cJSON_AddItemToArray(to, item);
}

cJSON *cpu_record_table(const struct cpuid_table *table)
{
	_cleanup_json_ cJSON *object = cJSON_CreateObject();
	for (uint32_t i = 0; object && i < table->count; i++) {
		const struct kvm_cpuid_entry2 *e = &table->entries[i];
		char leaf[32];
		(void)snprintf(leaf, sizeof(leaf),
			       e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX ? "0x%08x.%u" : "0x%08x",
			       e->function, e->index);
		cJSON *list = cJSON_AddArrayToObject(object, leaf);
		if (!list || !add_hex(list, NULL, 8, e->eax) || !add_hex(list, NULL, 8, e->ebx) ||
		    !add_hex(list, NULL, 8, e->ecx) || !add_hex(list, NULL, 8, e->edx))
			return NULL;
	}
	return take_ptr(object);
}

cJSON *cpu_record_msrs(const struct cpu_msr *msrs, uint32_t count)
{
	_cleanup_json_ cJSON *object = cJSON_CreateObject();
	for (uint32_t i = 0; object && i < count; i++) {
		char index[16];
		(void)snprintf(index, sizeof(index), "0x%x", msrs[i].index);
		if (!add_hex(object, index, 16, msrs[i].value))
			return NULL;
	}
	return take_ptr(object);
}

/* Takes `item`, which may be NULL, in any case. */
static bool add_item(cJSON *to, const char *name, cJSON *item)
{
	if (item && cJSON_AddItemToObject(to, name, item))
		return true;
	cJSON_Delete(item);
	return false;
}

char *cpu_record_print(const struct cpu_host *host)
{
	_cleanup_json_ cJSON *root = cJSON_CreateObject();
	if (!root || !cJSON_AddNumberToObject(root, "aerie_host", RECORD_VERSION) ||
	    !cJSON_AddStringToObject(root, "kernel", host->kernel) ||
	    !cJSON_AddNumberToObject(root, "nested_state_bytes", host->nested_state_bytes) ||
	    !cJSON_AddNumberToObject(root, "tsc_khz", host->tsc_khz) ||
	    !cJSON_AddBoolToObject(root, "tsc_deadline", host->tsc_deadline) ||
	    !cJSON_AddBoolToObject(root, "tsc_control", host->tsc_control) ||
	    !cJSON_AddBoolToObject(root, "enlightened_vmcs", host->enlightened_vmcs) ||
	    !add_item(root, "cpuid", cpu_record_table(&host->cpuid)) ||
	    !add_item(root, "hyperv", cpu_record_table(&host->hyperv)) ||
	    !add_item(root, "msrs", cpu_record_msrs(host->msrs, host->msr_count)))
		return NULL;
	_cleanup_free_ char *text = cJSON_Print(root);
	char *with_newline = NULL;
	return text && asprintf(&with_newline, "%s\n", text) >= 0 ? with_newline : NULL;
}

/* Reading. */

struct record {
	const char *name;
	struct err *err;
};

__attribute__((format(printf, 4, 5))) static int refuse(const struct record *r, const char *place,
							const cJSON *node, const char *fmt, ...)
{
	char what[256], value[64] = "";
	va_list args;
	va_start(args, fmt);
	(void)vsnprintf(what, sizeof(what), fmt, args);
	va_end(args);
	if (node)
		(void)json_describe(node, value, sizeof(value));
	return err_set(r->err, -EINVAL, "%s: %s%s%s%s%s", r->name, place, *place ? ": " : "", value,
		       node ? " " : "", what);
}

static const cJSON *member(const cJSON *object, const char *name)
{
	return cJSON_GetObjectItemCaseSensitive(object, name);
}

/* "0x" and 1 to `digits` hex digits, then `end` or the end of the text. NULL if it is something else. */
static const char *hex_value(const char *text, size_t digits, char end, uint64_t *ret)
{
	if (strncmp(text, "0x", 2) != 0)
		return NULL;
	size_t len = strspn(text + 2, "0123456789abcdefABCDEF");
	const char *stop = text + 2 + len;
	if (len == 0 || len > digits || (*stop != '\0' && *stop != end))
		return NULL;
	*ret = strtoull(text, NULL, 16);
	return stop;
}

static int read_u32(const struct record *r, const cJSON *root, const char *name, uint32_t *ret)
{
	const cJSON *node = member(root, name);
	char *end;
	if (!cJSON_IsRaw(node) || strspn(node->valuestring, "0123456789") != strlen(node->valuestring) ||
	    strlen(node->valuestring) > 10 || strtoull(node->valuestring, &end, 10) > UINT32_MAX)
		return refuse(r, name, node, "is not a whole number of 32 bits");
	*ret = (uint32_t)strtoull(node->valuestring, NULL, 10);
	return 0;
}

static int read_bool(const struct record *r, const cJSON *root, const char *name, bool *ret)
{
	const cJSON *node = member(root, name);
	if (!cJSON_IsBool(node))
		return refuse(r, name, node, "is not true or false");
	*ret = cJSON_IsTrue(node);
	return 0;
}

static int read_kernel(const struct record *r, const cJSON *root, struct cpu_host *ret)
{
	const cJSON *node = member(root, "kernel");
	if (!cJSON_IsString(node))
		return refuse(r, "kernel", node, "is not a text");
	if (strlen(node->valuestring) >= sizeof(ret->kernel))
		return refuse(r, "kernel", node, "is longer than %zu bytes", sizeof(ret->kernel) - 1);
	for (const char *c = node->valuestring; *c; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			return refuse(r, "kernel", node, "has a control character");
	memcpy(ret->kernel, node->valuestring, strlen(node->valuestring) + 1);
	return 0;
}

static int read_leaf(const struct record *r, const char *table_name, const cJSON *node,
		     struct cpuid_table *table)
{
	char place[128], quoted[64];
	uint64_t function, values[4];
	struct kvm_cpuid_entry2 e = {.function = 0};
	(void)snprintf(place, sizeof(place), "%s.%s", table_name,
		       json_quote(node->string, quoted, sizeof(quoted)));
	const char *stop = hex_value(node->string, 8, '.', &function);
	if (stop && *stop == '.') {
		size_t digits = strspn(stop + 1, "0123456789");
		e.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
		e.index = (uint32_t)strtoul(stop + 1, NULL, 10);
		stop = digits > 0 && digits < 10 && stop[1 + digits] == '\0' ? stop : NULL;
	}
	if (!stop)
		return refuse(r, place, NULL, "not a leaf such as \"0x80000008\" or \"0x0000000d.1\"");
	e.function = (uint32_t)function;
	/* cpuid_find would always find the first. */
	for (uint32_t i = 0; i < table->count; i++)
		if (table->entries[i].function == e.function && table->entries[i].index == e.index)
			return refuse(r, place, NULL, "this leaf stands twice");
	if (table->count == CPUID_ENTRIES_MAX)
		return refuse(r, place, NULL, "more than %d leaves", CPUID_ENTRIES_MAX);
	if (!cJSON_IsArray(node) || cJSON_GetArraySize(node) != 4)
		return refuse(r, place, node, "is not a list of eax, ebx, ecx, edx");
	for (int i = 0; i < 4; i++) {
		const cJSON *item = cJSON_GetArrayItem(node, i);
		if (!cJSON_IsString(item) || !hex_value(item->valuestring, 8, '\0', &values[i])) {
			size_t used = strlen(place);
			(void)snprintf(place + used, sizeof(place) - used, ".%d", i);
			return refuse(r, place, item, "is not hex of 32 bits such as \"0x1f\"");
		}
	}
	e.eax = (uint32_t)values[0];
	e.ebx = (uint32_t)values[1];
	e.ecx = (uint32_t)values[2];
	e.edx = (uint32_t)values[3];
	table->entries[table->count++] = e;
	return 0;
}

static int read_table(const struct record *r, const cJSON *root, const char *name, struct cpuid_table *table)
{
	const cJSON *object = member(root, name), *leaf;
	if (!cJSON_IsObject(object))
		return refuse(r, name, object, "is not an object");
	cJSON_ArrayForEach(leaf, object)
	{
		if (read_leaf(r, name, leaf, table))
			return r->err->code;
	}
	return 0;
}

static int read_msrs(const struct record *r, const cJSON *root, struct cpu_host *ret)
{
	const cJSON *object = member(root, "msrs"), *node;
	if (!cJSON_IsObject(object))
		return refuse(r, "msrs", object, "is not an object");
	cJSON_ArrayForEach(node, object)
	{
		char place[128], quoted[64];
		uint64_t index, value;
		(void)snprintf(place, sizeof(place), "msrs.%s",
			       json_quote(node->string, quoted, sizeof(quoted)));
		if (!hex_value(node->string, 8, '\0', &index))
			return refuse(r, place, NULL, "not an MSR such as \"0x480\"");
		if (!cJSON_IsString(node) || !hex_value(node->valuestring, 16, '\0', &value))
			return refuse(r, place, node, "is not hex of 64 bits such as \"0x1f\"");
		for (uint32_t i = 0; i < ret->msr_count; i++)
			if (ret->msrs[i].index == index)
				return refuse(r, place, NULL, "this MSR stands twice");
		if (ret->msr_count == CPU_HOST_MSRS_MAX)
			return refuse(r, place, NULL, "more than %d MSRs", CPU_HOST_MSRS_MAX);
		ret->msrs[ret->msr_count++] = (struct cpu_msr){.index = (uint32_t)index, .value = value};
	}
	return 0;
}

/* All of these keys, each once, and no others. */
static int check_keys(const struct record *r, const cJSON *root)
{
	static const char *const keys[] = {"aerie_host",   "kernel",	  "nested_state_bytes", "tsc_khz",
					   "tsc_deadline", "tsc_control", "enlightened_vmcs",	"cpuid",
					   "hyperv",	   "msrs"};
	char quoted[64];
	const cJSON *node;
	if (!cJSON_IsObject(root) || !member(root, "aerie_host"))
		return refuse(r, "", NULL, "not a recorded host (aerie cpu dump writes one)");
	cJSON_ArrayForEach(node, root)
	{
		size_t k = 0;
		while (k < ARRAY_LEN(keys) && strcmp(keys[k], node->string) != 0)
			k++;
		if (k == ARRAY_LEN(keys))
			return refuse(r, json_quote(node->string, quoted, sizeof(quoted)), NULL,
				      "unknown key");
		if (member(root, node->string) != node)
			return refuse(r, node->string, NULL, "this key stands twice");
	}
	for (size_t k = 0; k < ARRAY_LEN(keys); k++)
		if (!member(root, keys[k]))
			return refuse(r, keys[k], NULL, "missing");
	return 0;
}

static int read_all(const struct record *r, const cJSON *root, struct cpu_host *ret)
{
	uint32_t version = 0;
	int rc = check_keys(r, root);
	rc = rc ? rc : read_u32(r, root, "aerie_host", &version);
	if (rc == 0 && version != RECORD_VERSION)
		rc = refuse(r, "aerie_host", NULL, "version %u, but this aerie reads %d", version,
			    RECORD_VERSION);
	rc = rc ? rc : read_kernel(r, root, ret);
	rc = rc ? rc : read_u32(r, root, "nested_state_bytes", &ret->nested_state_bytes);
	rc = rc ? rc : read_u32(r, root, "tsc_khz", &ret->tsc_khz);
	rc = rc ? rc : read_bool(r, root, "tsc_deadline", &ret->tsc_deadline);
	rc = rc ? rc : read_bool(r, root, "tsc_control", &ret->tsc_control);
	rc = rc ? rc : read_bool(r, root, "enlightened_vmcs", &ret->enlightened_vmcs);
	rc = rc ? rc : read_table(r, root, "cpuid", &ret->cpuid);
	rc = rc ? rc : read_table(r, root, "hyperv", &ret->hyperv);
	return rc ? rc : read_msrs(r, root, ret);
}

int cpu_record_parse(const char *name, const char *text, size_t len, struct cpu_host *ret, struct err *err)
{
	const struct record r = {.name = name, .err = err};
	_cleanup_json_ cJSON *root = NULL;
	if (len > RECORD_BYTES_MAX)
		return err_set(err, -EINVAL, "%s: larger than %d bytes", name, RECORD_BYTES_MAX);
	if (json_parse(name, text, len, 0, &root, err))
		return err->code;
	*ret = (struct cpu_host){.msr_count = 0};
	return read_all(&r, root, ret);
}
