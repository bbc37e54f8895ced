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

/* Below and, when RAM is larger than the space below the PCI hole, above 4 GiB; in address order. */
size_t guest_memory_regions(const struct guest_memory *memory, const struct guest_region **ret);

/* Host pointer to [gpa, gpa + len), or NULL when any byte of it is not RAM. len 0 is valid inside RAM. */
void *guest_memory_at(const struct guest_memory *memory, uint64_t gpa, uint64_t len);

/* Copies; 0 or -EFAULT when the range is not wholly RAM (nothing was copied then). */
int guest_memory_read(const struct guest_memory *memory, uint64_t gpa, void *dst, uint64_t len);
int guest_memory_write(const struct guest_memory *memory, uint64_t gpa, const void *src, uint64_t len);

/* Tell KVM (a VM fd) about the RAM. */
int guest_memory_attach(struct guest_memory *memory, int vm_fd, struct err *err);

#endif
