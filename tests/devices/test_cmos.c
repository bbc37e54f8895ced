/* The real-time clock: Motorola MC146818A datasheet. */
#include "base/layout.h"
#include "clock.h"
#include "harness.h"
#include "one.h"

enum {
	A = 0x0a,
	B = 0x0b,
	C = 0x0c,
	D = 0x0d,
	CENTURY = 0x32,

	SET = 0x80,
	PERIODIC = 0x40,
	ALARM = 0x20,
	UPDATE = 0x10,
	BINARY = 0x04,
	HOURS_24 = 0x02,
	IRQ = 0x80, /* in C */
};

#define SECOND 1000000000LL

static const struct machine_config config = {.memory = {.size_bytes = 5 * GIB}};

/* 2023-11-14 22:13:20 UTC, a Tuesday. */
static const int64_t tuesday = 1700000000;

static void start(struct one *one)
{
	clock_hold(tuesday);
	one_init(one, "cmos", &config);
}

static void end(struct one *one)
{
	one_finish(one);
	clock_release();
}

static uint8_t get(struct one *one, uint8_t index)
{
	one_out(one, 0x70, 1, index);
	return (uint8_t)one_in(one, 0x71, 1);
}

static void put(struct one *one, uint8_t index, uint8_t value)
{
	one_out(one, 0x70, 1, index);
	one_out(one, 0x71, 1, value);
}

/* Century, year, month, day, hour, minute, second, day of week, as the registers have them. */
struct stamp {
	uint8_t bytes[8];
};
static const uint8_t stamp_index[] = {CENTURY, 9, 8, 7, 4, 2, 0, 6};

static void assert_time(struct one *one, struct stamp expected)
{
	for (size_t i = 0; i < ARRAY_LEN(stamp_index); i++)
		ck_assert_msg(get(one, stamp_index[i]) == expected.bytes[i],
			      "register %#x is %#x instead of %#x", stamp_index[i], get(one, stamp_index[i]),
			      expected.bytes[i]);
}

/* As Linux's mc146818_set_time does it, but for the divider. */
static void set_time(struct one *one, struct stamp stamp)
{
	uint8_t b = get(one, B);
	put(one, B, b | SET);
	for (size_t i = 0; i < ARRAY_LEN(stamp_index); i++)
		put(one, stamp_index[i], stamp.bytes[i]);
	put(one, B, b);
}

static bool line(struct one *one)
{
	return fake_irq_level(&one->fake, LAYOUT_GSI_RTC);
}

START_TEST(tells_the_hosts_time_in_utc)
{
	struct one one;
	start(&one);
	assert_time(&one, (struct stamp){{0x20, 0x23, 0x11, 0x14, 0x22, 0x13, 0x20, 3}});
	clock_advance_ns(107 * 60 * SECOND);
	assert_time(&one, (struct stamp){{0x20, 0x23, 0x11, 0x15, 0x00, 0x00, 0x20, 4}});
	end(&one);
}
END_TEST

START_TEST(wakes_as_a_pc)
{
	struct one one;
	start(&one);
	ck_assert_uint_eq(get(&one, A), 0x26);
	ck_assert_uint_eq(get(&one, B), HOURS_24);
	ck_assert_uint_eq(get(&one, C), 0);
	ck_assert_uint_eq(get(&one, D), 0x80);
	ck_assert_uint_eq(one_in(&one, 0x70, 1), 0xff);
	end(&one);
}
END_TEST

START_TEST(binary_and_twelve_hours)
{
	struct one one;
	start(&one);
	put(&one, B, BINARY | HOURS_24);
	assert_time(&one, (struct stamp){{20, 23, 11, 14, 22, 13, 20, 3}});
	put(&one, B, BINARY);
	ck_assert_uint_eq(get(&one, 4), 0x80 | 10);
	put(&one, B, 0);
	ck_assert_uint_eq(get(&one, 4), 0x80 | 0x10);
	static const struct {
		int64_t hour;
		uint8_t byte;
	} hours[] = {{0, 0x12}, {1, 0x01}, {11, 0x11}, {12, 0x92}, {13, 0x81}, {23, 0x91}};
	for (size_t i = 0; i < ARRAY_LEN(hours); i++) {
		clock_realtime_ns = (tuesday - tuesday % 86400 + hours[i].hour * 3600) * SECOND;
		ck_assert_uint_eq(get(&one, 4), hours[i].byte);
	}
	end(&one);
}
END_TEST

