/* Tables, then the kernel: see include/firmware/firmware.h. */
#include "firmware/firmware.h"

#include "acpi.h"
#include "base/cleanup.h"
#include "base/layout.h"
#include "bios.h"
#include "load.h"
#include "smbios.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

/*
 * The order is by how sure the recognition is. A bzImage has its magic at a fixed place, and nothing else may
 * stand there. A PVH note is explicit, and hands over more than multiboot does (64-bit modules, the RSDP);
 * Xen has both. A multiboot header may lie anywhere in the first 8 KiB, so that 12 bytes of chance suffice.
 */
static const struct format {
	int (*recognise)(struct load *load, struct err *err);
	int (*load)(struct load *load, struct cpu_boot *ret, struct err *err);
} formats[] = {
	{bzimage_recognise, bzimage_load},
	{pvh_recognise, pvh_load},
	{multiboot_recognise, multiboot_load},
};

int load_write(struct load *load, uint64_t gpa, const void *src, uint64_t len, struct err *err)
{
	if (guest_memory_write(load->memory, gpa, src, len))
		return err_set(err, -EINVAL, "%" PRIu64 " bytes at 0x%" PRIx64 " are not RAM", len, gpa);
	return 0;
}

int load_file(struct load *load, struct load_file *file, enum place_end where, uint64_t limit_gpa,
	      const char *what, struct err *err)
{
	struct image image = IMAGE_NONE;
	int r = image_open(&image, file->path, err);
	if (r)
		return r;
	file->size = image.size;
	r = places_take_free(&load->places, file->size, where, limit_gpa, what, &file->gpa, err);
	if (r)
		r = err_prepend(err, "%s", file->path);
	else
		r = image_read(&image, 0, guest_memory_at(load->memory, file->gpa, file->size), file->size,
			       what, err);
	image_close(&image);
	return r;
}

int load_modules(struct load *load, enum place_end where, struct load_files *ret, struct err *err)
{
	const struct boot_config *boot = &load->config->boot;
	*ret = (struct load_files){.count = 0};
	if (boot->initrd)
		ret->files[ret->count++] = (struct load_file){.path = boot->initrd, .cmdline = ""};
	for (size_t i = 0; i < boot->module_count; i++)
		ret->files[ret->count++] = (struct load_file){.path = boot->modules[i].path,
							      .cmdline = boot->modules[i].cmdline};
	for (size_t i = 0; i < ret->count; i++) {
		int r = load_file(load, &ret->files[i], where, load->places.ram_end, "a module", err);
		if (r)
			return r;
	}
	return 0;
}

int load_cmdline(struct load *load, uint64_t max, struct err *err)
{
	size_t len = strlen(load->config->boot.cmdline);
	if (max > LAYOUT_CMDLINE_BYTES - 1)
		max = LAYOUT_CMDLINE_BYTES - 1;
	if (len > max)
		return err_set(err, -EINVAL, "boot.cmdline: %zu bytes, but %s takes %" PRIu64 " at most", len,
			       load->kernel.path, max);
	return load_write(load, LAYOUT_CMDLINE_GPA, load->config->boot.cmdline, len + 1, err);
}

/* What people try first, by the first bytes of the file. */
static const struct hint {
	const char *magic;
	size_t magic_bytes;
	const char *text;
} hints[] = {
	{"\x7f"
	 "ELF",
	 4, "an ELF file with neither a PVH note (XEN_ELFNOTE_PHYS32_ENTRY) nor a multiboot 1 header"},
	{"\x1f\x8b", 2, "compressed with gzip: unpack it first (zcat)"},
	{"\xfd"
	 "7zXZ",
	 5, "compressed with xz: unpack it first (xzcat)"},
	{"\x28\xb5\x2f\xfd", 4, "compressed with zstd: unpack it first (zstdcat)"},
	{"BZh", 3, "compressed with bzip2: unpack it first (bzcat)"},
	{"MZ", 2, "an EFI program that is no Linux bzImage"},
};

static int refuse_unknown(const struct load *load, struct err *err)
{
	const char *path = load->kernel.path;
	char start[8] = {0};
	uint64_t len = load->kernel.size < sizeof(start) ? load->kernel.size : sizeof(start);
	int r = image_read(&load->kernel, 0, start, len, "the first bytes", err);
	if (r)
		return r;
	for (size_t i = 0; i < ARRAY_LEN(hints); i++)
		if (memcmp(start, hints[i].magic, hints[i].magic_bytes) == 0)
			return err_set(err, -EINVAL, "%s: %s", path, hints[i].text);
	return err_set(err, -EINVAL,
		       "%s: not a kernel: no Linux bzImage, no ELF with a PVH note, no multiboot 1 header",
		       path);
}

static int firmware_load_kernel(struct load *load, struct cpu_boot *ret, struct err *err)
{
	for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
		int r = formats[i].recognise(load, err);
		if (r < 0)
			return r;
		if (r)
			return formats[i].load(load, ret, err);
	}
	return refuse_unknown(load, err);
}

int firmware_load(const struct machine_config *config, struct guest_memory *memory, struct cpu_boot *ret,
		  struct err *err)
{
	struct load load = {.config = config, .memory = memory, .kernel = IMAGE_NONE};
	places_init(&load.places, memory);
	if (load.places.ram_end <= LAYOUT_KERNEL_GPA)
		return err_set(err, -EINVAL, "memory.size: a PC needs more than 1 MiB");
	e820_build(memory, &load.e820);
	int r = places_take(&load.places, LAYOUT_LOW_RAM_END_GPA, LAYOUT_KERNEL_GPA - LAYOUT_LOW_RAM_END_GPA,
			    err, "the firmware's area");
	if (r == 0)
		r = bios_write(config, memory);
	if (r == 0)
		r = acpi_write_tables(config, guest_memory_at(memory, LAYOUT_ACPI_GPA, LAYOUT_ACPI_BYTES),
				      err);
	if (r == 0)
		r = smbios_write_tables(config, memory,
					guest_memory_at(memory, LAYOUT_SMBIOS_GPA, LAYOUT_SMBIOS_BYTES), err);
	if (r == 0)
		r = image_open(&load.kernel, config->boot.kernel, err);
	if (r == 0)
		r = firmware_load_kernel(&load, ret, err);
	image_close(&load.kernel);
	return r;
}
