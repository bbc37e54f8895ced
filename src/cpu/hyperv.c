/* Which enlightenments L1 gets, and why not the others; see cpu/hyperv.h and docs/hyperv.md. */
#include "cpu/hyperv.h"

#include "base/cleanup.h"
#include "hyperv_leaves.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define SWITCH(member) offsetof(struct hyperv_config, member), #member

/* Who can use it at all. */
enum scope { ANYONE, NESTED, VMX };

/* What a switch turns on, in the words of leaves 3, 4 and 0xA; `promise`: nothing the host must offer. */
static const struct row {
	size_t offset;
	const char *name;
	struct hyperv_words words;
	enum scope scope;
	bool promise;
} rows[] = {
	{SWITCH(relaxed), {.recommend_eax = RECOMMEND_RELAXED_TIMING}, ANYONE, false},
	{SWITCH(vapic), {.features_eax = FEATURE_APIC_ACCESS}, ANYONE, false},
	{SWITCH(vpindex), {.features_eax = FEATURE_VP_INDEX}, ANYONE, false},
	{SWITCH(runtime), {.features_eax = FEATURE_VP_RUNTIME}, ANYONE, false},
	{SWITCH(crash), {.features_edx = FEATURE_EDX_CRASH_MSRS}, ANYONE, false},
	{SWITCH(reset), {.features_eax = FEATURE_RESET}, ANYONE, false},
	{SWITCH(time), {.features_eax = FEATURE_TIME_REF_COUNT | FEATURE_REFERENCE_TSC}, ANYONE, false},
	{SWITCH(frequencies),
	 {.features_eax = FEATURE_FREQUENCY_MSRS, .features_edx = FEATURE_EDX_FREQUENCY_MSRS},
	 ANYONE,
	 false},
	{SWITCH(reenlightenment), {.features_eax = FEATURE_REENLIGHTENMENT}, ANYONE, false},
	{SWITCH(synic),
	 {.features_eax = FEATURE_SYNIC,
	  .features_ebx = FEATURE_EBX_POST_MESSAGES | FEATURE_EBX_SIGNAL_EVENTS},
	 ANYONE,
	 false},
	{SWITCH(stimer), {.features_eax = FEATURE_STIMER}, ANYONE, false},
	{SWITCH(stimer_direct), {.features_edx = FEATURE_EDX_STIMER_DIRECT}, ANYONE, false},
	{SWITCH(tlbflush),
	 {.recommend_eax = RECOMMEND_REMOTE_TLB_FLUSH | RECOMMEND_EX_PROCESSOR_MASKS},
	 ANYONE,
	 false},
	{SWITCH(tlbflush_ext), {.features_edx = FEATURE_EDX_EXT_GVA_RANGES}, ANYONE, false},
	{SWITCH(tlbflush_direct), {.nested_eax = NESTED_DIRECT_FLUSH}, NESTED, false},
	{SWITCH(ipi), {.recommend_eax = RECOMMEND_CLUSTER_IPI | RECOMMEND_EX_PROCESSOR_MASKS}, ANYONE, false},
	{SWITCH(xmm_input), {.features_edx = FEATURE_EDX_XMM_INPUT}, ANYONE, false},
	{SWITCH(avic), {.recommend_eax = RECOMMEND_DEPRECATE_AUTO_EOI}, ANYONE, false},
	{SWITCH(evmcs), {.recommend_eax = RECOMMEND_ENLIGHTENED_VMCS}, VMX, false},
	{SWITCH(emsr_bitmap), {.nested_eax = NESTED_MSR_BITMAP}, NESTED, false},
	{SWITCH(no_nonarch_coresharing), {.recommend_eax = RECOMMEND_NO_CORE_SHARING}, ANYONE, true},
};
static_assert(ARRAY_LEN(rows) <= HYPERV_SWITCHES_MAX, "a report has no room for all switches");

/*
 * What does not work without what, and `why`. `vmx`: only where L1 has VMX; on AMD both stand alone, because
 * what they change is a field of the VMCB that is otherwise unused (TLFS 16.11).
 */
static const struct need {
	size_t what, needs;
	bool vmx;
	const char *why;
} needs[] = {
#define NEED(a, b) offsetof(struct hyperv_config, a), offsetof(struct hyperv_config, b)
	{NEED(synic, vpindex), false, "messages and events are addressed to a VP index"},
	{NEED(stimer, synic), false, "an expired timer is a message"},
	{NEED(stimer, time), false, "timers are set in units of the reference counter"},
	{NEED(stimer_direct, stimer), false, "it is a mode of those timers"},
	{NEED(tlbflush, vpindex), false, "the hypercall names vCPUs by VP index"},
	{NEED(ipi, vpindex), false, "the hypercall names vCPUs by VP index"},
	{NEED(tlbflush_ext, tlbflush), false, "it is a form of that hypercall"},
	{NEED(tlbflush_direct, tlbflush), false, "L2's hypercall is the same"},
	{NEED(tlbflush_direct, vapic), false,
	 "it is agreed on in the VP assist page, which comes with vapic"},
	{NEED(evmcs, vapic), false, "its address is given in the VP assist page, which comes with vapic"},
	{NEED(tlbflush_direct, evmcs), true, "on Intel it is agreed on in the enlightened VMCS"},
	{NEED(emsr_bitmap, evmcs), true, "on Intel the changes are told in the enlightened VMCS"},
#undef NEED
};

