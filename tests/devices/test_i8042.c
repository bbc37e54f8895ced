/* The keyboard controller without a keyboard: what resets, what answers, and that Linux's probe never waits.
 */
#include "base/layout.h"
#include "harness.h"
#include "one.h"

enum { DATA = 0x60, COMMAND = 0x64, OBF = 0x01, AUX_DATA = 0x20, TIMED_OUT = 0x40 };

static const struct machine_config config = {.name = "i8042"};

static void start(struct one *one)
{
	one_init(one, "i8042", &config);
}

static void command(struct one *one, uint8_t byte)
{
	ck_assert_uint_eq(one_in(one, COMMAND, 1) & 0x02, 0); /* never busy */
	one_out(one, COMMAND, 1, byte);
}

static void data(struct one *one, uint8_t byte)
{
	ck_assert_uint_eq(one_in(one, COMMAND, 1) & 0x02, 0);
	one_out(one, DATA, 1, byte);
}

/* The answer that must be there, at once, with these of OBF, AUX_DATA and TIMED_OUT. */
static void assert_answer(struct one *one, uint8_t status, uint8_t byte)
{
	ck_assert_uint_eq(one_in(one, COMMAND, 1) & (OBF | AUX_DATA | TIMED_OUT), status);
	ck_assert_uint_eq(one_in(one, DATA, 1), byte);
	ck_assert_uint_eq(one_in(one, COMMAND, 1) & (OBF | AUX_DATA | TIMED_OUT), 0);
}

START_TEST(wakes_as_a_bios_leaves_it)
{
	struct one one;
	start(&one);
	ck_assert_uint_eq(one_in(&one, COMMAND, 1), 0x14); /* passed its test, keyboard lock open, empty */
	command(&one, 0x20);
	assert_answer(&one, OBF, 0x65);
	ck_assert(!fake_irq_level(&one.fake, LAYOUT_GSI_I8042));
	one_finish(&one);
}
END_TEST

START_TEST(pulse_resets_when_bit_0_is_clear)
{
	struct one one;
	start(&one);
	for (unsigned byte = 0xf0; byte <= 0xff; byte++) {
		command(&one, (uint8_t)byte);
		ck_assert_uint_eq(one_requests(&one, MACHINE_RESET), !(byte & 1));
	}
	one_finish(&one);
}
END_TEST

START_TEST(output_port_resets_and_keeps_a20)
{
	struct one one;
	start(&one);
	command(&one, 0xd0);
	assert_answer(&one, OBF, 0xc3);
	command(&one, 0xd1);
	data(&one, 0xdd); /* A20 off */
	ck_assert_uint_eq(one_requests(&one, MACHINE_RESET), 0);
	command(&one, 0xd0);
	assert_answer(&one, OBF, 0xc1);
	command(&one, 0xd1);
	data(&one, 0xfe);
	ck_assert_uint_eq(one_requests(&one, MACHINE_RESET), 1);
	data(&one, 0xfe); /* the command took one byte: this one is for the keyboard */
	ck_assert_uint_eq(one_requests(&one, MACHINE_RESET), 0);
	one_finish(&one);
}
END_TEST

START_TEST(tests_answer)
{
	struct one one;
	start(&one);
	command(&one, 0xaa);
	assert_answer(&one, OBF, 0x55);
	command(&one, 0xab);
	assert_answer(&one, OBF, 0x00);
	command(&one, 0xc0);
	assert_answer(&one, OBF, 0x80);
	command(&one, 0xe0);
	assert_answer(&one, OBF, 0x00);
	command(&one, 0xd2);
	data(&one, 0x42);
	assert_answer(&one, OBF, 0x42);
	one_finish(&one);
}
END_TEST

START_TEST(command_byte_reads_back)
{
	struct one one;
	start(&one);
	command(&one, 0x60);
	data(&one, 0x34);
	command(&one, 0x20);
	assert_answer(&one, OBF, 0x34);
	ck_assert_uint_eq(one_in(&one, COMMAND, 1) & 0x04, 0x04); /* the system flag shows in the status */
	command(&one, 0x60);
	data(&one, 0x30);
	ck_assert_uint_eq(one_in(&one, COMMAND, 1) & 0x04, 0);
	command(&one, 0xae);
	command(&one, 0x20);
	assert_answer(&one, OBF, 0x20);
	command(&one, 0xad);
	command(&one, 0x20);
	assert_answer(&one, OBF, 0x30);
	one_finish(&one);
}
END_TEST

