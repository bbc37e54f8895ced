/* Text on the debug console byte by byte and by rep outsb, and on COM1 with its transmitter watched. */
#include "guest.h"

uint8_t payload(uint32_t magic, uint32_t info)
{
	static const char text[] = "by rep outsb\n";
	const char *at = text;
	uint32_t count = sizeof(text) - 1;
	(void)magic, (void)info;

	print("by outb\n");
	__asm__ volatile("rep outsb" : "+S"(at), "+c"(count) : "d"(0xe9) : "memory");
	for (const char *c = "hello from COM1\n"; *c; c++) {
		while (!(inb(0x3fd) & 0x20))
			;
		outb(0x3f8, (uint8_t)*c);
	}
	return inb(0xe9) == 0xe9 ? 0 : 1;
}
