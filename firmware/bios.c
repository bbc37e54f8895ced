#include "bios.h"

#include "base/bytes.h"
#include "base/layout.h"

#include <assert.h>
#include <errno.h>

#define EBDA_GPA LAYOUT_LOW_RAM_END_GPA

enum {
	IVT_VECTORS = 256,
	BDA_BYTES = 256,
	BDA_COM_PORTS = 0x00,
	BDA_EBDA_SEGMENT = 0x0e,
	BDA_EQUIPMENT = 0x10, /* bits 11:9: serial ports */
	BDA_MEMORY_KIB = 0x13,
	EBDA_SERVICE = 0x10, /* the first byte of the EBDA is its size in KiB */
};
static_assert(LAYOUT_IVT_GPA + IVT_VECTORS * 4ULL <= LAYOUT_BDA_GPA, "vectors end before the data area");
static_assert(LAYOUT_BDA_GPA + BDA_BYTES <= LAYOUT_BOOT_GDT_GPA, "the data area ends before the GDT");

/* Every service: set the carry flag that the caller will see, which is how a BIOS says "error" or "unknown".
 */
static const uint8_t service[] = {
	0x55,			/* push bp */
	0x89, 0xe5,		/* mov bp, sp */
	0x80, 0x4e, 0x06, 0x01, /* or byte [bp + 6], 1: above bp lie ip, cs and flags */
	0x5d,			/* pop bp */
	0xcf,			/* iret */
};

int bios_write(const struct machine_config *config, struct guest_memory *memory)
{
	uint8_t *vectors = guest_memory_at(memory, LAYOUT_IVT_GPA, (uint64_t)IVT_VECTORS * 4);
	uint8_t *bda = guest_memory_at(memory, LAYOUT_BDA_GPA, BDA_BYTES);
	uint8_t *ebda = guest_memory_at(memory, EBDA_GPA, LAYOUT_VGA_HOLE_GPA - EBDA_GPA);
	if (!vectors || !bda || !ebda)
		return -EFAULT;

	for (size_t i = 0; i < IVT_VECTORS; i++)
		store_le32(vectors + 4 * i, (uint32_t)(EBDA_GPA >> 4) << 16 | EBDA_SERVICE);

	memset(bda, 0, BDA_BYTES);
	for (size_t i = 0; i < config->serial_count; i++)
		store_le16(bda + BDA_COM_PORTS + 2 * i, layout_com[i].port);
	store_le16(bda + BDA_EBDA_SEGMENT, (uint16_t)(EBDA_GPA >> 4));
	store_le16(bda + BDA_EQUIPMENT, (uint16_t)(config->serial_count << 9));
	store_le16(bda + BDA_MEMORY_KIB, (uint16_t)(EBDA_GPA / KIB));

	memset(ebda, 0, LAYOUT_VGA_HOLE_GPA - EBDA_GPA);
	ebda[0] = (uint8_t)((LAYOUT_VGA_HOLE_GPA - EBDA_GPA) / KIB);
	memcpy(ebda + EBDA_SERVICE, service, sizeof(service));
	return 0;
}
