/*
 * The files `memory` and `pages`. `memory` is as long as RAM; byte n is byte n of RAM, region after region.
 * With `pages` (a bit for each page of 4 KiB, in 64-bit little-endian words) only the pages with a bit are
 * meant.
 *
 * The checksum of `memory` does not depend on where its holes are: CRC-32C over each meant page that is not
 * all zeros, in order: its number as 8 bytes, little-endian, then its 4096 bytes.
 */
#ifndef AERIE_SRC_SNAPSHOT_RAM_H
#define AERIE_SRC_SNAPSHOT_RAM_H

#include "base/err.h"
#include "memory/memory.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum { RAM_PAGE_BYTES = 4096 };

struct ram_progress {
	_Atomic uint64_t done, total; /* bytes of RAM gone through */
	_Atomic bool cancelled;
};

uint64_t ram_bytes(const struct guest_memory *memory);
size_t ram_bitmap_words(uint64_t bytes);

/*
 * To `fd`, an empty file, on disk when it returns. `pages` NULL: all. *ret_bytes: what was not zeros.
 * -ECANCELED.
 */
int ram_write(const struct guest_memory *memory, int fd, const uint64_t *pages, struct ram_progress *progress,
	      uint32_t *ret_crc, uint64_t *ret_bytes, struct err *err);

/* Into RAM: all of zeros when `pages` is NULL, else as the base left it. -EINVAL: not as long as RAM, or
 * damaged. */
int ram_read(const struct guest_memory *memory, int fd, const uint64_t *pages, uint32_t crc, struct err *err);

/* The checksum of pages one after another; for who copies them without a machine. */
uint32_t ram_crc(uint32_t crc, uint64_t page, const void *bytes);
bool ram_page_is_zero(const void *bytes);

#endif
