/* aerie cpu compare and aerie cpu baseline: what several recorded hosts have in common. */
#include "cpu.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "cli/cli.h"
#include "cpu/compare.h"

#include <errno.h>
#include <getopt.h>
#include <string.h>

/* What is in the way, as it is found: lines, or items of a JSON list. */
struct obstacles {
	cJSON *list; /* NULL: lines */
	bool failed; /* no memory */
};

static void obstacle_found(const struct cpu_obstacle *obstacle, void *data)
{
	struct obstacles *o = data;
	if (!o->list) {
		print_out("%-36s %s\n", obstacle->name, obstacle->why);
		return;
	}
	cJSON *item = cJSON_CreateObject();
	o->failed |= !cJSON_AddItemToArray(o->list, item) ||
		     !cJSON_AddStringToObject(item, "name", obstacle->name) ||
		     !cJSON_AddStringToObject(item, "why", obstacle->why);
}

struct compare_options {
	const char *config;
	const char **set; /* room for argc */
	size_t set_count;
	bool json;
	const char *from, *to;
};

static int compare_parse(int argc, char **argv, struct compare_options *ret)
{
	static const struct option options[] = {{"config", required_argument, NULL, 'c'},
						{"set", required_argument, NULL, 's'},
						{"json", no_argument, NULL, 'j'},
						{0}};
	int option;
	while ((option = getopt_long(argc, argv, ":s:", options, NULL)) != -1) {
		if (option == 'c')
			ret->config = optarg;
		else if (option == 's')
			ret->set[ret->set_count++] = optarg;
		else if (option == 'j')
			ret->json = true;
		else
			return cpu_refuse_option("compare", option, argv[optind - 1]);
	}
	if (optind + 2 != argc) {
		log_error("cpu compare: two recorded hosts, from and to (try aerie cpu --help)");
		return CLI_USAGE;
	}
	if (ret->set_count && !ret->config) {
		log_error("cpu compare: --set goes with --config");
		return CLI_USAGE;
	}
	ret->from = argv[optind];
	ret->to = argv[optind + 1];
	return CLI_OK;
}

static int compare_json(const struct compare_options *options, int count, struct obstacles *o)
{
	cJSON *root = cJSON_CreateObject();
	bool ok = !o->failed && cJSON_AddStringToObject(root, "from", options->from) &&
		  cJSON_AddStringToObject(root, "to", options->to) &&
		  cJSON_AddBoolToObject(root, "runs", count == 0) &&
		  cJSON_AddItemToObject(root, "obstacles", o->list);
	if (!ok) {
		cJSON_Delete(o->list);
		cJSON_Delete(root);
		root = NULL;
	}
	return cpu_print_json(root, count ? CLI_FAILED : CLI_OK);
}

static int compare_run(const struct compare_options *options, const struct machine_config *config)
{
	const struct cpu_config all = {.model = "host"};
	_cleanup_free_ struct cpu_host *from = NULL, *to = NULL;
	struct obstacles o = {.list = NULL};
	struct err err = ERR_INIT;
	if (cpu_host_load(options->from, &from, &err) || cpu_host_load(options->to, &to, &err))
		return cpu_fail(&err);
	if (options->json && !(o.list = cJSON_CreateArray()))
		return cpu_print_json(NULL, CLI_FAILED);
	int count = cpu_compare(from, config ? &config->cpu : &all, config ? config->nested : NESTED_AUTO, to,
				obstacle_found, &o, &err);
	if (count < 0) {
		cJSON_Delete(o.list);
		return cpu_fail(&err);
	}
	if (options->json)
		return compare_json(options, count, &o);
	if (count == 0)
		print_out("A guest made on %s runs on %s.\n", options->from, options->to);
	else
		print_out("\nA guest made on %s does not run on %s: %d thing%s in the way.\n", options->from,
			  options->to, count, count == 1 ? " is" : "s are");
	return print_flush() || count ? CLI_FAILED : CLI_OK;
}