START_TEST(status_tells_command_from_data)
{
	struct one one;
	start(&one);
	command(&one, 0x60);
	ck_assert_uint_eq(one_in(&one, COMMAND, 1) & 0x08, 0x08);
	data(&one, 0x65);
	ck_assert_uint_eq(one_in(&one, COMMAND, 1) & 0x08, 0);
	one_finish(&one);
}
END_TEST

/* i8042_check_aux of Linux: the loop-back must answer without AUX_DATA, the test with an error other than
 * 0xff, 0xfa. */
START_TEST(linux_finds_no_aux_port_without_waiting)
{
	struct one one;
	start(&one);
	command(&one, 0xd3);
	data(&one, 0x5a);
	assert_answer(&one, OBF, 0x5a);
	command(&one, 0xa9);
	assert_answer(&one, OBF, 0x01);
	command(&one, 0xa8);
	command(&one, 0x20);
	assert_answer(&one, OBF, 0x65); /* still off */
	command(&one, 0xd4);
	data(&one, 0xf2);
	assert_answer(&one, OBF | TIMED_OUT, 0xfe);
	one_finish(&one);
}
END_TEST

/* atkbd asks for the id and, failing that, sets the LEDs; each byte must be refused at once. */
START_TEST(no_keyboard_is_a_timeout_at_once)
{
	struct one one;
	start(&one);
	static const uint8_t bytes[] = {0xf2, 0xed, 0xff};
	for (size_t i = 0; i < ARRAY_LEN(bytes); i++) {
		data(&one, bytes[i]);
		ck_assert(fake_irq_level(&one.fake, LAYOUT_GSI_I8042));
		assert_answer(&one, OBF | TIMED_OUT, 0xfe);
		ck_assert(!fake_irq_level(&one.fake, LAYOUT_GSI_I8042));
	}
	ck_assert_uint_eq(fake_irq_rises(&one.fake, LAYOUT_GSI_I8042), ARRAY_LEN(bytes));
	one_finish(&one);
}
END_TEST

START_TEST(interrupt_only_when_enabled)
{
	struct one one;
	start(&one);
	command(&one, 0x60);
	data(&one, 0x64);
	data(&one, 0xf2);
	ck_assert(!fake_irq_level(&one.fake, LAYOUT_GSI_I8042));
	command(&one, 0x60);
	data(&one, 0x65); /* enabled with the byte still there */
	ck_assert(fake_irq_level(&one.fake, LAYOUT_GSI_I8042));
	one_finish(&one);
}
END_TEST

/* Linux flushes until the output buffer is empty, and gives up on a controller that never is. */
START_TEST(flush_ends)
{
	struct one one;
	start(&one);
	data(&one, 0xff);
	data(&one, 0xff);
	unsigned reads = 0;
	while (one_in(&one, COMMAND, 1) & OBF && reads < 16) {
		(void)one_in(&one, DATA, 1);
		reads++;
	}
	ck_assert_uint_le(reads, 1);
	one_finish(&one);
}
END_TEST

START_TEST(pending_command_survives_a_snapshot)
{
	struct one one, copy;
	start(&one);
	command(&one, 0xd1);
	one_init_copy(&copy, &one, &config);
	data(&copy, 0xfe);
	ck_assert_uint_eq(one_requests(&copy, MACHINE_RESET), 1);
	one_finish(&copy);
	data(&one, 0xff);
	data(&one, 0xf2);
	one_init_copy(&copy, &one, &config);
	ck_assert(fake_irq_level(&copy.fake, LAYOUT_GSI_I8042));
	assert_answer(&copy, OBF | TIMED_OUT, 0xfe);
	one_finish(&copy);
	one_finish(&one);
}
END_TEST

TEST_MAIN("i8042", wakes_as_a_bios_leaves_it, pulse_resets_when_bit_0_is_clear,
	  output_port_resets_and_keeps_a20, tests_answer, command_byte_reads_back,
	  status_tells_command_from_data, linux_finds_no_aux_port_without_waiting,
	  no_keyboard_is_a_timeout_at_once, interrupt_only_when_enabled, flush_ends,
	  pending_command_survives_a_snapshot)
