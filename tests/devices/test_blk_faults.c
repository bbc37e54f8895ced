/* The block device when the host fails, and when the driver resets it in the midst of I/O. */
#include "blk_rig.h"

#include <pthread.h>

/* ---- errors of the host ---- */

START_TEST(errors_reach_the_driver)
{
	static const int errors[] = {-EIO, -ENOSPC, -EDQUOT, -ENOMEM, -EAGAIN};
	struct rig rig;
	struct disk_config config = rig_config();
	rig_init(&rig, &config);
	rig_start(&rig, ~UINT64_C(0));
	for (unsigned i = 0; i < ARRAY_LEN(errors); i++) {
		const bool full = errors[i] == -ENOSPC || errors[i] == -EDQUOT;
		const unsigned more = full ? DEVICE_NO_SPACE : 0;
		rig.blk->base.device.news = 0;
		rig.faults.error = errors[i];
		ck_assert_int_eq(rig_io(&rig, BLK_T_OUT, 0, 4096), BLK_S_IOERR);
		ck_assert_uint_eq(atomic_exchange(&rig.blk->base.device.news, 0), DEVICE_WRITE_FAILED | more);
		ck_assert_int_eq(rig_io(&rig, BLK_T_IN, 0, 4096), BLK_S_IOERR);
		ck_assert_uint_eq(atomic_exchange(&rig.blk->base.device.news, 0), DEVICE_READ_FAILED | more);
		ck_assert_int_eq(rig_io(&rig, BLK_T_FLUSH, 0, 0), BLK_S_IOERR);
		ck_assert_int_eq(rig_range(&rig, BLK_T_WRITE_ZEROES, 0, 8, 0), BLK_S_IOERR);
	}
	rig.faults.error = 0;
	ck_assert_int_eq(rig_io(&rig, BLK_T_OUT, 0, 4096), BLK_S_OK);
	ck_assert_int_eq(driver_status(&rig.driver) & DRIVER_NEEDS_RESET, 0);
	rig.blk->base.device.news = 0;
	ck_assert_int_eq(rig_io(&rig, BLK_T_OUT, RIG_SECTORS, 512),
			 BLK_S_IOERR); /* the driver's own mistake */
	ck_assert_uint_eq(rig.blk->base.device.news, 0);
	rig_finish(&rig);
}
END_TEST

static void wait_for(_Atomic unsigned *value, unsigned most)
{
	for (unsigned i = 0; atomic_load(value) < most; i++) {
		ck_assert_uint_lt(i, 10000);
		usleep(1000);
	}
}

START_TEST(a_full_disk_can_be_waited_for)
{
	struct rig rig;
	struct disk_config config = rig_config();
	config.on_error = DISK_RETRY;
	rig_init(&rig, &config);
	rig_start(&rig, 0);
	rig_fill(&rig, 4096, 1);
	rig.faults.error = -ENOSPC;
	rig_header(&rig, BLK_T_OUT, 8);
	const struct ring_buffer buffers[] = {
		{rig.header_gpa, 16, false}, {rig.data_gpa, 4096, false}, {rig.status_gpa, 1, true}};
	ck_assert_int_ge(driver_submit(&rig.driver, 0, buffers, 3), 0);
	wait_for(&rig.faults.failed, 2); /* it was tried again */
	ck_assert_uint_eq(*rig.status, 0xff);
	rig.faults.error = 0;
	struct ring_used used;
	ck_assert_int_eq(driver_collect(&rig.driver, 0, &used), 0);
	ck_assert_uint_eq(*rig.status, BLK_S_OK);
	rig_check_file(&rig, 8 * 512, 4096);
	/* The driver's own mistakes are told at once. */
	ck_assert_int_eq(rig_io(&rig, BLK_T_OUT, RIG_SECTORS, 512), BLK_S_IOERR);
	rig_finish(&rig);
}
END_TEST

