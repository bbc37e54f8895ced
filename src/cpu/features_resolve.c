/*
 * The resolver: what the host offers and what was asked for, to what L1 gets and why not the rest.
 *
 * 1. Each row: offered, disabled, wanted (by the model, "require" or "prefer")? That gives its first fate.
 * 2. Whatever lacks one of its needs falls, until nothing falls any more. The result does not depend on the
 *    order of rows: a row falls when it cannot stand, and what has fallen never rises.
 * 3. Only then is it judged: what is required or belongs to the model must have survived.
 */
#include "cpu/features.h"

#include "base/cleanup.h"
#include "config/suggest.h"
#include "feature_table.h"
#include "hyperv_evmcs.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct resolver {
	const struct cpu_host *host;
	const struct model *model;
	enum cpu_vendor vendor;
	bool nested_off;
	bool evmcs; /* L1 gets the enlightened VMCS */
	uint64_t offered[WORD_COUNT], fixed[WORD_COUNT];
	bool wanted[F_COUNT], required[F_COUNT], disabled[F_COUNT], given[F_COUNT];
	struct cpu_report *report;
};

static void set_fate(struct resolver *r, enum feature_id id, enum cpu_fate fate, enum feature_id because)
{
	r->report->features[id - 1].fate = fate;
	r->report->features[id - 1].because = (uint16_t)(because ? because - 1 : 0);
	r->given[id] = fate == CPU_GIVEN;
}

static enum cpu_fate fate_of(const struct resolver *r, enum feature_id id)
{
	return r->report->features[id - 1].fate;
}

/* Names of one config list into flags (NULL: only look whether there are such). */
static int mark(const char *key, const char *const *names, size_t count, bool *flags, struct err *err)
{
	for (size_t i = 0; i < count; i++) {
		size_t index;
		if (cpu_feature_find(names[i], &index, err) < 0) {
			err->code = -EINVAL;
			return err_prepend(err, "cpu.%s", key);
		}
		if (flags)
			flags[index + 1] = true;
	}
	return 0;
}

static void want(struct resolver *r, const uint16_t *const *lists)
{
	for (; lists && *lists; lists++)
		for (const uint16_t *id = *lists; *id; id++)
			r->wanted[*id] = true;
}

/* VMX or SVM, if the feature is a part of it. */
static enum feature_id nested_root(enum feature_id id)
{
	enum cpu_vendor only = feature_words[feature_rows[id].word].vendor;
	if (id == F_VMX || only == VENDOR_INTEL)
		return F_VMX;
	return id == F_SVM || only == VENDOR_AMD ? F_SVM : F_NONE;
}

static bool other_vendor(const struct resolver *r, enum feature_id id)
{
	enum feature_id root = nested_root(id);
	return root && (root == F_VMX) != (r->vendor == VENDOR_INTEL);
}

/* A hint is a promise of the operator's, not something that a host has: nobody gets it unasked. */
static bool only_when_asked(enum feature_id id)
{
	return id == F_KVM_HINT_DEDICATED;
}

static void first_fates(struct resolver *r, const bool *preferred)
{
	for (int i = 1; i < F_COUNT; i++) {
		enum feature_id id = (enum feature_id)i;
		const struct feature_row *row = &feature_rows[id];
		bool asked = r->required[id] || preferred[id];
		bool wanted = asked || r->wanted[id] || (r->model->passes_host && !only_when_asked(id));
		/* A control that KVM fixes to 1 is there whatever anybody wants. */
		wanted |= (r->fixed[row->word] & feature_mask(id)) != 0;
		if (other_vendor(r, id))
			set_fate(r, id, CPU_OTHER_VENDOR, F_NONE);
		else if (!(r->offered[row->word] & feature_mask(id)))
			set_fate(r, id, CPU_NOT_OFFERED, F_NONE);
		else if (r->disabled[id] || (r->nested_off && (id == F_VMX || id == F_SVM)))
			set_fate(r, id, CPU_DISABLED, F_NONE);
		else if (r->evmcs && !hyperv_evmcs_holds((enum feature_word)row->word, feature_mask(id),
							 &r->host->hyperv))
			set_fate(r, id, CPU_NOT_WITH_EVMCS, F_NONE);
		else
			set_fate(r, id, wanted ? CPU_GIVEN : CPU_NOT_IN_MODEL, F_NONE);
	}
}

