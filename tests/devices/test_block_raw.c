/* Raw images: reading, writing, and what the kernel may answer. */
#include "block_rig.h"

/* ---- reading and writing ---- */

/* Random ranges in random pieces at random addresses, against a copy in memory. */
static void storm(struct image *image, unsigned seed)
{
	static uint8_t shadow[IMAGE_BYTES], buf[IMAGE_BYTES + 4096];
	memset(shadow, 0, sizeof(shadow));
	srand(seed);
	for (unsigned round = 0; round < 300; round++) {
		struct iovec iov[40];
		uint64_t offset = (uint64_t)(rand() % (IMAGE_BYTES / 512)) * 512;
		uint64_t bytes = (uint64_t)(rand() % 600 + 1) * 512, sum = 0;
		unsigned count = 0;
		if (bytes > IMAGE_BYTES - offset)
			bytes = IMAGE_BYTES - offset;
		uint8_t *start = buf + rand() % 4096;
		while (sum < bytes) {
			size_t len = count == 39 ? bytes - sum : (size_t)rand() % (bytes - sum + 1);
			iov[count++] = (struct iovec){start + sum, len};
			sum += len;
		}
		struct waited waited = {.called = false};
		struct block_request request = {.command = rand() % 2 ? BLOCK_WRITE : BLOCK_READ,
						.fua = rand() % 8 == 0,
						.offset = offset,
						.bytes = bytes,
						.iov = iov,
						.iov_count = count};
		if (request.command == BLOCK_WRITE)
			fill(start, bytes, (unsigned)rand());
		else
			memset(start, 0xee, bytes);
		ck_assert_int_eq(run(image, &waited, &request), 0);
		if (request.command == BLOCK_WRITE)
			memcpy(shadow + offset, start, bytes);
		ck_assert_msg(memcmp(shadow + offset, start, bytes) == 0, "round %u", round);
	}
	ck_assert_int_eq(do_io(image, BLOCK_READ, buf, IMAGE_BYTES, 0), 0);
	ck_assert_int_eq(memcmp(buf, shadow, IMAGE_BYTES), 0);
}

START_TEST(reads_give_what_was_written)
{
	struct image image = new_image();
	storm(&image, 1);
	drop_image(&image);
}
END_TEST

START_TEST(direct_takes_any_buffer)
{
	struct image image = new_direct_image();
	storm(&image, 2);
	drop_image(&image);
}
END_TEST

START_TEST(more_bounces_than_there_are_wait)
{
	enum { REQUESTS = 200, BYTES = 4096 };
	static struct waited waited[REQUESTS];
	static struct iovec iov[REQUESTS];
	static uint8_t data[REQUESTS * BYTES + 1], back[REQUESTS * BYTES];
	struct image image = new_direct_image();
	unsigned left = REQUESTS;
	fill(data, sizeof(data), 3);
	memset(waited, 0, sizeof(waited));
	for (unsigned i = 0; i < REQUESTS; i++) {
		iov[i] = (struct iovec){data + 1 + i * BYTES, BYTES};
		waited[i] = (struct waited){.request = {.command = BLOCK_WRITE,
							.offset = (uint64_t)i * BYTES,
							.bytes = BYTES,
							.iov = &iov[i],
							.iov_count = 1,
							.done = waited_done},
					    .loop = image.loop,
					    .left = &left};
		block_submit(image.block, &waited[i].request);
	}
	ck_assert_int_eq(loop_run(image.loop), 0);
	for (unsigned i = 0; i < REQUESTS; i++)
		ck_assert_int_eq(waited[i].res, 0);
	ck_assert_int_eq(do_io(&image, BLOCK_READ, back, sizeof(back), 0), 0);
	ck_assert_int_eq(memcmp(back, data + 1, sizeof(back)), 0);
	drop_image(&image);
}
END_TEST

START_TEST(requests_stay_within_the_image)
{
	struct image image = new_image();
	uint8_t buf[1024];
	ck_assert_int_eq(do_io(&image, BLOCK_READ, buf, 512, IMAGE_BYTES - 512), 0);
	ck_assert_int_eq(do_io(&image, BLOCK_READ, buf, 1024, IMAGE_BYTES - 512), -EINVAL);
	ck_assert_int_eq(do_io(&image, BLOCK_WRITE, buf, 512, IMAGE_BYTES), -EINVAL);
	ck_assert_int_eq(do_io(&image, BLOCK_WRITE, buf, 512, UINT64_MAX - 100), -EINVAL);
	ck_assert_int_eq(do_range(&image, BLOCK_WRITE_ZEROES, 512, UINT64_MAX - 511, true), -EINVAL);
	ck_assert_int_eq(do_io(&image, BLOCK_READ, buf, 0, 0), 0);
	drop_image(&image);
}
END_TEST

