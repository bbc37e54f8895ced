/*
 * What only two threads can show. First the two places where a queue needs a full barrier: each side writes,
 * then reads what the other writes, and at least one must see the other. Two threads do just that at the same
 * moment, many times (a store-buffer litmus test; without the barrier in virtq.c it fails within a second on
 * two idle x86 cores).
 */
#include "virtq_rig.h"

#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <time.h>

/* Fewer rounds when they take long: on a busy machine both threads wait for a core, and prove less. */
enum { ROUNDS = 50000, BUDGET_MS = 1500 };

struct race {
	struct rig rig;
	bool (*device)(struct rig *rig); /* the device's half: true, it saw */
	_Atomic unsigned round, done;	 /* round UINT_MAX: the end */
	bool seen;
	struct timespec start;
};

static void breathe(unsigned *spins)
{
	if (++*spins % 1024 == 0)
		(void)sched_yield(); /* one core may have to do for both */
}

static void *device_thread(void *arg)
{
	struct race *race = arg;
	unsigned spins = 0;
	for (unsigned last = 0;;) {
		unsigned round = race->round;
		if (round == UINT_MAX)
			return NULL;
		if (round == last) {
			breathe(&spins);
			continue;
		}
		race->seen = race->device(&race->rig);
		race->done = last = round;
	}
}

static void wait_for_device(struct race *race, unsigned round)
{
	for (unsigned spins = 0; race->done != round;)
		breathe(&spins);
}

static pthread_t race_begin(struct race *race, bool (*device)(struct rig *rig))
{
	pthread_t thread;
	race->device = device;
	race->round = race->done = 0;
	(void)clock_gettime(CLOCK_MONOTONIC, &race->start);
	ck_assert_int_eq(pthread_create(&thread, NULL, device_thread, race), 0);
	return thread;
}

static bool race_goes_on(const struct race *race, unsigned round)
{
	struct timespec now;
	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	long ms = (now.tv_sec - race->start.tv_sec) * 1000 + (now.tv_nsec - race->start.tv_nsec) / 1000000;
	return round <= ROUNDS && ms < BUDGET_MS;
}

static void race_end(struct race *race, pthread_t thread)
{
	race->round = UINT_MAX;
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	rig_finish(&race->rig);
}

/* Runs `driver` against `device`; false when neither saw the other. */
static bool race_once(struct race *race, unsigned round, bool (*driver)(struct ring *ring))
{
	race->round = round;
	for (volatile unsigned delay = round % 256; delay; delay--) /* the other thread hears of it late */
		continue;
	bool seen = driver(&race->rig.ring);
	wait_for_device(race, round);
	return seen || race->seen;
}

/* ---- a chain is used while the driver turns interrupts on ---- */

static bool use(struct rig *rig)
{
	return virtq_push(&rig->vq, &rig->chain, 0) == 0 && virtq_should_interrupt(&rig->vq);
}

static bool ask_for_interrupt(struct ring *ring)
{
	return ring_enable_interrupt(ring, 0);
}

/* ---- a chain is added while the device turns doorbells on ---- */

static bool ask_for_doorbell(struct rig *rig)
{
	return virtq_enable_doorbell(&rig->vq);
}

static bool publish(struct ring *ring)
{
	ring_publish(ring);
	return ring_wants_doorbell(ring);
}

/* ---- */

static void race_of(const struct virtq_setup *setup, bool doorbells)
{
	static struct race race;
	const struct ring_buffer buffer = {RIG_DATA_GPA, 8, true};
	struct ring_used used;
	rig_init(&race.rig, setup);
	pthread_t thread = race_begin(&race, doorbells ? ask_for_doorbell : use);
	unsigned lost = 0, round = 1;
	for (; race_goes_on(&race, round); round++) {
		ck_assert_int_ge(ring_add(&race.rig.ring, &buffer, 1, false), 0);
		ring_disable_interrupt(&race.rig.ring);
		virtq_disable_doorbell(&race.rig.vq);
		if (!doorbells) {
			ring_publish(&race.rig.ring);
			ck_assert_int_eq(rig_pop(&race.rig), 1);
		}
		lost += !race_once(&race, round, doorbells ? publish : ask_for_interrupt);
		if (doorbells) {
			ck_assert_int_eq(rig_pop(&race.rig), 1);
			ck_assert_int_eq(virtq_push(&race.rig.vq, &race.rig.chain, 0), 0);
		}
		ck_assert_int_eq(ring_collect(&race.rig.ring, &used), 1);
		(void)virtq_should_interrupt(&race.rig.vq);
	}
	ck_assert_msg(lost == 0, "%s: %u of %u lost", race.rig.name, lost, round - 1);
	race_end(&race, thread);
}

static void races(bool doorbells)
{
	for (unsigned features = 0; features < 4; features++)
		race_of(&(struct virtq_setup){.size = 4, .packed = features & 1, .event_idx = features & 2},
			doorbells);
}

START_TEST(an_interrupt_or_a_look_at_the_used_ring)
{
	races(false);
}
END_TEST

START_TEST(a_doorbell_or_a_look_at_the_available_ring)
{
	races(true);
}
END_TEST

/* ---- several chains used at once ---- */

enum { TOGETHER = 100 }; /* enough that the other thread looks meanwhile */

static struct virtq_chain together[TOGETHER];

static bool use_together(struct rig *rig)
{
	struct virtq_used used[TOGETHER];
	for (unsigned i = 0; i < TOGETHER; i++)
		used[i] = (struct virtq_used){.chain = &together[i], .written = i % 9};
	return virtq_push_together(&rig->vq, used, TOGETHER) == 0;
}

