/*
 * Wakes all other vCPUs by INIT and SIPI through the x2APIC, whose ids have 32 bits; each counts itself. The
 * command line says how many there should be. Exits with their number, modulo 128.
 */
#include "guest.h"

extern const uint8_t ap_start[], ap_end[];

static uint32_t decimal(const char *text)
{
	uint32_t value = 0;
	for (; *text >= '0' && *text <= '9'; text++)
		value = value * 10 + (uint32_t)(*text - '0');
	return value;
}

uint8_t payload(uint32_t magic, uint32_t info)
{
	const struct start_info *start = at(info);
	volatile uint8_t *code = (volatile uint8_t *)0x8000;
	volatile uint16_t *awake = (volatile uint16_t *)0x8ff0;
	(void)magic;

	uint32_t want = decimal(at(start->cmdline));
	for (uint32_t i = 0; i < (uint32_t)(ap_end - ap_start); i++)
		code[i] = ap_start[i];
	*awake = 1;				      /* ourselves */
	wrmsr(0x1b, rdmsr(0x1b) | 1 << 11 | 1 << 10); /* APIC base: x2APIC on */
	wrmsr(0x80f, 0x1ff);			      /* spurious vector, APIC on */
	wrmsr(0x830, 0xc4500);			      /* ICR: INIT to all but self */
	wrmsr(0x830, 0xc4600 | 0x08);		      /* SIPI, page 8 */
	while (*awake < want)
		__asm__ volatile("pause");
	for (volatile int i = 0; i < 1000; i++) /* nobody more may come */
		;
	print_hex("awake ", *awake);
	return *awake & 0x7f;
}
