/* aerie cpu show: what the guest of a config gets, to the bit, on this host or on a recorded one. */
#include "cpu.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "cli/cli.h"
#include "cpu/record.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { REASON_BYTES = 256, COLUMNS = 110 };

struct show {
	const char *path, *host_path;
	const char **set; /* room for argc */
	size_t set_count;
	uint32_t vcpu;
	bool json;
	const struct machine_config *config;
	struct cpu_host *host;
	struct cpu_model model;
	struct cpu_report report;
	struct cpuid_table cpuid; /* of this vCPU */
};

static const char *const nested_words[] = {
	[CPU_NESTED_NONE] = "off", [CPU_NESTED_VMX] = "vmx", [CPU_NESTED_SVM] = "svm"};

static const char *msr_name(uint32_t index)
{
	static const struct {
		uint32_t index;
		const char *name;
	} names[] = {
		{0x8b, "UCODE_REV"},
		{0xcf, "CORE_CAPABILITIES"},
		{0x10a, "ARCH_CAPABILITIES"},
		{0x345, "PERF_CAPABILITIES"},
		{0x480, "VMX_BASIC"},
		{0x481, "VMX_PINBASED_CTLS"},
		{0x482, "VMX_PROCBASED_CTLS"},
		{0x483, "VMX_EXIT_CTLS"},
		{0x484, "VMX_ENTRY_CTLS"},
		{0x485, "VMX_MISC"},
		{0x486, "VMX_CR0_FIXED0"},
		{0x487, "VMX_CR0_FIXED1"},
		{0x488, "VMX_CR4_FIXED0"},
		{0x489, "VMX_CR4_FIXED1"},
		{0x48a, "VMX_VMCS_ENUM"},
		{0x48b, "VMX_PROCBASED_CTLS2"},
		{0x48c, "VMX_EPT_VPID_CAP"},
		{0x48d, "VMX_TRUE_PINBASED_CTLS"},
		{0x48e, "VMX_TRUE_PROCBASED_CTLS"},
		{0x48f, "VMX_TRUE_EXIT_CTLS"},
		{0x490, "VMX_TRUE_ENTRY_CTLS"},
		{0x491, "VMX_VMFUNC"},
		{0x492, "VMX_PROCBASED_CTLS3"},
		{0x493, "VMX_EXIT_CTLS2"},
		{0xc0011029, "DE_CFG"},
	};
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (names[i].index == index)
			return names[i].name;
	return "";
}

/* The host has it, or the operator spoke of it, and yet L1 has it not. */
static bool is_missed(const struct show *s, size_t feature)
{
	enum cpu_fate fate = s->report.features[feature].fate;
	const struct cpu_config *cpu = &s->config->cpu;
	for (size_t i = 0; fate != CPU_GIVEN && i < cpu->prefer_count; i++)
		if (strcmp(cpu->prefer[i], cpu_feature_at(feature)->name) == 0)
			return true;
	return fate == CPU_DISABLED || fate == CPU_NEEDS || fate == CPU_NOT_IN_MODEL;
}

static cJSON *names_json(const struct show *s)
{
	cJSON *list = cJSON_CreateArray();
	for (size_t i = 0; list && i < cpu_feature_count(); i++) {
		if (s->report.features[i].fate == CPU_GIVEN &&
		    !cJSON_AddItemToArray(list, cJSON_CreateString(cpu_feature_at(i)->name))) {
			cJSON_Delete(list);
			return NULL;
		}
	}
	return list;
}

static cJSON *missed_json(const struct show *s)
{
	cJSON *object = cJSON_CreateObject();
	for (size_t i = 0; object && i < cpu_feature_count(); i++) {
		char text[REASON_BYTES];
		if (!is_missed(s, i))
			continue;
		cpu_report_reason(&s->report, i, text, sizeof(text));
		const char *why = strstr(text, ": ");
		if (!cJSON_AddStringToObject(object, cpu_feature_at(i)->name, why ? why + 2 : text)) {
			cJSON_Delete(object);
			return NULL;
		}
	}
	return object;
}

