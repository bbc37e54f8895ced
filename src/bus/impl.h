/* The bus, as bus.c and mapping.c share it. */
#ifndef AERIE_BUS_IMPL_H
#define AERIE_BUS_IMPL_H

#include "base/log.h"
#include "table.h"

#include <pthread.h>

struct bus {
	pthread_mutex_t lock; /* writers of the tables, ranks, doorbells' registration */
	struct bus_table tables[BUS_SPACE_COUNT];
	uint64_t fixed_count;
	uint64_t moves;
	int vm_fd;
	struct log_limit doorbell_log;
	_Atomic uint64_t unclaimed;
};

/* Is [base, base + size) within the space, and not empty? */
bool bus_fits(enum bus_space space, uint64_t base, uint64_t size);

/* Under the lock. Room for one more range in the space: 0 or -ENOSPC. */
int bus_reserve(struct bus *bus, enum bus_space space, const char *name, struct err *err);

/* Any thread: was this write a doorbell's, and has it been signalled? */
bool mapping_ring(struct bus_mapping *mapping, uint64_t offset, unsigned size);

#endif
