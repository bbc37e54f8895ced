/* Never ends by itself: for signals and for Ctrl-A x. */
#include "guest.h"

uint8_t payload(uint32_t magic, uint32_t info)
{
	(void)magic, (void)info;
	print("spinning\n");
	for (;;)
		__asm__ volatile("pause");
}