START_TEST(dates_of_all_years)
{
	struct one one;
	start(&one);
	static const struct {
		int64_t seconds;
		struct stamp stamp;
	} dates[] = {
		{0, {{0x19, 0x70, 0x01, 0x01, 0, 0, 0, 5}}},
		{951782400, {{0x20, 0x00, 0x02, 0x29, 0, 0, 0, 3}}},
		{1709164799, {{0x20, 0x24, 0x02, 0x28, 0x23, 0x59, 0x59, 4}}},
		{1709164800, {{0x20, 0x24, 0x02, 0x29, 0, 0, 0, 5}}},
		{1767225599, {{0x20, 0x25, 0x12, 0x31, 0x23, 0x59, 0x59, 4}}},
		{4107542400, {{0x21, 0x00, 0x03, 0x01, 0, 0, 0, 2}}}, /* 2100 is no leap year */
	};
	for (size_t i = 0; i < ARRAY_LEN(dates); i++) {
		clock_realtime_ns = dates[i].seconds * SECOND;
		assert_time(&one, dates[i].stamp);
	}
	end(&one);
}
END_TEST

/* Each day until 2255, where nanoseconds in an int64_t come to their end. */
START_TEST(calendar_agrees_with_the_c_library)
{
	struct one one;
	start(&one);
	put(&one, B, BINARY | HOURS_24);
	for (time_t t = 0; t < 9000000000; t += 86400) {
		struct tm tm;
		ck_assert_ptr_nonnull(gmtime_r(&t, &tm));
		clock_realtime_ns = t * SECOND;
		ck_assert_int_eq(get(&one, 7), tm.tm_mday);
		ck_assert_int_eq(get(&one, 8), tm.tm_mon + 1);
		ck_assert_int_eq(get(&one, 6), tm.tm_wday + 1);
		ck_assert_int_eq(get(&one, 9) + 100 * get(&one, CENTURY), tm.tm_year + 1900);
	}
	end(&one);
}
END_TEST

START_TEST(guest_sets_the_time)
{
	struct one one;
	start(&one);
	struct stamp stamp = {{0x20, 0x00, 0x02, 0x28, 0x23, 0x59, 0x58, 2}};
	set_time(&one, stamp);
	assert_time(&one, stamp);
	clock_advance_ns(2 * SECOND);
	assert_time(&one, (struct stamp){{0x20, 0x00, 0x02, 0x29, 0, 0, 0, 3}});
	put(&one, 0, 0x30); /* without SET it goes on from there */
	put(&one, 2, 0x15);
	clock_advance_ns(SECOND);
	assert_time(&one, (struct stamp){{0x20, 0x00, 0x02, 0x29, 0, 0x15, 0x31, 3}});
	end(&one);
}
END_TEST

START_TEST(far_years_and_odd_bytes_do_no_harm)
{
	struct one one;
	start(&one);
	struct stamp far = {{0x99, 0x99, 0x12, 0x31, 0x23, 0x59, 0x59, 6}};
	set_time(&one, far);
	assert_time(&one, far);
	set_time(&one, (struct stamp){{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}});
	(void)get(&one, 0);
	set_time(&one, (struct stamp){{0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00}});
	(void)get(&one, 0);
	set_time(&one, (struct stamp){{0x20, 0x23, 0x02, 0x31, 0x00, 0x00, 0x00, 1}}); /* 31 February */
	assert_time(&one, (struct stamp){{0x20, 0x23, 0x03, 0x03, 0, 0, 0, 6}});
	end(&one);
}
END_TEST

START_TEST(stopped_clock_stands)
{
	struct one one;
	start(&one);
	struct stamp now = {{0x20, 0x23, 0x11, 0x14, 0x22, 0x13, 0x20, 3}};
	put(&one, B, HOURS_24 | SET | UPDATE);
	ck_assert_uint_eq(get(&one, B), HOURS_24 | SET); /* SET takes UIE back */
	clock_advance_ns(100 * SECOND);
	assert_time(&one, now);
	ck_assert_uint_eq(get(&one, C) & UPDATE, 0);
	put(&one, B, HOURS_24);
	assert_time(&one, now);
	put(&one, A, 0x76); /* the divider in reset stops it too */
	clock_advance_ns(100 * SECOND);
	assert_time(&one, now);
	put(&one, A, 0x26); /* and half a second after its release comes the first update */
	clock_advance_ns(SECOND / 2 - 1);
	assert_time(&one, now);
	clock_advance_ns(1);
	ck_assert_uint_eq(get(&one, 0), 0x21);
	end(&one);
}
END_TEST

