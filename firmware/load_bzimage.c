/*
 * Linux bzImage, entered at its 64-bit entry (Documentation/arch/x86/boot.rst).
 *
 *	0x000  boot sector, unused
 *	0x1f1  setup header, to 0x202 + the byte at 0x201: into the zero page as it is, then filled in
 *	...    real-mode code up to (setup_sects + 1) * 512, unused: it would ask a BIOS
 *	...    protected-mode kernel to the end of the file; its 64-bit entry is 0x200 bytes in
 *
 * The initrd stays below 4 GiB even when the kernel could find it above (XLF_CAN_BE_LOADED_ABOVE_4G): RAM
 * below the PCI hole is never short when there is RAM above.
 */
#include "base/layout.h"
#include "entry.h"
#include "load.h"

#include <asm/bootparam.h>
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stddef.h>

enum {
	SECTOR_BYTES = 512,
	HEADER_OFFSET = 0x1f1,
	HEADER_LENGTH_OFFSET = 0x201, /* the operand of a short jump over the header */
	HEADER_LENGTH_FROM = 0x202,
	HEADER_END_MAX = 0x290,	 /* the zero page has another use from here */
	HEADER_END_2_12 = 0x268, /* with init_size and handover_offset */
	BOOT_FLAG = 0xaa55,
	HEADER_MAGIC = 0x53726448, /* "HdrS" */
	PROTOCOL_2_12 = 0x020c,
	LOADER_UNDEFINED = 0xff, /* type_of_loader of those who have no number */
	ENTRY_64_OFFSET = 0x200,
};

static_assert(offsetof(struct boot_params, acpi_rsdp_addr) == 0x070, "zero page: acpi_rsdp_addr");
static_assert(offsetof(struct boot_params, e820_entries) == 0x1e8, "zero page: e820_entries");
static_assert(offsetof(struct boot_params, hdr) == HEADER_OFFSET, "zero page: setup header");
static_assert(offsetof(struct boot_params, hdr.header) == 0x202, "setup header: magic");
static_assert(offsetof(struct boot_params, hdr.init_size) == 0x260, "setup header: init_size");
static_assert(offsetof(struct boot_params, e820_table) == 0x2d0, "zero page: e820 table");
static_assert(sizeof(struct boot_params) == 4096, "the zero page is a page");
static_assert(E820_ENTRIES_MAX <= E820_MAX_ENTRIES_ZEROPAGE, "the map fits the zero page");

int bzimage_recognise(struct load *load, struct err *err)
{
	struct {
		uint16_t boot_flag;
		uint16_t jump;
		uint32_t magic;
	} at_1fe;
	const uint64_t offset = offsetof(struct boot_params, hdr.boot_flag);
	if (load->kernel.size < offset + sizeof(at_1fe))
		return 0;
	int r = image_read(&load->kernel, offset, &at_1fe, sizeof(at_1fe), "the setup header", err);
	if (r)
		return r;
	return at_1fe.boot_flag == BOOT_FLAG && at_1fe.magic == HEADER_MAGIC;
}

/* The setup header into an empty zero page, exactly as long as it says it is. */
static int bzimage_read_header(struct load *load, struct boot_params *ret, struct err *err)
{
	const char *path = load->kernel.path;
	uint8_t length = 0;
	int r = image_read(&load->kernel, HEADER_LENGTH_OFFSET, &length, sizeof(length), "the setup header",
			   err);
	if (r)
		return r;
	uint64_t end = HEADER_LENGTH_FROM + (uint64_t)length;
	if (end > HEADER_END_MAX)
		return err_set(err, -EINVAL,
			       "%s: setup header ends at 0x%" PRIx64 ", past the 0x%x that a zero page has",
			       path, end, HEADER_END_MAX);
	r = image_read(&load->kernel, HEADER_OFFSET, (uint8_t *)ret + HEADER_OFFSET, end - HEADER_OFFSET,
		       "the setup header", err);
	if (r)
		return r;
	unsigned version = ret->hdr.version;
	if (version < PROTOCOL_2_12)
		return err_set(err, -EINVAL,
			       "%s: boot protocol %u.%02u is older than 2.12: aerie enters a kernel only at "
			       "its 64-bit entry",
			       path, version >> 8, version & 0xff);
	if (end < HEADER_END_2_12)
		return err_set(err, -EINVAL,
			       "%s: setup header ends at 0x%" PRIx64 ", before the 0x%x of protocol 2.12",
			       path, end, HEADER_END_2_12);
	return 0;
}

static int bzimage_check_header(const struct load *load, const struct setup_header *hdr, struct err *err)
{
	const char *path = load->kernel.path;
	if (!(hdr->loadflags & LOADED_HIGH))
		return err_set(err, -EINVAL, "%s: a zImage, which loads low; aerie boots bzImage", path);
	if (!(hdr->xloadflags & XLF_KERNEL_64))
		return err_set(
			err, -EINVAL,
			"%s: no 64-bit entry (XLF_KERNEL_64): a 32-bit kernel, or one built without it",
			path);
	if (hdr->relocatable_kernel &&
	    (hdr->kernel_alignment == 0 || hdr->kernel_alignment & (hdr->kernel_alignment - 1)))
		return err_set(err, -EINVAL, "%s: kernel_alignment 0x%x is not a power of two", path,
			       hdr->kernel_alignment);
	if (load->config->boot.module_count)
		return err_set(err, -EINVAL, "%s: boot.modules: a bzImage takes none; give it one initrd",
			       path);
	return 0;
}

