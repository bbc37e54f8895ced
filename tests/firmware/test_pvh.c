/* ELF by PVH note: the start info, segments, modules, and hostile headers. */
#include "elf_image.h"
#include "rig.h"

static struct elf_image image;

static void make_image(bool is_64bit)
{
	elf_image_make(&image, is_64bit);
	elf_image_add_pvh(&image, 0x100020, is_64bit ? 8 : 4);
}

static void open_rig(struct rig *rig, bool is_64bit)
{
	rig_open(rig, 32 * MIB);
	make_image(is_64bit);
}

#define assert_loads(rig)	  rig_assert_loads(rig, image.bytes, sizeof(image.bytes))
#define assert_refuses(rig, part) rig_assert_refuses(rig, image.bytes, sizeof(image.bytes), part)

static void check_loaded(const struct rig *rig)
{
	ck_assert_int_eq(rig->boot.mode, CPU_BOOT_PROTECTED);
	ck_assert_uint_eq(rig->boot.rip, 0x100020);
	ck_assert_mem_eq(rig_ram(rig, 0x100000, 0x100), image.bytes + 0x1000, 0x100);
	ck_assert_mem_eq(rig_ram(rig, 0x200000, 0x80), image.bytes + 0x1800, 0x80);
	const uint8_t *bss = rig_ram(rig, 0x200080, 0x10000);
	for (size_t i = 0; i < 0x10000; i++)
		ck_assert_uint_eq(bss[i], 0);
}

START_TEST(both_classes_are_entered_by_their_note)
{
	for (int is_64bit = 0; is_64bit < 2; is_64bit++) {
		struct rig rig;
		open_rig(&rig, is_64bit);
		memset(rig_ram(&rig, 0x200000, 0x20000), 0x5a, 0x20000); /* what was there before a reset */
		assert_loads(&rig);
		check_loaded(&rig);
		ck_assert_uint_eq(rig.boot.code_selector, 0x08);
		ck_assert_uint_eq(rig_le64(&rig, rig.boot.gdt_gpa + 0x08), 0x00cf9b000000ffff);
		rig_close(&rig);
	}
}
END_TEST

START_TEST(the_note_may_have_4_bytes_in_elf64)
{
	struct rig rig;
	open_rig(&rig, true);
	elf_image_add_pvh(&image, 0x100020, 4);
	assert_loads(&rig);
	check_loaded(&rig);
	rig_close(&rig);
}
END_TEST

START_TEST(start_info_is_version_1)
{
	struct rig rig;
	open_rig(&rig, true);
	rig.config.boot.cmdline = "console=ttyS0";
	assert_loads(&rig);
	uint64_t info = rig.boot.rbx;
	ck_assert_uint_eq(rig_le32(&rig, info), 0x336ec578);
	ck_assert_uint_eq(rig_le32(&rig, info + 4), 1);
	ck_assert_uint_eq(rig_le32(&rig, info + 8), 0);
	ck_assert_uint_eq(rig_le32(&rig, info + 12), 0);
	ck_assert_uint_eq(rig_le64(&rig, info + 16), 0);
	ck_assert_str_eq(rig_string(&rig, rig_le64(&rig, info + 24)), "console=ttyS0");
	ck_assert_uint_eq(rig_le64(&rig, info + 32), 0xe0000);
	uint64_t map = rig_le64(&rig, info + 40);
	ck_assert_uint_eq(rig_le32(&rig, info + 48), 6);
	ck_assert_uint_eq(rig_le64(&rig, map + 3 * 24), MIB);
	ck_assert_uint_eq(rig_le64(&rig, map + 3 * 24 + 8), 31 * MIB);
	ck_assert_uint_eq(rig_le32(&rig, map + 3 * 24 + 16), 1);
	rig_close(&rig);
}
END_TEST

START_TEST(modules_follow_the_initrd)
{
	struct rig rig;
	open_rig(&rig, true);
	rig.config.boot.initrd = rig_file(&rig, "initrd", 6);
	rig.config.boot.modules[0] = (struct boot_module){rig_file(&rig, "one", 3), "first module"};
	rig.config.boot.modules[1] = (struct boot_module){rig_file(&rig, "second", 6), ""};
	rig.config.boot.module_count = 2;
	assert_loads(&rig);
	static const struct {
		const char *contents, *cmdline;
	} expected[] = {{"initrd", NULL}, {"one", "first module"}, {"second", NULL}};
	ck_assert_uint_eq(rig_le32(&rig, rig.boot.rbx + 12), 3);
	uint64_t list = rig_le64(&rig, rig.boot.rbx + 16);
	for (size_t i = 0; i < 3; i++) {
		size_t len = strlen(expected[i].contents);
		uint64_t gpa = rig_le64(&rig, list + 32 * i);
		uint64_t cmdline = rig_le64(&rig, list + 32 * i + 16);
		ck_assert_uint_eq(gpa, 32 * MIB - 4096 * (i + 1));
		ck_assert_uint_eq(rig_le64(&rig, list + 32 * i + 8), len);
		ck_assert_mem_eq(rig_ram(&rig, gpa, len), expected[i].contents, len);
		if (expected[i].cmdline)
			ck_assert_str_eq(rig_string(&rig, cmdline), expected[i].cmdline);
		else
			ck_assert_uint_eq(cmdline, 0);
	}
	rig_close(&rig);
}
END_TEST

