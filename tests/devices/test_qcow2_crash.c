/*
 * qcow2 when the world ends: after any write, with any of what was not synced lost, qemu-img check finds no
 * error and the guest finds all that it had flushed.
 *
 * QCOW2_CUTS ends for each shape (default 12), QCOW2_SEED another run of the same.
 */
#include "qcow2_disk.h"

enum { DISK_BYTES = 3 << 20, REQUESTS = 250 };

struct shape {
	const char *options;
	uint64_t cluster_bytes;
	bool backing;  /* raw, of version 1 */
	bool snapshot; /* all clusters are there, and an internal snapshot has them too */
};

static const struct shape shapes[] = {
	{"cluster_size=65536", 65536, false, false},
	{"cluster_size=65536", 65536, true, false},
	{"cluster_size=4096", 4096, true, false},
	{"cluster_size=512", 512, false, false},
	{"cluster_size=512,refcount_bits=64", 512, true, false},
	{"cluster_size=16384,compat=0.10", 16384, false, false},
	{"cluster_size=8192", 8192, false, true},
	{"cluster_size=512", 512, false, true},
};

struct crash {
	struct guest guest;
	struct disk disk, base;
	const struct shape *shape;
};

static void make_image(struct crash *crash)
{
	const struct shape *shape = crash->shape;
	const char *folder = test_folder();
	if (shape->backing || shape->snapshot) {
		guest_starts_with(&crash->guest, crash->guest.sectors, 1);
		write_raw(&crash->guest, "base", true);
	}
	if (shape->snapshot) {
		ck_assert_int_eq(shell("cd '%s' && qemu-img convert -t unsafe -f raw -O qcow2 -o %s base "
				       "disk.qcow2 && "
				       "qemu-img snapshot -c before disk.qcow2",
				       folder, shape->options),
				 0);
	} else {
		ck_assert_int_eq(shell("cd '%s' && qemu-img create -q -f qcow2 -o %s %s disk.qcow2 %d",
				       folder, shape->options, shape->backing ? "-b base -F raw" : "",
				       DISK_BYTES),
				 0);
	}
}

static void crash_open(struct crash *crash)
{
	struct qcow2_header header;
	struct err err = ERR_INIT;
	const struct qcow2_options options = {.path = "disk.qcow2", .discard = true, .block_size = 512};
	int res = qcow2_read_header(&crash->disk.block, &disk_file_ops, &options, &header, &err);
	if (res == 0)
		res = qcow2_attach(&crash->disk.block, &disk_file_ops,
				   crash->shape->backing ? &crash->base.block : NULL, &header, &options,
				   crash->guest.loop, &crash->guest.block, &err);
	ck_assert_msg(res == 0, "%s", err.text);
}

static void crash_begin(struct crash *crash, const struct shape *shape, uint64_t seed)
{
	memset(crash, 0, sizeof(*crash));
	crash->shape = shape;
	guest_init(&crash->guest, DISK_BYTES, seed);
	crash->guest.cluster_sectors = shape->cluster_bytes / SECTOR;
	crash->guest.whole_discards = true;
	/* Above a backing file a discard may leave what was there; zeroes do the same work. */
	crash->guest.no_discards = shape->backing;
	make_image(crash);
	disk_init(&crash->disk, crash->guest.loop, seed);
	disk_load(&crash->disk, "disk.qcow2");
	disk_init(&crash->base, crash->guest.loop, seed);
	if (shape->backing)
		disk_load(&crash->base, "base");
	disk_remember(&crash->disk);
	crash->guest.clock = &crash->disk.clock;
	crash_open(crash);
}

static void crash_end(struct crash *crash)
{
	guest_finish(&crash->guest);
	disk_finish_all(&crash->disk);
	disk_finish_all(&crash->base);
}

/* The raw file against what the guest may see when the world ended at `at`. */
static void check_raw(const struct crash *crash, const char *name, uint64_t at)
{
	char path[512];
	uint8_t data[SECTOR];
	uint64_t flushed = flushed_until(&crash->guest, at);
	(void)snprintf(path, sizeof(path), "%s/%s", test_folder(), name);
	FILE *file = fopen(path, "re");
	ck_assert_ptr_nonnull(file);
	for (uint64_t i = 0; i < crash->guest.sectors; i++) {
		ck_assert_uint_eq(fread(data, SECTOR, 1, file), 1);
		uint32_t found = sector_version(data, i);
		ck_assert_msg(may_hold(&crash->guest, i, found, at, flushed),
			      "%s: end at %llu (flushed until %llu): sector %llu holds version %u",
			      crash->shape->options, (unsigned long long)at, (unsigned long long)flushed,
			      (unsigned long long)i, found);
	}
	ck_assert_int_eq(fclose(file), 0);
}

static void check_end(struct crash *crash, uint64_t at)
{
	const char *folder = test_folder();
	int res = check_image("end.qcow2");
	ck_assert_msg(res == 0 || res == 3, "%s: end at %llu: qemu-img check: %d", crash->shape->options,
		      (unsigned long long)at, res);
	ck_assert_int_eq(
		shell("cd '%s' && qemu-img convert -t unsafe -f qcow2 -O raw end.qcow2 end.raw", folder), 0);
	check_raw(crash, "end.raw", at);
	if (!crash->shape->snapshot)
		return;
	ck_assert_int_eq(
		shell("cd '%s' && qemu-img convert -t unsafe -l before -f qcow2 -O raw end.qcow2 end.raw && "
		      "cmp -s end.raw base",
		      folder),
		0);
}

