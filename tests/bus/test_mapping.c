/* Ranges that move: who answers where they overlap, what a lookup sees meanwhile, doorbells. */
#include "base/cleanup.h"
#include "bus/bus.h"
#include "harness.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* Answers with its own number in every byte, and counts. */
struct owner {
	uint8_t number;
	_Atomic unsigned reads, writes;
};

static uint64_t owner_read(void *arg, uint64_t offset, unsigned size)
{
	struct owner *owner = arg;
	(void)offset, (void)size;
	owner->reads++;
	return owner->number * 0x0101010101010101ULL;
}

static void owner_write(void *arg, uint64_t offset, unsigned size, uint64_t value)
{
	struct owner *owner = arg;
	(void)offset, (void)size, (void)value;
	owner->writes++;
}

static const struct bus_ops any_size = {owner_read, owner_write, 1, 8};
static const struct bus_ops dwords = {owner_read, owner_write, 4, 4};
static const struct bus_ops up_to_words = {owner_read, owner_write, 1, 2};

static struct bus *new_bus(void)
{
	struct bus *bus = NULL;
	struct err err = ERR_INIT;
	ck_assert_int_eq(bus_create(&bus, &err), 0);
	return bus;
}

static struct bus_mapping *new_mapping(struct bus *bus, uint64_t size, struct owner *owner)
{
	struct bus_mapping *mapping = NULL;
	struct err err = ERR_INIT;
	const struct bus_range range = {0, size, &any_size, owner, "mapping"};
	ck_assert_int_eq(bus_mapping_create(bus, BUS_MMIO, &range, &mapping, &err), 0);
	return mapping;
}

static uint8_t answer(struct bus *bus, uint64_t address)
{
	uint8_t value = 0;
	bus_read(bus, BUS_MMIO, address, &value, 1);
	return value;
}

START_TEST(mapping_comes_moves_and_goes)
{
	struct bus *bus = new_bus();
	struct owner owner = {.number = 1};
	struct bus_mapping *mapping = new_mapping(bus, 0x1000, &owner);
	ck_assert_uint_eq(answer(bus, 0), 0xff); /* hidden at first */
	bus_mapping_move(mapping, 0x10000);
	ck_assert_uint_eq(answer(bus, 0xffff), 0xff);
	ck_assert_uint_eq(answer(bus, 0x10000), 1);
	ck_assert_uint_eq(answer(bus, 0x10fff), 1);
	ck_assert_uint_eq(answer(bus, 0x11000), 0xff);
	bus_mapping_move(mapping, 0x10800);
	ck_assert_uint_eq(answer(bus, 0x10000), 0xff);
	ck_assert_uint_eq(answer(bus, 0x117ff), 1);
	bus_mapping_hide(mapping);
	bus_mapping_hide(mapping);
	ck_assert_uint_eq(answer(bus, 0x10800), 0xff);
	bus_mapping_move(mapping, 0);
	ck_assert_uint_eq(answer(bus, 0), 1);
	bus_mapping_move(mapping, UINT64_MAX - 0xfff);
	ck_assert_uint_eq(answer(bus, UINT64_MAX), 1);
	bus_mapping_move(mapping, UINT64_MAX - 0xffe); /* it would wrap: nowhere */
	ck_assert_uint_eq(answer(bus, UINT64_MAX), 0xff);
	bus_mapping_destroy(mapping);
	bus_mapping_destroy(NULL);
	bus_destroy(bus);
}
END_TEST

START_TEST(last_moved_wins_and_gives_back)
{
	struct bus *bus = new_bus();
	struct owner a = {.number = 1}, b = {.number = 2}, c = {.number = 3};
	struct bus_mapping *large = new_mapping(bus, 0x10000, &a);
	struct bus_mapping *small = new_mapping(bus, 0x1000, &b);
	struct bus_mapping *same = new_mapping(bus, 0x10000, &c);
	bus_mapping_move(large, 0x100000);
	bus_mapping_move(small, 0x108000);
	ck_assert_uint_eq(answer(bus, 0x107fff), 1);
	ck_assert_uint_eq(answer(bus, 0x108000), 2);
	ck_assert_uint_eq(answer(bus, 0x108fff), 2);
	ck_assert_uint_eq(answer(bus, 0x109000), 1);
	bus_mapping_move(same, 0x100000);
	ck_assert_uint_eq(answer(bus, 0x108000), 3);
	ck_assert_uint_eq(answer(bus, 0x10ffff), 3);
	bus_mapping_move(small, 0x108000); /* where it was: no move */
	ck_assert_uint_eq(answer(bus, 0x108000), 3);
	bus_mapping_move(small, 0x108800);
	ck_assert_uint_eq(answer(bus, 0x108800), 2);
	bus_mapping_hide(same);
	ck_assert_uint_eq(answer(bus, 0x108000), 1);
	bus_mapping_destroy(small);
	ck_assert_uint_eq(answer(bus, 0x108800), 1);
	bus_mapping_destroy(large);
	bus_mapping_destroy(same);
	bus_destroy(bus);
}
END_TEST

