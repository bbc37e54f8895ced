#include "command.h"

#include "config/json.h"
#include "config/suggest.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct command *const command_tables[] = {
	commands_machine,  commands_devices, commands_stats,   commands_jobs,
	commands_snapshot, commands_nested,  commands_migrate, NULL,
};

/* ---- the tables ---- */

const struct command *command_find(const struct command *const *tables, const char *name)
{
	for (; *tables; tables++)
		for (const struct command *command = *tables; command->info.name; command++)
			if (strcmp(command->info.name, name) == 0)
				return command;
	return NULL;
}

static bool is_one_of(const struct command *command, const char *const *names, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(command->info.name, names[i]) == 0)
			return true;
	return false;
}

bool command_is_quick(const struct command *command)
{
	static const char *const names[] = {"query-version",
					    "query-commands",
					    "query-name",
					    "query-kvm",
					    "query-memory-size-summary",
					    "query-cpus-fast",
					    "query-status",
					    "query-jobs",
					    "query-migrate",
					    "query-migrate-parameters",
					    "migrate-recover",
					    "migrate_cancel",
					    "system_reset",
					    "quit"};
	return is_one_of(command, names, sizeof(names) / sizeof(names[0]));
}

bool command_changes_guest(const struct command *command)
{
	static const char *const names[] = {"system_reset", "system_powerdown", "balloon", "block_resize",
					    "set_link"};
	return is_one_of(command, names, sizeof(names) / sizeof(names[0]));
}

const char *command_nearest(const struct command *const *tables, const char *name)
{
	struct suggestion nearest = suggestion_for(name);
	for (; *tables; tables++)
		for (const struct command *command = *tables; command->info.name; command++)
			suggestion_try(&nearest, command->info.name);
	return nearest.best;
}

const struct command_info *control_command(size_t index)
{
	for (const struct command *const *table = command_tables; *table; table++)
		for (const struct command *command = *table; command->info.name; command++)
			if (index-- == 0)
				return &command->info;
	return NULL;
}

const struct command_info *control_command_find(const char *name)
{
	const struct command *command = command_find(command_tables, name);
	return command ? &command->info : NULL;
}

const char *control_command_nearest(const char *name)
{
	return command_nearest(command_tables, name);
}

/* ---- arguments ---- */

static void expects_choice(const struct command_arg *arg, char *text, size_t size)
{
	size_t used = 0;
	for (const char *const *word = arg->words; *word && used < size; word++) {
		const char *between = word == arg->words ? "" : word[1] ? ", " : " or ";
		int n = snprintf(text + used, size - used, "%s\"%s\"", between, *word);
		used += n > 0 ? (size_t)n : 0;
	}
}

const char *control_arg_expects(const struct command_arg *arg, char *text, size_t size)
{
	text[0] = '\0';
	switch (arg->type) {
	case ARG_BOOL:
		(void)snprintf(text, size, "true or false");
		break;
	case ARG_UINT:
		(void)snprintf(text, size, "a whole number from %" PRIu64 " to %" PRIu64, arg->min, arg->max);
		break;
	case ARG_BYTES:
		(void)snprintf(text, size, "a number of bytes from %" PRIu64 " to %" PRIu64, arg->min,
			       arg->max);
		break;
	case ARG_TEXT:
		(void)snprintf(text, size, "a text of %" PRIu64 " to %" PRIu64 " bytes", arg->min, arg->max);
		break;
	case ARG_PATH:
		(void)snprintf(text, size, "a path");
		break;
	case ARG_CHOICE:
		expects_choice(arg, text, size);
		break;
	case ARG_TEXTS:
		(void)snprintf(text, size, "a list of texts");
		break;
	case ARG_OBJECT:
		(void)snprintf(text, size, "an object");
		break;
	case ARG_LIST:
		(void)snprintf(text, size, "a list");
		break;
	}
	return text;
}

static bool get_number(const struct command_arg *arg, const cJSON *node, uint64_t *ret)
{
	if (!cJSON_IsRaw(node) || strspn(node->valuestring, "0123456789") != strlen(node->valuestring))
		return false;
	errno = 0;
	unsigned long long value = strtoull(node->valuestring, NULL, 10);
	*ret = value;
	return errno == 0 && value >= arg->min && value <= arg->max;
}

static bool get_choice(const struct command_arg *arg, const cJSON *node, size_t *ret)
{
	for (size_t i = 0; cJSON_IsString(node) && arg->words[i]; i++) {
		if (strcmp(arg->words[i], node->valuestring) == 0) {
			*ret = i;
			return true;
		}
	}
	return false;
}

