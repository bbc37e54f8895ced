/* Wakes all other vCPUs by INIT and SIPI; each counts itself. Exits with the number of vCPUs. */
#include "guest.h"

extern const uint8_t ap_start[], ap_end[];

uint8_t payload(uint32_t magic, uint32_t info)
{
	volatile uint32_t *const icr = (volatile uint32_t *)0xfee00300;
	volatile uint8_t *code = (volatile uint8_t *)0x8000;
	volatile uint8_t *awake = (volatile uint8_t *)0x8ff0;
	(void)magic, (void)info;

	for (uint32_t i = 0; i < (uint32_t)(ap_end - ap_start); i++)
		code[i] = ap_start[i];
	*awake = 1; /* ourselves */
	*(volatile uint32_t *)0xfee000f0 = 0x1ff;
	*icr = 0xc4500;	       /* INIT to all others */
	*icr = 0xc4600 | 0x08; /* SIPI, page 8 */
	uint8_t last = 0;
	for (uint32_t quiet = 0; quiet < 20000; quiet++) { /* until no new one comes for a while */
		if (*awake != last)
			quiet = 0;
		last = *awake;
	}
	print_hex("awake ", last);
	return last;
}
