/*
 * What makes nesting fast: one row for each hardware feature, what the CPU has against what the module uses,
 * and what of it one L1 gets for its own guests. None of them decides whether a host can nest.
 */
#include "base/cleanup.h"
#include "base/log.h"
#include "doctor.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

/* Where a row finds both answers; the two structs name a feature alike. */
#define ANSWERS(field) offsetof(struct host_cpu, field), offsetof(struct host_params, field)

static const struct feature {
	const char *id;
	size_t cpu;   /* offset of the CPU's enum host_answer in struct host_cpu */
	size_t param; /* offset of the module's in struct host_params */
	const char *name;
	const char *parameter;
	enum host_flavour flavour;
	enum finding_status off; /* how bad it is to do without */
	const char *without;	 /* what that means */
	const char *for_l1;	 /* the same as a feature of L1's CPU; NULL: L0 alone uses it */
} features[] = {
	{"ept", ANSWERS(ept), "EPT", "ept", HOST_FLAVOUR_VMX, FINDING_WARN,
	 "L1 gets no EPT, and every page table of L2 is shadowed twice", "vmx-ept"},
	{"npt", ANSWERS(npt), "NPT", "npt", HOST_FLAVOUR_SVM, FINDING_WARN,
	 "L1 gets no NPT, and every page table of L2 is shadowed twice", "npt"},
	{"shadow-vmcs", ANSWERS(shadow_vmcs), "VMCS shadowing", "enable_shadow_vmcs", HOST_FLAVOUR_VMX,
	 FINDING_WARN, "each VMREAD and VMWRITE of L1 costs an exit", NULL},
	{"vpid", ANSWERS(vpid), "VPID", "vpid", HOST_FLAVOUR_VMX, FINDING_WARN,
	 "each switch between L1 and L2 empties the TLB", "vmx-vpid"},
	{"unrestricted-guest", ANSWERS(unrestricted_guest), "unrestricted guest", "unrestricted_guest",
	 HOST_FLAVOUR_VMX, FINDING_WARN, "real mode of the guests is emulated", "vmx-unrestricted-guest"},
	{"apicv", ANSWERS(apicv), "APICv", "enable_apicv", HOST_FLAVOUR_VMX, FINDING_WARN,
	 "each interrupt costs exits", "vmx-apicv-vid"},
	{"posted-intr", ANSWERS(posted_intr), "interrupt posting", "enable_apicv", HOST_FLAVOUR_VMX,
	 FINDING_WARN, "an interrupt for a running guest stops it first", "vmx-posted-intr"},
	{"avic", ANSWERS(avic), "AVIC", "avic", HOST_FLAVOUR_SVM,
	 FINDING_OK /* off by default for most of the kernel's life */, "each interrupt costs exits", "avic"},
};

static enum host_answer answer_at(const void *base, size_t offset)
{
	return *(const enum host_answer *)((const char *)base + offset);
}

static void examine_feature(const struct host_facts *facts, const struct feature *feature,
			    struct finding *finding)
{
	char option[48];
	enum host_answer cpu = answer_at(&facts->cpu, feature->cpu);
	enum host_answer param = answer_at(&facts->params, feature->param);
	if (param == HOST_YES) {
		finding_say(finding, FINDING_OK, "%s is on", feature->name);
	} else if (cpu == HOST_NO) {
		finding_say(finding, feature->off, "this CPU has no %s: %s", feature->name, feature->without);
	} else if (param == HOST_NO) {
		finding_say(finding, feature->off, "%s is off (%s=0)%s: %s", feature->name,
			    feature->parameter, cpu == HOST_YES ? ", though the CPU has it" : "",
			    feature->without);
		(void)snprintf(option, sizeof(option), "%s=1", feature->parameter);
		if (feature->off != FINDING_OK)
			finding_remedy_reload(finding, facts, option);
	} else {
		finding_say(finding, feature->off, "%s says nothing of %s, so %s may be off",
			    host_facts_module_name(facts), feature->parameter, feature->name);
		if (feature->off != FINDING_OK)
			finding_remedy(finding, "boot a newer kernel");
	}
}

void doctor_examine_features(const struct host_facts *facts, struct findings *findings)
{
	for (size_t i = 0; i < ARRAY_LEN(features); i++)
		if (features[i].flavour == facts->flavour)
			examine_feature(facts, &features[i], findings_add(findings, features[i].id));
}

/* Why L1 has it not, if it is L1's own doing or the operator's; NULL if L1 has it or cannot be told apart. */
static const char *lack_of_l1(const struct feature *feature, const struct cpu_report *report, char *text,
			      size_t bytes)
{
	size_t index;
	struct err err = ERR_INIT;
	if (!feature->for_l1 || cpu_feature_find(feature->for_l1, &index, &err) < 0 ||
	    report->features[index].fate == CPU_GIVEN)
		return NULL;
	cpu_report_reason(report, index, text, bytes);
	return text;
}

void doctor_log_for_l1(const struct host_facts *facts, const struct cpu_report *report)
{
	char on[256] = "", reason[256];
	for (size_t i = 0; i < ARRAY_LEN(features); i++) {
		const struct feature *feature = &features[i];
		if (feature->flavour != facts->flavour)
			continue;
		const char *lack = lack_of_l1(feature, report, reason, sizeof(reason));
		if (answer_at(&facts->params, feature->param) == HOST_NO)
			log_info("nesting: %s is off on this host: %s", feature->name, feature->without);
		else if (lack)
			log_info("nesting: %s is not for L1's guests (%s): there %s", feature->name, lack,
				 feature->without);
		else
			(void)snprintf(on + strlen(on), sizeof(on) - strlen(on), "%s%s", on[0] ? ", " : "",
				       feature->name);
	}
	log_info("nesting: in use for L1: %s", on[0] ? on : "nothing that makes it fast");
}