/* Most is at stake right before a sync has done its work. */
static uint64_t choose_end(struct disk *disk, uint64_t cut)
{
	uint64_t at = random_below(&disk->seed, disk->clock) + 1;
	if (cut % 4 == 0)
		return at;
	for (size_t i = 0; i < disk->event_count; i++) {
		const struct disk_event *event = &disk->events[i];
		if (event->command == BLOCK_FLUSH && event->done > at)
			return event->done - 1;
	}
	return at;
}

START_TEST(any_end_leaves_a_sound_image_and_what_was_flushed)
{
	static struct crash crash;
	uint64_t seed = number_from_env("QCOW2_SEED", 1);
	uint64_t cuts = number_from_env("QCOW2_CUTS", 12);
	for (size_t i = 0; i < ARRAY_LEN(shapes); i++) {
		crash_begin(&crash, &shapes[i], seed * 100 + i);
		guest_run(&crash.guest, REQUESTS);
		ck_assert_uint_eq(crash.guest.errors, 0);
		guest_read_all(&crash.guest);
		block_close(crash.guest.block);
		for (uint64_t cut = 0; cut < cuts; cut++) {
			uint64_t at = choose_end(&crash.disk, cut);
			disk_save_end(&crash.disk, cut % 4 ? DISK_POWER_LOST : DISK_KILLED, at, "end.qcow2");
			check_end(&crash, at);
		}
		disk_save_end(&crash.disk, DISK_POWER_LOST, crash.disk.clock, "end.qcow2");
		check_end(&crash, crash.disk.clock);
		ck_assert_int_eq(check_image("end.qcow2"), 0); /* nor has a proper close leaked */
		crash_end(&crash);
	}
}
END_TEST

/* ---- each step of a commit alone ---- */

enum { TINY = 512, L2_REACH = 64 * TINY, LARGE_DISK = 12 << 20 };

static void do_write(struct crash *crash, uint64_t offset, uint64_t bytes)
{
	uint8_t *data = malloc(bytes);
	ck_assert_ptr_nonnull(data);
	memset(data, 0x5a, bytes);
	ck_assert_int_eq(do_request(crash->guest.loop, crash->guest.block, BLOCK_WRITE, data, offset, bytes),
			 0);
	free(data);
}

static void do_flush(struct crash *crash)
{
	ck_assert_int_eq(do_request(crash->guest.loop, crash->guest.block, BLOCK_FLUSH, NULL, 0, 0), 0);
}

static uint64_t reftable_at(const struct crash *crash)
{
	uint64_t offset;
	memcpy(&offset, crash->disk.data + QCOW2_AT_REFTABLE, sizeof(offset));
	return be64toh(offset);
}

/*
 * A refcount block of clusters of 512 bytes counts 256 of them, and one cluster of refcount table names 64
 * blocks. All L2 tables are there and durable; then so much is written that the file passes the end of a
 * block, or of the table. What makes that durable are blocks, the refcount table, the header, L2 tables that
 * are named already, in this order: when one of these writes alone survives, the image must be sound.
 */
static void cut_each_step(uint64_t fill, uint64_t more, bool moves)
{
	static const struct shape shape = {"cluster_size=512", TINY, false, false};
	static struct crash crash;
	memset(&crash, 0, sizeof(crash));
	crash.shape = &shape;
	guest_init(&crash.guest, TINY, 1);
	ck_assert_int_eq(shell("cd '%s' && qemu-img create -q -f qcow2 -o %s disk.qcow2 %d", test_folder(),
			       shape.options, LARGE_DISK),
			 0);
	disk_init(&crash.disk, crash.guest.loop, 1);
	disk_load(&crash.disk, "disk.qcow2");
	crash_open(&crash);
	for (uint64_t at = 0; at < fill + more; at += L2_REACH)
		do_write(&crash, at, TINY);
	do_write(&crash, 0, fill);
	do_flush(&crash);
	do_flush(&crash); /* and what the first one freed */
	disk_remember(&crash.disk);
	size_t before = crash.disk.event_count;
	uint64_t table = reftable_at(&crash);
	do_write(&crash, fill, more);
	do_flush(&crash);
	ck_assert_int_eq(reftable_at(&crash) != table, moves);
	for (size_t i = before; i < crash.disk.event_count; i++) {
		const struct disk_event *event = &crash.disk.events[i];
		if (event->command != BLOCK_WRITE)
			continue;
		disk_save_only(&crash.disk, i, "end.qcow2");
		int res = check_image("end.qcow2");
		ck_assert_msg(res == 0 || res == 3,
			      "%llu bytes at %llu alone are durable: qemu-img check: %d",
			      (unsigned long long)event->bytes, (unsigned long long)event->offset, res);
	}
	block_close(crash.guest.block);
	crash_end(&crash);
}

START_TEST(each_write_of_a_commit_may_be_the_only_one_that_survives)
{
	cut_each_step(96 << 10, 96 << 10, false);   /* another refcount block */
	cut_each_step(7800 << 10, 512 << 10, true); /* and a longer table */
}
END_TEST

QCOW2_TEST_MAIN("qcow2_crash", any_end_leaves_a_sound_image_and_what_was_flushed,
		each_write_of_a_commit_may_be_the_only_one_that_survives)
