#include "e820.h"

#include "base/layout.h"

#include <assert.h>

static void e820_add(struct e820 *map, uint64_t gpa, uint64_t end_gpa, enum e820_type type)
{
	assert(map->count < E820_ENTRIES_MAX);
	map->entries[map->count++] = (struct e820_entry){.gpa = gpa, .size = end_gpa - gpa, .type = type};
}

/*
 * The ACPI tables are reserved, not "ACPI reclaimable": they are 128 KiB that no guest misses, and a guest
 * that keeps them can start the next kernel (kexec, a crash kernel) with them.
 */
void e820_build(const struct guest_memory *memory, struct e820 *ret)
{
	const struct guest_region *regions;
	size_t count = guest_memory_regions(memory, &regions);

	*ret = (struct e820){.count = 0};
	e820_add(ret, 0, LAYOUT_LOW_RAM_END_GPA, E820_RAM);
	e820_add(ret, LAYOUT_LOW_RAM_END_GPA, LAYOUT_VGA_HOLE_GPA, E820_RESERVED);
	e820_add(ret, LAYOUT_ACPI_GPA, LAYOUT_KERNEL_GPA, E820_RESERVED);
	e820_add(ret, LAYOUT_KERNEL_GPA, regions[0].gpa + regions[0].size, E820_RAM);
	e820_add(ret, LAYOUT_ECAM_GPA, LAYOUT_ECAM_GPA + LAYOUT_ECAM_BYTES, E820_RESERVED);
	e820_add(ret, LAYOUT_KVM_IDENTITY_MAP_GPA, LAYOUT_KVM_TSS_GPA + LAYOUT_KVM_TSS_BYTES, E820_RESERVED);
	for (size_t i = 1; i < count; i++)
		e820_add(ret, regions[i].gpa, regions[i].gpa + regions[i].size, E820_RAM);
}
