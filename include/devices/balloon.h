/* The memory balloon (VIRTIO 1.3, 5.5), for whoever controls the machine. */
#ifndef AERIE_DEVICES_BALLOON_H
#define AERIE_DEVICES_BALLOON_H

#include "devices/device.h"

/* What the guest says of its memory (5.5.6.4), by tag; what it does not know it leaves out. */
enum balloon_stat {
	BALLOON_SWAP_IN,      /* bytes since boot */
	BALLOON_SWAP_OUT,     /* bytes since boot */
	BALLOON_MAJOR_FAULTS, /* since boot */
	BALLOON_MINOR_FAULTS, /* since boot */
	BALLOON_FREE,	      /* bytes, used for nothing */
	BALLOON_TOTAL,	      /* bytes */
	BALLOON_AVAILABLE,    /* bytes, for new programs without swapping */
	BALLOON_CACHES,	      /* bytes, of files */
	BALLOON_HUGE_ALLOCATED,
	BALLOON_HUGE_FAILED,
	BALLOON_STATS
};

struct balloon_info {
	uint64_t target_bytes; /* what the balloon should hold */
	uint64_t actual_bytes; /* what it holds, as the guest says */
	uint64_t known;	       /* a bit for each stat that the guest has told */
	uint64_t stats[BALLOON_STATS];
	uint64_t age_ns; /* of the stats */
};

/* The guest is asked to give back, or take, pages until the balloon holds so much; rounded down to 4 KiB. Any
 * thread but the device's I/O thread. */
void balloon_set_target(struct device *balloon, uint64_t bytes);
/* As it was last heard; also asks the guest for new stats, for the next time. Any thread but that one. */
void balloon_get_info(struct device *balloon, struct balloon_info *ret);
/* Only what it holds, in bytes, as the guest says. Any thread. */
uint64_t balloon_held(struct device *balloon);

#endif
