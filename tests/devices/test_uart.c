/* The UART against the PC16550D data sheet: registers, interrupts, loop-back, and what Linux probes. */
#include "uart_bench.h"

START_TEST(reset_values_are_those_of_table_one)
{
	struct bench bench;
	bench_init(&bench);
	for (int round = 0; round < 2; round++) {
		ck_assert_uint_eq(in(&bench, IER), 0);
		ck_assert_uint_eq(in(&bench, IIR), 0x01);
		ck_assert_uint_eq(in(&bench, LCR), 0);
		ck_assert_uint_eq(in(&bench, MCR), 0);
		ck_assert_uint_eq(in(&bench, LSR), 0x60);
		ck_assert_uint_eq(in(&bench, MSR), 0xb0); /* CTS, DSR, DCD; no change */
		ck_assert(!irq(&bench));
		/* Leave nothing as it was, then reset. */
		out(&bench, FCR, 0xc1);
		out(&bench, MCR, 0x1f);
		out(&bench, IER, 0x0f);
		out(&bench, THR, 'x');
		out(&bench, SCR, 7);
		ck_assert(irq(&bench));
		uart_class.reset(bench.device);
	}
	ck_assert_uint_eq(in(&bench, SCR), 0);
	bench_finish(&bench);
}
END_TEST

START_TEST(registers_keep_only_the_bits_they_have)
{
	struct bench bench;
	bench_init(&bench);
	out(&bench, IER, 0xff);
	ck_assert_uint_eq(in(&bench, IER), 0x0f);
	out(&bench, MCR, 0xff);
	ck_assert_uint_eq(in(&bench, MCR), 0x1f);
	out(&bench, SCR, 0xa5);
	ck_assert_uint_eq(in(&bench, SCR), 0xa5);
	out(&bench, LSR, 0xff);
	ck_assert_uint_eq(in(&bench, LSR), 0x60);
	out(&bench, MCR, 0);
	in(&bench, MSR);
	out(&bench, MSR, 0x0f);
	ck_assert_uint_eq(in(&bench, MSR), 0xb0);
	bench_finish(&bench);
}
END_TEST

START_TEST(dlab_turns_data_and_ier_into_the_divisor)
{
	struct bench bench;
	bench_init(&bench);
	out(&bench, IER, 0x05);
	out(&bench, LCR, 0x83);
	out(&bench, RBR, 0x34);
	out(&bench, IER, 0x12);
	ck_assert_uint_eq(in(&bench, RBR), 0x34);
	ck_assert_uint_eq(in(&bench, IER), 0x12);
	ck_assert_uint_eq(in(&bench, LCR), 0x83);
	out(&bench, LCR, 0x03);
	ck_assert_uint_eq(in(&bench, IER), 0x05);
	ck_assert_sent("");
	bench_finish(&bench);
}
END_TEST

START_TEST(a_16_bit_access_is_two_registers)
{
	struct bench bench;
	bench_init(&bench);
	out(&bench, LCR, 0x80);
	fake_out(&bench.fake, COM1, 2, 0x0102);
	ck_assert_uint_eq(fake_in(&bench.fake, COM1, 2), 0x0102);
	bench_finish(&bench);
}
END_TEST

START_TEST(out2_connects_the_interrupt)
{
	struct bench bench;
	bench_init(&bench);
	out(&bench, IER, 0x02);
	ck_assert_uint_eq(in(&bench, IIR), 0x02);
	out(&bench, IER, 0);
	out(&bench, IER, 0x02);
	ck_assert(!irq(&bench));
	out(&bench, MCR, 0x08);
	ck_assert(irq(&bench));
	out(&bench, MCR, 0);
	ck_assert(!irq(&bench));
	bench_finish(&bench);
}
END_TEST

START_TEST(priorities_are_those_of_table_four)
{
	struct bench bench;
	bench_init(&bench);
	out(&bench, FCR, 0x41);
	out(&bench, MCR, 0x18); /* loop-back makes overruns and modem changes possible */
	in(&bench, MSR);
	out(&bench, IER, 0x0f);
	for (int i = 0; i < 17; i++)
		out(&bench, THR, (uint8_t)i); /* the 17th overruns */
	out(&bench, MCR, 0x1a);		      /* CTS */
	ck_assert_uint_eq(in(&bench, IIR), 0xc6);
	ck_assert_uint_eq(in(&bench, LSR) & 0x1e, 0x02);
	ck_assert_uint_eq(in(&bench, LSR) & 0x1e, 0x00); /* reading clears */
	for (unsigned i = 0; i < 13; i++) {
		ck_assert_uint_eq(in(&bench, IIR), 0xc4);
		ck_assert_uint_eq(in(&bench, RBR), i);
	}
	for (unsigned i = 13; i < 16; i++) {
		ck_assert_uint_eq(in(&bench, IIR), 0xcc);
		ck_assert_uint_eq(in(&bench, RBR), i); /* the FIFO is safe, the newcomer was lost */
	}
	ck_assert_uint_eq(in(&bench, IIR), 0xc2);
	ck_assert(irq(&bench)); /* something is still due */
	ck_assert_uint_eq(in(&bench, IIR), 0xc0);
	ck_assert_uint_eq(in(&bench, MSR), 0x91);
	ck_assert_uint_eq(in(&bench, IIR), 0xc1);
	ck_assert(!irq(&bench));
	bench_finish(&bench);
}
END_TEST