static void drop_what_lacks(struct resolver *r)
{
	for (bool changed = true; changed;) {
		changed = false;
		for (int i = 1; i < F_COUNT; i++) {
			const uint16_t *need = feature_rows[i].needs;
			while (r->given[i] && *need && r->given[*need])
				need++;
			if (!r->given[i] || !*need)
				continue;
			set_fate(r, (enum feature_id)i, CPU_NEEDS, (enum feature_id) * need);
			changed = true;
		}
	}
}

/* Does it lack only because the operator took away something? */
static bool by_wish(const struct resolver *r, enum feature_id id)
{
	enum feature_id root = nested_root(id);
	if (root && (r->nested_off || r->disabled[root]))
		return true;
	for (int depth = 0; depth < F_COUNT && !r->disabled[id] && fate_of(r, id) == CPU_NEEDS; depth++)
		id = (enum feature_id)(r->report->features[id - 1].because + 1);
	return r->disabled[id] || fate_of(r, id) == CPU_NOT_WITH_EVMCS;
}

void cpu_report_reason(const struct cpu_report *report, size_t feature, char *text, size_t bytes)
{
	static const char *const why[] = {
		[CPU_GIVEN] = "given",
		[CPU_NOT_OFFERED] = "not offered by this host",
		[CPU_OTHER_VENDOR] = "of the other processor vendor",
		[CPU_NOT_IN_MODEL] = "not in the model",
		[CPU_DISABLED] = "disabled",
		[CPU_NOT_WITH_EVMCS] = "not in the enlightened VMCS (cpu.hyperv.evmcs)",
	};
	size_t at = 0;
	int n = snprintf(text, bytes, "%s: ", feature_rows[feature + 1].is.name);
	for (int depth = 0; n >= 0 && (at += (size_t)n) < bytes && depth < 8; depth++) {
		enum cpu_fate fate = report->features[feature].fate;
		if (fate != CPU_NEEDS) {
			(void)snprintf(text + at, bytes - at, "%s%s",
				       depth && fate != CPU_GIVEN ? "which is " : "", why[fate]);
			return;
		}
		feature = report->features[feature].because;
		n = snprintf(text + at, bytes - at, "%sneeds %s, ", depth ? "which " : "",
			     feature_rows[feature + 1].is.name);
	}
}

/* What is lacking, as much of it as fits into a message. */
struct shortfall {
	char text[ERR_TEXT_BYTES - 200];
	size_t length;
	unsigned more;
};

static void shortfall_add(struct shortfall *list, const char *between, const char *what)
{
	size_t room = sizeof(list->text) - list->length;
	if (list->more || strlen(what) + strlen(between) >= room) {
		list->more++;
		return;
	}
	int n = snprintf(list->text + list->length, room, "%s%s", list->length ? between : "", what);
	list->length += (size_t)n;
}

static const char *shortfall_more(const struct shortfall *list, char *text, size_t bytes)
{
	if (list->more)
		(void)snprintf(text, bytes, " and %u more", list->more);
	else
		*text = '\0';
	return text;
}

static int check_required(const struct resolver *r, struct err *err)
{
	struct shortfall list = {.length = 0};
	char more[32], reason[256];
	for (size_t i = 1; i < F_COUNT; i++) {
		if (!r->required[i] || r->given[i])
			continue;
		cpu_report_reason(r->report, i - 1, reason, sizeof(reason));
		shortfall_add(&list, "; ", reason);
	}
	if (!list.length)
		return 0;
	return err_set(err, -EOPNOTSUPP, "cpu.require: %s%s", list.text,
		       shortfall_more(&list, more, sizeof(more)));
}

