/* SMBIOS, walked as a guest does: from the anchor on, structure by structure with its strings (DSP0134). */
#include "../../firmware/smbios.h"
#include "rig.h"

struct walk {
	const uint8_t *at; /* the structure */
	const uint8_t *end;
};

static uint8_t sum(const uint8_t *bytes, size_t len)
{
	uint8_t total = 0;
	for (size_t i = 0; i < len; i++)
		total = (uint8_t)(total + bytes[i]);
	return total;
}

static struct walk walk_open(const struct rig *rig)
{
	const uint8_t *area = rig_ram(rig, 0xf0000, 0x10000);
	ck_assert_mem_eq(area, "_SM3_", 5);
	ck_assert_uint_eq(area[6], 24);
	ck_assert_uint_eq(sum(area, 24), 0);
	ck_assert_uint_eq(area[7], 3); /* 3.0 */
	ck_assert_uint_eq(area[8], 0);
	ck_assert_uint_eq(area[10], 1);
	ck_assert_uint_eq(load_le64(area + 16), 0xf0018);
	uint32_t bytes = load_le32(area + 12);
	ck_assert_uint_le(bytes, 0x10000 - 24);
	return (struct walk){.at = area + 24, .end = area + 24 + bytes};
}

/* String `number` of the structure; NULL behind the last. */
static const char *walk_string(const struct walk *walk, uint8_t number)
{
	const char *text = (const char *)walk->at + walk->at[1];
	while (--number && *text)
		text += strlen(text) + 1;
	return *text ? text : NULL;
}

static void walk_next(struct walk *walk)
{
	const uint8_t *at = walk->at + walk->at[1];
	while (at[0] || at[1]) {
		at++;
		ck_assert(at + 1 < walk->end);
	}
	walk->at = at + 2;
}

static void write_tables(struct rig *rig)
{
	struct err err = ERR_INIT;
	uint8_t *area = rig_ram(rig, LAYOUT_SMBIOS_GPA, LAYOUT_SMBIOS_BYTES);
	memset(area, 0xa5, LAYOUT_SMBIOS_BYTES);
	ck_assert_int_eq(smbios_write_tables(&rig->config, rig->memory, area, &err), 0);
}

START_TEST(every_structure_has_its_length_and_a_handle_of_its_own)
{
	static const uint8_t expected[][2] = {
		{0, 0x18},  {1, 0x1b},	{3, 0x16},  {4, 0x30},	{4, 0x30},   {16, 0x17},
		{17, 0x28}, {19, 0x1f}, {19, 0x1f}, {32, 0x0b}, {127, 0x04},
	};
	const size_t count = sizeof(expected) / sizeof(expected[0]);
	uint16_t handles[sizeof(expected) / sizeof(expected[0])];
	struct rig rig;
	rig_open(&rig, 5 * GIB);
	rig.config.cpus = (struct cpus_config){.count = 4, .sockets = 2, .cores = 2, .threads = 1};
	write_tables(&rig);
	struct walk walk = walk_open(&rig);
	for (size_t i = 0; i < count; i++) {
		ck_assert_uint_eq(walk.at[0], expected[i][0]);
		ck_assert_uint_eq(walk.at[1], expected[i][1]);
		handles[i] = load_le16(walk.at + 2);
		for (size_t j = 0; j < i; j++)
			ck_assert_uint_ne(handles[i], handles[j]);
		if (i + 1 < count)
			walk_next(&walk);
	}
	ck_assert_ptr_eq(walk.at + 6, walk.end); /* 127 and its two zeros */
	rig_close(&rig);
}
END_TEST

static struct walk walk_to(const struct rig *rig, uint8_t type)
{
	struct walk walk = walk_open(rig);
	while (walk.at[0] != type)
		walk_next(&walk);
	return walk;
}

START_TEST(the_name_is_the_serial_number)
{
	struct rig rig;
	rig_open(&rig, 64 * MIB);
	rig.config.name = "lab 7";
	write_tables(&rig);
	struct walk walk = walk_to(&rig, 1);
	ck_assert_str_eq(walk_string(&walk, walk.at[4]), "aerie");
	ck_assert_str_eq(walk_string(&walk, walk.at[5]), "PC");
	ck_assert_str_eq(walk_string(&walk, walk.at[7]), "lab 7");

	rig.config.name = "";
	write_tables(&rig);
	walk = walk_to(&rig, 1);
	ck_assert_uint_eq(walk.at[7], 0);
	ck_assert_ptr_null(walk_string(&walk, 4));
	rig_close(&rig);
}
END_TEST

