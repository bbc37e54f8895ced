/* A character device under test with a front end that remembers: what the tests of all kinds share. */
#ifndef AERIE_TESTS_DEVICES_CHARDEV_BENCH_H
#define AERIE_TESTS_DEVICES_CHARDEV_BENCH_H

#include "../../devices/backend/chardev_impl.h"
#include "base/log.h"
#include "fake.h"
#include "harness.h"
#include "scratch.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BENCH_INPUT_BYTES = 262144 };

struct bench {
	struct fake fake;
	struct chardev *chardev;
	char folder[64]; /* a fresh one for files */

	/* The front end. */
	bool goes_on; /* as a restored machine's */
	size_t room;  /* bytes it still takes */
	uint8_t *got;
	size_t got_count;
	unsigned writable_calls, breaks;

	/* Descriptors 0 to 2 as they were, and what was logged. */
	int kept[3];
	int log_fd;
	char log[4096];
};

static size_t bench_room(void *owner)
{
	return ((struct bench *)owner)->room;
}

static void bench_receive(void *owner, const uint8_t *data, size_t len)
{
	struct bench *bench = owner;
	ck_assert_uint_le(len, bench->room);
	ck_assert_uint_le(bench->got_count + len, BENCH_INPUT_BYTES);
	memcpy(bench->got + bench->got_count, data, len);
	bench->got_count += len;
	bench->room -= len;
}

static void bench_writable(void *owner)
{
	((struct bench *)owner)->writable_calls++;
}

static void bench_break(void *owner)
{
	((struct bench *)owner)->breaks++;
}

static const struct chardev_user bench_user = {
	.room = bench_room, .receive = bench_receive, .writable = bench_writable, .send_break = bench_break};

/* Standard input and output may be replaced by `bench_stdio`; standard error is kept for bench_log. */
static inline void bench_init(struct bench *bench)
{
	memset(bench, 0, sizeof(*bench));
	fake_init(&bench->fake);
	(void)signal(SIGPIPE, SIG_IGN); /* as main does */
	bench->got = malloc(BENCH_INPUT_BYTES);
	bench->room = SIZE_MAX;
	ck_assert_ptr_nonnull(scratch_folder(bench->folder, sizeof(bench->folder), "chardev-XXXXXX"));
	(void)fflush(NULL);
	for (int fd = 0; fd < 3; fd++)
		bench->kept[fd] = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	bench->log_fd = memfd_create("log", MFD_CLOEXEC);
	ck_assert_int_eq(dup2(bench->log_fd, STDERR_FILENO), STDERR_FILENO);
}

static inline void bench_stdio(int in_fd, int out_fd)
{
	ck_assert_int_eq(dup2(in_fd, STDIN_FILENO), STDIN_FILENO);
	ck_assert_int_eq(dup2(out_fd, STDOUT_FILENO), STDOUT_FILENO);
}

/* All that was logged so far. */
static inline const char *bench_log(struct bench *bench)
{
	ssize_t len = pread(bench->log_fd, bench->log, sizeof(bench->log) - 1, 0);
	bench->log[len > 0 ? len : 0] = 0;
	return bench->log;
}

static inline unsigned bench_log_count(struct bench *bench, const char *text)
{
	unsigned count = 0;
	for (const char *at = bench_log(bench); (at = strstr(at, text)); at++)
		count++;
	return count;
}

static inline const char *bench_path(struct bench *bench, const char *name)
{
	static char path[128];
	(void)snprintf(path, sizeof(path), "%s/%s", bench->folder, name);
	return path;
}

static inline int bench_try(struct bench *bench, enum chardev_kind kind, const char *path)
{
	const struct chardev_config config = {.kind = kind, .path = path};
	bench->fake.err = ERR_INIT;
	int res = chardev_create(&config, bench->fake.services.loop, &bench->fake.services.keys,
				 bench->goes_on, &bench->chardev, &bench->fake.err);
	if (res == 0)
		chardev_attach(bench->chardev, &bench_user, bench);
	return res;
}

