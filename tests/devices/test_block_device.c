/* Raw images on block devices: a loop device, where we may make one. */
#include "../../devices/backend/block.h"
#include "base/cleanup.h"
#include "harness.h"

#include <fcntl.h>
#include <linux/loop.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

enum { DEVICE_BYTES = 4 << 20 };

struct bench {
	char path[64];
	int loop_fd, file_fd;
	struct loop *loop;
	struct block *block;
	int res;
};

/* False: no loop devices here. */
static bool make_device(struct bench *bench)
{
	_cleanup_close_ int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	int number = control < 0 ? -1 : ioctl(control, LOOP_CTL_GET_FREE);
	if (number < 0)
		return false;
	snprintf(bench->path, sizeof(bench->path), "/dev/loop%d", number);
	bench->loop_fd = open(bench->path, O_RDWR | O_CLOEXEC);
	bench->file_fd = memfd_create("device", MFD_CLOEXEC);
	return bench->loop_fd >= 0 && ftruncate(bench->file_fd, DEVICE_BYTES) == 0 &&
	       ioctl(bench->loop_fd, LOOP_SET_FD, bench->file_fd) == 0;
}

static void drop_device(struct bench *bench)
{
	(void)ioctl(bench->loop_fd, LOOP_CLR_FD);
	close_fd(bench->loop_fd);
	close_fd(bench->file_fd);
}

struct waited {
	struct block_request request;
	struct bench *bench;
};

static void waited_done(struct block_request *request, int res)
{
	struct waited *waited = container_of(request, struct waited, request);
	waited->bench->res = res;
	loop_quit(waited->bench->loop);
}

static int run(struct bench *bench, enum block_command command, uint64_t offset, void *data, size_t len)
{
	struct iovec iov = {data, len};
	struct waited waited = {.request = {.command = command,
					    .unmap = true,
					    .offset = offset,
					    .bytes = len,
					    .iov = &iov,
					    .iov_count = 1,
					    .done = waited_done},
				.bench = bench};
	block_submit(bench->block, &waited.request);
	ck_assert_int_eq(loop_run(bench->loop), 0);
	return bench->res;
}

static void check_device(bool direct)
{
	static uint8_t data[65536 + 1], back[65536], zero[65536];
	struct bench bench = {.loop_fd = -1, .file_fd = -1};
	if (!make_device(&bench)) {
		printf("no loop device can be made here: not tested\n");
		drop_device(&bench);
		return;
	}
	struct err err = ERR_INIT;
	const struct block_raw_spec spec = {
		.path = bench.path, .direct = direct, .discard = true, .block_size = 512};
	ck_assert_int_eq(loop_create(64, &bench.loop, &err), 0);
	ck_assert_msg(block_raw_open(&spec, bench.loop, &bench.block, &err) == 0, "%s", err.text);
	ck_assert_uint_eq(bench.block->size_bytes, DEVICE_BYTES);
	ck_assert_uint_ge(bench.block->physical_block_bytes, 512);
	for (unsigned i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 7 + 1);
	ck_assert_int_eq(run(&bench, BLOCK_WRITE, 4096, data + 1, 65536), 0);
	ck_assert_int_eq(run(&bench, BLOCK_FLUSH, 0, NULL, 0), 0);
	ck_assert_int_eq(pread(bench.file_fd, back, 65536, 4096), 65536);
	ck_assert_int_eq(memcmp(back, data + 1, 65536), 0);
	ck_assert_int_eq(run(&bench, BLOCK_WRITE_ZEROES, 8192, NULL, 8192), 0);
	ck_assert_int_eq(run(&bench, BLOCK_DISCARD, 32768, NULL, 8192), 0);
	ck_assert_int_eq(run(&bench, BLOCK_READ, 4096, back, 65536), 0);
	ck_assert_int_eq(memcmp(back + 4096, zero, 8192), 0);
	ck_assert_int_eq(memcmp(back, data + 1, 4096), 0);
	ck_assert_int_eq(run(&bench, BLOCK_READ, DEVICE_BYTES, back, 512), -EINVAL);
	/* Who has it has it alone: nobody can mount it now either (O_EXCL). */
	struct block *second = NULL;
	ck_assert_int_eq(block_raw_open(&spec, bench.loop, &second, &err), -EBUSY);
	ck_assert_int_eq(open(bench.path, O_RDWR | O_EXCL | O_CLOEXEC), -1);
	err = ERR_INIT;
	ck_assert_int_eq(block_resize(bench.block, 2 * DEVICE_BYTES, &err), -EOPNOTSUPP);
	/* Somebody else makes it larger. */
	ck_assert_int_eq(ftruncate(bench.file_fd, 2 * DEVICE_BYTES), 0);
	ck_assert_int_eq(ioctl(bench.loop_fd, LOOP_SET_CAPACITY), 0);
	err = ERR_INIT;
	ck_assert_int_eq(block_resize(bench.block, 0, &err), 0);
	ck_assert_uint_eq(bench.block->size_bytes, 2 * DEVICE_BYTES);
	block_close(bench.block);
	loop_destroy(bench.loop);
	drop_device(&bench);
}

START_TEST(a_block_device_is_a_disk)
{
	check_device(false);
}
END_TEST

START_TEST(a_block_device_can_be_direct)
{
	check_device(true);
}
END_TEST

TEST_MAIN("block_device", a_block_device_is_a_disk, a_block_device_can_be_direct)
