#include "../../src/memory/impl.h"
#include "base/cleanup.h"
#include "base/layout.h"
#include "harness.h"
#include "memory/memory.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

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

START_TEST(ram_that_cannot_be_is_refused)
{
	struct guest_memory *memory = NULL;
	struct err err = ERR_INIT;
	struct memory_config config = {.size_bytes = 3 * MIB, .hugepages = HUGEPAGES_2M};
	ck_assert_int_eq(guest_memory_create(&config, &memory, &err), -EINVAL);
	ck_assert_str_eq(err.text, "memory.size: not a multiple of the page size 2M");
	config = (struct memory_config){.size_bytes = UINT64_C(1) << 56};
	err = ERR_INIT;
	ck_assert_int_eq(guest_memory_create(&config, &memory, &err), -ENOMEM);
	ck_assert_str_eq(err.text, "memory.size: 68719476736 MiB: Cannot allocate memory");
	config = (struct memory_config){.size_bytes = UINT64_C(1) << 63, .shared = true};
	err = ERR_INIT;
	ck_assert_int_lt(guest_memory_create(&config, &memory, &err), 0);
	ck_assert_msg(strncmp(err.text, "memory.size: 8796093022208 MiB: ", 32) == 0, "%s", err.text);
}
END_TEST

static void cannot_map(struct guest_memory *memory, int fd, int code, const char *why)
{
	struct err err = ERR_INIT;
	ck_assert_int_eq(guest_memory_map_file(memory, fd, &err), code);
	ck_assert_str_eq(err.text, why);
	ck_assert(!guest_memory_is_file(memory));
}

START_TEST(only_a_file_of_its_size_is_mapped)
{
	struct guest_memory *own = memory_of(2 * MIB, false), *shared = memory_of(2 * MIB, true);
	_cleanup_close_ int file = memfd_create("ram", MFD_CLOEXEC),
			    null = open("/dev/null", O_RDWR | O_CLOEXEC);
	ck_assert_int_eq(ftruncate(file, MIB), 0);
	cannot_map(own, file, -EINVAL, "memory: 1048576 bytes for RAM of 2097152");
	cannot_map(own, null, -EINVAL, "memory: 0 bytes for RAM of 2097152");
	cannot_map(own, -1, -EBADF, "memory: Bad file descriptor");
	ck_assert_int_eq(ftruncate(file, 2 * MIB), 0);
	cannot_map(shared, file, -EOPNOTSUPP, "memory: shared RAM cannot be a mapping of a file");
	own->page_bytes = 2 * MIB;
	cannot_map(own, file, -EOPNOTSUPP, "memory: RAM of huge pages cannot be a mapping of a file");
	guest_memory_destroy(own);
	guest_memory_destroy(shared);
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
	  copies_are_all_or_nothing, ram_that_cannot_be_is_refused, only_a_file_of_its_size_is_mapped,
	  too_few_huge_pages_names_the_remedy)