START_TEST(a_reset_ends_the_waiting)
{
	struct rig rig;
	struct disk_config config = rig_config();
	config.on_error = DISK_RETRY;
	rig_init(&rig, &config);
	for (unsigned i = 0; i < 3; i++) {
		rig_start(&rig, ~UINT64_C(0));
		rig.faults.error = -ENOSPC;
		rig.faults.failed = 0;
		rig_header(&rig, BLK_T_OUT, 0);
		const struct ring_buffer buffers[] = {
			{rig.header_gpa, 16, false}, {rig.data_gpa, 512, false}, {rig.status_gpa, 1, true}};
		for (unsigned n = 0; n < 5; n++)
			ck_assert_int_ge(driver_submit(&rig.driver, 0, buffers, 3), 0);
		wait_for(&rig.faults.failed, 5);
		ck_assert_int_eq(i == 1 ? driver_reset_queue(&rig.driver, 0) : driver_reset(&rig.driver), 0);
		ck_assert_uint_eq(rig.blk->in_flight, 0);
		rig.faults.error = 0;
	}
	rig_start(&rig, 0);
	ck_assert_int_eq(rig_io(&rig, BLK_T_IN, 0, 512), BLK_S_OK);
	rig_finish(&rig);
}
END_TEST

START_TEST(a_pause_waits_for_the_host)
{
	struct rig rig;
	struct disk_config config = rig_config();
	config.on_error = DISK_RETRY;
	rig_init(&rig, &config);
	rig_start(&rig, 0);
	rig.faults.error = -ENOSPC;
	rig_header(&rig, BLK_T_OUT, 0);
	const struct ring_buffer buffers[] = {
		{rig.header_gpa, 16, false}, {rig.data_gpa, 512, false}, {rig.status_gpa, 1, true}};
	ck_assert_int_ge(driver_submit(&rig.driver, 0, buffers, 3), 0);
	wait_for(&rig.faults.failed, 1);
	rig.faults.error = 0;
	virtio_pause(rig.blk->base.virtio); /* tries again at once */
	ck_assert_uint_eq(rig.blk->in_flight, 0);
	ck_assert_uint_eq(*rig.status, BLK_S_OK);
	virtio_resume(rig.blk->base.virtio);
	struct ring_used used;
	ck_assert_int_eq(driver_collect(&rig.driver, 0, &used), 0);
	ck_assert_int_eq(rig_io(&rig, BLK_T_IN, 0, 512), BLK_S_OK);
	rig_finish(&rig);
}
END_TEST

/* ---- resets ---- */

static void *release_later(void *arg)
{
	struct rig *rig = arg;
	usleep(30000);
	(void)iothread_call(rig->world.threads[0], rig_release_held, &rig->faults);
	return NULL;
}

/* While the kernel may still write to the driver's memory, the reset is not over (2.4.2). */
static void check_reset(bool one_queue)
{
	struct rig rig;
	struct disk_config config = rig_config();
	config.queues = 2;
	rig_init(&rig, &config);
	for (unsigned round = 0; round < 3; round++) {
		rig_start(&rig, ~UINT64_C(0));
		rig.faults.hold = true;
		rig.faults.kept = 0;
		rig_header(&rig, BLK_T_IN, 0);
		const struct ring_buffer buffers[] = {
			{rig.header_gpa, 16, false}, {rig.data_gpa, 4096, true}, {rig.status_gpa, 1, true}};
		for (unsigned i = 0; i < 20; i++)
			ck_assert_int_ge(driver_submit(&rig.driver, i % 2, buffers, 3), 0);
		wait_for(&rig.faults.kept, 20);
		pthread_t thread;
		uint64_t start = loop_now_ns();
		pthread_create(&thread, NULL, release_later, &rig);
		if (one_queue) {
			ck_assert_int_eq(driver_reset_queue(&rig.driver, 1), 0);
			ck_assert_int_eq(driver_enable_queue(&rig.driver, 1, 0), 0);
			for (unsigned i = 0; i < 10; i++) { /* the other one goes on */
				struct ring_used used;
				ck_assert_int_eq(driver_collect(&rig.driver, 0, &used), 0);
			}
			ck_assert_int_eq(driver_request(&rig.driver, 1, buffers, 3), 4097);
		} else {
			ck_assert_int_eq(driver_reset(&rig.driver), 0);
			ck_assert_uint_eq(rig.blk->in_flight, 0);
		}
		ck_assert_uint_gt(loop_now_ns() - start, 20000000);
		pthread_join(thread, NULL);
	}
	rig_start(&rig, 0);
	ck_assert_int_eq(rig_io(&rig, BLK_T_IN, 0, 4096), BLK_S_OK);
	rig_finish(&rig);
}

START_TEST(a_reset_waits_for_what_flies)
{
	check_reset(false);
}
END_TEST

START_TEST(a_queue_is_reset_alone)
{
	check_reset(true);
}
END_TEST