START_TEST(the_bios_says_virtual_machine)
{
	struct rig rig;
	rig_open(&rig, 64 * MIB);
	write_tables(&rig);
	struct walk walk = walk_to(&rig, 0);
	ck_assert_str_eq(walk_string(&walk, walk.at[4]), "aerie");
	ck_assert_uint_eq(walk.at[0x13], 0x10);
	rig_close(&rig);
}
END_TEST

START_TEST(processors_count_cores_and_threads)
{
	struct rig rig;
	rig_open(&rig, 64 * MIB);
	rig.config.cpus = (struct cpus_config){.count = 600, .sockets = 1, .cores = 300, .threads = 2};
	write_tables(&rig);
	struct walk walk = walk_to(&rig, 4);
	ck_assert_str_eq(walk_string(&walk, 1), "CPU 0");
	ck_assert_uint_eq(walk.at[0x18], 0x41);
	ck_assert_uint_eq(walk.at[0x23], 0xff);
	ck_assert_uint_eq(walk.at[0x25], 0xff);
	ck_assert_uint_eq(load_le16(walk.at + 0x26), 0x1c);
	ck_assert_uint_eq(load_le16(walk.at + 0x2a), 300);
	ck_assert_uint_eq(load_le16(walk.at + 0x2e), 600);
	rig_close(&rig);
}
END_TEST

START_TEST(memory_is_as_large_as_it_is)
{
	static const struct {
		uint64_t bytes;
		uint16_t mib;
		uint32_t mib_wide;
		uint32_t kib;
		uint64_t bytes_wide;
	} cases[] = {
		{512 * MIB, 512, 0, 512 * 1024, 0},
		{32766 * MIB, 32766, 0, 32766 * 1024, 0},
		{32767 * MIB, 0x7fff, 32767, 32767 * 1024, 0},
		{2048 * GIB, 0x7fff, 2048 * 1024, 0x80000000, 2048 * GIB},
	};
	struct rig rig;
	rig_open(&rig, 64 * MIB);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		rig.config.memory.size_bytes = cases[i].bytes;
		write_tables(&rig);
		struct walk array = walk_to(&rig, 16);
		ck_assert_uint_eq(load_le32(array.at + 7), cases[i].kib);
		ck_assert_uint_eq(load_le64(array.at + 0xf), cases[i].bytes_wide);
		struct walk device = walk_to(&rig, 17);
		ck_assert_uint_eq(load_le16(device.at + 4), load_le16(array.at + 2));
		ck_assert_uint_eq(load_le16(device.at + 0xc), cases[i].mib);
		ck_assert_uint_eq(load_le32(device.at + 0x1c), cases[i].mib_wide);
	}
	rig_close(&rig);
}
END_TEST

START_TEST(memory_is_mapped_around_the_hole)
{
	struct rig rig;
	rig_open(&rig, 5 * GIB);
	write_tables(&rig);
	struct walk walk = walk_to(&rig, 19);
	ck_assert_uint_eq(load_le32(walk.at + 4), 0);
	ck_assert_uint_eq(load_le32(walk.at + 8), 3 * 1024 * 1024 - 1);
	walk_next(&walk);
	ck_assert_uint_eq(load_le32(walk.at + 4), 4 * 1024 * 1024);
	ck_assert_uint_eq(load_le32(walk.at + 8), 6 * 1024 * 1024 - 1);
	rig_close(&rig);
}
END_TEST

START_TEST(most_sockets_fit_and_a_longer_name_is_an_error)
{
	static char name[LAYOUT_SMBIOS_BYTES];
	struct rig rig;
	rig_open(&rig, 64 * MIB);
	rig.config.cpus =
		(struct cpus_config){.count = 1024, .sockets = CONFIG_CPUS_MAX, .cores = 1, .threads = 1};
	write_tables(&rig);
	struct walk walk = walk_to(&rig, 127);
	ck_assert_ptr_eq(walk.at + 6, walk.end);

	struct err err = ERR_INIT;
	memset(name, 'x', sizeof(name) - 1);
	rig.config.name = name;
	uint8_t *area = rig_ram(&rig, LAYOUT_SMBIOS_GPA, LAYOUT_SMBIOS_BYTES);
	ck_assert_int_eq(smbios_write_tables(&rig.config, rig.memory, area, &err), -ENOSPC);
	ck_assert_ptr_nonnull(strstr(err.text, "name"));
	rig_close(&rig);
}
END_TEST

TEST_MAIN("smbios", every_structure_has_its_length_and_a_handle_of_its_own, the_name_is_the_serial_number,
	  the_bios_says_virtual_machine, processors_count_cores_and_threads, memory_is_as_large_as_it_is,
	  memory_is_mapped_around_the_hole, most_sockets_fit_and_a_longer_name_is_an_error)
