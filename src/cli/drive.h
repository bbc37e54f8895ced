/* What all subcommands that run a machine do with it once it is built. */
#ifndef AERIE_SRC_CLI_DRIVE_H
#define AERIE_SRC_CLI_DRIVE_H

#include "base/err.h"
#include "machine/machine.h"
#include "migrate/migrate.h"

/*
 * Runs it to its end, wherever it comes from (`incoming`, or NULL: from here), with a control socket at
 * `control` (NULL: where the config says, if it does). `paused`: the guest starts when somebody says `cont`.
 * *ret_exit_code as machine_run has it.
 */
int drive_machine(struct machine *machine, const char *control, struct incoming *incoming, bool paused,
		  int *ret_exit_code, struct err *err);

#endif
