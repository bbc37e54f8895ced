/* The way of bytes through the UART: FIFOs, trigger levels, a slow host, overruns, breaks. */
#include "uart_bench.h"

START_TEST(a_byte_that_leaves_costs_no_interrupt_call_when_polled)
{
	struct bench bench;
	bench_init(&bench);
	out(&bench, FCR, 0x01);
	out(&bench, MCR, 0x0b);
	bench.fake.irq.calls = 0;
	for (const char *p = "hello"; *p; p++) {
		ck_assert_uint_eq(in(&bench, LSR) & 0x60, 0x60);
		out(&bench, THR, (uint8_t)*p);
	}
	ck_assert_sent("hello");
	ck_assert_uint_eq(bench.fake.irq.calls, 0);
	bench_finish(&bench);
}
END_TEST

/* 8.6: told once by IIR, again by the next empty THR, and by enabling it while THR is empty. */
START_TEST(the_thre_interrupt_comes_and_goes_as_linux_probes_it)
{
	struct bench bench;
	bench_init(&bench);
	out(&bench, MCR, 0x08);
	out(&bench, IER, 0x02);
	ck_assert_uint_eq(rises(&bench), 1);
	ck_assert_uint_eq(in(&bench, IIR), 0x02);
	ck_assert(!irq(&bench));
	ck_assert_uint_eq(in(&bench, IIR), 0x01);

	out(&bench, IER, 0x02); /* nothing new in that */
	ck_assert_uint_eq(in(&bench, IIR), 0x01);

	/* serial8250_THRE_test: off and on again must tell again. */
	out(&bench, IER, 0x00);
	out(&bench, IER, 0x02);
	ck_assert_uint_eq(rises(&bench), 1);
	ck_assert_uint_eq(in(&bench, IIR), 0x02);

	out(&bench, THR, 'a');
	ck_assert_uint_eq(rises(&bench), 1);
	/* A driver that writes without reading IIR needs another edge. */
	out(&bench, THR, 'b');
	ck_assert_uint_eq(rises(&bench), 1);
	ck_assert_uint_eq(in(&bench, IIR), 0x02);
	ck_assert_uint_eq(in(&bench, IIR), 0x01);
	ck_assert_sent("ab");
	bench_finish(&bench);
}
END_TEST

START_TEST(a_slow_reader_holds_the_transmitter)
{
	struct bench bench;
	bench_init(&bench);
	out(&bench, FCR, 0x01);
	out(&bench, MCR, 0x08);
	out(&bench, IER, 0x02);
	in(&bench, IIR);
	rises(&bench);
	wire.takes = 1;
	out(&bench, THR, '0');
	ck_assert_uint_eq(in(&bench, LSR), 0x60);
	ck_assert_uint_eq(in(&bench, IIR), 0xc2);
	for (unsigned c = 'a'; c < 'a' + 16; c++) {
		out(&bench, THR, (uint8_t)c);
		ck_assert_uint_eq(in(&bench, LSR), 0x00);
	}
	ck_assert_uint_eq(wire.write_calls, 2); /* it was told once that there is no room */
	out(&bench, IER, 0x00);
	out(&bench, IER, 0x02);
	ck_assert_uint_eq(in(&bench, IIR), 0xc1); /* not empty */
	out(&bench, THR, '!');			  /* beyond the FIFO: lost, since the guest did not look */
	ck_assert_uint_eq(in(&bench, IIR), 0xc1);
	wire.takes = 10;
	wire.user->writable(wire.owner);
	ck_assert_uint_eq(in(&bench, LSR), 0x00);
	ck_assert(!irq(&bench));
	wire.takes = SIZE_MAX;
	wire.user->writable(wire.owner);
	ck_assert_uint_eq(in(&bench, LSR), 0x60);
	ck_assert(irq(&bench));
	ck_assert_uint_eq(in(&bench, IIR), 0xc2);
	ck_assert_sent("0abcdefghijklmnop");
	wire.user->writable(wire.owner); /* nothing waits: no interrupt out of thin air */
	ck_assert_uint_eq(in(&bench, IIR), 0xc1);
	bench_finish(&bench);
}
END_TEST

START_TEST(a_byte_that_waits_ends_the_thre_interrupt)
{
	struct bench bench;
	bench_init(&bench);
	out(&bench, MCR, 0x08);
	out(&bench, IER, 0x02);
	ck_assert(irq(&bench));
	wire.takes = 0;
	out(&bench, THR, 'x');
	ck_assert(!irq(&bench));
	ck_assert_uint_eq(in(&bench, IIR), 0x01);
	bench_finish(&bench);
}
END_TEST

START_TEST(without_fifos_one_byte_waits)
{
	struct bench bench;
	bench_init(&bench);
	wire.takes = 0;
	out(&bench, THR, 'a');
	out(&bench, THR, 'b');
	ck_assert_uint_eq(in(&bench, LSR), 0x00);
	wire.takes = SIZE_MAX;
	wire.user->writable(wire.owner);
	ck_assert_sent("a");
	ck_assert_uint_eq(type("xyz"), 1);
	ck_assert_uint_eq(in(&bench, LSR), 0x61);
	ck_assert_uint_eq(in(&bench, RBR), 'x');
	ck_assert_uint_eq(in(&bench, LSR), 0x60);
	ck_assert_uint_eq(in(&bench, RBR), 0); /* empty */
	bench_finish(&bench);
}
END_TEST

