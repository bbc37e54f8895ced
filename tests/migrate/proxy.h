/* What lies between the two sides of a migration and breaks, or changes a byte, where a test wants it. */
#ifndef AERIE_TESTS_MIGRATE_PROXY_H
#define AERIE_TESTS_MIGRATE_PROXY_H

#include "world.h"

#include <poll.h>

enum { FORWARD = 0, CUT, FLIP };

/* Which byte: the `offset`th of the first message of `type`; or, with type 0, of all in that direction. */
struct fault {
	int what;
	bool upward; /* destination to source */
	unsigned type;
	unsigned after; /* not before this message's header has passed downward; 0: from the start */
	int64_t offset; /* negative: from the message's end, -1 its last byte; INT64_MAX: behind it */
};

/* Between the two: knows messages, and does what the fault says. */
struct proxy {
	struct fault fault;
	char path[80];
	struct uri uri;
	char uri_text[96];
	int listen_fd, source_fd, dest_fd;
	const char *dest_path;
	bool hit;
	bool joined;
	bool armed; /* fault.after has passed */
	pthread_t thread;
};

/* One direction's place in its stream. */
struct side {
	uint8_t header[WIRE_HEADER_BYTES];
	size_t in_message, message_bytes; /* message_bytes 0: the header is not whole yet */
	uint64_t total;
};

static inline int connect_to(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	MUST(connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0);
	return fd;
}

static inline bool is_the_byte(const struct fault *fault, const struct side *side)
{
	if (fault->type == 0)
		return side->total == (uint64_t)fault->offset;
	if (side->in_message >= 8 && (unsigned)(side->header[6] | side->header[7] << 8) != fault->type)
		return false;
	if (side->message_bytes == 0)
		return false;
	int64_t at = fault->offset;
	if (at < 0)
		at += (int64_t)side->message_bytes;
	return (int64_t)side->in_message == at;
}

/* Takes a byte into account that was forwarded. */
static inline void advance(struct side *side, uint8_t byte)
{
	if (side->in_message < WIRE_HEADER_BYTES)
		side->header[side->in_message] = byte;
	side->in_message++;
	side->total++;
	if (side->in_message == WIRE_HEADER_BYTES)
		side->message_bytes =
			WIRE_HEADER_BYTES + (side->header[8] | (size_t)side->header[9] << 8 |
					     (size_t)side->header[10] << 16 | (size_t)side->header[11] << 24);
	if (side->message_bytes && side->in_message == side->message_bytes)
		side->in_message = side->message_bytes = 0;
}

static inline bool is_message(const struct side *side, unsigned type)
{
	return (unsigned)(side->header[6] | side->header[7] << 8) == type;
}

static inline void send_all(int fd, const uint8_t *data, size_t len)
{
	while (len) {
		ssize_t n = send(fd, data, len, MSG_NOSIGNAL);
		if (n <= 0)
			return;
		data += n;
		len -= (size_t)n;
	}
}

/* The byte that carries RAM's descriptor. */
static inline bool pass_descriptor(struct proxy *proxy)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} space;
	char byte;
	int fd;
	struct iovec iov = {&byte, 1};
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &space, .msg_controllen = sizeof(space)};
	if (recvmsg(proxy->source_fd, &msg, MSG_CMSG_CLOEXEC) != 1)
		return false;
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(fd));
	MUST(sendmsg(proxy->dest_fd, &msg, MSG_NOSIGNAL) == 1 || errno == EPIPE);
	close(fd);
	return true;
}

/*
 * A whole message is held back until its header is there, so that the fault's place in it is known. False:
 * the connection ends.
 */
