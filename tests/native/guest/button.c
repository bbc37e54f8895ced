/* Waits for the power button, then goes down as ACPI says. */
#include "guest.h"

uint8_t payload(uint32_t magic, uint32_t info)
{
	(void)magic, (void)info;
	outw(0x602, 0x100); /* PWRBTN_EN */
	print("waiting\n");
	while (!(inb(0x601) & 1))
		;
	outw(0x600, 0x100);
	print(inb(0x601) & 1 ? "not cleared\n" : "pressed\n");
	outw(0x604, 5 << 10 | 1 << 13);
	return 1;
}
