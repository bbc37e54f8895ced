#include "places.h"

#include "base/layout.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define PAGE_BYTES 4096ULL

void places_init(struct places *places, const struct guest_memory *memory)
{
	const struct guest_region *regions;
	size_t count = guest_memory_regions(memory, &regions);
	*places = (struct places){.ram_end = count && regions[0].gpa == 0 ? regions[0].size : 0};
}

static const struct place *places_overlap(const struct places *places, uint64_t gpa, uint64_t size)
{
	for (size_t i = 0; i < places->count; i++) {
		const struct place *other = &places->taken[i];
		if (gpa < other->gpa + other->size && other->gpa < gpa + size)
			return other;
	}
	return NULL;
}

static int places_add(struct places *places, uint64_t gpa, uint64_t size, const char *name, struct err *err)
{
	if (places->count == PLACES_MAX)
		return err_set(err, -EINVAL, "%s: more than %d parts to load", name, PLACES_MAX);
	struct place *place = &places->taken[places->count++];
	*place = (struct place){.gpa = gpa, .size = size};
	(void)snprintf(place->name, sizeof(place->name), "%s", name);
	return 0;
}

int places_take(struct places *places, uint64_t gpa, uint64_t size, struct err *err, const char *name_fmt,
		...)
{
	char name[PLACE_NAME_BYTES];
	va_list args;
	va_start(args, name_fmt);
	(void)vsnprintf(name, sizeof(name), name_fmt, args);
	va_end(args);

	if (size == 0)
		return 0;
	if (gpa >= places->ram_end || size > places->ram_end - gpa)
		return err_set(err, -EINVAL,
			       "%s (0x%" PRIx64 " bytes at 0x%" PRIx64
			       ") is not in RAM, which ends at 0x%" PRIx64 "; more memory.size may help",
			       name, size, gpa, places->ram_end);
	const struct place *other = places_overlap(places, gpa, size);
	if (other)
		return err_set(err, -EINVAL,
			       "%s (0x%" PRIx64 " bytes at 0x%" PRIx64 ") overlaps %s (0x%" PRIx64
			       " bytes at 0x%" PRIx64 ")",
			       name, size, gpa, other->name, other->size, other->gpa);
	return places_add(places, gpa, size, name, err);
}

/* Each turn steps below one taken place, so there are at most `count` turns. False when there is no room. */
static bool places_find_highest(const struct places *places, uint64_t size, uint64_t end_gpa,
				uint64_t *ret_gpa)
{
	const struct place *other;
	do {
		if (size > end_gpa || end_gpa - size < LAYOUT_KERNEL_GPA)
			return false;
		*ret_gpa = (end_gpa - size) & ~(PAGE_BYTES - 1);
		other = places_overlap(places, *ret_gpa, size);
		if (other)
			end_gpa = other->gpa;
	} while (other);
	return true;
}

static bool places_find_above_all(const struct places *places, uint64_t size, uint64_t end_gpa,
				  uint64_t *ret_gpa)
{
	uint64_t gpa = LAYOUT_KERNEL_GPA;
	for (size_t i = 0; i < places->count; i++) {
		uint64_t end = places->taken[i].gpa + places->taken[i].size;
		gpa = end > gpa ? end : gpa;
	}
	gpa = (gpa + PAGE_BYTES - 1) & ~(PAGE_BYTES - 1);
	*ret_gpa = gpa;
	return gpa <= end_gpa && size <= end_gpa - gpa;
}

int places_take_free(struct places *places, uint64_t size, enum place_end where, uint64_t limit_gpa,
		     const char *name, uint64_t *ret_gpa, struct err *err)
{
	uint64_t end = limit_gpa < places->ram_end ? limit_gpa : places->ram_end;
	bool found = where == PLACE_HIGHEST ? places_find_highest(places, size, end, ret_gpa)
					    : places_find_above_all(places, size, end, ret_gpa);
	if (!found)
		return err_set(err, -EINVAL,
			       "no room for %s of %" PRIu64 " bytes below 0x%" PRIx64
			       " beside the kernel; more memory.size may help",
			       name, size, end);
	return places_add(places, *ret_gpa, size, name, err);
}
