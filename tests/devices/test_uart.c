/*
 * The UART against the PC16550D data sheet. Its character device is replaced by one that the test holds in
 * its hands: the functions below take the place of those in devices/backend.
 */
#include "../../devices/devices.h"
#include "fake.h"
#include "harness.h"

#include <errno.h>
#include <string.h>

/* ---- the other end of the wire ---- */

struct chardev {
	const struct chardev_user *user;
	void *owner;
	uint8_t sent[4096];
	size_t sent_count;
	size_t takes; /* how many bytes it still takes */
	_Atomic unsigned ready_calls;
	unsigned write_calls;
	bool alive;
};

static struct chardev wire;
static int refuse_create;

int chardev_create(const struct chardev_config *config, struct loop *loop, const struct console_keys *keys,
		   struct chardev **ret, struct err *err)
{
	(void)config;
	(void)loop;
	(void)keys;
	if (refuse_create)
		return err_sys(err, refuse_create, "wire");
	wire = (struct chardev){.takes = SIZE_MAX, .alive = true};
	*ret = &wire;
	return 0;
}

void chardev_destroy(struct chardev *chardev)
{
	if (chardev)
		chardev->alive = false;
}

void chardev_attach(struct chardev *chardev, const struct chardev_user *user, void *owner)
{
	chardev->user = user;
	chardev->owner = owner;
}

size_t chardev_write(struct chardev *chardev, const void *data, size_t len)
{
	size_t taken = len < chardev->takes ? len : chardev->takes;
	chardev->write_calls++;
	ck_assert_uint_le(chardev->sent_count + taken, sizeof(chardev->sent));
	memcpy(chardev->sent + chardev->sent_count, data, taken);
	chardev->sent_count += taken;
	chardev->takes -= taken;
	return taken;
}

void chardev_receive_ready(struct chardev *chardev)
{
	chardev->ready_calls++;
}

const char *chardev_peer(const struct chardev *chardev)
{
	(void)chardev;
	return NULL;
}

static size_t type(const char *text)
{
	size_t room = wire.user->room(wire.owner), len = strlen(text);
	if (len > room)
		len = room;
	if (len)
		wire.user->receive(wire.owner, (const uint8_t *)text, len);
	return len;
}

/* ---- the guest ---- */

enum { RBR, IER, IIR, LCR, MCR, LSR, MSR, SCR, THR = RBR, FCR = IIR };
enum { COM1 = 0x3f8, GSI = 4 };

struct bench {
	struct fake fake;
	struct device *device;
};

static void bench_init(struct bench *bench)
{
	static const struct chardev_config config = {.kind = CHARDEV_NULL};
	fake_init(&bench->fake);
	refuse_create = 0;
	int res = uart_class.create(&config, 0, &bench->fake.services, &bench->device, &bench->fake.err);
	ck_assert_msg(res == 0, "%s", bench->fake.err.text);
}

static void bench_finish(struct bench *bench)
{
	uart_class.destroy(bench->device);
	ck_assert(!wire.alive);
	fake_finish(&bench->fake);
}

static uint8_t in(struct bench *bench, unsigned reg)
{
	return (uint8_t)fake_in(&bench->fake, (uint16_t)(COM1 + reg), 1);
}

static void out(struct bench *bench, unsigned reg, uint8_t value)
{
	fake_out(&bench->fake, (uint16_t)(COM1 + reg), 1, value);
}

static bool irq(struct bench *bench)
{
	return fake_irq_level(&bench->fake, GSI);
}

static unsigned rises(struct bench *bench)
{
	return fake_irq_rises(&bench->fake, GSI);
}

#define ck_assert_sent(text)                                                                                 \
	do {                                                                                                 \
		ck_assert_uint_eq(wire.sent_count, strlen(text));                                            \
		ck_assert_mem_eq(wire.sent, text, wire.sent_count);                                          \
	} while (0)

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
	for (char c = 'a'; c < 'a' + 16; c++) {
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

TEST_MAIN("uart", reset_values_are_those_of_table_one, registers_keep_only_the_bits_they_have,
	  dlab_turns_data_and_ier_into_the_divisor, a_16_bit_access_is_two_registers,
	  a_byte_that_leaves_costs_no_interrupt_call_when_polled, out2_connects_the_interrupt,
	  the_thre_interrupt_comes_and_goes_as_linux_probes_it, a_slow_reader_holds_the_transmitter,
	  without_fifos_one_byte_waits, a_byte_that_waits_ends_the_thre_interrupt,
	  the_trigger_level_parts_data_from_timeout, a_driver_of_one_byte_an_interrupt_gets_an_edge_for_each,
	  reading_makes_room_known, priorities_are_those_of_table_four, each_interrupt_has_its_own_enable,
	  without_fifos_an_overrun_overwrites, loop_back_turns_the_uart_on_itself,
	  a_break_is_a_zero_with_its_error, without_fifos_a_break_has_no_fifo_error,
	  restore_accepts_whatever_a_guest_can_write, fcr_needs_its_enable_and_clears,
	  linux_autoconfig_finds_a_16550a, com1_and_com3_share_their_interrupt,
	  restore_brings_back_registers_level_and_waiting_bytes,
	  restore_refuses_what_no_16550_can_hold_and_changes_nothing,
	  a_failed_create_names_the_port_and_leaves_nothing, there_are_as_many_as_the_config_lists,
	  threads_may_meet)
