/* Pages that come when they are touched: include/memory/demand.h. */
#include "../../src/memory/impl.h"
#include "base/cleanup.h"
#include "base/layout.h"
#include "harness.h"
#include "memory/demand.h"
#include "memory/dirty.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGES = 256 };

struct rig {
	struct guest_memory *memory;
	struct demand *demand;
	int fd;
	uint64_t missing[PAGES / 64];
	struct err err;
};

/* Pages 1 to 99 and the last one are missing; each has its number in it before. */
static void rig_init(struct rig *rig, bool shared)
{
	const struct memory_config config = {.size_bytes = PAGES * 4096, .shared = shared};
	*rig = (struct rig){.err = ERR_INIT};
	rig->fd = demand_open(&rig->err);
	if (rig->fd < 0) {
		printf("skipped: %s\n", rig->err.text);
		exit(TEST_SKIP);
	}
	ck_assert_int_eq(guest_memory_create(&config, &rig->memory, &rig->err), 0);
	for (uint64_t page = 0; page < PAGES; page++)
		memset(dirty_page(rig->memory, page), (int)page, 4096);
	for (uint64_t page = 1; page < 100; page++)
		rig->missing[page / 64] |= UINT64_C(1) << page % 64;
	rig->missing[PAGES / 64 - 1] |= UINT64_C(1) << 63;
	int r = demand_create(rig->memory, rig->fd, &rig->demand, &rig->err);
	ck_assert_msg(r == 0, "%s", rig->err.text);
}

static void rig_finish(struct rig *rig)
{
	demand_destroy(rig->demand);
	(void)close_fd(rig->fd);
	guest_memory_destroy(rig->memory);
}

struct toucher {
	const uint8_t *at;
	pthread_t thread;
	_Atomic bool begun;
	uint8_t seen;
};

static void *touch(void *argument)
{
	struct toucher *toucher = argument;
	atomic_store(&toucher->begun, true);
	toucher->seen = *(const volatile uint8_t *)toucher->at;
	return NULL;
}

static void toucher_start(struct toucher *toucher, struct rig *rig, uint64_t page)
{
	*toucher = (struct toucher){.at = (const uint8_t *)dirty_page(rig->memory, page) + 7};
	ck_assert_int_eq(pthread_create(&toucher->thread, NULL, touch, toucher), 0);
	while (!atomic_load(&toucher->begun))
		continue;
}

static uint8_t toucher_end(struct toucher *toucher)
{
	pthread_join(toucher->thread, NULL);
	return toucher->seen;
}

static void check_pages(bool shared)
{
	struct rig rig;
	struct toucher touchers[2];
	uint64_t page;
	uint8_t content[4096 + 1];
	rig_init(&rig, shared);
	ck_assert_int_eq(demand_start(rig.demand, rig.missing, &rig.err), 0);
	memset(content, 0xaa, sizeof(content));
	for (uint64_t there = 100; there < PAGES - 1; there++)
		ck_assert_uint_eq(*(uint8_t *)dirty_page(rig.memory, there), (uint8_t)there);
	ck_assert_int_eq(demand_next(rig.demand, &page, 1), 0);
	for (size_t i = 0; i < 2; i++) {
		struct pollfd at = {.fd = demand_fd(rig.demand), .events = POLLIN};
		toucher_start(&touchers[i], &rig, i ? PAGES - 1 : 5);
		ck_assert_int_eq(poll(&at, 1, 10000), 1);
		ck_assert_int_eq(demand_next(rig.demand, &page, 1), 1);
		ck_assert_uint_eq(page, i ? PAGES - 1 : 5);
	}
	ck_assert_int_eq(demand_put(rig.demand, 5, content + 1), 0); /* wherever it lies */
	ck_assert_int_eq(demand_put(rig.demand, PAGES - 1, NULL), 0);
	ck_assert_uint_eq(toucher_end(&touchers[0]), 0xaa);
	ck_assert_uint_eq(toucher_end(&touchers[1]), 0);
	/* What is there stays. */
	memset(dirty_page(rig.memory, 5), 0xbb, 4096);
	ck_assert_int_eq(demand_put(rig.demand, 5, content), 0);
	ck_assert_uint_eq(*(uint8_t *)dirty_page(rig.memory, 5), 0xbb);
	demand_stop(rig.demand);
	ck_assert_uint_eq(*(uint8_t *)dirty_page(rig.memory, 6), 0);
	demand_stop(rig.demand);
	rig_finish(&rig);
}

