/* Accesses and the board's ranges; mapping.c has those that the guest moves. */
#include "bus/bus.h"

#include "impl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const char *const space_name[] = {[BUS_PIO] = "port", [BUS_MMIO] = "address"};
static const uint64_t space_last[] = {[BUS_PIO] = 0xffff, [BUS_MMIO] = UINT64_MAX};

int bus_create(struct bus **ret, struct err *err)
{
	struct bus *bus = calloc(1, sizeof(*bus));
	if (!bus)
		return err_sys(err, -ENOMEM, "bus");
	pthread_mutex_init(&bus->lock, NULL);
	bus->vm_fd = -1;
	*ret = bus;
	return 0;
}

void bus_destroy(struct bus *bus)
{
	if (!bus)
		return;
	pthread_mutex_destroy(&bus->lock);
	free(bus);
}

void bus_set_vm(struct bus *bus, int vm_fd)
{
	bus->vm_fd = vm_fd;
}

bool bus_fits(enum bus_space space, uint64_t base, uint64_t size)
{
	return size != 0 && base <= space_last[space] && size - 1 <= space_last[space] - base;
}

int bus_reserve(struct bus *bus, enum bus_space space, const char *name, struct err *err)
{
	struct bus_table *table = &bus->tables[space];
	if (table->reserved == BUS_RANGES_MAX)
		return err_set(err, -ENOSPC, "%s: more than %d %s ranges", name, BUS_RANGES_MAX,
			       space_name[space]);
	table->reserved++;
	return 0;
}

static int bus_add_locked(struct bus *bus, enum bus_space space, const struct bus_range *range,
			  struct err *err)
{
	struct bus_table *table = &bus->tables[space];
	const struct bus_range *clash = table_clash(table, range);
	if (clash)
		return err_set(err, -EEXIST, "%s: %s %#" PRIx64 " is taken by %s", range->name,
			       space_name[space], range->base, clash->name);
	int r = bus_reserve(bus, space, range->name, err);
	if (r < 0)
		return r;
	table_insert(table, &(struct bus_item){.range = *range, .rank = UINT64_MAX - bus->fixed_count++});
	return 0;
}

int bus_add(struct bus *bus, enum bus_space space, const struct bus_range *range, struct err *err)
{
	if (!bus_fits(space, range->base, range->size))
		return err_set(err, -EINVAL, "%s: %s range %#" PRIx64 "+%#" PRIx64 " is empty or wraps",
			       range->name, space_name[space], range->base, range->size);
	pthread_mutex_lock(&bus->lock);
	int r = bus_add_locked(bus, space, range, err);
	pthread_mutex_unlock(&bus->lock);
	return r;
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

uint64_t bus_refused_doorbell_count(const struct bus *bus)
{
	return bus->doorbell_log.total;
}

/*
 * Both go piece by piece: naturally sized, no more than the range takes or still has. A piece is looked up
 * anew, so an access may be answered by several owners.
 */
void bus_read(struct bus *bus, enum bus_space space, uint64_t address, void *data, unsigned size)
{
	uint8_t *out = data;
	memset(out, 0xff, size);
	for (unsigned done = 0; done < size;) {
		struct bus_hit hit = table_find(&bus->tables[space], address + done, size - done);
		if (hit.ops) {
			uint64_t value = hit.ops->read(hit.owner, hit.offset, hit.piece);
			memcpy(out + done, &value, hit.piece);
		} else {
			bus_unclaimed(bus, space, address + done, hit.piece, "read");
		}
		done += hit.piece;
	}
}

void bus_write(struct bus *bus, enum bus_space space, uint64_t address, const void *data, unsigned size)
{
	const uint8_t *in = data;
	for (unsigned done = 0; done < size;) {
		struct bus_hit hit = table_find(&bus->tables[space], address + done, size - done);
		uint64_t value = 0;
		memcpy(&value, in + done, hit.piece);
		if (!hit.ops)
			bus_unclaimed(bus, space, address + done, hit.piece, "write");
		else if (!hit.mapping || !mapping_ring(hit.mapping, hit.offset, hit.piece))
			hit.ops->write(hit.owner, hit.offset, hit.piece, value);
		done += hit.piece;
	}
}
