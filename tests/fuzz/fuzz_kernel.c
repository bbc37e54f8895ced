/*
 * The boot loaders. The first byte chooses a good kernel of one format, or 'R': the rest is the file as it
 * stands. The second says what comes with the kernel; then each seven bytes are one edit: offset, width,
 * value. So most inputs are kernels with a few numbers changed, which is what a hostile one looks like.
 *
 * Rules: an answer or a message, never both; a message is one printable line; what is accepted starts in RAM;
 * and whatever the file claims, the firmware's tables, the GDT and the holes are as they were.
 */
#include "fuzz.h"

#include "../firmware/bz_image.h"
#include "../firmware/elf_image.h"
#include "base/bytes.h"
#include "base/layout.h"
#include "firmware/firmware.h"

#include <ctype.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
	RAM_BYTES = 64 * 1024 * 1024,
	IMAGE_BYTES_MAX = 1 << 15,
	EDIT_BYTES = 7,
	GDT_BYTES = 32,
	KEPT_BYTES = LAYOUT_KERNEL_GPA - LAYOUT_LOW_RAM_END_GPA,
	WITH_INITRD = 1 << 0,
	WITH_MODULE = 1 << 1,
	WITH_CMDLINE = 1 << 2,
};

static struct guest_memory *memory;
static struct machine_config config;
static int kernel_fd = -1;
static char kernel_path[32];
static char module_path[32];
static uint8_t kept[KEPT_BYTES]; /* all between conventional memory and 1 MiB */
static uint8_t kept_gdt[GDT_BYTES];
static uint8_t image[IMAGE_BYTES_MAX];

static size_t make_multiboot(void)
{
	static const uint32_t header[] = {0x1badb002, 1 << 16 | 3, -(0x1badb002U + (1 << 16 | 3)),
					  0x100040,   0x100000,	   0x101000,
					  0x102000,   0x100080};
	memset(image, 0, 4096);
	memcpy(image + 0x40, header, sizeof(header));
	return 4096;
}

static size_t make_elf(bool is_64bit, bool pvh)
{
	static struct elf_image elf;
	static const uint32_t header[] = {0x1badb002, 0, -0x1badb002U};
	elf_image_make(&elf, is_64bit);
	memcpy(elf.bytes + 0x1040, header, sizeof(header));
	if (pvh)
		elf_image_add_pvh(&elf, 0x100020, is_64bit ? 8 : 4);
	memcpy(image, elf.bytes, sizeof(elf.bytes));
	return sizeof(elf.bytes);
}

static size_t make_image(uint8_t kind)
{
	switch (kind % 6) {
	case 0:
		bz_make(image);
		return BZ_IMAGE_BYTES;
	case 1:
		return make_multiboot();
	default:
		return make_elf(kind % 2, kind % 6 < 4);
	}
}

static void edit(size_t image_bytes, const uint8_t *from)
{
	size_t offset = load_le16(from) % image_bytes;
	size_t width = (size_t)1 << (from[2] & 3);
	uint64_t value = load_le32(from + 3);
	if (from[2] & 0x80)
		value |= 0xffffffff00000000; /* a negative number, or an address at the end of all */
	if (width <= image_bytes - offset)
		memcpy(image + offset, &value, width);
}

static void check_message(const struct err *err, int r)
{
	FUZZ_CHECK(err->code == r && err->text[0]);
	for (const char *at = err->text; *at; at++)
		FUZZ_CHECK(isprint((unsigned char)*at));
}

static void load(size_t image_bytes, uint8_t with)
{
	struct err err = ERR_INIT;
	struct cpu_boot boot = {.rip = UINT64_MAX};
	FUZZ_CHECK(ftruncate(kernel_fd, 0) == 0);
	FUZZ_CHECK(pwrite(kernel_fd, image, image_bytes, 0) == (ssize_t)image_bytes);
	config.boot.initrd = with & WITH_INITRD ? module_path : NULL;
	config.boot.module_count = with & WITH_MODULE ? 1 : 0;
	config.boot.cmdline = with & WITH_CMDLINE ? "console=ttyS0" : "";
	int r = firmware_load(&config, memory, &boot, &err);
	if (r) {
		check_message(&err, r);
		return;
	}
	FUZZ_CHECK(err.code == 0);
	FUZZ_CHECK(guest_memory_at(memory, boot.rip, 1) != NULL);
	FUZZ_CHECK(boot.rsi < LAYOUT_LOW_RAM_END_GPA && boot.rbx < LAYOUT_LOW_RAM_END_GPA);
	FUZZ_CHECK(memcmp(guest_memory_at(memory, LAYOUT_LOW_RAM_END_GPA, KEPT_BYTES), kept, KEPT_BYTES) ==
		   0);
	FUZZ_CHECK(memcmp(guest_memory_at(memory, boot.gdt_gpa, GDT_BYTES), kept_gdt, GDT_BYTES) == 0);
}

static int memory_file(char path[static 32])
{
	int fd = memfd_create("fuzz", MFD_CLOEXEC);
	FUZZ_CHECK(fd >= 0);
	(void)snprintf(path, 32, "/proc/self/fd/%d", fd);
	return fd;
}

static void set_up(void)
{
	struct err err = ERR_INIT;
	struct cpu_boot boot;
	config = (struct machine_config){
		.name = "fuzz",
		.cpus = {.count = 1, .sockets = 1, .cores = 1, .threads = 1},
		.memory = {.size_bytes = RAM_BYTES},
		.boot = {.kernel = kernel_path, .cmdline = "", .modules = {{module_path, "module"}}},
	};
	FUZZ_CHECK(guest_memory_create(&config.memory, &memory, &err) == 0);
	kernel_fd = memory_file(kernel_path);
	FUZZ_CHECK(write(memory_file(module_path), "module", 6) == 6);

	size_t bytes = make_image(0);
	FUZZ_CHECK(write(kernel_fd, image, bytes) == (ssize_t)bytes);
	FUZZ_CHECK(firmware_load(&config, memory, &boot, &err) == 0);
	memcpy(kept, guest_memory_at(memory, LAYOUT_LOW_RAM_END_GPA, sizeof(kept)), sizeof(kept));
	memcpy(kept_gdt, guest_memory_at(memory, boot.gdt_gpa, sizeof(kept_gdt)), sizeof(kept_gdt));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!memory)
		set_up();
	if (size < 2)
		return 0;
	if (data[0] == 'R') {
		size_t bytes = size - 2 < sizeof(image) ? size - 2 : sizeof(image);
		memcpy(image, data + 2, bytes);
		load(bytes, data[1]);
		return 0;
	}
	size_t bytes = make_image(data[0]);
	for (size_t at = 2; at + EDIT_BYTES <= size; at += EDIT_BYTES)
		edit(bytes, data + at);
	load(bytes, data[1]);
	return 0;
}
