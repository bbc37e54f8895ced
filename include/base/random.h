/* Bytes that nobody can foresee. */
#ifndef AERIE_BASE_RANDOM_H
#define AERIE_BASE_RANDOM_H

#include <stddef.h>

/*
 * All of `data`, from getrandom(2) with its `flags`. A signal, which it hears while the host's generator has
 * not been seeded, is not the end of it. 0, or -errno: -EAGAIN with GRND_NONBLOCK, not seeded yet.
 */
int random_bytes(void *data, size_t len, unsigned flags);

#endif
