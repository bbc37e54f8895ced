/* A real machine for the migration: everything is done on the machine's own thread, by posts. */
#ifndef AERIE_MIGRATE_GUEST_MACHINE_H
#define AERIE_MIGRATE_GUEST_MACHINE_H

#include "guest.h"
#include "host/loop.h"
#include "machine/machine.h"

#include <pthread.h>

struct guest_call;

struct guest_machine {
	struct guest guest; /* the first: what the ops are given */
	struct machine *machine;
	struct loop_op op;
	pthread_mutex_t lock; /* guards the rest */
	pthread_cond_t changed;
	struct guest_call *call; /* under way; NULL: none */
	bool ended;		 /* the machine's thread takes no more calls */
};

void guest_machine_init(struct guest_machine *guest, struct machine *machine);
void guest_machine_finish(struct guest_machine *guest);

/* The machine's thread, when its loop will run no more: calls fail with -ECANCELED from now on. */
void guest_machine_end(struct guest_machine *guest);

/* What of this machine cannot move: a message names it, and -ENOTSUP. */
int guest_machine_check(const struct machine_config *config, struct err *err);

#endif
