/* aerie check: is this config one that `aerie run` takes? */
#include "base/cleanup.h"
#include "base/log.h"
#include "cli/cli.h"
#include "config/config.h"
#include "cpu/features.h"

#include <getopt.h>
#include <inttypes.h>
#include <string.h>

static const char help[] =
	"Usage: aerie check CONFIG [--set KEY=VALUE]...\n"
	"       aerie check --keys\n"
	"\n"
	"Reads the machine in CONFIG (- for standard input) as `aerie run` would and says what is wrong with "
	"it.\n"
	"\n"
	"  -s, --set KEY=VALUE  replace one key first, as in memory.size=4G or serial.0=null\n"
	"  -p, --print          print the whole machine as JSON, defaults and derived values included\n"
	"  -k, --keys           list every key with what it takes, its default and what it is for\n"
	"  -h, --help           print this text\n"
	"\n"
	"Exit status: 0 the config is good, 1 no memory or stdout failed, 2 bad usage or config.\n";

static void print_row(const char *row, void *data)
{
	(void)data;
	print_out("%s\n", row);
}

static int finish(void)
{
	return print_flush() ? CLI_FAILED : CLI_OK;
}

static int report(const char *path, const struct machine_config *config, bool print)
{
	if (print) {
		_cleanup_free_ char *text = config_print(config);
		if (!text) {
			log_error("%s: %s", path, strerror(ENOMEM));
			return CLI_FAILED;
		}
		print_out("%s\n", text);
		return finish();
	}
	print_out("%s: ok\n", path);
	print_out("%s: %u vCPU%s (%u * %u * %u), %" PRIu64 " MiB, %zu serial port%s, kernel %s\n",
		  config->name, config->cpus.count, config->cpus.count == 1 ? "" : "s", config->cpus.sockets,
		  config->cpus.cores, config->cpus.threads, config->memory.size_bytes >> 20,
		  config->serial_count, config->serial_count == 1 ? "" : "s", config->boot.kernel);
	return finish();
}

static int check(const char *path, const char *const *set, size_t set_count, bool print)
{
	struct machine_config *config = NULL;
	struct err err = ERR_INIT;
	if (config_load(path, set, set_count, &config, &err)) {
		log_error("%s", err.text);
		return err.code == -ENOMEM ? CLI_FAILED : CLI_USAGE;
	}
	/* The config's own room knows no processor; these names are the same on every host. */
	int status;
	if (cpu_names_check(&config->cpu, &err)) {
		log_error("%s: %s", path, err.text);
		status = CLI_USAGE;
	} else {
		status = report(path, config, print);
	}
	config_free(config);
	return status;
}

/* getopt's `at` is the whole argument for a long option, but perhaps the one before for letters as in -px. */
static int refuse_option(const char *at, const char *why)
{
	char letter[] = {'-', (char)optopt, '\0'};
	log_error("check: %s %s (try aerie check --help)", strncmp(at, "--", 2) == 0 ? at : letter, why);
	return CLI_USAGE;
}

/* `set` has room for argc entries. */
static int run(int argc, char **argv, const char **set)
{
	static const struct option options[] = {
		{"set", required_argument, NULL, 's'},
		{"print", no_argument, NULL, 'p'},
		{"keys", no_argument, NULL, 'k'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	size_t set_count = 0;
	bool print = false;
	int option;
	optind = 0; /* the caller has used getopt on its own argv */
	opterr = 0; /* base/log.h is the only place that prints */
	while ((option = getopt_long(argc, argv, ":s:pkh", options, NULL)) != -1) {
		switch (option) {
		case 's':
			set[set_count++] = optarg;
			break;
		case 'p':
			print = true;
			break;
		case 'k':
			config_reference(print_row, NULL);
			return finish();
		case 'h':
			print_out("%s", help);
			return finish();
		default:
			return refuse_option(argv[optind - 1],
					     option == ':' ? "needs an argument" : "is not an option");
		}
	}
	if (optind + 1 != argc) {
		log_error("check: %s (try aerie check --help)",
			  optind == argc ? "which config?" : "one config at a time");
		return CLI_USAGE;
	}
	return check(argv[optind], set, set_count, print);
}

int cli_check(int argc, char **argv)
{
	const char **set = calloc((size_t)argc, sizeof(*set));
	if (!set) {
		log_error("check: %s", strerror(ENOMEM));
		return CLI_FAILED;
	}
	int status = run(argc, argv, set);
	free(set);
	return status;
}
