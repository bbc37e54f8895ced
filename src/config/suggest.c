#include "config/suggest.h"

#include <ctype.h>
#include <stdint.h>
#include <string.h>

enum { WORD_BYTES_MAX = 32 };

static size_t min_of(size_t a, size_t b)
{
	return a < b ? a : b;
}

static int lower(char c)
{
	return tolower((unsigned char)c);
}

/* Damerau-Levenshtein in its restricted form: no part of the word is edited twice. */
size_t edit_distance(const char *a, const char *b)
{
	size_t la = strlen(a), lb = strlen(b);
	if (la > WORD_BYTES_MAX || lb > WORD_BYTES_MAX)
		return SIZE_MAX;
	size_t d[WORD_BYTES_MAX + 1][WORD_BYTES_MAX + 1];
	for (size_t i = 0; i <= la; i++)
		d[i][0] = i;
	for (size_t j = 0; j <= lb; j++)
		d[0][j] = j;
	for (size_t i = 1; i <= la; i++) {
		for (size_t j = 1; j <= lb; j++) {
			size_t replace = lower(a[i - 1]) != lower(b[j - 1]);
			d[i][j] = min_of(d[i - 1][j - 1] + replace, min_of(d[i - 1][j], d[i][j - 1]) + 1);
			if (i > 1 && j > 1 && lower(a[i - 1]) == lower(b[j - 2]) &&
			    lower(a[i - 2]) == lower(b[j - 1]))
				d[i][j] = min_of(d[i][j], d[i - 2][j - 2] + 1);
		}
	}
	return d[la][lb];
}

void suggestion_try(struct suggestion *s, const char *candidate)
{
	size_t distance = edit_distance(s->word, candidate);
	/* A third of the letters wrong is a slip, more is another word; and 4M is no slip for 2M. */
	size_t len = strlen(candidate), slips = len < 3 ? 0 : len < 6 ? 1 : len / 3;
	if (distance > slips || (s->best && distance >= s->distance))
		return;
	s->best = candidate;
	s->distance = distance;
}
