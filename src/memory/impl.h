/* Guest RAM as the files of this room share it. */
#ifndef AERIE_MEMORY_IMPL_H
#define AERIE_MEMORY_IMPL_H

#include "memory/dirty.h"
#include "memory/memory.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>

/* Of RAM in a memfd: its size stays, whoever has it, and nobody adds a seal that would keep us from writing.
 */
enum { MEMORY_SEALS = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL };

/* dirty.c's part. */
struct dirty_log {
	pthread_mutex_t lock; /* guards all but marks */
	struct dirty_tracker *trackers[DIRTY_TRACKERS_MAX];
	bool manual; /* KVM clears by KVM_CLEAR_DIRTY_LOG */
	bool probed; /* ... has been found out */
	/*
	 * A bit for each page that a device has written, while somebody tracks; else NULL. Any thread sets
	 * bits, so the storage stays until the memory goes.
	 */
	_Atomic(uint64_t *) marks;
	_Atomic uint64_t *storage;
	uint64_t *kvm_bits; /* room for one region's answer */
};

struct guest_memory {
	int fd; /* memfd with all RAM, low region first; -1 for private RAM */
	uint8_t *host;
	uint64_t size;
	uint64_t page_bytes;
	bool from_file; /* a private mapping of a file, see guest_memory_map_file */
	/* handover.c's part. */
	int passed_fd;		     /* RAM that was handed over to us; -1: none */
	struct dirty_tracker *trial; /* what is written while it is mapped privately */
	uint64_t *written;	     /* room for what the tracker says */
	bool left;		     /* fd is another's now, and not what is mapped */
	int vm_fd;		     /* borrowed; -1 before guest_memory_attach */
	struct guest_region regions[GUEST_MEMORY_REGIONS];
	size_t region_count;
	struct guest_region
		devices[GUEST_MEMORY_DEVICES]; /* host NULL: free; KVM's slots follow those of RAM */
	struct dirty_log dirty;
};

/* KVM's slot `slot` is `region`; flags as KVM_MEM_. */
int memory_set_slot(const struct guest_memory *memory, uint32_t slot, const struct guest_region *region,
		    uint32_t flags);

void dirty_log_init(struct guest_memory *memory);
void dirty_log_finish(struct guest_memory *memory);

#endif
