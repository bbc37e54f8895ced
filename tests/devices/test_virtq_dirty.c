/* Whatever a queue or a disk writes to RAM is found by dirty tracking: the pages are compared. */
#include "blk_rig.h"
#include "memory/dirty.h"

#define rig	    queue_rig /* two rigs, each with these names */
#define rig_init    queue_rig_init
#define rig_init_at queue_rig_init_at
#define rig_finish  queue_rig_finish
#include "virtq_rig.h"
#undef rig
#undef rig_init
#undef rig_init_at
#undef rig_finish

enum { PAGE = DIRTY_PAGE_BYTES, WATCHED_PAGES = 64 };

/* What a stretch of RAM was, and who says that it changed. */
struct watch {
	struct guest_memory *memory;
	struct dirty_tracker *tracker;
	uint64_t gpa;
	uint8_t before[WATCHED_PAGES * PAGE];
};

static void watch_init(struct watch *watch, struct guest_memory *memory, uint64_t gpa)
{
	struct err err = ERR_INIT;
	watch->memory = memory;
	watch->gpa = gpa;
	ck_assert_int_eq(dirty_tracker_create(memory, &watch->tracker, &err), 0);
}

/* The device may be turning its doorbells on or off meanwhile, in a page that it has marked: ThreadSanitizer
 * is not told. */
__attribute__((no_sanitize("thread"))) static void peek(const struct watch *watch, uint8_t *to)
{
	const volatile uint8_t *from =
		guest_memory_at(watch->memory, watch->gpa, (uint64_t)WATCHED_PAGES * PAGE);
	for (size_t i = 0; i < (size_t)WATCHED_PAGES * PAGE; i++)
		to[i] = from[i];
}

static void watch_begin(struct watch *watch)
{
	peek(watch, watch->before);
}

/* Since watch_begin. Returns how many pages differ. */
static unsigned watch_end(struct watch *watch, const char *name)
{
	uint64_t *bitmap = calloc(dirty_bitmap_words(watch->memory), sizeof(*bitmap)), pages;
	static uint8_t now[WATCHED_PAGES * PAGE];
	unsigned changed = 0;
	peek(watch, now); /* before the harvest, or a page may have changed and not been marked yet */
	ck_assert_int_eq(dirty_tracker_harvest(watch->tracker, bitmap, &pages), 0);
	for (size_t i = 0; i < WATCHED_PAGES; i++) {
		uint64_t page = watch->gpa / PAGE + i;
		bool differs = memcmp(now + i * PAGE, watch->before + i * PAGE, PAGE) != 0;
		changed += differs;
		ck_assert_msg(!differs || (bitmap[page / 64] >> page % 64 & 1), "%s: page %zu is not marked",
			      name, i);
	}
	free(bitmap);
	return changed;
}

static struct watch watches[2]; /* the ring, the data */

static void both_begin(void)
{
	watch_begin(&watches[0]);
	watch_begin(&watches[1]);
}

static unsigned both_end(const char *name)
{
	return watch_end(&watches[0], name) + watch_end(&watches[1], name);
}

