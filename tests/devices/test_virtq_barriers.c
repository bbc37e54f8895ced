/*
 * The two places where a queue needs a full barrier: each side writes, then reads what the other writes, and
 * at least one must see the other. Two threads do just that at the same moment, many times (a store-buffer
 * litmus test; without the barrier in virtq.c it fails within a second on two idle x86 cores).
 */
#include "virtq_rig.h"

#include <pthread.h>
#include <sched.h>

enum { ROUNDS = 50000 };

struct race {
	struct rig rig;
	bool (*device)(struct rig *rig); /* the device's half: true, it saw */
	_Atomic unsigned round, done;
	bool seen;
};

static void wait_for(_Atomic unsigned *value, unsigned wanted)
{
	for (unsigned spins = 0; *value != wanted; spins++)
		if (spins % 4096 == 4095)
			(void)sched_yield(); /* one core may have to do for both */
}

static void *device_thread(void *arg)
{
	struct race *race = arg;
	for (unsigned round = 1; round <= ROUNDS; round++) {
		wait_for(&race->round, round);
		race->seen = race->device(&race->rig);
		race->done = round;
	}
	return NULL;
}

/* Runs `driver` against `device`; false when neither saw the other. */
static bool race_once(struct race *race, unsigned round, bool (*driver)(struct ring *ring))
{
	race->round = round;
	for (volatile unsigned delay = round % 256; delay; delay--) /* the other thread hears of it late */
		continue;
	bool seen = driver(&race->rig.ring);
	wait_for(&race->done, round);
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
	pthread_t thread;
	rig_init(&race.rig, setup);
	race.device = doorbells ? ask_for_doorbell : use;
	race.round = race.done = 0;
	ck_assert_int_eq(pthread_create(&thread, NULL, device_thread, &race), 0);
	unsigned lost = 0;
	for (unsigned round = 1; round <= ROUNDS; round++) {
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
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	ck_assert_msg(lost == 0, "%s: %u of %u lost", race.rig.name, lost, ROUNDS);
	rig_finish(&race.rig);
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

TEST_MAIN("virtq_barriers", an_interrupt_or_a_look_at_the_used_ring,
	  a_doorbell_or_a_look_at_the_available_ring)