/* Where the protected-mode kernel is in the file: all that follows the setup, at least what syssize promises.
 */
static int bzimage_find_kernel(const struct image *image, const struct setup_header *hdr,
			       uint64_t *ret_offset, uint64_t *ret_size, struct err *err)
{
	const uint64_t sectors = hdr->setup_sects ? hdr->setup_sects : 4; /* boot.rst, "setup_sects" */
	const uint64_t offset = (sectors + 1) * SECTOR_BYTES;
	const uint64_t promised = (uint64_t)hdr->syssize * 16;
	if (offset >= image->size || image->size - offset < promised)
		return err_set(err, -EINVAL,
			       "%s: truncated: its header promises %" PRIu64 " bytes of kernel from %" PRIu64
			       ", the file ends at %" PRIu64,
			       image->path, promised, offset, image->size);
	*ret_offset = offset;
	*ret_size = image->size - offset;
	if (*ret_size <= ENTRY_64_OFFSET)
		return err_set(err, -EINVAL, "%s: truncated: the kernel ends before its 64-bit entry",
			       image->path);
	return 0;
}

/*
 * The kernel prefers pref_address: the one place from which it will not move itself. If that is not to be
 * had, a relocatable kernel goes as low as it may.
 */
static int bzimage_take_place(struct load *load, const struct setup_header *hdr, uint64_t bytes,
			      uint64_t *ret_gpa, struct err *err)
{
	struct err preferred = ERR_INIT;
	int r;
	*ret_gpa = hdr->pref_address;
	if (*ret_gpa >= LAYOUT_KERNEL_GPA)
		r = places_take(&load->places, *ret_gpa, bytes, &preferred, "the kernel");
	else
		r = err_set(&preferred, -EINVAL, "pref_address 0x%" PRIx64 " is below 1 MiB", *ret_gpa);
	if (r && hdr->relocatable_kernel) {
		*ret_gpa = align_up(LAYOUT_KERNEL_GPA, hdr->kernel_alignment);
		r = places_take(&load->places, *ret_gpa, bytes, err, "the kernel");
	} else if (r) {
		r = err_set(err, r, "%s (and it is not relocatable)", preferred.text);
	}
	return r ? err_prepend(err, "%s", load->kernel.path) : 0;
}

static int bzimage_load_kernel(struct load *load, const struct setup_header *hdr, uint64_t *ret_gpa,
			       struct err *err)
{
	uint64_t offset = 0;
	uint64_t size = 0;
	int r = bzimage_find_kernel(&load->kernel, hdr, &offset, &size, err);
	if (r)
		return r;
	/* Until it has seen the memory map it uses init_size bytes, from where it runs. */
	r = bzimage_take_place(load, hdr, hdr->init_size > size ? hdr->init_size : size, ret_gpa, err);
	if (r)
		return r;
	return image_read(&load->kernel, offset, guest_memory_at(load->memory, *ret_gpa, size), size,
			  "the kernel", err);
}

/* Everything a boot loader has to fill in: boot.rst, "Details of header fields", those to write or modify. */
static int bzimage_fill_header(struct load *load, struct boot_params *params, uint64_t kernel_gpa,
			       struct err *err)
{
	struct setup_header *hdr = &params->hdr;
	hdr->type_of_loader = LOADER_UNDEFINED;
	hdr->code32_start = (uint32_t)kernel_gpa;
	hdr->setup_data = 0;

	int r = load_cmdline(load, hdr->cmdline_size, err);
	if (r)
		return r;
	hdr->cmd_line_ptr = LAYOUT_CMDLINE_GPA;

	hdr->ramdisk_image = hdr->ramdisk_size = 0;
	if (!load->config->boot.initrd)
		return 0;
	struct load_file initrd = {.path = load->config->boot.initrd};
	r = load_file(load, &initrd, PLACE_HIGHEST, (uint64_t)hdr->initrd_addr_max + 1, "the initrd", err);
	if (r)
		return r;
	hdr->ramdisk_image = (uint32_t)initrd.gpa; /* below initrd_addr_max, so both fit */
	hdr->ramdisk_size = (uint32_t)initrd.size;
	return 0;
}

static void bzimage_fill_e820(const struct e820 *map, struct boot_params *params)
{
	params->e820_entries = (uint8_t)map->count;
	for (size_t i = 0; i < map->count; i++)
		params->e820_table[i] = (struct boot_e820_entry){
			.addr = map->entries[i].gpa,
			.size = map->entries[i].size,
			.type = map->entries[i].type,
		};
}

int bzimage_load(struct load *load, struct cpu_boot *ret, struct err *err)
{
	struct boot_params params = {0};
	uint64_t kernel_gpa = 0;
	int r = bzimage_read_header(load, &params, err);
	if (r == 0)
		r = bzimage_check_header(load, &params.hdr, err);
	if (r == 0)
		r = bzimage_load_kernel(load, &params.hdr, &kernel_gpa, err);
	if (r == 0)
		r = bzimage_fill_header(load, &params, kernel_gpa, err);
	if (r)
		return r;
	params.acpi_rsdp_addr = LAYOUT_ACPI_GPA;
	bzimage_fill_e820(&load->e820, &params);
	r = load_write(load, LAYOUT_ZERO_PAGE_GPA, &params, sizeof(params), err);
	if (r)
		return r;
	r = entry_long(load->memory, kernel_gpa + ENTRY_64_OFFSET, LAYOUT_ZERO_PAGE_GPA, ret);
	return r ? err_sys(err, r, "boot page tables") : 0;
}
