/*
 * Limits on operations and bytes a second: two token buckets that are emptied together.
 *
 * A bucket holds what its rate gives in RATELIMIT_BURST_NS. An operation passes while neither bucket is in
 * debt, and is taken from both whole, so one that is larger than the bucket passes and leaves a debt: in the
 * long run the rate is exact whatever the sizes are. All on the loop's thread.
 */
#ifndef AERIE_DEVICES_BACKEND_RATELIMIT_H
#define AERIE_DEVICES_BACKEND_RATELIMIT_H

#include "config/config.h"
#include "host/loop.h"

#define RATELIMIT_BURST_NS UINT64_C(100000000)

/* When the bucket will be full again tells how full it is now; no sum to keep up to date. */
struct ratelimit_bucket {
	uint64_t per_second; /* 0: no limit */
	uint64_t full_ns;    /* CLOCK_MONOTONIC */
	uint64_t remainder;  /* of the division that full_ns comes from */
};

struct ratelimit {
	struct ratelimit_bucket ops, bytes;
	struct loop *loop;
	struct loop_op delay;
	void (*ready)(void *owner);
	void *owner;
};

/*
 * In place, buckets full. `ready` is called after ratelimit_take said no, when it may say yes; not from
 * within ratelimit_take. Any thread, before the first take.
 */
void ratelimit_init(struct ratelimit *limit, const struct rate_config *config, struct loop *loop,
		    void (*ready)(void *owner), void *owner);
void ratelimit_finish(struct ratelimit *limit); /* fine on zeros */

/* May an operation of so many bytes (less than 16 GiB) pass now? If not, nothing is taken. */
bool ratelimit_take(struct ratelimit *limit, uint64_t bytes);

#endif
