/* aerie: picks the subcommand. Everything else is in src/cli, one file for each. */
#include "base/log.h"
#include "cli/cli.h"

#include <getopt.h>
#include <string.h>

struct command {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *what;
};

static const struct command commands[] = {
	{"run", cli_run, "run the machine that a JSON file describes"},
	{"restore", cli_restore, "run a machine from where its snapshot left it"},
	{"snapshot", cli_snapshot, "what can be done with snapshots on disk"},
	{"check", cli_check, "validate a config file, without a host"},
	{"ctl", cli_ctl, "ask or tell a running machine something, over its control socket"},
	{"inspect", cli_inspect, "what the vCPUs of a snapshot were doing, L2 included"},
	{"doctor", cli_doctor, "can this host nest, and if not, what do I type?"},
	{"cpu", cli_cpu, "which processor features there are, here, elsewhere and in a guest"},
};
enum { COMMAND_COUNT = sizeof(commands) / sizeof(commands[0]) };

static void print_usage(void)
{
	print_out("Usage: aerie COMMAND [OPTIONS]\n\nA virtual machine monitor whose guests are "
		  "hypervisors.\n\n");
	for (int i = 0; i < COMMAND_COUNT; i++)
		print_out("  aerie %-8s %s\n", commands[i].name, commands[i].what);
	print_out("\n  -h, --help     this text; 'aerie COMMAND --help' for a command's own\n"
		  "  -V, --version  the version\n\n"
		  "Exit codes: 0 ok, 1 the machine or the host failed, 2 bad usage or config.\n");
}

static int dispatch(int argc, char **argv)
{
	for (int i = 0; i < COMMAND_COUNT; i++) {
		if (strcmp(argv[0], commands[i].name) == 0) {
			optind = 0; /* 0, not 1: glibc then forgets the scan of the global options */
			return commands[i].run(argc, argv);
		}
	}
	log_error("\"%s\" is not a command (see 'aerie --help')", argv[0]);
	return CLI_USAGE;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'V'},
		{0},
	};
	int option, code;

	opterr = 0; /* log_error speaks instead */
	option = getopt_long(argc, argv, "+hV", options, NULL);
	switch (option) {
	case 'h':
		print_usage();
		code = CLI_OK;
		break;
	case 'V':
		print_out("aerie %s\n", AERIE_VERSION);
		code = CLI_OK;
		break;
	case -1:
		if (optind >= argc) {
			log_error("a command is missing (see 'aerie --help')");
			return CLI_USAGE;
		}
		code = dispatch(argc - optind, argv + optind);
		break;
	default:
		log_error("\"%s\" is not an option (see 'aerie --help')", argv[optind - 1]);
		return CLI_USAGE;
	}
	if (print_flush() < 0 && code == CLI_OK) {
		log_error("cannot write to stdout");
		code = CLI_FAILED;
	}
	return code;
}
