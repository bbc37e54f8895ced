/* The memory map for RAM below, at and above the PCI hole. */
#include "../../firmware/e820.h"
#include "rig.h"

static struct e820 map_of(uint64_t ram_bytes)
{
	struct rig rig;
	struct e820 map;
	rig_open(&rig, ram_bytes);
	e820_build(rig.memory, &map);
	rig_close(&rig);
	return map;
}

static void check_entry(const struct e820 *map, size_t i, uint64_t gpa, uint64_t end_gpa, uint32_t type)
{
	ck_assert_uint_lt(i, map->count);
	ck_assert_uint_eq(map->entries[i].gpa, gpa);
	ck_assert_uint_eq(map->entries[i].size, end_gpa - gpa);
	ck_assert_uint_eq(map->entries[i].type, type);
}

static void check_low(const struct e820 *map, uint64_t ram_end)
{
	check_entry(map, 0, 0, 0x9fc00, E820_RAM);
	check_entry(map, 1, 0x9fc00, 0xa0000, E820_RESERVED);
	check_entry(map, 2, 0xe0000, 0x100000, E820_RESERVED);
	check_entry(map, 3, 0x100000, ram_end, E820_RAM);
	check_entry(map, 4, 0xe0000000, 0xf0000000, E820_RESERVED);
	check_entry(map, 5, 0xfffbc000, 0xfffc0000, E820_RESERVED);
}

START_TEST(below_the_hole)
{
	struct e820 map = map_of(512 * MIB);
	ck_assert_uint_eq(map.count, 6);
	check_low(&map, 512 * MIB);
}
END_TEST

START_TEST(up_to_the_hole)
{
	struct e820 map = map_of(3 * GIB);
	ck_assert_uint_eq(map.count, 6);
	check_low(&map, 3 * GIB);
}
END_TEST

START_TEST(above_the_hole)
{
	struct e820 map = map_of(5 * GIB);
	ck_assert_uint_eq(map.count, 7);
	check_low(&map, 3 * GIB);
	check_entry(&map, 6, 4 * GIB, 6 * GIB, E820_RAM);
}
END_TEST

TEST_MAIN("e820", below_the_hole, up_to_the_hole, above_the_hole)
