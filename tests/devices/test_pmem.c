/* Persistent memory (VIRTIO 1.3, 5.19) as a driver sees it. */
#include "../../devices/devices.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "driver.h"
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/vfs.h>

enum { SIZE = 4 << 20 };

struct rig {
	struct world world;
	struct device *device;
	struct driver driver;
	struct pmem_config config;
	char path[64];
	uint64_t gpa;
};

static struct rig rig;
static const char *folder = "/dev/shm";

static void file_init(off_t bytes)
{
	log_set_level(LOG_ERROR);
	rig = (struct rig){0};
	(void)snprintf(rig.path, sizeof(rig.path), "%s/aerie-pmem-XXXXXX", folder);
	_cleanup_close_ int fd = mkstemp(rig.path);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, bytes), 0);
	rig.config.path = rig.path;
	world_init(&rig.world, 1);
}

static int create(struct err *err)
{
	return pmem_class.create(&rig.config, 0, &rig.world.services, &rig.device, err);
}

static void rig_init(bool read_only)
{
	struct err err = ERR_INIT;
	file_init(SIZE);
	rig.config.read_only = read_only;
	ck_assert_msg(create(&err) == 0, "%s", err.text);
	ck_assert_int_eq(driver_init(&rig.driver, &rig.world, VIRTIO_ID_PMEM), 0);
	ck_assert_int_eq(driver_start(&rig.driver, &(struct driver_options){0}), 0);
	rig.gpa = world_alloc(&rig.world, 4096);
}

static void finish(void)
{
	(void)unlink(rig.path);
	world_finish(&rig.world);
}

static void rig_finish(void)
{
	driver_finish(&rig.driver);
	pmem_class.destroy(rig.device);
	finish();
}

static int64_t request(uint32_t type, uint32_t out_bytes, uint32_t in_bytes)
{
	uint32_t *at = world_at(&rig.world, rig.gpa, 4096);
	const struct ring_buffer buffers[] = {{rig.gpa, out_bytes, false}, {rig.gpa + 64, in_bytes, true}};
	at[0] = type;
	at[16] = 0x55555555;
	ck_assert_int_ge(driver_request(&rig.driver, 0, buffers, in_bytes ? 2 : 1), 0);
	return at[16];
}

/* A snapshot knows a file that was written since by its time, which a store into a dirty page does not
 * change.
 */
START_TEST(after_a_flush_a_store_changes_the_files_time)
{
	struct err err = ERR_INIT;
	struct stat before, after;
	struct statfs fs;
	if (statfs("/var/tmp", &fs) < 0 || fs.f_type == TMPFS_MAGIC)
		return; /* no times for stores, nor a storage */
	folder = "/var/tmp";
	rig_init(false);
	uint8_t *memory = world_at(&rig.world, driver_config_get(&rig.driver, 0, 8), SIZE);
	memory[0] = 1;
	ck_assert_ptr_nonnull(pmem_class.flush);
	ck_assert_msg(pmem_class.flush(rig.device, &err) == 0, "%s", err.text);
	ck_assert_int_eq(stat(rig.path, &before), 0);
	(void)usleep(50000);
	memory[0] = 2;
	ck_assert_int_eq(stat(rig.path, &after), 0);
	ck_assert(memcmp(&before.st_mtim, &after.st_mtim, sizeof(after.st_mtim)) != 0);
	rig_finish();
	folder = "/dev/shm";
}
END_TEST

START_TEST(what_the_guest_stores_is_in_the_file)
{
	rig_init(false);
	uint64_t start = driver_config_get(&rig.driver, 0, 8);
	ck_assert_uint_eq(driver_config_get(&rig.driver, 8, 8), SIZE);
	uint8_t *memory = world_at(&rig.world, start, SIZE);
	ck_assert_ptr_nonnull(memory);
	memory[SIZE - 1] = 0x77;
	ck_assert_int_eq(request(0, 4, 4), 0);
	_cleanup_close_ int fd = open(rig.path, O_RDONLY);
	uint8_t byte = 0;
	ck_assert_int_eq(pread(fd, &byte, 1, SIZE - 1), 1);
	ck_assert_uint_eq(byte, 0x77);
	rig_finish();
}
END_TEST

