/*
 * Stands between the two sides of a migration, knows where its messages begin and end (src/migrate/wire.h),
 * and does one thing at one place. Linked statically, runs in L0.
 *
 *	relay LISTEN CONNECT			nothing: how many bytes went each way
 *	relay LISTEN CONNECT TYPE PLACE cut	the first message of this type is cut before its byte PLACE
 *	relay LISTEN CONNECT TYPE PLACE kill P	there, process P is killed; what it has sent and what is
 *						sent to it goes on
 *	relay LISTEN CONNECT TYPE 0 version N	the message is of version N
 *	relay LISTEN CONNECT TYPE 0 swap A B	in that state the bytes A (hexadecimal) become B, as often as
 *						they occur
 *
 * TYPE 0 is any message from the source to the destination, and PLACE then counts all bytes in that
 * direction. One connection, then it ends; its last line says what it has done.
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { HEADER_BYTES = 24, MESSAGE_MAX = 64 << 20, PATTERN_MAX = 64 };

struct pattern {
	uint8_t bytes[PATTERN_MAX];
	size_t len;
};

/* What is to be done, and whether it has been. */
static struct plan {
	unsigned type;
	uint64_t place;
	const char *action; /* NULL: none */
	long number;	    /* of kill and version */
	struct pattern from, to;
	unsigned done; /* by either thread, one of which alone can meet the place */
} plan;

struct direction {
	int from, to;
	int down; /* source to destination */
	uint64_t total;
	uint8_t *message;
};

static uint32_t crc32c(const uint8_t *p, size_t len)
{
	static uint32_t table[256];
	if (!table[1])
		for (uint32_t i = 0; i < 256; i++) {
			uint32_t c = i;
			for (int bit = 0; bit < 8; bit++)
				c = c >> 1 ^ (c & 1 ? 0x82f63b78U : 0);
			table[i] = c;
		}
	uint32_t crc = ~0U;
	while (len--)
		crc = crc >> 8 ^ table[(crc ^ *p++) & 0xff];
	return ~crc;
}

static uint32_t get32(const uint8_t *p)
{
	uint32_t value;
	memcpy(&value, p, sizeof(value));
	return value;
}

static void put32(uint8_t *p, uint32_t value)
{
	memcpy(p, &value, sizeof(value));
}

/* False: the connection has ended. */
static int read_all(int fd, uint8_t *data, size_t len)
{
	while (len) {
		ssize_t n = recv(fd, data, len, 0);
		if (n <= 0)
			return 0;
		data += n;
		len -= (size_t)n;
	}
	return 1;
}

static int write_all(int fd, const uint8_t *data, size_t len)
{
	while (len) {
		ssize_t n = send(fd, data, len, MSG_NOSIGNAL);
		if (n <= 0)
			return 0;
		data += n;
		len -= (size_t)n;
	}
	return 1;
}

static uint32_t get_be32(const uint8_t *p)
{
	return __builtin_bswap32(get32(p));
}

/* A state has a checksum of its own, in a property of its root (include/state/file.h). */
static void mend_state(uint8_t *state, size_t len)
{
	const uint8_t *strings = state + get_be32(state + 12);
	for (size_t i = get_be32(state + 8); i + 16 <= len; i += 4) {
		if (get_be32(state + i) != 3 || get_be32(state + i + 4) != 4)
			continue; /* no property of four bytes */
		if (strcmp((const char *)strings + get_be32(state + i + 8), "crc32c") != 0)
			continue;
		put32(state + i + 12, 0);
		put32(state + i + 12, __builtin_bswap32(crc32c(state, len)));
		return;
	}
}

static void swap(uint8_t *payload, size_t len)
{
	for (size_t i = 0; i + plan.from.len <= len; i++)
		if (memcmp(payload + i, plan.from.bytes, plan.from.len) == 0) {
			memcpy(payload + i, plan.to.bytes, plan.to.len);
			plan.done++;
		}
}

/* Changes the message under way; its checksums are right again afterwards. */
static void doctor(uint8_t *message, size_t len)
{
	if (strcmp(plan.action, "version") == 0) {
		message[4] = (uint8_t)plan.number;
		plan.done++;
	} else {
		swap(message + HEADER_BYTES, len - HEADER_BYTES);
		mend_state(message + HEADER_BYTES, len - HEADER_BYTES);
	}
	put32(message + 16, crc32c(message + HEADER_BYTES, len - HEADER_BYTES));
	put32(message + 20, crc32c(message, 20));
}

