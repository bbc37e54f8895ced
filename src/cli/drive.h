/* What all subcommands that run a machine do with it once it is built. */
#ifndef AERIE_SRC_CLI_DRIVE_H
#define AERIE_SRC_CLI_DRIVE_H

#include "base/err.h"
#include "machine/machine.h"

/*
 * Runs it to its end, with a control socket at `control` (NULL: where the config says, if it does). `paused`:
 * the guest starts when somebody says `cont`. *ret_exit_code as machine_run has it.
 */
int drive_machine(struct machine *machine, const char *control, bool paused, int *ret_exit_code,
		  struct err *err);

#endif
