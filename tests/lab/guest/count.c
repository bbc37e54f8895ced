/*
 * A sequence that shows when a number is lost, doubled or wrong, for machines that are saved and restored
 * while they count. Linked statically, runs at every level.
 *
 * The running hash of step n is hash(n) = mix(hash(n - 1) ^ n), hash(0) = 0: it can only be right if every
 * number before it was counted once. Each step is a record on a disk, at byte 512 * n,
 *
 *	0	n	u64
 *	8	hash(n)	u64
 *	16	n and hash(n) again and again, to 512 bytes: a torn sector shows
 *
 * and a line "COUNT n hash" on standard output. Writing both is real traffic: a virtio request with its
 * interrupt, and a port access for each character.
 */
#define _GNU_SOURCE /* O_DIRECT */
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { RECORD_BYTES = 512, WORDS = RECORD_BYTES / 8, WORK_BYTES = 1 << 20 };

static uint64_t next_hash(uint64_t hash, uint64_t n)
{
	hash ^= n;
	hash ^= hash >> 30;
	hash *= UINT64_C(0xbf58476d1ce4e5b9);
	hash ^= hash >> 27;
	hash *= UINT64_C(0x94d049bb133111eb);
	return hash ^ (hash >> 31);
}

static int fail(const char *what)
{
	perror(what);
	return 1;
}

static void make_record(uint64_t *record, uint64_t n, uint64_t hash)
{
	for (int i = 0; i < WORDS; i += 2) {
		record[i] = n;
		record[i + 1] = hash;
	}
}

/* Time in the kernel, which is where an inspector should find us: reading zeros is nothing but that. */
static int work(int zeros, void *buffer, int rounds)
{
	for (int i = 0; i < rounds; i++)
		if (read(zeros, buffer, WORK_BYTES) != WORK_BYTES)
			return fail("/dev/zero");
	return 0;
}

/* A line on standard input ends it. */
static int told_to_stop(void)
{
	struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
	return poll(&input, 1, 0) > 0;
}

static int run(const char *disk, uint64_t last, int rounds)
{
	static uint64_t record[WORDS] __attribute__((aligned(4096)));
	uint64_t hash = 0;
	void *buffer = malloc(WORK_BYTES);
	int fd = open(disk, O_WRONLY | O_DIRECT | O_DSYNC);
	int zeros = open("/dev/zero", O_RDONLY);
	if (!buffer || fd < 0 || zeros < 0)
		return fail(disk);
	for (uint64_t n = 1; n <= last && !told_to_stop(); n++) {
		hash = next_hash(hash, n);
		make_record(record, n, hash);
		if (pwrite(fd, record, sizeof(record), (off_t)(n * RECORD_BYTES)) != (ssize_t)sizeof(record))
			return fail(disk);
		printf("COUNT %" PRIu64 " %016" PRIx64 "\n", n, hash);
		(void)fflush(stdout);
		if (work(zeros, buffer, rounds))
			return 1;
	}
	return 0;
}

/* Standard input is a console with our lines among others: all of them, each once, in order. */
static int check(uint64_t last)
{
	char line[4096];
	uint64_t seen = 0, hash = 0;
	while (fgets(line, sizeof(line), stdin)) {
		const char *at = strstr(line, "COUNT ");
		uint64_t n, got;
		if (!at)
			continue;
		hash = next_hash(hash, ++seen);
		if (sscanf(at, "COUNT %" SCNu64 " %" SCNx64, &n, &got) != 2 || n != seen || got != hash) {
			printf("after %" PRIu64 " came: %s", seen - 1, at);
			return 1;
		}
	}
	if (seen != last) {
		printf("ended at %" PRIu64 " instead of %" PRIu64 "\n", seen, last);
		return 1;
	}
	printf("the sequence is whole to %" PRIu64 "\n", last);
	return 0;
}

static int check_disk(const char *disk, uint64_t last)
{
	uint64_t record[WORDS], want[WORDS], hash = 0;
	int fd = open(disk, O_RDONLY);
	if (fd < 0)
		return fail(disk);
	for (uint64_t n = 1; n <= last; n++) {
		hash = next_hash(hash, n);
		make_record(want, n, hash);
		if (pread(fd, record, sizeof(record), (off_t)(n * RECORD_BYTES)) != (ssize_t)sizeof(record))
			return fail(disk);
		if (memcmp(record, want, sizeof(want)) != 0) {
			printf("record %" PRIu64 " of %s is wrong\n", n, disk);
			return 1;
		}
	}
	printf("the disk is whole to %" PRIu64 "\n", last);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 5 && strcmp(argv[1], "run") == 0)
		return run(argv[2], strtoull(argv[3], NULL, 0), atoi(argv[4]));
	if (argc == 3 && strcmp(argv[1], "check") == 0)
		return check(strtoull(argv[2], NULL, 0));
	if (argc == 4 && strcmp(argv[1], "check-disk") == 0)
		return check_disk(argv[2], strtoull(argv[3], NULL, 0));
	fputs("count run DISK LAST MIB | count check LAST <console | count check-disk DISK LAST\n", stderr);
	return 2;
}