static int check_model(const struct resolver *r, struct err *err)
{
	struct shortfall list = {.length = 0};
	char more[32];
	for (const uint16_t *const *must = r->model->must; must && *must; must++)
		for (const uint16_t *id = *must; *id; id++)
			if (!r->given[*id] && !by_wish(r, (enum feature_id) * id))
				shortfall_add(&list, ", ", feature_rows[*id].is.name);
	if (!list.length)
		return 0;
	return err_set(err, -EOPNOTSUPP,
		       "cpu.model: \"%s\" has what this host does not offer (\"disable\" it, or take another "
		       "model): %s%s",
		       r->model->is.name, list.text, shortfall_more(&list, more, sizeof(more)));
}

static int check_disabled(const struct resolver *r, struct err *err)
{
	for (int i = 1; i < F_COUNT; i++)
		if (r->disabled[i] && r->required[i])
			return err_set(err, -EINVAL, "cpu.disable: \"%s\" is also in cpu.require",
				       feature_rows[i].is.name);
	return 0;
}

/* A control that the host's KVM fixes to 1 is there for L1, whatever was disabled. */
static int check_fixed(const struct resolver *r, struct err *err)
{
	char reason[256];
	for (size_t i = 1; i < F_COUNT && r->given[F_VMX]; i++) {
		if (r->given[i] || !(r->fixed[feature_rows[i].word] & feature_mask((enum feature_id)i)))
			continue;
		cpu_report_reason(r->report, i - 1, reason, sizeof(reason));
		return err_set(err, -EOPNOTSUPP, "cpu.disable: %s, and this host's KVM fixes it to 1",
			       reason);
	}
	return 0;
}

static enum cpu_nested nested_given(const struct resolver *r)
{
	return r->given[F_VMX] ? CPU_NESTED_VMX : r->given[F_SVM] ? CPU_NESTED_SVM : CPU_NESTED_NONE;
}

/* What "nested" says, against what became of VMX and SVM. */
static int check_nested(const struct resolver *r, enum nested_mode nested, enum cpu_nested *ret,
			struct err *err)
{
	enum feature_id asked = nested == NESTED_VMX ? F_VMX : nested == NESTED_SVM ? F_SVM : F_NONE;
	char reason[256];

	*ret = nested_given(r);
	if (!asked || r->given[asked])
		return 0;
	const char *name = feature_rows[asked].is.name;
	switch (fate_of(r, asked)) {
	case CPU_OTHER_VENDOR:
		return err_set(
			err, -EOPNOTSUPP,
			asked == F_VMX
				? "nested: \"vmx\" is Intel's, and this host's CPU is AMD's (use "
				  "\"svm\" or \"auto\")"
				: "nested: \"svm\" is AMD's, and this host's CPU is not (use \"vmx\" or "
				  "\"auto\")");
	case CPU_NOT_OFFERED:
		return err_set(err, -EOPNOTSUPP,
			       "nested: this host does not offer %s to guests (ask 'aerie doctor')",
			       asked == F_VMX ? "VMX" : "SVM");
	default:
		cpu_report_reason(r->report, asked - 1U, reason, sizeof(reason));
		return err_set(err, -EINVAL, "nested: \"%s\", and yet %s", name, reason);
	}
}

static const struct model *named_model(const char *name, struct err *err)
{
	const struct model *model = model_find(name);
	struct suggestion near = suggestion_for(name);
	if (model)
		return model;
	for (size_t i = 0; cpu_model_at(i); i++)
		suggestion_try(&near, cpu_model_at(i)->name);
	(void)err_set(err, -EINVAL, "cpu.model: there is no model \"%s\" (%s%s%s)", name,
		      near.best ? "did you mean \"" : "", near.best ? near.best : "see 'aerie cpu list'",
		      near.best ? "\"?" : "");
	return NULL;
}

int cpu_names_check(const struct cpu_config *asked, struct err *err)
{
	if (!named_model(asked->model, err))
		return err->code;
	int code = mark("require", asked->require, asked->require_count, NULL, err);
	if (code == 0)
		code = mark("prefer", asked->prefer, asked->prefer_count, NULL, err);
	return code ? code : mark("disable", asked->disable, asked->disable_count, NULL, err);
}

