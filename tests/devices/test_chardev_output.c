/*
 * The output side of a character device with a loop and a clock that the test holds in its hands: when it
 * writes, how much, and what it does with each result that a kernel can give. The functions below take the
 * place of src/host/loop.c.
 */
#include "../../devices/backend/chardev_impl.h"

#include "harness.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>

enum { PACE_MS = 4 };
#define RING ((size_t)CHARDEV_OUTPUT_BYTES)

static uint64_t clock_ns;
static struct loop_op *posted, *writing, *delayed, *polled;
static const uint8_t *write_data;
static size_t write_len;
static uint64_t delay_end_ns;
static unsigned posts, writes;
static int release_res;
static uint8_t file[1 << 20];
static size_t file_len;

static void take(int count)
{
	memcpy(file + file_len, write_data, (size_t)count);
	file_len += (size_t)count;
}

uint64_t loop_now_ns(void)
{
	return clock_ns;
}

void loop_post(struct loop *loop, struct loop_op *op)
{
	(void)loop;
	posted = op;
	posts++;
}

void loop_write(struct loop *loop, struct loop_op *op, int fd, const void *buf, size_t len, off_t offset)
{
	(void)loop;
	(void)fd;
	ck_assert(!op->pending);
	ck_assert_int_eq(offset, -1);
	op->pending = true;
	writing = op;
	write_data = buf;
	write_len = len;
	writes++;
}

void loop_delay(struct loop *loop, struct loop_op *op, uint64_t delay_ns)
{
	(void)loop;
	ck_assert(!op->pending);
	op->pending = true;
	delayed = op;
	delay_end_ns = clock_ns + delay_ns;
}

void loop_poll_once(struct loop *loop, struct loop_op *op, int fd, unsigned events)
{
	(void)loop;
	(void)fd;
	(void)events;
	op->pending = true;
	polled = op;
}

int loop_release(struct loop *loop, struct loop_op *op)
{
	(void)loop;
	int res = op == writing && op->pending ? release_res : op->pending ? -ECANCELED : 0;
	op->pending = false;
	return res;
}

/* What comes of each wait, in turn. */
static int waits[8];
static unsigned wait_count;
static uint64_t wait_ns; /* what one takes */

int loop_wait(struct loop *loop, struct loop_op *op, uint64_t most_ns)
{
	(void)loop;
	ck_assert(op->pending && (op == writing || op == polled));
	ck_assert_uint_lt(wait_count, ARRAY_LEN(waits));
	clock_ns += wait_ns < most_ns ? wait_ns : most_ns;
	int res = wait_ns < most_ns ? waits[wait_count] : -ECANCELED;
	wait_count++;
	if (op == writing && res > 0)
		take(res);
	*(op == writing ? &writing : &polled) = NULL;
	op->pending = false;
	return res;
}

static void finish(struct loop_op **op, int res)
{
	struct loop_op *done = *op;
	ck_assert_ptr_nonnull(done);
	*op = NULL;
	done->pending = false;
	done->done(done, res);
}

/* The posts, and the delay when its time has come. */
static void advance(unsigned ms)
{
	clock_ns += ms * 1000000ULL;
	if (posted)
		finish(&posted, 0);
	if (delayed && clock_ns >= delay_end_ns)
		finish(&delayed, -ETIME);
}

/* ---- the device ---- */

static unsigned writable_calls;
static int hung_up_code;
static void on_writable(void *owner)
{
	(void)owner;
	writable_calls++;
}

static void on_hung_up(struct chardev *chardev, int code)
{
	hung_up_code = code;
	chardev_output_disconnect(chardev);
}

static const struct chardev_user user = {.writable = on_writable};
static const struct chardev_backend keeps_trying, hangs_up = {.hung_up = on_hung_up};

