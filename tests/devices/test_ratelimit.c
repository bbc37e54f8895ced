/* Token buckets: what devices/backend/ratelimit.h promises. The clock is the test's; delays are real. */
#include "../../devices/backend/ratelimit.h"
#include "base/cleanup.h"
#include "clock.h"
#include "harness.h"

#include <string.h>

#define MSEC INT64_C(1000000)

struct rig {
	struct loop *loop;
	struct ratelimit limit;
	unsigned ready;
	unsigned enough; /* end the loop at so many calls of ready */
};

static struct rig rig;

static void ready(void *owner)
{
	struct rig *r = owner;
	if (++r->ready == r->enough)
		loop_quit(r->loop);
}

static void rig_init(uint64_t bytes, uint32_t ops)
{
	struct err err = ERR_INIT;
	const struct rate_config config = {.bytes_per_second = bytes, .ops_per_second = ops};
	memset(&rig, 0, sizeof(rig));
	ck_assert_msg(loop_create(64, &rig.loop, &err) == 0, "%s", err.text);
	ratelimit_init(&rig.limit, &config, rig.loop, ready, &rig);
	clock_hold(0);
}

static void rig_finish(void)
{
	clock_release();
	ratelimit_finish(&rig.limit);
	loop_destroy(rig.loop);
}

/* Operations of `bytes` that pass at this moment. */
static unsigned passing(uint64_t bytes)
{
	unsigned count = 0;
	while (count < 1000000 && ratelimit_take(&rig.limit, bytes))
		count++;
	return count;
}

START_TEST(no_limit_lets_all_pass)
{
	rig_init(0, 0);
	ck_assert_uint_eq(passing(1 << 30), 1000000);
	ck_assert(!rig.limit.delay.pending);
	rig_finish();
}
END_TEST

START_TEST(a_full_bucket_is_a_tenth_of_a_second)
{
	rig_init(0, 1000);
	ck_assert_uint_eq(passing(1 << 20), 101); /* the last one takes the first that is not there */
	clock_advance_ns(1 * MSEC);
	ck_assert_uint_eq(passing(0), 1);
	clock_advance_ns(10 * MSEC);
	ck_assert_uint_eq(passing(0), 10);
	clock_advance_ns(3600000 * MSEC); /* it does not overflow */
	ck_assert_uint_eq(passing(0), 101);
	rig_finish();
	rig_init(1000000, 0);
	ck_assert_uint_eq(passing(1000), 101);
	rig_finish();
}
END_TEST

START_TEST(the_long_run_is_exact_for_any_size_and_rate)
{
	static const struct {
		uint64_t rate, size;
	} cases[] = {{3000000007, 65537}, {1000003, 777}, {7, 1}, {1000, 5000}, {12345678901, 1048576}};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		rig_init(cases[i].rate, 0);
		uint64_t bytes = 0;
		for (unsigned ms = 0; ms < 100000; ms += 50) {
			bytes += passing(cases[i].size) * cases[i].size;
			clock_advance_ns(50 * MSEC);
		}
		uint64_t most = cases[i].rate * 100 + cases[i].rate / 10 + cases[i].size;
		uint64_t least = cases[i].rate * 100 - cases[i].rate / 20 - cases[i].size;
		ck_assert_msg(bytes <= most && bytes + 1 >= least, "rate %llu: %llu bytes in 100 s",
			      (unsigned long long)cases[i].rate, (unsigned long long)bytes);
		rig_finish();
	}
}
END_TEST

START_TEST(what_is_larger_than_the_bucket_passes_and_is_paid_for)
{
	rig_init(1000, 0);
	ck_assert(ratelimit_take(&rig.limit, 10000)); /* ten seconds' worth */
	clock_advance_ns(9899 * MSEC);
	ck_assert(!ratelimit_take(&rig.limit, 1));
	clock_advance_ns(1 * MSEC);
	ck_assert(ratelimit_take(&rig.limit, 1));
	ck_assert(!ratelimit_take(&rig.limit, 1));
	rig_finish();
}
END_TEST

START_TEST(a_refusal_takes_from_neither_bucket)
{
	rig_init(1000000, 10);
	ck_assert(ratelimit_take(&rig.limit, 1));
	ck_assert(ratelimit_take(&rig.limit, 1));
	for (unsigned i = 0; i < 1000; i++)
		ck_assert(!ratelimit_take(&rig.limit, 100000)); /* operations are in debt; bytes are not */
	clock_advance_ns(100 * MSEC);
	ck_assert(ratelimit_take(&rig.limit, 100000));
	rig_finish();
}
END_TEST

START_TEST(ready_comes_once_for_many_refusals_when_it_is_worth_trying)
{
	rig_init(0, 100); /* 10 ms each */
	rig.enough = 1;
	clock_release();
	uint64_t begin = loop_now_ns();
	unsigned count = passing(0);
	ck_assert_uint_ge(count, 11);
	for (unsigned i = 0; i < 10; i++)
		(void)ratelimit_take(&rig.limit, 0);
	ck_assert_int_eq(loop_run(rig.loop), 0);
	ck_assert_uint_eq(rig.ready, 1);
	ck_assert(!rig.limit.delay.pending);
	ck_assert(ratelimit_take(&rig.limit, 0));
	ck_assert_uint_ge(loop_now_ns() - begin, 9 * MSEC);
	rig_finish();
}
END_TEST

START_TEST(finishing_withdraws_what_waits)
{
	rig_init(1, 0);
	(void)passing(1);
	ck_assert(rig.limit.delay.pending);
	ratelimit_finish(&rig.limit);
	ck_assert(!rig.limit.delay.pending);
	rig_finish();
	struct ratelimit zero = {0};
	ratelimit_finish(&zero);
}
END_TEST

TEST_MAIN("ratelimit", no_limit_lets_all_pass, a_full_bucket_is_a_tenth_of_a_second,
	  the_long_run_is_exact_for_any_size_and_rate, what_is_larger_than_the_bucket_passes_and_is_paid_for,
	  a_refusal_takes_from_neither_bucket, ready_comes_once_for_many_refusals_when_it_is_worth_trying,
	  finishing_withdraws_what_waits)
