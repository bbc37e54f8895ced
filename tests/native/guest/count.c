/*
 * Counts on the debug console, one number a line, to 2000: with a line lost or doubled, or with a register or
 * a page that was not brought back, the sequence breaks. Ends with 7 when all that it keeps is still what it
 * was.
 */
#include "guest.h"

enum { LAST = 2000, PAGES = 64, PAGE_WORDS = 1024 };

static volatile uint32_t pages[PAGES][PAGE_WORDS];

uint8_t payload(uint32_t magic, uint32_t info)
{
	(void)magic, (void)info;
	uint32_t bad = 0;
	for (uint32_t i = 0; i < LAST; i++) {
		volatile uint32_t *word = &pages[i % PAGES][i / PAGES % PAGE_WORDS];
		bad += *word != 0;
		*word = i + 1;
		print_hex("", i);
	}
	for (uint32_t i = 0; i < LAST; i++)
		bad += pages[i % PAGES][i / PAGES % PAGE_WORDS] != i + 1;
	return bad ? 1 : 7;
}
