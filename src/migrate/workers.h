/*
 * Further channels of the source, a thread for each: pages are handed to whoever is free, so several
 * connections (and several CPUs that copy, pack and sum) work side by side. Within a round no page goes
 * twice, so their order does not matter; between rounds workers_round keeps it.
 */
#ifndef AERIE_MIGRATE_WORKERS_H
#define AERIE_MIGRATE_WORKERS_H

#include "stage.h"

struct workers;

/* Takes `count` connected links over, also when it fails. */
int workers_create(const struct guest_memory *memory, int zstd_level, struct link *links, unsigned count,
		   struct workers **ret, struct err *err);
void workers_destroy(struct workers *workers); /* waits for what is under way; NULL is fine */

/* Waits until one is free. An error is that of any worker before. */
int workers_send(struct workers *workers, const uint64_t *pages, uint32_t count, struct err *err);
/* Until all have sent what they were given; then ROUND on each channel. */
int workers_round(struct workers *workers, uint32_t round, struct err *err);
/* What has been sent so far. */
void workers_counts(struct workers *workers, struct stage_counts *ret);

#endif
