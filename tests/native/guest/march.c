/*
 * Counts on the debug console, one number a line, for as long as it is let: a line lost or doubled, a
 * register or a page that did not come along, shows in the sequence or as "lost". Writes a page of its own
 * each time, in turn, and looks at what it wrote there the last time.
 */
#include "guest.h"

enum { PAGES = 256, PAGE_WORDS = 1024, PAUSE = 60 };

static volatile uint32_t pages[PAGES][PAGE_WORDS];

uint8_t payload(uint32_t magic, uint32_t info)
{
	(void)magic, (void)info;
	for (uint32_t i = 0;; i++) {
		volatile uint32_t *word = &pages[i % PAGES][i / PAGES % PAGE_WORDS];
		if (i >= PAGES && pages[i % PAGES][(i / PAGES - 1) % PAGE_WORDS] != i + 1 - PAGES)
			print_hex("lost ", i);
		*word = i + 1;
		print_hex("", i);
		for (volatile int pause = 0; pause < PAUSE; pause++)
			;
	}
}
