/* The ACPI PM block: ACPI specification 6.5, section 4.8.3. */
#include "base/layout.h"
#include "base/log.h"
#include "clock.h"
#include "harness.h"
#include "one.h"

enum {
	STATUS = LAYOUT_PORT_ACPI_PM1_EVT,
	ENABLE = LAYOUT_PORT_ACPI_PM1_EVT + 2,
	CONTROL = LAYOUT_PORT_ACPI_PM1_CNT,
	TIMER = LAYOUT_PORT_ACPI_PM_TMR,

	TMR = 0x0001,
	PWRBTN = 0x0100,
};

static const struct machine_config config = {.name = "acpi-pm"};

/* What the state table describes. */
struct pm_regs {
	uint16_t status, enable, control;
	uint32_t timer;
};

static void start(struct one *one)
{
	clock_hold(1700000000);
	one_init(one, "acpi-pm", &config);
}

static void end(struct one *one)
{
	one_finish(one);
	clock_release();
}

static bool sci(struct one *one)
{
	return fake_irq_level(&one->fake, LAYOUT_GSI_SCI);
}

/* The first tick after 2^31 of them, as time. */
static const int64_t carry_ns = (int64_t)((1ULL << 31) * 1000000000ULL / 3579545 + 1);

START_TEST(acpi_mode_is_always_on)
{
	struct one one;
	start(&one);
	ck_assert_uint_eq(one_in(&one, CONTROL, 2), 0x0001);
	one_out(&one, CONTROL, 2, 0);
	ck_assert_uint_eq(one_in(&one, CONTROL, 2), 0x0001);
	one_out(&one, CONTROL, 2, 0xdffe); /* all but SLP_EN: only BM_RLD and SLP_TYP stay */
	ck_assert_uint_eq(one_in(&one, CONTROL, 2), 0x1c03);
	ck_assert_uint_eq(one_in(&one, CONTROL + 1, 1), 0x1c);
	ck_assert_uint_eq(one.fake.requests, 0);
	end(&one);
}
END_TEST

START_TEST(s5_powers_off)
{
	struct one one;
	start(&one);
	one_out(&one, CONTROL, 2, LAYOUT_SLEEP_TYPE_S5 << 10);
	ck_assert_uint_eq(one_requests(&one, MACHINE_POWER_OFF), 0);
	one_out(&one, CONTROL, 2, LAYOUT_SLEEP_TYPE_S5 << 10 | 0x2000);
	ck_assert_uint_eq(one_requests(&one, MACHINE_POWER_OFF), 1);
	ck_assert_uint_eq(one_in(&one, CONTROL, 2), 0x1401); /* SLP_EN reads 0 */
	one_out(&one, CONTROL + 1, 1, (LAYOUT_SLEEP_TYPE_S5 << 10 | 0x2000) >> 8);
	ck_assert_uint_eq(one_requests(&one, MACHINE_POWER_OFF), 1);
	end(&one);
}
END_TEST

START_TEST(other_sleep_types_do_nothing)
{
	struct one one;
	start(&one);
	log_set_level(LOG_ERROR);
	for (uint32_t type = 0; type < 8; type++)
		if (type != LAYOUT_SLEEP_TYPE_S5)
			one_out(&one, CONTROL, 2, type << 10 | 0x2000);
	ck_assert_uint_eq(one.fake.requests, 0);
	end(&one);
}
END_TEST

START_TEST(power_button_raises_the_sci_when_enabled)
{
	struct one one;
	start(&one);
	one.class->power_button(one.device);
	ck_assert_uint_eq(one_in(&one, STATUS, 2), PWRBTN);
	ck_assert(!sci(&one));
	one_out(&one, ENABLE, 2, PWRBTN);
	ck_assert(sci(&one));
	one_out(&one, STATUS, 2, (uint16_t)~PWRBTN); /* writing 0 to a bit leaves it */
	ck_assert(sci(&one));
	one_out(&one, STATUS, 2, PWRBTN);
	ck_assert_uint_eq(one_in(&one, STATUS, 2), 0);
	ck_assert(!sci(&one));
	one.class->power_button(one.device);
	ck_assert(sci(&one));
	one_out(&one, ENABLE, 2, 0);
	ck_assert(!sci(&one));
	end(&one);
}
END_TEST

START_TEST(bytes_and_words_and_both_registers_at_once)
{
	struct one one;
	start(&one);
	one_out(&one, ENABLE + 1, 1, PWRBTN >> 8);
	one_out(&one, ENABLE, 1, 0x20); /* the low byte leaves the high one */
	ck_assert_uint_eq(one_in(&one, ENABLE, 2), PWRBTN | 0x20);
	one.class->power_button(one.device);
	ck_assert_uint_eq(one_in(&one, STATUS + 1, 1), PWRBTN >> 8);
	ck_assert_uint_eq(one_in(&one, STATUS, 4), (PWRBTN | 0x20u) << 16 | PWRBTN);
	one_out(&one, STATUS, 1, 0xff);
	ck_assert_uint_eq(one_in(&one, STATUS, 2), PWRBTN);
	one_out(&one, STATUS + 1, 1, 0xff);
	ck_assert_uint_eq(one_in(&one, STATUS, 2), 0);
	one_out(&one, STATUS, 4, 0);
	ck_assert_uint_eq(one_in(&one, ENABLE, 2), 0);
	one_out(&one, STATUS + 1, 2, 0xff00); /* across both: low byte of the enables */
	ck_assert_uint_eq(one_in(&one, ENABLE, 2), 0x0021);
	end(&one);
}
END_TEST

