/*
 * Who answers which I/O port and which guest-physical address.
 *
 * Ranges are added while the machine is built and never overlap. Lookups take no lock. Owners do their own
 * locking: several vCPUs may call the same owner at once. An access that nobody claims reads all ones, as on
 * a PC; it is counted, since a guest probing is no error of ours.
 */
#ifndef AERIE_BUS_BUS_H
#define AERIE_BUS_BUS_H

#include "base/err.h"

#include <stdint.h>

struct bus;

enum bus_space { BUS_PIO, BUS_MMIO, BUS_SPACE_COUNT };

/*
 * `offset` counts from the range's start, `size` is 1, 2, 4 or 8 bytes and lies within [min, max] of the
 * range, and offset + size never crosses the range's end. A value uses the low `size` bytes.
 */
struct bus_ops {
	uint64_t (*read)(void *owner, uint64_t offset, unsigned size);
	void (*write)(void *owner, uint64_t offset, unsigned size, uint64_t value);
	uint8_t min_access_bytes; /* smaller accesses: read all ones, writes are dropped (and counted) */
	uint8_t max_access_bytes; /* larger ones are split, low address first, as ISA does */
};

struct bus_range {
	uint64_t base;
	uint64_t size; /* bytes, at least 1 */
	const struct bus_ops *ops;
	void *owner;
	const char *name; /* for messages; borrowed */
};

int bus_create(struct bus **ret, struct err *err);
void bus_destroy(struct bus *bus); /* NULL is fine */

/* -EEXIST when it overlaps (the message names both), -EINVAL when it is empty or wraps. Before vCPUs run. */
int bus_add(struct bus *bus, enum bus_space space, const struct bus_range *range, struct err *err);

/* Any thread. `data` has `size` bytes, little-endian, of any size from 1 to 8. */
void bus_read(struct bus *bus, enum bus_space space, uint64_t address, void *data, unsigned size);
void bus_write(struct bus *bus, enum bus_space space, uint64_t address, const void *data, unsigned size);

uint64_t bus_unclaimed_count(const struct bus *bus); /* accesses that nobody answered */

#endif
