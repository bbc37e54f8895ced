/*
 * Counts on the debug console, one number a line, to 2000: with a line lost or doubled, or with a register or
 * a page that was not brought back, the sequence breaks. Ends with 7 when all that it keeps is still what it
 * was.
 *
 * The second half takes seconds, unless the word at HURRY_GPA, which the host writes, is set: who wants to
 * stop it in the middle is not too late, also on a host that is busy with others.
 */
#include "guest.h"

enum { LAST = 2000, PAGES = 64, PAGE_WORDS = 1024, PAUSE = 2000000, HURRY_GPA = 0x90000 };

static volatile uint32_t pages[PAGES][PAGE_WORDS];

uint8_t payload(uint32_t magic, uint32_t info)
{
	(void)magic, (void)info;
	const volatile uint32_t *hurry = (const volatile uint32_t *)HURRY_GPA;
	uint32_t bad = 0;
	for (uint32_t i = 0; i < LAST; i++) {
		volatile uint32_t *word = &pages[i % PAGES][i / PAGES % PAGE_WORDS];
		bad += *word != 0;
		*word = i + 1;
		print_hex("", i);
		for (volatile int pause = 0; i >= LAST / 2 && !*hurry && pause < PAUSE; pause++)
			;
	}
	for (uint32_t i = 0; i < LAST; i++)
		bad += pages[i % PAGES][i / PAGES % PAGE_WORDS] != i + 1;
	return bad ? 1 : 7;
}