START_TEST(read_only_is_read_only)
{
	struct image image = {.block = NULL};
	make_file(&image, IMAGE_BYTES);
	struct block_raw_spec spec = plain(&image);
	spec.read_only = true;
	open_image(&image, &spec);
	uint8_t buf[512];
	ck_assert_int_eq(do_io(&image, BLOCK_READ, buf, 512, 0), 0);
	ck_assert_int_eq(do_io(&image, BLOCK_WRITE, buf, 512, 0), -EROFS);
	ck_assert_int_eq(do_range(&image, BLOCK_DISCARD, 0, 512, false), -EROFS);
	ck_assert_int_eq(do_range(&image, BLOCK_WRITE_ZEROES, 0, 512, false), -EROFS);
	ck_assert_int_eq(do_range(&image, BLOCK_FLUSH, 0, 0, false), 0);
	drop_image(&image);
}
END_TEST

/* ---- what the kernel may answer ---- */

static void check_interrupted(struct image *image, enum block_command command)
{
	static uint8_t data[8192], back[8192];
	struct iovec iov[3] = {{data, 1024}, {data + 1024, 3072}, {data + 4096, 4096}};
	struct block_request request = {
		.command = command, .offset = 4096, .bytes = 8192, .iov = iov, .iov_count = 3};
	fill(data, sizeof(data), 4);
	if (command == BLOCK_READ) {
		ck_assert_int_eq(do_io(image, BLOCK_WRITE, data, 8192, 4096), 0);
		memset(data, 0, sizeof(data));
	}
	const int answers[] = {-EINTR, -EAGAIN, 512, -EINTR, 512};
	unsigned steps;
	ck_assert_int_eq(do_lied(image, &request, answers, 5, &steps), 0);
	ck_assert_uint_gt(steps, 5);
	ck_assert_int_eq(do_io(image, BLOCK_READ, back, 8192, 4096), 0);
	ck_assert_int_eq(memcmp(data, back, 8192), 0);
}

START_TEST(short_and_interrupted_io_goes_on)
{
	struct image image = new_image();
	check_interrupted(&image, BLOCK_WRITE);
	check_interrupted(&image, BLOCK_READ);
	drop_image(&image);
	image = new_direct_image();
	check_interrupted(&image, BLOCK_WRITE);
	check_interrupted(&image, BLOCK_READ);
	drop_image(&image);
}
END_TEST

/* Where the kernel stopped, the next step begins: what it is asked for shows that. */
START_TEST(a_short_read_is_continued_where_it_ended)
{
	struct image image = new_image();
	static uint8_t data[4096], back[4096];
	fill(data, sizeof(data), 5);
	ck_assert_int_eq(do_io(&image, BLOCK_WRITE, data, 4096, 0), 0);
	struct iovec iov[2] = {{back, 1000}, {back + 1000, 3096}};
	/* The file is cut while the request runs, so that the kernel itself is short. */
	ck_assert_int_eq(truncate(image.path, 1536), 0);
	struct block_request request = {.command = BLOCK_READ, .bytes = 4096, .iov = iov, .iov_count = 2};
	unsigned steps;
	ck_assert_int_eq(do_lied(&image, &request, NULL, 0, &steps), -EIO);
	ck_assert_uint_eq(steps, 2);
	ck_assert_int_eq(memcmp(back, data, 1536), 0);
	drop_image(&image);
}
END_TEST

START_TEST(no_luck_ends_at_last)
{
	struct image image = new_image();
	uint8_t buf[512];
	int answers[1000];
	struct iovec iov = {buf, 512};
	struct block_request request = {.command = BLOCK_WRITE, .bytes = 512, .iov = &iov, .iov_count = 1};
	for (unsigned i = 0; i < 1000; i++)
		answers[i] = -EAGAIN;
	ck_assert_int_eq(do_lied(&image, &request, answers, 1000, NULL), -EAGAIN);
	drop_image(&image);
}
END_TEST

