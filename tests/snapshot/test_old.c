/* Snapshots of former versions (tests/data/snapshots) restore, and their guests go on where they were. */
#include "rig.h"

#include <errno.h>

static void goes_on(const char *dir)
{
	enum { MAX = RIG_NUMBERS * RIG_LINE_BYTES + 1 };
	static char text[MAX];
	char kernel[RIG_PATH_BYTES], console[RIG_PATH_BYTES], file[64];
	const char *sets[] = {kernel, console};
	struct snapshot *snapshot;
	struct rig rig = {.err = ERR_INIT};
	int fd = scratch_file(file, sizeof(file), "old-XXXXXX");
	ck_assert_int_ge(fd, 0);
	(void)snprintf(kernel, sizeof(kernel), "boot.kernel=%s/tests/native/count.elf", rig_build());
	(void)snprintf(console, sizeof(console), "debug.console={\"file\": \"%s\"}", file);
	ck_assert_msg(snapshot_open(dir, &snapshot, &rig.err) == 0, "%s", rig.err.text);
	ck_assert_msg(snapshot_config(snapshot, sets, 2, &rig.config, &rig.err) == 0, "%s", rig.err.text);
	if (snapshot_check(snapshot, rig.config, &rig.err) == -EOPNOTSUPP) {
		(void)printf("only read: %s\n", rig.err.text);
	} else {
		ck_assert_msg(snapshot_restore(snapshot, rig.config, false, &rig.machine, NULL, &rig.err) ==
				      0,
			      "%s", rig.err.text);
		rig_run_to_end(&rig);
		rig_end_life(&rig);
		ssize_t len = pread(fd, text, MAX - 1, 0);
		/* From the end of the line in which it was, to the end of the sequence. */
		ck_assert_int_gt(len, RIG_LINE_BYTES * 10);
		unsigned last = RIG_NUMBERS - 1;
		for (char *line = text + len - RIG_LINE_BYTES; line >= text; line -= RIG_LINE_BYTES)
			ck_assert_uint_eq(strtoul(line, NULL, 16), last--);
	}
	snapshot_close(snapshot);
	config_free(rig.config);
	(void)close(fd);
	(void)remove(file);
}

START_TEST(every_former_version)
{
	static const char folder[] = "tests/data/snapshots";
	DIR *dir = opendir(folder);
	struct dirent *entry;
	unsigned count = 0;
	ck_assert_ptr_nonnull(dir);
	while ((entry = readdir(dir))) {
		char path[RIG_PATH_BYTES + 64];
		if (entry->d_name[0] != 'v')
			continue;
		(void)snprintf(path, sizeof(path), "%s/%.200s", folder, entry->d_name);
		goes_on(path);
		count++;
	}
	(void)closedir(dir);
	ck_assert_uint_ge(count, 1);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {every_former_version};
	return rig_has_kvm() ? harness_run("old snapshots", tests, ARRAY_LEN(tests)) : TEST_SKIP;
}
