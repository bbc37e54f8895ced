/*
 * ELF kernels with a PVH entry point (docs/misc/pvh.pandoc and public/arch-x86/hvm/start_info.h of Xen):
 * entered in 32-bit flat mode, paging off, with ebx = the start info.
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
	XEN_ELFNOTE_PHYS32_ENTRY = 18,
	PVH_MAGIC = 0x336ec578, /* "xEn3" with bit 7 of the E set */
	PVH_VERSION = 1,	/* 1: has the memory map */
};

struct pvh_start_info {
	uint32_t magic;
	uint32_t version;
	uint32_t flags;
	uint32_t module_count;
	uint64_t modules_gpa;
	uint64_t cmdline_gpa;
	uint64_t rsdp_gpa;
	uint64_t memory_map_gpa;
	uint32_t memory_map_count;
	uint32_t reserved;
};
static_assert(sizeof(struct pvh_start_info) == 56, "hvm_start_info version 1");

struct pvh_module {
	uint64_t gpa;
	uint64_t size;
	uint64_t cmdline_gpa; /* 0: none */
	uint64_t reserved;
};
static_assert(sizeof(struct pvh_module) == 32, "hvm_modlist_entry");

struct pvh_memory {
	uint64_t gpa;
	uint64_t size;
	uint32_t type; /* as in e820 */
	uint32_t reserved;
};
static_assert(sizeof(struct pvh_memory) == 24, "hvm_memmap_table_entry");

static int pvh_find_entry(const struct image *image, struct elf_kernel *elf, uint64_t *ret_gpa,
			  struct err *err)
{
	int r = elf_recognise(image, elf, err);
	if (r != 1)
		return r;
	return elf_find_note(image, elf, "Xen", XEN_ELFNOTE_PHYS32_ENTRY, ret_gpa, err);
}

int pvh_recognise(struct load *load, struct err *err)
{
	struct elf_kernel elf = {0};
	uint64_t entry = 0;
	return pvh_find_entry(&load->kernel, &elf, &entry, err);
}

static uint64_t pvh_put_modules(struct boot_info *info, const struct load_files *files)
{
	struct pvh_module modules[ARRAY_LEN(files->files)] = {0};
	for (size_t i = 0; i < files->count; i++) {
		const struct load_file *file = &files->files[i];
		modules[i].gpa = file->gpa;
		modules[i].size = file->size;
		modules[i].cmdline_gpa = *file->cmdline ? boot_info_put_string(info, file->cmdline, "") : 0;
	}
	return files->count ? boot_info_put(info, modules, files->count * sizeof(modules[0])) : 0;
}

static uint64_t pvh_put_memory_map(struct boot_info *info, const struct e820 *map)
{
	struct pvh_memory entries[E820_ENTRIES_MAX] = {0};
	for (size_t i = 0; i < map->count; i++) {
		entries[i].gpa = map->entries[i].gpa;
		entries[i].size = map->entries[i].size;
		entries[i].type = map->entries[i].type;
	}
	return boot_info_put(info, entries, map->count * sizeof(entries[0]));
}

int pvh_load(struct load *load, struct cpu_boot *ret, struct err *err)
{
	struct elf_kernel elf;
	struct boot_info info;
	struct load_files files;
	uint64_t entry = 0;

	int r = pvh_find_entry(&load->kernel, &elf, &entry, err);
	if (r < 0)
		return r;
	r = elf_has_byte(&load->kernel, &elf, entry, err);
	if (r < 0)
		return r;
	if (r == 0)
		return err_set(err, -EINVAL, "%s: its PVH entry 0x%" PRIx64 " is in none of its segments",
			       load->kernel.path, entry);
	r = boot_info_open(load, &info, err);
	if (r == 0)
		r = elf_load(load, &elf, err);
	if (r == 0)
		r = load_modules(load, PLACE_HIGHEST, &files, err);
	if (r)
		return r;

	struct pvh_start_info start = {
		.magic = PVH_MAGIC,
		.version = PVH_VERSION,
		.module_count = (uint32_t)files.count,
		.modules_gpa = pvh_put_modules(&info, &files),
		.cmdline_gpa = boot_info_put_string(&info, load->config->boot.cmdline, ""),
		.rsdp_gpa = LAYOUT_ACPI_GPA,
		.memory_map_gpa = pvh_put_memory_map(&info, &load->e820),
		.memory_map_count = (uint32_t)load->e820.count,
	};
	uint64_t start_gpa = boot_info_put(&info, &start, sizeof(start));
	r = boot_info_close(&info, err);
	if (r)
		return r;
	r = entry_protected(load->memory, entry, 0, start_gpa, ret);
	return r ? err_sys(err, r, "boot GDT") : 0;
}
