/* The input of a fuzz target, taken from its front; what is no longer there reads as 0. */
#ifndef AERIE_TESTS_FUZZ_FEED_H
#define AERIE_TESTS_FUZZ_FEED_H

#include <stddef.h>
#include <stdint.h>

struct feed {
	const uint8_t *data;
	size_t size;
};

/* Up to 8 bytes, little-endian. */
static inline uint64_t take64(struct feed *feed, unsigned bytes)
{
	uint64_t value = 0;
	for (unsigned i = 0; i < bytes && feed->size; i++) {
		value |= (uint64_t)*feed->data++ << (8 * i);
		feed->size--;
	}
	return value;
}

/* Up to 4. */
static inline uint32_t take(struct feed *feed, unsigned bytes)
{
	return (uint32_t)take64(feed, bytes);
}

#endif
