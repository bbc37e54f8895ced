/* aerie run: from a config file to the guest's exit code. */
#include "run.h"
#include "base/log.h"
#include "cli/cli.h"
#include "config/config.h"
#include "drive.h"
#include "host/advisory.h"
#include "machine/machine.h"
#include "migrate/migrate.h"

#include <getopt.h>
#include <stdlib.h>

enum { SET_MAX = 64 };

struct run_options {
	const char *path;
	const char *set[SET_MAX];
	size_t set_count;
	bool verbose;
	const char *control; /* NULL: what the config says */
	bool paused;
	const char *incoming, *incoming_tls; /* NULL: the machine begins here; no TLS */
};

static void run_usage(void)
{
	print_out(
		"Usage: aerie run CONFIG [--set key.path=value]... [--control PATH]\n\n"
		"Run the machine that CONFIG (JSON, see docs/config.md) describes.\n\n"
		"  -s, --set KEY=VALUE  override a key of CONFIG, for example --set memory.size=4G\n"
		"  -c, --control PATH   listen there for aerie ctl and QMP clients (docs/control.md)\n"
		"  -i, --incoming URI   the machine comes from another aerie (docs/migration.md); without "
		"CONFIG\n"
		"                       its own configuration comes with it\n"
		"  -t, --incoming-tls DIR  only by TLS, with the keys in DIR\n"
		"  -p, --paused         do not start the guest until the control socket says cont\n"
		"  -v, --verbose        say more, and at the end KVM's figures and what went wrong with the "
		"guest;\n"
		"                       twice: also what the guest probes\n"
		"  -h, --help           this text\n\n"
		"In a stdio console: Ctrl-A x ends, Ctrl-A p presses the power button, Ctrl-A h tells the "
		"rest.\n"
		"SIGINT, SIGTERM and SIGHUP end the machine, SIGPWR presses the power button.\n"
		"Exit code: 0 after power-off, (v << 1) | 1 from the debug exit port, 1 failed, 2 bad "
		"usage or config.\n");
}

/* What was left over, and what does not go together. */
static int run_check(int count, char **left, struct run_options *ret)
{
	if (count > 1 || (count == 0 && !ret->incoming)) {
		log_error("run: one config file is needed (see 'aerie run --help')");
		return -1;
	}
	if (ret->incoming_tls && !ret->incoming) {
		log_error("run: --incoming-tls is for --incoming");
		return -1;
	}
	if (ret->paused && ret->incoming) {
		log_error("run: --paused: a machine that comes by --incoming is paused if it was over there");
		return -1;
	}
	ret->path = count ? left[0] : NULL;
	return 0;
}

/* 0 to go on, or -1 with *ret_code set. */
static int run_parse(int argc, char **argv, struct run_options *ret, int *ret_code)
{
	static const struct option options[] = {
		{"set", required_argument, NULL, 's'},	    {"control", required_argument, NULL, 'c'},
		{"incoming", required_argument, NULL, 'i'}, {"incoming-tls", required_argument, NULL, 't'},
		{"paused", no_argument, NULL, 'p'},	    {"verbose", no_argument, NULL, 'v'},
		{"help", no_argument, NULL, 'h'},	    {0},
	};
	int option;
	enum log_level level = LOG_WARN;

	*ret_code = CLI_USAGE;
	while ((option = getopt_long(argc, argv, "s:c:i:t:pvh", options, NULL)) != -1) {
		switch (option) {
		case 's':
			if (ret->set_count == SET_MAX) {
				log_error("run: at most %d --set", SET_MAX);
				return -1;
			}
			ret->set[ret->set_count++] = optarg;
			break;
		case 'c':
			ret->control = optarg;
			break;
		case 'i':
			ret->incoming = optarg;
			break;
		case 't':
			ret->incoming_tls = optarg;
			break;
		case 'p':
			ret->paused = true;
			break;
		case 'v':
			level = level == LOG_WARN ? LOG_INFO : LOG_DEBUG;
			ret->verbose = true;
			break;
		case 'h':
			run_usage();
			*ret_code = CLI_OK;
			return -1;
		default:
			log_error("run: \"%s\" is not an option or lacks its value (see 'aerie run --help')",
				  argv[optind - 1]);
			return -1;
		}
	}
	log_set_level(level);
	return run_check(argc - optind, argv + optind, ret);
}

/* A guest that may run guests of its own on a kernel that does not contain them: once, and only if it is
 * known. */
static void run_warn(const struct machine *machine)
{
	struct advisory advisory;
	if (machine_nests(machine) && advisory_nested_escape_here(&advisory) == ADVISORY_VULNERABLE)
		log_warn("%s", advisory.text);
}

/* The machine itself, from here or from elsewhere. */
static int run_begin(const struct run_options *options, struct machine_config **ret_config,
		     struct incoming **ret_incoming, struct err *err)
{
	const char *text;
	size_t bytes;
	int r = 0;
	if (options->incoming)
		r = incoming_create(options->incoming, options->incoming_tls, ret_incoming, err);
	if (r < 0)
		return r;
	if (options->path)
		return config_load(options->path, options->set, options->set_count, ret_config, err);
	r = incoming_config(*ret_incoming, &text, &bytes, err);
	if (r == 0)
		r = config_parse("what the source sent", text, bytes, options->set, options->set_count,
				 ret_config, err);
	if (r < 0)
		incoming_refuse(*ret_incoming, err);
	return r;
}

static int run_machine(const struct run_options *options, const struct machine_config *config,
		       struct incoming *incoming, struct machine **ret, int *ret_code, struct err *err)
{
	int r = incoming ? machine_create_absent(config, ret, err) : machine_create(config, ret, err);
	if (r < 0) {
		if (incoming)
			incoming_refuse(incoming, err);
		return r;
	}
	run_warn(*ret);
	if (options->verbose && machine_nests(*ret))
		run_log_nesting(config);
	if (incoming)
		r = incoming_start(incoming, *ret, err);
	if (r < 0)
		incoming_refuse(incoming, err);
	if (r == 0)
		r = drive_machine(*ret, options->control, incoming, options->paused || incoming, ret_code,
				  err);
	return r == 0 && incoming ? incoming_error(incoming, err) : r;
}

int cli_run(int argc, char **argv)
{
	struct run_options options = {0};
	struct machine_config *config = NULL;
	struct machine *machine = NULL;
	struct incoming *incoming = NULL;
	struct err err = ERR_INIT;
	int code;

	if (run_parse(argc, argv, &options, &code) < 0)
		return code;
	if (run_begin(&options, &config, &incoming, &err) < 0)
		code = options.path && (incoming || !options.incoming) ? CLI_USAGE : CLI_FAILED;
	else if (run_machine(&options, config, incoming, &machine, &code, &err) < 0)
		code = CLI_FAILED;
	if (machine && options.verbose)
		machine_log_stats(machine);
	incoming_destroy(incoming);
	machine_destroy(machine); /* before the message: it gives the terminal back */
	if (err.code)
		log_error("%s", err.text);
	config_free(config);
	return code;
}
