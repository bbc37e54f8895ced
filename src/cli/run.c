/* aerie run: from a config file to the guest's exit code. */
#include "run.h"
#include "base/log.h"
#include "cli/cli.h"
#include "config/config.h"
#include "drive.h"
#include "host/advisory.h"
#include "machine/machine.h"

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
};

static void run_usage(void)
{
	print_out("Usage: aerie run CONFIG [--set key.path=value]... [--control PATH]\n\n"
		  "Run the machine that CONFIG (JSON, see docs/config.md) describes.\n\n"
		  "  -s, --set KEY=VALUE  override a key of CONFIG, for example --set memory.size=4G\n"
		  "  -c, --control PATH   listen there for aerie ctl and QMP clients (docs/control.md)\n"
		  "  -p, --paused         do not start the guest until the control socket says cont\n"
		  "  -v, --verbose        say more, and KVM's figures at the end; twice: also what the guest "
		  "probes\n"
		  "  -h, --help           this text\n\n"
		  "In a stdio console: Ctrl-A x ends, Ctrl-A p presses the power button, Ctrl-A h tells the "
		  "rest.\n"
		  "SIGINT, SIGTERM and SIGHUP end the machine, SIGPWR presses the power button.\n"
		  "Exit code: 0 after power-off, (v << 1) | 1 from the debug exit port, 1 failed, 2 bad "
		  "usage or config.\n");
}

/* 0 to go on, or -1 with *ret_code set. */
static int run_parse(int argc, char **argv, struct run_options *ret, int *ret_code)
{
	static const struct option options[] = {
		{"set", required_argument, NULL, 's'}, {"control", required_argument, NULL, 'c'},
		{"paused", no_argument, NULL, 'p'},    {"verbose", no_argument, NULL, 'v'},
		{"help", no_argument, NULL, 'h'},      {0},
	};
	int option;
	enum log_level level = LOG_WARN;

	*ret_code = CLI_USAGE;
	while ((option = getopt_long(argc, argv, "s:c:pvh", options, NULL)) != -1) {
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
	if (argc - optind != 1) {
		log_error("run: one config file is needed (see 'aerie run --help')");
		return -1;
	}
	ret->path = argv[optind];
	return 0;
}

/* A guest that may run guests of its own on a kernel that does not contain them: once, and only if it is
 * known. */
static void run_warn(const struct machine *machine)
{
	struct advisory advisory;
	if (machine_nests(machine) && advisory_nested_escape_here(&advisory) == ADVISORY_VULNERABLE)
		log_warn("%s", advisory.text);
}

int cli_run(int argc, char **argv)
{
	struct run_options options = {0};
	struct machine_config *config = NULL;
	struct machine *machine = NULL;
	struct err err = ERR_INIT;
	int code;

	if (run_parse(argc, argv, &options, &code) < 0)
		return code;
	if (config_load(options.path, options.set, options.set_count, &config, &err) < 0) {
		log_error("%s", err.text);
		return CLI_USAGE;
	}
	code = CLI_FAILED;
	if (machine_create(config, &machine, &err) == 0) {
		run_warn(machine);
		if (options.verbose && machine_nests(machine))
			run_log_nesting(config);
		if (drive_machine(machine, options.control, options.paused, &code, &err) < 0)
			code = CLI_FAILED;
	}
	if (machine && options.verbose)
		machine_log_stats(machine);
	machine_destroy(machine); /* before the message: it gives the terminal back */
	if (err.code)
		log_error("%s", err.text);
	config_free(config);
	return code;
}
