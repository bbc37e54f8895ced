/* Parts of `aerie run`. */
#ifndef AERIE_SRC_CLI_RUN_H
#define AERIE_SRC_CLI_RUN_H

#include "config/config.h"

/* For a machine that nests: which of the features that make nesting fast are in use, and what the others
 * cost. To the log, at level info. */
void run_log_nesting(const struct machine_config *config);

#endif
