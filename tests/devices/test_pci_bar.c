/* BARs: where they are at first, sizing, moving them at any time, doorbells in them. */
#include "harness.h"
#include "pci_bench.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { FUNCTION = 1, MEMORY = 2 };

static uint32_t mmio(struct bench *bench, uint64_t gpa)
{
	return bench_get(bench, BUS_MMIO, gpa, 4);
}

static void decode(struct bench *bench, bool on)
{
	conf_set(bench, FUNCTION, 0x04, 2, on ? MEMORY : 0);
}

START_TEST(bars_have_addresses_but_do_not_decode)
{
	struct bench bench;
	bench_init(&bench);
	ck_assert_uint_eq(conf_get(&bench, FUNCTION, 0x10, 4), 0xc0000000);
	ck_assert_uint_eq(conf_get(&bench, FUNCTION, 0x14, 4), 0);
	ck_assert_uint_eq(conf_get(&bench, FUNCTION, 0x18, 4), 0x0000000c);
	ck_assert_uint_eq(conf_get(&bench, FUNCTION, 0x1c, 4), 0x00000001);
	ck_assert_uint_eq(conf_get(&bench, FUNCTION, 0x20, 4), 0xc0001000);
	ck_assert_uint_eq(mmio(&bench, 0xc0000010), 0xffffffff);
	decode(&bench, true);
	ck_assert_uint_eq(mmio(&bench, 0xc0000010), 0x10);
	ck_assert_uint_eq(mmio(&bench, 0x1000ffffc), 0xffffc);
	ck_assert_uint_eq(mmio(&bench, 0xc000100c), 1); /* MSI-X vector 0 is masked */
	decode(&bench, false);
	ck_assert_uint_eq(mmio(&bench, 0xc0000010), 0xffffffff);
	ck_assert_uint_eq(mmio(&bench, 0x100000000), 0xffffffff);
	ck_assert_uint_eq(mmio(&bench, 0xc000100c), 0xffffffff);
	ck_assert_uint_eq(bench.bar[0].reads, 1);
	bench_finish(&bench);
}
END_TEST

START_TEST(sizing_as_systems_do_it)
{
	struct bench bench;
	bench_init(&bench);
	static const struct {
		uint32_t offset, want;
	} cases[] = {{0x10, 0xfffff000}, {0x14, 0}, {0x18, 0xfff0000c}, {0x1c, 0xffffffff},
		     {0x20, 0xfffff000}, {0x24, 0}, {0x30, 0}};
	for (unsigned on = 0; on < 2; on++) {
		decode(&bench, on);
		for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
			uint32_t before = conf_get(&bench, FUNCTION, cases[i].offset, 4);
			conf_set(&bench, FUNCTION, cases[i].offset, 4, 0xffffffff);
			ck_assert_uint_eq(conf_get(&bench, FUNCTION, cases[i].offset, 4), cases[i].want);
			/* With decoding on, all ones is no place to be. */
			if (cases[i].offset == 0x10)
				ck_assert_uint_eq(mmio(&bench, 0xfffff010), 0xffffffff);
			conf_set(&bench, FUNCTION, cases[i].offset, 4, before);
		}
		ck_assert_uint_eq(conf_bar(&bench, FUNCTION, 0), 0xc0000000);
		ck_assert_uint_eq(conf_bar(&bench, FUNCTION, 2), 0x100000000);
	}
	ck_assert_uint_eq(mmio(&bench, 0xc0000010), 0x10);
	ck_assert_uint_eq(mmio(&bench, 0x100000010), 0x10);
	bench_finish(&bench);
}
END_TEST

