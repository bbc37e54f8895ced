/*
 * Who answers which I/O port and which guest-physical address.
 *
 * Two kinds of ranges. Fixed ones are the board's: added while the machine is built, they stay. A mapping is
 * a range that the guest itself puts somewhere, moves and hides again at any time: a BAR. Lookups take no
 * lock. Owners do their own locking: several vCPUs may call the same owner at once, and one that looked
 * before a mapping moved may still call it just after. Owners therefore live until no vCPU runs any more.
 *
 * An access belongs to the range that holds its first byte. Where a guest lets mappings overlap, a fixed
 * range wins over a mapping and the mapping moved last over the others, which come back when it goes. An
 * access that nobody claims reads all ones, as on a PC; it is counted, since a guest probing is no error of
 * ours.
 */
#ifndef AERIE_BUS_BUS_H
#define AERIE_BUS_BUS_H

#include "base/err.h"

#include <stdint.h>

struct bus;

enum bus_space { BUS_PIO, BUS_MMIO, BUS_SPACE_COUNT };

enum { BUS_RANGES_MAX = 512 }; /* of each space, mappings included */

/*
 * `offset` counts from the range's start, `size` is 1, 2, 4 or 8 bytes and lies within [min, max] of the
 * range, and offset + size never crosses the range's end. A value uses the low `size` bytes.
 */
struct bus_ops {
	uint64_t (*read)(void *owner, uint64_t offset, unsigned size);
	void (*write)(void *owner, uint64_t offset, unsigned size, uint64_t value);
	uint8_t min_access_bytes; /* smaller accesses are not ours (see below) */
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
void bus_destroy(struct bus *bus); /* all mappings are gone; NULL is fine */

/* Doorbells become ioeventfds of this VM (api.rst 4.59). Borrowed; before doorbells are added. */
void bus_set_vm(struct bus *bus, int vm_fd);

/*
 * -EEXIST when it overlaps a fixed range (the message names both), -EINVAL when it is empty or wraps, -ENOSPC
 * when the bus is full. Two may share addresses when no access size suits both: the dword at 0xcf8 and the
 * bytes within it.
 */
int bus_add(struct bus *bus, enum bus_space space, const struct bus_range *range, struct err *err);

/*
 * A mapping, hidden at first. `range` is copied; its base means nothing. Moving and hiding cannot fail and
 * allocate nothing: -ENOSPC comes here. Any thread may move or hide, also while others look.
 */
struct bus_mapping;
int bus_mapping_create(struct bus *bus, enum bus_space space, const struct bus_range *range,
		       struct bus_mapping **ret, struct err *err);
void bus_mapping_destroy(struct bus_mapping *mapping); /* no vCPU is inside its owner; NULL is fine */
/* [base, base + size) must lie within the space; else it is hidden. */
void bus_mapping_move(struct bus_mapping *mapping, uint64_t base);
void bus_mapping_hide(struct bus_mapping *mapping);

/*
 * A doorbell: a write of `size` bytes (0: of any size, which is the fastest on Intel) at `offset` makes
 * `event_fd` readable and does not reach the owner. With a VM, KVM does it without an exit to us where it
 * can. Moves with its mapping and ends with it. `event_fd`, an eventfd that does not block, is borrowed.
 * -EEXIST when there is one at this offset.
 */
int bus_doorbell_add(struct bus_mapping *mapping, uint64_t offset, unsigned size, int event_fd,
		     struct err *err);

/* Any thread. `data` has `size` bytes, little-endian, of any size from 1 to 8. */
void bus_read(struct bus *bus, enum bus_space space, uint64_t address, void *data, unsigned size);
void bus_write(struct bus *bus, enum bus_space space, uint64_t address, const void *data, unsigned size);

/* Any thread: accesses that nobody answered; doorbells that KVM did not take, which therefore cost an exit.
 */
uint64_t bus_unclaimed_count(const struct bus *bus);
uint64_t bus_refused_doorbell_count(const struct bus *bus);

#endif
