/* Whatever happens while a snapshot is written, what lies at its name is the old one or the new one. */
#include "rig.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { KILLS = 200 };

/* ---- every call that writes fails once ---- */

static int fail_at, calls;

static bool strikes(void)
{
	if (fail_at == 0 || ++calls != fail_at)
		return false;
	errno = ENOSPC;
	return true;
}

/* The program's own come before libc's. */
ssize_t pwrite(int fd, const void *data, size_t len, off_t offset)
{
	return strikes() ? -1 : syscall(SYS_pwrite64, fd, data, len, offset);
}

int fsync(int fd)
{
	return strikes() ? -1 : (int)syscall(SYS_fsync, fd);
}

int ftruncate(int fd, off_t len)
{
	return strikes() ? -1 : (int)syscall(SYS_ftruncate, fd, len);
}

int renameat2(int from, const char *old, int to, const char *new, unsigned flags)
{
	return strikes() ? -1 : (int)syscall(SYS_renameat2, from, old, to, new, flags);
}

int openat(int dir, const char *path, int flags, ...)
{
	return strikes() ? -1 : (int)syscall(SYS_openat, dir, path, flags, 0600);
}

static unsigned entries(const char *path)
{
	DIR *dir = opendir(path);
	unsigned count = 0;
	while (readdir(dir))
		count++;
	(void)closedir(dir);
	return count;
}

static void id_of(const struct rig *rig, const char *name, char id[SNAPSHOT_ID_CHARS + 1])
{
	char path[RIG_PATH_BYTES];
	struct snapshot *snapshot;
	struct err err = ERR_INIT;
	ck_assert_msg(snapshot_open(rig_path(rig, name, path), &snapshot, &err) == 0, "%s", err.text);
	(void)snprintf(id, SNAPSHOT_ID_CHARS + 1, "%s", snapshot_id(snapshot));
	snapshot_close(snapshot);
}

/* The old one is there as long as saving says that it failed, and nothing is left lying about. (When only the
 * last fsync, of the parent, fails, the new one may be there: then it is whole.) */
START_TEST(no_space_at_each_write)
{
	struct rig rig;
	char before[SNAPSHOT_ID_CHARS + 1], after[SNAPSHOT_ID_CHARS + 1];
	rig_init(&rig, "\"memory\": {\"size\": \"64M\"}, ");
	rig_run_for(&rig, 5);
	rig_save(&rig, "s");
	unsigned there = entries(rig.folder), kept = 0;
	id_of(&rig, "s", before);
	int r = -1;
	for (int at = 1; r < 0; at++) {
		struct err err = ERR_INIT;
		fail_at = at;
		calls = 0;
		r = rig_try_save(&rig, "s", NULL, NULL, &err);
		fail_at = 0;
		id_of(&rig, "s", after);
		ck_assert_msg(r == 0 || strstr(err.text, "No space left"), "call %d: %s", at, err.text);
		kept += strcmp(before, after) == 0;
		if (strcmp(before, after) == 0)
			ck_assert_uint_eq(entries(rig.folder), there);
		ck_assert_int_lt(at, 1000);
	}
	ck_assert_uint_ge(kept, 10);
	ck_assert_str_ne(before, after);
	rig_run_to_end(&rig);
	rig_end_life(&rig);
	rig_check_sequence(&rig);
	rig_finish(&rig);
}
END_TEST

/* ---- kill -9 ---- */

static void save_until_killed(const struct rig *parent, int tell)
{
	struct rig rig;
	rig_init(&rig, "\"memory\": {\"size\": \"64M\"}, ");
	char folder[sizeof(rig.folder)];
	memcpy(folder, rig.folder, sizeof(folder));
	rig_run_for(&rig, 2);
	rig_remove(folder); /* only the console was there */
	memcpy(rig.folder, parent->folder, sizeof(rig.folder));
	(void)!write(tell, "x", 1);
	for (;;)
		rig_save(&rig, "s");
}

START_TEST(killed_at_any_moment)
{
	struct rig rig = {.folder = "/dev/shm/aerie-kill-XXXXXX"};
	char id[SNAPSHOT_ID_CHARS + 1], last[SNAPSHOT_ID_CHARS + 1] = "", byte, path[RIG_PATH_BYTES];
	unsigned changes = 0;
	uint64_t seed = (uint64_t)getpid();
	ck_assert_ptr_nonnull(mkdtemp(rig.folder));
	for (int i = 0; i < KILLS; i++) {
		int ends[2], status;
		ck_assert_int_eq(pipe(ends), 0);
		pid_t child = fork();
		if (child == 0) {
			save_until_killed(&rig, ends[1]);
			_exit(0);
		}
		(void)close(ends[1]);
		ck_assert_int_eq(read(ends[0], &byte, 1), 1);
		(void)close(ends[0]);
		seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
		if (i == 0) /* one must come to its end */
			while (access(rig_path(&rig, "s/manifest.json", path), F_OK) < 0)
				(void)usleep(1000);
		(void)usleep((useconds_t)((seed >> 33) % 20000));
		(void)kill(child, SIGKILL);
		ck_assert_int_eq(waitpid(child, &status, 0), child);
		id_of(&rig, "s", id);
		changes += strcmp(id, last) != 0;
		memcpy(last, id, sizeof(last));
	}
	ck_assert_uint_gt(changes, 1);
	rig_remove(rig.folder);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {no_space_at_each_write, killed_at_any_moment};
	return rig_has_kvm() ? harness_run("snapshot crash", tests, ARRAY_LEN(tests)) : TEST_SKIP;
}
