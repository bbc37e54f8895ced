/*
 * The greatest common processor.
 *
 * What all hosts give when each gives everything is the largest set there can be. It is written down in the
 * way that holds best: as the named model that covers most of it, plus the rest by name. Then a host that
 * joins later and has more gives the same guest, and one that has less refuses to start it. Only hosts older
 * than any named model get "host" less a list.
 */
#include "cpu/compare.h"

#include "base/cleanup.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

struct search {
	const struct cpu_host *const *hosts;
	const char *const *names;
	size_t count;
	bool common[CPU_FEATURES_MAX]; /* what every host can give */
	struct cpu_model model;
	struct cpu_report report;
};

static int gather(struct search *s, struct err *err)
{
	const struct cpu_config all = {.model = "host"};
	for (size_t i = 0; i < cpu_feature_count(); i++)
		s->common[i] = true;
	for (size_t h = 0; h < s->count; h++) {
		if (cpu_resolve(s->hosts[h], &all, NESTED_AUTO, &s->model, &s->report, err))
			return err_prepend(err, "%s", s->names[h]);
		for (size_t i = 0; i < cpu_feature_count(); i++)
			s->common[i] &= s->report.features[i].fate == CPU_GIVEN;
	}
	return 0;
}

/* What `config` gives: by every host into `everywhere`, by one at least into `anywhere`. */
static bool given_by(struct search *s, const struct cpu_config *config, bool *everywhere, bool *anywhere)
{
	for (size_t i = 0; i < cpu_feature_count(); i++) {
		everywhere[i] = true;
		anywhere[i] = false;
	}
	for (size_t h = 0; h < s->count; h++) {
		struct err ignored = ERR_INIT; /* a host that cannot be this is an answer here */
		if (cpu_resolve(s->hosts[h], config, NESTED_AUTO, &s->model, &s->report, &ignored))
			return false;
		for (size_t i = 0; i < cpu_feature_count(); i++) {
			bool given = s->report.features[i].fate == CPU_GIVEN;
			everywhere[i] &= given;
			anywhere[i] |= given;
		}
	}
	return true;
}

/* `model`, less what not all have, and with the rest of what all have. Does it give exactly that on each? */
static bool complete(struct search *s, const char *model, struct cpu_config *ret)
{
	bool everywhere[CPU_FEATURES_MAX] = {false}, anywhere[CPU_FEATURES_MAX] = {false};
	*ret = (struct cpu_config){.model = model};
	if (!given_by(s, ret, everywhere, anywhere))
		return false;
	for (size_t i = 0; i < cpu_feature_count(); i++) {
		bool drop = anywhere[i] && !s->common[i], add = s->common[i] && !everywhere[i];
		if ((drop && ret->disable_count == CONFIG_CPU_FEATURES_MAX) ||
		    (add && ret->require_count == CONFIG_CPU_FEATURES_MAX))
			return false;
		if (drop)
			ret->disable[ret->disable_count++] = cpu_feature_at(i)->name;
		if (add)
			ret->require[ret->require_count++] = cpu_feature_at(i)->name;
	}
	if (!given_by(s, ret, everywhere, anywhere))
		return false;
	for (size_t i = 0; i < cpu_feature_count(); i++)
		if (everywhere[i] != s->common[i] || anywhere[i] != s->common[i])
			return false;
	return true;
}

/* The named model that needs the fewest words beside it, else "host". */
static bool choose_model(struct search *s, struct cpu_config *ret)
{
	_cleanup_free_ struct cpu_config *config = calloc(1, sizeof(*config));
	size_t best = SIZE_MAX;
	for (size_t m = 0; config && cpu_model_at(m); m++) {
		const char *model = cpu_model_at(m)->name;
		if (strcmp(model, "host") == 0 || !complete(s, model, config))
			continue;
		size_t words = config->disable_count + config->require_count;
		if (words < best) {
			best = words;
			*ret = *config;
		}
	}
	return best < SIZE_MAX || complete(s, "host", ret);
}

/* Where TSCs run at different rates, the slowest rate is one that all that can scale can have. */
static void choose_tsc(const struct search *s, struct cpu_config *ret)
{
	uint32_t slowest = s->hosts[0]->tsc_khz;
	bool differ = false;
	for (size_t h = 1; h < s->count; h++) {
		uint32_t khz = s->hosts[h]->tsc_khz;
		differ |= khz != s->hosts[0]->tsc_khz;
		if (khz && (!slowest || khz < slowest))
			slowest = khz;
	}
	/* One that cannot scale decides, whatever its rate. */
	for (size_t h = 0; h < s->count; h++)
		if (!s->hosts[h]->tsc_control && s->hosts[h]->tsc_khz)
			slowest = s->hosts[h]->tsc_khz;
	ret->tsc_khz = differ ? slowest : 0;
}

struct first {
	char text[256];
};

static void keep_first(const struct cpu_obstacle *obstacle, void *data)
{
	struct first *first = data;
	if (!first->text[0])
		(void)snprintf(first->text, sizeof(first->text), "%s: %s", obstacle->name, obstacle->why);
}

static int check_all_pairs(const struct search *s, const struct cpu_config *config, struct err *err)
{
	for (size_t a = 0; a < s->count; a++) {
		for (size_t b = 0; b < s->count; b++) {
			struct first first = {.text = ""};
			int n = cpu_compare(s->hosts[a], config, NESTED_AUTO, s->hosts[b], keep_first, &first,
					    err);
			if (n < 0)
				return err_prepend(err, "%s", s->names[a]);
			if (n > 0)
				return err_set(err, -EOPNOTSUPP,
					       "no processor is common to all: from %s to %s: %s",
					       s->names[a], s->names[b], first.text);
		}
	}
	return 0;
}

int cpu_baseline(const struct cpu_host *const *hosts, const char *const *names, size_t count,
		 struct cpu_config *ret, struct err *err)
{
	_cleanup_free_ struct search *s = calloc(1, sizeof(*s));
	if (!s)
		return err_sys(err, -ENOMEM, "comparing hosts");
	*s = (struct search){.hosts = hosts, .names = names, .count = count};
	if (gather(s, err))
		return err->code;
	if (!choose_model(s, ret))
		return err_set(err, -EOPNOTSUPP,
			       "no processor is common to all: the differences are more than %d features",
			       CONFIG_CPU_FEATURES_MAX);
	choose_tsc(s, ret);
	return check_all_pairs(s, ret, err);
}
