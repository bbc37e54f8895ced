/* The balloon (VIRTIO 1.3, 5.5) as a driver sees it. */
#include "../../devices/devices.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "devices/balloon.h"
#include "driver.h"
#include "harness.h"
#include "host/iothread.h"

enum { INFLATE, DEFLATE, STATS, REPORTING };

#define F_STATS_VQ  VIRTIO_BIT(1)
#define F_REPORTING VIRTIO_BIT(5)

struct rig {
	struct world world;
	struct device *device;
	struct driver driver;
	struct balloon_config config;
	uint64_t gpa; /* of a page for requests */
};

static struct rig rig;

static void rig_init(uint64_t features)
{
	struct err err = ERR_INIT;
	log_set_level(LOG_ERROR);
	rig = (struct rig){
		.config = {.free_page_reporting = true, .deflate_on_oom = true, .size_bytes = 1 << 20}};
	world_init(&rig.world, 1);
	ck_assert_msg(balloon_class.create(&rig.config, 0, &rig.world.services, &rig.device, &err) == 0, "%s",
		      err.text);
	ck_assert_int_eq(driver_init(&rig.driver, &rig.world, VIRTIO_ID_BALLOON), 0);
	ck_assert_int_eq(driver_start(&rig.driver, &(struct driver_options){.features = features}), 0);
	rig.gpa = world_alloc(&rig.world, 4096);
}

static void rig_finish(void)
{
	driver_finish(&rig.driver);
	balloon_class.destroy(rig.device);
	world_finish(&rig.world);
}

/* `count` pages from `gpa` in one request; `step` +1 or -1 pages. */
static void pages(unsigned queue, uint64_t gpa, unsigned count, int step)
{
	uint32_t *pfns = world_at(&rig.world, rig.gpa, 4096);
	for (unsigned i = 0; i < count; i++)
		pfns[i] = (uint32_t)((int64_t)(gpa / 4096) + (int64_t)i * step);
	const struct ring_buffer buffer = {rig.gpa, count * 4, false};
	ck_assert_int_eq(driver_request(&rig.driver, queue, &buffer, 1), 0);
}

START_TEST(inflated_pages_read_as_zeros)
{
	rig_init(F_STATS_VQ | F_REPORTING);
	uint64_t gpa = world_alloc(&rig.world, 8 * 4096);
	uint8_t *at = world_at(&rig.world, gpa, 8 * 4096);
	memset(at, 0x5a, 8 * 4096);
	pages(INFLATE, gpa + 4096, 2, 1);
	pages(INFLATE, gpa + 6 * 4096, 3, -1);
	const uint8_t want[8] = {0x5a, 0, 0, 0x5a, 0, 0, 0, 0x5a};
	for (unsigned i = 0; i < 8; i++)
		ck_assert_msg(at[i * 4096] == want[i], "page %u", i);
	pages(DEFLATE, gpa + 4096, 2, 1);
	at[4096] = 1; /* theirs again */
	rig_finish();
}
END_TEST

START_TEST(pages_that_are_no_ram_hurt_nobody)
{
	rig_init(F_STATS_VQ | F_REPORTING);
	pages(INFLATE, 0xfffff000ULL * 4096 & 0xfffffffff000ULL, 10, 1);
	pages(INFLATE, (uint64_t)(WORLD_RAM_MIB - 1) << 20, 1000, 1); /* half of them beyond the end */
	pages(INFLATE, 0, 2, -1);				      /* page 0, then page 2^32 - 1 */
	ck_assert_int_eq(driver_status(&rig.driver) & DRIVER_NEEDS_RESET, 0);
	rig_finish();
}
END_TEST

START_TEST(reported_pages_go)
{
	for (int stats = 0; stats < 2; stats++) { /* without statistics the queue has another number */
		rig_init(F_REPORTING | (stats ? F_STATS_VQ : 0));
		uint64_t gpa = world_alloc(&rig.world, 4 * 4096);
		uint8_t *at = world_at(&rig.world, gpa, 4 * 4096);
		memset(at, 0x5a, 4 * 4096);
		const struct ring_buffer free_pages[] = {{gpa, 4096, true}, {gpa + 2 * 4096, 8192, true}};
		unsigned queue = stats ? REPORTING : STATS;
		ck_assert_int_eq(driver_request(&rig.driver, queue, free_pages, 2), 0);
		ck_assert(at[0] == 0 && at[4096] == 0x5a && at[2 * 4096] == 0 && at[3 * 4096] == 0);
		rig_finish();
	}
}
END_TEST