START_TEST(each_interrupt_has_its_own_enable)
{
	struct bench bench;
	bench_init(&bench);
	out(&bench, FCR, 0x01);
	out(&bench, MCR, 0x18);
	for (int i = 0; i < 17; i++)
		out(&bench, THR, 'x');
	static const struct {
		uint8_t ier, iir;
	} cases[] = {{0x01, 0xc4}, {0x02, 0xc2}, {0x04, 0xc6}, {0x08, 0xc0}, {0x00, 0xc1}};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		out(&bench, IER, cases[i].ier);
		ck_assert_uint_eq(in(&bench, IIR), cases[i].iir);
	}
	bench_finish(&bench);
}
END_TEST

/* 8.7: DTR to DSR, RTS to CTS, OUT1 to RI, OUT2 to DCD; nothing leaves, nothing comes in. */
START_TEST(loop_back_turns_the_uart_on_itself)
{
	struct bench bench;
	bench_init(&bench);
	out(&bench, MCR, 0x10);
	ck_assert_uint_eq(in(&bench, MSR), 0x0b); /* CTS, DSR, DCD went */
	ck_assert_uint_eq(in(&bench, MSR), 0x00);
	static const struct {
		uint8_t mcr, msr;
	} cases[] = {
		{0x11, 0x22}, {0x12, 0x13}, /* DSR goes, CTS comes */
		{0x14, 0x41},		    /* RI comes without TERI */
		{0x18, 0x8c},		    /* RI goes: TERI */
		{0x1a, 0x91},		    /* what Linux's autoconfig expects: 0x90 */
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		out(&bench, MCR, cases[i].mcr);
		ck_assert_uint_eq(in(&bench, MSR), cases[i].msr);
	}
	ck_assert_uint_eq(type("x"), 0); /* waits outside */
	out(&bench, THR, 'L');
	ck_assert_sent("");
	ck_assert_uint_eq(in(&bench, RBR), 'L');
	unsigned before = wire.ready_calls;
	out(&bench, MCR, 0x00);
	ck_assert_uint_gt(wire.ready_calls, before);
	ck_assert_uint_eq(in(&bench, MSR), 0xb2); /* DSR came back */
	ck_assert_uint_eq(type("x"), 1);
	bench_finish(&bench);
}
END_TEST

START_TEST(fcr_needs_its_enable_and_clears)
{
	struct bench bench;
	bench_init(&bench);
	type("a");
	wire.takes = 0;
	out(&bench, THR, 'x');
	out(&bench, FCR, 0x06); /* without bit 0 nothing is cleared either */
	ck_assert_uint_eq(in(&bench, LSR), 0x01);
	out(&bench, FCR, 0x01); /* on: empties both */
	ck_assert_uint_eq(in(&bench, LSR), 0x60);
	out(&bench, IER, 0x02);
	in(&bench, IIR);
	out(&bench, FCR, 0x05); /* there was nothing to clear, so there is nothing to tell */
	ck_assert_uint_eq(in(&bench, IIR), 0xc1);
	out(&bench, IER, 0);
	out(&bench, FCR, 0);
	out(&bench, FCR, 0xc0); /* without bit 0 nothing is programmed */
	ck_assert_uint_eq(in(&bench, IIR), 0x01);
	out(&bench, FCR, 0xc1);
	ck_assert_uint_eq(in(&bench, IIR), 0xc1);
	type("abc");
	wire.takes = 0;
	out(&bench, THR, 'x');
	ck_assert_uint_eq(in(&bench, LSR), 0x01);
	out(&bench, FCR, 0xc5);
	ck_assert_uint_eq(in(&bench, LSR), 0x61);
	out(&bench, FCR, 0xc3);
	ck_assert_uint_eq(in(&bench, LSR), 0x60);
	wire.takes = SIZE_MAX;
	wire.user->writable(wire.owner);
	ck_assert_sent("");
	type("abc");
	out(&bench, FCR, 0x00); /* off: empties both */
	ck_assert_uint_eq(in(&bench, IIR), 0x01);
	ck_assert_uint_eq(in(&bench, LSR), 0x60);
	bench_finish(&bench);
}
END_TEST

