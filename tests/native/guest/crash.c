/* Jumps where there is no memory: KVM cannot fetch an instruction and gives up. */
#include "guest.h"

uint8_t payload(uint32_t magic, uint32_t info)
{
	(void)magic, (void)info;
	print("jumping\n");
	((void (*)(void))0xd0000000)();
	return 1;
}
