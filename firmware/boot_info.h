/*
 * What PVH and multiboot hand over: structures at LAYOUT_BOOT_INFO_GPA, and the strings they point to at
 * LAYOUT_CMDLINE_GPA. Both grow as the loader appends; each append answers the address that the guest will
 * see.
 */
#ifndef AERIE_FIRMWARE_BOOT_INFO_H
#define AERIE_FIRMWARE_BOOT_INFO_H

#include "base/bytes.h"
#include "load.h"

struct boot_info {
	struct writer structures;
	struct writer strings;
};

/* Takes the places of the low structures: before the kernel is loaded, so that no segment can lie there. */
int boot_info_open(struct load *load, struct boot_info *ret, struct err *err);

/* Answers the address of the copy; alignment is 8. */
uint64_t boot_info_put(struct boot_info *info, const void *src, size_t len);

/* "first" or, when `second` is not empty, "first second". */
uint64_t boot_info_put_string(struct boot_info *info, const char *first, const char *second);

/* -EINVAL when something did not fit. */
int boot_info_close(const struct boot_info *info, struct err *err);

#endif
