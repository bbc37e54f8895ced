/*
 * Kernels with a multiboot 1 header (Multiboot Specification 0.6.96): ELF, or any file with addresses in its
 * header.
 *
 * The header lies within the first 8192 bytes, on a multiple of 4 (3.1):
 *
 *	 0  magic 0x1badb002
 *	 4  flags: what the kernel requires (bits 15:0) and what it tells (31:16)
 *	 8  checksum: the sum of the three is 0
 *	12  header_addr, load_addr, load_end_addr, bss_end_addr, entry_addr: with flag 16
 */
#include "base/cleanup.h"
#include "base/layout.h"
#include "boot_info.h"
#include "entry.h"
#include "load_elf.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>

enum {
	HEADER_SEARCH_BYTES = 8192,
	HEADER_MAGIC = 0x1badb002,
	HEADER_PAGE_ALIGN = 1 << 0, /* modules on pages: they always are */
	HEADER_MEMORY_INFO = 1 << 1,
	HEADER_VIDEO_MODE = 1 << 2,
	HEADER_REQUIRED = 0xffff,
	HEADER_ADDRESSES = 1 << 16,

	BOOTLOADER_MAGIC = 0x2badb002, /* in eax */

	INFO_MEMORY = 1 << 0,
	INFO_CMDLINE = 1 << 2,
	INFO_MODULES = 1 << 3,
	INFO_MEMORY_MAP = 1 << 6,
	INFO_LOADER_NAME = 1 << 9,
};

struct multiboot_header {
	uint32_t magic;
	uint32_t flags;
	uint32_t checksum;
	uint32_t header_addr;
	uint32_t load_addr;
	uint32_t load_end_addr;
	uint32_t bss_end_addr;
	uint32_t entry_addr;
};
static_assert(sizeof(struct multiboot_header) == 32, "multiboot header, address fields included");
enum { HEADER_MIN_BYTES = 12 };

struct multiboot_info { /* 3.3 */
	uint32_t flags;
	uint32_t mem_lower; /* KiB */
	uint32_t mem_upper; /* KiB from 1 MiB to the first hole */
	uint32_t boot_device;
	uint32_t cmdline_gpa;
	uint32_t module_count;
	uint32_t modules_gpa;
	uint32_t symbols[4];
	uint32_t memory_map_bytes;
	uint32_t memory_map_gpa;
	uint32_t drives[2];
	uint32_t config_table;
	uint32_t loader_name_gpa;
	uint32_t apm_table;
	uint32_t video[11]; /* VBE and framebuffer, which we lack */
};
static_assert(offsetof(struct multiboot_info, memory_map_bytes) == 44, "multiboot information: mmap_length");
static_assert(offsetof(struct multiboot_info, loader_name_gpa) == 64,
	      "multiboot information: boot_loader_name");
static_assert(sizeof(struct multiboot_info) == 116, "multiboot information");

struct multiboot_module {
	uint32_t start_gpa;
	uint32_t end_gpa; /* one past its last byte */
	uint32_t cmdline_gpa;
	uint32_t reserved;
};
static_assert(sizeof(struct multiboot_module) == 16, "multiboot module");

struct multiboot_memory {
	uint32_t size; /* of what follows */
	uint64_t gpa;
	uint64_t bytes;
	uint32_t type; /* 1: RAM; as in e820 */
} __attribute__((packed));
static_assert(sizeof(struct multiboot_memory) == 24, "multiboot memory map entry");

