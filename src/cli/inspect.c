/* aerie inspect: what a snapshot's vCPUs were doing, L2 included. Needs no host that could run it. */
#include "base/cleanup.h"
#include "base/log.h"
#include "cli/cli.h"
#include "cpu/nested_view.h"
#include "snapshot/snapshot.h"

#include <getopt.h>
#include <string.h>

static const char help[] = "Usage: aerie inspect DIR [--json]\n"
			   "\n"
			   "Reads the snapshot in DIR and says of each vCPU whether L1 or L2 was running, "
			   "its registers and pending\n"
			   "events, and what L1's VMCS or VMCB for L2 holds, by name. Works on any machine.\n"
			   "\n"
			   "  -j, --json  all fields, as JSON; text leaves out what is zero\n"
			   "  -h, --help  print this text\n"
			   "\n"
			   "Exit status: 0 ok, 1 the snapshot is damaged or cannot be read, 2 bad usage.\n";

static int inspect(const char *folder, bool json, struct err *err)
{
	struct snapshot *snapshot = NULL;
	_cleanup_free_ char *report = NULL;
	int r = snapshot_open(folder, &snapshot, err);
	if (r < 0)
		return r;
	r = nested_report(snapshot_state(snapshot), json, &report, err);
	snapshot_close(snapshot);
	if (r < 0)
		return err_prepend(err, "%s: state.dtb", folder);
	print_out(json ? "{\"vcpus\": %s}\n" : "%s", report);
	return 0;
}

static int refuse_option(const char *at)
{
	char letter[] = {'-', (char)optopt, '\0'};
	log_error("inspect: %s is not an option (try aerie inspect --help)",
		  strncmp(at, "--", 2) == 0 ? at : letter);
	return CLI_USAGE;
}

int cli_inspect(int argc, char **argv)
{
	static const struct option options[] = {
		{"json", no_argument, NULL, 'j'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	struct err err = ERR_INIT;
	bool json = false;
	int option;
	optind = 0; /* the caller has used getopt on its own argv */
	opterr = 0; /* base/log.h is the only place that prints */
	while ((option = getopt_long(argc, argv, "jh", options, NULL)) != -1) {
		switch (option) {
		case 'j':
			json = true;
			break;
		case 'h':
			print_out("%s", help);
			return CLI_OK;
		default:
			return refuse_option(argv[optind - 1]);
		}
	}
	if (optind + 1 != argc) {
		log_error("inspect: %s (try aerie inspect --help)",
			  optind == argc ? "which snapshot?" : "one snapshot at a time");
		return CLI_USAGE;
	}
	if (inspect(argv[optind], json, &err) < 0) {
		log_error("%s", err.text);
		return CLI_FAILED;
	}
	return CLI_OK;
}
