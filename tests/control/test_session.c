/*
 * Conversations: tests/golden/control/NAME.in is what a client sends, NAME.out what it is answered, byte for
 * byte, but for the CRs. Rules that no transcript can show follow.
 */
#include "session_rig.h"

#include "base/cleanup.h"
#include "harness.h"

#include <glob.h>

static char *read_file(const char *path, size_t *ret_len)
{
	FILE *file = fopen(path, "re");
	char *text = calloc(1, 65536);
	ck_assert_msg(file && text, "%s", path);
	*ret_len = fread(text, 1, 65535, file);
	(void)fclose(file);
	return text;
}

static void drop_crs(char *text)
{
	char *to = text;
	for (const char *p = text; *p; p++) {
		if (*p == '\r')
			ck_assert_int_eq(p[1], '\n'); /* only there */
		else
			*to++ = *p;
	}
	*to = '\0';
}

static void play(const char *in_path)
{
	static struct session_rig rig;
	char out_path[512];
	size_t len, want_len;
	_cleanup_free_ char *in = read_file(in_path, &len);
	(void)snprintf(out_path, sizeof(out_path), "%.*s.out", (int)strlen(in_path) - 3, in_path);
	_cleanup_free_ char *want = read_file(out_path, &want_len);
	for (size_t split = 0; split <= len; split++) {
		rig_start(&rig);
		if (rig_feed(&rig, in, split) == split)
			(void)rig_feed(&rig, in + split, len - split);
		char *said = (char *)(uintptr_t)rig_said(&rig);
		drop_crs(said);
		session_finish(&rig.session);
		if (split == 0 && getenv("AERIE_WRITE_GOLDEN")) {
			FILE *file = fopen(out_path, "we");
			(void)fputs(said, file);
			(void)fclose(file);
			return;
		}
		ck_assert_msg(strcmp(said, want) == 0, "%s cut at %zu:\n%s", in_path, split, said);
	}
}

START_TEST(transcripts)
{
	glob_t found;
	ck_assert_int_eq(glob("tests/golden/control/*.in", 0, NULL, &found), 0);
	ck_assert_uint_ge(found.gl_pathc, 6);
	for (size_t i = 0; i < found.gl_pathc; i++)
		play(found.gl_pathv[i]);
	globfree(&found);
}
END_TEST

static const char hello[] = "{\"execute\": \"qmp_capabilities\"}";

static struct session_rig *ready_rig(void)
{
	static struct session_rig rig;
	rig_start(&rig);
	ck_assert_uint_eq(rig_feed(&rig, hello, strlen(hello)), strlen(hello));
	ck_assert(rig.session.ready);
	(void)rig_said(&rig);
	return &rig;
}

START_TEST(a_command_that_takes_time_keeps_the_rest_waiting)
{
	static const char in[] = "{\"execute\": \"later\", \"id\": 1} {\"execute\": \"nothing\", \"id\": 2}";
	struct session_rig *rig = ready_rig();
	size_t used = rig_feed(rig, in, strlen(in));
	ck_assert_uint_lt(used, strlen(in));
	ck_assert(session_busy(&rig->session));
	ck_assert_str_eq(rig_said(rig), "");
	ck_assert_uint_eq(session_feed(&rig->session, in + used, strlen(in) - used), 0);

	request_return(rig_later, cJSON_CreateTrue());
	ck_assert_uint_eq(rig->wakes, 1);
	ck_assert_str_eq(rig_said(rig), "{\"return\":true,\"id\":1}\r\n");
	ck_assert_uint_eq(rig_feed(rig, in + used, strlen(in) - used), strlen(in) - used);
	ck_assert_str_eq(rig_said(rig), "{\"return\":{},\"id\":2}\r\n");
	session_finish(&rig->session);
}
END_TEST

START_TEST(a_late_failure_is_told_with_its_id)
{
	static const char in[] = "{\"execute\": \"later\", \"id\": {\"x\": [1]}}";
	struct session_rig *rig = ready_rig();
	const struct err err = {.code = -EIO, .text = "later: disk full"};
	(void)rig_feed(rig, in, strlen(in));
	request_fail(rig_later, &err);
	ck_assert_str_eq(rig_said(rig),
			 "{\"error\":{\"class\":\"GenericError\",\"desc\":\"later: disk full\"},"
			 "\"id\":{\"x\":[1]}}\r\n");
	session_finish(&rig->session);
}
END_TEST

START_TEST(a_client_may_leave_before_its_answer)
{
	static const char in[] = "{\"execute\": \"later\"}";
	const struct err err = {.code = -EIO, .text = "too late"};
	struct session_rig *rig = ready_rig();
	(void)rig_feed(rig, in, strlen(in));
	session_finish(&rig->session);
	request_return(rig_later, cJSON_CreateTrue());

	rig = ready_rig();
	(void)rig_feed(rig, in, strlen(in));
	session_finish(&rig->session);
	request_fail(rig_later, &err);
	ck_assert_str_eq(rig_said(rig), "");
}
END_TEST

START_TEST(too_long_and_too_deep_end_the_session)
{
	static char in[FRAME_BYTES_MAX + 2];
	struct session_rig *rig = ready_rig();
	memset(in, 'x', sizeof(in));
	in[0] = '"';
	(void)rig_feed(rig, in, sizeof(in));
	ck_assert(rig->session.dead);
	ck_assert_ptr_nonnull(strstr(rig_said(rig), "at most 65536 bytes"));
	ck_assert_uint_eq(session_feed(&rig->session, hello, strlen(hello)), 0);
	session_finish(&rig->session);

	rig = ready_rig();
	memset(in, '[', sizeof(in));
	(void)rig_feed(rig, in, sizeof(in));
	ck_assert(rig->session.dead);
	ck_assert_ptr_nonnull(strstr(rig_said(rig), "16 levels"));
	session_finish(&rig->session);
}
END_TEST

TEST_MAIN("session", transcripts, a_command_that_takes_time_keeps_the_rest_waiting,
	  a_late_failure_is_told_with_its_id, a_client_may_leave_before_its_answer,
	  too_long_and_too_deep_end_the_session)