/* Chains of buffers that each fill a page and a bit. */
static void queue_writes_are_marked(struct queue_rig *rig)
{
	static const uint8_t data[PAGE + 100] = {1, 2, 3, [PAGE] = 4};
	watch_init(&watches[0], rig->memory, RIG_RING_GPA);
	watch_init(&watches[1], rig->memory, RIG_DATA_GPA);
	for (unsigned round = 0; round < 2U * rig->vq.setup.size + 1 && round < 40; round++) {
		uint16_t size = rig->vq.setup.size;
		ck_assert_int_ge(rig_add(rig, size > 2, size > 1 ? 2 : 1, PAGE + 50, false), 0);
		both_begin();
		virtq_disable_doorbell(&rig->vq);
		ck_assert_int_eq(rig_pop(rig), 1);
		(void)virtq_enable_doorbell(&rig->vq);
		memset(guest_memory_at(rig->memory, RIG_DATA_GPA, 16 * PAGE), (int)round, 16 * PAGE);
		both_begin(); /* the driver's own */
		size_t room = rig->chain.write_bytes < sizeof(data) ? rig->chain.write_bytes : sizeof(data);
		size_t len = round % 3 == 2 ? 0 : virtq_chain_write(&rig->chain, 0, data, room);
		struct virtq_used used = {&rig->chain, (uint32_t)len};
		if (round % 2 && !rig->vq.setup.in_order)
			ck_assert_int_eq(virtq_push_together(&rig->vq, &used, 1), 0);
		else
			ck_assert_int_eq(virtq_push(&rig->vq, &rig->chain, (uint32_t)len), 0);
		(void)virtq_should_interrupt(&rig->vq);
		virtq_disable_doorbell(&rig->vq);
		(void)virtq_enable_doorbell(&rig->vq);
		ck_assert_uint_ge(both_end(rig->name), 1);
		struct ring_used got;
		ck_assert_int_eq(ring_collect(&rig->ring, &got), 1);
	}
	dirty_tracker_destroy(watches[0].tracker);
	dirty_tracker_destroy(watches[1].tracker);
}

START_TEST(queues_mark_rings_and_buffers)
{
	static const uint16_t sizes[] = {1, 2, 4, 256, 1024};
	static struct queue_rig rig;
	for (unsigned features = 0; features < 8; features++)
		for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
			const struct virtq_setup setup = {.size = sizes[i],
							  .packed = features & 1,
							  .event_idx = features & 2,
							  .in_order = features & 4};
			/* In the middle: there a large used ring is on another page than its index. */
			queue_rig_init_at(&rig, &setup, sizes[i] / 2, true);
			queue_writes_are_marked(&rig);
			queue_rig_finish(&rig);
		}
}
END_TEST

START_TEST(disks_mark_what_they_read_into)
{
	struct rig rig;
	struct disk_config config = rig_config();
	rig_init(&rig, &config);
	rig_start(&rig, 0);
	rig_fill(&rig, 8 * PAGE, 1);
	ck_assert_int_eq(rig_io(&rig, BLK_T_OUT, 0, 8 * PAGE), BLK_S_OK);
	memset(rig.data, 0xee, 8 * PAGE);
	watch_init(&watches[0], rig.world.memory, rig.data_gpa);
	watch_init(&watches[1], rig.world.memory, rig.status_gpa);
	both_begin();
	ck_assert_int_eq(rig_io(&rig, BLK_T_IN, 0, 8 * PAGE), BLK_S_OK);
	ck_assert_uint_ge(both_end("IN"), 9);
	both_begin();
	ck_assert_int_eq(rig_io(&rig, BLK_T_GET_ID, 0, 20), BLK_S_OK);
	ck_assert_uint_ge(both_end("GET_ID"), 1);
	ck_assert_int_eq(rig_io(&rig, BLK_T_IN, 1, PAGE), BLK_S_OK);
	(void)both_end("IN");
	both_begin(); /* a write leaves the buffers alone, and so do the marks */
	ck_assert_int_eq(rig_io(&rig, BLK_T_OUT, 0, 8 * PAGE), BLK_S_OK);
	uint64_t *bitmap = calloc(dirty_bitmap_words(rig.world.memory), sizeof(*bitmap)), pages;
	ck_assert_int_eq(dirty_tracker_harvest(watches[0].tracker, bitmap, &pages), 0);
	ck_assert_uint_eq(bitmap[rig.data_gpa / PAGE / 64] >> rig.data_gpa / PAGE % 64 & 1, 0);
	ck_assert_uint_eq(bitmap[rig.status_gpa / PAGE / 64] >> rig.status_gpa / PAGE % 64 & 1, 1);
	free(bitmap);
	dirty_tracker_destroy(watches[0].tracker);
	dirty_tracker_destroy(watches[1].tracker);
	rig_finish(&rig);
}
END_TEST

TEST_MAIN("virtq_dirty", queues_mark_rings_and_buffers, disks_mark_what_they_read_into)
