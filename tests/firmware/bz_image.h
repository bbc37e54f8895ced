/* A bzImage made by tests: a good kernel of protocol 2.15, with bytes behind its setup header that must not
 * come along. */
#ifndef AERIE_TESTS_FIRMWARE_BZ_IMAGE_H
#define AERIE_TESTS_FIRMWARE_BZ_IMAGE_H

#include <asm/bootparam.h>
#include <stdint.h>
#include <string.h>

enum {
	BZ_HEADER_END = 0x26c, /* with kernel_info_offset */
	BZ_SETUP_BYTES = 1024, /* the boot sector and one of setup */
	BZ_KERNEL_BYTES = 4096,
	BZ_IMAGE_BYTES = BZ_SETUP_BYTES + BZ_KERNEL_BYTES,
	BZ_PREFERRED_GPA = 0x1000000,
	BZ_INIT_BYTES = 0x300000,
};

static inline struct setup_header *bz_header(uint8_t *image)
{
	return (struct setup_header *)(image + 0x1f1);
}

static inline void bz_make(uint8_t *image)
{
	memset(image, 0xee, BZ_SETUP_BYTES);
	for (size_t i = 0; i < BZ_KERNEL_BYTES; i++)
		image[BZ_SETUP_BYTES + i] = (uint8_t)(i * 7);
	*bz_header(image) = (struct setup_header){
		.setup_sects = 1,
		.syssize = BZ_KERNEL_BYTES / 16,
		.boot_flag = 0xaa55,
		.jump = 0xeb | (BZ_HEADER_END - 0x202) << 8,
		.header = 0x53726448,
		.version = 0x020f,
		.loadflags = LOADED_HIGH,
		.initrd_addr_max = 0x7fffffff,
		.kernel_alignment = 0x200000,
		.relocatable_kernel = 1,
		.xloadflags = XLF_KERNEL_64 | XLF_CAN_BE_LOADED_ABOVE_4G,
		.cmdline_size = 2047,
		.setup_data = 0x1234,
		.pref_address = BZ_PREFERRED_GPA,
		.init_size = BZ_INIT_BYTES,
	};
}

#endif
