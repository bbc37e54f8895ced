/*
 * Which pages of RAM were written since somebody last asked: for migration and for incremental snapshots.
 *
 * Two sources are joined. What the guest writes, and KVM for it (clock pages, nested paging), is in KVM's
 * dirty log (api.rst 4.8 and 4.117); what aerie's own devices write has to be said by guest_memory_mark,
 * which virtqueues and guest_memory_write do. A vhost-user back end writes without telling us: who tracks a
 * machine with one must refuse.
 *
 * Several trackers can live side by side, each sees every write once. A page is 4 KiB, whatever backs RAM.
 * Memory of devices (guest_memory_add) is not tracked: it is a file.
 */
#ifndef AERIE_MEMORY_DIRTY_H
#define AERIE_MEMORY_DIRTY_H

#include "base/err.h"
#include "memory/memory.h"

#include <stddef.h>
#include <stdint.h>

enum { DIRTY_PAGE_BYTES = 4096, DIRTY_TRACKERS_MAX = 4 };

struct dirty_tracker;

/*
 * From its return on every write is noticed, whether the guest runs meanwhile or not. Any thread; after
 * guest_memory_attach. The tracker must go before the memory does. -EBUSY: there are DIRTY_TRACKERS_MAX.
 */
int dirty_tracker_create(struct guest_memory *memory, struct dirty_tracker **ret, struct err *err);
void dirty_tracker_destroy(struct dirty_tracker *tracker); /* NULL is fine */

/* Pages of RAM, counted through guest_memory_regions in their order, and the words of a bitmap for them. */
size_t dirty_page_count(const struct guest_memory *memory);
size_t dirty_bitmap_words(const struct guest_memory *memory);
void *dirty_page(const struct guest_memory *memory, uint64_t page); /* NULL: there is no such page */

/*
 * Fetch and forget: sets in `bitmap` (dirty_bitmap_words; bit n % 64 of word n / 64 is page n) the pages
 * written since the tracker was made or last harvested, leaves its other bits alone, and stores in *ret_pages
 * how many it found. A page that is written while or after it is fetched is found again the next time, so
 * whoever copies pages after the harvest and harvests once more with the machine paused has them all. Any
 * thread, one at a time for each tracker. -errno: KVM refused; what was found is kept for the next time.
 */
int dirty_tracker_harvest(struct dirty_tracker *tracker, uint64_t *bitmap, uint64_t *ret_pages);

#endif