START_TEST(errors_are_told)
{
	struct image image = new_image();
	uint8_t buf[1024];
	struct iovec iov = {buf, 1024};
	struct block_request request = {.command = BLOCK_WRITE, .bytes = 1024, .iov = &iov, .iov_count = 1};
	ck_assert_int_eq(do_lied(&image, &request, (int[]){-ENOSPC}, 1, NULL), -ENOSPC);
	ck_assert_int_eq(do_lied(&image, &request, (int[]){512, -EIO}, 2, NULL), -EIO);
	ck_assert_int_eq(do_lied(&image, &request, (int[]){0}, 1, NULL), -EIO);
	ck_assert_int_eq(do_lied(&image, &request, NULL, 0, NULL), 0);
	drop_image(&image);
}
END_TEST

START_TEST(a_failed_flush_is_not_forgotten)
{
	struct image image = new_image();
	struct block_request request = {.command = BLOCK_FLUSH};
	ck_assert_int_eq(do_lied(&image, &request, NULL, 0, NULL), 0);
	ck_assert_int_eq(do_lied(&image, &request, (int[]){-EIO}, 1, NULL), -EIO);
	ck_assert_int_eq(do_lied(&image, &request, NULL, 0, NULL), -EIO);
	drop_image(&image);
	image = new_direct_image(); /* nothing was in the page cache: the next one tells the truth */
	ck_assert_int_eq(do_lied(&image, &request, (int[]){-EIO}, 1, NULL), -EIO);
	ck_assert_int_eq(do_lied(&image, &request, NULL, 0, NULL), 0);
	drop_image(&image);
}
END_TEST

/* ---- durability ---- */

static int flags_of_write(struct image *image, bool fua)
{
	uint8_t buf[512] = {1};
	struct iovec iov = {buf, 512};
	struct waited waited = {.called = false};
	ck_assert_int_eq(
		run(image, &waited,
		    &(struct block_request){
			    .command = BLOCK_WRITE, .fua = fua, .bytes = 512, .iov = &iov, .iov_count = 1}),
		0);
	return waited.request.op.flags;
}

START_TEST(writes_are_durable_when_asked)
{
	struct image image = new_image();
	ck_assert_int_eq(flags_of_write(&image, false), 0);
	ck_assert_int_eq(flags_of_write(&image, true), RWF_DSYNC);
	unsigned steps;
	struct block_request zeroes = {
		.command = BLOCK_WRITE_ZEROES, .unmap = true, .fua = true, .bytes = 4096};
	ck_assert_int_eq(do_lied(&image, &zeroes, NULL, 0, &steps), 0);
	ck_assert_uint_eq(steps, 2); /* fallocate, fdatasync */
	zeroes.fua = false;
	ck_assert_int_eq(do_lied(&image, &zeroes, NULL, 0, &steps), 0);
	ck_assert_uint_eq(steps, 1);
	block_close(image.block);
	loop_destroy(image.loop);
	struct block_raw_spec spec = plain(&image);
	spec.writethrough = true;
	open_image(&image, &spec);
	ck_assert_int_eq(flags_of_write(&image, false), RWF_DSYNC);
	ck_assert_int_eq(do_lied(&image, &zeroes, NULL, 0, &steps), 0);
	ck_assert_uint_eq(steps, 2);
	drop_image(&image);
}
END_TEST

/* ---- zeroes and discards ---- */

static off_t blocks_of(const struct image *image)
{
	struct stat st;
	ck_assert_int_eq(stat(image->path, &st), 0);
	return st.st_blocks * 512;
}

static void write_all(struct image *image)
{
	static uint8_t data[IMAGE_BYTES];
	memset(data, 0xaa, sizeof(data));
	ck_assert_int_eq(do_io(image, BLOCK_WRITE, data, sizeof(data), 0), 0);
	ck_assert_int_eq(do_range(image, BLOCK_FLUSH, 0, 0, false), 0);
}

/* [64 KiB, 64 KiB + 128 KiB) and nothing else is zero. */
static void check_zeroed(struct image *image)
{
	static uint8_t data[IMAGE_BYTES];
	enum { FROM = 65536, LEN = 131072 };
	ck_assert_int_eq(do_io(image, BLOCK_READ, data, sizeof(data), 0), 0);
	ck_assert(all_zero(data + FROM, LEN));
	ck_assert_uint_eq(data[FROM - 1], 0xaa);
	ck_assert_uint_eq(data[FROM + LEN], 0xaa);
}

