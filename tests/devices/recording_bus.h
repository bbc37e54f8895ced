/*
 * A bus that knows what was added to it, so that a test can visit every register of a device that it has
 * never heard of. It takes the place of the bus room in the program that includes it: one program, one file.
 */
#ifndef AERIE_TESTS_DEVICES_RECORDING_BUS_H
#define AERIE_TESTS_DEVICES_RECORDING_BUS_H

#include "bus/bus.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { RECORDED_RANGES_MAX = 64 };

struct bus_mapping {
	enum bus_space space;
	struct bus_range range;
	_Atomic bool visible; /* vCPUs map while others look */
};

struct bus {
	struct bus_mapping added[RECORDED_RANGES_MAX];
	size_t count;
	size_t refuse_after; /* the next range or mapping after so many is refused */
};

int bus_create(struct bus **ret, struct err *err)
{
	struct bus *bus = calloc(1, sizeof(*bus));
	if (!bus)
		return err_sys(err, -ENOMEM, "bus");
	bus->refuse_after = SIZE_MAX;
	*ret = bus;
	return 0;
}

void bus_destroy(struct bus *bus)
{
	free(bus);
}

static inline int recording_bus_add(struct bus *bus, enum bus_space space, const struct bus_range *range,
				    bool visible, struct err *err)
{
	if (bus->count == bus->refuse_after)
		return err_set(err, -EEXIST, "%s: refused by the test", range->name);
	ck_assert_uint_lt(bus->count, RECORDED_RANGES_MAX);
	ck_assert_uint_ge(range->size, 1);
	ck_assert(range->name && range->name[0]);
	ck_assert(range->ops->read && range->ops->write);
	ck_assert_uint_ge(range->ops->min_access_bytes, 1);
	ck_assert_uint_le(range->ops->min_access_bytes, range->ops->max_access_bytes);
	ck_assert_uint_le(range->ops->max_access_bytes, 8);
	bus->added[bus->count++] = (struct bus_mapping){space, *range, visible};
	return 0;
}

int bus_add(struct bus *bus, enum bus_space space, const struct bus_range *range, struct err *err)
{
	return recording_bus_add(bus, space, range, true, err);
}

void bus_set_vm(struct bus *bus, int vm_fd)
{
	(void)bus, (void)vm_fd;
}

int bus_mapping_create(struct bus *bus, enum bus_space space, const struct bus_range *range,
		       struct bus_mapping **ret, struct err *err)
{
	int r = recording_bus_add(bus, space, range, false, err);
	if (r == 0)
		*ret = &bus->added[bus->count - 1];
	return r;
}

/* Its place stays taken, for pointers to others to stay good. */
void bus_mapping_destroy(struct bus_mapping *mapping)
{
	if (mapping)
		mapping->visible = false;
}

void bus_mapping_move(struct bus_mapping *mapping, uint64_t base)
{
	mapping->range.base = base;
	mapping->visible = true;
}

void bus_mapping_hide(struct bus_mapping *mapping)
{
	mapping->visible = false;
}

/* Nobody listens: writes reach the owner, as they may on any bus. */
int bus_doorbell_add(struct bus_mapping *mapping, uint64_t offset, unsigned size, int event_fd,
		     struct err *err)
{
	(void)event_fd, (void)err;
	ck_assert_uint_le(offset + (size ? size : 1), mapping->range.size);
	return 0;
}

/* One access that keeps the promises of struct bus_ops, by two random numbers. Returns what a read gave. */
static inline uint64_t recording_bus_access(struct bus *bus, uint64_t random, uint64_t value)
{
	if (bus->count == 0)
		return 0;
	const struct bus_mapping *mapping = &bus->added[random % bus->count];
	const struct bus_range *range = &mapping->range;
	if (!mapping->visible)
		return 0;
	random /= RECORDED_RANGES_MAX;
	unsigned size = 1u << (random & 3);
	while (size > range->ops->max_access_bytes || size > range->size)
		size /= 2;
	if (size < range->ops->min_access_bytes)
		size = range->ops->min_access_bytes;
	if (size > range->size)
		return 0;
	uint64_t offset = (random >> 3) % (range->size - size + 1);
	uint64_t mask = size == 8 ? UINT64_MAX : (1ULL << (8 * size)) - 1;
	if (!(random & 4))
		return range->ops->read(range->owner, offset, size) & mask;
	range->ops->write(range->owner, offset, size, value & mask);
	return 0;
}

/* Whole accesses for fake_in and fake_out; one that no range holds whole is answered by nobody. */
static inline const struct bus_range *recording_bus_find(const struct bus *bus, enum bus_space space,
							 uint64_t address, unsigned size)
{
	for (size_t i = 0; i < bus->count; i++) {
		const struct bus_range *range = &bus->added[i].range;
		if (bus->added[i].visible && bus->added[i].space == space && address >= range->base &&
		    address - range->base + size <= range->size)
			return range;
	}
	return NULL;
}

void bus_read(struct bus *bus, enum bus_space space, uint64_t address, void *data, unsigned size)
{
	const struct bus_range *range = recording_bus_find(bus, space, address, size);
	uint64_t value = range ? range->ops->read(range->owner, address - range->base, size) : UINT64_MAX;
	memcpy(data, &value, size);
}

void bus_write(struct bus *bus, enum bus_space space, uint64_t address, const void *data, unsigned size)
{
	const struct bus_range *range = recording_bus_find(bus, space, address, size);
	uint64_t value = 0;
	memcpy(&value, data, size);
	if (range)
		range->ops->write(range->owner, address - range->base, size, value);
}

uint64_t bus_unclaimed_count(const struct bus *bus)
{
	(void)bus;
	return 0;
}

#endif