START_TEST(setting_keeps_the_phase_of_the_second)
{
	struct one one;
	start(&one);
	clock_advance_ns(SECOND / 4);
	set_time(&one, (struct stamp){{0x20, 0x24, 0x01, 0x01, 0, 0, 0, 2}});
	clock_advance_ns(SECOND * 3 / 4 - 1);
	ck_assert_uint_eq(get(&one, 0), 0x00);
	clock_advance_ns(1);
	ck_assert_uint_eq(get(&one, 0), 0x01);
	end(&one);
}
END_TEST

START_TEST(update_in_progress_announces_the_second)
{
	struct one one;
	start(&one);
	clock_advance_ns(SECOND - 244142);
	ck_assert_uint_eq(get(&one, A), 0x26);
	clock_advance_ns(1);
	ck_assert_uint_eq(get(&one, A), 0xa6);
	clock_advance_ns(244141);
	ck_assert_uint_eq(get(&one, A), 0x26);
	put(&one, A, 0xa6); /* read only */
	ck_assert_uint_eq(get(&one, A), 0x26);
	end(&one);
}
END_TEST

START_TEST(flags_rise_without_interrupts_and_fall_when_read)
{
	struct one one;
	start(&one);
	put(&one, A, 0x20); /* no periodic flag */
	put(&one, 1, 0x25); /* alarm at second 25 of any minute */
	put(&one, 3, 0xff);
	put(&one, 5, 0xc0);
	(void)get(&one, C);
	clock_advance_ns(SECOND - 1);
	ck_assert_uint_eq(get(&one, C), 0);
	clock_advance_ns(1);
	ck_assert_uint_eq(get(&one, C), UPDATE);
	ck_assert_uint_eq(get(&one, C), 0);
	clock_advance_ns(4 * SECOND);
	ck_assert_uint_eq(get(&one, C), UPDATE | ALARM);
	clock_advance_ns(60 * SECOND);
	ck_assert_uint_eq(get(&one, C), UPDATE | ALARM);
	clock_advance_ns(59 * SECOND);
	ck_assert_uint_eq(get(&one, C), UPDATE);
	ck_assert(!line(&one));
	put(&one, B, HOURS_24 | ALARM);
	clock_advance_ns(SECOND);
	ck_assert_uint_eq(get(&one, C), IRQ | UPDATE | ALARM);
	ck_assert(!line(&one));
	end(&one);
}
END_TEST

START_TEST(alarm_at_one_time_of_day)
{
	struct one one;
	start(&one); /* 22:13:20 */
	put(&one, 1, 0x30);
	put(&one, 3, 0x05);
	put(&one, 5, 0x07);
	clock_advance_ns(((7 + 24 - 22) * 3600 - 8 * 60 + 9) * SECOND);
	ck_assert_uint_eq(get(&one, C) & ALARM, 0);
	clock_advance_ns(SECOND);
	ck_assert_uint_eq(get(&one, C) & ALARM, ALARM);
	put(&one, 5, 0x24); /* there is no such hour */
	clock_advance_ns(48 * 3600 * SECOND);
	ck_assert_uint_eq(get(&one, C) & ALARM, 0);
	put(&one, B, 0); /* 12 hours */
	put(&one, 5, 0x87);
	clock_advance_ns(24 * 3600 * SECOND);
	ck_assert_uint_eq(get(&one, C) & ALARM, ALARM);
	end(&one);
}
END_TEST

