/* aerie cpu list: every feature there is a name for, and what this host says to it. */
#include "cpu.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "cli/cli.h"

#include <getopt.h>
#include <string.h>

enum { REASON_BYTES = 256 };

/* The part of "name: reason" behind the name. */
static const char *reason(const struct cpu_report *report, size_t feature, char text[REASON_BYTES])
{
	cpu_report_reason(report, feature, text, REASON_BYTES);
	const char *colon = strstr(text, ": ");
	return colon ? colon + 2 : text;
}

/* Not in the model: with "host" asked, that is a hint, which only the operator can give. */
static bool is_offered(const struct cpu_report *report, size_t feature)
{
	enum cpu_fate fate = report->features[feature].fate;
	return fate == CPU_GIVEN || fate == CPU_NOT_IN_MODEL;
}

static cJSON *list_json(const struct cpu_report *report)
{
	cJSON *list = cJSON_CreateArray();
	bool ok = list;
	for (size_t i = 0; ok && i < cpu_feature_count(); i++) {
		const struct cpu_feature *feature = cpu_feature_at(i);
		char why[REASON_BYTES];
		unsigned bit;
		const char *word = cpu_feature_word(i, &bit);
		cJSON *item = cJSON_CreateObject();
		ok = cJSON_AddItemToArray(list, item) &&
		     cJSON_AddStringToObject(item, "name", feature->name) &&
		     cJSON_AddStringToObject(item, "about", feature->about) &&
		     cJSON_AddStringToObject(item, "word", word) &&
		     cJSON_AddNumberToObject(item, "bit", bit) &&
		     cJSON_AddBoolToObject(item, "offered", is_offered(report, i)) &&
		     (is_offered(report, i) ||
		      cJSON_AddStringToObject(item, "why_not", reason(report, i, why)));
	}
	if (!ok) {
		cJSON_Delete(list);
		return NULL;
	}
	return list;
}

/* Can this host be the model? One that it cannot be says what it lacks. */
static void print_model(const struct cpu_host *host, const struct cpu_feature *model)
{
	const struct cpu_config asked = {.model = model->name};
	_cleanup_free_ struct cpu_model *ignored = calloc(1, sizeof(*ignored));
	struct err err = ERR_INIT;
	bool can = ignored && cpu_resolve(host, &asked, NESTED_AUTO, ignored, NULL, &err) == 0;
	print_out("%-36s %-3s  %s\n", model->name, can ? "yes" : "no", model->about);
	const char *lacks = strstr(err.text, "): ");
	if (!can)
		print_out("%-36s      %.100s%s\n", "", lacks ? lacks + 3 : err.text,
			  strlen(lacks ? lacks + 3 : err.text) > 100 ? "..." : "");
}

static void list_text(const struct cpu_host *host, const struct cpu_report *report)
{
	char why[REASON_BYTES];
	size_t offered = 0;
	print_out("%-36s %-4s %s\n", "FEATURE", "HERE", "WHAT IT IS");
	for (size_t i = 0; i < cpu_feature_count(); i++) {
		const struct cpu_feature *feature = cpu_feature_at(i);
		bool here = is_offered(report, i);
		offered += here;
		print_out("%-36s %-4s %s", feature->name, here ? "yes" : "no", feature->about);
		if (here)
			print_out("\n");
		else
			print_out(" (%s)\n", reason(report, i, why));
	}
	print_out("\n%-36s %-4s %s\n", "MODEL", "HERE", "WHAT IT IS");
	for (size_t i = 0; cpu_model_at(i); i++)
		print_model(host, cpu_model_at(i));
	print_out("\n%zu features, %zu of them offered by this host (KVM of Linux %s).\n",
		  cpu_feature_count(), offered, host->kernel);
}

int cpu_list(int argc, char **argv)
{
	static const struct option options[] = {
		{"host", required_argument, NULL, 'H'}, {"json", no_argument, NULL, 'j'}, {0}};
	const struct cpu_config all = {.model = "host"};
	_cleanup_free_ struct cpu_host *host = NULL;
	_cleanup_free_ struct cpu_model *model = calloc(1, sizeof(*model));
	_cleanup_free_ struct cpu_report *report = calloc(1, sizeof(*report));
	struct err err = ERR_INIT;
	const char *path = NULL;
	bool json = false;
	int option;
	while ((option = getopt_long(argc, argv, ":", options, NULL)) != -1) {
		if (option == 'H')
			path = optarg;
		else if (option == 'j')
			json = true;
		else
			return cpu_refuse_option("list", option, argv[optind - 1]);
	}
	if (optind < argc) {
		log_error("cpu list: unexpected argument %s (try aerie cpu --help)", argv[optind]);
		return CLI_USAGE;
	}
	if (!model || !report)
		return cpu_print_json(NULL, CLI_FAILED); /* says what is lacking: memory */
	if (cpu_host_load(path, &host, &err) || cpu_resolve(host, &all, NESTED_AUTO, model, report, &err))
		return cpu_fail(&err);
	if (json)
		return cpu_print_json(list_json(report), CLI_OK);
	list_text(host, report);
	return print_flush() ? CLI_FAILED : CLI_OK;
}
