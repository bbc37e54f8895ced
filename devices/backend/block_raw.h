/* Raw images: what the opening (block_raw_open.c) and the requests (block_raw.c) share. */
#ifndef AERIE_DEVICES_BACKEND_BLOCK_RAW_H
#define AERIE_DEVICES_BACKEND_BLOCK_RAW_H

#include "block.h"

enum { BLOCK_BOUNCE_BYTES = 256 * 1024, BLOCK_BOUNCE_ALIGN = 4096, BLOCK_BOUNCES_MAX = 32 };

struct block_raw {
	struct block block;
	int fd;
	char *path;
	uint32_t block_size;
	bool is_device;
	bool direct, writethrough, discard, container;
	uint32_t memory_align, io_align; /* what O_DIRECT wants, powers of two; 1 without it */

	bool files_tried, registered;  /* with the loop */
	bool no_punch, no_zero_range;  /* this file cannot */
	int flush_error;	       /* 0, or what every flush ends with */
	unsigned bounces;	       /* in use, at most BLOCK_BOUNCES_MAX */
	struct block_request *waiting; /* for one */
};

void block_raw_submit(struct block *block, struct block_request *request);

#endif
