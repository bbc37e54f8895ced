/* PCI as a kernel finds it: configuration mechanism #1, ECAM, and the reset register that lies within it. */
#include "guest.h"

enum { ECAM = 0xe0000000, SLOTS = 32 };

static inline void outl(uint16_t port, uint32_t value)
{
	__asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port));
}

static uint32_t by_ports(uint32_t slot, uint32_t offset)
{
	outl(0xcf8, 0x80000000 | slot << 11 | offset);
	return inl(0xcfc);
}

static uint32_t by_ecam(uint32_t slot, uint32_t offset)
{
	return *(volatile uint32_t *)(ECAM + (slot << 15) + offset);
}

uint8_t payload(uint32_t magic, uint32_t info)
{
	uint32_t found = 0, differences = 0;
	(void)magic, (void)info;
	outl(0xcf8, 0x80000600); /* bit 2 of the second byte is no reset */
	print_hex("address ", inl(0xcf8));
	outw(0xcf8, 0x0600);
	print_hex("still ", inl(0xcf8));
	print_hex("reset register ", inb(0xcf9));
	for (uint32_t slot = 0; slot < SLOTS; slot++) {
		if (by_ports(slot, 0) != 0xffffffff)
			found++;
		for (uint32_t offset = 0; offset < 256; offset += 4)
			differences += by_ports(slot, offset) != by_ecam(slot, offset);
	}
	print_hex("found ", found);
	print_hex("differences ", differences);
	print_hex("host ", by_ports(0, 0));
	print_hex("class ", by_ecam(0, 8));
	outl(0xcf8, 0x80000008);
	print_hex("subclass byte ", inb(0xcfe));
	print_hex("beyond bus 0 ", *(volatile uint32_t *)(ECAM + 0x100000));
	print_hex("extended ", by_ecam(0, 0x100));
	return 0;
}