/* Takes `item`, which may be NULL, in any case. */
static bool add_item(cJSON *to, const char *name, cJSON *item)
{
	if (item && cJSON_AddItemToObject(to, name, item))
		return true;
	cJSON_Delete(item);
	return false;
}

/* The enlightenments that L1 gets. */
static cJSON *hyperv_json(const struct show *s)
{
	cJSON *list = cJSON_CreateArray();
	for (size_t i = 0; list && s->model.hyperv.enabled && i < hyperv_switch_count(); i++) {
		if (s->model.hyperv_report.switches[i].fate == HYPERV_GIVEN &&
		    !cJSON_AddItemToArray(list, cJSON_CreateString(hyperv_switch_name(i)))) {
			cJSON_Delete(list);
			return NULL;
		}
	}
	return list;
}

static cJSON *show_json(const struct show *s)
{
	cJSON *root = cJSON_CreateObject();
	uint32_t khz = s->config->cpu.tsc_khz ? s->config->cpu.tsc_khz : s->host->tsc_khz;
	if (cJSON_AddStringToObject(root, "model", s->config->cpu.model) &&
	    cJSON_AddStringToObject(root, "nested", nested_words[s->model.nested]) &&
	    add_item(root, "hyperv", hyperv_json(s)) && cJSON_AddNumberToObject(root, "tsc_khz", khz) &&
	    cJSON_AddNumberToObject(root, "vcpu", s->vcpu) && add_item(root, "features", names_json(s)) &&
	    add_item(root, "not_given", missed_json(s)) &&
	    add_item(root, "cpuid", cpu_record_table(&s->cpuid)) &&
	    add_item(root, "msrs", cpu_record_msrs(s->model.msrs, s->model.msr_count)))
		return root;
	cJSON_Delete(root);
	return NULL;
}

static void print_names(const struct show *s)
{
	size_t column = COLUMNS, count = 0;
	for (size_t i = 0; i < cpu_feature_count(); i++)
		count += s->report.features[i].fate == CPU_GIVEN;
	print_out("\n%zu features:", count);
	for (size_t i = 0; i < cpu_feature_count(); i++) {
		const char *name = cpu_feature_at(i)->name;
		if (s->report.features[i].fate != CPU_GIVEN)
			continue;
		if (column + 1 + strlen(name) > COLUMNS) {
			print_out("\n ");
			column = 1;
		}
		print_out(" %s", name);
		column += 1 + strlen(name);
	}
	print_out("\n");
}

static void print_missed(const struct show *s)
{
	bool first = true;
	for (size_t i = 0; i < cpu_feature_count(); i++) {
		char text[REASON_BYTES];
		if (!is_missed(s, i))
			continue;
		cpu_report_reason(&s->report, i, text, sizeof(text));
		print_out("%s  %s\n", first ? "\nNot given:\n" : "", text);
		first = false;
	}
}

static void print_hyperv(const struct show *s)
{
	char text[1024];
	if (!s->model.hyperv.enabled)
		return;
	print_out("\nHyper-V:");
	for (size_t i = 0; i < hyperv_switch_count(); i++)
		if (s->model.hyperv_report.switches[i].fate == HYPERV_GIVEN)
			print_out(" %s", hyperv_switch_name(i));
	hyperv_left_out(&s->model.hyperv_report, text, sizeof(text));
	print_out("\n%s%s%s", text[0] ? "Left out: " : "", text, text[0] ? "\n" : "");
}