/* Is the chain `slots` (packed) or `entries` (split) behind the next one used? Looks once, and quickly. */
static bool used_behind(const struct ring *ring, unsigned slots, unsigned entries)
{
	if (!ring->setup.packed)
		return (uint16_t)(__atomic_load_n(&ring->used->idx, __ATOMIC_ACQUIRE) - ring->next_used) >
		       entries;
	unsigned at = ring->next_used + slots;
	bool wrap = ring->used_wrap ^ (at >= ring->setup.size);
	uint16_t flags = __atomic_load_n(&ring->desc[at % ring->setup.size].packed.flags, __ATOMIC_ACQUIRE);
	return (flags & (RING_AVAIL | RING_USED)) == (wrap ? RING_AVAIL | RING_USED : 0);
}

/* As soon as the first is there, the last is. */
static bool collect_together(struct ring *ring, unsigned slots)
{
	struct ring_used used;
	for (unsigned spins = 0; !used_behind(ring, 0, 0);)
		breathe(&spins);
	bool good = used_behind(ring, slots, TOGETHER - 1);
	for (unsigned i = 0; i < TOGETHER; i++)
		good &= ring_collect(ring, &used) == 1 && used.len == i % 9;
	return good;
}

START_TEST(pushed_together_is_seen_together)
{
	static struct race race;
	static struct iovec iov[TOGETHER][2];
	const struct ring_buffer buffers[] = {{RIG_DATA_GPA, 8, true}, {RIG_DATA_GPA, 8, true}};
	for (int packed = 0; packed < 2; packed++) {
		rig_init(&race.rig, &(struct virtq_setup){.size = 256, .packed = packed});
		pthread_t thread = race_begin(&race, use_together);
		for (unsigned round = 1; race_goes_on(&race, round); round++) {
			unsigned slots = 0; /* of all but the last */
			for (unsigned i = 0; i < TOGETHER; i++) {
				slots += i ? together[i - 1].desc_count : 0;
				ck_assert_int_ge(
					ring_add(&race.rig.ring, buffers, 1 + (i + round) % 2, false), 0);
				ring_publish(&race.rig.ring);
				together[i] = (struct virtq_chain){.iov = iov[i], .iov_max = 2};
				ck_assert_int_eq(virtq_pop(&race.rig.vq, &together[i]), 1);
			}
			race.round = round;
			ck_assert(collect_together(&race.rig.ring, slots));
			wait_for_device(&race, round);
			ck_assert(race.seen);
		}
		race_end(&race, thread);
	}
}
END_TEST

START_TEST(an_event_among_them_counts)
{
	static struct rig rig;
	static struct iovec iov[3];
	for (int packed = 0; packed < 2; packed++)
		for (uint16_t skip = 0; skip < 4; skip++) {
			struct virtq_chain chains[3];
			struct virtq_used used[3];
			rig_init(&rig, &(struct virtq_setup){.size = 8, .packed = packed, .event_idx = true});
			for (unsigned i = 0; i < 3; i++) {
				rig_add(&rig, 0, 1, 8, false);
				chains[i] = (struct virtq_chain){.iov = &iov[i], .iov_max = 1};
				ck_assert_int_eq(virtq_pop(&rig.vq, &chains[i]), 1);
				used[i] = (struct virtq_used){.chain = &chains[i]};
			}
			ring_enable_interrupt(&rig.ring, skip);
			ck_assert_int_eq(virtq_push_together(&rig.vq, used, 3), 0);
			ck_assert(virtq_should_interrupt(&rig.vq) == (skip < 3));
			rig_finish(&rig);
		}
}
END_TEST

START_TEST(push_together_refuses_what_push_does)
{
	static struct rig rig;
	struct virtq_used used[2];
	rig_init(&rig, &(struct virtq_setup){.size = 4});
	rig_add(&rig, 0, 1, 8, false);
	ck_assert_int_eq(rig_pop(&rig), 1);
	struct virtq_chain other = rig.chain;
	other.head ^= 1;
	used[0] = (struct virtq_used){.chain = &rig.chain, .written = 8};
	used[1] = (struct virtq_used){.chain = &other};
	ck_assert_int_eq(virtq_push_together(&rig.vq, used, 0), -EINVAL);
	ck_assert_int_eq(virtq_push_together(&rig.vq, used, 2), -EINVAL); /* not in flight */
	used[0].written = 9;
	ck_assert_int_eq(virtq_push_together(&rig.vq, used, 1), -EINVAL);
	ck_assert_uint_eq(rig.vq.in_flight, 1);
	ck_assert_uint_eq(rig.ring.used->idx, 0);
	used[0].written = 8;
	rig.vq.setup.in_order = true;
	ck_assert_int_eq(virtq_push_together(&rig.vq, used, 1), -EINVAL);
	rig.vq.setup.in_order = false;
	ck_assert_int_eq(virtq_push_together(&rig.vq, used, 1), 0);
	ck_assert_uint_eq(rig.vq.in_flight, 0);
	ck_assert_uint_eq(rig.ring.used->idx, 1);
	rig_finish(&rig);
}
END_TEST

TEST_MAIN("virtq_barriers", an_interrupt_or_a_look_at_the_used_ring,
	  a_doorbell_or_a_look_at_the_available_ring, pushed_together_is_seen_together,
	  an_event_among_them_counts, push_together_refuses_what_push_does)
