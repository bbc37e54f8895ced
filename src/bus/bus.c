/*
 * The bus: a sorted array of ranges for each space, searched by halving. It changes only while the machine is
 * built, so readers need no lock.
 */
#include "bus/bus.h"

#include "base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct bus_table {
	struct bus_range *ranges; /* by base, disjoint */
	size_t count;
};

struct bus {
	struct bus_table tables[BUS_SPACE_COUNT];
	_Atomic uint64_t unclaimed;
};

static const char *const space_name[] = {[BUS_PIO] = "port", [BUS_MMIO] = "address"};
static const uint64_t space_last[] = {[BUS_PIO] = 0xffff, [BUS_MMIO] = UINT64_MAX};

int bus_create(struct bus **ret, struct err *err)
{
	struct bus *bus = calloc(1, sizeof(*bus));
	if (!bus)
		return err_sys(err, -ENOMEM, "bus");
	*ret = bus;
	return 0;
}

void bus_destroy(struct bus *bus)
{
	if (!bus)
		return;
	for (size_t space = 0; space < BUS_SPACE_COUNT; space++)
		free(bus->tables[space].ranges);
	free(bus);
}

/* The number of ranges whose base is at most `address`. */
static size_t bus_rank(const struct bus_table *table, uint64_t address)
{
	size_t low = 0, high = table->count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (table->ranges[middle].base <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static const struct bus_range *bus_find(const struct bus *bus, enum bus_space space, uint64_t address)
{
	const struct bus_table *table = &bus->tables[space];
	size_t rank = bus_rank(table, address);
	if (rank == 0)
		return NULL;
	const struct bus_range *range = &table->ranges[rank - 1];
	return address - range->base < range->size ? range : NULL;
}

int bus_add(struct bus *bus, enum bus_space space, const struct bus_range *range, struct err *err)
{
	struct bus_table *table = &bus->tables[space];
	if (range->size == 0 || range->base > space_last[space] ||
	    range->size - 1 > space_last[space] - range->base)
		return err_set(err, -EINVAL, "%s: %s range %#" PRIx64 "+%#" PRIx64 " is empty or wraps",
			       range->name, space_name[space], range->base, range->size);

	size_t rank = bus_rank(table, range->base);
	const struct bus_range *clash = NULL;
	if (rank > 0 && range->base - table->ranges[rank - 1].base < table->ranges[rank - 1].size)
		clash = &table->ranges[rank - 1];
	else if (rank < table->count && table->ranges[rank].base - range->base < range->size)
		clash = &table->ranges[rank];
	if (clash)
		return err_set(err, -EEXIST, "%s: %s %#" PRIx64 " is taken by %s", range->name,
			       space_name[space], range->base, clash->name);

	struct bus_range *grown = reallocarray(table->ranges, table->count + 1, sizeof(*grown));
	if (!grown)
		return err_sys(err, -ENOMEM, "%s", range->name);
	table->ranges = grown;
	memmove(grown + rank + 1, grown + rank, (table->count - rank) * sizeof(*grown));
	grown[rank] = *range;
	table->count++;
	return 0;
}

static void bus_unclaimed(struct bus *bus, enum bus_space space, uint64_t address, unsigned size,
			  const char *what)
{
	/* Probing is what every PC operating system does at boot: worth counting, not worth a line by
	 * default. */
	atomic_fetch_add_explicit(&bus->unclaimed, 1, memory_order_relaxed);
	log_debug("unclaimed %s of %u bytes at %s %#" PRIx64, what, size, space_name[space], address);
}

uint64_t bus_unclaimed_count(const struct bus *bus)
{
	return atomic_load_explicit(&bus->unclaimed, memory_order_relaxed);
}

/*
 * The largest naturally sized piece of an access: a power of two, no more than the range takes or still has.
 * Pieces that fall between two ranges are looked up anew, so an access may be answered by several owners.
 */
static unsigned bus_piece(const struct bus_range *range, uint64_t address, unsigned left)
{
	uint64_t room = range ? range->size - (address - range->base) : 1;
	unsigned limit = range ? range->ops->max_access_bytes : 1;
	if (room < limit)
		limit = (unsigned)room;
	if (left < limit)
		limit = left;
	unsigned piece = 1;
	while (piece * 2 <= limit)
		piece *= 2;
	return piece;
}

void bus_read(struct bus *bus, enum bus_space space, uint64_t address, void *data, unsigned size)
{
	uint8_t *out = data;
	memset(out, 0xff, size);
	for (unsigned done = 0; done < size;) {
		const struct bus_range *range = bus_find(bus, space, address + done);
		unsigned piece = bus_piece(range, address + done, size - done);
		if (range && piece >= range->ops->min_access_bytes) {
			uint64_t value = range->ops->read(range->owner, address + done - range->base, piece);
			memcpy(out + done, &value, piece);
		} else {
			bus_unclaimed(bus, space, address + done, piece, "read");
		}
		done += piece;
	}
}

void bus_write(struct bus *bus, enum bus_space space, uint64_t address, const void *data, unsigned size)
{
	const uint8_t *in = data;
	for (unsigned done = 0; done < size;) {
		const struct bus_range *range = bus_find(bus, space, address + done);
		unsigned piece = bus_piece(range, address + done, size - done);
		if (range && piece >= range->ops->min_access_bytes) {
			uint64_t value = 0;
			memcpy(&value, in + done, piece);
			range->ops->write(range->owner, address + done - range->base, piece, value);
		} else {
			bus_unclaimed(bus, space, address + done, piece, "write");
		}
		done += piece;
	}
}
