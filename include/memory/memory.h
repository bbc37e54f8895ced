/*
 * Guest RAM: one mapping (anonymous, or a memfd when others must share it), shown to KVM as slots below and
 * above the PCI hole.
 *
 * Everything that comes from the guest is an address we must not trust: guest_memory_at is the only way to a
 * host pointer, and it answers NULL for a range that is not wholly RAM. What a guest can change while we look
 * must be copied once and then judged.
 */
#ifndef AERIE_MEMORY_MEMORY_H
#define AERIE_MEMORY_MEMORY_H

#include "base/err.h"
#include "config/config.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { GUEST_MEMORY_REGIONS = 2 };

struct guest_region {
	uint64_t gpa;
	uint64_t size; /* bytes */
	uint8_t *host; /* borrowed from the mapping */
};

struct guest_memory;

/* Makes and maps the RAM (MAP_PRIVATE semantics never apply: it is a memfd). Errors name the remedy
 * (hugepages…). */
int guest_memory_create(const struct memory_config *config, struct guest_memory **ret, struct err *err);
void guest_memory_destroy(struct guest_memory *memory); /* NULL is fine */

/*
 * RAM becomes the content of the regular file `fd` (borrowed, and not needed afterwards), from its start:
 * read when it is touched, shared through the page cache with all who do the same, and copied when it is
 * written. The file must stay as it is while the memory lives. Before the guest runs. -EOPNOTSUPP: RAM is
 * shared with other processes or made of huge pages; -EINVAL: the file is not as long as RAM.
 */
int guest_memory_map_file(struct guest_memory *memory, int fd, struct err *err);
bool guest_memory_is_file(const struct guest_memory *memory); /* that has been done */

/* Are pages that have no place in this process's page tables (/proc/self/pagemap) zeros? Not where RAM is
 * shared with other processes, nor where it stands for a file. */
bool guest_memory_absent_is_zero(const struct guest_memory *memory);

/* Below and, when RAM is larger than the space below the PCI hole, above 4 GiB; in address order. */
size_t guest_memory_regions(const struct guest_memory *memory, const struct guest_region **ret);

/*
 * The memfd that holds a region (one of guest_memory_regions), for other processes to map, and where in it
 * the region begins. Borrowed; -1: RAM is not shared (memory.shared).
 */
int guest_memory_fd(const struct guest_memory *memory, const struct guest_region *region,
		    uint64_t *ret_offset);

/* Host pointer to [gpa, gpa + len), or NULL when any byte of it is not RAM. len 0 is valid inside RAM. */
void *guest_memory_at(const struct guest_memory *memory, uint64_t gpa, uint64_t len);

/* Copies; 0 or -EFAULT when the range is not wholly RAM (nothing was copied then). */
int guest_memory_write(const struct guest_memory *memory, uint64_t gpa, const void *src, uint64_t len);

/*
 * [host, host + len), from guest_memory_at, has been written: for who tracks that (memory/dirty.h). Not
 * needed after guest_memory_write. Must come after the write; costs next to nothing while nobody tracks, and
 * does nothing for memory of devices. Any thread.
 */
void guest_memory_mark(const struct guest_memory *memory, const void *host, uint64_t len);

/* Tell KVM (a VM fd, borrowed; -1 in tests without KVM) about the RAM, and later about what is added. */
int guest_memory_attach(struct guest_memory *memory, int vm_fd, struct err *err);

/*
 * Memory of a device (virtio-pmem): `size` bytes at `host`, both multiples of 2 MiB, borrowed until
 * guest_memory_remove. *ret_gpa is where the guest finds it: above the window of 64-bit BARs. guest_memory_at
 * finds it too, since the guest may let other devices read and write there; guest_memory_regions does not
 * tell of it, it is not RAM. -ENOSPC: there are GUEST_MEMORY_DEVICES of them already. While the machine is
 * built or taken down.
 */
enum { GUEST_MEMORY_DEVICES = 8 };
int guest_memory_add(struct guest_memory *memory, void *host, uint64_t size, uint64_t *ret_gpa,
		     struct err *err);
void guest_memory_remove(struct guest_memory *memory, uint64_t gpa);

/*
 * The guest has no use for what these bytes of RAM hold (a host pointer from guest_memory_at): give the pages
 * to the host; they read as zeros afterwards. Only whole pages (of the kind that backs RAM) within the range
 * go. 0, or -EFAULT when it is not wholly RAM, or what madvise says. Any thread.
 */
int guest_memory_discard(struct guest_memory *memory, void *host, uint64_t len);

#endif