/* Is the place in this message, and which byte of it is it? */
static int meets(const struct direction *at, size_t len, size_t *ret)
{
	unsigned type = at->message[6] | (unsigned)at->message[7] << 8;
	if (!plan.action || plan.done)
		return 0;
	if (plan.type == 0) {
		*ret = (size_t)(plan.place - at->total);
		return at->down && plan.place >= at->total && plan.place - at->total < len;
	}
	*ret = plan.place < len ? (size_t)plan.place : len;
	return type == plan.type;
}

static int pass(struct direction *at)
{
	size_t place = 0, len = HEADER_BYTES;
	if (!read_all(at->from, at->message, HEADER_BYTES))
		return 0;
	len += get32(at->message + 8);
	if (len > MESSAGE_MAX || !read_all(at->from, at->message + HEADER_BYTES, len - HEADER_BYTES))
		return 0;
	int here = meets(at, len, &place);
	if (here && strcmp(plan.action, "cut") == 0) {
		plan.done++;
		(void)write_all(at->to, at->message, place);
		return 0;
	}
	if (here && strcmp(plan.action, "kill") == 0) {
		plan.done++;
		if (!write_all(at->to, at->message, place))
			return 0;
		if (kill((pid_t)plan.number, SIGKILL) < 0)
			perror("kill");
		(void)write_all(at->to, at->message + place, len - place); /* it may have been the receiver */
	} else {
		if (here)
			doctor(at->message, len);
		if (!write_all(at->to, at->message, len))
			return 0;
	}
	at->total += len;
	return 1;
}

static void *relay(void *argument)
{
	struct direction *at = argument;
	while (pass(at))
		continue;
	/* The other direction ends with this one, when what was sent before has been read. */
	(void)shutdown(at->from, SHUT_RDWR);
	(void)shutdown(at->to, SHUT_RDWR);
	return NULL;
}

static int open_socket(const char *path, int listens)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	if (listens)
		(void)unlink(path);
	int r = listens ? bind(fd, (struct sockaddr *)&address, sizeof(address))
			: connect(fd, (struct sockaddr *)&address, sizeof(address));
	if (fd < 0 || r < 0 || (listens && listen(fd, 1) < 0)) {
		perror(path);
		exit(1);
	}
	return fd;
}

static void read_pattern(const char *text, struct pattern *ret)
{
	for (; ret->len < PATTERN_MAX && sscanf(text, "%2hhx", &ret->bytes[ret->len]) == 1; text += 2)
		ret->len++;
}

int main(int argc, char **argv)
{
	if (argc != 3 && argc < 6) {
		fputs("relay LISTEN CONNECT [TYPE PLACE cut|kill PID|version N|swap HEX HEX]\n", stderr);
		return 2;
	}
	if (argc > 5) {
		plan = (struct plan){.type = (unsigned)atoi(argv[3]),
				     .place = strtoull(argv[4], NULL, 0),
				     .action = argv[5]};
		plan.number = argc > 6 ? atol(argv[6]) : 0;
		if (argc > 7) {
			read_pattern(argv[6], &plan.from);
			read_pattern(argv[7], &plan.to);
		}
	}
	int listener = open_socket(argv[1], 1), source = accept(listener, NULL, NULL);
	int dest = open_socket(argv[2], 0);
	struct direction down = {.from = source, .to = dest, .down = 1, .message = malloc(MESSAGE_MAX)};
	struct direction up = {.from = dest, .to = source, .message = malloc(MESSAGE_MAX)};
	pthread_t thread;
	if (source < 0 || !down.message || !up.message || pthread_create(&thread, NULL, relay, &up) != 0) {
		perror("relay");
		return 1;
	}
	(void)relay(&down);
	(void)pthread_join(thread, NULL);
	printf("done %u of %s, %" PRIu64 " bytes down, %" PRIu64 " up\n", plan.done,
	       plan.action ? plan.action : "nothing", down.total, up.total);
	return 0;
}