START_TEST(bars_move_while_they_decode)
{
	struct bench bench;
	bench_init(&bench);
	decode(&bench, true);
	conf_set(&bench, FUNCTION, 0x10, 4, 0xd0000fff); /* low bits do not stick */
	ck_assert_uint_eq(conf_get(&bench, FUNCTION, 0x10, 4), 0xd0000000);
	ck_assert_uint_eq(mmio(&bench, 0xc0000010), 0xffffffff);
	ck_assert_uint_eq(mmio(&bench, 0xd0000ffc), 0xffc);
	/* A 64-bit BAR moves with each of its halves, byte by byte if need be. */
	conf_set(&bench, FUNCTION, 0x1c, 4, 0x12);
	ck_assert_uint_eq(mmio(&bench, 0x1200000010), 0x10);
	conf_set(&bench, FUNCTION, 0x1b, 1, 0x80);
	ck_assert_uint_eq(mmio(&bench, 0x1200000010), 0xffffffff);
	ck_assert_uint_eq(mmio(&bench, 0x1280000010), 0x10);
	conf_set(&bench, FUNCTION, 0x1c, 4, 0);
	ck_assert_uint_eq(mmio(&bench, 0x80000010), 0x10);
	bench_finish(&bench);
}
END_TEST

START_TEST(some_places_are_none)
{
	struct bench bench;
	bench_init(&bench);
	decode(&bench, true);
	conf_set(&bench, FUNCTION, 0x10, 4, 0);
	ck_assert_uint_eq(mmio(&bench, 0x10), 0xffffffff);
	conf_set(&bench, FUNCTION, 0x10, 4, 0xffffe000); /* the last place but one is one */
	ck_assert_uint_eq(mmio(&bench, 0xffffe010), 0x10);
	conf_set(&bench, FUNCTION, 0x18, 4, 0xffffffff);
	conf_set(&bench, FUNCTION, 0x1c, 4, 0xffffffff);
	ck_assert_uint_eq(bench_get(&bench, BUS_MMIO, 0xfffffffffff00010, 4), 0xffffffff);
	conf_set(&bench, FUNCTION, 0x18, 4, 0xffe00000);
	ck_assert_uint_eq(bench_get(&bench, BUS_MMIO, 0xffffffffffe00010, 4), 0x10);
	bench_finish(&bench);
}
END_TEST

START_TEST(the_board_wins_over_bars)
{
	struct bench bench;
	bench_init(&bench);
	decode(&bench, true);
	conf_set(&bench, FUNCTION, 0x10, 4, LAYOUT_ECAM_GPA);
	ck_assert_uint_eq(mmio(&bench, LAYOUT_ECAM_GPA), 0x00081b36);
	conf_set(&bench, FUNCTION, 0x10, 4, 0xc0000000); /* by ECAM: still there */
	ck_assert_uint_eq(mmio(&bench, 0xc0000010), 0x10);
	/* Of two BARs at one place the one that came last answers; then the other is back. */
	conf_set(&bench, FUNCTION, 0x20, 4, 0xc0000000);
	ck_assert_uint_eq(mmio(&bench, 0xc000000c), 1);
	conf_set(&bench, FUNCTION, 0x20, 4, 0xc8000000);
	ck_assert_uint_eq(mmio(&bench, 0xc000000c), 0xc);
	bench_finish(&bench);
}
END_TEST

START_TEST(reset_brings_them_home)
{
	struct bench bench;
	bench_init(&bench);
	decode(&bench, true);
	conf_set(&bench, FUNCTION, 0x10, 4, 0xd0000000);
	conf_set(&bench, FUNCTION, 0x3c, 1, 7);
	pci_function_reset(bench.function);
	ck_assert_uint_eq(mmio(&bench, 0xd0000010), 0xffffffff);
	ck_assert_uint_eq(conf_get(&bench, FUNCTION, 0x04, 2), 0);
	ck_assert_uint_eq(conf_get(&bench, FUNCTION, 0x3c, 1), 0x11);
	decode(&bench, true);
	ck_assert_uint_eq(mmio(&bench, 0xc0000010), 0x10);
	bench_finish(&bench);
}
END_TEST