START_TEST(statistics_are_asked_for_and_told)
{
	struct balloon_info info;
	struct ring_used used;
	rig_init(F_STATS_VQ | F_REPORTING);
	uint8_t *stats = world_at(&rig.world, rig.gpa, 4096);
	const uint16_t tags[] = {BALLOON_FREE, BALLOON_TOTAL, 999};
	for (uint64_t i = 0; i < 3; i++) {
		uint64_t value = 1000 + i;
		memcpy(stats + i * 10, &tags[i], 2);
		memcpy(stats + i * 10 + 2, &value, 8);
	}
	const struct ring_buffer buffer = {rig.gpa, 30, false};
	ck_assert_int_ge(driver_submit(&rig.driver, STATS, &buffer, 1), 0);
	do /* the device has to come to it; asking returns the buffer */
		balloon_get_info(rig.device, &info);
	while (!info.known);
	ck_assert_uint_eq(info.known, VIRTIO_BIT(BALLOON_FREE) | VIRTIO_BIT(BALLOON_TOTAL));
	ck_assert_uint_eq(info.stats[BALLOON_FREE], 1000);
	ck_assert_uint_eq(info.stats[BALLOON_TOTAL], 1001);
	ck_assert_int_eq(driver_collect(&rig.driver, STATS, &used), 0);
	rig_finish();
}
END_TEST

static int nothing(void *arg)
{
	(void)arg;
	return 0;
}

START_TEST(a_reset_of_the_queue_takes_the_statistics_back)
{
	struct balloon_info info;
	struct ring_used used;
	rig_init(F_STATS_VQ | VIRTIO_F_RING_RESET);
	const struct ring_buffer buffer = {rig.gpa, 10, false};
	ck_assert_int_ge(driver_submit(&rig.driver, STATS, &buffer, 1), 0);
	do
		balloon_get_info(rig.device, &info);
	while (!info.known); /* the device had it, and gave it back */
	ck_assert_int_eq(driver_collect(&rig.driver, STATS, &used), 0);
	ck_assert_int_ge(driver_submit(&rig.driver, STATS, &buffer, 1), 0);
	for (int i = 0; i < 3; i++) /* until the device has it again */
		(void)iothread_call(rig.world.threads[0], nothing, NULL);
	ck_assert_int_eq(driver_reset_queue(&rig.driver, STATS), 0);
	ck_assert_int_eq(driver_enable_queue(&rig.driver, STATS, 0), 0);
	balloon_get_info(rig.device, &info);
	ck_assert_int_eq(driver_try_collect(&rig.driver, STATS, &used), 0);
	ck_assert_int_eq(driver_status(&rig.driver) & DRIVER_NEEDS_RESET, 0);
	rig_finish();
}
END_TEST

START_TEST(the_target_is_told_and_the_answer_heard)
{
	struct balloon_info info;
	rig_init(F_STATS_VQ | F_REPORTING);
	ck_assert_uint_eq(driver_config_get(&rig.driver, 0, 4), (1 << 20) / 4096);
	unsigned before = driver_config_interrupts(&rig.driver);
	balloon_set_target(rig.device, 8 << 20);
	ck_assert_int_eq(driver_wait_config_interrupt(&rig.driver, before), 0);
	ck_assert_uint_eq(driver_config_get(&rig.driver, 0, 4), (8 << 20) / 4096);
	driver_config_set(&rig.driver, 4, 4, 77);
	ck_assert_uint_eq(rig.device->news, DEVICE_BALLOON_CHANGED);
	rig.device->news = 0;
	driver_config_set(&rig.driver, 4, 4, 77); /* no news */
	driver_config_set(&rig.driver, 0, 4, 1);  /* not the driver's */
	ck_assert_uint_eq(rig.device->news, 0);
	balloon_get_info(rig.device, &info);
	ck_assert_uint_eq(info.actual_bytes, 77 * 4096);
	ck_assert_uint_eq(info.target_bytes, 8 << 20);
	rig_finish();
}
END_TEST

START_TEST(a_reset_with_statistics_out_and_a_restore)
{
	struct balloon_info info;
	struct err err = ERR_INIT;
	rig_init(F_STATS_VQ | F_REPORTING);
	const struct ring_buffer buffer = {rig.gpa, 30, false};
	ck_assert_int_ge(driver_submit(&rig.driver, STATS, &buffer, 1), 0);
	driver_config_set(&rig.driver, 4, 4, 5);
	_cleanup_free_ void *regs = calloc(1, balloon_class.state->size);
	balloon_class.save(rig.device, regs);
	ck_assert_int_eq(driver_reset(&rig.driver), 0);
	ck_assert_uint_eq(driver_config_get(&rig.driver, 4, 4), 0);
	ck_assert_int_eq(balloon_class.restore(rig.device, regs, &err), 0);
	balloon_get_info(rig.device, &info);
	ck_assert_uint_eq(info.actual_bytes, 5 * 4096);
	rig_finish();
}
END_TEST

TEST_MAIN("balloon", inflated_pages_read_as_zeros, pages_that_are_no_ram_hurt_nobody, reported_pages_go,
	  statistics_are_asked_for_and_told, a_reset_of_the_queue_takes_the_statistics_back,
	  the_target_is_told_and_the_answer_heard, a_reset_with_statistics_out_and_a_restore)
