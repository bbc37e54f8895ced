/* aerie ctl: the control socket, for people and scripts. */
#include "ctl.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "cli/cli.h"
#include "config/json.h"
#include "control/commands.h"
#include "host/loop.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>

/* A command that takes longer than this is asked how far it is, and then each time anew. */
enum { PROGRESS_MS = 250, TIMEOUT_S = 30 };

struct ctl_options {
	bool json, events;
	uint64_t timeout_ns; /* 0: none */
	const char *path, *command;
	char *const *words;
	size_t word_count;
};

/* ---- help ---- */

static void print_arg(const struct command_arg *arg)
{
	char expects[512];
	print_out("  %s%s=...  %s; %s\n", arg->name, arg->optional ? " (optional)" : "", arg->doc,
		  control_arg_expects(arg, expects, sizeof(expects)));
}

static int help_command(const char *name)
{
	const struct command_info *info = control_command_find(name);
	const char *nearest = control_command_nearest(name);
	if (!info) {
		log_error("ctl: \"%s\" is not a command%s%s%s", name, nearest ? "; did you mean \"" : "",
			  nearest ? nearest : "", nearest ? "\"?" : "");
		return CLI_USAGE;
	}
	print_out("%s: %s\n", info->name, info->doc);
	for (size_t i = 0; i < COMMAND_ARGS_MAX && info->args[i].name; i++)
		print_arg(&info->args[i]);
	return CLI_OK;
}

/* The rows of the table in docs/control.md. */
static int print_commands(void)
{
	const struct command_info *info;
	char expects[512];
	for (size_t i = 0; (info = control_command(i)); i++) {
		print_out("| `%s` |", info->name);
		for (size_t a = 0; a < COMMAND_ARGS_MAX && info->args[a].name; a++) {
			const struct command_arg *arg = &info->args[a];
			print_out("%s `%s`%s: %s; %s", a ? "<br>" : "", arg->name,
				  arg->optional ? " (optional)" : "", arg->doc,
				  control_arg_expects(arg, expects, sizeof(expects)));
		}
		print_out(" | %s |\n", info->doc);
	}
	return CLI_OK;
}

static int help(void)
{
	const struct command_info *info;
	print_out("Usage: aerie ctl PATH COMMAND [KEY=VALUE]... [--json] [--timeout SECONDS]\n"
		  "       aerie ctl PATH --events\n"
		  "       aerie ctl --commands\n"
		  "       aerie ctl --help [COMMAND]\n"
		  "\n"
		  "Asks or tells the machine behind the control socket PATH (aerie run --control PATH).\n"
		  "\n"
		  "  -j, --json             print the answer as it came, an error too\n"
		  "  -e, --events           print what happens to the machine until it ends\n"
		  "  -t, --timeout SECONDS  give up when nothing happens for so long (default 30, 0: never)\n"
		  "  -c, --commands         list every command with what it takes\n"
		  "  -h, --help             this text, or what a command takes\n"
		  "\n"
		  "Sizes may have K, M, G, T or P behind them. Commands (docs/control.md has examples):\n");
	for (size_t i = 0; (info = control_command(i)); i++)
		print_out("  %-26s %s\n", info->name, info->doc);
	print_out("\nExit status: 0 done, 1 refused, no machine there or too late, 2 bad usage.\n");
	return CLI_OK;
}

/* ---- options ---- */

static int refuse(const char *why)
{
	log_error("ctl: %s (see 'aerie ctl --help')", why);
	return CLI_USAGE;
}

static bool parse_timeout(const char *text, uint64_t *ret_ns)
{
	char *end;
	unsigned long seconds = strtoul(text, &end, 10);
	*ret_ns = seconds * UINT64_C(1000000000);
	return *text >= '0' && *text <= '9' && !*end && seconds <= 1000000;
}

/* -1 to go on, else the exit code. */
static int ctl_parse(int argc, char **argv, struct ctl_options *ret)
{
	static const struct option options[] = {
		{"json", no_argument, NULL, 'j'},     {"events", no_argument, NULL, 'e'},
		{"commands", no_argument, NULL, 'c'}, {"timeout", required_argument, NULL, 't'},
		{"help", no_argument, NULL, 'h'},     {0},
	};
	int option;
	bool wants_help = false;
	*ret = (struct ctl_options){.timeout_ns = TIMEOUT_S * UINT64_C(1000000000)};
	while ((option = getopt_long(argc, argv, "ject:h", options, NULL)) != -1) {
		switch (option) {
		case 'j':
			ret->json = true;
			break;
		case 'e':
			ret->events = true;
			break;
		case 't':
			if (!parse_timeout(optarg, &ret->timeout_ns))
				return refuse("--timeout takes a number of seconds");
			break;
		case 'c':
			return print_commands();
		case 'h':
			wants_help = true;
			break;
		default:
			log_error("ctl: \"%s\" is not an option or lacks its value (see 'aerie ctl --help')",
				  argv[optind - 1]);
			return CLI_USAGE;
		}
	}
	if (wants_help)
		return argc > optind ? help_command(argv[argc - 1]) : help();
	if (argc - optind < (ret->events ? 1 : 2) || (ret->events && argc - optind > 1))
		return refuse(ret->events ? "--events goes with a socket alone"
					  : "a socket and a command are needed");
	ret->path = argv[optind];
	ret->command = ret->events ? NULL : argv[optind + 1];
	ret->words = argv + optind + 2;
	ret->word_count = ret->events ? 0 : (size_t)(argc - optind - 2);
	return -1;
}

