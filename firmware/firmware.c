/* Tables, then the kernel: see include/firmware/firmware.h. */
#include "firmware/firmware.h"

#include "acpi.h"
#include "base/cleanup.h"
#include "base/layout.h"
#include "load.h"

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
};

int load_write(struct load *load, uint64_t gpa, const void *src, uint64_t len, struct err *err)
{
	if (guest_memory_write(load->memory, gpa, src, len))
		return err_set(err, -EINVAL, "%" PRIu64 " bytes at 0x%" PRIx64 " are not RAM", len, gpa);
	return 0;
}

int load_kernel_bytes(struct load *load, uint64_t offset, uint64_t gpa, uint64_t len, const char *what,
		      struct err *err)
{
	void *dst = guest_memory_at(load->memory, gpa, len);
	if (!dst)
		return err_set(err, -EINVAL, "%s: %s at 0x%" PRIx64 " is not in RAM", load->kernel.path, what,
			       gpa);
	return image_read(&load->kernel, offset, dst, len, what, err);
}

int load_file_high(struct load *load, const char *path, uint64_t limit_gpa, const char *what,
		   uint64_t *ret_gpa, uint64_t *ret_size, struct err *err)
{
	struct image file = IMAGE_NONE;
	int r = image_open(&file, path, err);
	if (r)
		return r;
	r = places_take_high(&load->places, file.size, limit_gpa, what, ret_gpa, err);
	if (r)
		r = err_prepend(err, "%s", path);
	else
		r = image_read(&file, 0, guest_memory_at(load->memory, *ret_gpa, file.size), file.size, what,
			       err);
	*ret_size = file.size;
	image_close(&file);
	return r;
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

static int firmware_load_kernel(struct load *load, struct cpu_boot *ret, struct err *err)
{
	for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
		int r = formats[i].recognise(load, err);
		if (r < 0)
			return r;
		if (r)
			return formats[i].load(load, ret, err);
	}
	return err_set(err, -EINVAL, "%s: not a kernel that aerie can boot", load->kernel.path);
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
		r = acpi_write_tables(config, guest_memory_at(memory, LAYOUT_ACPI_GPA, LAYOUT_ACPI_BYTES),
				      err);
	if (r == 0)
		r = image_open(&load.kernel, config->boot.kernel, err);
	if (r == 0)
		r = firmware_load_kernel(&load, ret, err);
	image_close(&load.kernel);
	return r;
}
