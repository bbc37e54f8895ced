/* Sends from pages: what arrives is what was in the buffer, also when buffers are used again and again. */
#include "../../src/migrate/zero_copy.h"

#include "base/cleanup.h"
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BUFFER_BYTES = 1 << 16, MESSAGES = 200 };

struct pair {
	struct canceller canceller;
	struct channel channel; /* sends, has a zero_copy */
	int receiver;
};

/* False: this kernel cannot. */
static bool pair_open(struct pair *pair, int family)
{
	struct err err = ERR_INIT;
	int fds[2];
	if (family == AF_UNIX) {
		ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	} else {
		struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
		socklen_t len = sizeof(at);
		_cleanup_close_ int listener = socket(AF_INET, SOCK_STREAM, 0);
		ck_assert_int_eq(bind(listener, (struct sockaddr *)&at, sizeof(at)), 0);
		ck_assert_int_eq(listen(listener, 1), 0);
		ck_assert_int_eq(getsockname(listener, (struct sockaddr *)&at, &len), 0);
		fds[0] = socket(AF_INET, SOCK_STREAM, 0);
		ck_assert_int_eq(connect(fds[0], (struct sockaddr *)&at, sizeof(at)), 0);
		fds[1] = accept(listener, NULL, NULL);
	}
	ck_assert_int_eq(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
	ck_assert_int_eq(canceller_init(&pair->canceller, &err), 0);
	pair->channel = (struct channel){.fd = fds[0], .canceller = &pair->canceller, .timeout_ms = 10000};
	pair->receiver = fds[1];
	int r = zero_copy_create(BUFFER_BYTES, &pair->channel.zero_copy, &err);
	ck_assert_msg(r == 0 || r == -ENOTSUP, "%s", err.text);
	return r == 0;
}

static void pair_close(struct pair *pair)
{
	channel_close(&pair->channel);
	canceller_finish(&pair->canceller);
	(void)close(pair->receiver);
}

static void fill(uint8_t *buffer, size_t message)
{
	for (size_t i = 0; i < BUFFER_BYTES; i++)
		buffer[i] = (uint8_t)(message * 31 + i * 7 + (i >> 8));
}

static void *receive(void *argument)
{
	struct pair *pair = argument;
	static uint8_t data[BUFFER_BYTES], want[BUFFER_BYTES];
	for (size_t message = 0; message < MESSAGES; message++) {
		if (message % 16 == 0)
			(void)usleep(5000); /* the sender runs out of buffers, the socket of room */
		ck_assert_int_eq(recv(pair->receiver, data, sizeof(data), MSG_WAITALL), BUFFER_BYTES);
		fill(want, message);
		ck_assert_msg(memcmp(data, want, sizeof(data)) == 0, "message %zu", message);
	}
	return NULL;
}

static void send_all(int family)
{
	struct pair pair;
	pthread_t thread;
	if (pair_open(&pair, family)) {
		ck_assert_int_eq(pthread_create(&thread, NULL, receive, &pair), 0);
		for (size_t message = 0; message < MESSAGES; message++) {
			struct err err = ERR_INIT;
			uint8_t *buffer = zero_copy_buffer(pair.channel.zero_copy, &pair.channel, &err);
			ck_assert_msg(buffer, "%s", err.text);
			fill(buffer, message);
			int r = channel_send(&pair.channel, buffer, BUFFER_BYTES, NULL, &err);
			ck_assert_msg(r == 0, "%s", err.text);
		}
		pthread_join(thread, NULL);
	}
	pair_close(&pair);
}

START_TEST(what_arrives)
{
	send_all(AF_INET);
}
END_TEST

START_TEST(a_socket_that_cannot_is_served_by_copies)
{
	send_all(AF_UNIX);
}
END_TEST

/* Nobody reads: first the socket is full, then there are no buffers. A wait for either ends with the
 * canceller. */
START_TEST(cancelled)
{
	struct pair pair;
	struct err err = ERR_INIT;
	if (pair_open(&pair, AF_INET)) {
		pair.channel.timeout_ms = 100;
		int r = 0;
		for (size_t message = 0; r == 0 && message < 10000; message++) {
			uint8_t *buffer = zero_copy_buffer(pair.channel.zero_copy, &pair.channel, &err);
			r = buffer ? channel_send(&pair.channel, buffer, BUFFER_BYTES, NULL, &err) : err.code;
		}
		ck_assert_int_eq(r, -ETIMEDOUT);
		canceller_fire(&pair.canceller);
		err = ERR_INIT;
		for (int i = 0; i < 16 && zero_copy_buffer(pair.channel.zero_copy, &pair.channel, &err); i++)
			continue;
		ck_assert_int_eq(err.code, -ECANCELED);
	}
	pair_close(&pair);
}
END_TEST

TEST_MAIN("zero_copy", what_arrives, a_socket_that_cannot_is_served_by_copies, cancelled)