static inline void bench_create(struct bench *bench, enum chardev_kind kind, const char *path)
{
	int res = bench_try(bench, kind, path);
	ck_assert_msg(res == 0, "%s", bench->fake.err.text);
}

/* To a plain file, or a device like /dev/full, a thread of the kernel's writes, when it has time. */
static inline bool bench_waits_for_kernel(struct bench *bench)
{
	struct stat file;
	return bench->chardev && bench->chardev->out_used && fstat(bench->chardev->out_fd, &file) == 0 &&
	       (S_ISREG(file.st_mode) || (S_ISCHR(file.st_mode) && !isatty(bench->chardev->out_fd)));
}

static inline void bench_run(struct bench *bench, unsigned ms)
{
	fake_run(&bench->fake, ms);
	for (unsigned i = 0; i < 1000 && bench_waits_for_kernel(bench); i++)
		fake_run(&bench->fake, 10);
}

static inline void bench_destroy_chardev(struct bench *bench)
{
	chardev_destroy(bench->chardev);
	bench->chardev = NULL;
}

static inline void bench_finish(struct bench *bench)
{
	bench_destroy_chardev(bench);
	fake_finish(&bench->fake);
	for (int fd = 0; fd < 3; fd++) {
		if (bench->kept[fd] >= 0)
			(void)dup2(bench->kept[fd], fd);
		close_fd(bench->kept[fd]);
	}
	close_fd(bench->log_fd);
	(void)rmdir(bench->folder);
	free(bench->got);
}

static inline void bench_write(struct bench *bench, const char *text)
{
	ck_assert_uint_eq(chardev_write(bench->chardev, text, strlen(text)), strlen(text));
}

/* Fill what the front end can write; returns how much was taken. Byte i is bench_byte(i). */
static inline uint8_t bench_byte(size_t i)
{
	return (uint8_t)(i * 7 + (i >> 8));
}

static inline size_t bench_fill(struct bench *bench, size_t from, size_t most)
{
	size_t at = from;
	for (uint8_t byte = bench_byte(at); at < from + most && chardev_write(bench->chardev, &byte, 1) == 1;)
		byte = bench_byte(++at);
	return at - from;
}

/* Read what is there without waiting and check it against bench_byte. */
static inline size_t bench_check(int fd, size_t from)
{
	static uint8_t buf[65536];
	ssize_t count = read(fd, buf, sizeof(buf));
	for (ssize_t i = 0; i < count; i++)
		ck_assert_uint_eq(buf[i], bench_byte(from + (size_t)i));
	return count > 0 ? (size_t)count : 0;
}

/* It comes when we and, of a terminal, a thread of the kernel's have had the time. */
static inline void bench_await(struct bench *bench, int fd)
{
	struct pollfd arrived = {.fd = fd, .events = POLLIN};
	for (int i = 0; i < 1000 && poll(&arrived, 1, 0) == 0; i++)
		bench_run(bench, 10);
	ck_assert_int_eq(poll(&arrived, 1, 0), 1);
}

static inline void bench_expect(struct bench *bench, int fd, const char *text)
{
	char buf[1024] = "";
	size_t count = 0;
	for (ssize_t res = 1; res > 0 && count < strlen(text); count += (size_t)res) {
		bench_await(bench, fd);
		res = read(fd, buf + count, sizeof(buf) - 1 - count);
		ck_assert_msg(res >= 0, "read: %s", strerror(errno));
	}
	ck_assert_str_eq(buf, text);
}

#define ck_assert_got(bench, text)                                                                           \
	do {                                                                                                 \
		ck_assert_uint_eq((bench)->got_count, strlen(text));                                         \
		ck_assert_mem_eq((bench)->got, text, (bench)->got_count);                                    \
		(bench)->got_count = 0;                                                                      \
	} while (0)

#endif
