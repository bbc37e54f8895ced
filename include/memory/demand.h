/*
 * Demand paging by userfaultfd: pages of RAM that are not there yet. Who touches one, a vCPU, KVM for it, a
 * device's thread or the kernel for a device's I/O, stands until somebody puts it there or all of it ends. So
 * whoever serves must never touch such a page, nor wait for a thread that may.
 */
#ifndef AERIE_MEMORY_DEMAND_H
#define AERIE_MEMORY_DEMAND_H

#include "base/err.h"
#include "memory/memory.h"

#include <stddef.h>
#include <stdint.h>

struct demand;

/*
 * A descriptor for demand_create, if this process may have one that also answers for what KVM touches; the
 * message says what would help. To be opened before KVM is: a process that ends closes its descriptors in
 * their order, and KVM's wait for workers that may stand before a page until this one is closed.
 */
int demand_open(struct err *err);

/*
 * Nothing is missing yet; that the kernel takes this memory is tried. `fd`, from demand_open, is borrowed,
 * and is good for one memory. -ENOTSUP: RAM of huge pages.
 */
int demand_create(struct guest_memory *memory, int fd, struct demand **ret, struct err *err);
/* As demand_stop. NULL is fine. */
void demand_destroy(struct demand *demand);

/*
 * From now on the pages whose bit is set (as in memory/dirty.h) are not there: what they held is given back.
 * Nobody may touch RAM meanwhile. No part of RAM may be pinned (loop_register_memory).
 */
int demand_start(struct demand *demand, const uint64_t *missing, struct err *err);
/* No page is missing any more: those that were never put read as zeros, and who stood goes on. Any thread. */
void demand_stop(struct demand *demand);

/* Becomes readable when somebody stands. */
int demand_fd(const struct demand *demand);
/*
 * The numbers of pages (as in memory/dirty.h) that somebody has touched, up to `most`; a page may come more
 * than once. How many, 0: none now, or -errno. Does not wait.
 */
enum { DEMAND_PAGES_MAX = 16 };
int demand_next(struct demand *demand, uint64_t *pages, size_t most);

/*
 * The page gets this content (4 KiB; NULL: zeros), at once for all who look, and whoever stood goes on. One
 * that is there already keeps what it has, since somebody may have written to it. Any thread. -ENOMEM and the
 * like: it is still missing.
 */
int demand_put(struct demand *demand, uint64_t page, const void *content);
/* Whoever stands before the page, which is still missing, looks again: demand_next tells of it once more. Any
 * thread. */
void demand_wake(struct demand *demand, uint64_t page);

#endif
