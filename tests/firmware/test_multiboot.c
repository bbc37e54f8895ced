/* Multiboot 1: flat images and ELF, the information handed over, and headers that lie. */
#include "elf_image.h"
#include "rig.h"

enum { HEADER_OFFSET = 0x40, FLAT_BYTES = 4096, LOAD_ADDR = 0x100000 };

struct header {
	uint32_t magic, flags, checksum, header_addr, load_addr, load_end_addr, bss_end_addr, entry_addr;
};

static uint8_t image[FLAT_BYTES];
static struct header header;

static void put_header(uint8_t *at, size_t bytes)
{
	header.checksum = -(header.magic + header.flags);
	memcpy(at, &header, bytes);
}

/* A flat image whose header stands at HEADER_OFFSET, loaded from its first byte on. */
static void make_flat(void)
{
	memset(image, 0xc1, sizeof(image));
	header = (struct header){
		.magic = 0x1badb002,
		.flags = 1 << 16 | 3,
		.header_addr = LOAD_ADDR + HEADER_OFFSET,
		.load_addr = LOAD_ADDR,
		.load_end_addr = LOAD_ADDR + FLAT_BYTES,
		.bss_end_addr = LOAD_ADDR + 2 * FLAT_BYTES,
		.entry_addr = LOAD_ADDR + 0x80,
	};
	put_header(image + HEADER_OFFSET, sizeof(header));
}

static void open_rig(struct rig *rig)
{
	rig_open(rig, 32 * MIB);
	make_flat();
}

START_TEST(a_flat_image_goes_where_its_header_says)
{
	struct rig rig;
	open_rig(&rig);
	memset(rig_ram(&rig, LOAD_ADDR, 0x4000), 0x5a, 0x4000);
	rig_assert_loads(&rig, image, sizeof(image));
	ck_assert_int_eq(rig.boot.mode, CPU_BOOT_PROTECTED);
	ck_assert_uint_eq(rig.boot.rip, LOAD_ADDR + 0x80);
	ck_assert_uint_eq(rig.boot.rax, 0x2badb002);
	ck_assert_mem_eq(rig_ram(&rig, LOAD_ADDR, FLAT_BYTES), image, FLAT_BYTES);
	const uint8_t *bss = rig_ram(&rig, LOAD_ADDR + FLAT_BYTES, FLAT_BYTES + 1);
	for (size_t i = 0; i < FLAT_BYTES; i++)
		ck_assert_uint_eq(bss[i], 0);
	ck_assert_uint_eq(bss[FLAT_BYTES], 0x5a); /* and not further */
	rig_close(&rig);
}
END_TEST

START_TEST(only_a_part_of_the_file_may_be_loaded)
{
	struct rig rig;
	open_rig(&rig);
	header.load_addr = LOAD_ADDR + 0x20;
	header.load_end_addr = LOAD_ADDR + 0x200;
	header.bss_end_addr = 0;
	put_header(image + HEADER_OFFSET, sizeof(header));
	memset(rig_ram(&rig, LOAD_ADDR, 0x1000), 0x5a, 0x1000);
	rig_assert_loads(&rig, image, sizeof(image));
	ck_assert_mem_eq(rig_ram(&rig, LOAD_ADDR + 0x20, 0x1e0), image + 0x20, 0x1e0);
	ck_assert_uint_eq(*(uint8_t *)rig_ram(&rig, LOAD_ADDR + 0x1f, 1), 0x5a);
	ck_assert_uint_eq(*(uint8_t *)rig_ram(&rig, LOAD_ADDR + 0x200, 1), 0x5a);

	header.load_end_addr = 0; /* to the end of the file */
	put_header(image + HEADER_OFFSET, sizeof(header));
	rig_assert_loads(&rig, image, sizeof(image));
	ck_assert_mem_eq(rig_ram(&rig, LOAD_ADDR + 0x20, FLAT_BYTES - 0x20), image + 0x20, FLAT_BYTES - 0x20);
	rig_close(&rig);
}
END_TEST