START_TEST(destroying_a_busy_disk_is_fine)
{
	for (unsigned i = 0; i < 5; i++) {
		struct rig rig;
		struct disk_config config = rig_config();
		rig_init(&rig, &config);
		rig_start(&rig, ~UINT64_C(0));
		rig_header(&rig, BLK_T_OUT, 0);
		const struct ring_buffer buffers[] = {
			{rig.header_gpa, 16, false}, {rig.data_gpa, 65536, false}, {rig.status_gpa, 1, true}};
		for (unsigned n = 0; n < 40; n++)
			ck_assert_int_ge(driver_submit(&rig.driver, 0, buffers, 3), 0);
		driver_config_set(&rig.driver, 32, 1, 0); /* and the flush that follows */
		disk_class.destroy(rig.device);
		rig.device = NULL;
		for (unsigned q = 0; q < VIRTIO_QUEUES_MAX; q++)
			free(rig.driver.queues[q]);
		world_finish(&rig.world);
		unlink(rig.path);
	}
}
END_TEST

/* ---- traffic ---- */

enum { STORM_DEPTH = 24, STORM_REQUESTS = 1500, STORM_QUEUES = 4 };

/* One queue's driver: its own quarter of the disk, its own memory, and what must be there. */
struct storm {
	struct rig *rig;
	unsigned queue, seed;
	uint64_t gpa;
	uint8_t *memory;
	uint8_t expect[RIG_SECTORS / STORM_QUEUES]; /* the byte that each sector is full of */
};

struct storm_slot {
	bool busy, write;
	unsigned sector, count;
	int id;
	uint8_t byte;
};

enum { SLOT_BYTES = 16384 };

static void storm_send(struct storm *storm, struct storm_slot *slots, unsigned n)
{
	struct storm_slot *slot = &slots[n];
	uint8_t *memory = storm->memory + n * SLOT_BYTES;
	uint64_t gpa = storm->gpa + n * SLOT_BYTES;
	bool free = false;
	while (!free) { /* requests in flight do not overlap */
		slot->sector = (unsigned)rand_r(&storm->seed) % (RIG_SECTORS / STORM_QUEUES - 16);
		slot->count = (unsigned)rand_r(&storm->seed) % 16 + 1;
		free = true;
		for (unsigned i = 0; i < STORM_DEPTH; i++)
			free &= i == n || !slots[i].busy || slots[i].sector >= slot->sector + slot->count ||
				slot->sector >= slots[i].sector + slots[i].count;
	}
	slot->write = rand_r(&storm->seed) % 2;
	slot->byte = (uint8_t)rand_r(&storm->seed);
	slot->busy = true;
	memset(memory + 4096, slot->write ? slot->byte : 0xee, slot->count * 512);
	const struct {
		uint32_t type, reserved;
		uint64_t sector;
	} header = {slot->write ? BLK_T_OUT : BLK_T_IN, 0,
		    slot->sector + storm->queue * (RIG_SECTORS / STORM_QUEUES)};
	memcpy(memory, &header, sizeof(header));
	memory[16] = 0xff;
	uint32_t half = slot->count * 256;
	const struct ring_buffer buffers[] = {{gpa, 16, false},
					      {gpa + 4096, half, !slot->write},
					      {gpa + 4096 + half, half, !slot->write},
					      {gpa + 16, 1, true}};
	slot->id = driver_submit(&storm->rig->driver, storm->queue, buffers, 4);
	ck_assert_int_ge(slot->id, 0);
}

static bool is_full_of(const uint8_t *sector, uint8_t byte)
{
	return sector[0] == byte && memcmp(sector, sector + 1, 511) == 0;
}

static void storm_receive(struct storm *storm, struct storm_slot *slots)
{
	struct ring_used used;
	ck_assert_int_eq(driver_collect(&storm->rig->driver, storm->queue, &used), 0);
	unsigned n = 0;
	while (!slots[n].busy || slots[n].id != used.id)
		ck_assert_uint_lt(++n, STORM_DEPTH);
	struct storm_slot *slot = &slots[n];
	const uint8_t *memory = storm->memory + n * SLOT_BYTES;
	ck_assert_uint_eq(memory[16], BLK_S_OK);
	ck_assert_uint_eq(used.len, slot->write ? 1 : slot->count * 512 + 1);
	for (unsigned i = 0; i < slot->count; i++) {
		if (slot->write)
			storm->expect[slot->sector + i] = slot->byte;
		else
			ck_assert(is_full_of(memory + 4096 + i * 512, storm->expect[slot->sector + i]));
	}
	slot->busy = false;
}

