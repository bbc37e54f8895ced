/* Where messages end, whatever pieces they come in. */
#include "../../src/control/frame.h"

#include "config/json_scan.h"

#include "harness.h"

#include <stdio.h>
#include <string.h>

/* Feeds `text` in pieces of `step` bytes and notes what came out, as "message|message|!|". */
static void run_through(const char *text, size_t len, size_t first, size_t step, char *out, size_t size)
{
	struct frame frame = {0};
	size_t at = 0, end = first;
	out[0] = '\0';
	while (at < len) {
		if (end > len)
			end = len;
		while (at < end) {
			size_t taken = SIZE_MAX, used = strlen(out);
			enum frame_result r = frame_feed(&frame, text + at, end - at, &taken);
			ck_assert_uint_le(taken, end - at);
			at += taken;
			if (r == FRAME_MORE)
				ck_assert_uint_eq(at, end);
			if (r == FRAME_MESSAGE) {
				(void)snprintf(out + used, size - used, "%.*s|", (int)frame.used, frame.text);
				frame_next(&frame);
			} else if (r != FRAME_MORE) {
				(void)snprintf(out + used, size - used, "!%d|", (int)r);
				if (r != FRAME_BROKEN)
					at = len;
			}
		}
		end += step;
	}
	frame_finish(&frame);
}

static const struct {
	const char *in, *out;
} rows[] = {
	{"{}", "{}|"},
	{" \r\n\t{}{}[]", "{}|{}|[]|"},
	{"{\"a\": {\"b\": [1, {}]}}\n", "{\"a\": {\"b\": [1, {}]}}|"},
	{"{\n\"a\"\n:\n1\n}", "{\n\"a\"\n:\n1\n}|"},
	{"\"}{\" {\"}\\\"\": 1}", "\"}{\"|{\"}\\\"\": 1}|"},
	{"\"\\\\\" 1", "\"\\\\\"|"},
	{"12 true {}", "12|true|{}|"},
	{"12{}", "12|{}|"},
	{"a\"b\"", "a|\"b\"|"},
	{"} ] {}", "}|]|{}|"},
	{"{]", "{]|"},		  /* nonsense, for the scanner to refuse */
	{"{\"a\x01{}", "!2|{}|"}, /* a control character gets out of half a message */
	{"{\"a\n{}", "!2|{}|"},	  /* also a line's end, in a text */
	{"[[[\xff{}", "!2|{}|"},
	{"\x1b{}", "!2|{}|"},
	{"{\"\xc3\xa9\"}", "{\"\xc3\xa9\"}|"},
	{"", ""},
};

START_TEST(messages_end_where_they_end_at_every_split)
{
	char out[512];
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		size_t len = strlen(rows[i].in);
		for (size_t split = 0; split <= len; split++) {
			run_through(rows[i].in, len, split, len + 1, out, sizeof(out));
			ck_assert_msg(strcmp(out, rows[i].out) == 0, "row %zu cut at %zu: %s", i, split, out);
		}
		run_through(rows[i].in, len, 1, 1, out, sizeof(out));
		ck_assert_str_eq(out, rows[i].out);
	}
}
END_TEST

START_TEST(a_nul_byte_breaks_a_message)
{
	char out[64];
	run_through("{\0{}", 4, 4, 1, out, sizeof(out));
	ck_assert_str_eq(out, "!2|{}|");
}
END_TEST

START_TEST(a_message_is_bounded)
{
	struct frame frame = {0};
	size_t taken;
	ck_assert_int_eq(frame_feed(&frame, "[\"", 2, &taken), FRAME_MORE);
	for (size_t i = 2; i < FRAME_BYTES_MAX; i++)
		ck_assert_int_eq(frame_feed(&frame, "x", 1, &taken), FRAME_MORE);
	ck_assert_int_eq(frame_feed(&frame, "x", 1, &taken), FRAME_TOO_LONG);
	ck_assert_uint_le(frame.size, FRAME_BYTES_MAX);
	frame_finish(&frame);
}
END_TEST

START_TEST(nesting_is_bounded_as_the_scanner_has_it)
{
	struct frame frame = {0};
	size_t taken;
	for (int i = 0; i < JSON_DEPTH_MAX; i++)
		ck_assert_int_eq(frame_feed(&frame, "[", 1, &taken), FRAME_MORE);
	ck_assert_int_eq(frame_feed(&frame, "{", 1, &taken), FRAME_TOO_DEEP);
	frame_finish(&frame);
}
END_TEST

START_TEST(leading_space_costs_nothing)
{
	struct frame frame = {0};
	size_t taken;
	for (int i = 0; i < 3 * FRAME_BYTES_MAX; i++)
		ck_assert_int_eq(frame_feed(&frame, " ", 1, &taken), FRAME_MORE);
	ck_assert_ptr_null(frame.text);
}
END_TEST

TEST_MAIN("frame", messages_end_where_they_end_at_every_split, a_nul_byte_breaks_a_message,
	  a_message_is_bounded, nesting_is_bounded_as_the_scanner_has_it, leading_space_costs_nothing)
