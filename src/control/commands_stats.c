/* KVM's figures of the VM and of each vCPU, and our counts of them and of devices, in the shape of QEMU's
 * query-stats. */
#include "control_impl.h"

#include "devices/device.h"
#include "host/stats.h"
#include "machine/counts.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char *const targets[] = {"vm", "vcpu", "device", NULL};
static const char *const providers[] = {"kvm", "aerie", NULL};
enum {
	TARGET_VM = MACHINE_COUNTED_VM,
	TARGET_VCPU = MACHINE_COUNTED_VCPU,
	TARGET_DEVICE = MACHINE_COUNTED_DEVICE
};
enum { PROVIDER_KVM, PROVIDER_AERIE, PROVIDERS };
enum { STATS_TARGET, STATS_VCPUS, STATS_PROVIDERS };

static const char *cpu_path(uint32_t index, char text[32])
{
	(void)snprintf(text, 32, "/machine/cpu[%u]", index);
	return text;
}

/* What "providers" leaves of one of them: nothing, all, or its "names". */
struct filter {
	bool asked, all;
	const cJSON *names;
};

static int filter_read_one(const cJSON *entry, struct filter filters[PROVIDERS], struct err *err)
{
	const cJSON *provider = cJSON_GetObjectItemCaseSensitive(entry, "provider"), *name;
	const cJSON *names = cJSON_GetObjectItemCaseSensitive(entry, "names");
	size_t i = 0;
	while (i < PROVIDERS &&
	       !(cJSON_IsString(provider) && strcmp(provider->valuestring, providers[i]) == 0))
		i++;
	if (i == PROVIDERS)
		return err_set(
			err, -EINVAL,
			"query-stats: \"providers\" lists objects with \"provider\": \"kvm\" or \"aerie\"");
	if (names && !cJSON_IsArray(names))
		return err_set(err, -EINVAL, "query-stats: \"names\" is not a list of texts");
	cJSON_ArrayForEach(name, names)
	{
		if (!cJSON_IsString(name))
			return err_set(err, -EINVAL, "query-stats: \"names\" is not a list of texts");
	}
	filters[i] = (struct filter){.asked = true, .all = !names, .names = names};
	return 0;
}

/* Without a list all is asked for. */
static int filter_read(const cJSON *list, struct filter filters[PROVIDERS], struct err *err)
{
	const cJSON *entry;
	int r = 0;
	for (size_t i = 0; i < PROVIDERS; i++)
		filters[i] = (struct filter){.asked = !list, .all = !list};
	cJSON_ArrayForEach(entry, list)
	{
		if (r == 0)
			r = filter_read_one(entry, filters, err);
	}
	return r;
}

static bool filter_passes(const struct filter *filter, const char *name)
{
	const cJSON *wanted;
	if (filter->all)
		return true;
	cJSON_ArrayForEach(wanted, filter->names)
	{
		if (strcmp(wanted->valuestring, name) == 0)
			return true;
	}
	return false;
}

static cJSON *stat_value(const struct kvm_stat *stat, const uint64_t *values)
{
	if (stat->unit == KVM_STAT_BOOLEAN && stat->count == 1)
		return cJSON_CreateBool(values[stat->first] != 0);
	if (stat->count == 1)
		return json_u64(values[stat->first]);
	cJSON *list = cJSON_CreateArray();
	for (uint32_t i = 0; i < stat->count; i++)
		cJSON_AddItemToArray(list, json_u64(values[stat->first + i]));
	return list;
}

/* Returns its list of figures. `path`: of what is no VM, or NULL. */
static cJSON *begin_result(cJSON *results, size_t provider, const char *path)
{
	cJSON *result = cJSON_CreateObject();
	cJSON_AddItemToArray(results, result);
	cJSON_AddStringToObject(result, "provider", providers[provider]);
	if (path)
		cJSON_AddStringToObject(result, "qom-path", path);
	return cJSON_AddArrayToObject(result, "stats");
}

static void add_stat(cJSON *list, const char *name, cJSON *value)
{
	cJSON *entry = cJSON_CreateObject();
	cJSON_AddStringToObject(entry, "name", name);
	cJSON_AddItemToObject(entry, "value", value);
	cJSON_AddItemToArray(list, entry);
}