START_TEST(fixed_wins_over_mappings)
{
	struct bus *bus = new_bus();
	struct owner board = {.number = 1}, bar = {.number = 2};
	struct err err = ERR_INIT;
	const struct bus_range range = {0x2000, 0x1000, &any_size, &board, "board"};
	struct bus_mapping *mapping = new_mapping(bus, 0x10000, &bar);
	bus_mapping_move(mapping, 0);
	ck_assert_int_eq(bus_add(bus, BUS_MMIO, &range, &err), 0); /* a mapping is no obstacle */
	ck_assert_uint_eq(answer(bus, 0x1fff), 2);
	ck_assert_uint_eq(answer(bus, 0x2000), 1);
	ck_assert_uint_eq(answer(bus, 0x3000), 2);
	bus_mapping_move(mapping, 0x1000);
	ck_assert_uint_eq(answer(bus, 0x2fff), 1);
	bus_mapping_destroy(mapping);
	bus_destroy(bus);
}
END_TEST

START_TEST(two_share_an_address_by_size)
{
	struct bus *bus = new_bus();
	struct owner host = {.number = 1}, reset = {.number = 2};
	struct err err = ERR_INIT;
	const struct bus_range bytes = {0xcf8, 4, &up_to_words, &reset, "reset"};
	const struct bus_range whole = {0xcf8, 4, &dwords, &host, "address"};
	const struct bus_range clash = {0xcf8, 4, &any_size, &host, "clash"};
	ck_assert_int_eq(bus_add(bus, BUS_PIO, &bytes, &err), 0);
	ck_assert_int_eq(bus_add(bus, BUS_PIO, &whole, &err), 0);
	ck_assert_int_eq(bus_add(bus, BUS_PIO, &clash, &err), -EEXIST);
	uint32_t value = 0;
	bus_read(bus, BUS_PIO, 0xcf8, &value, 4);
	ck_assert_uint_eq(value, 0x02020202); /* the first that was added: it takes two words */
	ck_assert_uint_eq(host.reads, 0);
	bus_destroy(bus);

	bus = new_bus();
	reset.reads = 0;
	ck_assert_int_eq(bus_add(bus, BUS_PIO, &whole, &err), 0);
	ck_assert_int_eq(bus_add(bus, BUS_PIO, &bytes, &err), 0);
	bus_read(bus, BUS_PIO, 0xcf8, &value, 4);
	ck_assert_uint_eq(value, 0x01010101);
	bus_read(bus, BUS_PIO, 0xcf9, &value, 1);
	ck_assert_uint_eq(value, 0x01010102);
	bus_read(bus, BUS_PIO, 0xcfa, &value, 2);
	ck_assert_uint_eq(value, 0x01010202);
	ck_assert_uint_eq(host.reads, 1);
	bus_destroy(bus);
}
END_TEST

START_TEST(bus_has_an_end)
{
	struct bus *bus = new_bus();
	static struct bus_mapping *mappings[BUS_RANGES_MAX];
	struct bus_mapping *more = NULL;
	struct owner owner = {.number = 1};
	struct err err = ERR_INIT;
	const struct bus_range range = {0x1000, 0x1000, &any_size, &owner, "one more"};
	for (size_t i = 0; i < BUS_RANGES_MAX; i++) {
		mappings[i] = new_mapping(bus, 0x1000, &owner);
		bus_mapping_move(mappings[i], 0x1000 * (BUS_RANGES_MAX - i));
	}
	ck_assert_int_eq(bus_add(bus, BUS_MMIO, &range, &err), -ENOSPC);
	ck_assert_int_eq(bus_mapping_create(bus, BUS_MMIO, &range, &more, &err), -ENOSPC);
	ck_assert_ptr_nonnull(strstr(err.text, "one more"));
	for (uint64_t i = 0; i <= BUS_RANGES_MAX + 1; i++)
		ck_assert_uint_eq(answer(bus, 0x1000 * i), i >= 1 && i <= BUS_RANGES_MAX ? 1 : 0xff);
	bus_mapping_destroy(mappings[7]);
	mappings[7] = new_mapping(bus, 0x1000, &owner); /* its place is free again */
	for (size_t i = 0; i < BUS_RANGES_MAX; i++)
		bus_mapping_destroy(mappings[i]);
	ck_assert_uint_eq(answer(bus, 0x1000), 0xff);
	bus_destroy(bus);
}
END_TEST

