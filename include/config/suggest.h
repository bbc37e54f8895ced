/* "Did you mean": the nearest of some candidate words to what was written. */
#ifndef AERIE_CONFIG_SUGGEST_H
#define AERIE_CONFIG_SUGGEST_H

#include <stddef.h>

struct suggestion {
	const char *word; /* what was written */
	const char *best; /* the nearest candidate so far, NULL when none is near enough to be meant */
	size_t distance;  /* valid with best */
};

static inline struct suggestion suggestion_for(const char *word)
{
	return (struct suggestion){.word = word};
}

void suggestion_try(struct suggestion *s, const char *candidate);

/*
 * Edits (insert, delete, replace, swap neighbours; case does not count) that turn `a` into `b`; words longer
 * than 32 bytes are as far as any can be.
 */
size_t edit_distance(const char *a, const char *b);

#endif
