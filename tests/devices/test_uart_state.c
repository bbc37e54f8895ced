/* The life of a UART: created from the config, saved, restored, refused. */
#include "uart_bench.h"

START_TEST(restore_brings_back_registers_level_and_waiting_bytes)
{
	struct bench bench;
	bench_init(&bench);
	uint8_t saved[256];
	ck_assert_uint_le(uart_class.state->size, sizeof(saved));
	out(&bench, FCR, 0x41);
	out(&bench, IER, 0x01);
	out(&bench, MCR, 0x08);
	type("ab");
	wire.takes = 0;
	out(&bench, THR, '1');
	out(&bench, THR, '2');
	uart_class.save(bench.device, saved);

	uart_class.reset(bench.device);
	ck_assert(!irq(&bench));
	wire.takes = SIZE_MAX;
	unsigned before = wire.ready_calls;
	ck_assert_int_eq(uart_class.restore(bench.device, saved, &bench.fake.err), 0);
	ck_assert(irq(&bench));
	ck_assert_uint_gt(wire.ready_calls, before);
	ck_assert_sent("12");
	ck_assert_uint_eq(in(&bench, IIR), 0xcc);
	ck_assert_uint_eq(in(&bench, RBR), 'a');
	ck_assert_uint_eq(in(&bench, RBR), 'b');
	ck_assert_uint_eq(in(&bench, LSR), 0x60);
	bench_finish(&bench);
}
END_TEST

START_TEST(at_rest_its_output_has_left)
{
	struct bench bench;
	bench_init(&bench);
	out(&bench, THR, '1');
	ck_assert_uint_eq(wire.flushes, 0);
	uart_class.quiesce(bench.device);
	ck_assert_uint_eq(wire.flushes, 1);
	bench_finish(&bench);
}
END_TEST

/* Two may have the state from now on, and only one of them goes on: what waits belongs to that one. */
START_TEST(at_rest_what_waits_goes_nowhere)
{
	struct bench bench;
	uint8_t saved[256];
	bench_init(&bench);
	out(&bench, FCR, 0x01);
	wire.takes = 0;
	out(&bench, THR, '1');
	out(&bench, THR, '2');
	uart_class.quiesce(bench.device);
	uart_class.save(bench.device, saved);
	wire.takes = SIZE_MAX; /* the reader is back */
	wire.user->writable(wire.owner);
	ck_assert_sent("");
	ck_assert_int_eq(uart_class.restore(bench.device, saved, &bench.fake.err), 0); /* a rehearsal */
	ck_assert_sent("");
	ck_assert_uint_eq(in(&bench, LSR), 0); /* nor has the guest's view changed */
	uart_class.resume(bench.device);
	ck_assert_sent("12");
	ck_assert_uint_eq(in(&bench, LSR), 0x60);
	bench_finish(&bench);
}
END_TEST

/* A state that is loaded later would take its place. */
START_TEST(at_rest_input_waits_outside)
{
	struct bench bench;
	uint8_t saved[256];
	bench_init(&bench);
	out(&bench, FCR, 0x01);
	ck_assert_uint_eq(type("a"), 1);
	uart_class.save(bench.device, saved);
	uart_class.quiesce(bench.device);
	ck_assert_uint_eq(type("b"), 0);
	ck_assert_int_eq(uart_class.restore(bench.device, saved, &bench.fake.err), 0);
	ck_assert_uint_eq(type("b"), 0);
	unsigned before = wire.ready_calls;
	uart_class.resume(bench.device);
	ck_assert_uint_gt(wire.ready_calls, before);
	ck_assert_uint_eq(type("b"), 1);
	ck_assert_uint_eq(in(&bench, RBR), 'a');
	ck_assert_uint_eq(in(&bench, RBR), 'b');
	bench_finish(&bench);
}
END_TEST

static size_t field_offset(const char *name)
{
	for (size_t i = 0; i < uart_class.state->field_count; i++) {
		if (strcmp(uart_class.state->fields[i].name, name) == 0)
			return uart_class.state->fields[i].offset;
	}
	ck_abort_msg("no field %s", name);
}

START_TEST(restore_accepts_whatever_a_guest_can_write)
{
	struct bench bench;
	bench_init(&bench);
	uint8_t saved[256];
	for (unsigned value = 0; value < 256; value++) {
		for (unsigned reg = 0; reg < 8; reg++)
			out(&bench, reg, (uint8_t)value);
		uart_class.save(bench.device, saved);
		int res = uart_class.restore(bench.device, saved, &bench.fake.err);
		ck_assert_msg(res == 0, "0x%x: %s", value, bench.fake.err.text);
	}
	bench_finish(&bench);
}
END_TEST

START_TEST(restore_refuses_what_no_16550_can_hold_and_changes_nothing)
{
	static const struct {
		const char *field;
		uint8_t value;
	} cases[] = {{"ier", 0x10},    {"fcr", 0x21},	 {"mcr", 0x20},	      {"lsr", 0x01},
		     {"rx_count", 17}, {"tx_count", 17}, {"rx_errors", 0x20}, {"fcr", 0x40}};
	struct bench bench;
	bench_init(&bench);
	out(&bench, FCR, 0x01);
	out(&bench, SCR, 0x11);
	uint8_t good[256], bad[256];
	uart_class.save(bench.device, good);
	out(&bench, SCR, 0x22);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct err err = ERR_INIT;
		memcpy(bad, good, sizeof(bad));
		bad[field_offset(cases[i].field)] = cases[i].value;
		if (i == ARRAY_LEN(cases) - 1)
			bad[field_offset("rx_count")] = 2; /* FIFOs off: one at most */
		ck_assert_int_eq(uart_class.restore(bench.device, bad, &err), -EINVAL);
		ck_assert_uint_eq(in(&bench, SCR), 0x22);
	}
	bench_finish(&bench);
}
END_TEST

START_TEST(a_failed_create_names_the_port_and_leaves_nothing)
{
	static const struct chardev_config config = {.kind = CHARDEV_NULL};
	struct bench bench;
	bench_init(&bench);
	struct device *device = NULL;
	ck_assert_int_lt(uart_class.create(&config, 0, &bench.fake.services, &device, &bench.fake.err), 0);
	ck_assert_ptr_null(device);
	ck_assert_ptr_nonnull(strstr(bench.fake.err.text, "serial0: "));
	ck_assert(!wire.alive); /* bus_add refused: it was there */
	refuse_create = -EACCES;
	bench.fake.err = ERR_INIT;
	ck_assert_int_eq(uart_class.create(&config, 1, &bench.fake.services, &device, &bench.fake.err),
			 -EACCES);
	ck_assert_str_eq(bench.fake.err.text, "serial1: wire: Permission denied");
	uart_class.destroy(NULL);
	bench_finish(&bench);
}
END_TEST

START_TEST(there_are_as_many_as_the_config_lists)
{
	const struct machine_config machine = {.serial_count = 2};
	ck_assert_ptr_eq(uart_class.config(&machine, 0), &machine.serial[0]);
	ck_assert_ptr_eq(uart_class.config(&machine, 1), &machine.serial[1]);
	ck_assert_ptr_null(uart_class.config(&machine, 2));
}
END_TEST

TEST_MAIN("uart state", restore_brings_back_registers_level_and_waiting_bytes, at_rest_its_output_has_left,
	  at_rest_what_waits_goes_nowhere, at_rest_input_waits_outside,
	  restore_accepts_whatever_a_guest_can_write,
	  restore_refuses_what_no_16550_can_hold_and_changes_nothing,
	  a_failed_create_names_the_port_and_leaves_nothing, there_are_as_many_as_the_config_lists)