static void show_text(const struct show *s)
{
	print_out("%s: model %s, nested %s, Hyper-V %s, on %s (KVM of Linux %s)\n", s->config->name,
		  s->config->cpu.model, nested_words[s->model.nested], s->model.hyperv.enabled ? "on" : "off",
		  s->host_path ? s->host_path : "this host", s->host->kernel);
	print_names(s);
	print_missed(s);
	print_hyperv(s);
	print_out("\nCPUID of vCPU %u:\n  %-14s %-10s %-10s %-10s %-10s\n", s->vcpu, "leaf", "eax", "ebx",
		  "ecx", "edx");
	for (uint32_t i = 0; i < s->cpuid.count; i++) {
		const struct kvm_cpuid_entry2 *e = &s->cpuid.entries[i];
		char leaf[32];
		(void)snprintf(leaf, sizeof(leaf),
			       e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX ? "0x%08x.%u" : "0x%08x",
			       e->function, e->index);
		print_out("  %-14s 0x%08x 0x%08x 0x%08x 0x%08x\n", leaf, e->eax, e->ebx, e->ecx, e->edx);
	}
	print_out("\nCapability MSRs:\n");
	for (uint32_t i = 0; i < s->model.msr_count; i++) {
		const struct cpu_msr *msr = &s->model.msrs[i];
		static const char *const origins[] = {[CPU_MSR_HOST] = "the host's",
						      [CPU_MSR_SET] = "set by aerie",
						      [CPU_MSR_DERIVED] = "made by KVM"};
		print_out("  0x%-8x 0x%016" PRIx64 "  %-24s %s\n", msr->index, msr->value,
			  msr_name(msr->index), origins[msr->origin]);
	}
}

static int show_resolve(struct show *s, struct err *err)
{
	const struct machine_config *config = s->config;
	if (s->vcpu >= config->cpus.count)
		return err_set(err, -EINVAL, "cpu show: --vcpu %u, but %s has %u of them", s->vcpu,
			       config->name, config->cpus.count);
	int rc = cpu_host_load(s->host_path, &s->host, err);
	if (rc)
		return rc;
	rc = cpu_resolve(s->host, &config->cpu, config->nested, &s->model, &s->report, err);
	if (rc)
		return err_prepend(err, "%s", s->path);
	cpuid_for_vcpu(&s->model.cpuid, &config->cpus, s->vcpu, &s->cpuid);
	return 0;
}

static int show_parse(int argc, char **argv, struct show *s)
{
	static const struct option options[] = {{"set", required_argument, NULL, 's'},
						{"host", required_argument, NULL, 'H'},
						{"vcpu", required_argument, NULL, 'v'},
						{"json", no_argument, NULL, 'j'},
						{0}};
	int option;
	while ((option = getopt_long(argc, argv, ":s:", options, NULL)) != -1) {
		if (option == 's')
			s->set[s->set_count++] = optarg;
		else if (option == 'H')
			s->host_path = optarg;
		else if (option == 'j')
			s->json = true;
		else if (option == 'v' && *optarg && strspn(optarg, "0123456789") == strlen(optarg) &&
			 strlen(optarg) < 6)
			s->vcpu = (uint32_t)strtoul(optarg, NULL, 10);
		else
			return cpu_refuse_option("show", option, argv[optind - 1]);
	}
	if (optind + 1 != argc) {
		log_error("cpu show: %s (try aerie cpu --help)",
			  optind == argc ? "which config?" : "one config at a time");
		return CLI_USAGE;
	}
	s->path = argv[optind];
	return CLI_OK;
}

static int show(struct show *s)
{
	struct machine_config *config = NULL;
	struct err err = ERR_INIT;
	int code = CLI_OK;
	if (config_load(s->path, s->set, s->set_count, &config, &err)) {
		log_error("%s", err.text);
		return err.code == -ENOMEM ? CLI_FAILED : CLI_USAGE;
	}
	s->config = config;
	if (show_resolve(s, &err))
		code = cpu_fail(&err);
	else if (s->json)
		code = cpu_print_json(show_json(s), CLI_OK);
	else
		show_text(s);
	config_free(config);
	return print_flush() && code == CLI_OK ? CLI_FAILED : code;
}

int cpu_show(int argc, char **argv)
{
	_cleanup_free_ const char **set = calloc((size_t)argc, sizeof(*set));
	_cleanup_free_ struct show *s = calloc(1, sizeof(*s));
	if (!set || !s) {
		log_error("cpu show: %s", strerror(ENOMEM));
		return CLI_FAILED;
	}
	s->set = set;
	int code = show_parse(argc, argv, s);
	if (code == CLI_OK)
		code = show(s);
	free(s->host);
	return code;
}
