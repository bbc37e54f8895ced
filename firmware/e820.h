/*
 * The memory map that every boot protocol hands over (types of ACPI 6.5, 15.1): one table, made from RAM and
 * layout.h.
 */
#ifndef AERIE_FIRMWARE_E820_H
#define AERIE_FIRMWARE_E820_H

#include "memory/memory.h"

#include <stddef.h>
#include <stdint.h>

enum { E820_ENTRIES_MAX = 8 };
enum e820_type { E820_RAM = 1, E820_RESERVED = 2 };

struct e820_entry {
	uint64_t gpa;
	uint64_t size; /* bytes */
	uint32_t type;
};

struct e820 {
	struct e820_entry entries[E820_ENTRIES_MAX]; /* in address order, without overlap */
	size_t count;
};

void e820_build(const struct guest_memory *memory, struct e820 *ret);

#endif
