/* aerie restore: a machine out of a snapshot, to the guest's exit code. */
#include "base/log.h"
#include "cli/cli.h"
#include "drive.h"
#include "snapshot/snapshot.h"

#include <getopt.h>
#include <stdlib.h>

enum { SET_MAX = 64 };

struct restore_options {
	const char *dir, *control;
	const char *set[SET_MAX];
	size_t set_count;
	bool lazy, paused;
};

static void restore_usage(void)
{
	print_out(
		"Usage: aerie restore SNAPSHOT [--set key.path=value]... [--lazy] [--paused] [--control "
		"PATH]\n\n"
		"Run the machine that SNAPSHOT (a directory, made by snapshot-save) holds, from where it "
		"was.\n\n"
		"  -s, --set KEY=VALUE  override a key of its config: what is outside the guest (paths, "
		"sockets),\n"
		"                       and what makes a clone another machine (devices.0.mac, "
		"devices.1.cid)\n"
		"  -l, --lazy           run at once and read RAM when it is touched; machines from one "
		"snapshot\n"
		"                       share what they do not write. SNAPSHOT must stay\n"
		"  -p, --paused         wait for `cont` on the control socket\n"
		"  -c, --control PATH   listen there for QMP (see docs/control.md)\n"
		"  -v, --verbose        say more; twice: also what the guest probes\n"
		"  -h, --help           this text\n\n"
		"Exit codes as of 'aerie run'; 2 when the snapshot is damaged or does not fit this host.\n");
}

/* 0 to go on, or -1 with *ret_code set. */
static int restore_parse(int argc, char **argv, struct restore_options *ret, int *ret_code)
{
	static const struct option options[] = {
		{"set", required_argument, NULL, 's'},
		{"lazy", no_argument, NULL, 'l'},
		{"paused", no_argument, NULL, 'p'},
		{"control", required_argument, NULL, 'c'},
		{"verbose", no_argument, NULL, 'v'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	int option;
	enum log_level level = LOG_WARN;

	*ret_code = CLI_USAGE;
	while ((option = getopt_long(argc, argv, "s:lpc:vh", options, NULL)) != -1) {
		switch (option) {
		case 's':
			if (ret->set_count == SET_MAX) {
				log_error("restore: at most %d --set", SET_MAX);
				return -1;
			}
			ret->set[ret->set_count++] = optarg;
			break;
		case 'l':
			ret->lazy = true;
			break;
		case 'p':
			ret->paused = true;
			break;
		case 'c':
			ret->control = optarg;
			break;
		case 'v':
			level = level == LOG_WARN ? LOG_INFO : LOG_DEBUG;
			break;
		case 'h':
			restore_usage();
			*ret_code = CLI_OK;
			return -1;
		default:
			log_error("restore: \"%s\" is not an option or lacks its value (see 'aerie restore "
				  "--help')",
				  argv[optind - 1]);
			return -1;
		}
	}
	log_set_level(level);
	if (argc - optind != 1) {
		log_error("restore: one snapshot is needed (see 'aerie restore --help')");
		return -1;
	}
	if (ret->paused && !ret->control) {
		log_error("restore: --paused without --control: nobody could ever let it run");
		return -1;
	}
	ret->dir = argv[optind];
	return 0;
}

int cli_restore(int argc, char **argv)
{
	struct restore_options options = {0};
	struct snapshot *snapshot = NULL;
	struct machine_config *config = NULL;
	struct machine *machine = NULL;
	struct err err = ERR_INIT;
	int code;

	if (restore_parse(argc, argv, &options, &code) < 0)
		return code;
	int r = snapshot_open(options.dir, &snapshot, &err);
	if (r == 0)
		r = snapshot_config(snapshot, options.set, options.set_count, &config, &err);
	bool refused = r < 0;
	if (r == 0)
		r = snapshot_restore(snapshot, config, options.lazy, &machine, &refused, &err);
	code = refused ? CLI_USAGE : CLI_FAILED;
	snapshot_close(snapshot);
	if (r == 0 && options.paused)
		machine_pause(machine, MACHINE_PAUSED);
	if (r == 0 && drive_machine(machine, options.control, NULL, options.paused, &code, &err) < 0)
		code = CLI_FAILED;
	machine_destroy(machine); /* before the message: it gives the terminal back */
	if (err.code)
		log_error("%s", err.text);
	config_free(config);
	return code;
}