/* ---- asking ---- */

static int report(const struct ctl_options *options, const cJSON *answer)
{
	const cJSON *result = cJSON_GetObjectItemCaseSensitive(answer, "return");
	const cJSON *desc =
		cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(answer, "error"), "desc");
	char text[ERR_TEXT_BYTES * 2];
	if (options->json) {
		if (ctl_print_json(answer) < 0)
			return CLI_FAILED;
	} else if (result) {
		ctl_print(result);
	} else {
		log_error("%s", ctl_text(desc, text, sizeof(text)));
	}
	return result ? CLI_OK : CLI_FAILED;
}

/* Until the answer comes; as long as a job moves, there is no hurry. */
static int wait_answer(const struct ctl_options *options, struct ctl_link *link, cJSON **ret, struct err *err)
{
	struct ctl_progress progress = {.open = false};
	uint64_t since = loop_now_ns();
	int r;
	for (;;) {
		r = ctl_link_receive(link, PROGRESS_MS, ret, err);
		if (r == -ETIMEDOUT) {
			if (ctl_progress_look(&progress, options->path, options->command))
				since = loop_now_ns();
			if (!options->timeout_ns || loop_now_ns() - since < options->timeout_ns)
				continue;
			(void)err_set(err, r, "%s: no answer to %s within %u s", options->path,
				      options->command, (unsigned)(options->timeout_ns / 1000000000));
		}
		if (r < 0 || !cJSON_HasObjectItem(*ret, "event"))
			break;
		cJSON_Delete(*ret);
	}
	ctl_progress_end(&progress);
	return r;
}

static int ask(const struct ctl_options *options, const cJSON *arguments, struct err *err)
{
	struct ctl_link link;
	_cleanup_json_ cJSON *answer = NULL;
	int r = ctl_link_open(&link, options->path, err);
	if (r == 0)
		r = ctl_link_send(&link, options->command, arguments, err);
	if (r == 0)
		r = wait_answer(options, &link, &answer, err);
	ctl_link_close(&link);
	return r < 0 ? CLI_FAILED : report(options, answer);
}

/* ---- listening ---- */

static void print_event(const struct ctl_options *options, const cJSON *event)
{
	const cJSON *name = cJSON_GetObjectItemCaseSensitive(event, "event");
	const cJSON *data = cJSON_GetObjectItemCaseSensitive(event, "data"), *member;
	const cJSON *stamp = cJSON_GetObjectItemCaseSensitive(event, "timestamp");
	char text[256], seconds[64], part[64];
	if (options->json) {
		(void)ctl_print_json(event);
	} else {
		(void)ctl_text(cJSON_GetObjectItemCaseSensitive(stamp, "seconds"), seconds, sizeof(seconds));
		(void)ctl_text(cJSON_GetObjectItemCaseSensitive(stamp, "microseconds"), part, sizeof(part));
		print_out("%s.%06lu %s", seconds, strtoul(part, NULL, 10),
			  ctl_text(name, text, sizeof(text)));
		cJSON_ArrayForEach(member, data)
			print_out(" %s=%s", member->string, ctl_text(member, text, sizeof(text)));
		print_out("\n");
	}
	(void)print_flush();
}

static int listen_events(const struct ctl_options *options, struct err *err)
{
	struct ctl_link link;
	int r = ctl_link_open(&link, options->path, err);
	bool ended = false;
	while (r == 0) {
		_cleanup_json_ cJSON *event = NULL;
		r = ctl_link_receive(&link, -1, &event, err);
		if (r == 0 && cJSON_HasObjectItem(event, "event")) {
			const char *name =
				cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(event, "event"));
			ended = name && strcmp(name, "SHUTDOWN") == 0;
			print_event(options, event);
		}
	}
	ctl_link_close(&link);
	if (ended)
		*err = ERR_INIT; /* the machine said good-bye */
	return ended ? CLI_OK : CLI_FAILED;
}

int cli_ctl(int argc, char **argv)
{
	struct ctl_options options;
	struct err err = ERR_INIT;
	_cleanup_json_ cJSON *arguments = NULL;
	int code = ctl_parse(argc, argv, &options);
	if (code >= 0)
		return code;
	if (options.events)
		code = listen_events(&options, &err);
	else if (ctl_arguments(options.command, options.words, options.word_count, &arguments, &err) < 0)
		code = CLI_USAGE;
	else
		code = ask(&options, arguments, &err);
	if (err.code)
		log_error("%s", err.text);
	return code;
}
