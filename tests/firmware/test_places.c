/* Nothing lies outside RAM or on something else, whatever numbers a file claims. */
#include "../../firmware/places.h"
#include "rig.h"

static struct places places_of(uint64_t ram_bytes)
{
	return (struct places){.ram_end = ram_bytes};
}

START_TEST(ram_ends_at_the_hole)
{
	struct rig rig;
	struct places places;
	rig_open(&rig, 5 * GIB);
	places_init(&places, rig.memory);
	ck_assert_uint_eq(places.ram_end, LAYOUT_PCI_HOLE_GPA);
	rig_close(&rig);
}
END_TEST

START_TEST(only_ram_can_be_taken)
{
	static const uint64_t outside[][2] = {
		{16 * MIB, 1},	 {16 * MIB - 1, 2},	      {UINT64_MAX, 1},
		{1, UINT64_MAX}, {MIB, UINT64_MAX - MIB + 2}, {0, 16 * MIB + 1},
	};
	for (size_t i = 0; i < sizeof(outside) / sizeof(outside[0]); i++) {
		struct places places = places_of(16 * MIB);
		struct err err = ERR_INIT;
		ck_assert_int_eq(places_take(&places, outside[i][0], outside[i][1], &err, "x"), -EINVAL);
		ck_assert_uint_eq(places.count, 0);
	}
	struct places places = places_of(16 * MIB);
	struct err err = ERR_INIT;
	ck_assert_int_eq(places_take(&places, 0, 16 * MIB, &err, "all"), 0);
}
END_TEST

START_TEST(neighbours_touch_but_do_not_overlap)
{
	struct places places = places_of(16 * MIB);
	struct err err = ERR_INIT;
	ck_assert_int_eq(places_take(&places, 0x2000, 0x1000, &err, "middle"), 0);
	ck_assert_int_eq(places_take(&places, 0x1000, 0x1000, &err, "below"), 0);
	ck_assert_int_eq(places_take(&places, 0x3000, 0x1000, &err, "above"), 0);
	ck_assert_int_eq(places_take(&places, 0x2fff, 1, &err, "segment %d", 7), -EINVAL);
	ck_assert_str_eq(err.text,
			 "segment 7 (0x1 bytes at 0x2fff) overlaps middle (0x1000 bytes at 0x2000)");
	ck_assert_uint_eq(places.count, 3);
}
END_TEST

START_TEST(highest_steps_over_what_is_taken)
{
	struct places places = places_of(16 * MIB);
	struct err err = ERR_INIT;
	uint64_t gpa = 0;
	ck_assert_int_eq(places_take(&places, 12 * MIB, MIB, &err, "a"), 0);
	ck_assert_int_eq(places_take_free(&places, 5000, PLACE_HIGHEST, UINT64_MAX, "b", &gpa, &err), 0);
	ck_assert_uint_eq(gpa, 16 * MIB - 8192);
	ck_assert_int_eq(places_take_free(&places, 4 * MIB, PLACE_HIGHEST, UINT64_MAX, "c", &gpa, &err), 0);
	ck_assert_uint_eq(gpa, 8 * MIB);
	ck_assert_int_eq(places_take_free(&places, 4096, PLACE_HIGHEST, 2 * MIB, "d", &gpa, &err), 0);
	ck_assert_uint_eq(gpa, 2 * MIB - 4096);
	ck_assert_int_eq(places_take_free(&places, 7 * MIB, PLACE_HIGHEST, UINT64_MAX, "e", &gpa, &err),
			 -EINVAL);
	ck_assert_int_eq(places_take_free(&places, UINT64_MAX, PLACE_HIGHEST, UINT64_MAX, "f", &gpa, &err),
			 -EINVAL);
}
END_TEST

START_TEST(above_all_is_the_next_page)
{
	struct places places = places_of(16 * MIB);
	struct err err = ERR_INIT;
	uint64_t gpa = 0;
	ck_assert_int_eq(places_take_free(&places, 1, PLACE_ABOVE_ALL, UINT64_MAX, "a", &gpa, &err), 0);
	ck_assert_uint_eq(gpa, MIB);
	ck_assert_int_eq(places_take_free(&places, 4097, PLACE_ABOVE_ALL, UINT64_MAX, "b", &gpa, &err), 0);
	ck_assert_uint_eq(gpa, MIB + 4096);
	ck_assert_int_eq(places_take_free(&places, 4097, PLACE_ABOVE_ALL, UINT64_MAX, "b", &gpa, &err), 0);
	ck_assert_uint_eq(gpa, MIB + 3 * 4096);
	ck_assert_int_eq(places_take_free(&places, 15 * MIB, PLACE_ABOVE_ALL, UINT64_MAX, "c", &gpa, &err),
			 -EINVAL);
	ck_assert_int_eq(places_take_free(&places, UINT64_MAX, PLACE_ABOVE_ALL, UINT64_MAX, "d", &gpa, &err),
			 -EINVAL);
}
END_TEST

START_TEST(the_list_has_an_end)
{
	struct places places = places_of(16 * MIB);
	for (uint64_t i = 0; i < PLACES_MAX; i++) {
		struct err err = ERR_INIT;
		ck_assert_int_eq(places_take(&places, i * 16, 16, &err, "x"), 0);
	}
	struct err err = ERR_INIT;
	ck_assert_int_eq(places_take(&places, MIB, 16, &err, "x"), -EINVAL);
}
END_TEST

TEST_MAIN("places", ram_ends_at_the_hole, only_ram_can_be_taken, neighbours_touch_but_do_not_overlap,
	  highest_steps_over_what_is_taken, above_all_is_the_next_page, the_list_has_an_end)