static struct chardev *device(const struct chardev_backend *kind)
{
	static uint8_t ring[RING];
	static struct chardev chardev;
	chardev = (struct chardev){.kind = kind, .out = ring, .user = &user, .in_fd = -1, .path = "test"};
	chardev_output_init(&chardev);
	chardev_output_connect(&chardev, 1000); /* no such descriptor: nothing here may use it */
	clock_ns = 1000000000;
	posted = writing = delayed = polled = NULL;
	posts = writes = writable_calls = wait_count = 0;
	wait_ns = 0;
	release_res = -ECANCELED;
	hung_up_code = 1;
	file_len = 0;
	return &chardev;
}

/* What the kernel does with a write: `res` bytes of it reach the file, or an error. */
static void complete(int res)
{
	ck_assert_ptr_nonnull(writing);
	if (res > 0)
		take(res);
	finish(&writing, res);
}

static size_t put(struct chardev *chardev, size_t count)
{
	static uint8_t data[2 * RING];
	static uint8_t next;
	for (size_t i = 0; i < count; i++)
		data[i] = (uint8_t)(next + i);
	size_t taken = chardev_write(chardev, data, count);
	next = (uint8_t)(next + taken);
	return taken;
}

static void check_file(size_t len)
{
	ck_assert_uint_eq(file_len, len);
	for (size_t i = 1; i < len; i++)
		ck_assert_uint_eq(file[i], (uint8_t)(file[0] + i));
}

START_TEST(one_byte_is_written_at_once_more_wait_for_the_pace)
{
	struct chardev *chardev = device(&keeps_trying);
	put(chardev, 1);
	advance(0);
	ck_assert_uint_eq(writes, 1);
	put(chardev, 1); /* while it writes */
	complete(1);
	ck_assert_uint_eq(writes, 1);
	put(chardev, 1);
	advance(PACE_MS - 1);
	put(chardev, 1);
	ck_assert_uint_eq(writes, 1);
	advance(1);
	ck_assert_uint_eq(writes, 2);
	complete(3);
	advance(100);
	ck_assert_uint_eq(writes, 2);
	put(chardev, 1); /* after silence: at once again */
	advance(0);
	ck_assert_uint_eq(writes, 3);
	complete(1);
	check_file(5);
}
END_TEST

START_TEST(the_loop_is_told_once_for_many_bytes)
{
	struct chardev *chardev = device(&keeps_trying);
	put(chardev, 0);
	ck_assert_uint_eq(posts, 0);
	for (int i = 0; i < 1000; i++)
		put(chardev, 1);
	ck_assert_uint_eq(posts, 1);
	advance(0);
	for (int i = 0; i < 1000; i++)
		put(chardev, 1);
	ck_assert_uint_eq(posts, 1); /* the write that is under way looks again */
	complete(1000);
	for (int i = 0; i < 1000; i++)
		put(chardev, 1);
	ck_assert_uint_eq(posts, 1); /* and so does the pace */
	advance(PACE_MS);
	complete(2000);
	put(chardev, 1);
	ck_assert_uint_eq(posts, 2);
}
END_TEST

START_TEST(much_does_not_wait_for_the_pace)
{
	struct chardev *chardev = device(&keeps_trying);
	put(chardev, 10);
	advance(0);
	complete(10);
	put(chardev, 10);
	advance(0);
	ck_assert_uint_eq(writes, 1);
	put(chardev, RING / 2);
	ck_assert_uint_eq(posts, 3);
	put(chardev, 1);
	ck_assert_uint_eq(posts, 3); /* told once of that, too */
	advance(0);
	ck_assert_uint_eq(writes, 2);
	put(chardev, 7);
	complete((int)write_len); /* the delay is still under way, and is enough */
	advance(PACE_MS);
	complete(7);
	check_file(10 + 10 + RING / 2 + 1 + 7);
}
END_TEST

