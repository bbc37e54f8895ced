/*
 * A file that goes into guest RAM: opened, measured, and read piece by piece to where it belongs, so that no
 * copy of it ever lies in aerie's own memory. The file may be hostile; every read says what it wanted, so
 * that a file that ends too early is refused with a reason.
 */
#ifndef AERIE_FIRMWARE_IMAGE_H
#define AERIE_FIRMWARE_IMAGE_H

#include "base/err.h"

#include <stdint.h>

struct image {
	const char *path; /* borrowed */
	uint64_t size;	  /* bytes, when it was opened */
	int fd;
};

#define IMAGE_NONE ((struct image){.fd = -1})

/* Opens a regular file. Its errno, or -EINVAL when it is something else or empty. */
int image_open(struct image *image, const char *path, struct err *err);
void image_close(struct image *image); /* IMAGE_NONE is fine */

/*
 * Reads [offset, offset + len) to dst. -EINVAL when the file ends before that: `what` names the part that is
 * missing. Otherwise the errno of reading.
 */
int image_read(const struct image *image, uint64_t offset, void *dst, uint64_t len, const char *what,
	       struct err *err);

#endif