/* vcpu: MACHINE_STATS_VM or a number. */
static int add_kvm(struct machine *machine, int vcpu, const char *path, const struct filter *filter,
		   cJSON *results, struct err *err)
{
	struct kvm_stats *stats;
	int r = machine_stats(machine, vcpu, &stats, err);
	if (r < 0)
		return r;
	const uint64_t *values = kvm_stats_read(stats);
	if (!values)
		return err_sys(err, -errno, "query-stats: reading KVM's figures");
	cJSON *list = begin_result(results, PROVIDER_KVM, path);
	for (size_t i = 0; i < kvm_stats_count(stats); i++) {
		const struct kvm_stat *stat = kvm_stats_at(stats, i);
		if (filter_passes(filter, stat->name))
			add_stat(list, stat->name, stat_value(stat, values));
	}
	return 0;
}

static void add_counts(const struct machine *machine, enum machine_counted of, size_t index, const char *path,
		       const struct filter *filter, cJSON *results)
{
	const char *name;
	cJSON *list = begin_result(results, PROVIDER_AERIE, path);
	for (size_t row = 0; (name = machine_count_name(of, row)); row++)
		if (filter_passes(filter, name))
			add_stat(list, name, json_u64(machine_count(machine, of, row, index)));
}

static bool cpu_wanted(const cJSON *paths, uint32_t index)
{
	char own[32];
	const cJSON *path;
	if (!paths)
		return true;
	cJSON_ArrayForEach(path, paths)
	{
		if (strcmp(path->valuestring, cpu_path(index, own)) == 0)
			return true;
	}
	return false;
}

/* One function for each target; what was not asked for is left out. */
static int add_vm(struct machine *machine, const struct filter filters[PROVIDERS], cJSON *results,
		  struct err *err)
{
	int r = 0;
	if (filters[PROVIDER_KVM].asked)
		r = add_kvm(machine, MACHINE_STATS_VM, NULL, &filters[PROVIDER_KVM], results, err);
	if (r == 0 && filters[PROVIDER_AERIE].asked)
		add_counts(machine, MACHINE_COUNTED_VM, 0, NULL, &filters[PROVIDER_AERIE], results);
	return r;
}

static int add_vcpus(struct machine *machine, const cJSON *wanted, const struct filter filters[PROVIDERS],
		     cJSON *results, struct err *err)
{
	uint32_t count = machine_config(machine)->cpus.count;
	char path[32];
	int r = 0;
	for (uint32_t i = 0; r == 0 && i < count; i++) {
		if (!cpu_wanted(wanted, i))
			continue;
		cpu_path(i, path);
		if (filters[PROVIDER_KVM].asked)
			r = add_kvm(machine, (int)i, path, &filters[PROVIDER_KVM], results, err);
		if (r == 0 && filters[PROVIDER_AERIE].asked)
			add_counts(machine, MACHINE_COUNTED_VCPU, i, path, &filters[PROVIDER_AERIE], results);
	}
	return r;
}

/* KVM knows nothing of them. */
static void add_devices(struct machine *machine, const struct filter filters[PROVIDERS], cJSON *results)
{
	const struct device *device;
	char path[32];
	for (size_t i = 0; filters[PROVIDER_AERIE].asked && (device = machine_device(machine, i)); i++) {
		(void)snprintf(path, sizeof(path), "%s%u", device->class->name,
			       machine_device_instance(machine, i));
		add_counts(machine, MACHINE_COUNTED_DEVICE, i, path, &filters[PROVIDER_AERIE], results);
	}
}

static int query_stats(struct request *request, const struct value *values, cJSON **ret, struct err *err)
{
	struct machine *machine = request->control->machine;
	struct filter filters[PROVIDERS];
	int r = filter_read(values[STATS_PROVIDERS].json, filters, err);
	if (r == 0 && values[STATS_TARGET].choice != TARGET_VCPU && values[STATS_VCPUS].given)
		r = err_set(err, -EINVAL, "query-stats: \"vcpus\" goes with \"target\": \"vcpu\"");
	if (r < 0)
		return r;
	cJSON *results = cJSON_CreateArray();
	if (values[STATS_TARGET].choice == TARGET_VM)
		r = add_vm(machine, filters, results, err);
	else if (values[STATS_TARGET].choice == TARGET_VCPU)
		r = add_vcpus(machine, values[STATS_VCPUS].json, filters, results, err);
	else
		add_devices(machine, filters, results);
	if (r < 0)
		cJSON_Delete(results);
	else
		*ret = results;
	return r;
}

/* ---- what the figures mean ---- */

