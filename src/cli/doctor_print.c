#include "base/log.h"
#include "doctor.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define COLUMNS	     110
#define INDENT	     25 /* "ok    unrestricted-guest " */
#define REMEDY_BEGIN "-> "

static const char *const status_words[] = {
	[FINDING_OK] = "ok",
	[FINDING_WARN] = "warn",
	[FINDING_FAIL] = "fail",
};

static const char *const flavour_words[] = {
	[HOST_FLAVOUR_NONE] = "none",
	[HOST_FLAVOUR_VMX] = "VMX",
	[HOST_FLAVOUR_SVM] = "SVM",
	[HOST_FLAVOUR_PVM] = "PVM",
};

/* Text */

/* Prints from column INDENT on, breaking between words. */
static void print_wrapped(const char *text)
{
	const size_t width = COLUMNS - INDENT;
	while (strlen(text) > width) {
		size_t end = width;
		while (end > 0 && text[end] != ' ')
			end--;
		if (end == 0)
			end = strcspn(text, " ");
		print_out("%.*s\n", (int)end, text);
		text += end;
		text += strspn(text, " ");
		if (!*text)
			return;
		print_out("%*s", INDENT, "");
	}
	print_out("%s\n", text);
}

/* Remedies are not broken: they are there to be copied. */
static void print_finding(const struct finding *finding)
{
	print_out("%-5s %-*s", status_words[finding->status], INDENT - 6, finding->id);
	print_wrapped(finding->fact);
	if (!finding->remedy[0])
		return;
	if (finding->where[0]) {
		print_out("%*s", INDENT, "");
		print_wrapped(finding->where);
	}
	print_out("%*s" REMEDY_BEGIN "%s\n", INDENT, "", finding->remedy);
}

void doctor_print_text(const struct host_facts *facts, const struct findings *findings,
		       const struct findings *done)
{
	size_t fails = findings_with(findings, FINDING_FAIL), warns = findings_with(findings, FINDING_WARN);
	for (size_t i = 0; done && i < done->count; i++)
		print_finding(&done->list[i]);
	if (done)
		print_out("\n");
	for (size_t i = 0; i < findings->count; i++)
		print_finding(&findings->list[i]);
	print_out("\nThis host %s nest (KVM %s, flavour %s; %zu fail, %zu warn).\n", fails ? "cannot" : "can",
		  facts_kvm_usable(facts) ? "usable" : "not usable", flavour_words[facts->flavour], fails,
		  warns);
}

/* JSON; cJSON answers NULL when memory is short, and each step takes the NULL of the one before. */

static bool add_string_or_null(cJSON *object, const char *name, const char *value)
{
	return value ? cJSON_AddStringToObject(object, name, value) : cJSON_AddNullToObject(object, name);
}

static bool add_findings(cJSON *object, const char *name, const struct findings *findings)
{
	cJSON *array = cJSON_AddArrayToObject(object, name);
	bool ok = array;
	for (size_t i = 0; ok && i < findings->count; i++) {
		const struct finding *finding = &findings->list[i];
		cJSON *item = cJSON_CreateObject();
		ok = cJSON_AddItemToArray(array, item) && cJSON_AddStringToObject(item, "id", finding->id) &&
		     cJSON_AddStringToObject(item, "status", status_words[finding->status]) &&
		     cJSON_AddStringToObject(item, "fact", finding->fact) &&
		     add_string_or_null(item, "where", finding->where[0] ? finding->where : NULL) &&
		     add_string_or_null(item, "remedy", finding->remedy[0] ? finding->remedy : NULL);
	}
	return ok;
}

static bool add_facts(cJSON *object, const struct host_facts *facts)
{
	cJSON *kvm = cJSON_AddObjectToObject(object, "kvm");
	cJSON *host = cJSON_AddObjectToObject(object, "host");
	return cJSON_AddBoolToObject(kvm, "usable", facts_kvm_usable(facts)) &&
	       cJSON_AddStringToObject(kvm, "flavour", flavour_words[facts->flavour]) &&
	       cJSON_AddNumberToObject(kvm, "api", facts->dev.api) &&
	       cJSON_AddNumberToObject(kvm, "nested_state_bytes", facts->dev.nested_state_bytes) &&
	       cJSON_AddStringToObject(host, "cpu", facts->cpu.model) &&
	       cJSON_AddStringToObject(host, "kernel", facts->release) &&
	       add_string_or_null(host, "guest_of", host_facts_outer_name(facts));
}

int doctor_print_json(const struct host_facts *facts, const struct findings *findings,
		      const struct findings *done)
{
	cJSON *object = cJSON_CreateObject();
	bool ok = cJSON_AddBoolToObject(object, "can_nest", findings_with(findings, FINDING_FAIL) == 0) &&
		  add_facts(object, facts) && add_findings(object, "findings", findings) &&
		  (!done || add_findings(object, "fix", done));
	char *text = ok ? cJSON_Print(object) : NULL;
	if (text)
		print_out("%s\n", text);
	cJSON_free(text);
	cJSON_Delete(object);
	return text ? 0 : -ENOMEM;
}