/* ACPICA enables an event and reads the bit back; those that cannot happen must stick as well. */
START_TEST(enable_bits_stick)
{
	struct one one;
	start(&one);
	one_out(&one, ENABLE, 2, 0xffff);
	ck_assert_uint_eq(one_in(&one, ENABLE, 2), 0x0721);
	end(&one);
}
END_TEST

START_TEST(timer_counts_3579545_a_second)
{
	struct one one;
	start(&one);
	ck_assert_uint_eq(one_in(&one, TIMER, 4), 0);
	clock_advance_ns(1000000000);
	ck_assert_uint_eq(one_in(&one, TIMER, 4), 3579545);
	one_out(&one, TIMER, 4, 0);
	ck_assert_uint_eq(one_in(&one, TIMER, 4), 3579545);
	ck_assert_uint_eq(one_in(&one, TIMER + 1, 1), 3579545 >> 8 & 0xff);
	clock_advance_ns(3600 * 1000000000LL); /* wraps thrice, to the tick */
	ck_assert_uint_eq(one_in(&one, TIMER, 4), (uint32_t)(3601ULL * 3579545));
	end(&one);
}
END_TEST

/* Section 4.8.2.1: the status is set whenever the most significant bit changes, in both directions. */
START_TEST(carry_sets_the_status_without_a_host_timer)
{
	struct one one;
	start(&one);
	clock_advance_ns(carry_ns - 1000);
	ck_assert_uint_eq(one_in(&one, STATUS, 2), 0);
	clock_advance_ns(1000);
	ck_assert_uint_eq(one_in(&one, STATUS, 2), TMR);
	ck_assert(!sci(&one));
	one_out(&one, STATUS, 2, TMR);
	ck_assert_uint_eq(one_in(&one, STATUS, 2), 0);
	clock_advance_ns(carry_ns);
	ck_assert_uint_eq(one_in(&one, STATUS, 2), TMR);
	one_out(&one, ENABLE, 2, TMR);
	ck_assert(sci(&one));
	end(&one);
}
END_TEST

/* In true time: the host's timer must fire by itself. */
START_TEST(carry_raises_the_sci_when_enabled)
{
	const struct pm_regs five_ms_before = {
		.enable = TMR, .control = 0x0001, .timer = (1U << 31) - 3579545 / 200};
	struct one one;
	one_init(&one, "acpi-pm", &config);
	ck_assert_int_eq(one.class->restore(one.device, &five_ms_before, &one.fake.err), 0);
	ck_assert(!sci(&one));
	fake_run(&one.fake, 50);
	ck_assert(sci(&one));
	ck_assert_uint_eq(one_in(&one, STATUS, 2), TMR);
	ck_assert_uint_ge(one_in(&one, TIMER, 4), 1U << 31);
	one_finish(&one);
}
END_TEST

START_TEST(timer_goes_on_where_it_was_saved)
{
	struct one one, copy;
	start(&one);
	clock_advance_ns(carry_ns / 2);
	uint32_t ticks = one_in(&one, TIMER, 4);
	one.class->power_button(one.device);
	one_out(&one, ENABLE, 2, PWRBTN);
	one_init_copy(&copy, &one, &config);
	ck_assert_uint_eq(one_in(&copy, TIMER, 4), ticks);
	ck_assert(sci(&copy));
	clock_advance_ns(1000000000);
	ck_assert_uint_eq(one_in(&copy, TIMER, 4), ticks + 3579545);
	one_finish(&copy);
	end(&one);
}
END_TEST

START_TEST(impossible_state_is_refused)
{
	static const struct {
		struct pm_regs regs;
		const char *message;
	} cases[] = {
		{{0x8000, 0, 1, 0}, "acpi-pm: status 0x8000 has unknown bits"},
		{{0, 0x1000, 1, 0}, "acpi-pm: enable 0x1000 has unknown bits"},
		{{0, 0, 0, 0}, "acpi-pm: control 0 cannot be"},
		{{0, 0, 0x2001, 0}, "acpi-pm: control 0x2001 cannot be"},
	};
	struct one one;
	start(&one);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct err err = ERR_INIT;
		ck_assert_int_eq(one.class->restore(one.device, &cases[i].regs, &err), -EINVAL);
		ck_assert_str_eq(err.text, cases[i].message);
	}
	end(&one);
}
END_TEST

TEST_MAIN("acpi-pm", acpi_mode_is_always_on, s5_powers_off, other_sleep_types_do_nothing,
	  power_button_raises_the_sci_when_enabled, bytes_and_words_and_both_registers_at_once,
	  enable_bits_stick, timer_counts_3579545_a_second, carry_sets_the_status_without_a_host_timer,
	  carry_raises_the_sci_when_enabled, timer_goes_on_where_it_was_saved, impossible_state_is_refused)
