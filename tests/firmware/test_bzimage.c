/* Linux bzImage: what the zero page holds, where things lie, and every way to be refused (boot.rst). */
#include "bz_image.h"
#include "rig.h"

enum { RAM_MIB = 64 };

static uint8_t image[BZ_IMAGE_BYTES];

static struct setup_header *header(void)
{
	return bz_header(image);
}

static void make_image(void)
{
	bz_make(image);
}

static void open_rig(struct rig *rig)
{
	rig_open(rig, RAM_MIB * MIB);
	make_image();
}

static const struct boot_params *zero_page(const struct rig *rig)
{
	return rig_ram(rig, 0x7000, sizeof(struct boot_params));
}

START_TEST(a_kernel_is_entered_at_its_64_bit_entry)
{
	struct rig rig;
	open_rig(&rig);
	rig.config.boot.cmdline = "console=ttyS0 panic=-1";
	rig_assert_loads(&rig, image, sizeof(image));
	ck_assert_int_eq(rig.boot.mode, CPU_BOOT_LONG);
	ck_assert_uint_eq(rig.boot.rip, BZ_PREFERRED_GPA + 0x200);
	ck_assert_uint_eq(rig.boot.rsi, 0x7000);
	ck_assert_mem_eq(rig_ram(&rig, BZ_PREFERRED_GPA, BZ_KERNEL_BYTES), image + BZ_SETUP_BYTES,
			 BZ_KERNEL_BYTES);

	const struct boot_params *params = zero_page(&rig);
	ck_assert_uint_eq(params->acpi_rsdp_addr, 0xe0000);
	ck_assert_uint_eq(params->hdr.type_of_loader, 0xff);
	ck_assert_uint_eq(params->hdr.code32_start, BZ_PREFERRED_GPA);
	ck_assert_uint_eq(params->hdr.setup_data, 0);
	ck_assert_uint_eq(params->hdr.ramdisk_image, 0);
	ck_assert_uint_eq(params->hdr.ramdisk_size, 0);
	ck_assert_uint_eq(params->hdr.version, 0x020f);
	ck_assert_str_eq(rig_string(&rig, params->hdr.cmd_line_ptr), "console=ttyS0 panic=-1");
	rig_close(&rig);
}
END_TEST

START_TEST(gdt_and_page_tables_are_flat)
{
	struct rig rig;
	open_rig(&rig);
	rig_assert_loads(&rig, image, sizeof(image));
	ck_assert_uint_eq(rig.boot.code_selector, 0x10); /* __BOOT_CS */
	ck_assert_uint_eq(rig.boot.data_selector, 0x18); /* __BOOT_DS */
	ck_assert_uint_eq(rig.boot.gdt_limit, 31);
	ck_assert_uint_eq(rig_le64(&rig, rig.boot.gdt_gpa), 0);
	ck_assert_uint_eq(rig_le64(&rig, rig.boot.gdt_gpa + 0x10), 0x00af9b000000ffff);
	ck_assert_uint_eq(rig_le64(&rig, rig.boot.gdt_gpa + 0x18), 0x00cf93000000ffff);

	/* Walk the tables as a processor does, for addresses in all four GiB. */
	static const uint64_t addresses[] = {0,		 0x1ff000,   0x1000200, 0x7fffffff,
					     0xbfffffff, 0xfee00000, 0xffffffff};
	for (size_t i = 0; i < sizeof(addresses) / sizeof(addresses[0]); i++) {
		uint64_t at = addresses[i];
		uint64_t pml4e = rig_le64(&rig, rig.boot.cr3 + 8 * (at >> 39 & 511));
		ck_assert_uint_eq(pml4e & 0xfff, 3);
		uint64_t pdpte = rig_le64(&rig, (pml4e & ~0xfffULL) + 8 * (at >> 30 & 511));
		ck_assert_uint_eq(pdpte & 0xfff, 3);
		uint64_t pde = rig_le64(&rig, (pdpte & ~0xfffULL) + 8 * (at >> 21 & 511));
		ck_assert_uint_eq(pde & 0xfff, 0x83);
		ck_assert_uint_eq((pde & ~0xfffULL) + (at & 0x1fffff), at);
	}
	rig_close(&rig);
}
END_TEST