START_TEST(a_post_while_it_writes_starts_no_second_write)
{
	struct chardev *chardev = device(&keeps_trying);
	put(chardev, 10);
	advance(0);
	put(chardev, RING / 2); /* posts */
	advance(PACE_MS);
	ck_assert_uint_eq(writes, 1);
	complete(-EAGAIN);
	put(chardev, 1);
	posted = &chardev->flush_op;
	advance(PACE_MS);
	ck_assert_uint_eq(writes, 1); /* nor while it waits for room */
	finish(&polled, 4);
	ck_assert_uint_eq(writes, 2);
	complete((int)write_len);
	check_file(10 + RING / 2 + 1);
}
END_TEST

START_TEST(bytes_wrap_around_the_ring_in_order)
{
	struct chardev *chardev = device(&keeps_trying);
	size_t sent = 0;
	for (int i = 0; i < 12; i++) {
		sent += put(chardev, 20011);
		advance(PACE_MS);
		while (writing)
			complete(write_len > 12345 ? 12345 : (int)write_len);
	}
	advance(PACE_MS);
	while (writing)
		complete((int)write_len);
	check_file(sent);
	ck_assert_uint_eq(sent, 240132);
}
END_TEST

START_TEST(a_full_ring_is_reported_writable_at_half)
{
	struct chardev *chardev = device(&keeps_trying);
	ck_assert_uint_eq(put(chardev, RING - 1), RING - 1);
	ck_assert_uint_eq(put(chardev, 2), 1);
	ck_assert_uint_eq(put(chardev, 1), 0);
	advance(0);
	complete((int)(RING / 2));
	ck_assert_uint_eq(writable_calls, 0);
	complete(1);
	ck_assert_uint_eq(writable_calls, 1);
	advance(PACE_MS);
	complete((int)write_len);
	ck_assert_uint_eq(writable_calls, 1); /* once */
	check_file(RING);
}
END_TEST

START_TEST(interruptions_are_tried_again_at_once)
{
	struct chardev *chardev = device(&keeps_trying);
	put(chardev, 3);
	advance(0);
	complete(-EINTR);
	ck_assert_uint_eq(writes, 2);
	complete(-ECANCELED);
	ck_assert_uint_eq(writes, 3);
	complete(3);
	ck_assert_uint_eq(chardev->lost, 0);
	check_file(3);
}
END_TEST

START_TEST(an_error_takes_the_bytes_of_that_write_only)
{
	struct chardev *chardev = device(&keeps_trying);
	log_set_level(LOG_ERROR);
	put(chardev, 5);
	advance(0);
	put(chardev, 3);
	complete(-EIO);
	ck_assert_uint_eq(chardev->lost, 5);
	advance(PACE_MS);
	ck_assert_uint_eq(write_len, 3);
	complete(0); /* nothing written and no reason given */
	ck_assert_uint_eq(chardev->lost, 8);
	advance(PACE_MS);
	put(chardev, 2);
	advance(0);
	complete(2);
	ck_assert_uint_eq(chardev->lost, 8);
	check_file(2);
	log_set_level(LOG_WARN);
}
END_TEST

START_TEST(a_hang_up_drops_and_lets_the_front_end_go_on)
{
	struct chardev *chardev = device(&hangs_up);
	put(chardev, RING + 1);
	advance(0);
	complete(-EPIPE);
	ck_assert_int_eq(hung_up_code, -EPIPE);
	ck_assert_uint_eq(writable_calls, 1);
	ck_assert_uint_eq(put(chardev, 2 * RING), 2 * RING);
	ck_assert_uint_eq(posts, 1);
	ck_assert_uint_eq(chardev->lost, 0); /* nobody listened: nothing was lost */
	chardev_output_connect(chardev, 1000);
	put(chardev, 4);
	ck_assert_uint_eq(posts, 2);
	advance(PACE_MS);
	complete(4);
	check_file(4);
}
END_TEST

START_TEST(what_a_released_write_did_is_not_written_again)
{
	struct chardev *chardev = device(&keeps_trying);
	FILE *out = tmpfile();
	put(chardev, 10);
	advance(0);
	release_res = 6; /* the kernel got that far */
	chardev->out_fd = fileno(out);
	chardev_output_finish(chardev);
	fseek(out, 0, SEEK_SET);
	char rest[16];
	ck_assert_uint_eq(fread(rest, 1, sizeof(rest), out), 4);
	(void)fclose(out);
}
END_TEST

