/* Power states, function-level reset, and configuration accesses of two vCPUs at once. */
#include "harness.h"
#include "pci_bench.h"

#include <pthread.h>
#include <sched.h>

enum { FUNCTION = 1, GSI = 17, COMMAND = 0x04, D3HOT = 3 };

static uint32_t power_at(struct bench *bench)
{
	uint32_t at = conf_capability(bench, FUNCTION, 0x01);
	ck_assert_uint_ne(at, 0);
	return at + 4;
}

START_TEST(power_capability_after_reset)
{
	struct bench bench;
	bench_init(&bench);
	ck_assert_uint_eq(conf_get(&bench, FUNCTION, power_at(&bench) - 2, 2), 3); /* D0, D3hot; no PME */
	ck_assert_uint_eq(conf_get(&bench, FUNCTION, power_at(&bench), 4), 8);
	ck_assert_uint_eq(conf_capability(&bench, 0, 0x01), 0); /* a host bridge has none */
	bench_finish(&bench);
}
END_TEST

START_TEST(states_that_there_are_not_change_nothing)
{
	struct bench bench;
	bench_init(&bench);
	uint32_t at = power_at(&bench);
	static const uint8_t steps[][2] = {{1, 0}, {2, 0}, {3, 3}, {1, 3}, {2, 3}, {0, 0}};
	for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
		conf_set(&bench, FUNCTION, at, 2, 0xfffc | steps[i][0]);
		ck_assert_uint_eq(conf_get(&bench, FUNCTION, at, 4), 8U | steps[i][1]);
	}
	bench_finish(&bench);
}
END_TEST

START_TEST(in_d3hot_it_neither_answers_nor_interrupts)
{
	struct bench bench;
	bench_init(&bench);
	uint32_t at = power_at(&bench), msix = conf_capability(&bench, FUNCTION, 0x11);
	uint64_t bar = conf_bar(&bench, FUNCTION, 0), table = conf_bar(&bench, FUNCTION, 4);
	conf_set(&bench, FUNCTION, COMMAND, 2, 2);
	ck_assert_uint_eq(bench_get(&bench, BUS_MMIO, bar + 8, 4), 8);
	pci_intx_set(bench.function, true);
	ck_assert_uint_eq(bench.irq.sources[GSI], 1U << FUNCTION);
	conf_set(&bench, FUNCTION, at, 1, D3HOT);
	ck_assert_uint_eq(bench.irq.sources[GSI], 0);
	ck_assert_uint_eq(bench_get(&bench, BUS_MMIO, bar + 8, 4), 0xffffffff);
	conf_set(&bench, FUNCTION, COMMAND, 2, 6); /* nor after this */
	ck_assert_uint_eq(bench_get(&bench, BUS_MMIO, bar + 8, 4), 0xffffffff);
	conf_set(&bench, FUNCTION, at, 1, 0);
	ck_assert_uint_eq(bench.irq.sources[GSI], 1U << FUNCTION);
	ck_assert_uint_eq(bench_get(&bench, BUS_MMIO, bar + 8, 4), 8);
	/* A message waits until it is awake, and everything is as it was then. */
	bench_set(&bench, BUS_MMIO, table, 4, 0xfee00000);
	bench_set(&bench, BUS_MMIO, table + 12, 4, 0);
	conf_set(&bench, FUNCTION, msix + 2, 2, 0x8000);
	conf_set(&bench, FUNCTION, at, 1, D3HOT);
	pci_msix_signal(bench.function, 0);
	ck_assert_uint_eq(bench.msi.count, 0);
	conf_set(&bench, FUNCTION, at, 1, 0);
	ck_assert_uint_eq(bench.msi.count, 1);
	bench_finish(&bench);
}
END_TEST

static void count_reset(void *owner)
{
	struct bench *bench = owner;
	bench->written++;
	pci_intx_set(bench->function, false); /* as virtio does it: may be called from there */
}

