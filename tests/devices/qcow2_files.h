/*
 * What the tests of qcow2 images share: a folder of files, qemu-img, chance, one request at a time, and
 * sectors that tell where they belong.
 *
 * Every sector holds one number 64 times: the version that was written there, and the sector. Version 0 is
 * zeros.
 */
#ifndef AERIE_TESTS_DEVICES_QCOW2_FILES_H
#define AERIE_TESTS_DEVICES_QCOW2_FILES_H

#include "../../devices/backend/qcow2.h"
#include "base/cleanup.h"
#include "harness.h"
#include "scratch.h"

#include <stdarg.h>
#include <string.h>
#include <sys/wait.h>

enum { SECTOR = 512 };

/* ---- the world outside ---- */

static inline int shell(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static inline int shell(const char *fmt, ...)
{
	char command[2048];
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(command, sizeof(command), fmt, ap);
	va_end(ap);
	if (n >= (int)sizeof(command))
		abort();
	int status = system(command); /* NOLINT(cert-env33-c): a test */
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static inline void need_qemu_img(void)
{
	if (shell("qemu-img --version >/dev/null 2>&1") == 0)
		return;
	(void)printf("qemu-img is not installed (scripts/deps test)\n");
	exit(TEST_SKIP);
}

/* As TEST_MAIN, for what needs qemu-img and leaves files. */
#define QCOW2_TEST_MAIN(suite_name, ...)                                                                     \
	int main(void)                                                                                       \
	{                                                                                                    \
		const TTest *const tests[] = {__VA_ARGS__};                                                  \
		need_qemu_img();                                                                             \
		int res = harness_run(suite_name, tests, sizeof(tests) / sizeof(tests[0]));                  \
		remove_folder();                                                                             \
		return res;                                                                                  \
	}

/* The folder of this program's files, under TMPDIR; removed by remove_folder. */
static inline const char *test_folder(void)
{
	static char folder[256];
	if (!folder[0]) {
		if (!scratch_folder(folder, sizeof(folder), "qcow2-XXXXXX"))
			abort();
	}
	return folder;
}

static inline void remove_folder(void)
{
	(void)shell("rm -rf '%s'", test_folder());
}

/* 0 clean, 3 leaks, 2 errors. */
static inline int check_image(const char *name)
{
	int res = shell("qemu-img check -q -f qcow2 '%s/%s' >'%s/check.log' 2>&1", test_folder(), name,
			test_folder());
	if (res != 0 && res != 3)
		(void)shell("head -20 '%s/check.log'", test_folder());
	return res;
}

static inline uint64_t number_from_env(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);
	return text ? strtoull(text, NULL, 0) : otherwise;
}

/* xorshift64* */
static inline uint64_t next_random(uint64_t *seed)
{
	*seed ^= *seed >> 12;
	*seed ^= *seed << 25;
	*seed ^= *seed >> 27;
	return *seed * UINT64_C(0x2545f4914f6cdd1d);
}

static inline uint64_t random_below(uint64_t *seed, uint64_t limit)
{
	return (next_random(seed) >> 16) % limit;
}

/* ---- sectors ---- */

static inline void stamp_sector(uint8_t *data, uint32_t version, uint64_t sector)
{
	uint64_t word = version ? (uint64_t)version << 32 | (uint32_t)sector : 0;
	for (int i = 0; i < SECTOR / 8; i++)
		memcpy(data + (ptrdiff_t)i * 8, &word, 8);
}

/* The version that the sector holds; UINT32_MAX: a mix, or another sector's. */
static inline uint32_t sector_version(const uint8_t *data, uint64_t sector)
{
	uint64_t word;
	memcpy(&word, data, 8);
	if (memcmp(data, data + 8, SECTOR - 8) != 0)
		return UINT32_MAX;
	if (word == 0)
		return 0;
	return (uint32_t)word == (uint32_t)sector ? (uint32_t)(word >> 32) : UINT32_MAX;
}

/* ---- one request ---- */

struct wait {
	struct block_request request;
	struct loop *loop;
	int res;
};

static inline void wait_done(struct block_request *request, int res)
{
	struct wait *wait = container_of(request, struct wait, request);
	wait->res = res;
	loop_quit(wait->loop);
}

/* One request, done when this returns. */
static inline int do_request(struct loop *loop, struct block *block, enum block_command command, void *data,
			     uint64_t offset, uint64_t bytes)
{
	struct iovec iov = {data, (size_t)bytes};
	struct wait wait = {.loop = loop,
			    .request = {.command = command,
					.offset = offset,
					.bytes = bytes,
					.iov = data ? &iov : NULL,
					.iov_count = data ? 1 : 0,
					.done = wait_done}};
	block_submit(block, &wait.request);
	ck_assert_int_eq(loop_run(loop), 0);
	return wait.res;
}

#endif
