/*
 * Who takes which part of RAM while a kernel is loaded: the low structures of layout.h, each segment of the
 * kernel, the initrd, the modules. Addresses come from files that may be hostile, so nothing is written
 * before its place has been taken here: a place lies wholly in the RAM below 4 GiB and overlaps no other.
 */
#ifndef AERIE_FIRMWARE_PLACES_H
#define AERIE_FIRMWARE_PLACES_H

#include "base/err.h"
#include "memory/memory.h"

#include <stddef.h>
#include <stdint.h>

enum { PLACES_MAX = 128, PLACE_NAME_BYTES = 32 };

struct place {
	uint64_t gpa;
	uint64_t size; /* bytes, not 0 */
	char name[PLACE_NAME_BYTES];
};

struct places {
	struct place taken[PLACES_MAX];
	size_t count;
	uint64_t ram_end; /* RAM is [0, ram_end); what lies above 4 GiB is not for loading */
};

void places_init(struct places *places, const struct guest_memory *memory);

/* Take exactly [gpa, gpa + size). -EINVAL when it is not all RAM or is taken: the message says by whom. */
int places_take(struct places *places, uint64_t gpa, uint64_t size, struct err *err, const char *name_fmt,
		...) __attribute__((format(printf, 5, 6)));

enum place_end {
	PLACE_HIGHEST,	 /* as high as it goes: out of the way of a kernel that knows its memory map */
	PLACE_ABOVE_ALL, /* the next page above all that was taken: where small kernels have mapped memory */
};

/*
 * Take a free page-aligned range of `size` bytes between LAYOUT_KERNEL_GPA and `limit_gpa`. -EINVAL when
 * there is none.
 */
int places_take_free(struct places *places, uint64_t size, enum place_end where, uint64_t limit_gpa,
		     const char *name, uint64_t *ret_gpa, struct err *err);

#endif