/* Datasheet, table 5: flags a second at a 32.768 kHz time base. */
START_TEST(periodic_rates)
{
	static const unsigned per_second[16] = {0,   256, 128, 8192, 4096, 2048, 1024, 512,
						256, 128, 64,  32,   16,   8,	 4,    2};
	struct one one;
	start(&one);
	for (uint8_t rate = 0; rate < 16; rate++) {
		put(&one, A, 0x20 | rate);
		(void)get(&one, C);
		unsigned flags = 0;
		for (unsigned step = 0; step < 20000; step++) {
			clock_advance_ns(SECOND / 20000);
			flags += (get(&one, C) & PERIODIC) != 0;
		}
		ck_assert_msg(flags == per_second[rate], "rate %u: %u flags in a second instead of %u", rate,
			      flags, per_second[rate]);
	}
	end(&one);
}
END_TEST

/* In true time, for `ms`: does the enabled interrupt come by itself? */
static void assert_interrupt(uint8_t enable, uint8_t alarm_in_seconds, unsigned ms)
{
	struct one one;
	one_init(&one, "cmos", &config);
	struct stamp stamp = {{0x20, 0x23, 0x11, 0x14, 0x22, 0x13, 0x20, 3}};
	put(&one, A, 0x76);
	set_time(&one, stamp);
	put(&one, 1, (uint8_t)(0x20 + alarm_in_seconds));
	put(&one, 3, 0x13);
	put(&one, 5, 0x22);
	put(&one, A, 0x26); /* the next second is half a second away */
	(void)get(&one, C);
	put(&one, B, HOURS_24 | enable);
	ck_assert(!line(&one));
	fake_run(&one.fake, ms);
	ck_assert(line(&one));
	ck_assert_uint_eq(get(&one, C) & (enable | IRQ), enable | IRQ);
	ck_assert(!line(&one));
	one_finish(&one);
}

START_TEST(interrupts_come_by_themselves)
{
	assert_interrupt(PERIODIC, 40, 20);
	assert_interrupt(UPDATE, 40, 600);
	assert_interrupt(ALARM, 1, 600);
}
END_TEST

START_TEST(setting_the_time_moves_the_alarm)
{
	struct one one;
	one_init(&one, "cmos", &config);
	set_time(&one, (struct stamp){{0x20, 0x23, 0x11, 0x14, 0x22, 0x13, 0x20, 3}});
	put(&one, 1, 0x00);
	put(&one, 3, 0x00);
	put(&one, 5, 0x12);
	(void)get(&one, C);
	put(&one, B, HOURS_24 | ALARM);
	set_time(&one, (struct stamp){{0x20, 0x23, 0x11, 0x14, 0x11, 0x59, 0x59, 3}});
	fake_run(&one.fake, 1100);
	ck_assert(line(&one));
	one_finish(&one);
}
END_TEST

START_TEST(periodic_interrupt_comes_again_after_each_read)
{
	struct one one;
	one_init(&one, "cmos", &config);
	put(&one, A, 0x28); /* 256 Hz */
	put(&one, B, HOURS_24 | PERIODIC);
	for (unsigned i = 0; i < 5; i++) {
		fake_run(&one.fake, 20);
		ck_assert(line(&one));
		(void)get(&one, C);
		ck_assert(!line(&one));
	}
	put(&one, B, HOURS_24);
	(void)get(&one, C);
	fake_run(&one.fake, 20);
	ck_assert(!line(&one));
	one_finish(&one);
}
END_TEST

START_TEST(reset_takes_interrupts_and_leaves_time_and_memory)
{
	struct one one;
	start(&one);
	struct stamp stamp = {{0x20, 0x00, 0x02, 0x28, 0x23, 0x59, 0x58, 2}};
	set_time(&one, stamp);
	put(&one, 0x60, 0xa5);
	put(&one, B, BINARY | HOURS_24 | UPDATE | 0x08);
	clock_advance_ns(SECOND);
	fake_run(&one.fake, 1);
	(void)get(&one, 0x60);
	one.class->reset(one.device);
	ck_assert(!line(&one));
	ck_assert_uint_eq(get(&one, B), BINARY | HOURS_24);
	ck_assert_uint_eq(get(&one, C), 0);
	ck_assert_uint_eq(get(&one, 0x60), 0xa5);
	assert_time(&one, (struct stamp){{20, 0, 2, 28, 23, 59, 59, 2}});
	end(&one);
}
END_TEST