static int find_model(struct resolver *r, const char *name, struct err *err)
{
	r->model = named_model(name ? name : "host", err);
	if (!r->model)
		return err->code;
	if (r->model->vendor != VENDOR_ANY && r->model->vendor != r->vendor)
		return err_set(err, -EOPNOTSUPP,
			       "cpu.model: \"%s\" is for %s processors, and this host has %s",
			       r->model->is.name, r->model->vendor == VENDOR_AMD ? "AMD's" : "Intel's",
			       r->vendor == VENDOR_AMD ? "AMD's" : "another");
	return 0;
}

/* The physical addresses of a model must fit the host: what it cannot address, it cannot map. */
static int check_width(const struct resolver *r, struct err *err)
{
	static const struct feature_word_info sizes = {.function = 0x80000008};
	unsigned host = feature_cpuid_get(&r->host->cpuid, &sizes) & 0xff;
	if (r->model->passes_host || host >= MODEL_PHYSICAL_BITS)
		return 0;
	return err_set(err, -EOPNOTSUPP,
		       "cpu.model: \"%s\" has %d bits of physical address, and this host has %u",
		       r->model->is.name, MODEL_PHYSICAL_BITS, host);
}

/* Which enlightenments there are depends on VMX or SVM alone; then an enlightened VMCS takes away what it
 * cannot hold. */
static int resolve_hyperv(struct resolver *r, const struct cpu_config *asked, const bool *preferred,
			  struct cpu_model *ret, struct err *err)
{
	int code = hyperv_resolve(&r->host->hyperv, &asked->hyperv, nested_given(r), &ret->hyperv,
				  &ret->hyperv_report, err);
	r->evmcs = code == 0 && ret->hyperv.enabled && ret->hyperv.evmcs;
	if (r->evmcs) {
		first_fates(r, preferred);
		drop_what_lacks(r);
	}
	return code;
}

static int resolve(struct resolver *r, const struct cpu_config *asked, enum nested_mode nested,
		   struct cpu_model *ret, struct err *err)
{
	bool preferred[F_COUNT] = {false};

	r->vendor = feature_vendor(r->host);
	for (int word = 0; word < WORD_COUNT; word++) {
		r->offered[word] = feature_offered(r->host, (enum feature_word)word);
		r->fixed[word] = feature_fixed(r->host, (enum feature_word)word);
	}
	int code = find_model(r, asked->model, err);
	if (code == 0)
		code = check_width(r, err);
	if (code == 0)
		code = mark("require", asked->require, asked->require_count, r->required, err);
	if (code == 0)
		code = mark("prefer", asked->prefer, asked->prefer_count, preferred, err);
	if (code == 0)
		code = mark("disable", asked->disable, asked->disable_count, r->disabled, err);
	if (code < 0)
		return code;

	want(r, r->model->must);
	want(r, r->model->may);
	r->nested_off = nested == NESTED_OFF;
	first_fates(r, preferred);
	drop_what_lacks(r);

	code = resolve_hyperv(r, asked, preferred, ret, err);
	if (code == 0)
		code = check_disabled(r, err);
	if (code == 0)
		code = check_fixed(r, err);
	if (code == 0)
		code = check_nested(r, nested, &ret->nested, err);
	if (code == 0)
		code = check_required(r, err);
	return code < 0 ? code : check_model(r, err);
}

int cpu_resolve(const struct cpu_host *host, const struct cpu_config *asked, enum nested_mode nested,
		struct cpu_model *ret, struct cpu_report *report, struct err *err)
{
	_cleanup_free_ struct resolver *r = calloc(1, sizeof(*r));
	_cleanup_free_ struct cpu_report *own = calloc(1, sizeof(*own));
	if (!r || !own)
		return err_sys(err, -ENOMEM, "CPU features");
	r->host = host;
	r->report = report ? report : own;
	memset(r->report, 0, sizeof(*r->report));
	memset(ret, 0, sizeof(*ret));
	int code = resolve(r, asked, nested, ret, err);
	if (code == 0)
		model_build(host, r->model, r->given, ret);
	if (code == 0 && ret->hyperv.enabled)
		code = hyperv_cpuid(&ret->hyperv, &host->hyperv, &ret->cpuid, err);
	return code;
}
