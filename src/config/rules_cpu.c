/* Rules between the keys of "cpu". */
#include "rules.h"

#include <stddef.h>
#include <string.h>

static const cJSON *member(const cJSON *object, const char *name)
{
	return cJSON_GetObjectItemCaseSensitive(object, name);
}

/* The entry of `names` that is `name`; `count` if there is none. */
static size_t name_index(const char *const *names, size_t count, const char *name)
{
	size_t i = 0;
	while (i < count && strcmp(names[i], name) != 0)
		i++;
	return i;
}

/* One feature cannot be wanted and unwanted. */
int rule_cpu(const struct decode *d, const struct place *at, const cJSON *node, void *fields)
{
	const struct cpu_config *cpu = fields;
	const struct {
		const char *key;
		const char *const *names;
		size_t count;
	} wanted[] = {{"require", cpu->require, cpu->require_count},
		      {"prefer", cpu->prefer, cpu->prefer_count}};
	const struct place list_at = {.parent = at, .name = "disable"};
	for (size_t i = 0; i < cpu->disable_count; i++) {
		const struct place item_at = {.parent = &list_at, .index = i};
		for (size_t w = 0; w < 2; w++) {
			size_t found = name_index(wanted[w].names, wanted[w].count, cpu->disable[i]);
			if (found < wanted[w].count)
				return refuse(
					d, &item_at, cJSON_GetArrayItem(member(node, "disable"), (int)i),
					"\"%s\" is also cpu.%s.%zu", cpu->disable[i], wanted[w].key, found);
		}
	}
	return 0;
}

#define HYPERV(m) offsetof(struct hyperv_config, m), #m

/*
 * What does not work without what. Of the TLFS: the SynIC, flushes and IPIs name vCPUs by VP index; timers
 * count in reference time and speak through the SynIC; the enlightened VMCS and the assist for L2's flushes
 * are announced in the VP assist page, which comes with vapic. In an order that decides each row after those
 * that it needs.
 */
static const struct {
	size_t offset;
	const char *name;
	size_t needs;
	const char *needs_name;
} hyperv_needs[] = {
	{HYPERV(synic), HYPERV(vpindex)},
	{HYPERV(stimer), HYPERV(synic)},
	{HYPERV(stimer), HYPERV(time)},
	{HYPERV(stimer_direct), HYPERV(stimer)},
	{HYPERV(tlbflush), HYPERV(vpindex)},
	{HYPERV(tlbflush_ext), HYPERV(tlbflush)},
	{HYPERV(tlbflush_direct), HYPERV(tlbflush)},
	{HYPERV(tlbflush_direct), HYPERV(vapic)},
	{HYPERV(ipi), HYPERV(vpindex)},
	{HYPERV(evmcs), HYPERV(vapic)},
};
enum { HYPERV_NEEDS = sizeof(hyperv_needs) / sizeof(hyperv_needs[0]) };

static bool *hyperv_switch(struct hyperv_config *hyperv, size_t offset)
{
	return (bool *)((char *)hyperv + offset);
}

int rule_hyperv(const struct decode *d, const struct place *at, const cJSON *node, void *fields)
{
	struct hyperv_config *hyperv = fields;
	/* Not said: on, as far as what it needs is. */
	for (size_t i = 0; i < HYPERV_NEEDS; i++)
		if (!member(node, hyperv_needs[i].name))
			*hyperv_switch(hyperv, hyperv_needs[i].offset) = true;
	for (size_t i = 0; i < HYPERV_NEEDS; i++) {
		const struct place key_at = {.parent = at, .name = hyperv_needs[i].name};
		const cJSON *said = member(node, hyperv_needs[i].name);
		bool *on = hyperv_switch(hyperv, hyperv_needs[i].offset);
		if (!*on || *hyperv_switch(hyperv, hyperv_needs[i].needs))
			continue;
		if (said)
			return refuse(d, &key_at, said, "needs cpu.hyperv.%s, which is off%s",
				      hyperv_needs[i].needs_name,
				      strcmp(hyperv_needs[i].needs_name, "vapic") == 0
					      ? " (the VP assist page comes with it)"
					      : "");
		*on = false;
	}
	for (size_t i = 0; i < hyperv->require_count; i++) {
		const struct place list_at = {.parent = at, .name = "require"};
		const struct place item_at = {.parent = &list_at, .index = i};
		if (!*hyperv_switch(hyperv, hyperv->require[i]))
			return refuse(d, &item_at, cJSON_GetArrayItem(member(node, "require"), (int)i),
				      "is required, and off or without what it needs");
	}
	return 0;
}
