/*
 * What makes nesting fast: one row for each hardware feature, what the CPU has against what the module uses.
 * None of them decides whether a host can nest.
 */
#include "base/cleanup.h"
#include "doctor.h"

#include <stddef.h>
#include <stdio.h>

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
} features[] = {
	{"ept", ANSWERS(ept), "EPT", "ept", HOST_FLAVOUR_VMX, FINDING_WARN,
	 "L1 gets no EPT, and every page table of L2 is shadowed twice"},
	{"npt", ANSWERS(npt), "NPT", "npt", HOST_FLAVOUR_SVM, FINDING_WARN,
	 "L1 gets no NPT, and every page table of L2 is shadowed twice"},
	{"shadow-vmcs", ANSWERS(shadow_vmcs), "VMCS shadowing", "enable_shadow_vmcs", HOST_FLAVOUR_VMX,
	 FINDING_WARN, "each VMREAD and VMWRITE of L1 costs an exit"},
	{"vpid", ANSWERS(vpid), "VPID", "vpid", HOST_FLAVOUR_VMX, FINDING_WARN,
	 "each switch between L1 and L2 empties the TLB"},
	{"unrestricted-guest", ANSWERS(unrestricted_guest), "unrestricted guest", "unrestricted_guest",
	 HOST_FLAVOUR_VMX, FINDING_WARN, "real mode of the guests is emulated"},
	{"apicv", ANSWERS(apicv), "APICv", "enable_apicv", HOST_FLAVOUR_VMX, FINDING_WARN,
	 "each interrupt costs exits"},
	{"avic", ANSWERS(avic), "AVIC", "avic", HOST_FLAVOUR_SVM,
	 FINDING_OK /* off by default for most of the kernel's life */, "each interrupt costs exits"},
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