/* 1: found, at `ret_offset` of the file. Without flag 16 the address fields of `ret` stay as they are. */
static int multiboot_find_header(const struct image *image, struct multiboot_header *ret,
				 uint64_t *ret_offset, struct err *err)
{
	uint8_t start[HEADER_SEARCH_BYTES];
	size_t len = image->size < sizeof(start) ? (size_t)image->size : sizeof(start);
	int r = image_read(image, 0, start, len, "the first 8 KiB", err);
	if (r)
		return r;
	for (size_t at = 0; at + HEADER_MIN_BYTES <= len; at += 4) {
		uint32_t flags = load_le32(start + at + 4);
		if (load_le32(start + at) != HEADER_MAGIC ||
		    HEADER_MAGIC + flags + load_le32(start + at + 8) != 0)
			continue;
		bool has_addresses = flags & HEADER_ADDRESSES;
		size_t header_bytes = has_addresses ? sizeof(*ret) : HEADER_MIN_BYTES;
		if (len - at < header_bytes)
			return err_set(err, -EINVAL,
				       "%s: the multiboot header at offset %zu does not end in the first 8 "
				       "KiB of the file",
				       image->path, at);
		memcpy(ret, start + at, header_bytes);
		*ret_offset = at;
		return 1;
	}
	return 0;
}

int multiboot_recognise(struct load *load, struct err *err)
{
	struct multiboot_header header = {0};
	uint64_t offset = 0;
	return multiboot_find_header(&load->kernel, &header, &offset, err);
}

/*
 * 3.1.1: a loader must refuse what it does not know of the required flags. A video mode is the exception that
 * every loader without a screen makes (QEMU too): kernels ask for one out of habit, and flag 11 of the
 * information tells them that they did not get it.
 */
static int multiboot_check_flags(const struct image *image, uint32_t flags, struct err *err)
{
	const uint32_t known = HEADER_PAGE_ALIGN | HEADER_MEMORY_INFO | HEADER_VIDEO_MODE;
	uint32_t unknown = flags & HEADER_REQUIRED & ~known;
	if (unknown)
		return err_set(err, -EINVAL,
			       "%s: its multiboot header requires flags 0x%x, which aerie does not know",
			       image->path, unknown);
	return 0;
}

/* 3.1.2, the address fields: one piece of the file goes to load_addr, and zeros follow up to bss_end_addr. */
static int multiboot_load_flat(struct load *load, const struct multiboot_header *header,
			       uint64_t header_offset, struct err *err)
{
	const char *path = load->kernel.path;
	if (header->header_addr < header->load_addr ||
	    header->header_addr - header->load_addr > header_offset)
		return err_set(
			err, -EINVAL,
			"%s: multiboot header_addr 0x%x and load_addr 0x%x do not fit its offset %" PRIu64,
			path, header->header_addr, header->load_addr, header_offset);
	uint64_t offset = header_offset - (header->header_addr - header->load_addr);
	uint64_t load_gpa = header->load_addr;
	uint64_t load_end =
		header->load_end_addr ? header->load_end_addr : load_gpa + (load->kernel.size - offset);
	uint64_t bss_end = header->bss_end_addr ? header->bss_end_addr : load_end;
	if (load_end <= load_gpa || bss_end < load_end)
		return err_set(err, -EINVAL,
			       "%s: multiboot load_addr 0x%" PRIx64 ", load_end_addr 0x%" PRIx64
			       ", bss_end_addr 0x%" PRIx64 " are not in order",
			       path, load_gpa, load_end, bss_end);
	if (header->entry_addr < load_gpa || header->entry_addr >= load_end)
		return err_set(err, -EINVAL, "%s: multiboot entry_addr 0x%x is not in what it loads", path,
			       header->entry_addr);

	int r = places_take(&load->places, load_gpa, bss_end - load_gpa, err, "the kernel");
	if (r)
		return err_prepend(err, "%s", path);
	uint64_t load_bytes = load_end - load_gpa;
	uint8_t *dst = guest_memory_at(load->memory, load_gpa, bss_end - load_gpa);
	memset(dst + load_bytes, 0, bss_end - load_end);
	return image_read(&load->kernel, offset, dst, load_bytes, "the kernel", err);
}

static int multiboot_load_elf(struct load *load, uint64_t *ret_entry, struct err *err)
{
	const char *path = load->kernel.path;
	struct elf_kernel elf;
	int r = elf_recognise(&load->kernel, &elf, err);
	if (r < 0)
		return r;
	if (r == 0)
		return err_set(err, -EINVAL,
			       "%s: a multiboot header without addresses (flag 16) in a file that is no ELF",
			       path);
	r = elf_entry_gpa(&load->kernel, &elf, ret_entry, err);
	if (r < 0)
		return r;
	if (r == 0)
		return err_set(err, -EINVAL, "%s: its ELF entry 0x%" PRIx64 " is in none of its segments",
			       path, elf.entry);
	return elf_load(load, &elf, err);
}

