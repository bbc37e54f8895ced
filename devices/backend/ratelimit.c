/* Token buckets: see ratelimit.h. */
#include "ratelimit.h"

#include "base/cleanup.h"

#include <string.h>

#define NSEC_PER_SEC UINT64_C(1000000000)

/* How long from `now` until the bucket is out of debt; 0: it is. */
static uint64_t bucket_wait_ns(const struct ratelimit_bucket *bucket, uint64_t now)
{
	uint64_t paid_ns = bucket->full_ns < RATELIMIT_BURST_NS ? 0 : bucket->full_ns - RATELIMIT_BURST_NS;
	return bucket->per_second && paid_ns > now ? paid_ns - now : 0;
}

static void bucket_take(struct ratelimit_bucket *bucket, uint64_t count, uint64_t now)
{
	if (!bucket->per_second)
		return;
	if (bucket->full_ns < now) {
		bucket->full_ns = now;
		bucket->remainder = 0;
	}
	uint64_t total = count * NSEC_PER_SEC + bucket->remainder;
	bucket->full_ns += total / bucket->per_second;
	bucket->remainder = total % bucket->per_second;
}

static void delay_done(struct loop_op *op, int res)
{
	struct ratelimit *limit = container_of(op, struct ratelimit, delay);
	(void)res; /* -ETIME, or an error: then early, which take notices */
	limit->ready(limit->owner);
}

bool ratelimit_take(struct ratelimit *limit, uint64_t bytes)
{
	if (!limit->ops.per_second && !limit->bytes.per_second)
		return true;
	uint64_t now = loop_now_ns();
	uint64_t wait = bucket_wait_ns(&limit->ops, now), bytes_wait = bucket_wait_ns(&limit->bytes, now);
	if (bytes_wait > wait)
		wait = bytes_wait;
	if (wait) {
		if (!limit->delay.pending)
			loop_delay(limit->loop, &limit->delay, wait);
		return false;
	}
	bucket_take(&limit->ops, 1, now);
	bucket_take(&limit->bytes, bytes, now);
	return true;
}

void ratelimit_init(struct ratelimit *limit, const struct rate_config *config, struct loop *loop,
		    void (*ready)(void *owner), void *owner)
{
	*limit = (struct ratelimit){
		.ops.per_second = config->ops_per_second,
		.bytes.per_second = config->bytes_per_second,
		.loop = loop,
		.delay.done = delay_done,
		.ready = ready,
		.owner = owner,
	};
}

void ratelimit_finish(struct ratelimit *limit)
{
	if (limit->loop)
		(void)loop_release(limit->loop, &limit->delay);
}