int cpu_compare_hosts(int argc, char **argv)
{
	_cleanup_free_ const char **set = calloc((size_t)argc, sizeof(*set));
	struct compare_options options = {.set = set};
	struct machine_config *config = NULL;
	struct err err = ERR_INIT;
	if (!set) {
		(void)err_sys(&err, -ENOMEM, "cpu compare");
		return cpu_fail(&err);
	}
	int code = compare_parse(argc, argv, &options);
	if (code != CLI_OK)
		return code;
	if (options.config && config_load(options.config, set, options.set_count, &config, &err)) {
		log_error("%s", err.text);
		return err.code == -ENOMEM ? CLI_FAILED : CLI_USAGE;
	}
	code = compare_run(&options, config);
	config_free(config);
	return code;
}

static bool add_names(cJSON *to, const char *key, const char *const *names, size_t count)
{
	cJSON *list = count ? cJSON_AddArrayToObject(to, key) : NULL;
	for (size_t i = 0; list && i < count; i++) {
		cJSON *item = cJSON_CreateString(names[i]);
		if (!cJSON_AddItemToArray(list, item))
			return false;
	}
	return list || !count;
}

/* { "cpu": { ... } }, to be put into a config; with `features` also what it comes to. */
static cJSON *baseline_json(const struct cpu_config *config, const struct cpu_report *features)
{
	cJSON *root = cJSON_CreateObject(), *cpu = cJSON_AddObjectToObject(root, "cpu");
	bool ok = cJSON_AddStringToObject(cpu, "model", config->model) &&
		  add_names(cpu, "require", config->require, config->require_count) &&
		  add_names(cpu, "disable", config->disable, config->disable_count) &&
		  (!config->tsc_khz || cJSON_AddNumberToObject(cpu, "tsc_khz", config->tsc_khz));
	cJSON *list = features ? cJSON_AddArrayToObject(root, "features") : NULL;
	for (size_t i = 0; ok && list && i < cpu_feature_count(); i++)
		ok = features->features[i].fate != CPU_GIVEN ||
		     cJSON_AddItemToArray(list, cJSON_CreateString(cpu_feature_at(i)->name));
	if (!ok || (features && !list)) {
		cJSON_Delete(root);
		return NULL;
	}
	return root;
}

static int baseline_run(const struct cpu_host *const *hosts, const char *const *names, size_t count,
			bool json)
{
	_cleanup_free_ struct cpu_config *config = calloc(1, sizeof(*config));
	_cleanup_free_ struct cpu_model *model = calloc(1, sizeof(*model));
	_cleanup_free_ struct cpu_report *report = calloc(1, sizeof(*report));
	struct err err = ERR_INIT;
	if (!config || !model || !report)
		return cpu_print_json(NULL, CLI_FAILED); /* says what is lacking: memory */
	if (cpu_baseline(hosts, names, count, config, &err) ||
	    cpu_resolve(hosts[0], config, NESTED_AUTO, model, report, &err))
		return cpu_fail(&err);
	return cpu_print_json(baseline_json(config, json ? report : NULL), CLI_OK);
}

int cpu_baseline_hosts(int argc, char **argv)
{
	static const struct option options[] = {{"json", no_argument, NULL, 'j'}, {0}};
	_cleanup_free_ struct cpu_host **hosts = calloc((size_t)argc, sizeof(struct cpu_host *));
	struct err err = ERR_INIT;
	bool json = false;
	int option, code = CLI_OK;
	while ((option = getopt_long(argc, argv, ":", options, NULL)) != -1) {
		if (option != 'j')
			return cpu_refuse_option("baseline", option, argv[optind - 1]);
		json = true;
	}
	size_t count = (size_t)(argc - optind), loaded = 0;
	if (count == 0) {
		log_error("cpu baseline: which recorded hosts? (try aerie cpu --help)");
		return CLI_USAGE;
	}
	if (!hosts)
		return cpu_print_json(NULL, CLI_FAILED);
	while (!err.code && loaded < count)
		if (cpu_host_load(argv[(size_t)optind + loaded], &hosts[loaded], &err) == 0)
			loaded++;
	code = err.code ? cpu_fail(&err)
			: baseline_run((const struct cpu_host *const *)hosts,
				       (const char *const *)&argv[optind], count, json);
	while (loaded)
		free(hosts[--loaded]);
	return code;
}