static cJSON *describe_stat(const struct kvm_stat *stat)
{
	static const char *const kinds[] = {
		[KVM_STAT_CUMULATIVE] = "cumulative",
		[KVM_STAT_INSTANT] = "instant",
		[KVM_STAT_PEAK] = "peak",
		[KVM_STAT_LINEAR_HISTOGRAM] = "linear-histogram",
		[KVM_STAT_LOG_HISTOGRAM] = "log2-histogram",
	};
	static const char *const units[] = {
		[KVM_STAT_BYTES] = "bytes",
		[KVM_STAT_SECONDS] = "seconds",
		[KVM_STAT_CYCLES] = "cycles",
		[KVM_STAT_BOOLEAN] = "boolean",
	};
	cJSON *entry = cJSON_CreateObject();
	cJSON_AddStringToObject(entry, "name", stat->name);
	cJSON_AddStringToObject(entry, "type", kinds[stat->kind]);
	if (stat->unit != KVM_STAT_NONE)
		cJSON_AddStringToObject(entry, "unit", units[stat->unit]);
	if (stat->exponent != 0)
		json_add_u64(entry, "base", stat->base);
	cJSON_AddNumberToObject(entry, "exponent", stat->exponent);
	if (stat->kind == KVM_STAT_LINEAR_HISTOGRAM)
		json_add_u64(entry, "bucket-size", stat->bucket_size);
	return entry;
}

static cJSON *begin_schema(cJSON *schemas, size_t provider, size_t target)
{
	cJSON *schema = cJSON_CreateObject();
	cJSON_AddItemToArray(schemas, schema);
	cJSON_AddStringToObject(schema, "provider", providers[provider]);
	cJSON_AddStringToObject(schema, "target", targets[target]);
	return cJSON_AddArrayToObject(schema, "stats");
}

static int add_kvm_schema(struct machine *machine, size_t target, cJSON *schemas, struct err *err)
{
	struct kvm_stats *stats;
	int r = machine_stats(machine, target == TARGET_VM ? MACHINE_STATS_VM : 0, &stats, err);
	if (r < 0)
		return r;
	cJSON *list = begin_schema(schemas, PROVIDER_KVM, target);
	for (size_t i = 0; i < kvm_stats_count(stats); i++)
		cJSON_AddItemToArray(list, describe_stat(kvm_stats_at(stats, i)));
	return 0;
}

static void add_count_schema(enum machine_counted target, cJSON *schemas)
{
	const char *name;
	cJSON *list = begin_schema(schemas, PROVIDER_AERIE, target);
	for (size_t row = 0; (name = machine_count_name(target, row)); row++)
		cJSON_AddItemToArray(
			list, describe_stat(&(struct kvm_stat){.name = name, .kind = KVM_STAT_CUMULATIVE}));
}

static int query_stats_schemas(struct request *request, const struct value *values, cJSON **ret,
			       struct err *err)
{
	bool all = !values[0].given;
	cJSON *schemas = cJSON_CreateArray();
	int r = 0;
	for (size_t target = 0; r == 0 && targets[target]; target++) {
		if (target != TARGET_DEVICE && (all || values[0].choice == PROVIDER_KVM))
			r = add_kvm_schema(request->control->machine, target, schemas, err);
		if (r == 0 && (all || values[0].choice == PROVIDER_AERIE))
			add_count_schema((enum machine_counted)target, schemas);
	}
	if (r < 0)
		cJSON_Delete(schemas);
	else
		*ret = schemas;
	return r;
}

const struct command commands_stats[] = {
	{{.name = "query-stats",
	  .doc = "KVM's figures (exits, nested runs, pages), and aerie's of what went wrong with the guest",
	  .args = {[STATS_TARGET] = {.name = "target",
				     .type = ARG_CHOICE,
				     .words = targets,
				     .doc = "of the VM, of each vCPU, or of each device"},
		   [STATS_VCPUS] = {.name = "vcpus",
				    .type = ARG_TEXTS,
				    .optional = true,
				    .doc = "only of these, by the qom-path of query-cpus-fast"},
		   [STATS_PROVIDERS] = {.name = "providers",
					.type = ARG_LIST,
					.optional = true,
					.doc = "[{\"provider\": \"kvm\", \"names\": [...]}]: only these"}}},
	 query_stats},
	{{.name = "query-stats-schemas",
	  .doc = "what the figures mean",
	  .args = {{.name = "provider",
		    .type = ARG_CHOICE,
		    .optional = true,
		    .words = providers,
		    .doc = "only this one's"}}},
	 query_stats_schemas},
	{{.name = NULL}, NULL},
};
