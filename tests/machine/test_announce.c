/* The rounds in which a machine that has moved tells its networks: how many, and how far apart. */
#include "../../src/machine/machine.h"
#include "base/cleanup.h"
#include "harness.h"

#include <string.h>

enum { ROUNDS_MAX = 16 };

static struct {
	struct machine machine;
	struct device device, mute;
	uint64_t at_ms[ROUNDS_MAX];
	unsigned count, end; /* the loop is left at `end` rounds */
} rig;

static void heard(struct device *device)
{
	ck_assert_ptr_eq(device, &rig.device);
	ck_assert_uint_lt(rig.count, ROUNDS_MAX);
	rig.at_ms[rig.count++] = loop_now_ns() / 1000000;
	if (rig.count == rig.end)
		loop_quit(rig.machine.loop);
}

static const struct device_class speaks = {.name = "speaks", .announce = heard}, silent = {.name = "silent"};

static void set_up(void)
{
	struct err err = ERR_INIT;
	memset(&rig, 0, sizeof(rig));
	rig.device.class = &speaks;
	rig.mute.class = &silent;
	rig.machine.devices[0] = &rig.mute;
	rig.machine.devices[1] = &rig.device;
	rig.machine.device_count = 2;
	rig.machine.status = MACHINE_RUNNING;
	rig.machine.announcement.params = machine_announce_default;
	ck_assert_int_eq(loop_create(16, &rig.machine.loop, &err), 0);
}

static void tear_down(void)
{
	machine_announce_free(&rig.machine);
	loop_destroy(rig.machine.loop);
}

static void run_until(unsigned count)
{
	rig.end = count;
	ck_assert_int_eq(loop_run(rig.machine.loop), 0);
	ck_assert_uint_eq(rig.count, count);
}

static void stop(void *owner)
{
	loop_quit(owner);
}

static void run_for_ms(unsigned ms)
{
	struct loop_timer *timer;
	struct err err = ERR_INIT;
	rig.end = 0;
	ck_assert_int_eq(loop_timer_create(rig.machine.loop, stop, rig.machine.loop, &timer, &err), 0);
	loop_timer_arm(timer, loop_now_ns() + ms * UINT64_C(1000000));
	ck_assert_int_eq(loop_run(rig.machine.loop), 0);
	loop_timer_destroy(timer);
}

START_TEST(each_pause_is_longer_up_to_the_greatest)
{
	static const struct machine_announce params = {
		.initial_ms = 10, .max_ms = 45, .rounds = 5, .step_ms = 20};
	static const unsigned pauses[] = {10, 30, 45, 45};
	struct err err = ERR_INIT;
	set_up();
	ck_assert_int_eq(machine_announce(&rig.machine, &params, &err), 0);
	run_until(5);
	for (size_t i = 0; i < ARRAY_LEN(pauses); i++) {
		uint64_t ms = rig.at_ms[i + 1] - rig.at_ms[i];
		ck_assert_msg(ms + 1 >= pauses[i], "pause %zu: %lu ms", i, (unsigned long)ms);
	}
	run_for_ms(100);
	ck_assert_uint_eq(rig.count, 5);
	tear_down();
}
END_TEST

START_TEST(a_machine_that_stands_speaks_when_it_runs)
{
	static const struct machine_announce quick = {.initial_ms = 1, .max_ms = 1, .rounds = 3};
	struct err err = ERR_INIT;
	set_up();
	machine_set_announce(&rig.machine, &quick);
	rig.machine.status = MACHINE_PAUSED;
	ck_assert_int_eq(machine_announce(&rig.machine, NULL, &err), 0);
	run_for_ms(20);
	ck_assert_uint_eq(rig.count, 0);
	rig.machine.status = MACHINE_RUNNING;
	machine_announce_go(&rig.machine);
	run_until(1);
	rig.machine.status = MACHINE_PAUSED; /* and stands again in the middle */
	run_for_ms(20);
	ck_assert_uint_eq(rig.count, 1);
	rig.machine.status = MACHINE_RUNNING;
	machine_announce_go(&rig.machine);
	run_until(3);
	machine_announce_go(&rig.machine); /* nothing is left */
	run_for_ms(20);
	ck_assert_uint_eq(rig.count, 3);
	tear_down();
}
END_TEST

START_TEST(no_rounds_are_none)
{
	static const struct machine_announce none = {.initial_ms = 1, .max_ms = 1};
	struct err err = ERR_INIT;
	set_up();
	ck_assert_int_eq(machine_announce(&rig.machine, &none, &err), 0);
	run_for_ms(20);
	ck_assert_uint_eq(rig.count, 0);
	ck_assert_int_eq(machine_announce(&rig.machine, NULL, &err), 0); /* the default is one that speaks */
	run_until(1);
	tear_down();
}
END_TEST

TEST_MAIN("announce", each_pause_is_longer_up_to_the_greatest, a_machine_that_stands_speaks_when_it_runs,
	  no_rounds_are_none)
