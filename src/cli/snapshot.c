/* aerie snapshot: what can be done with snapshots that lie on disk. */
#include "snapshot/snapshot.h"
#include "base/log.h"
#include "cli/cli.h"

#include <string.h>

static void snapshot_usage(void)
{
	print_out("Usage: aerie snapshot flatten SNAPSHOT OUT\n\n"
		  "  flatten  write an incremental snapshot, with all that it stands on, as one that stands "
		  "alone\n\n"
		  "Snapshots are made by 'aerie ctl PATH snapshot-save', looked into by 'aerie inspect' and "
		  "brought\n"
		  "back by 'aerie restore'.\n");
}

int cli_snapshot(int argc, char **argv)
{
	struct err err = ERR_INIT;
	if (argc >= 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
		snapshot_usage();
		return CLI_OK;
	}
	if (argc != 4 || strcmp(argv[1], "flatten") != 0) {
		log_error("snapshot: flatten SNAPSHOT OUT is what there is (see 'aerie snapshot --help')");
		return CLI_USAGE;
	}
	if (snapshot_flatten(argv[2], argv[3], &err) == 0)
		return CLI_OK;
	log_error("%s", err.text);
	return CLI_FAILED;
}