/* drivers/tty/serial/8250/8250_port.c, autoconfig and autoconfig_16550a of Linux 6.1: the answer must be
 * "16550A". */
START_TEST(linux_autoconfig_finds_a_16550a)
{
	struct bench bench;
	bench_init(&bench);
	/* Is there anything? */
	uint8_t ier = in(&bench, IER);
	out(&bench, IER, 0x00);
	ck_assert_uint_eq(in(&bench, IER) & 0x0f, 0x00);
	out(&bench, IER, 0x0f);
	ck_assert_uint_eq(in(&bench, IER) & 0x0f, 0x0f);
	out(&bench, IER, ier);
	/* Loop-back. */
	uint8_t mcr = in(&bench, MCR), lcr = in(&bench, LCR);
	out(&bench, MCR, 0x10 | 0x0a);
	ck_assert_uint_eq(in(&bench, MSR) & 0xf0, 0x90);
	out(&bench, MCR, mcr);
	/* Not an EFR, so not a 16650. */
	out(&bench, LCR, 0xbf);
	out(&bench, FCR, 0);
	out(&bench, LCR, 0);
	/* FIFOs: both top bits of IIR mean 16550A. */
	out(&bench, FCR, 0x01);
	ck_assert_uint_eq(in(&bench, IIR) >> 6, 3);
	out(&bench, LCR, 0x80);
	ck_assert_uint_ne(in(&bench, FCR), 0); /* EFR at offset 2 would read 0 */
	out(&bench, LCR, 0xbf);
	ck_assert_uint_ne(in(&bench, FCR), 0);
	/* National's bank 2: no LOOP bit shows at offset 2. */
	out(&bench, LCR, 0);
	uint8_t status1 = in(&bench, MCR);
	out(&bench, LCR, 0xe0);
	uint8_t status2 = in(&bench, IIR);
	if (!((status2 ^ status1) & 0x10)) {
		out(&bench, LCR, 0);
		out(&bench, MCR, status1 ^ 0x10);
		out(&bench, LCR, 0xe0);
		status2 = in(&bench, IIR);
		out(&bench, LCR, 0);
		out(&bench, MCR, status1);
		ck_assert(!((status2 ^ status1) & 0x10));
	}
	/* No 64-byte FIFO, so not a 16750. */
	out(&bench, LCR, 0);
	out(&bench, FCR, 0x21);
	status1 = in(&bench, IIR) >> 5;
	out(&bench, FCR, 0x01);
	out(&bench, LCR, 0x80);
	out(&bench, FCR, 0x21);
	status2 = in(&bench, IIR) >> 5;
	out(&bench, FCR, 0x01);
	out(&bench, LCR, 0);
	ck_assert_uint_eq(status1, 6);
	ck_assert_uint_eq(status2, 6);
	/* No UUE bit, so not an XScale. */
	out(&bench, IER, ier | 0x40);
	ck_assert_uint_eq(in(&bench, IER) & 0x40, 0);
	out(&bench, IER, ier);
	out(&bench, LCR, lcr);
	ck_assert_sent("");
	bench_finish(&bench);
}
END_TEST

START_TEST(com1_and_com3_share_their_interrupt)
{
	struct bench bench;
	bench_init(&bench);
	static const struct chardev_config config = {.kind = CHARDEV_NULL};
	struct device *com3;
	ck_assert_int_eq(uart_class.create(&config, 2, &bench.fake.services, &com3, &bench.fake.err), 0);
	out(&bench, MCR, 0x08);
	out(&bench, IER, 0x02);
	fake_out(&bench.fake, 0x3e8 + MCR, 1, 0x08);
	fake_out(&bench.fake, 0x3e8 + IER, 1, 0x02);
	ck_assert(irq(&bench));
	in(&bench, IIR);
	ck_assert(irq(&bench)); /* COM3 still holds it */
	fake_in(&bench.fake, 0x3e8 + IIR, 1);
	ck_assert(!irq(&bench));
	uart_class.destroy(com3);
	bench_finish(&bench);
}
END_TEST

TEST_MAIN("uart", reset_values_are_those_of_table_one, registers_keep_only_the_bits_they_have,
	  dlab_turns_data_and_ier_into_the_divisor, a_16_bit_access_is_two_registers,
	  out2_connects_the_interrupt, priorities_are_those_of_table_four, each_interrupt_has_its_own_enable,
	  loop_back_turns_the_uart_on_itself, fcr_needs_its_enable_and_clears,
	  linux_autoconfig_finds_a_16550a, com1_and_com3_share_their_interrupt)
