/* Where a test puts its files: below TMPDIR, which tests/tidy has made for this one test; no test names /tmp.
 */
#ifndef AERIE_TESTS_SCRATCH_H
#define AERIE_TESTS_SCRATCH_H

#include <stdio.h>
#include <stdlib.h>

/* "TMPDIR/name", short enough for the address of a socket; cut where it does not fit, which the next call
 * refuses. */
static inline char *scratch_path(char *path, size_t bytes, const char *name)
{
	const char *folder = getenv("TMPDIR");
	(void)snprintf(path, bytes, "%s/%s", folder ? folder : "/tmp", name);
	return path;
}

/* A new folder, `name` ending in XXXXXX; NULL and errno when it cannot be made. The caller removes it. */
static inline char *scratch_folder(char *path, size_t bytes, const char *name)
{
	return mkdtemp(scratch_path(path, bytes, name));
}

/* A new file, likewise: its descriptor or -1. */
static inline int scratch_file(char *path, size_t bytes, const char *name)
{
	return mkstemp(scratch_path(path, bytes, name));
}

#endif
