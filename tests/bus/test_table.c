/*
 * A lookup that a writer interrupts, at every single load that it makes: the answer is one that was right
 * before or after. The table's code is compiled in here, with a load that calls the writer first.
 */
#include "base/cleanup.h"
#include "harness.h"

#include <stdatomic.h>

static void interrupt(void);

#undef atomic_load_explicit
#define atomic_load_explicit(object, order) (interrupt(), *(object))
#include "../../src/bus/table.c"

enum { FIXED = 9 };

static struct bus_table table;
static unsigned loads, interrupt_at, moves; /* at which load, how many moves of the mapping */
static bool busy;

static uint64_t nothing_read(void *owner, uint64_t offset, unsigned size)
{
	(void)owner, (void)offset, (void)size;
	return 0;
}

static const struct bus_ops ops = {nothing_read, NULL, 1, 8};
static int owners[FIXED + 1];
static struct bus_mapping *const mapping = (struct bus_mapping *)owners; /* never looked into */

static void put(uint64_t base, int owner, struct bus_mapping *whose)
{
	const struct bus_item item = {.range = {base, 0x100, &ops, &owners[owner], "range"},
				      .rank = whose ? 1 : 100,
				      .mapping = whose};
	table_insert(&table, &item);
}

/* In front of the fixed ranges, behind them, and so on: all entries change their places. */
static void move(void)
{
	static bool behind;
	behind = !behind;
	table_remove(&table, mapping);
	put(behind ? 0x9000 : 0x100, FIXED, mapping);
}

static void interrupt(void)
{
	if (busy || loads++ != interrupt_at)
		return;
	busy = true;
	for (unsigned i = 0; i < moves; i++)
		move();
	busy = false;
}

static struct bus_hit find(uint64_t address, unsigned at, unsigned how_many)
{
	loads = 0, interrupt_at = at, moves = how_many;
	return table_find(&table, address, 4);
}

/* Fixed ranges answer, whatever happens; the mapping answers where it is or was. */
static void check(uint64_t address, int owner, bool may_be_gone)
{
	for (unsigned how_many = 1; how_many <= 3; how_many++) {
		for (unsigned at = 0;; at++) {
			struct bus_hit hit = find(address, at, how_many);
			if (hit.ops) {
				ck_assert_ptr_eq(hit.ops, &ops);
				ck_assert_ptr_eq(hit.owner, &owners[owner]);
				ck_assert_uint_eq(hit.offset, address & 0xff);
				ck_assert_uint_eq(hit.piece, 4);
			} else {
				ck_assert(may_be_gone);
			}
			if (loads <= at)
				break; /* it was over before */
		}
	}
}

START_TEST(interrupted_anywhere)
{
	busy = true;
	for (int i = 0; i < FIXED; i++)
		put(0x1000 + (uint64_t)i * 0x400, i, NULL);
	put(0x100, FIXED, mapping);
	busy = false;
	for (int i = 0; i < FIXED; i++) {
		check(0x1010 + (uint64_t)i * 0x400, i, false);
		check(0x1210 + (uint64_t)i * 0x400, i, true); /* between two: nobody, ever */
	}
	check(0x120, FIXED, true);
	check(0x9020, FIXED, true);
}
END_TEST

TEST_MAIN("table", interrupted_anywhere)
