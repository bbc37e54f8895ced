/*
 * Looks at its TSC all the time, and says each time that it has stood still for longer than a millisecond,
 * for how long: in units of 256 ticks, of which there are so many in a millisecond. Saying it takes less.
 */
#include "guest.h"

enum { PM_TIMER = 0x608, PM_MASK = 0xffffff, PM_TICKS = 357954, PM_MS = 100 }; /* 3.579545 MHz */
enum { UNIT_SHIFT = 8 };

static uint64_t tsc(void)
{
	uint64_t value;
	__asm__ volatile("rdtsc" : "=A"(value));
	return value;
}

uint8_t payload(uint32_t magic, uint32_t info)
{
	(void)magic, (void)info;
	uint32_t from = inl(PM_TIMER);
	uint64_t last = tsc();
	while (((inl(PM_TIMER) - from) & PM_MASK) < PM_TICKS)
		;
	uint32_t moment = (uint32_t)((tsc() - last) >> UNIT_SHIFT) / PM_MS;
	print_hex("in a ms ", moment);
	for (last = tsc();;) {
		uint64_t now = tsc();
		uint32_t gap = (uint32_t)((now - last) >> UNIT_SHIFT);
		last = now;
		if (gap > moment)
			print_hex("gap ", gap);
	}
}
