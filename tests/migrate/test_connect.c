/* Connecting and listening that cannot be: what stands in the way is named, and nothing stays open. */
#include "../../src/migrate/channel.h"
#include "base/cleanup.h"
#include "harness.h"
#include "scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>

static struct canceller canceller;

static struct uri parse(const char *text)
{
	struct err err = ERR_INIT;
	struct uri uri;
	ck_assert_msg(uri_parse(text, &uri, &err) == 0, "%s", err.text);
	return uri;
}

static void cannot_connect(const char *text, int code, const char *why)
{
	struct uri uri = parse(text);
	struct err err = ERR_INIT;
	struct channel channel;
	ck_assert_int_eq(channel_connect(&uri, &canceller, &channel, &err), code);
	ck_assert_msg(strstr(err.text, why), "%s, not %s", err.text, why);
	ck_assert_int_eq(channel.fd, -1);
}

static void cannot_listen(const char *text, int code, const char *why)
{
	struct uri uri = parse(text);
	struct err err = ERR_INIT;
	struct listener listener;
	ck_assert_int_eq(listener_open(&uri, &listener, &err), code);
	ck_assert_msg(strstr(err.text, why), "%s, not %s", err.text, why);
	ck_assert_int_eq(listener.fd, -1);
}

static void begin(void)
{
	struct err err = ERR_INIT;
	ck_assert_int_eq(canceller_init(&canceller, &err), 0);
}

START_TEST(nobody_is_there)
{
	char path[80], text[96];
	begin();
	scratch_path(path, sizeof(path), "nobody");
	(void)snprintf(text, sizeof(text), "unix:%s", path);
	cannot_connect(text, -ENOENT, text);
	cannot_connect("tcp::4444", -EINVAL, "tcp::4444: to which host?");
	cannot_connect("tcp:127.0.0.1:1", -ECONNREFUSED, "tcp:127.0.0.1:1: Connection refused");
	cannot_connect("tcp:no such host:1", -EHOSTUNREACH, "tcp:no such host:1: ");
	cannot_connect("fd:987", -EBADF, "fd:987: Bad file descriptor");
	cannot_listen("tcp:no such host:1", -EHOSTUNREACH, "tcp:no such host:1: ");
	cannot_listen("tcp:192.0.2.1:1", -EADDRNOTAVAIL, "tcp:192.0.2.1:1: "); /* TEST-NET-1: is not ours */
	cannot_listen("fd:987", -EBADF, "fd:987: Bad file descriptor");
	canceller_finish(&canceller);
}
END_TEST

START_TEST(what_is_no_socket_carries_no_migration)
{
	char text[32];
	_cleanup_close_ int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	begin();
	(void)snprintf(text, sizeof(text), "fd:%d", fd);
	cannot_connect(text, -ENOTSOCK,
		       "is no socket that is connected both ways: Socket operation on non-socket");
	cannot_listen(text, -ENOTSOCK, text);
	canceller_finish(&canceller);
}
END_TEST

START_TEST(a_connection_is_one_and_a_listener_waits_as_long_as_it_is_told)
{
	char text[32];
	int pair[2];
	struct listener listener;
	struct channel channel;
	struct err err = ERR_INIT;
	begin();
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	(void)snprintf(text, sizeof(text), "fd:%d", pair[0]);
	struct uri uri = parse(text);
	ck_assert_int_eq(listener_open(&uri, &listener, &err), 0);
	ck_assert_int_eq(listener_accept(&listener, &canceller, -1, &channel, &err), 0);
	channel_close(&channel);
	ck_assert_int_eq(listener_accept(&listener, &canceller, -1, &channel, &err), -EINVAL);
	ck_assert_str_eq(err.text, "one connection is all that there is");
	listener_close(&listener);
	(void)close_fd(pair[0]);
	(void)close_fd(pair[1]);

	uri = parse("tcp:127.0.0.1:0");
	err = ERR_INIT;
	ck_assert_msg(listener_open(&uri, &listener, &err) == 0, "%s", err.text);
	ck_assert_int_eq(listener_accept(&listener, &canceller, 20, &channel, &err), -ETIMEDOUT);
	ck_assert_str_eq(err.text, "nobody has connected for 0 s");
	canceller_fire(&canceller);
	err = ERR_INIT;
	ck_assert_int_eq(listener_accept(&listener, &canceller, -1, &channel, &err), -ECANCELED);
	listener_close(&listener);
	canceller_finish(&canceller);
}
END_TEST

START_TEST(who_is_silent_is_waited_for_as_long_as_it_is_told)
{
	char text[32];
	int pair[2];
	uint8_t byte;
	struct channel channel;
	struct err err = ERR_INIT;
	begin();
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	(void)snprintf(text, sizeof(text), "fd:%d", pair[0]);
	struct uri uri = parse(text);
	ck_assert_int_eq(channel_connect(&uri, &canceller, &channel, &err), 0);
	channel.timeout_ms = 20;
	ck_assert_int_eq(channel_receive(&channel, &byte, 1, &err), -ETIMEDOUT);
	ck_assert_str_eq(err.text, "the other side has been silent for 0 s");
	err = ERR_INIT;
	canceller_fire(&canceller);
	ck_assert_int_eq(channel_receive(&channel, &byte, 1, &err), -ECANCELED);
	channel_close(&channel);
	(void)close_fd(pair[0]);
	(void)close_fd(pair[1]);
	canceller_finish(&canceller);
}
END_TEST

START_TEST(a_uri_is_not_longer_than_it_may_be)
{
	static char text[URI_MAX + 8];
	struct uri uri;
	struct err err = ERR_INIT;
	(void)snprintf(text, sizeof(text), "tcp:%0300d:1", 0);
	ck_assert_int_eq(uri_parse(text, &uri, &err), -EINVAL);
	ck_assert_ptr_nonnull(strstr(err.text, "the host's name is too long"));
	(void)snprintf(text, sizeof(text), "exec:%0*d", URI_MAX, 0);
	err = ERR_INIT;
	ck_assert_int_eq(uri_parse(text, &uri, &err), -EINVAL);
	ck_assert_str_eq(err.text, "a URI of more than 4095 bytes");
}
END_TEST

TEST_MAIN("connect", nobody_is_there, what_is_no_socket_carries_no_migration,
	  a_connection_is_one_and_a_listener_waits_as_long_as_it_is_told,
	  who_is_silent_is_waited_for_as_long_as_it_is_told, a_uri_is_not_longer_than_it_may_be)