START_TEST(zeroes_are_written_by_every_way)
{
	static const int unknown[] = {-EOPNOTSUPP, -EOPNOTSUPP};
	struct block_request zeroes = {
		.command = BLOCK_WRITE_ZEROES, .unmap = true, .offset = 65536, .bytes = 131072};
	for (unsigned refused = 0; refused <= 2; refused++) {
		struct image image = new_image();
		unsigned steps;
		write_all(&image);
		ck_assert_int_eq(do_lied(&image, &zeroes, unknown, refused, &steps), 0);
		check_zeroed(&image);
		write_all(&image);
		/* What was refused once is not asked for again. */
		ck_assert_int_eq(do_lied(&image, &zeroes, NULL, 0, &steps), 0);
		ck_assert_uint_eq(steps, 1);
		check_zeroed(&image);
		drop_image(&image);
	}
}
END_TEST

START_TEST(zeroes_are_written_piecewise)
{
	static uint8_t back[IMAGE_BYTES];
	struct image image = new_direct_image();
	struct block_request zeroes = {.command = BLOCK_WRITE_ZEROES, .bytes = IMAGE_BYTES};
	write_all(&image);
	unsigned steps;
	ck_assert_int_eq(do_lied(&image, &zeroes, (int[]){-EOPNOTSUPP, -EINTR, 4096}, 3, &steps), 0);
	ck_assert_uint_ge(steps, 6);
	ck_assert_int_eq(do_io(&image, BLOCK_READ, back, sizeof(back), 0), 0);
	ck_assert(all_zero(back, sizeof(back)));
	drop_image(&image);
}
END_TEST

START_TEST(unmapping_gives_storage_back)
{
	struct image image = new_image();
	write_all(&image);
	off_t before = blocks_of(&image);
	ck_assert_int_eq(do_range(&image, BLOCK_WRITE_ZEROES, 0, IMAGE_BYTES / 4, false), 0);
	ck_assert_int_eq(blocks_of(&image), before);
	ck_assert_int_eq(do_range(&image, BLOCK_WRITE_ZEROES, 0, IMAGE_BYTES / 4, true), 0);
	ck_assert_int_lt(blocks_of(&image), before);
	before = blocks_of(&image);
	ck_assert_int_eq(do_range(&image, BLOCK_DISCARD, IMAGE_BYTES / 2, IMAGE_BYTES / 4, false), 0);
	ck_assert_int_lt(blocks_of(&image), before);
	drop_image(&image);
}
END_TEST

START_TEST(discards_can_be_off)
{
	struct image image = {.block = NULL};
	make_file(&image, IMAGE_BYTES);
	struct block_raw_spec spec = plain(&image);
	spec.discard = false;
	open_image(&image, &spec);
	write_all(&image);
	off_t before = blocks_of(&image);
	ck_assert_int_eq(do_range(&image, BLOCK_DISCARD, 0, IMAGE_BYTES, false), 0);
	ck_assert_int_eq(do_range(&image, BLOCK_WRITE_ZEROES, 65536, 131072, true), 0);
	ck_assert_int_eq(blocks_of(&image), before);
	check_zeroed(&image);
	drop_image(&image);
}
END_TEST

START_TEST(a_discard_that_is_not_known_is_done)
{
	struct image image = new_image();
	struct block_request discard = {.command = BLOCK_DISCARD, .bytes = 4096};
	unsigned steps;
	ck_assert_int_eq(do_lied(&image, &discard, (int[]){-EINVAL}, 1, &steps), 0);
	ck_assert_int_eq(do_lied(&image, &discard, (int[]){-EIO}, 1, &steps), -EIO);
	ck_assert_int_eq(do_lied(&image, &discard, (int[]){-EOPNOTSUPP}, 1, &steps), 0);
	ck_assert_uint_eq(steps, 1);
	write_all(&image);
	off_t before = blocks_of(&image);
	ck_assert_int_eq(do_lied(&image, &discard, NULL, 0, &steps), 0);
	ck_assert_int_eq(blocks_of(&image), before); /* not asked again */
	drop_image(&image);
}
END_TEST

TEST_MAIN("block_raw", reads_give_what_was_written, direct_takes_any_buffer, more_bounces_than_there_are_wait,
	  requests_stay_within_the_image, read_only_is_read_only, short_and_interrupted_io_goes_on,
	  a_short_read_is_continued_where_it_ended, no_luck_ends_at_last, errors_are_told,
	  a_failed_flush_is_not_forgotten, writes_are_durable_when_asked, zeroes_are_written_by_every_way,
	  zeroes_are_written_piecewise, unmapping_gives_storage_back, discards_can_be_off,
	  a_discard_that_is_not_known_is_done)
