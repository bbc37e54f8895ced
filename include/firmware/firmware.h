/*
 * What a PC finds when it wakes, without any firmware code running: ACPI and SMBIOS tables, an e820 map, and
 * a kernel that a boot loader has put into RAM.
 */
#ifndef AERIE_FIRMWARE_FIRMWARE_H
#define AERIE_FIRMWARE_FIRMWARE_H

#include "base/err.h"
#include "config/config.h"
#include "cpu/boot.h"
#include "memory/memory.h"

/*
 * Write tables, kernel, initrd and modules into RAM and say where the first vCPU starts. The kernel's format
 * is recognised by content: Linux bzImage (boot protocol 2.12 or later, entered at its 64-bit entry), ELF
 * with a PVH note (XEN_ELFNOTE_PHYS32_ENTRY), ELF or flat image with a multiboot 1 header. Called again at
 * each reset; reads the files anew. An image that is refused is -EINVAL with the reason; a file that cannot
 * be read, its errno.
 */
int firmware_load(const struct machine_config *config, struct guest_memory *memory, struct cpu_boot *ret,
		  struct err *err);

#endif