static void *storm_run(void *arg)
{
	struct storm *storm = arg;
	struct storm_slot slots[STORM_DEPTH] = {{0}};
	for (unsigned n = 0; n < STORM_DEPTH; n++)
		storm_send(storm, slots, n);
	for (unsigned i = 0; i < STORM_REQUESTS; i++) {
		storm_receive(storm, slots);
		for (unsigned n = 0; n < STORM_DEPTH; n++) {
			if (!slots[n].busy)
				storm_send(storm, slots, n);
		}
	}
	for (unsigned n = 0; n < STORM_DEPTH; n++)
		storm_receive(storm, slots);
	return NULL;
}

static void check_storm(uint64_t features, bool direct, const struct rate_config *rate)
{
	static struct storm storms[STORM_QUEUES];
	pthread_t threads[STORM_QUEUES];
	struct rig rig;
	struct disk_config config = rig_config();
	config.queues = STORM_QUEUES;
	config.direct = direct;
	config.rate = *rate;
	rig_init(&rig, &config);
	rig_start(&rig, features);
	for (unsigned i = 0; i < STORM_QUEUES; i++) {
		storms[i] = (struct storm){.rig = &rig, .queue = i, .seed = i + 1};
		storms[i].gpa = world_alloc(&rig.world, STORM_DEPTH * SLOT_BYTES);
		storms[i].memory = world_at(&rig.world, storms[i].gpa, STORM_DEPTH * SLOT_BYTES);
		pthread_create(&threads[i], NULL, storm_run, &storms[i]);
	}
	for (unsigned i = 0; i < STORM_QUEUES; i++)
		pthread_join(threads[i], NULL);
	rig_finish(&rig);
}

START_TEST(many_queues_at_once)
{
	const struct rate_config none = {0, 0};
	check_storm(0, false, &none);
	check_storm(~UINT64_C(0), false, &none);
	check_storm(VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX, true, &none);
}
END_TEST

/* Requests that had to wait are not lost. */
START_TEST(limits_only_delay)
{
	const struct rate_config limit = {.ops_per_second = 10000, .bytes_per_second = 50 << 20};
	uint64_t start = loop_now_ns();
	check_storm(~UINT64_C(0), false, &limit);
	/* All requests at 10000 a second, less what fills the bucket (0.1 s). */
	uint64_t least_ns = (STORM_REQUESTS + STORM_DEPTH) * STORM_QUEUES * UINT64_C(100000) - 150000000;
	ck_assert_uint_ge(loop_now_ns() - start, least_ns);
}
END_TEST

/* ---- state ---- */

START_TEST(a_saved_disk_goes_on)
{
	struct rig rig;
	struct disk_config config = rig_config();
	rig_init(&rig, &config);
	rig_start(&rig, ~UINT64_C(0));
	rig_fill(&rig, 4096, 9);
	ck_assert_int_eq(rig_io(&rig, BLK_T_OUT, 0, 4096), BLK_S_OK);
	driver_config_set(&rig.driver, 32, 1, 0);
	_cleanup_free_ void *regs = malloc(disk_class.state->size);
	struct err err = ERR_INIT;
	disk_class.save(rig.device, regs);
	disk_class.reset(rig.device);
	ck_assert_uint_eq(rig.blk->writeback, 1);
	ck_assert_msg(disk_class.restore(rig.device, regs, &err) == 0, "%s", err.text);
	ck_assert_uint_eq(driver_config_get(&rig.driver, 32, 1), 0);
	memset(rig.data, 0, 4096);
	ck_assert_int_eq(rig_io(&rig, BLK_T_IN, 0, 4096), BLK_S_OK);
	rig_check_file(&rig, 0, 4096);
	rig_finish(&rig);
}
END_TEST

TEST_MAIN("blk_faults", errors_reach_the_driver, a_full_disk_can_be_waited_for, a_reset_ends_the_waiting,
	  a_pause_waits_for_the_host, a_reset_waits_for_what_flies, a_queue_is_reset_alone,
	  destroying_a_busy_disk_is_fine, many_queues_at_once, limits_only_delay, a_saved_disk_goes_on)