START_TEST(snapshot_keeps_offset_and_missed_alarm)
{
	struct one one, copy;
	start(&one);
	set_time(&one, (struct stamp){{0x20, 0x00, 0x02, 0x28, 0x23, 0x59, 0x00, 2}});
	put(&one, 1, 0x30);
	put(&one, 3, 0x59);
	put(&one, 5, 0x23);
	put(&one, B, HOURS_24 | ALARM);
	(void)get(&one, C);
	_Alignas(8) uint8_t regs[1024];
	one.class->save(one.device, regs);
	clock_advance_ns(45 * SECOND); /* while the machine travels, its alarm goes off */
	clock_monotonic_ns = 12345;    /* and it arrives on a host that has just started */
	one_init(&copy, "cmos", &config);
	ck_assert_int_eq(copy.class->restore(copy.device, regs, &copy.fake.err), 0);
	assert_time(&copy, (struct stamp){{0x20, 0x00, 0x02, 0x28, 0x23, 0x59, 0x45, 2}});
	ck_assert(line(&copy));
	ck_assert_uint_eq(get(&copy, C) & (IRQ | ALARM), IRQ | ALARM);
	one_finish(&copy);
	end(&one);
}
END_TEST

static uint32_t get_le(struct one *one, uint8_t index, unsigned bytes)
{
	uint32_t value = 0;
	for (unsigned i = 0; i < bytes; i++)
		value |= (uint32_t)get(one, (uint8_t)(index + i)) << (8 * i);
	return value;
}

static void assert_memory(uint64_t size_bytes, uint32_t ext, uint32_t above_16m, uint32_t above_4g)
{
	const struct machine_config machine = {.memory = {.size_bytes = size_bytes}};
	struct one one;
	one_init(&one, "cmos", &machine);
	ck_assert_uint_eq(get_le(&one, 0x15, 2), 640);
	ck_assert_uint_eq(get_le(&one, 0x17, 2), ext);
	ck_assert_uint_eq(get_le(&one, 0x30, 2), ext);
	ck_assert_uint_eq(get_le(&one, 0x34, 2), above_16m);
	ck_assert_uint_eq(get_le(&one, 0x5b, 3), above_4g);
	one_finish(&one);
}

START_TEST(memory_sizes_as_seabios_reads_them)
{
	assert_memory(1 * MIB, 0, 0, 0);
	assert_memory(16 * MIB, 15 * 1024, 0, 0);
	assert_memory(512 * MIB, 0xffff, 496 * 16, 0);
	assert_memory(3 * GIB, 0xffff, 3056 * 16, 0);
	assert_memory(5 * GIB, 0xffff, 3056 * 16, 2048 * 16);
}
END_TEST

START_TEST(nmi_bit_is_not_part_of_the_index)
{
	struct one one;
	start(&one);
	put(&one, 0x80 | 0x60, 0x77);
	ck_assert_uint_eq(get(&one, 0x60), 0x77);
	one_out(&one, 0x70, 2, 0x5500 | 0x61); /* one OUT of a word: index and data */
	ck_assert_uint_eq(get(&one, 0x61), 0x55);
	end(&one);
}
END_TEST

/* No guest, no host call: without an enabled interrupt nothing wakes aerie. */
START_TEST(idle_clock_sets_no_timer)
{
	struct one one;
	start(&one);
	unsigned calls = one.fake.irq.calls;
	clock_advance_ns(10 * SECOND);
	fake_run(&one.fake, 30);
	ck_assert_uint_eq(one.fake.irq.calls, calls);
	end(&one);
}
END_TEST

TEST_MAIN("cmos", tells_the_hosts_time_in_utc, wakes_as_a_pc, binary_and_twelve_hours, dates_of_all_years,
	  calendar_agrees_with_the_c_library, guest_sets_the_time, far_years_and_odd_bytes_do_no_harm,
	  stopped_clock_stands, setting_keeps_the_phase_of_the_second,
	  update_in_progress_announces_the_second, flags_rise_without_interrupts_and_fall_when_read,
	  alarm_at_one_time_of_day, periodic_rates, interrupts_come_by_themselves,
	  setting_the_time_moves_the_alarm, periodic_interrupt_comes_again_after_each_read,
	  reset_takes_interrupts_and_leaves_time_and_memory, snapshot_keeps_offset_and_missed_alarm,
	  memory_sizes_as_seabios_reads_them, nmi_bit_is_not_part_of_the_index, idle_clock_sets_no_timer)
