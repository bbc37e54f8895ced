#include "base/layout.h"
#include "harness.h"
#include "memory/memory.h"

#include <errno.h>
#include <string.h>

static struct guest_memory *memory_of(uint64_t size, bool shared)
{
	struct guest_memory *memory = NULL;
	struct err err = ERR_INIT;
	const struct memory_config config = {.size_bytes = size, .shared = shared};
	ck_assert_int_eq(guest_memory_create(&config, &memory, &err), 0);
	return memory;
}

START_TEST(small_ram_is_one_region)
{
	struct guest_memory *memory = memory_of(64 * MIB, false);
	const struct guest_region *regions;
	ck_assert_uint_eq(guest_memory_regions(memory, &regions), 1);
	ck_assert_uint_eq(regions[0].size, 64 * MIB);
	guest_memory_destroy(memory);
}
END_TEST

START_TEST(large_ram_is_split_at_the_hole)
{
	struct guest_memory *memory = memory_of(5 * GIB, false);
	const struct guest_region *regions;
	ck_assert_uint_eq(guest_memory_regions(memory, &regions), 2);
	ck_assert_uint_eq(regions[0].size, LAYOUT_PCI_HOLE_GPA);
	ck_assert_uint_eq(regions[1].gpa, LAYOUT_HIGH_RAM_GPA);
	ck_assert_uint_eq(regions[1].size, 5 * GIB - LAYOUT_PCI_HOLE_GPA);
	ck_assert_ptr_null(guest_memory_at(memory, LAYOUT_PCI_HOLE_GPA - 1, 2));
	ck_assert_ptr_null(guest_memory_at(memory, LAYOUT_PCI_HOLE_GPA, 1));
	ck_assert_ptr_null(guest_memory_at(memory, LAYOUT_HIGH_RAM_GPA - 1, 1));
	ck_assert_ptr_nonnull(guest_memory_at(memory, LAYOUT_HIGH_RAM_GPA, 2 * GIB));
	ck_assert_ptr_null(guest_memory_at(memory, LAYOUT_HIGH_RAM_GPA, 2 * GIB + 1));
	guest_memory_destroy(memory);
}
END_TEST

START_TEST(lengths_that_wrap_are_not_ram)
{
	struct guest_memory *memory = memory_of(1 * MIB, false);
	ck_assert_ptr_null(guest_memory_at(memory, 0, UINT64_MAX));
	ck_assert_ptr_null(guest_memory_at(memory, 0x1000, UINT64_MAX - 0xfff));
	ck_assert_ptr_null(guest_memory_at(memory, UINT64_MAX, 1));
	ck_assert_ptr_null(guest_memory_at(memory, 1 * MIB, 0));
	ck_assert_ptr_nonnull(guest_memory_at(memory, 0, 1 * MIB));
	guest_memory_destroy(memory);
}
END_TEST

START_TEST(copies_are_all_or_nothing)
{
	struct guest_memory *memory = memory_of(1 * MIB, true);
	const uint8_t *at = guest_memory_at(memory, MIB - 16, 16);
	uint8_t in[16];
	memset(in, 0x5a, sizeof(in));
	ck_assert_int_eq(guest_memory_write(memory, MIB - 8, in, 16), -EFAULT);
	ck_assert_uint_eq(at[8], 0);
	ck_assert_int_eq(guest_memory_write(memory, MIB - 16, in, 16), 0);
	ck_assert_mem_eq(in, at, 16);
	guest_memory_destroy(memory);
}
END_TEST

START_TEST(too_few_huge_pages_names_the_remedy)
{
	struct guest_memory *memory = NULL;
	struct err err = ERR_INIT;
	/* More than any machine that runs this has reserved. */
	const struct memory_config config = {.size_bytes = 4096 * GIB, .hugepages = HUGEPAGES_2M};
	ck_assert_int_lt(guest_memory_create(&config, &memory, &err), 0);
	ck_assert_ptr_nonnull(strstr(err.text, "echo 2097152 > /sys/kernel/mm/hugepages/hugepages-2048kB"));
	guest_memory_destroy(NULL);
}
END_TEST

START_TEST(discarded_pages_read_as_zeros)
{
	for (int shared = 0; shared < 2; shared++) {
		struct guest_memory *memory = memory_of(4 * MIB, shared);
		uint8_t *at = guest_memory_at(memory, MIB, 3 * 4096);
		memset(at, 0x5a, 3 * 4096);
		ck_assert_int_eq(guest_memory_discard(memory, at + 100, 2 * 4096),
				 0); /* one whole page lies in it */
		ck_assert_uint_eq(at[4095], 0x5a);
		ck_assert_uint_eq(at[4096], 0);
		ck_assert_uint_eq(at[8191], 0);
		ck_assert_uint_eq(at[8192], 0x5a);
		ck_assert_int_eq(guest_memory_discard(memory, at + 1, 4095), 0); /* none */
		ck_assert_uint_eq(at[1], 0x5a);
		ck_assert_int_eq(guest_memory_discard(memory, at + 3 * MIB - 4096, 8192), -EFAULT);
		guest_memory_destroy(memory);
	}
}
END_TEST

START_TEST(device_memory_is_found_but_is_not_ram)
{
	struct guest_memory *memory = memory_of(4 * MIB, false);
	const struct guest_region *regions;
	struct err err = ERR_INIT;
	static uint8_t device[2][4096];
	uint64_t first, second;
	ck_assert_int_eq(guest_memory_add(memory, device[0], 4096, &first, &err), 0);
	ck_assert_int_eq(guest_memory_add(memory, device[1], 4096, &second, &err), 0);
	ck_assert_uint_ge(first, layout_pci64_gpa(4 * MIB) + LAYOUT_PCI64_BYTES);
	ck_assert_uint_ge(second, first + 4096);
	ck_assert_ptr_eq(guest_memory_at(memory, first + 10, 20), device[0] + 10);
	ck_assert_ptr_null(guest_memory_at(memory, first + 4090, 20));
	ck_assert_uint_eq(guest_memory_regions(memory, &regions), 1);
	ck_assert_int_eq(guest_memory_discard(memory, device[0], 4096), -EFAULT);
	guest_memory_remove(memory, first);
	ck_assert_ptr_null(guest_memory_at(memory, first, 1));
	ck_assert_ptr_nonnull(guest_memory_at(memory, second, 1));
	for (int i = 1; i < GUEST_MEMORY_DEVICES; i++)
		ck_assert_int_eq(guest_memory_add(memory, device[0], 4096, &first, &err), 0);
	ck_assert_int_eq(guest_memory_add(memory, device[0], 4096, &first, &err), -ENOSPC);
	guest_memory_destroy(memory);
}
END_TEST

TEST_MAIN("memory", discarded_pages_read_as_zeros, device_memory_is_found_but_is_not_ram,
	  small_ram_is_one_region, large_ram_is_split_at_the_hole, lengths_that_wrap_are_not_ram,
	  copies_are_all_or_nothing, too_few_huge_pages_names_the_remedy)
