/*
 * The ranges of one space, looked up without a lock while they change.
 *
 * Writers, one at a time, keep a sorted list of their own and publish it: they fill the view that is not in
 * use and then raise `version`, whose lowest bit says which view is. A reader searches the view of the
 * version it saw and starts again if the version has moved on, as its view may then be under a writer's
 * hands. So a reader never waits for a writer that was put to sleep. Every field is stored with release and
 * loaded with acquire order: a reader that meets one new field cannot miss the new version.
 */
#ifndef AERIE_BUS_TABLE_H
#define AERIE_BUS_TABLE_H

#include "bus/bus.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

struct bus_mapping;

/* One range in the list. */
struct bus_item {
	struct bus_range range;
	uint64_t rank;		     /* the highest that takes an access wins */
	struct bus_mapping *mapping; /* NULL: fixed */
};

struct bus_entry {
	_Atomic uint64_t base, size;
	_Atomic uint64_t reach; /* the last address of this entry or one before it, whichever is higher */
	_Atomic uint64_t rank;
	_Atomic uint32_t min_access_bytes, max_access_bytes;
	_Atomic(const struct bus_ops *) ops;
	_Atomic(void *) owner;
	_Atomic(struct bus_mapping *) mapping;
};

struct bus_view {
	_Atomic size_t count;
	struct bus_entry entries[BUS_RANGES_MAX];
};

struct bus_table {
	_Atomic uint64_t version;
	struct bus_view views[2];
	/* The writers' own, under the bus's lock. */
	struct bus_item items[BUS_RANGES_MAX]; /* by base */
	size_t count;
	size_t reserved; /* fixed ranges and mappings, shown or not */
};

/* Who takes a piece of an access; ops NULL: nobody. */
struct bus_hit {
	const struct bus_ops *ops;
	void *owner;
	struct bus_mapping *mapping;
	uint64_t offset;
	unsigned piece; /* bytes that this is about; a power of two if somebody takes them */
};

/* Any thread. `left`: the bytes from `address` on that the access has. */
struct bus_hit table_find(struct bus_table *table, uint64_t address, unsigned left);

/* Writers. The caller has reserved the room. */
void table_insert(struct bus_table *table, const struct bus_item *item);
void table_remove(struct bus_table *table,
		  const struct bus_mapping *mapping); /* nothing if it is not there */

/* A fixed range that `range` cannot stand beside, or NULL. */
const struct bus_range *table_clash(const struct bus_table *table, const struct bus_range *range);

#endif