static bool *switch_at(struct hyperv_config *config, size_t offset)
{
	return (bool *)((char *)config + offset);
}

static bool asked_for(const struct hyperv_config *config, size_t offset)
{
	return *(const bool *)((const char *)config + offset);
}

static size_t row_at(size_t offset)
{
	size_t i = 0;
	while (rows[i].offset != offset)
		i++;
	return i;
}

size_t hyperv_switch_count(void)
{
	return ARRAY_LEN(rows);
}

const char *hyperv_switch_name(size_t index)
{
	return index < ARRAY_LEN(rows) ? rows[index].name : NULL;
}

static enum hyperv_fate fate_alone(const struct row *row, const struct hyperv_words *host,
				   enum cpu_nested nested)
{
	if (row->scope == VMX && nested != CPU_NESTED_VMX)
		return HYPERV_VMX_ONLY;
	if (row->scope == NESTED && nested == CPU_NESTED_NONE)
		return HYPERV_NESTED_ONLY;
	return row->promise || hyperv_words_cover(host, &row->words) ? HYPERV_GIVEN : HYPERV_NOT_OFFERED;
}

/* Take away what lacks something, until nothing changes any more. */
static void drop_needy(struct hyperv_config *given, enum cpu_nested nested, struct hyperv_report *report)
{
	bool changed = true;
	while (changed) {
		changed = false;
		for (size_t i = 0; i < ARRAY_LEN(needs); i++) {
			if (needs[i].vmx && nested != CPU_NESTED_VMX)
				continue;
			bool *what = switch_at(given, needs[i].what);
			if (!*what || *switch_at(given, needs[i].needs))
				continue;
			*what = false;
			changed = true;
			size_t row = row_at(needs[i].what);
			report->switches[row].fate = HYPERV_NEEDS;
			report->switches[row].because = row_at(needs[i].needs);
		}
	}
}

static void append(char *text, size_t bytes, const char *separator, const char *more)
{
	size_t used = strlen(text);
	if (used < bytes)
		(void)snprintf(text + used, bytes - used, "%s%s", used ? separator : "", more);
}

static void reason(const struct hyperv_report *report, size_t index, char *text, size_t bytes)
{
	const char *name = rows[index].name;
	switch (report->switches[index].fate) {
	case HYPERV_NOT_OFFERED:
		(void)snprintf(text, bytes, "%s: this host's KVM does not have it", name);
		break;
	case HYPERV_VMX_ONLY:
		(void)snprintf(text, bytes, "%s: L1 has no VMX", name);
		break;
	case HYPERV_NESTED_ONLY:
		(void)snprintf(text, bytes, "%s: L1 cannot run guests", name);
		break;
	case HYPERV_NEEDS:
		(void)snprintf(text, bytes, "%s: needs %s", name, rows[report->switches[index].because].name);
		break;
	case HYPERV_OFF:
	case HYPERV_GIVEN:
		text[0] = '\0';
		break;
	}
}

static int refuse_required(const struct hyperv_config *asked, const struct hyperv_report *report,
			   struct err *err)
{
	char list[ERR_TEXT_BYTES] = "", one[128];
	for (size_t i = 0; i < asked->require_count; i++) {
		reason(report, row_at(asked->require[i]), one, sizeof(one));
		if (one[0])
			append(list, sizeof(list), "; ", one);
	}
	return list[0] ? err_set(err, -EOPNOTSUPP, "cpu.hyperv.require: cannot be had: %s", list) : 0;
}

int hyperv_resolve(const struct cpuid_table *offered, const struct hyperv_config *asked,
		   enum cpu_nested nested, struct hyperv_config *ret, struct hyperv_report *report,
		   struct err *err)
{
	struct hyperv_words host;
	struct hyperv_report own;
	struct hyperv_report *told = report ? report : &own;

	*told = (struct hyperv_report){0};
	*ret = *asked;
	if (!asked->enabled)
		return 0;
	hyperv_words_read(offered, &host);
	if (!(host.features_eax & FEATURE_HYPERCALL))
		return err_set(err, -EOPNOTSUPP,
			       "cpu.hyperv: this host's KVM has no Hyper-V interface (CONFIG_KVM_HYPERV)");
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		bool *on = switch_at(ret, rows[i].offset);
		if (*on)
			told->switches[i].fate = fate_alone(&rows[i], &host, nested);
		*on = *on && told->switches[i].fate == HYPERV_GIVEN;
	}
	drop_needy(ret, nested, told);
	return refuse_required(asked, told, err);
}

void hyperv_left_out(const struct hyperv_report *report, char *text, size_t bytes)
{
	char one[128];
	text[0] = '\0';
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		enum hyperv_fate fate = report->switches[i].fate;
		if (fate != HYPERV_NOT_OFFERED && fate != HYPERV_NEEDS)
			continue; /* an AMD machine is not short of an enlightened VMCS */
		if (fate == HYPERV_NEEDS &&
		    report->switches[report->switches[i].because].fate == HYPERV_VMX_ONLY)
			continue;
		reason(report, i, one, sizeof(one));
		append(text, bytes, "; ", one);
	}
}

void hyperv_words_of(const struct hyperv_config *given, struct hyperv_words *ret)
{
	*ret = (struct hyperv_words){.features_eax = FEATURE_HYPERCALL};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (asked_for(given, rows[i].offset))
			hyperv_words_add(ret, &rows[i].words);
}
