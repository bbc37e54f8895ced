/*
 * The machine: owns everything, and is the only place that knows the order of build, run, pause, resume,
 * reset and power-off.
 */
#ifndef AERIE_MACHINE_MACHINE_H
#define AERIE_MACHINE_MACHINE_H

#include "base/err.h"
#include "config/config.h"

#include <stdbool.h>

struct machine;

/* Builds all of it up to the first instruction. `config` is borrowed and must outlive the machine. */
int machine_create(const struct machine_config *config, struct machine **ret, struct err *err);
void machine_destroy(struct machine *machine); /* NULL is fine */

/* May the guest run guests of its own? */
bool machine_nests(const struct machine *machine);

/*
 * Run until the guest powers off, exits through the debug port or crashes, or until SIGINT, SIGTERM or SIGHUP
 * arrives or the console's Ctrl-A x. SIGPWR presses the power button. On success *ret_exit_code is what the
 * process should exit with: 0 after power-off or by the operator's wish, (v << 1) | 1 from the debug exit
 * port. A crash or a host failure is an error.
 */
int machine_run(struct machine *machine, int *ret_exit_code, struct err *err);

#endif
