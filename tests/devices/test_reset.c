/* The reset ports: ICH9 datasheet, 13.7.5 (RST_CNT) and 13.7.2 (port 92). */
#include "base/layout.h"
#include "harness.h"
#include "one.h"

static const struct machine_config config = {.name = "reset"};

static void assert_resets(struct one *one, uint16_t port, uint8_t value, unsigned times)
{
	one_out(one, port, 1, value);
	ck_assert_msg(one_requests(one, MACHINE_RESET) == times, "port %#x, value %#x", port, value);
}

/* What Linux writes with reboot=p, and what the FADT tells it to write. */
START_TEST(hard_reset_is_two_then_six)
{
	struct one one;
	one_init(&one, "reset", &config);
	assert_resets(&one, 0xcf9, 0x02, 0);
	assert_resets(&one, 0xcf9, 0x06, 1);
	one.class->reset(one.device);
	assert_resets(&one, LAYOUT_PORT_RESET, LAYOUT_RESET_VALUE, 1);
	one_finish(&one);
}
END_TEST

START_TEST(soft_and_full_reset_too)
{
	struct one one;
	one_init(&one, "reset", &config);
	assert_resets(&one, 0xcf9, 0x04, 1);
	one.class->reset(one.device);
	assert_resets(&one, 0xcf9, 0x0e, 1);
	one_finish(&one);
}
END_TEST

START_TEST(only_the_rising_bit_resets)
{
	struct one one;
	one_init(&one, "reset", &config);
	assert_resets(&one, 0xcf9, 0x0a, 0);
	assert_resets(&one, 0xcf9, 0x06, 1);
	assert_resets(&one, 0xcf9, 0x06, 0);
	assert_resets(&one, 0xcf9, 0x02, 0);
	assert_resets(&one, 0xcf9, 0x06, 1);
	assert_resets(&one, 0x92, 0x01, 1);
	assert_resets(&one, 0x92, 0x03, 0);
	assert_resets(&one, 0x92, 0x02, 0);
	assert_resets(&one, 0x92, 0x03, 1);
	one_finish(&one);
}
END_TEST

START_TEST(registers_read_back)
{
	struct one one;
	one_init(&one, "reset", &config);
	ck_assert_uint_eq(one_in(&one, 0xcf9, 1), 0x00);
	ck_assert_uint_eq(one_in(&one, 0x92, 1), 0x02); /* A20 is on */
	one_out(&one, 0xcf9, 1, 0xfb);
	ck_assert_uint_eq(one_in(&one, 0xcf9, 1), 0x0a);
	one_out(&one, 0x92, 1, 0xfc);
	ck_assert_uint_eq(one_in(&one, 0x92, 1), 0x00);
	one.class->reset(one.device);
	ck_assert_uint_eq(one_in(&one, 0xcf9, 1), 0x00);
	ck_assert_uint_eq(one_in(&one, 0x92, 1), 0x02);
	one_finish(&one);
}
END_TEST

/* A scan for PCI by configuration mechanism 1, over all functions: bit 2 of the second byte is one of the
 * function's. */
START_TEST(probing_for_pci_does_not_reset)
{
	struct one one;
	one_init(&one, "reset", &config);
	for (uint32_t devfn = 0; devfn < 256; devfn++) {
		one_out(&one, 0xcf8, 4, 0x80000000 | devfn << 8);
		ck_assert_uint_eq(one_in(&one, 0xcf8, 4), 0xffffffff);
		ck_assert_uint_eq(one_in(&one, 0xcfc, 4), 0xffffffff);
	}
	one_out(&one, 0xcf8, 2, 0x0600);
	one_out(&one, 0xcf9, 2, 0x0006);
	one_out(&one, 0xcfb, 1, 0x01);
	ck_assert_uint_eq(one_requests(&one, MACHINE_RESET), 0);
	ck_assert_uint_eq(one_in(&one, 0xcf9, 1), 0x00);
	one_finish(&one);
}
END_TEST

START_TEST(post_codes_vanish)
{
	struct one one;
	one_init(&one, "reset", &config);
	one_out(&one, 0x80, 1, 0x55);
	ck_assert_uint_eq(one_in(&one, 0x80, 1), 0xff);
	ck_assert_uint_eq(one_requests(&one, MACHINE_RESET), 0);
	ck_assert_uint_eq(bus_unclaimed_count(one.fake.services.bus), 0);
	one_finish(&one);
}
END_TEST

TEST_MAIN("reset", hard_reset_is_two_then_six, soft_and_full_reset_too, only_the_rising_bit_resets,
	  registers_read_back, probing_for_pci_does_not_reset, post_codes_vanish)
