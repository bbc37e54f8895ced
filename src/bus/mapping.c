/* Ranges that the guest moves, and the doorbells within them. */
#include "base/cleanup.h"
#include "host/kvm.h"
#include "impl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Doorbells are only ever added while their mapping lives, in front, so that readers need no lock. */
struct bus_doorbell {
	struct bus_doorbell *next;
	uint64_t offset;
	unsigned size; /* 0: any */
	int event_fd;
	bool in_kvm; /* under the bus's lock */
};

struct bus_mapping {
	struct bus *bus;
	enum bus_space space;
	struct bus_range range; /* base: where it is, while shown */
	bool shown;		/* under the bus's lock, as the base */
	_Atomic(struct bus_doorbell *) doorbells;
};

int bus_mapping_create(struct bus *bus, enum bus_space space, const struct bus_range *range,
		       struct bus_mapping **ret, struct err *err)
{
	struct bus_mapping *mapping = calloc(1, sizeof(*mapping));
	if (!mapping)
		return err_sys(err, -ENOMEM, "%s", range->name);
	mapping->bus = bus;
	mapping->space = space;
	mapping->range = *range;
	pthread_mutex_lock(&bus->lock);
	int r = bus_reserve(bus, space, range->name, err);
	pthread_mutex_unlock(&bus->lock);
	if (r < 0) {
		free(mapping);
		return r;
	}
	*ret = mapping;
	return 0;
}

/*
 * KVM's doorbells. Without one the write still exits to us and mapping_ring signals it, so that failing costs
 * time and nothing else: KVM refuses a second one at the same address (-EEXIST), where a guest may well put
 * two BARs.
 */
static void doorbell_enter_kvm(struct bus_mapping *mapping, struct bus_doorbell *doorbell, bool enter)
{
	struct bus *bus = mapping->bus;
	if (bus->vm_fd < 0 || doorbell->in_kvm == enter)
		return;
	struct kvm_ioeventfd args = {
		.addr = mapping->range.base + doorbell->offset,
		.len = doorbell->size,
		.fd = doorbell->event_fd,
		.flags = (enter ? 0U : 1U << kvm_ioeventfd_flag_nr_deassign) |
			 (mapping->space == BUS_PIO ? 1U << kvm_ioeventfd_flag_nr_pio : 0U),
	};
	int r = kvm_call(bus->vm_fd, KVM_IOEVENTFD, &args);
	doorbell->in_kvm = enter && r >= 0;
	if (r < 0)
		log_guest(&bus->doorbell_log, "%s: doorbell at %#" PRIx64 ": %s", mapping->range.name,
			  (uint64_t)args.addr, strerror(-r));
}

static void mapping_enter_kvm(struct bus_mapping *mapping, bool enter)
{
	for (struct bus_doorbell *doorbell = atomic_load_explicit(&mapping->doorbells, memory_order_relaxed);
	     doorbell; doorbell = doorbell->next)
		doorbell_enter_kvm(mapping, doorbell, enter);
}

static void mapping_hide_locked(struct bus_mapping *mapping)
{
	if (!mapping->shown)
		return;
	mapping_enter_kvm(mapping, false);
	table_remove(&mapping->bus->tables[mapping->space], mapping);
	mapping->shown = false;
}

void bus_mapping_hide(struct bus_mapping *mapping)
{
	pthread_mutex_lock(&mapping->bus->lock);
	mapping_hide_locked(mapping);
	pthread_mutex_unlock(&mapping->bus->lock);
}

void bus_mapping_move(struct bus_mapping *mapping, uint64_t base)
{
	struct bus *bus = mapping->bus;
	pthread_mutex_lock(&bus->lock);
	if (!mapping->shown || mapping->range.base != base) {
		mapping_hide_locked(mapping);
		if (bus_fits(mapping->space, base, mapping->range.size)) {
			mapping->range.base = base;
			mapping->shown = true;
			table_insert(&bus->tables[mapping->space], &(struct bus_item){.range = mapping->range,
										      .rank = ++bus->moves,
										      .mapping = mapping});
			mapping_enter_kvm(mapping, true);
		}
	}
	pthread_mutex_unlock(&bus->lock);
}

void bus_mapping_destroy(struct bus_mapping *mapping)
{
	if (!mapping)
		return;
	struct bus *bus = mapping->bus;
	pthread_mutex_lock(&bus->lock);
	mapping_hide_locked(mapping);
	bus->tables[mapping->space].reserved--;
	pthread_mutex_unlock(&bus->lock);
	for (struct bus_doorbell *next, *doorbell = mapping->doorbells; doorbell; doorbell = next) {
		next = doorbell->next;
		free(doorbell);
	}
	free(mapping);
}

static struct bus_doorbell *mapping_doorbell_at(struct bus_mapping *mapping, uint64_t offset)
{
	struct bus_doorbell *doorbell = atomic_load_explicit(&mapping->doorbells, memory_order_acquire);
	while (doorbell && doorbell->offset != offset)
		doorbell = doorbell->next;
	return doorbell;
}

int bus_doorbell_add(struct bus_mapping *mapping, uint64_t offset, unsigned size, int event_fd,
		     struct err *err)
{
	struct bus *bus = mapping->bus;
	struct bus_doorbell *doorbell = malloc(sizeof(*doorbell));
	if (!doorbell)
		return err_sys(err, -ENOMEM, "%s: doorbell", mapping->range.name);
	*doorbell = (struct bus_doorbell){.offset = offset, .size = size, .event_fd = event_fd};
	pthread_mutex_lock(&bus->lock);
	int r = 0;
	if (offset >= mapping->range.size || size > mapping->range.size - offset)
		r = err_set(err, -EINVAL, "%s: doorbell at offset %#" PRIx64 " is outside",
			    mapping->range.name, offset);
	else if (mapping_doorbell_at(mapping, offset))
		r = err_set(err, -EEXIST, "%s: two doorbells at offset %#" PRIx64, mapping->range.name,
			    offset);
	if (r == 0) {
		doorbell->next = atomic_load_explicit(&mapping->doorbells, memory_order_relaxed);
		atomic_store_explicit(&mapping->doorbells, doorbell, memory_order_release);
		if (mapping->shown)
			doorbell_enter_kvm(mapping, doorbell, true);
	} else {
		free(doorbell);
	}
	pthread_mutex_unlock(&bus->lock);
	return r;
}

bool mapping_ring(struct bus_mapping *mapping, uint64_t offset, unsigned size)
{
	const struct bus_doorbell *doorbell = mapping_doorbell_at(mapping, offset);
	if (!doorbell || (doorbell->size != 0 && doorbell->size != size))
		return false;
	/* The counter of an eventfd holds 2^64 - 2 rings; one that is full is readable already. */
	static const uint64_t one = 1;
	ssize_t n = write(doorbell->event_fd, &one, sizeof(one));
	(void)n;
	return true;
}