START_TEST(the_information_is_complete)
{
	struct rig rig;
	open_rig(&rig);
	rig.config.boot.cmdline = "test=all";
	rig.config.boot.initrd = rig_file(&rig, "initrd", 6);
	rig.config.boot.modules[0] = (struct boot_module){rig_file(&rig, "one", 3), "first module"};
	rig.config.boot.module_count = 1;
	rig_assert_loads(&rig, image, sizeof(image));
	uint64_t info = rig.boot.rbx;
	ck_assert_uint_eq(rig_le32(&rig, info),
			  0x24d); /* memory, cmdline, modules, memory map, loader name */
	ck_assert_uint_eq(rig_le32(&rig, info + 4), 639);
	ck_assert_uint_eq(rig_le32(&rig, info + 8), 31 * 1024);

	char expected[128];
	snprintf(expected, sizeof(expected), "%s test=all", rig.config.boot.kernel);
	ck_assert_str_eq(rig_string(&rig, rig_le32(&rig, info + 16)), expected);
	ck_assert_str_eq(rig_string(&rig, rig_le32(&rig, info + 64)), "aerie");

	ck_assert_uint_eq(rig_le32(&rig, info + 20), 2);
	uint64_t modules = rig_le32(&rig, info + 24);
	ck_assert_uint_eq(rig_le32(&rig, modules), LOAD_ADDR + 2 * FLAT_BYTES);
	ck_assert_uint_eq(rig_le32(&rig, modules + 4), LOAD_ADDR + 2 * FLAT_BYTES + 6);
	ck_assert_mem_eq(rig_ram(&rig, rig_le32(&rig, modules), 6), "initrd", 6);
	ck_assert_str_eq(rig_string(&rig, rig_le32(&rig, modules + 8)), rig.config.boot.initrd);
	ck_assert_uint_eq(rig_le32(&rig, modules + 16), LOAD_ADDR + 3 * FLAT_BYTES); /* the next page */
	ck_assert_mem_eq(rig_ram(&rig, rig_le32(&rig, modules + 16), 3), "one", 3);
	snprintf(expected, sizeof(expected), "%s first module", rig.config.boot.modules[0].path);
	ck_assert_str_eq(rig_string(&rig, rig_le32(&rig, modules + 16 + 8)), expected);

	ck_assert_uint_eq(rig_le32(&rig, info + 44), 6 * 24);
	uint64_t map = rig_le32(&rig, info + 48);
	ck_assert_uint_eq(rig_le32(&rig, map + 3 * 24), 20);
	ck_assert_uint_eq(rig_le64(&rig, map + 3 * 24 + 4), MIB);
	ck_assert_uint_eq(rig_le64(&rig, map + 3 * 24 + 12), 31 * MIB);
	ck_assert_uint_eq(rig_le32(&rig, map + 3 * 24 + 20), 1);
	rig_close(&rig);
}
END_TEST

START_TEST(an_elf_is_entered_at_its_physical_entry)
{
	for (int is_64bit = 0; is_64bit < 2; is_64bit++) {
		static struct elf_image elf;
		struct rig rig;
		open_rig(&rig);
		elf_image_make(&elf, is_64bit);
		header = (struct header){.magic = 0x1badb002};
		put_header(elf.bytes + 0x1040, 12);
		rig_assert_loads(&rig, elf.bytes, sizeof(elf.bytes));
		ck_assert_uint_eq(rig.boot.rip, 0x100010);
		ck_assert_uint_eq(rig.boot.rax, 0x2badb002);
		ck_assert_mem_eq(rig_ram(&rig, 0x200000, 0x80), elf.bytes + 0x1800, 0x80);

		elf.entry = 0x100020; /* physical, where the segments are linked high */
		elf_image_headers(&elf);
		rig_assert_loads(&rig, elf.bytes, sizeof(elf.bytes));
		ck_assert_uint_eq(rig.boot.rip, 0x100020);

		elf.entry = 0x100100;
		elf_image_headers(&elf);
		rig_assert_refuses(&rig, elf.bytes, sizeof(elf.bytes),
				   "its ELF entry 0x100100 is in none of its segments");
		rig_close(&rig);
	}
}
END_TEST

START_TEST(a_pvh_note_comes_before_multiboot)
{
	static struct elf_image elf;
	struct rig rig;
	open_rig(&rig);
	elf_image_make(&elf, true);
	elf_image_add_pvh(&elf, 0x100020, 8);
	header = (struct header){.magic = 0x1badb002};
	put_header(elf.bytes + 0x1040, 12);
	rig_assert_loads(&rig, elf.bytes, sizeof(elf.bytes));
	ck_assert_uint_eq(rig.boot.rip, 0x100020);
	ck_assert_uint_eq(rig_le32(&rig, rig.boot.rbx), 0x336ec578);
	rig_close(&rig);
}
END_TEST