START_TEST(pages_come_when_they_are_touched)
{
	check_pages(false);
	check_pages(true);
}
END_TEST

/* Its page could not be put there, for once. */
START_TEST(who_is_woken_without_a_page_asks_again)
{
	struct rig rig;
	struct toucher toucher;
	rig_init(&rig, false);
	ck_assert_int_eq(demand_start(rig.demand, rig.missing, &rig.err), 0);
	struct pollfd at = {.fd = demand_fd(rig.demand), .events = POLLIN};
	toucher_start(&toucher, &rig, 9);
	for (int i = 0; i < 3; i++) {
		uint64_t page = 0;
		ck_assert_int_eq(poll(&at, 1, 10000), 1);
		ck_assert_int_eq(demand_next(rig.demand, &page, 1), 1);
		ck_assert_uint_eq(page, 9);
		if (i < 2)
			demand_wake(rig.demand, page);
	}
	ck_assert_int_eq(demand_put(rig.demand, 9, NULL), 0);
	ck_assert_uint_eq(toucher_end(&toucher), 0);
	rig_finish(&rig);
}
END_TEST

/* The kernel wakes them before it forgets the registration: who is quick stands before the same page again.
 */
START_TEST(nobody_stands_for_ever_when_it_stops)
{
	for (unsigned i = 0; i < 120; i++) {
		struct rig rig;
		struct toucher touchers[3];
		rig_init(&rig, i % 2);
		ck_assert_int_eq(demand_start(rig.demand, rig.missing, &rig.err), 0);
		for (size_t t = 0; t < ARRAY_LEN(touchers); t++)
			toucher_start(&touchers[t], &rig, t + 1);
		for (volatile unsigned wait = 0; wait < i % 50 * 200; wait++)
			continue;
		demand_stop(rig.demand);
		for (size_t t = 0; t < ARRAY_LEN(touchers); t++)
			ck_assert_uint_eq(toucher_end(&touchers[t]), 0);
		rig_finish(&rig);
	}
}
END_TEST

static void refuses(struct guest_memory *memory, const char *why)
{
	struct demand *demand = NULL;
	struct err err = ERR_INIT;
	int fd = demand_open(&err);
	ck_assert_int_eq(demand_create(memory, fd, &demand, &err), -ENOTSUP);
	ck_assert_str_eq(err.text, why);
	ck_assert_ptr_null(demand);
	(void)close_fd(fd);
}

START_TEST(some_memory_cannot)
{
	const struct memory_config config = {.size_bytes = 2 * MIB};
	struct guest_memory *memory = NULL;
	struct err err = ERR_INIT;
	_cleanup_close_ int file = memfd_create("ram", MFD_CLOEXEC);
	ck_assert_int_eq(ftruncate(file, 2 * MIB), 0);
	ck_assert_int_eq(guest_memory_create(&config, &memory, &err), 0);
	memory->page_bytes = 2 * MIB; /* hosts seldom have huge pages to spare */
	refuses(memory, "memory.hugepages: pages come singly in post-copy, huge ones cannot; use \"off\"");
	memory->page_bytes = 4096;
	ck_assert_int_eq(guest_memory_map_file(memory, file, &err), 0);
	refuses(memory, "post-copy: RAM is a mapping of a file");
	guest_memory_destroy(memory);
}
END_TEST

TEST_MAIN("demand", pages_come_when_they_are_touched, who_is_woken_without_a_page_asks_again,
	  nobody_stands_for_ever_when_it_stops, some_memory_cannot)