static int multiboot_load_kernel(struct load *load, uint64_t *ret_entry, struct err *err)
{
	struct multiboot_header header = {0};
	uint64_t offset = 0;
	int r = multiboot_find_header(&load->kernel, &header, &offset, err);
	if (r < 0)
		return r;
	r = multiboot_check_flags(&load->kernel, header.flags, err);
	if (r)
		return r;
	if (!(header.flags & HEADER_ADDRESSES))
		return multiboot_load_elf(load, ret_entry, err);
	*ret_entry = header.entry_addr;
	return multiboot_load_flat(load, &header, offset, err);
}

/* A command line begins with the name of the file, as GRUB's and QEMU's do: kernels skip their first word. */
static uint64_t multiboot_put_modules(struct boot_info *info, const struct load_files *files)
{
	struct multiboot_module modules[ARRAY_LEN(files->files)] = {0};
	for (size_t i = 0; i < files->count; i++) {
		const struct load_file *file = &files->files[i];
		modules[i].start_gpa = (uint32_t)file->gpa;
		modules[i].end_gpa = (uint32_t)(file->gpa + file->size);
		modules[i].cmdline_gpa = (uint32_t)boot_info_put_string(info, file->path, file->cmdline);
	}
	return boot_info_put(info, modules, files->count * sizeof(modules[0]));
}

static uint64_t multiboot_put_memory_map(struct boot_info *info, const struct e820 *map)
{
	struct multiboot_memory entries[E820_ENTRIES_MAX] = {0};
	for (size_t i = 0; i < map->count; i++) {
		entries[i].size = sizeof(entries[i]) - sizeof(entries[i].size);
		entries[i].gpa = map->entries[i].gpa;
		entries[i].bytes = map->entries[i].size;
		entries[i].type = map->entries[i].type;
	}
	return boot_info_put(info, entries, map->count * sizeof(entries[0]));
}

int multiboot_load(struct load *load, struct cpu_boot *ret, struct err *err)
{
	struct boot_info info;
	struct load_files files;
	uint64_t entry = 0;

	int r = boot_info_open(load, &info, err);
	if (r == 0)
		r = multiboot_load_kernel(load, &entry, err);
	if (r == 0)
		r = load_modules(load, PLACE_ABOVE_ALL, &files, err);
	if (r)
		return r;

	/* All addresses are in RAM below 4 GiB. */
	struct multiboot_info handed = {
		.flags = INFO_MEMORY | INFO_CMDLINE | INFO_MODULES | INFO_MEMORY_MAP | INFO_LOADER_NAME,
		.mem_lower = (uint32_t)(LAYOUT_LOW_RAM_END_GPA / KIB),
		.mem_upper = (uint32_t)((load->places.ram_end - LAYOUT_KERNEL_GPA) / KIB),
		.cmdline_gpa =
			(uint32_t)boot_info_put_string(&info, load->kernel.path, load->config->boot.cmdline),
		.module_count = (uint32_t)files.count,
		.modules_gpa = (uint32_t)multiboot_put_modules(&info, &files),
		.memory_map_bytes = (uint32_t)(load->e820.count * sizeof(struct multiboot_memory)),
		.memory_map_gpa = (uint32_t)multiboot_put_memory_map(&info, &load->e820),
		.loader_name_gpa = (uint32_t)boot_info_put_string(&info, "aerie", ""),
	};
	uint64_t info_gpa = boot_info_put(&info, &handed, sizeof(handed));
	r = boot_info_close(&info, err);
	if (r)
		return r;
	r = entry_protected(load->memory, entry, BOOTLOADER_MAGIC, info_gpa, ret);
	return r ? err_sys(err, r, "boot GDT") : 0;
}