START_TEST(only_the_setup_header_is_copied)
{
	struct rig rig;
	open_rig(&rig);
	rig_assert_loads(&rig, image, sizeof(image));
	const uint8_t *page = rig_ram(&rig, 0x7000, 4096);
	ck_assert_uint_eq(page[0x1ef], 0); /* the sentinel: not 0 would mean that we copied too much */
	for (size_t i = BZ_HEADER_END; i < 0x290; i++)
		ck_assert_uint_eq(page[i], 0);
	rig_close(&rig);
}
END_TEST

START_TEST(e820_is_in_the_zero_page)
{
	struct rig rig;
	open_rig(&rig);
	rig_assert_loads(&rig, image, sizeof(image));
	const struct boot_params *params = zero_page(&rig);
	ck_assert_uint_eq(params->e820_entries, 6);
	ck_assert_uint_eq(params->e820_table[0].addr, 0);
	ck_assert_uint_eq(params->e820_table[0].size, 0x9fc00);
	ck_assert_uint_eq(params->e820_table[0].type, 1);
	ck_assert_uint_eq(params->e820_table[3].addr, MIB);
	ck_assert_uint_eq(params->e820_table[3].size, (RAM_MIB - 1) * MIB);
	rig_close(&rig);
}
END_TEST

START_TEST(tables_are_where_guests_look)
{
	struct rig rig;
	open_rig(&rig);
	rig_assert_loads(&rig, image, sizeof(image));
	ck_assert_mem_eq(rig_ram(&rig, 0xe0000, 8), "RSD PTR ", 8);
	ck_assert_mem_eq(rig_ram(&rig, 0xf0000, 5), "_SM3_", 5);
	rig_close(&rig);
}
END_TEST

START_TEST(the_initrd_lies_high)
{
	static uint8_t initrd[10000];
	struct rig rig;
	open_rig(&rig);
	memset(initrd, 0x77, sizeof(initrd));
	rig.config.boot.initrd = rig_file(&rig, initrd, sizeof(initrd));
	rig_assert_loads(&rig, image, sizeof(image));
	const struct boot_params *params = zero_page(&rig);
	ck_assert_uint_eq(params->hdr.ramdisk_image, RAM_MIB * MIB - 3 * 4096);
	ck_assert_uint_eq(params->hdr.ramdisk_size, sizeof(initrd));
	ck_assert_mem_eq(rig_ram(&rig, params->hdr.ramdisk_image, sizeof(initrd)), initrd, sizeof(initrd));

	header()->initrd_addr_max = 0x2ffffff;
	rig_assert_loads(&rig, image, sizeof(image));
	ck_assert_uint_eq(zero_page(&rig)->hdr.ramdisk_image, 0x3000000 - 3 * 4096);

	/* Only the kernel's own init_size is left below: it steps under the kernel. */
	header()->initrd_addr_max = BZ_PREFERRED_GPA + BZ_INIT_BYTES - 1;
	rig_assert_loads(&rig, image, sizeof(image));
	ck_assert_uint_eq(zero_page(&rig)->hdr.ramdisk_image, BZ_PREFERRED_GPA - 3 * 4096);

	header()->initrd_addr_max = 0x1001ff;
	rig_assert_refuses(&rig, image, sizeof(image),
			   "no room for the initrd of 10000 bytes below 0x100200");
	rig_close(&rig);
}
END_TEST

START_TEST(a_missing_initrd_has_its_errno)
{
	struct rig rig;
	open_rig(&rig);
	rig.config.boot.initrd = "/nonexistent/initrd";
	ck_assert_int_eq(rig_load(&rig, image, sizeof(image)), -ENOENT);
	ck_assert_str_eq(rig.err.text, "/nonexistent/initrd: No such file or directory");
	rig.config.boot.initrd = "/";
	rig_assert_refuses(&rig, image, sizeof(image), "/: not a regular file");
	rig.config.boot.initrd = rig_file(&rig, "", 0);
	rig_assert_refuses(&rig, image, sizeof(image), "the file is empty");
	rig_close(&rig);
}
END_TEST