/* What overlaps and what does not, against a plain list that is searched from its end. */
START_TEST(any_order_is_as_a_list_says)
{
	enum { COUNT = 9, STEPS = 4000 };
	struct bus *bus = new_bus();
	struct owner owners[COUNT];
	struct bus_mapping *mappings[COUNT];
	struct {
		uint64_t base, size, moved; /* moved 0: hidden */
	} model[COUNT];
	uint32_t random = 12345;
	for (uint8_t i = 0; i < COUNT; i++) {
		owners[i] = (struct owner){.number = i};
		model[i].size = 1ULL << (4 + i);
		model[i].moved = 0;
		mappings[i] = new_mapping(bus, model[i].size, &owners[i]);
	}
	for (uint64_t step = 1; step < STEPS; step++) {
		random = random * 1664525 + 1013904223;
		size_t at = (random >> 8) % COUNT;
		uint64_t base = (random >> 16) & 0xff0;
		if (random >> 30 == 0) {
			bus_mapping_hide(mappings[at]);
			model[at].moved = 0;
		} else {
			bus_mapping_move(mappings[at], base);
			if (!model[at].moved || model[at].base != base)
				model[at].moved = step;
			model[at].base = base;
		}
		for (uint64_t address = random & 15; address < 0x2800; address += 61) {
			uint8_t want = 0xff;
			uint64_t moved = 0;
			for (uint8_t i = 0; i < COUNT; i++)
				if (model[i].moved > moved && address - model[i].base < model[i].size)
					want = i, moved = model[i].moved;
			ck_assert_uint_eq(answer(bus, address), want);
		}
	}
	for (size_t i = 0; i < COUNT; i++)
		bus_mapping_destroy(mappings[i]);
	bus_destroy(bus);
}
END_TEST

static uint64_t rings(int fd)
{
	uint64_t count = 0;
	return read(fd, &count, sizeof(count)) == (ssize_t)sizeof(count) ? count : 0;
}

START_TEST(doorbells_ring_where_the_mapping_is)
{
	struct bus *bus = new_bus();
	struct owner owner = {.number = 1};
	struct bus_mapping *mapping = new_mapping(bus, 0x1000, &owner);
	int word = eventfd(0, EFD_NONBLOCK), any = eventfd(0, EFD_NONBLOCK);
	struct err err = ERR_INIT;
	uint64_t value = 0;
	ck_assert_int_eq(bus_doorbell_add(mapping, 0x10, 2, word, &err), 0);
	bus_mapping_move(mapping, 0x1000);
	ck_assert_int_eq(bus_doorbell_add(mapping, 0x14, 0, any, &err), 0); /* while it is shown */
	bus_write(bus, BUS_MMIO, 0x1010, &value, 2);
	ck_assert_uint_eq(rings(word), 1);
	ck_assert_uint_eq(owner.writes, 0);
	bus_write(bus, BUS_MMIO, 0x1010, &value, 4); /* of another size */
	bus_write(bus, BUS_MMIO, 0x1011, &value, 1); /* beside it */
	ck_assert_uint_eq(rings(word), 0);
	ck_assert_uint_eq(owner.writes, 2);
	for (unsigned size = 1; size <= 8; size *= 2)
		bus_write(bus, BUS_MMIO, 0x1014, &value, size);
	ck_assert_uint_eq(rings(any), 4);
	bus_read(bus, BUS_MMIO, 0x1010, &value, 2); /* a read is the owner's */
	ck_assert_uint_eq(owner.reads, 1);
	bus_mapping_move(mapping, 0x8000);
	bus_write(bus, BUS_MMIO, 0x1010, &value, 2);
	bus_write(bus, BUS_MMIO, 0x8010, &value, 2);
	ck_assert_uint_eq(rings(word), 1);
	bus_mapping_hide(mapping);
	bus_write(bus, BUS_MMIO, 0x8010, &value, 2);
	ck_assert_uint_eq(rings(word), 0);
	bus_mapping_destroy(mapping);
	close(word);
	close(any);
	bus_destroy(bus);
}
END_TEST