START_TEST(read_only_keeps_the_file)
{
	rig_init(true);
	uint8_t *memory = world_at(&rig.world, driver_config_get(&rig.driver, 0, 8), SIZE);
	memory[0] = 0x77;
	ck_assert_int_eq(request(0, 4, 4), 0);
	_cleanup_close_ int fd = open(rig.path, O_RDONLY);
	uint8_t byte = 1;
	ck_assert_int_eq(pread(fd, &byte, 1, 0), 1);
	ck_assert_uint_eq(byte, 0);
	rig_finish();
}
END_TEST

START_TEST(malformed_requests_fail_and_no_more)
{
	rig_init(false);
	ck_assert_int_eq(request(7, 4, 4), UINT32_MAX);
	ck_assert_int_eq(request(0, 3, 4), UINT32_MAX);
	ck_assert_int_eq(request(0, 4, 2), 0x5555ffff); /* as much of the answer as there is room for */
	ck_assert_int_eq(request(0, 4, 0), 0x55555555);
	ck_assert_int_eq(request(0, 4, 4), 0);
	ck_assert_int_eq(driver_status(&rig.driver) & DRIVER_NEEDS_RESET, 0);
	rig_finish();
}
END_TEST

START_TEST(many_flushes_and_a_reset_among_them)
{
	rig_init(false);
	for (int round = 0; round < 20; round++) {
		uint32_t *at = world_at(&rig.world, rig.gpa, 4096);
		at[0] = 0;
		const struct ring_buffer buffers[] = {{rig.gpa, 4, false}, {rig.gpa + 64, 4, true}};
		for (int i = 0; i < 30; i++)
			ck_assert_int_ge(driver_submit(&rig.driver, 0, buffers, 2), 0);
		ck_assert_int_eq(driver_start(&rig.driver, &(struct driver_options){0}), 0);
		ck_assert_int_eq(request(0, 4, 4), 0);
	}
	rig_finish();
}
END_TEST

/* What the old queue was given is not answered in the new one. */
START_TEST(many_flushes_and_a_reset_of_the_queue_among_them)
{
	folder = "/var/tmp"; /* where a flush may take its time */
	rig_init(false);
	uint8_t *memory = world_at(&rig.world, driver_config_get(&rig.driver, 0, 8), SIZE);
	for (int round = 0; round < 20; round++) {
		ck_assert_int_eq(
			driver_start(&rig.driver, &(struct driver_options){.features = VIRTIO_F_RING_RESET}),
			0);
		uint32_t *at = world_at(&rig.world, rig.gpa, 4096);
		at[0] = 0;
		const struct ring_buffer buffers[] = {{rig.gpa, 4, false}, {rig.gpa + 64, 4, true}};
		for (int i = 0; i < 30; i++) {
			memory[i * 4096]++;
			ck_assert_int_ge(driver_submit(&rig.driver, 0, buffers, 2), 0);
		}
		ck_assert_int_eq(driver_reset_queue(&rig.driver, 0), 0);
		ck_assert_int_eq(driver_enable_queue(&rig.driver, 0, 0), 0);
		for (int i = 0; i < 3; i++)
			ck_assert_int_eq(request(0, 4, 4), 0);
	}
	rig_finish();
	folder = "/dev/shm";
}
END_TEST

START_TEST(files_that_do_not_fit_are_refused)
{
	struct err err = ERR_INIT;
	file_init(SIZE + 1);
	ck_assert_int_eq(create(&err), -EINVAL);
	ck_assert_ptr_nonnull(strstr(err.text, "truncate -s %2M"));
	err = ERR_INIT;
	rig.config.size_bytes = 2 * SIZE; /* grows it */
	ck_assert_int_eq(create(&err), 0);
	struct device *second;
	struct err busy = ERR_INIT;
	ck_assert_int_eq(pmem_class.create(&rig.config, 1, &rig.world.services, &second, &busy), -EBUSY);
	pmem_class.destroy(rig.device);
	rig.config.read_only = true;
	rig.config.size_bytes = 4 * SIZE;
	err = ERR_INIT;
	ck_assert_int_eq(create(&err), -EROFS);
	rig.config.path = "/nowhere/at/all";
	err = ERR_INIT;
	ck_assert_int_eq(create(&err), -ENOENT);
	finish();
}
END_TEST

TEST_MAIN("pmem", after_a_flush_a_store_changes_the_files_time, what_the_guest_stores_is_in_the_file,
	  read_only_keeps_the_file, malformed_requests_fail_and_no_more, many_flushes_and_a_reset_among_them,
	  many_flushes_and_a_reset_of_the_queue_among_them, files_that_do_not_fit_are_refused)
