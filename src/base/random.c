#include "base/random.h"

#include <errno.h>
#include <stdint.h>
#include <sys/random.h>

int random_bytes(void *data, size_t len, unsigned flags)
{
	uint8_t *at = data;
	while (len) {
		ssize_t got = getrandom(at, len, flags);
		if (got < 0 && errno != EINTR)
			return -errno;
		at += got > 0 ? got : 0;
		len -= got > 0 ? (size_t)got : 0;
	}
	return 0;
}