START_TEST(doorbells_must_fit)
{
	struct bus *bus = new_bus();
	struct owner owner = {.number = 1};
	struct bus_mapping *mapping = new_mapping(bus, 0x1000, &owner);
	static const struct {
		uint64_t offset;
		unsigned size;
		int want;
	} cases[] = {{0xffe, 2, 0},	  {0xfff, 2, -EINVAL},	   {0xffe, 4, -EINVAL},
		     {0xffe, 1, -EEXIST}, {0x1000, 0, -EINVAL},	   {0xfff, 0, 0},
		     {0xfff, 1, -EEXIST}, {UINT64_MAX, 2, -EINVAL}};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct err err = ERR_INIT;
		ck_assert_int_eq(bus_doorbell_add(mapping, cases[i].offset, cases[i].size, 0, &err),
				 cases[i].want);
		ck_assert_int_eq(err.code, cases[i].want);
	}
	bus_mapping_destroy(mapping);
	bus_destroy(bus);
}
END_TEST

/*
 * Two vCPUs look while a third moves what they look for from before the board's ranges to behind them, so
 * that all of these change their places in the table each time; ThreadSanitizer looks on.
 */
enum { RACE_BOARD = 60, RACE_MOVES = 2000 };
static const uint64_t race_places[] = {0x100000, 0x900000, 0x101000, 0x901000};
#define RACE_BOARD_GPA UINT64_C(0x200000)

struct race {
	struct bus *bus;
	_Atomic bool stop;
	_Atomic unsigned seen, wrong;
};

static void *race_look(void *arg)
{
	struct race *race = arg;
	while (!race->stop) {
		for (size_t i = 0; i < ARRAY_LEN(race_places); i++) {
			uint8_t value = answer(race->bus, race_places[i] + 0x10);
			race->seen += value == 0xee;
			race->wrong += value != 0xee && value != 0xff;
			bus_write(race->bus, BUS_MMIO, race_places[i] + 8, &value, 1);
		}
		for (uint64_t i = 0; i < RACE_BOARD; i++)
			race->wrong += answer(race->bus, RACE_BOARD_GPA + i * 0x1000) != i;
	}
	return NULL;
}

START_TEST(lookups_race_with_moves)
{
	struct race race = {.bus = new_bus()};
	static struct owner board[RACE_BOARD];
	struct owner bar = {.number = 0xee};
	struct err err = ERR_INIT;
	int event_fd = eventfd(0, EFD_NONBLOCK);
	struct bus_mapping *mapping = new_mapping(race.bus, 0x1000, &bar);
	struct bus_mapping *over = new_mapping(race.bus, 0x1000, &bar);
	for (uint64_t i = 0; i < RACE_BOARD; i++) {
		board[i].number = (uint8_t)i;
		const struct bus_range fixed = {RACE_BOARD_GPA + i * 0x1000, 0x1000, &any_size, &board[i],
						"x"};
		ck_assert_int_eq(bus_add(race.bus, BUS_MMIO, &fixed, &err), 0);
	}
	ck_assert_int_eq(bus_doorbell_add(mapping, 8, 0, event_fd, &err), 0);
	pthread_t threads[2];
	for (size_t i = 0; i < ARRAY_LEN(threads); i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, race_look, &race), 0);
	for (uint64_t i = 0; i < RACE_MOVES || race.seen == 0; i++) {
		bus_mapping_move(mapping, race_places[i % ARRAY_LEN(race_places)]);
		if (i % 16 == 0)
			bus_mapping_hide(mapping);
		bus_mapping_move(over, RACE_BOARD_GPA + i % RACE_BOARD * 0x1000 + 0x800);
	}
	race.stop = true;
	for (size_t i = 0; i < ARRAY_LEN(threads); i++)
		pthread_join(threads[i], NULL);
	ck_assert_uint_eq(race.wrong, 0);
	bus_mapping_destroy(mapping);
	bus_mapping_destroy(over);
	close(event_fd);
	bus_destroy(race.bus);
}
END_TEST

TEST_MAIN("mapping", mapping_comes_moves_and_goes, last_moved_wins_and_gives_back, fixed_wins_over_mappings,
	  two_share_an_address_by_size, bus_has_an_end, any_order_is_as_a_list_says,
	  doorbells_ring_where_the_mapping_is, doorbells_must_fit, lookups_race_with_moves)
