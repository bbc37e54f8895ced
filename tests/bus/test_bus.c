#include "bus/bus.h"
#include "harness.h"

#include <errno.h>

/* Remembers its last access and answers each byte with its own offset. */
struct probe {
	uint64_t offset, value;
	unsigned size, reads, writes;
};

static uint64_t probe_read(void *owner, uint64_t offset, unsigned size)
{
	struct probe *probe = owner;
	uint64_t value = 0;
	probe->offset = offset, probe->size = size, probe->reads++;
	for (unsigned i = 0; i < size; i++)
		value |= ((offset + i) & 0xff) << (8 * i);
	return value;
}

static void probe_write(void *owner, uint64_t offset, unsigned size, uint64_t value)
{
	struct probe *probe = owner;
	probe->offset = offset, probe->size = size, probe->value = value, probe->writes++;
}

static const struct bus_ops bytes_only = {probe_read, probe_write, 1, 1};
static const struct bus_ops up_to_8 = {probe_read, probe_write, 1, 8};
static const struct bus_ops words_only = {probe_read, probe_write, 4, 4};

static struct bus *bus_with(enum bus_space space, uint64_t base, uint64_t size, const struct bus_ops *ops,
			    struct probe *probe)
{
	struct bus *bus = NULL;
	struct err err = ERR_INIT;
	ck_assert_int_eq(bus_create(&bus, &err), 0);
	const struct bus_range range = {base, size, ops, probe, "probe"};
	ck_assert_int_eq(bus_add(bus, space, &range, &err), 0);
	return bus;
}

START_TEST(unclaimed_reads_all_ones_and_is_counted)
{
	struct probe probe = {0};
	struct bus *bus = bus_with(BUS_PIO, 0x60, 1, &bytes_only, &probe);
	uint32_t value = 0;
	bus_read(bus, BUS_PIO, 0x70, &value, 4);
	ck_assert_uint_eq(value, 0xffffffff);
	bus_write(bus, BUS_PIO, 0x70, &value, 1);
	ck_assert_uint_eq(bus_unclaimed_count(bus), 2);
	bus_read(bus, BUS_PIO, 0x5e, &value, 4); /* nobody, us, nobody */
	ck_assert_uint_eq(value, 0xff00ffff);
	ck_assert_uint_eq(bus_unclaimed_count(bus), 4);
	bus_destroy(bus);
}
END_TEST

START_TEST(wide_access_is_split_low_address_first)
{
	struct probe probe = {0};
	struct bus *bus = bus_with(BUS_PIO, 0x3f8, 8, &bytes_only, &probe);
	uint16_t value = 0;
	bus_read(bus, BUS_PIO, 0x3fa, &value, 2);
	ck_assert_uint_eq(value, 0x0302);
	ck_assert_uint_eq(probe.reads, 2);
	value = 0xabcd;
	bus_write(bus, BUS_PIO, 0x3fa, &value, 2);
	ck_assert_uint_eq(probe.offset, 3);
	ck_assert_uint_eq(probe.value, 0xab);
	bus_destroy(bus);
}
END_TEST

START_TEST(access_across_the_end_is_half_ours)
{
	struct probe probe = {0};
	struct bus *bus = bus_with(BUS_MMIO, 0x1000, 0x10, &up_to_8, &probe);
	uint64_t value = 0;
	bus_read(bus, BUS_MMIO, 0x100c, &value, 8);
	ck_assert_uint_eq(value, 0xffffffff0f0e0d0cULL);
	ck_assert_uint_eq(probe.size, 4);
	bus_destroy(bus);
}
END_TEST

START_TEST(below_minimum_reads_ones)
{
	struct probe probe = {0};
	struct bus *bus = bus_with(BUS_MMIO, 0x1000, 0x10, &words_only, &probe);
	uint16_t value = 0;
	bus_read(bus, BUS_MMIO, 0x1000, &value, 2);
	ck_assert_uint_eq(value, 0xffff);
	bus_write(bus, BUS_MMIO, 0x1000, &value, 2);
	ck_assert_uint_eq(probe.reads + probe.writes, 0);
	bus_destroy(bus);
}
END_TEST

START_TEST(every_offset_and_size_stays_inside)
{
	struct probe probe = {0};
	struct bus *bus = bus_with(BUS_MMIO, 0x1000, 7, &up_to_8, &probe);
	for (uint64_t address = 0xff0; address < 0x1020; address++) {
		for (unsigned size = 1; size <= 8; size++) {
			uint8_t data[8] = {0};
			bus_read(bus, BUS_MMIO, address, data, size);
			for (unsigned i = 0; i < size; i++) {
				uint64_t at = address + i;
				uint8_t want = at >= 0x1000 && at < 0x1007 ? (uint8_t)(at - 0x1000) : 0xff;
				ck_assert_uint_eq(data[i], want);
			}
			ck_assert_uint_le(probe.offset + probe.size, 7);
		}
	}
	bus_destroy(bus);
}
END_TEST

START_TEST(overlap_and_wrap_are_refused)
{
	struct probe probe = {0};
	struct bus *bus = bus_with(BUS_MMIO, 0x1000, 0x1000, &up_to_8, &probe);
	const struct {
		uint64_t base, size;
		int want;
	} cases[] = {
		{0x1000, 1, -EEXIST},	 {0x0, 0x1001, -EEXIST},   {0x1fff, 1, -EEXIST},
		{0x0, 0x10000, -EEXIST}, {0x0, 0x1000, 0},	   {0x2000, 1, 0},
		{0x5000, 0, -EINVAL},	 {UINT64_MAX, 2, -EINVAL}, {UINT64_MAX, 1, 0},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct err err = ERR_INIT;
		const struct bus_range range = {cases[i].base, cases[i].size, &up_to_8, &probe, "other"};
		ck_assert_int_eq(bus_add(bus, BUS_MMIO, &range, &err), cases[i].want);
	}
	struct err err = ERR_INIT;
	const struct bus_range port = {0xffff, 2, &up_to_8, &probe, "other"};
	ck_assert_int_eq(bus_add(bus, BUS_PIO, &port, &err), -EINVAL);
	bus_destroy(bus);
	bus_destroy(NULL);
}
END_TEST

TEST_MAIN("bus", unclaimed_reads_all_ones_and_is_counted, wide_access_is_split_low_address_first,
	  access_across_the_end_is_half_ours, below_minimum_reads_ones, every_offset_and_size_stays_inside,
	  overlap_and_wrap_are_refused)
