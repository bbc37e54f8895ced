#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "harness.h"

#include <errno.h>
#include <string.h>

START_TEST(first_error_wins)
{
	struct err err = ERR_INIT;
	ck_assert_int_eq(err_set(&err, -EINVAL, "first"), -EINVAL);
	ck_assert_int_eq(err_set(&err, -EIO, "second"), -EINVAL);
	ck_assert_str_eq(err.text, "first");
}
END_TEST

START_TEST(context_goes_in_front)
{
	struct err err = ERR_INIT;
	err_sys(&err, -ENOENT, "%s", "vmlinuz");
	ck_assert_int_eq(err_prepend(&err, "boot.%s", "kernel"), -ENOENT);
	ck_assert_str_eq(err.text, "boot.kernel: vmlinuz: No such file or directory");
}
END_TEST

START_TEST(long_message_is_cut_not_overrun)
{
	struct err err = ERR_INIT;
	char big[3 * ERR_TEXT_BYTES];
	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = 0;
	err_sys(&err, -EIO, "%s", big);
	ck_assert_uint_eq(strlen(err.text), ERR_TEXT_BYTES - 1);
	err_prepend(&err, "%s", big);
	ck_assert_uint_eq(strlen(err.text), ERR_TEXT_BYTES - 1);
}
END_TEST

START_TEST(writer_stops_at_its_end)
{
	uint8_t buf[6] = {0};
	struct writer w = writer_on(buf, sizeof(buf));
	write_le32(&w, 0x11223344);
	ck_assert(!w.failed);
	write_le32(&w, 1);
	ck_assert(w.failed);
	ck_assert_uint_eq(w.used, 4);
	write_u8(&w, 9); /* would fit, but the format is already broken */
	ck_assert_uint_eq(w.used, 4);
	ck_assert_mem_eq(buf, "\x44\x33\x22\x11\0\0", 6);
}
END_TEST

START_TEST(reader_gives_zeros_past_its_end)
{
	const uint8_t data[] = {1, 2, 3};
	struct reader r = reader_on(data, sizeof(data));
	ck_assert_uint_eq(read_le16(&r), 0x0201);
	ck_assert_uint_eq(read_le16(&r), 0);
	ck_assert(r.failed);
	uint8_t last = 9; /* is there, but behind what was not */
	read_bytes(&r, &last, 1);
	ck_assert_uint_eq(last, 0);
}
END_TEST

START_TEST(close_keeps_errno)
{
	errno = ENOSPC;
	(void)close_fd(12345);
	ck_assert_int_eq(errno, ENOSPC);
}
END_TEST

TEST_MAIN("base", first_error_wins, context_goes_in_front, long_message_is_cut_not_overrun,
	  writer_stops_at_its_end, reader_gives_zeros_past_its_end, close_keeps_errno)
