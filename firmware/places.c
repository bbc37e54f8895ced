#include "places.h"

#include "base/layout.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
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

int places_take_high(struct places *places, uint64_t size, uint64_t limit_gpa, const char *name,
		     uint64_t *ret_gpa, struct err *err)
{
	uint64_t end = limit_gpa < places->ram_end ? limit_gpa : places->ram_end;
	const struct place *other = NULL;
	do { /* each turn steps below one taken place, so there are at most `count` turns */
		if (other)
			end = other->gpa;
		if (size > end || end - size < LAYOUT_KERNEL_GPA)
			return err_set(err, -EINVAL,
				       "no room for its %" PRIu64 " bytes below 0x%" PRIx64
				       " beside the kernel; RAM ends at 0x%" PRIx64
				       "; more memory.size may help",
				       size, limit_gpa, places->ram_end);
		*ret_gpa = (end - size) & ~(PAGE_BYTES - 1);
		other = places_overlap(places, *ret_gpa, size);
	} while (other);
	return places_add(places, *ret_gpa, size, name, err);
}
