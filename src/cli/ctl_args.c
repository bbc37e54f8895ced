#include "ctl.h"

#include "base/cleanup.h"
#include "config/json.h"
#include "config/json_scan.h"
#include "config/suggest.h"
#include "control/commands.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

static const struct command_arg *arg_find(const struct command_info *info, const char *name, size_t len)
{
	for (size_t i = 0; i < COMMAND_ARGS_MAX && info->args[i].name; i++)
		if (strlen(info->args[i].name) == len && memcmp(info->args[i].name, name, len) == 0)
			return &info->args[i];
	return NULL;
}

/* "512", "0x200", "512M": digits, then a power of 1024 if units are allowed. */
static bool parse_number(const char *text, bool units, uint64_t *ret)
{
	static const char letters[] = "KMGTP";
	char *end;
	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	unsigned long long value = strtoull(text, &end, strncasecmp(text, "0x", 2) == 0 ? 16 : 10);
	const char *letter = units && *end ? strchr(letters, *end & ~0x20) : NULL;
	unsigned shift = letter ? 10 * (unsigned)(letter - letters + 1) : 0;
	if (letter)
		end += 1 + (strcasecmp(end + 1, "iB") == 0 ? 2 : 0);
	*ret = value << shift;
	return errno == 0 && !*end && value <= UINT64_MAX >> shift;
}

static cJSON *make_number(uint64_t value)
{
	char text[24];
	(void)snprintf(text, sizeof(text), "%" PRIu64, value);
	return cJSON_CreateRaw(text);
}

static cJSON *make_bool(const char *text)
{
	static const char *const yes[] = {"true", "yes", "on"}, *const no[] = {"false", "no", "off"};
	for (size_t i = 0; i < ARRAY_LEN(yes); i++) {
		if (strcasecmp(text, yes[i]) == 0)
			return cJSON_CreateTrue();
		if (strcasecmp(text, no[i]) == 0)
			return cJSON_CreateFalse();
	}
	return NULL;
}

static cJSON *make_path(const char *text)
{
	char folder[PATH_MAX], path[2 * PATH_MAX];
	if (text[0] == '/' || !getcwd(folder, sizeof(folder)))
		return cJSON_CreateString(text);
	(void)snprintf(path, sizeof(path), "%s/%s", folder, text);
	return cJSON_CreateString(path);
}

static cJSON *make_json(const char *text)
{
	struct err err = ERR_INIT;
	cJSON *value = NULL;
	return json_parse("", text, strlen(text), 0, &value, &err) == 0 ? value : NULL;
}

/* "a,b", or a JSON list. */
static cJSON *make_texts(const char *text)
{
	if (text[0] == '[')
		return make_json(text);
	cJSON *list = cJSON_CreateArray();
	while (*text) {
		size_t len = strcspn(text, ",");
		_cleanup_free_ char *word = strndup(text, len);
		cJSON_AddItemToArray(list, cJSON_CreateString(word ? word : ""));
		text += len + (text[len] != '\0');
	}
	return list;
}

/* NULL: not of that type. Ranges are the server's to judge. */
static cJSON *make_value(const struct command_arg *arg, const char *text)
{
	uint64_t number;
	switch (arg->type) {
	case ARG_BOOL:
		return make_bool(text);
	case ARG_UINT:
	case ARG_BYTES:
		return parse_number(text, arg->type == ARG_BYTES, &number) ? make_number(number) : NULL;
	case ARG_TEXT:
	case ARG_CHOICE:
		return cJSON_CreateString(text);
	case ARG_PATH:
		return make_path(text);
	case ARG_TEXTS:
		return make_texts(text);
	case ARG_OBJECT:
	case ARG_LIST:
		return make_json(text);
	}
	return NULL;
}

/* Without a table: JSON where it is JSON, else a text. */
static cJSON *guess_value(const char *text)
{
	cJSON *value = make_json(text);
	return value ? value : cJSON_CreateString(text);
}

static int refuse_unknown(const struct command_info *info, const char *name, int len, struct err *err)
{
	_cleanup_free_ char *copy = strndup(name, (size_t)len);
	struct suggestion nearest = suggestion_for(copy ? copy : "");
	for (size_t i = 0; i < COMMAND_ARGS_MAX && info->args[i].name; i++)
		suggestion_try(&nearest, info->args[i].name);
	if (nearest.best)
		return err_set(err, -EINVAL, "%s: \"%.*s\" is not an argument (did you mean \"%s\"?)",
			       info->name, len, name, nearest.best);
	return err_set(err, -EINVAL, "%s: \"%.*s\" is not an argument (see aerie ctl --help %s)", info->name,
		       len, name, info->name);
}

static int add_word(const struct command_info *info, const char *word, cJSON *arguments, struct err *err)
{
	size_t len = strcspn(word, "=");
	const char *text = word[len] ? word + len + 1 : NULL;
	const struct command_arg *arg = info ? arg_find(info, word, len) : NULL;
	char expects[512], quoted[80];
	if (!json_is_utf8(word))
		return err_set(err, -EINVAL, "an argument is not UTF-8");
	if (info && !arg)
		return refuse_unknown(info, word, (int)len, err);
	if (!text && !(arg && arg->type == ARG_BOOL))
		return err_set(err, -EINVAL, "\"%s\" has no value (KEY=VALUE is expected)", word);
	_cleanup_json_ cJSON *value = arg ? make_value(arg, text ? text : "true") : guess_value(text);
	if (!value)
		return err_set(err, -EINVAL, "%s: %s is %s, expected %s", info->name, arg->name,
			       json_quote(text, quoted, sizeof(quoted)),
			       control_arg_expects(arg, expects, sizeof(expects)));
	_cleanup_free_ char *name = strndup(word, len);
	if (!name)
		return err_sys(err, -ENOMEM, "arguments");
	if (cJSON_GetObjectItemCaseSensitive(arguments, name))
		return err_set(err, -EINVAL, "%s is given twice", name);
	cJSON_AddItemToObject(arguments, name, take_ptr(value));
	return 0;
}

int ctl_arguments(const char *command, char *const *words, size_t count, cJSON **ret, struct err *err)
{
	const struct command_info *info = control_command_find(command);
	_cleanup_json_ cJSON *arguments = cJSON_CreateObject();
	if (!arguments)
		return err_sys(err, -ENOMEM, "arguments");
	for (size_t i = 0; i < count; i++) {
		int r = add_word(info, words[i], arguments, err);
		if (r < 0)
			return r;
	}
	*ret = take_ptr(arguments);
	return 0;
}
