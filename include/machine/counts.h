/*
 * What went wrong between the guest and what it runs on, counted by the parts that met it: mistakes of the
 * guest are answered as the architecture says, and an operator sees them here and in the log.
 *
 * All begin at 0 with this process: a reset goes on counting, a snapshot and a move take nothing along.
 */
#ifndef AERIE_MACHINE_COUNTS_H
#define AERIE_MACHINE_COUNTS_H

#include <stddef.h>
#include <stdint.h>

struct machine;

enum machine_counted { MACHINE_COUNTED_VM, MACHINE_COUNTED_VCPU, MACHINE_COUNTED_DEVICE };

/* The counts of one kind of part, `row` from 0; NULL past the last. */
const char *machine_count_name(enum machine_counted of, size_t row);

/* `row` has a name. `index`: of a vCPU or, as for machine_device, of a device, and there is one; for the VM
 * it is 0. The machine's thread; the guest may run. */
uint64_t machine_count(const struct machine *machine, enum machine_counted of, size_t row, size_t index);

#endif