/* A pause: a kill right after it must find nothing here. */
START_TEST(a_flush_waits_for_no_pace)
{
	struct chardev *chardev = device(&keeps_trying);
	chardev_flush(chardev); /* nothing to do */
	ck_assert_uint_eq(writes, 0);
	put(chardev, 5);
	advance(0);
	put(chardev, 7); /* behind a write that is under way */
	waits[0] = 5;
	waits[1] = 3; /* cut short */
	waits[2] = 4;
	chardev_flush(chardev);
	check_file(12);
	ck_assert_ptr_null(writing);
	advance(PACE_MS); /* its timer finds nothing */
	put(chardev, 1);
	advance(PACE_MS);
	complete(1);
	check_file(13);
}
END_TEST

START_TEST(a_flush_goes_around_the_ring_and_tells_of_room)
{
	struct chardev *chardev = device(&keeps_trying);
	put(chardev, RING - 10);
	waits[0] = (int)RING - 10;
	chardev_flush(chardev);
	put(chardev, RING + 1);
	waits[1] = 10;
	waits[2] = (int)RING - 10;
	chardev_flush(chardev);
	ck_assert_uint_eq(writable_calls, 1);
	check_file(2 * RING - 10);
}
END_TEST

START_TEST(a_flush_leaves_what_nobody_takes_in_20_ms)
{
	struct chardev *chardev = device(&keeps_trying);
	put(chardev, 9);
	uint64_t start_ns = clock_ns;
	wait_ns = 15000000;
	waits[0] = -EAGAIN; /* non-blocking: now for room, which does not come */
	chardev_flush(chardev);
	ck_assert_uint_eq(wait_count, 3); /* the last one for no time */
	ck_assert_uint_eq(clock_ns - start_ns, 20000000);
	complete(9); /* it is being written again, at the reader's leisure */
	check_file(9);
	put(chardev, 3);
	wait_ns = 1000000;
	waits[3] = -EINTR;
	waits[4] = -EAGAIN;
	waits[5] = POLLOUT;
	waits[6] = 3;
	chardev_flush(chardev);
	check_file(12);
	ck_assert_uint_eq(chardev->lost, 0);
}
END_TEST

START_TEST(a_flush_survives_errors_and_hang_ups)
{
	struct chardev *chardev = device(&keeps_trying);
	log_set_level(LOG_ERROR);
	put(chardev, 9);
	waits[0] = -ENOSPC;
	chardev_flush(chardev);
	ck_assert_uint_eq(chardev->lost, 9);
	ck_assert_uint_eq(wait_count, 1);
	chardev = device(&hangs_up);
	put(chardev, 9);
	waits[0] = -EPIPE;
	chardev_flush(chardev);
	ck_assert_int_eq(hung_up_code, -EPIPE);
	ck_assert_uint_eq(wait_count, 1);
	log_set_level(LOG_WARN);
}
END_TEST

TEST_MAIN("chardev output", one_byte_is_written_at_once_more_wait_for_the_pace,
	  the_loop_is_told_once_for_many_bytes, much_does_not_wait_for_the_pace,
	  a_post_while_it_writes_starts_no_second_write, bytes_wrap_around_the_ring_in_order,
	  a_full_ring_is_reported_writable_at_half, interruptions_are_tried_again_at_once,
	  an_error_takes_the_bytes_of_that_write_only, a_hang_up_drops_and_lets_the_front_end_go_on,
	  what_a_released_write_did_is_not_written_again, a_flush_waits_for_no_pace,
	  a_flush_goes_around_the_ring_and_tells_of_room, a_flush_leaves_what_nobody_takes_in_20_ms,
	  a_flush_survives_errors_and_hang_ups)