START_TEST(modules_need_room)
{
	static uint8_t big[30 * MIB];
	struct rig rig;
	open_rig(&rig, true);
	rig.config.boot.modules[0] = (struct boot_module){rig_file(&rig, big, sizeof(big)), ""};
	rig.config.boot.module_count = 1;
	assert_refuses(&rig, "no room for a module of 31457280 bytes");
	rig.config.boot.modules[0].path = "/nonexistent/module";
	ck_assert_int_eq(rig_load(&rig, image.bytes, sizeof(image.bytes)), -ENOENT);
	rig_close(&rig);
}
END_TEST

START_TEST(command_lines_have_a_limit)
{
	static char text[0x10000];
	struct rig rig;
	open_rig(&rig, true);
	memset(text, 'x', sizeof(text) - 1);
	rig.config.boot.cmdline = text;
	assert_loads(&rig);
	rig.config.boot.modules[0] = (struct boot_module){rig_file(&rig, "one", 3), "a"};
	rig.config.boot.module_count = 1;
	assert_refuses(&rig, "the command lines of kernel and modules are together longer than 65536 bytes");
	rig_close(&rig);
}
END_TEST

/* Each segment 1 replaced by a hostile one. */
START_TEST(segments_stay_in_ram_and_apart)
{
	static const struct {
		Elf64_Phdr segment;
		const char *part;
	} cases[] = {
		{{.p_paddr = 32 * MIB - 1, .p_memsz = 2}, "segment 1 (0x2 bytes at 0x1ffffff) is not in RAM"},
		{{.p_paddr = 32 * MIB, .p_memsz = 1}, "is not in RAM"},
		{{.p_paddr = 0x200000, .p_memsz = UINT64_MAX}, "is not in RAM"},
		{{.p_paddr = UINT64_MAX, .p_memsz = 2}, "is not in RAM"},
		{{.p_paddr = UINT64_MAX - 0xfff, .p_memsz = 0x1000}, "is not in RAM"},
		{{.p_paddr = 0x1000ff, .p_memsz = 1}, "overlaps segment 0 (0x100 bytes at 0x100000)"},
		{{.p_paddr = 0x9f000, .p_memsz = 0x61000}, "overlaps the firmware's area"},
		{{.p_paddr = 0xff000, .p_memsz = 0x1000}, "overlaps the firmware's area"},
		{{.p_paddr = 0x500, .p_memsz = 1}, "overlaps the boot GDT"},
		{{.p_paddr = 0x0, .p_memsz = 0x1001}, "overlaps the boot"},
		{{.p_paddr = 0x6fff, .p_memsz = 1}, "overlaps the boot information"},
		{{.p_paddr = 0x2ffff, .p_memsz = 1}, "overlaps the command lines"},
		{{.p_paddr = 0x200000, .p_filesz = 2, .p_memsz = 1},
		 "more bytes in the file (0x2) than in memory (0x1)"},
		{{.p_paddr = 0x200000, .p_offset = 8191, .p_filesz = 2, .p_memsz = 2},
		 "truncated: a segment"},
		{{.p_paddr = 0x200000, .p_offset = UINT64_MAX, .p_filesz = 2, .p_memsz = 2},
		 "truncated: a segment"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct rig rig;
		open_rig(&rig, true);
		image.segments[1] = cases[i].segment;
		image.segments[1].p_type = PT_LOAD;
		elf_image_headers(&image);
		assert_refuses(&rig, cases[i].part);
		rig_close(&rig);
	}
}
END_TEST

START_TEST(segments_of_nothing_are_no_harm)
{
	static const Elf64_Phdr harmless[] = {
		{.p_type = PT_LOAD, .p_paddr = UINT64_MAX},
		{.p_type = PT_LOAD,
		 .p_paddr = 0x300000,
		 .p_offset = UINT64_MAX,
		 .p_memsz = 0x1000}, /* all bss */
		{.p_type = PT_GNU_STACK,
		 .p_paddr = UINT64_MAX,
		 .p_memsz = UINT64_MAX,
		 .p_filesz = UINT64_MAX},
		{.p_type = PT_LOAD, .p_paddr = 0x7c00, .p_memsz = 0x400},      /* low RAM that nobody uses */
		{.p_type = PT_LOAD, .p_paddr = 0x300000, .p_memsz = 29 * MIB}, /* to the last byte of RAM */
	};
	for (size_t i = 0; i < sizeof(harmless) / sizeof(harmless[0]); i++) {
		struct rig rig;
		open_rig(&rig, true);
		image.segments[3] = harmless[i];
		image.count = 4;
		elf_image_headers(&image);
		assert_loads(&rig);
		rig_close(&rig);
	}
}
END_TEST

START_TEST(an_entry_outside_the_file_is_refused)
{
	static const uint64_t entries[] = {0, 0xfffff, 0x100100, 0x200080, 0xffffffff80100020};
	for (size_t i = 0; i < sizeof(entries) / sizeof(entries[0]); i++) {
		struct rig rig;
		open_rig(&rig, true);
		elf_image_add_pvh(&image, entries[i], 8);
		assert_refuses(&rig, "is in none of its segments");
		rig_close(&rig);
	}
}
END_TEST

START_TEST(broken_notes_are_refused)
{
	struct rig rig;
	open_rig(&rig, true);
	image.segments[2].p_offset = 8192 - 11;
	elf_image_headers(&image);
	assert_refuses(&rig, "truncated: an ELF note");
	image.segments[2].p_offset = UINT64_MAX;
	elf_image_headers(&image);
	assert_refuses(&rig, "ELF notes of");
	image.segments[2].p_offset = 0x1c00;
	image.segments[2].p_filesz = 0x10001;
	elf_image_headers(&image);
	assert_refuses(&rig, "ELF notes of 0x10001 bytes");

	make_image(true);
	image.segments[2].p_filesz -= 1;
	elf_image_headers(&image);
	assert_refuses(&rig, "crosses the end of its segment");

	make_image(true);
	store_le32(image.bytes + 0x1c00, UINT32_MAX); /* name */
	assert_refuses(&rig, "crosses the end of its segment");
	make_image(true);
	store_le32(image.bytes + 0x1c00 + 4, UINT32_MAX); /* value */
	assert_refuses(&rig, "crosses the end of its segment");

	make_image(true);
	store_le32(image.bytes + 0x1c00 + 48 + 4, 2);
	assert_refuses(&rig, "the value of the Xen note 18 has 2 bytes");
	rig_close(&rig);
}
END_TEST

START_TEST(other_elf_files_are_refused)
{
	struct rig rig;
	open_rig(&rig, true);
	elf_image_make(&image, true);
	assert_refuses(&rig, "an ELF file with neither a PVH note");
	make_image(true);
	image.machine = EM_AARCH64;
	elf_image_headers(&image);
	assert_refuses(&rig, "for machine 183, not for x86");
	make_image(true);
	image.bytes[16] = ET_REL;
	assert_refuses(&rig, "no executable (type 1)");
	make_image(true);
	image.bytes[EI_CLASS] = 3;
	assert_refuses(&rig, "neither of 32 nor of 64 bits");
	make_image(true);
	image.bytes[EI_DATA] = ELFDATA2MSB;
	assert_refuses(&rig, "little-endian");
	make_image(true);
	image.count = 0;
	elf_image_headers(&image);
	assert_refuses(&rig, "0 ELF program headers");
	image.count = 65;
	elf_image_headers(&image);
	assert_refuses(&rig, "65 ELF program headers; 1 to 64");
	make_image(true);
	store_le16(image.bytes + offsetof(Elf64_Ehdr, e_phentsize), 55);
	assert_refuses(&rig, "its ELF program headers have 55 bytes");
	make_image(true);
	store_le64(image.bytes + offsetof(Elf64_Ehdr, e_phoff), UINT64_MAX - 8);
	assert_refuses(&rig, "truncated: the program headers");
	store_le64(image.bytes + offsetof(Elf64_Ehdr, e_phoff), 8192 - 55);
	assert_refuses(&rig, "truncated: the program headers");
	rig_close(&rig);
}
END_TEST

/* To the end of the note, which is the last thing in the file that counts. */
START_TEST(truncated_anywhere_is_refused)
{
	for (int is_64bit = 0; is_64bit < 2; is_64bit++) {
		struct rig rig;
		open_rig(&rig, is_64bit);
		size_t used = image.segments[2].p_offset + image.segments[2].p_filesz;
		for (size_t len = 1; len < used; len++)
			rig_assert_refuses(&rig, image.bytes, len, "/proc/self/fd/");
		rig_assert_loads(&rig, image.bytes, used);
		rig_close(&rig);
	}
}
END_TEST

TEST_MAIN("pvh", both_classes_are_entered_by_their_note, the_note_may_have_4_bytes_in_elf64,
	  start_info_is_version_1, modules_follow_the_initrd, modules_need_room, command_lines_have_a_limit,
	  segments_stay_in_ram_and_apart, segments_of_nothing_are_no_harm,
	  an_entry_outside_the_file_is_refused, broken_notes_are_refused, other_elf_files_are_refused,
	  truncated_anywhere_is_refused)