START_TEST(the_command_line_has_the_kernels_limit)
{
	static char text[0x10000 + 1];
	struct rig rig;
	open_rig(&rig);
	rig.config.boot.cmdline = text;
	memset(text, 'x', 2047);
	rig_assert_loads(&rig, image, sizeof(image));
	text[2047] = 'x';
	rig_assert_refuses(&rig, image, sizeof(image), "boot.cmdline: 2048 bytes, but");
	ck_assert_ptr_nonnull(strstr(rig.err.text, "takes 2047 at most"));

	header()->cmdline_size = UINT32_MAX; /* then it is ours */
	memset(text, 'x', 0xffff);
	rig_assert_loads(&rig, image, sizeof(image));
	text[0xffff] = 'x';
	rig_assert_refuses(&rig, image, sizeof(image), "takes 65535 at most");
	rig_close(&rig);
}
END_TEST

START_TEST(without_the_preferred_place_it_goes_low)
{
	struct rig rig;
	open_rig(&rig);
	header()->pref_address = (RAM_MIB - 2) * MIB;
	rig_assert_loads(&rig, image, sizeof(image));
	ck_assert_uint_eq(rig.boot.rip, 0x200200); /* 1 MiB, aligned as the kernel asks */
	ck_assert_uint_eq(zero_page(&rig)->hdr.code32_start, 0x200000);

	header()->pref_address = 0;
	rig_assert_loads(&rig, image, sizeof(image));
	ck_assert_uint_eq(rig.boot.rip, 0x200200);

	header()->relocatable_kernel = 0;
	rig_assert_refuses(&rig, image, sizeof(image),
			   "pref_address 0x0 is below 1 MiB (and it is not relocatable)");
	header()->pref_address = RAM_MIB * MIB;
	rig_assert_refuses(&rig, image, sizeof(image), "is not in RAM");
	header()->pref_address = UINT64_MAX - 0x1000;
	rig_assert_refuses(&rig, image, sizeof(image), "is not in RAM");
	rig_close(&rig);
}
END_TEST

START_TEST(zero_setup_sectors_mean_four)
{
	static uint8_t padded[5 * 512 + BZ_KERNEL_BYTES];
	struct rig rig;
	open_rig(&rig);
	header()->setup_sects = 0;
	memcpy(padded, image, BZ_SETUP_BYTES);
	memcpy(padded + 5 * 512, image + BZ_SETUP_BYTES, BZ_KERNEL_BYTES);
	rig_assert_loads(&rig, padded, sizeof(padded));
	ck_assert_mem_eq(rig_ram(&rig, BZ_PREFERRED_GPA, BZ_KERNEL_BYTES), image + BZ_SETUP_BYTES,
			 BZ_KERNEL_BYTES);
	rig_close(&rig);
}
END_TEST

START_TEST(what_aerie_cannot_boot_is_refused)
{
	struct rig rig;
	open_rig(&rig);
	header()->version = 0x0206;
	rig_assert_refuses(&rig, image, sizeof(image), ": boot protocol 2.06 is older than 2.12: ");
	header()->version = 0x020b;
	rig_assert_refuses(&rig, image, sizeof(image), "2.11 is older than 2.12");
	header()->version = 0x020c;
	rig_assert_loads(&rig, image, sizeof(image));

	make_image();
	header()->loadflags = 0;
	rig_assert_refuses(&rig, image, sizeof(image), "a zImage");

	make_image();
	header()->xloadflags = XLF_CAN_BE_LOADED_ABOVE_4G;
	rig_assert_refuses(&rig, image, sizeof(image), "XLF_KERNEL_64");

	make_image();
	header()->jump = 0xeb | (0x290 - 0x202 + 1) << 8;
	rig_assert_refuses(&rig, image, sizeof(image), "setup header ends at 0x291");
	header()->jump = 0xeb | (0x267 - 0x202) << 8;
	rig_assert_refuses(&rig, image, sizeof(image), "setup header ends at 0x267");
	header()->jump = 0xeb | (0x268 - 0x202) << 8;
	rig_assert_loads(&rig, image, sizeof(image));

	make_image();
	header()->kernel_alignment = 0x300000;
	rig_assert_refuses(&rig, image, sizeof(image), "kernel_alignment 0x300000");
	header()->kernel_alignment = 0;
	rig_assert_refuses(&rig, image, sizeof(image), "kernel_alignment 0x0");

	make_image();
	header()->init_size = UINT32_MAX;
	rig_assert_refuses(&rig, image, sizeof(image),
			   "the kernel (0xffffffff bytes at 0x200000) is not in RAM");

	make_image();
	header()->syssize = UINT32_MAX;
	rig_assert_refuses(&rig, image, sizeof(image), "truncated: its header promises 68719476720 bytes");
	header()->setup_sects = 255;
	rig_assert_refuses(&rig, image, sizeof(image), "truncated");
	rig_close(&rig);
}
END_TEST