/* 3.1: on a multiple of 4, wholly within 8192 bytes, with a right checksum. */
START_TEST(the_header_is_found_where_it_may_be)
{
	static uint8_t file[16384];
	struct rig rig;
	open_rig(&rig);
	static const struct {
		size_t offset;
		const char *refusal;
	} cases[] = {
		{0, NULL},
		{4, NULL},
		{8192 - 32, NULL},
		{2, "not a kernel"},
		{8192 - 28, "does not end in the first 8 KiB"},
		{8192 - 8, "not a kernel"},
		{8192, "not a kernel"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		memset(file, 0, sizeof(file));
		header.header_addr = LOAD_ADDR + (uint32_t)cases[i].offset;
		put_header(file + cases[i].offset, sizeof(header));
		if (cases[i].refusal)
			rig_assert_refuses(&rig, file, sizeof(file), cases[i].refusal);
		else
			rig_assert_loads(&rig, file, sizeof(file));
	}
	memset(file, 0, sizeof(file));
	put_header(file, sizeof(header));
	file[8] ^= 1;
	rig_assert_refuses(&rig, file, sizeof(file), "not a kernel");
	rig_close(&rig);
}
END_TEST

START_TEST(required_flags_that_are_unknown_are_refused)
{
	for (uint32_t bit = 0; bit < 32; bit++) {
		struct rig rig;
		open_rig(&rig);
		header.flags |= 1U << bit;
		put_header(image + HEADER_OFFSET, sizeof(header));
		if (bit >= 3 && bit < 16)
			rig_assert_refuses(&rig, image, sizeof(image), "which aerie does not know");
		else
			rig_assert_loads(&rig, image, sizeof(image));
		rig_close(&rig);
	}
}
END_TEST

START_TEST(addresses_that_lie_are_refused)
{
	static const struct {
		uint32_t header_addr, load_addr, load_end_addr, bss_end_addr, entry_addr;
		const char *part;
	} cases[] = {
		{0x100040, 0x100041, 0x101000, 0, 0x100080, "do not fit its offset 64"},
		{0x100041, 0x100000, 0x101000, 0, 0x100080, "do not fit its offset 64"},
		{UINT32_MAX, 0, 0x101000, 0, 0x100080, "do not fit its offset 64"},
		{0x100040, 0x100000, 0x100000, 0, 0x100080, "are not in order"},
		{0x100040, 0x100000, 0xfffff, 0, 0x100080, "are not in order"},
		{0x100040, 0x100000, 0x101000, 0x100fff, 0x100080, "are not in order"},
		{0x100040, 0x100000, 0x101000, 0, 0xfffff, "entry_addr 0xfffff is not in what it loads"},
		{0x100040, 0x100000, 0x101000, 0x103000, 0x101000, "is not in what it loads"},
		{0x100040, 0x100000, 0x101001, 0, 0x100080, "truncated: the kernel"},
		{0x100040, 0x100000, 0x101000, UINT32_MAX, 0x100080, "is not in RAM"},
		{0xffffff40, 0xffffff00, 0, 0, 0xffffff80, "is not in RAM"},
		{0x40, 0, 0x1000, 0, 0x80, "overlaps the boot GDT"},
		{0xe0040, 0xe0000, 0xe1000, 0, 0xe0080, "overlaps the firmware's area"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct rig rig;
		open_rig(&rig);
		header.header_addr = cases[i].header_addr;
		header.load_addr = cases[i].load_addr;
		header.load_end_addr = cases[i].load_end_addr;
		header.bss_end_addr = cases[i].bss_end_addr;
		header.entry_addr = cases[i].entry_addr;
		put_header(image + HEADER_OFFSET, sizeof(header));
		rig_assert_refuses(&rig, image, sizeof(image), cases[i].part);
		rig_close(&rig);
	}
}
END_TEST

START_TEST(a_header_without_addresses_needs_an_elf)
{
	struct rig rig;
	open_rig(&rig);
	header.flags = 0;
	put_header(image + HEADER_OFFSET, sizeof(header));
	rig_assert_refuses(&rig, image, sizeof(image), "in a file that is no ELF");
	rig_close(&rig);
}
END_TEST

START_TEST(truncated_anywhere_is_refused)
{
	struct rig rig;
	open_rig(&rig);
	for (size_t len = 1; len < sizeof(image); len++)
		rig_assert_refuses(&rig, image, len, "/proc/self/fd/");
	rig_close(&rig);
}
END_TEST

START_TEST(the_kernel_may_fill_ram_but_then_no_module_fits)
{
	struct rig rig;
	open_rig(&rig);
	header.bss_end_addr = 32 * MIB;
	put_header(image + HEADER_OFFSET, sizeof(header));
	rig_assert_loads(&rig, image, sizeof(image));
	rig.config.boot.initrd = rig_file(&rig, "initrd", 6);
	rig_assert_refuses(&rig, image, sizeof(image), "no room for a module of 6 bytes");
	rig_close(&rig);
}
END_TEST

TEST_MAIN("multiboot", a_flat_image_goes_where_its_header_says, only_a_part_of_the_file_may_be_loaded,
	  the_information_is_complete, an_elf_is_entered_at_its_physical_entry,
	  a_pvh_note_comes_before_multiboot, the_header_is_found_where_it_may_be,
	  required_flags_that_are_unknown_are_refused, addresses_that_lie_are_refused,
	  a_header_without_addresses_needs_an_elf, truncated_anywhere_is_refused,
	  the_kernel_may_fill_ram_but_then_no_module_fits)
