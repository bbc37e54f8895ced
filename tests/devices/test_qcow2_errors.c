/*
 * qcow2 on a disk that fails: each write and each sync in turn, once or from then on. The guest hears of it,
 * the image stays sound, and what was flushed before is there.
 *
 * QCOW2_FAILS failures for each shape (default 16), QCOW2_SEED another run of the same.
 */
#include "qcow2_disk.h"

enum { DISK_BYTES = 2 << 20, REQUESTS = 150 };

static const char *const shapes[] = {"cluster_size=65536", "cluster_size=512",
				     "cluster_size=4096,compat=0.10"};

struct failing {
	struct guest guest;
	struct disk disk;
};

static void make_image(const char *options)
{
	ck_assert_int_eq(shell("cd '%s' && qemu-img create -q -f qcow2 -o %s disk.qcow2 %d", test_folder(),
			       options, DISK_BYTES),
			 0);
}

static void start(struct failing *failing, const char *options, uint64_t seed)
{
	memset(failing, 0, sizeof(*failing));
	guest_init(&failing->guest, DISK_BYTES, seed);
	failing->guest.whole_discards = true;
	disk_init(&failing->disk, failing->guest.loop, seed);
	disk_load(&failing->disk, "disk.qcow2");
	disk_remember(&failing->disk);
	failing->guest.clock = &failing->disk.clock;
	struct qcow2_header header;
	struct err err = ERR_INIT;
	const struct qcow2_options opts = {.path = options, .discard = true, .block_size = 512};
	int res = qcow2_read_header(&failing->disk.block, &disk_file_ops, &opts, &header, &err);
	if (res == 0)
		res = qcow2_attach(&failing->disk.block, &disk_file_ops, NULL, &header, &opts,
				   failing->guest.loop, &failing->guest.block, &err);
	ck_assert_msg(res == 0, "%s", err.text);
	failing->guest.cluster_sectors = failing->guest.block->optimal_io_bytes / SECTOR;
}

static void finish(struct failing *failing)
{
	guest_finish(&failing->guest);
	disk_finish_all(&failing->disk);
}

static void check_data(const struct failing *failing, uint64_t at)
{
	char path[512];
	uint8_t data[SECTOR];
	uint64_t flushed = flushed_until(&failing->guest, at);
	ck_assert_int_eq(shell("cd '%s' && qemu-img convert -t unsafe -f qcow2 -O raw end.qcow2 end.raw",
			       test_folder()),
			 0);
	(void)snprintf(path, sizeof(path), "%s/end.raw", test_folder());
	FILE *file = fopen(path, "re");
	ck_assert_ptr_nonnull(file);
	for (uint64_t i = 0; i < failing->guest.sectors; i++) {
		ck_assert_uint_eq(fread(data, SECTOR, 1, file), 1);
		ck_assert_msg(may_hold(&failing->guest, i, sector_version(data, i), at, flushed),
			      "sector %llu holds version %u", (unsigned long long)i, sector_version(data, i));
	}
	ck_assert_int_eq(fclose(file), 0);
}

static uint64_t count_changes(const char *options, uint64_t seed)
{
	struct failing *failing = malloc(sizeof(*failing));
	ck_assert_ptr_nonnull(failing);
	make_image(options);
	start(failing, options, seed);
	guest_run(&failing->guest, REQUESTS);
	uint64_t changes = failing->disk.changes;
	block_close(failing->guest.block);
	finish(failing);
	free(failing);
	return changes;
}

static void fail_at(const char *options, uint64_t seed, uint64_t change, bool for_good, int code)
{
	struct failing *failing = malloc(sizeof(*failing));
	ck_assert_ptr_nonnull(failing);
	start(failing, options, seed);
	failing->disk.fail_after = change;
	failing->disk.fail_on = for_good;
	failing->disk.fail_with = code;
	failing->disk.fail_reads = change % 4 == 3;
	guest_run(&failing->guest, REQUESTS);
	ck_assert_uint_gt(failing->guest.errors, 0);
	if (!for_good) { /* the disk works again: so does the image */
		int res = do_request(failing->guest.loop, failing->guest.block, BLOCK_FLUSH, NULL, 0, 0);
		ck_assert_int_eq(res, 0);
		guest_read_all(&failing->guest);
	}
	uint64_t at = failing->disk.clock;
	block_close(failing->guest.block);
	if (for_good)
		disk_save_end(&failing->disk, DISK_POWER_LOST, at, "end.qcow2");
	else
		save_bytes("end.qcow2", failing->disk.data, failing->disk.block.size_bytes);
	int res = check_image("end.qcow2");
	ck_assert_msg(res == 0 || (for_good && res == 3), "%s: change %llu fails: qemu-img check: %d",
		      options, (unsigned long long)change, res);
	check_data(failing, at);
	finish(failing);
	free(failing);
}

START_TEST(a_failing_disk_leaves_a_sound_image)
{
	uint64_t fails = number_from_env("QCOW2_FAILS", 16);
	uint64_t seed = number_from_env("QCOW2_SEED", 1);
	log_set_level(LOG_ERROR);
	for (size_t i = 0; i < ARRAY_LEN(shapes); i++) {
		uint64_t changes = count_changes(shapes[i], seed);
		for (uint64_t n = 0; n < fails; n++)
			fail_at(shapes[i], seed, changes * n / fails, n % 2, n % 3 ? -ENOSPC : -EIO);
	}
}
END_TEST

QCOW2_TEST_MAIN("qcow2_errors", a_failing_disk_leaves_a_sound_image)
