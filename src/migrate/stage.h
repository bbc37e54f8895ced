/* Pages of RAM to PAGES messages: copied once, zeros left out, packed if wished. One thread uses a stage. */
#ifndef AERIE_MIGRATE_STAGE_H
#define AERIE_MIGRATE_STAGE_H

#include "link.h"
#include "memory/memory.h"

struct stage;

/* `zstd_level` 0: not packed. */
int stage_create(const struct guest_memory *memory, int zstd_level, struct stage **ret, struct err *err);
void stage_destroy(struct stage *stage); /* NULL is fine */

/* From now on messages over this channel are sent from their buffers (zero_copy.h). Not with packed pages. */
int stage_zero_copy(struct channel *channel, struct err *err);

struct stage_counts {
	uint64_t pages, zero_pages, bytes; /* bytes: as they left, headers included */
};

/* Send these pages as one message; adds to *counts. */
int stage_send(struct stage *stage, struct link *link, const uint64_t *pages, uint32_t count,
	       struct stage_counts *counts, struct err *err);

#endif