START_TEST(function_level_reset)
{
	struct bench bench;
	bench_bus_init(&bench, GIB);
	struct pci_spec spec = bench_spec(&bench);
	spec.reset = count_reset;
	ck_assert_int_eq(pci_function_create(bench.pci, &spec, &bench.function, &bench.err), 0);
	uint32_t at = conf_capability(&bench, FUNCTION, 0x10), fresh[64];
	ck_assert_uint_eq(conf_get(&bench, FUNCTION, at + 4, 4), 0x10008000);
	for (uint32_t i = 0; i < 64; i++)
		fresh[i] = conf_get(&bench, FUNCTION, 4 * i, 4);
	conf_set(&bench, FUNCTION, at + 8, 2, 0x0810); /* without the bit: no reset */
	ck_assert_uint_eq(bench.written, 0);
	static const struct {
		uint32_t offset;
		unsigned size;
		uint32_t value;
	} ways[] = {{8, 2, 0xa810}, {8, 4, 0x0000a810}, {9, 1, 0xa8}};
	for (unsigned i = 0; i < ARRAY_LEN(ways); i++) {
		conf_set(&bench, FUNCTION, COMMAND, 2, 6);
		conf_set(&bench, FUNCTION, 0x10, 4, 0xd0000000);
		conf_set(&bench, FUNCTION, power_at(&bench), 1, D3HOT);
		conf_set(&bench, FUNCTION, conf_capability(&bench, FUNCTION, 0x11) + 2, 2, 0x8000);
		conf_set(&bench, FUNCTION, at + ways[i].offset, ways[i].size, ways[i].value);
		ck_assert_uint_eq(bench.written, i + 1);
		for (uint32_t dword = 0; dword < 64; dword++)
			ck_assert_uint_eq(conf_get(&bench, FUNCTION, 4 * dword, 4), fresh[dword]);
	}
	bench_finish(&bench);
}
END_TEST

/* ---- two vCPUs ---- */

enum { READS = 20000 };

static struct bench shared;
static uint32_t window;
static _Atomic unsigned seen[2 * READS + 1];

/* What is refreshed for a read is what that read returns, so that nothing is seen twice or not at all. */
static void refresh(void *owner, uint8_t offset, unsigned size)
{
	struct bench *bench = owner;
	(void)offset;
	(void)size;
	uint32_t value = ++bench->read;
	pci_capability_set(bench->function, (uint8_t)window, &value, sizeof(value));
	if (value % 32 == 0)
		(void)sched_yield(); /* the other one, if it could, would come in between */
}

static void *read_window(void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < READS; i++) {
		uint32_t value = conf_get(&shared, FUNCTION, window, 4);
		ck_assert_uint_le(value, 2 * READS);
		seen[value]++;
	}
	return NULL;
}

START_TEST(reads_of_two_vcpus_do_not_mix)
{
	static const uint8_t body[18], mask[18] = {[2] = 0xff, [3] = 0xff, [4] = 0xff, [5] = 0xff};
	pthread_t threads[2];
	bench_bus_init(&shared, GIB);
	struct pci_spec spec = bench_spec(&shared);
	spec.capability_read = refresh;
	ck_assert_int_eq(pci_function_create(shared.pci, &spec, &shared.function, &shared.err), 0);
	window = 4 + (uint32_t)pci_capability_add(shared.function, 0x09, body, sizeof(body), mask);
	for (unsigned i = 0; i < 2; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, read_window, NULL), 0);
	for (unsigned i = 0; i < 2; i++)
		ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
	for (unsigned i = 1; i <= 2 * READS; i++)
		ck_assert_msg(seen[i] == 1, "value %u was seen %u times", i, seen[i]);
	bench_finish(&shared);
}
END_TEST

TEST_MAIN("pci_power", power_capability_after_reset, states_that_there_are_not_change_nothing,
	  in_d3hot_it_neither_answers_nor_interrupts, function_level_reset, reads_of_two_vcpus_do_not_mix)