static inline bool pass(struct proxy *proxy, struct side *side, bool upward)
{
	static _Thread_local uint8_t data[1 << 16];
	int from = upward ? proxy->dest_fd : proxy->source_fd,
	    to = upward ? proxy->source_fd : proxy->dest_fd;
	const struct fault *fault = &proxy->fault;
	/* One header at most is read ahead of what is known. */
	size_t want = side->message_bytes ? side->message_bytes - side->in_message
					  : WIRE_HEADER_BYTES - side->in_message;
	ssize_t n = recv(from, data, want < sizeof(data) ? want : sizeof(data), 0);
	if (n <= 0)
		return false;
	for (ssize_t i = 0; i < n; i++) {
		bool concerned =
			fault->what != FORWARD && !proxy->hit && fault->upward == upward && proxy->armed;
		bool header_whole = side->in_message + 1 == WIRE_HEADER_BYTES;
		uint8_t original = data[i];
		if (concerned && fault->type == 0 && is_the_byte(fault, side)) {
			proxy->hit = true;
			if (fault->what == CUT) {
				send_all(to, data, (size_t)i);
				return false;
			}
			data[i] ^= 0x10;
		}
		if (concerned && fault->type && side->message_bytes && is_the_byte(fault, side)) {
			proxy->hit = true;
			if (fault->what == CUT) {
				send_all(to, data, (size_t)i);
				return false;
			}
			data[i] ^= 0x10;
		}
		advance(side, original);
		if (!upward && !proxy->armed && header_whole && is_message(side, fault->after)) {
			proxy->armed = true;
			side->total = 0;
			concerned = fault->type == fault->after && fault->type != 0;
		}
		if (!proxy->armed)
			side->total = 0;
		/* A place in the header itself: now it is known whose header this is. */
		if (concerned && fault->type && header_whole && is_message(side, fault->type)) {
			size_t at = fault->offset >= 0 && fault->offset < WIRE_HEADER_BYTES
					    ? (size_t)fault->offset
					    : SIZE_MAX;
			if (at != SIZE_MAX && (ssize_t)at <= i) {
				proxy->hit = true;
				if (fault->what == CUT) {
					send_all(to, data, at);
					return false;
				}
				data[at] ^= 0x10;
			}
		}
		bool ended = side->in_message == 0;
		if (concerned && fault->type && ended && fault->offset == INT64_MAX &&
		    is_message(side, fault->type)) {
			proxy->hit = true;
			send_all(to, data, (size_t)i + 1);
			return false;
		}
	}
	send_all(to, data, (size_t)n);
	return side->in_message != 0 || !is_message(side, WIRE_MEMFD) || pass_descriptor(proxy);
}

static inline void *proxy_thread(void *argument)
{
	struct proxy *proxy = argument;
	struct side down = {.total = 0}, up = {.total = 0};
	bool open = true;
	proxy->source_fd = accept(proxy->listen_fd, NULL, NULL);
	if (proxy->source_fd < 0)
		return NULL;
	proxy->dest_fd = connect_to(proxy->dest_path);
	while (open) {
		struct pollfd at[2] = {{.fd = proxy->source_fd, .events = POLLIN},
				       {.fd = proxy->dest_fd, .events = POLLIN}};
		if (poll(at, 2, 10000) <= 0)
			break;
		if (at[0].revents)
			open = pass(proxy, &down, false);
		if (open && at[1].revents)
			open = pass(proxy, &up, true);
	}
	close(proxy->source_fd);
	close(proxy->dest_fd);
	return NULL;
}

static inline void proxy_start(struct proxy *proxy, struct world *world, const struct fault *fault)
{
	static unsigned number;
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct err err = ERR_INIT;
	*proxy = (struct proxy){.fault = *fault, .dest_path = world->path, .armed = fault->after == 0};
	snprintf(proxy->path, sizeof(proxy->path), "%s.p%u", world->path, number++);
	snprintf(proxy->uri_text, sizeof(proxy->uri_text), "unix:%s", proxy->path);
	ck_assert_int_eq(uri_parse(proxy->uri_text, &proxy->uri, &err), 0);
	memcpy(address.sun_path, proxy->path, sizeof(proxy->path));
	proxy->listen_fd = socket(AF_UNIX, SOCK_STREAM, 0);
	ck_assert_int_eq(bind(proxy->listen_fd, (struct sockaddr *)&address, sizeof(address)), 0);
	ck_assert_int_eq(listen(proxy->listen_fd, 8), 0);
	ck_assert_int_eq(pthread_create(&proxy->thread, NULL, proxy_thread, proxy), 0);
}

static inline void proxy_finish(struct proxy *proxy)
{
	(void)shutdown(proxy->listen_fd, SHUT_RDWR);
	if (!proxy->joined)
		pthread_join(proxy->thread, NULL);
	close(proxy->listen_fd);
	unlink(proxy->path);
}

#endif
