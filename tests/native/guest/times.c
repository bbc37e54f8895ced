/* PM timer, TSC and RTC go forward; the PIT's channel 2 counts down behind port 0x61. */
#include "guest.h"

static uint8_t cmos(uint8_t index)
{
	outb(0x70, index);
	return inb(0x71);
}

uint8_t payload(uint32_t magic, uint32_t info)
{
	(void)magic, (void)info;
	uint32_t first = inl(0x608);
	for (volatile int i = 0; i < 100; i++)
		;
	print(inl(0x608) != first ? "pm timer runs\n" : "pm timer stands\n");
	outb(0x61, (uint8_t)((inb(0x61) & ~2) | 1));
	outb(0x43, 0xb0);
	outb(0x42, 0x10);
	outb(0x42, 0x00); /* 16 ticks of 838 ns, then the output goes high */
	uint32_t tries = 0;
	while (!(inb(0x61) & 0x20) && ++tries < 100000)
		;
	print(tries < 100000 ? "pit runs\n" : "pit stands\n");
	print(cmos(0x0d) & 0x80 ? "rtc valid\n" : "rtc invalid\n");
	print_hex("year ", cmos(0x09));
	return 0;
}