START_TEST(the_trigger_level_parts_data_from_timeout)
{
	static const struct {
		uint8_t fcr;
		unsigned level;
	} cases[] = {{0x01, 1}, {0x41, 4}, {0x81, 8}, {0xc1, 14}};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct bench bench;
		bench_init(&bench);
		out(&bench, FCR, cases[i].fcr);
		out(&bench, IER, 0x01);
		out(&bench, MCR, 0x08);
		for (unsigned have = 1; have <= 16; have++) {
			ck_assert_uint_eq(type("x"), 1);
			ck_assert_uint_eq(in(&bench, IIR), have < cases[i].level ? 0xcc : 0xc4);
			ck_assert(irq(&bench));
		}
		ck_assert_uint_eq(type("y"), 0);
		for (unsigned have = 16; have > 0; have--) {
			ck_assert_uint_eq(in(&bench, IIR), have < cases[i].level ? 0xcc : 0xc4);
			ck_assert_uint_eq(in(&bench, RBR), 'x');
		}
		ck_assert_uint_eq(in(&bench, IIR), 0xc1);
		ck_assert(!irq(&bench));
		bench_finish(&bench);
	}
}
END_TEST

START_TEST(a_driver_of_one_byte_an_interrupt_gets_an_edge_for_each)
{
	struct bench bench;
	bench_init(&bench);
	out(&bench, FCR, 0x81);
	out(&bench, IER, 0x01);
	out(&bench, MCR, 0x08);
	ck_assert_uint_eq(type("abc"), 3);
	for (unsigned i = 0; i < 3; i++) {
		ck_assert_uint_eq(rises(&bench), 1);
		ck_assert_uint_eq(in(&bench, IIR), 0xcc);
		ck_assert_uint_eq(in(&bench, RBR), 'a' + i);
	}
	ck_assert_uint_eq(rises(&bench), 0);
	bench_finish(&bench);
}
END_TEST

START_TEST(reading_makes_room_known)
{
	struct bench bench;
	bench_init(&bench);
	ck_assert_uint_eq(type("abc"), 1);
	unsigned before = wire.ready_calls;
	in(&bench, RBR);
	ck_assert_uint_gt(wire.ready_calls, before);
	type("b");
	before = wire.ready_calls;
	out(&bench, FCR, 0x01); /* enabling empties the receiver */
	ck_assert_uint_gt(wire.ready_calls, before);
	ck_assert_uint_eq(in(&bench, LSR), 0x60);
	bench_finish(&bench);
}
END_TEST

START_TEST(without_fifos_an_overrun_overwrites)
{
	struct bench bench;
	bench_init(&bench);
	out(&bench, MCR, 0x10);
	out(&bench, THR, 'a');
	out(&bench, THR, 'b');
	ck_assert_uint_eq(in(&bench, LSR), 0x63);
	ck_assert_uint_eq(in(&bench, RBR), 'b');
	ck_assert_uint_eq(in(&bench, LSR), 0x60);
	bench_finish(&bench);
}
END_TEST

START_TEST(a_break_is_a_zero_with_its_error)
{
	struct bench bench;
	bench_init(&bench);
	out(&bench, FCR, 0x01);
	out(&bench, IER, 0x04);
	out(&bench, MCR, 0x08);
	type("a");
	wire.user->send_break(wire.owner);
	ck_assert_uint_eq(in(&bench, LSR), 0xe1); /* one with an error in the FIFO, not yet on top */
	ck_assert(!irq(&bench));
	ck_assert_uint_eq(in(&bench, RBR), 'a');
	ck_assert(irq(&bench));
	ck_assert_uint_eq(in(&bench, IIR), 0xc6);
	ck_assert_uint_eq(in(&bench, LSR), 0xf1);
	ck_assert_uint_eq(in(&bench, LSR), 0x61);
	ck_assert_uint_eq(in(&bench, RBR), 0);
	ck_assert_uint_eq(in(&bench, LSR), 0x60);
	bench_finish(&bench);
}
END_TEST

START_TEST(without_fifos_a_break_has_no_fifo_error)
{
	struct bench bench;
	bench_init(&bench);
	wire.user->send_break(wire.owner);
	ck_assert_uint_eq(in(&bench, LSR), 0x71);
	bench_finish(&bench);
}
END_TEST

/* vCPUs and the loop's thread at once: for the thread sanitizer, and no byte is lost or doubled. */
static void *guest_main(void *arg)
{
	struct bench *bench = arg;
	for (int i = 0; i < 500; i++) {
		out(bench, THR, 'x');
		in(bench, IIR);
		in(bench, RBR);
		in(bench, LSR);
	}
	return NULL;
}

START_TEST(threads_may_meet)
{
	struct bench bench;
	bench_init(&bench);
	out(&bench, FCR, 0x01);
	out(&bench, IER, 0x0f);
	out(&bench, MCR, 0x08);
	pthread_t guests[2];
	for (int i = 0; i < 2; i++)
		pthread_create(&guests[i], NULL, guest_main, &bench);
	for (int i = 0; i < 500; i++) {
		type("abc");
		wire.user->writable(wire.owner);
		wire.user->send_break(wire.owner);
	}
	for (int i = 0; i < 2; i++)
		pthread_join(guests[i], NULL);
	ck_assert_uint_eq(wire.sent_count, 1000);
	bench_finish(&bench);
}
END_TEST

TEST_MAIN("uart data", a_byte_that_leaves_costs_no_interrupt_call_when_polled,
	  the_thre_interrupt_comes_and_goes_as_linux_probes_it, a_slow_reader_holds_the_transmitter,
	  a_byte_that_waits_ends_the_thre_interrupt, without_fifos_one_byte_waits,
	  the_trigger_level_parts_data_from_timeout, a_driver_of_one_byte_an_interrupt_gets_an_edge_for_each,
	  reading_makes_room_known, without_fifos_an_overrun_overwrites, a_break_is_a_zero_with_its_error,
	  without_fifos_a_break_has_no_fifo_error, threads_may_meet)
