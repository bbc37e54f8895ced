/*
 * What a migration needs of a machine, and all that it touches of one but its RAM. guest_machine.c is the
 * real one; tests have another. Calls come from the migration's thread, one at a time, and may wait.
 */
#ifndef AERIE_MIGRATE_GUEST_H
#define AERIE_MIGRATE_GUEST_H

#include "base/err.h"
#include "memory/memory.h"
#include "wire.h"

#include <stdbool.h>
#include <stddef.h>

struct guest;

struct guest_ops {
	/* How large its disks are, in the order of its configuration; the destination's need not be open. */
	int (*disks)(struct guest *guest, struct wire_disks *ret, struct err *err);

	/* ---- the source ---- */

	/* Its configuration as JSON, from malloc. NULL: an error. */
	char *(*config)(struct guest *guest, struct err *err);
	/* A state of now; the guest stands still for as long as that takes, and nobody is told. */
	int (*peek)(struct guest *guest, void **ret, size_t *ret_bytes, struct err *err);
	/* vCPUs and devices stand still, disks are flushed and let go. *ret_running: the guest ran before. */
	int (*stop)(struct guest *guest, bool *ret_running, struct err *err);
	/* After stop. From malloc, as that of peek. */
	int (*save)(struct guest *guest, void **ret, size_t *ret_bytes, struct err *err);
	/* After stop: take the disks again and go on as before it. -EBUSY: the other side still has one. */
	int (*back)(struct guest *guest, bool running, struct err *err);
	/* It runs elsewhere, or nobody knows (in_doubt): it must not run here. */
	void (*gone)(struct guest *guest, bool in_doubt);
	/* Keep the vCPUs from running for so many percent of the time; 0: no longer. */
	void (*throttle)(struct guest *guest, unsigned percent);

	/* ---- the destination ---- */

	/* Does the machine here suit this configuration, and are its disks there? */
	int (*accept)(struct guest *guest, const char *config, size_t bytes, struct err *err);
	/* Load a state on trial; afterwards the machine is as before, but for RAM, which is not looked at. */
	int (*rehearse)(struct guest *guest, const void *state, size_t bytes, struct err *err);
	/*
	 * Post-copy: pages of RAM will be missing from now on, until it is called with false. Nobody may have
	 * them pinned, nor wait for who may touch them.
	 */
	int (*partial)(struct guest *guest, bool partial, struct err *err);
	/* Open the disks and load the state. */
	int (*load)(struct guest *guest, const void *state, size_t bytes, struct err *err);
	/* From now on it is ours to run. */
	int (*run)(struct guest *guest, bool running, struct err *err);
};

struct guest {
	const struct guest_ops *ops;
	struct guest_memory *memory; /* borrowed */
};

#endif
