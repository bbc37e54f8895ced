/* KVM's figures of the VM and of each vCPU, in the shape of QEMU's query-stats. */
#include "control_impl.h"

#include "host/stats.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char *const targets[] = {"vm", "vcpu", NULL};
static const char *const providers[] = {"kvm", NULL};
enum { TARGET_VM, TARGET_VCPU };
enum { STATS_TARGET, STATS_VCPUS, STATS_PROVIDERS };

static const char *cpu_path(uint32_t index, char text[32])
{
	(void)snprintf(text, 32, "/machine/cpu[%u]", index);
	return text;
}

/* What "providers" leaves: all of KVM's when it is absent, else its "names", or all without them. */
struct filter {
	bool all;
	const cJSON *names;
};

static int filter_read(const cJSON *list, struct filter *ret, struct err *err)
{
	const cJSON *entry;
	*ret = (struct filter){.all = !list};
	cJSON_ArrayForEach(entry, list)
	{
		const cJSON *provider = cJSON_GetObjectItemCaseSensitive(entry, "provider"), *name;
		const cJSON *names = cJSON_GetObjectItemCaseSensitive(entry, "names");
		if (!cJSON_IsString(provider) || strcmp(provider->valuestring, "kvm") != 0)
			return err_set(err, -EINVAL,
				       "query-stats: \"providers\" lists objects with \"provider\": \"kvm\"");
		if (names && !cJSON_IsArray(names))
			return err_set(err, -EINVAL, "query-stats: \"names\" is not a list of texts");
		cJSON_ArrayForEach(name, names)
		{
			if (!cJSON_IsString(name))
				return err_set(err, -EINVAL, "query-stats: \"names\" is not a list of texts");
		}
		ret->all = !names;
		ret->names = names;
	}
	return 0;
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

/* vcpu: MACHINE_STATS_VM or a number. */
static int add_result(struct machine *machine, int vcpu, const struct filter *filter, cJSON *results,
		      struct err *err)
{
	struct kvm_stats *stats;
	char path[32];
	int r = machine_stats(machine, vcpu, &stats, err);
	if (r < 0)
		return r;
	const uint64_t *values = kvm_stats_read(stats);
	if (!values)
		return err_sys(err, -errno, "query-stats: reading KVM's figures");
	cJSON *result = cJSON_CreateObject();
	cJSON_AddItemToArray(results, result);
	cJSON_AddStringToObject(result, "provider", "kvm");
	if (vcpu >= 0)
		cJSON_AddStringToObject(result, "qom-path", cpu_path((uint32_t)vcpu, path));
	cJSON *list = cJSON_AddArrayToObject(result, "stats");
	for (size_t i = 0; i < kvm_stats_count(stats); i++) {
		const struct kvm_stat *stat = kvm_stats_at(stats, i);
		if (!filter_passes(filter, stat->name))
			continue;
		cJSON *entry = cJSON_CreateObject();
		cJSON_AddStringToObject(entry, "name", stat->name);
		cJSON_AddItemToObject(entry, "value", stat_value(stat, values));
		cJSON_AddItemToArray(list, entry);
	}
	return 0;
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

static int query_stats(struct request *request, const struct value *values, cJSON **ret, struct err *err)
{
	struct machine *machine = request->control->machine;
	struct filter filter;
	int r = filter_read(values[STATS_PROVIDERS].json, &filter, err);
	if (r == 0 && values[STATS_TARGET].choice == TARGET_VM && values[STATS_VCPUS].given)
		r = err_set(err, -EINVAL, "query-stats: \"vcpus\" goes with \"target\": \"vcpu\"");
	if (r < 0)
		return r;
	cJSON *results = cJSON_CreateArray();
	if (values[STATS_TARGET].choice == TARGET_VM) {
		r = add_result(machine, MACHINE_STATS_VM, &filter, results, err);
	} else {
		uint32_t count = machine_config(machine)->cpus.count;
		for (uint32_t i = 0; r == 0 && i < count; i++)
			if (cpu_wanted(values[STATS_VCPUS].json, i))
				r = add_result(machine, (int)i, &filter, results, err);
	}
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

static int query_stats_schemas(struct request *request, const struct value *values, cJSON **ret,
			       struct err *err)
{
	cJSON *schemas = cJSON_CreateArray();
	(void)values;
	for (size_t target = 0; targets[target]; target++) {
		struct kvm_stats *stats;
		int r = machine_stats(request->control->machine, target == TARGET_VM ? MACHINE_STATS_VM : 0,
				      &stats, err);
		if (r < 0) {
			cJSON_Delete(schemas);
			return r;
		}
		cJSON *schema = cJSON_CreateObject();
		cJSON_AddItemToArray(schemas, schema);
		cJSON_AddStringToObject(schema, "provider", "kvm");
		cJSON_AddStringToObject(schema, "target", targets[target]);
		cJSON *list = cJSON_AddArrayToObject(schema, "stats");
		for (size_t i = 0; i < kvm_stats_count(stats); i++)
			cJSON_AddItemToArray(list, describe_stat(kvm_stats_at(stats, i)));
	}
	*ret = schemas;
	return 0;
}

const struct command commands_stats[] = {
	{{.name = "query-stats",
	  .doc = "KVM's figures: exits, nested runs, pages",
	  .args = {[STATS_TARGET] = {.name = "target",
				     .type = ARG_CHOICE,
				     .words = targets,
				     .doc = "of the VM, or of each vCPU"},
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
		    .doc = "there is only this one"}}},
	 query_stats_schemas},
	{{.name = NULL}, NULL},
};