/* Natural alignment, no overlap, within the windows that ACPI declares. */
START_TEST(homes_are_apart)
{
	static const uint64_t rams[] = {64 * MIB, 3 * GIB, 3 * GIB + 4096, 6 * GIB + 12345, 1000 * GIB};
	for (size_t ram = 0; ram < ARRAY_LEN(rams); ram++) {
		struct bench bench;
		struct pci_function *functions[12] = {NULL};
		uint64_t ram_end = layout_ram_end_gpa(rams[ram]), window = layout_pci64_gpa(ram_end);
		bench_bus_init(&bench, ram_end);
		ck_assert(window >= ram_end && window >= 4 * GIB && window % GIB == 0);
		for (uint32_t i = 0; i < ARRAY_LEN(functions); i++) {
			struct pci_spec spec = bench_spec(&bench);
			spec.bars[0].size = 1ULL << (4 + (i * 7) % 23);
			spec.bars[2].size = 1ULL << (4 + (i * 5) % 30);
			ck_assert_int_eq(pci_function_create(bench.pci, &spec, &functions[i], &bench.err), 0);
		}
		struct place {
			uint64_t gpa, size;
		} places[3 * ARRAY_LEN(functions)];
		size_t count = 0;
		for (uint32_t i = 0; i < ARRAY_LEN(functions); i++)
			for (unsigned bar = 0; bar <= 4; bar += 2) {
				uint64_t size = bar == 0   ? 1ULL << (4 + (i * 7) % 23)
						: bar == 2 ? 1ULL << (4 + (i * 5) % 30)
							   : 4096;
				uint64_t gpa = conf_bar(&bench, i + 1, bar);
				ck_assert_uint_eq(gpa % size, 0);
				if (bar == 2)
					ck_assert(gpa >= window && gpa + size <= window + LAYOUT_PCI64_BYTES);
				else
					ck_assert((gpa >= 0xc0000000 && gpa + size <= 0xe0000000) ||
						  (gpa >= 0xf0000000 && gpa + size <= 0xfec00000));
				for (size_t j = 0; j < count; j++)
					ck_assert(places[j].gpa + places[j].size <= gpa ||
						  gpa + size <= places[j].gpa);
				places[count++] = (struct place){gpa, size};
			}
		for (size_t i = 0; i < ARRAY_LEN(functions); i++)
			pci_function_destroy(functions[i]);
		bench_finish(&bench);
	}
}
END_TEST

START_TEST(address_space_ends_and_comes_back)
{
	struct bench bench;
	struct pci_function *functions[PCI_SLOTS] = {NULL};
	bench_bus_init(&bench, 1 * GIB);
	struct pci_spec spec = {.name = "large",
				.bars = {[0] = {.size = 128 * MIB,
						.ops = &bench_bar_ops,
						.owner = &bench.bar[0],
						.name = "l"}}};
	static const uint32_t want[] = {0xc0000000, 0xc8000000, 0xd0000000, 0xd8000000, 0xf0000000};
	uint32_t count = 0;
	for (; count < ARRAY_LEN(want); count++) {
		ck_assert_int_eq(pci_function_create(bench.pci, &spec, &functions[count], &bench.err), 0);
		ck_assert_uint_eq(conf_bar(&bench, count + 1, 0), want[count]);
	}
	struct pci_function *more = NULL;
	ck_assert_int_eq(pci_function_create(bench.pci, &spec, &more, &bench.err), -ENOSPC);
	pci_function_destroy(functions[2]);
	ck_assert_int_eq(pci_function_create(bench.pci, &spec, &functions[2], &bench.err), 0);
	ck_assert_uint_eq(conf_bar(&bench, 3, 0), 0xd0000000);
	for (uint32_t i = 0; i < count; i++)
		pci_function_destroy(functions[i]);
	bench_finish(&bench);
}
END_TEST

static uint64_t rings(int fd)
{
	eventfd_t count = 0;
	return eventfd_read(fd, &count) == 0 ? count : 0;
}

