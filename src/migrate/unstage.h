/* PAGES messages to RAM. One thread uses an unstage. */
#ifndef AERIE_MIGRATE_UNSTAGE_H
#define AERIE_MIGRATE_UNSTAGE_H

#include "memory/memory.h"
#include "wire.h"

struct unstage;

int unstage_create(struct guest_memory *memory, bool zstd, struct unstage **ret, struct err *err);
void unstage_destroy(struct unstage *unstage); /* NULL is fine */

/* The payload of one message, wholly checked before anything is written. */
int unstage_pages(struct unstage *unstage, const uint8_t *payload, size_t bytes, struct err *err);

/*
 * The same, but each page is handed to `put`, `content` (4 KiB, borrowed; NULL: zeros) with it, whose error
 * ends it: 0 or -errno with a message.
 */
typedef int unstage_put(void *owner, uint64_t page, const void *content, struct err *err);
int unstage_each(struct unstage *unstage, const uint8_t *payload, size_t bytes, unstage_put *put, void *owner,
		 struct err *err);

#endif
