/*
 * qcow2 and kill -9: a process that writes is killed at any time. What it had flushed is there, qemu-img
 * check finds no error, no lock remains, and the next process goes on with the same image.
 *
 * QCOW2_KILLS rounds (default 20), QCOW2_SEED another run of the same.
 */
#include "qcow2_rig.h"

#include <signal.h>
#include <sys/mman.h>
#include <time.h>

enum { DISK_BYTES = 4 << 20, CHILD_REQUESTS = 1000000 };

static const size_t arena_bytes = (size_t)1 << 30;

static _Noreturn void child(struct guest *guest, const char *path)
{
	const struct disk_config config = {
		.path = path, .format = DISK_QCOW2, .discard = true, .block_size = 512};
	struct err err = ERR_INIT;
	if (loop_create(64, &guest->loop, &err) < 0 ||
	    block_open(&config, guest->loop, &guest->block, &err) < 0) {
		(void)fprintf(stderr, "%s\n", err.text);
		_exit(1);
	}
	guest_run(guest, CHILD_REQUESTS);
	_exit(1); /* it should not have come so far */
}

/* What the disk holds now is what the next round starts from. */
static void check_and_adopt(struct guest *guest)
{
	char path[512];
	uint8_t data[SECTOR];
	(void)snprintf(path, sizeof(path), "%s/end.raw", test_folder());
	FILE *file = fopen(path, "re");
	ck_assert_ptr_nonnull(file);
	uint64_t flushed = flushed_until(guest, UINT64_MAX);
	for (uint64_t i = 0; i < guest->sectors; i++) {
		ck_assert_uint_eq(fread(data, SECTOR, 1, file), 1);
		uint32_t found = sector_version(data, i);
		ck_assert_msg(may_hold(guest, i, found, UINT64_MAX, flushed),
			      "sector %llu holds version %u, the last was %u", (unsigned long long)i, found,
			      current_version(guest, i));
		guest->versions[i] = NULL;
		push_version(guest, i, found);
		guest->versions[i]->done = 0;
	}
	ck_assert_int_eq(fclose(file), 0);
}

static void kill_after(pid_t pid, uint64_t us)
{
	int status;
	const struct timespec delay = {.tv_nsec = (long)us * 1000};
	(void)nanosleep(&delay, NULL);
	ck_assert_int_eq(kill(pid, SIGKILL), 0);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_msg(WIFSIGNALED(status), "the writer ended by itself");
}

/* The kernel ends the requests of a dead process a little after the process; until then they hold the lock.
 */
static int check_when_free(void)
{
	const struct timespec delay = {.tv_nsec = 20000000};
	for (int i = 0; i < 500; i++) {
		if (shell("qemu-img info '%s/disk.qcow2' >/dev/null 2>&1", test_folder()) == 0)
			break;
		(void)nanosleep(&delay, NULL);
	}
	return check_image("disk.qcow2");
}

static struct guest *shared_guest(uint64_t seed)
{
	uint8_t *arena = mmap(NULL, arena_bytes, PROT_READ | PROT_WRITE,
			      MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	ck_assert_ptr_ne(arena, MAP_FAILED);
	struct guest *guest = (struct guest *)(void *)arena;
	*guest = (struct guest){.sectors = DISK_BYTES / SECTOR,
				.seed = seed * 2654435761U + 1,
				.next_version = 2,
				.flush_every = 20,
				.fua_every = 32,
				.cluster_sectors = 8,
				.whole_discards = true,
				.arena = arena,
				.arena_used = (sizeof(*guest) + 15) & ~(size_t)15,
				.arena_bytes = arena_bytes};
	guest->clock = &guest->own_clock;
	guest->versions = guest_alloc(guest, guest->sectors * sizeof(struct version *));
	return guest;
}

START_TEST(a_killed_writer_leaves_what_it_flushed)
{
	uint64_t seed = number_from_env("QCOW2_SEED", 1);
	uint64_t rounds = number_from_env("QCOW2_KILLS", 20);
	struct guest *guest = shared_guest(seed);
	const char *folder = test_folder();
	char path[512];
	bool flushed = false;
	(void)snprintf(path, sizeof(path), "%s/disk.qcow2", folder);
	ck_assert_int_eq(shell("qemu-img create -q -f qcow2 -o cluster_size=4096 '%s' %d", path, DISK_BYTES),
			 0);
	for (uint64_t round = 0; round < rounds; round++) {
		for (int i = 0; i < GUEST_DEPTH; i++)
			guest->ops[i] = (struct guest_op){.busy = false};
		guest->in_flight = 0;
		guest->flushes = NULL;
		uint64_t us = 5000 + random_below(&guest->seed, 100000);
		pid_t pid = fork();
		ck_assert_int_ge(pid, 0);
		if (pid == 0)
			child(guest, path);
		kill_after(pid, us);
		flushed |= guest->flushes != NULL;
		int res = check_when_free();
		ck_assert_msg(res == 0 || res == 3, "round %llu: qemu-img check: %d",
			      (unsigned long long)round, res);
		ck_assert_int_eq(
			shell("cd '%s' && qemu-img convert -t unsafe -f qcow2 -O raw disk.qcow2 end.raw",
			      folder),
			0);
		check_and_adopt(guest);
	}
	ck_assert_msg(flushed, "no writer lived long enough to flush");
	ck_assert_int_eq(munmap(guest, arena_bytes), 0);
}
END_TEST

QCOW2_TEST_MAIN("qcow2_kill", a_killed_writer_leaves_what_it_flushed)