START_TEST(doorbells_follow)
{
	struct bench bench;
	bench_init(&bench);
	int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	ck_assert_int_eq(pci_doorbell_add(bench.function, 2, 0x3000, 2, fd, &bench.err), 0);
	bench_set(&bench, BUS_MMIO, 0x100003000, 2, 0);
	ck_assert_uint_eq(rings(fd), 0);
	decode(&bench, true);
	bench_set(&bench, BUS_MMIO, 0x100003000, 2, 0);
	ck_assert_uint_eq(rings(fd), 1);
	conf_set(&bench, FUNCTION, 0x1c, 4, 0x20);
	bench_set(&bench, BUS_MMIO, 0x100003000, 2, 0);
	ck_assert_uint_eq(rings(fd), 0);
	bench_set(&bench, BUS_MMIO, 0x2000003000, 2, 0);
	ck_assert_uint_eq(rings(fd), 1);
	ck_assert_uint_eq(bench.bar[2].writes, 0);
	decode(&bench, false);
	bench_set(&bench, BUS_MMIO, 0x2000003000, 2, 0);
	ck_assert_uint_eq(rings(fd), 0);
	ck_assert_int_eq(pci_doorbell_add(bench.function, 2, 0x3000, 2, fd, &bench.err), -EEXIST);
	ck_assert_int_eq(pci_doorbell_add(bench.function, 1, 0, 2, fd, &bench.err), -EEXIST);
	bench.err = ERR_INIT;
	ck_assert_int_eq(pci_doorbell_add(bench.function, 3, 0, 2, fd, &bench.err), -EINVAL);
	ck_assert_int_eq(pci_doorbell_add(bench.function, 6, 0, 2, fd, &bench.err), -EINVAL);
	bench_finish(&bench);
	close(fd);
}
END_TEST

/* One vCPU moves, sizes and disables BARs, others use them; ThreadSanitizer looks on. */
struct race {
	struct bench *bench;
	_Atomic bool stop;
	_Atomic unsigned wrong;
};

static void *race_use(void *arg)
{
	struct race *race = arg;
	while (!race->stop) {
		static const uint64_t places[] = {0xc0000010, 0xc8000010, 0x100000010, 0x2000000010};
		for (size_t i = 0; i < ARRAY_LEN(places); i++) {
			uint32_t value = mmio(race->bench, places[i]);
			race->wrong += value != 0x10 && value != 0xffffffff;
		}
		bench_set(race->bench, BUS_MMIO, 0xc000100c, 4, 0);
		pci_msix_signal(race->bench->function, 0);
		pci_intx_set(race->bench->function, true);
		pci_intx_set(race->bench->function, false);
		(void)conf_get(race->bench, FUNCTION, 0x04, 4);
	}
	return NULL;
}

START_TEST(moves_race_with_accesses)
{
	struct bench bench;
	bench_init(&bench);
	struct race race = {.bench = &bench};
	pthread_t threads[2];
	for (size_t i = 0; i < ARRAY_LEN(threads); i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, race_use, &race), 0);
	for (uint32_t i = 0; i < 5000; i++) {
		decode(&bench, i % 8 != 7);
		conf_set(&bench, FUNCTION, 0x10, 4, i % 2 ? 0xc8000000 : 0xc0000000);
		conf_set(&bench, FUNCTION, 0x18, 4, 0xffffffff);
		conf_set(&bench, FUNCTION, 0x18, 4, 0);
		conf_set(&bench, FUNCTION, 0x1c, 4, i % 3 ? 0x20 : 1);
		conf_set(&bench, FUNCTION, 0x7e, 2, i % 5 ? 0x8000 : 0xc000);
		if (i % 100 == 0)
			pci_function_reset(bench.function);
	}
	race.stop = true;
	for (size_t i = 0; i < ARRAY_LEN(threads); i++)
		pthread_join(threads[i], NULL);
	ck_assert_uint_eq(race.wrong, 0);
	bench_finish(&bench);
}
END_TEST

TEST_MAIN("pci_bar", bars_have_addresses_but_do_not_decode, sizing_as_systems_do_it,
	  bars_move_while_they_decode, some_places_are_none, the_board_wins_over_bars, reset_brings_them_home,
	  homes_are_apart, address_space_ends_and_comes_back, doorbells_follow, moves_race_with_accesses)
