/* Pausing, continuing and resetting a live machine from its own loop, and what observers are told. */
#include "base/cleanup.h"
#include "host/loop.h"
#include "machine/machine.h"

#include "harness.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

struct step {
	uint64_t after_ms;
	void (*act)(struct machine *machine);
};

struct rig {
	struct machine_config *config;
	struct machine *machine;
	struct machine_observer observer;
	struct loop_op delay;
	const struct step *step;
	char told[256];
	int code, result;
	struct err err;
};

static void rig_notice(struct machine_observer *observer, enum machine_notice notice)
{
	struct rig *rig = container_of(observer, struct rig, observer);
	static const char *const names[] = {"stop", "resume", "reset", "powerdown", "end"};
	size_t used = strlen(rig->told);
	(void)snprintf(rig->told + used, sizeof(rig->told) - used, "%s/%s/%s ", names[notice],
		       machine_status_name(machine_status(rig->machine)),
		       machine_cause_name(machine_cause(rig->machine)));
}

static void rig_next(struct rig *rig)
{
	if (rig->step->act)
		loop_delay(machine_loop(rig->machine), &rig->delay, rig->step->after_ms * 1000000);
}

static void rig_step(struct loop_op *op, int res)
{
	struct rig *rig = container_of(op, struct rig, delay);
	(void)res;
	rig->step->act(rig->machine);
	rig->step++;
	rig_next(rig);
}

static struct rig *rig_new(const char *on_reset)
{
	struct rig *rig = calloc(1, sizeof(*rig));
	const char *build = getenv("AERIE_BUILD");
	char text[512];
	ck_assert_ptr_nonnull(rig);
	(void)snprintf(
		text, sizeof(text),
		"{\"cpus\": {\"count\": 2}, \"memory\": {\"size\": \"64M\"}, \"on_reset\": \"%s\", \"boot\": "
		"{\"kernel\": \"%s/tests/native/hang.elf\"}}",
		on_reset, build ? build : "build");
	rig->err = ERR_INIT;
	rig->observer.notice = rig_notice;
	rig->delay.done = rig_step;
	ck_assert_msg(config_parse("test", text, strlen(text), NULL, 0, &rig->config, &rig->err) == 0, "%s",
		      rig->err.text);
	ck_assert_msg(machine_create(rig->config, &rig->machine, &rig->err) == 0, "%s", rig->err.text);
	machine_observe(rig->machine, &rig->observer);
	return rig;
}

static void rig_run(struct rig *rig, const struct step *steps)
{
	rig->step = steps;
	rig_next(rig);
	rig->result = machine_run(rig->machine, &rig->code, &rig->err);
}

static void rig_free(struct rig *rig)
{
	machine_destroy(rig->machine);
	config_free(rig->config);
	free(rig);
}

static void pause_it(struct machine *machine)
{
	machine_pause(machine, MACHINE_PAUSED);
}

static void save_it(struct machine *machine)
{
	machine_pause(machine, MACHINE_SAVE_VM);
}

static void powerdown_twice(struct machine *machine)
{
	machine_ask_powerdown(machine);
	machine_ask_powerdown(machine);
}

START_TEST(a_machine_stops_and_goes_on)
{
	static const struct step steps[] = {
		{10, pause_it},	       {1, pause_it},	      {1, save_it}, {10, machine_continue},
		{1, machine_continue}, {10, machine_ask_end}, {0}};
	struct rig *rig = rig_new("restart");
	ck_assert_str_eq(machine_status_name(machine_status(rig->machine)), "prelaunch");
	rig_run(rig, steps);
	ck_assert_int_eq(rig->result, 0);
	ck_assert_int_eq(rig->code, 0);
	ck_assert_str_eq(rig->told, "stop/paused/none resume/running/none end/shutdown/host-qmp-quit ");
	rig_free(rig);
}
END_TEST

START_TEST(paused_before_it_runs_it_waits)
{
	static const struct step steps[] = {{10, machine_continue}, {10, machine_ask_end}, {0}};
	struct rig *rig = rig_new("restart");
	machine_pause(rig->machine, MACHINE_PRELAUNCH);
	rig_run(rig, steps);
	ck_assert_str_eq(rig->told, "resume/running/none end/shutdown/host-qmp-quit ");
	rig_free(rig);
}
END_TEST

START_TEST(a_paused_machine_is_reset_and_stays_paused)
{
	static const struct step steps[] = {
		{10, pause_it}, {1, machine_ask_reset}, {10, powerdown_twice}, {10, machine_ask_end}, {0}};
	struct rig *rig = rig_new("restart");
	rig_run(rig, steps);
	ck_assert_str_eq(rig->told, "stop/paused/none reset/paused/host-qmp-system-reset "
				    "powerdown/paused/host-qmp-system-reset "
				    "powerdown/paused/host-qmp-system-reset end/shutdown/host-qmp-quit ");
	rig_free(rig);
}
END_TEST

START_TEST(a_reset_that_ends_says_so)
{
	static const struct step steps[] = {{10, machine_ask_reset}, {0}};
	struct rig *rig = rig_new("exit");
	rig_run(rig, steps);
	ck_assert_str_eq(rig->told, "end/shutdown/host-qmp-system-reset ");
	rig_free(rig);
}
END_TEST

START_TEST(who_left_is_not_told)
{
	static const struct step steps[] = {{1, machine_ask_end}, {0}};
	struct rig *rig = rig_new("restart");
	struct machine_observer other = {.notice = rig_notice};
	machine_observe(rig->machine, &other);
	machine_unobserve(rig->machine, &rig->observer);
	machine_unobserve(rig->machine, &rig->observer);
	machine_unobserve(rig->machine, &other);
	rig_run(rig, steps);
	ck_assert_str_eq(rig->told, "");
	rig_free(rig);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {a_machine_stops_and_goes_on, paused_before_it_runs_it_waits,
				      a_paused_machine_is_reset_and_stays_paused, a_reset_that_ends_says_so,
				      who_left_is_not_told};
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		(void)printf("skipped: no usable /dev/kvm\n");
		return TEST_SKIP;
	}
	(void)close_fd(fd);
	return harness_run("status", tests, ARRAY_LEN(tests));
}