static bool is_texts(const cJSON *node)
{
	const cJSON *item;
	if (!cJSON_IsArray(node))
		return false;
	cJSON_ArrayForEach(item, node)
	{
		if (!cJSON_IsString(item))
			return false;
	}
	return true;
}

/* False: not what the row asks for. */
static bool get_value(const struct command_arg *arg, const cJSON *node, struct value *ret)
{
	*ret = (struct value){.given = true, .json = node, .text = cJSON_GetStringValue(node)};
	switch (arg->type) {
	case ARG_BOOL:
		ret->flag = cJSON_IsTrue(node);
		return cJSON_IsBool(node);
	case ARG_UINT:
	case ARG_BYTES:
		return get_number(arg, node, &ret->number);
	case ARG_TEXT:
		return cJSON_IsString(node) && strlen(ret->text) >= arg->min && strlen(ret->text) <= arg->max;
	case ARG_PATH:
		return cJSON_IsString(node) && ret->text[0] && strlen(ret->text) < PATH_MAX;
	case ARG_CHOICE:
		return get_choice(arg, node, &ret->choice);
	case ARG_TEXTS:
		return is_texts(node);
	case ARG_OBJECT:
		return cJSON_IsObject(node);
	case ARG_LIST:
		return cJSON_IsArray(node);
	}
	return false;
}

static size_t arg_count(const struct command_info *info)
{
	size_t count = 0;
	while (count < COMMAND_ARGS_MAX && info->args[count].name)
		count++;
	return count;
}

static int refuse_unknown(const struct command_info *info, const char *name, struct err *err)
{
	struct suggestion nearest = suggestion_for(name);
	char quoted[80], takes[512] = "";
	size_t used = 0, count = arg_count(info);
	for (size_t i = 0; i < count && used < sizeof(takes); i++) {
		suggestion_try(&nearest, info->args[i].name);
		int n = snprintf(takes + used, sizeof(takes) - used, "%s%s", i ? ", " : "",
				 info->args[i].name);
		used += n > 0 ? (size_t)n : 0;
	}
	(void)json_quote(name, quoted, sizeof(quoted));
	if (nearest.best)
		return err_set(err, -EINVAL, "%s: %s is not an argument (did you mean \"%s\"?)", info->name,
			       quoted, nearest.best);
	return err_set(err, -EINVAL, "%s: %s is not an argument (it takes %s)", info->name, quoted,
		       count ? takes : "none");
}

static int get_argument(const struct command_info *info, const cJSON *node, struct value *values,
			struct err *err)
{
	char expects[512], is[96];
	for (size_t i = 0, count = arg_count(info); i < count; i++) {
		const struct command_arg *arg = &info->args[i];
		if (strcmp(arg->name, node->string) != 0)
			continue;
		if (values[i].given)
			return err_set(err, -EINVAL, "%s: \"%s\" is given twice", info->name, arg->name);
		if (get_value(arg, node, &values[i]))
			return 0;
		return err_set(err, -EINVAL, "%s: \"%s\" is %s, expected %s", info->name, arg->name,
			       json_describe(node, is, sizeof(is)),
			       control_arg_expects(arg, expects, sizeof(expects)));
	}
	return refuse_unknown(info, node->string, err);
}

int command_values(const struct command_info *info, const cJSON *arguments, struct value *ret,
		   struct err *err)
{
	const cJSON *node;
	char expects[512];
	memset(ret, 0, COMMAND_ARGS_MAX * sizeof(*ret));
	cJSON_ArrayForEach(node, arguments)
	{
		int r = get_argument(info, node, ret, err);
		if (r < 0)
			return r;
	}
	for (size_t i = 0, count = arg_count(info); i < count; i++)
		if (!info->args[i].optional && !ret[i].given)
			return err_set(err, -EINVAL, "%s: \"%s\" is missing, expected %s", info->name,
				       info->args[i].name,
				       control_arg_expects(&info->args[i], expects, sizeof(expects)));
	return 0;
}

/* ---- numbers ---- */

cJSON *json_u64(uint64_t value)
{
	char text[24];
	(void)snprintf(text, sizeof(text), "%" PRIu64, value);
	return cJSON_CreateRaw(text);
}

cJSON *json_add_u64(cJSON *object, const char *name, uint64_t value)
{
	char text[24];
	(void)snprintf(text, sizeof(text), "%" PRIu64, value);
	return cJSON_AddRawToObject(object, name, text);
}
