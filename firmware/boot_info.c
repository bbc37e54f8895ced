#include "boot_info.h"

#include "base/layout.h"

#include <errno.h>

int boot_info_open(struct load *load, struct boot_info *ret, struct err *err)
{
	struct places *places = &load->places;
	int r = places_take(places, LAYOUT_BOOT_GDT_GPA, LAYOUT_BOOT_IDT_GPA - LAYOUT_BOOT_GDT_GPA, err,
			    "the boot GDT");
	if (r == 0)
		r = places_take(places, LAYOUT_BOOT_INFO_GPA, LAYOUT_BOOT_INFO_BYTES, err,
				"the boot information");
	if (r == 0)
		r = places_take(places, LAYOUT_CMDLINE_GPA, LAYOUT_CMDLINE_BYTES, err, "the command lines");
	if (r)
		return r;
	ret->structures =
		writer_on(guest_memory_at(load->memory, LAYOUT_BOOT_INFO_GPA, LAYOUT_BOOT_INFO_BYTES),
			  LAYOUT_BOOT_INFO_BYTES);
	ret->strings = writer_on(guest_memory_at(load->memory, LAYOUT_CMDLINE_GPA, LAYOUT_CMDLINE_BYTES),
				 LAYOUT_CMDLINE_BYTES);
	return 0;
}

uint64_t boot_info_put(struct boot_info *info, const void *src, size_t len)
{
	write_zeros(&info->structures, -info->structures.used & 7);
	uint64_t gpa = LAYOUT_BOOT_INFO_GPA + info->structures.used;
	write_bytes(&info->structures, src, len);
	return gpa;
}

uint64_t boot_info_put_string(struct boot_info *info, const char *first, const char *second)
{
	uint64_t gpa = LAYOUT_CMDLINE_GPA + info->strings.used;
	write_bytes(&info->strings, first, strlen(first));
	if (*second)
		write_u8(&info->strings, ' ');
	write_bytes(&info->strings, second, strlen(second) + 1);
	return gpa;
}

int boot_info_close(const struct boot_info *info, struct err *err)
{
	if (info->structures.failed)
		return err_set(err, -EINVAL, "boot: the boot information does not fit into %u bytes",
			       (unsigned)LAYOUT_BOOT_INFO_BYTES);
	if (info->strings.failed)
		return err_set(
			err, -EINVAL,
			"boot: the command lines of kernel and modules are together longer than %u bytes",
			(unsigned)LAYOUT_CMDLINE_BYTES);
	return 0;
}