START_TEST(modules_are_refused)
{
	struct rig rig;
	open_rig(&rig);
	rig.config.boot.modules[0] = (struct boot_module){"/dev/null", ""};
	rig.config.boot.module_count = 1;
	rig_assert_refuses(&rig, image, sizeof(image), "boot.modules: a bzImage takes none");
	rig_close(&rig);
}
END_TEST

START_TEST(truncated_anywhere_is_refused)
{
	struct rig rig;
	open_rig(&rig);
	for (size_t len = 1; len < sizeof(image); len++)
		rig_assert_refuses(&rig, image, len, "/proc/self/fd/");
	rig_assert_loads(&rig, image, sizeof(image));
	rig_close(&rig);
}
END_TEST

START_TEST(a_reset_loads_everything_anew)
{
	struct rig rig;
	open_rig(&rig);
	rig.config.boot.cmdline = "quiet";
	rig_assert_loads(&rig, image, sizeof(image));
	uint8_t *first = malloc(RAM_MIB * MIB);
	ck_assert_ptr_nonnull(first);
	memcpy(first, rig_ram(&rig, 0, RAM_MIB * MIB), RAM_MIB * MIB);
	/* What the guest wrote over: everything that was handed to it. */
	static const uint64_t written[][2] = {
		{0x500, 32},
		{0x7000, 0x1000},
		{0x9000, 0x6000},
		{0x20000, 6},
		{LAYOUT_ACPI_GPA,
		 LAYOUT_ACPI_BYTES}, /* the generation id above it is a device's to restore */
		{LAYOUT_SMBIOS_GPA, LAYOUT_SMBIOS_BYTES},
		{BZ_PREFERRED_GPA, BZ_KERNEL_BYTES},
	};
	for (size_t i = 0; i < sizeof(written) / sizeof(written[0]); i++)
		memset(rig_ram(&rig, written[i][0], written[i][1]), 0x5a, written[i][1]);
	rig_assert_loads(&rig, image, sizeof(image));
	ck_assert(memcmp(first, rig_ram(&rig, 0, RAM_MIB * MIB), RAM_MIB * MIB) == 0);
	free(first);
	rig_close(&rig);
}
END_TEST

START_TEST(other_files_are_refused_with_a_hint)
{
	struct rig rig;
	open_rig(&rig);
	rig_assert_refuses(&rig, "\x1f\x8b\x08\0\0\0\0\0\0\0", 10, "gzip: unpack it first (zcat)");
	rig_assert_refuses(&rig,
			   "\xfd"
			   "7zXZ\0",
			   6, "xz");
	rig_assert_refuses(&rig, "\x28\xb5\x2f\xfd\0\0\0\0", 8, "zstd");
	rig_assert_refuses(&rig, "MZ", 2, "an EFI program");
	rig_assert_refuses(&rig, "#!/bin/sh\n", 10, "not a kernel");
	rig_assert_refuses(&rig, "x", 1, "not a kernel");
	rig.config.boot.kernel = "/nonexistent/vmlinuz";
	struct err err = ERR_INIT;
	ck_assert_int_eq(firmware_load(&rig.config, rig.memory, &rig.boot, &err), -ENOENT);
	ck_assert_str_eq(err.text, "/nonexistent/vmlinuz: No such file or directory");
	rig_close(&rig);
}
END_TEST

TEST_MAIN("bzimage", a_kernel_is_entered_at_its_64_bit_entry, gdt_and_page_tables_are_flat,
	  only_the_setup_header_is_copied, e820_is_in_the_zero_page, tables_are_where_guests_look,
	  the_initrd_lies_high, a_missing_initrd_has_its_errno, the_command_line_has_the_kernels_limit,
	  without_the_preferred_place_it_goes_low, zero_setup_sectors_mean_four,
	  what_aerie_cannot_boot_is_refused, modules_are_refused, truncated_anywhere_is_refused,
	  a_reset_loads_everything_anew, other_files_are_refused_with_a_hint)
