/* Snapshots that are cut, flipped, swapped or that belong elsewhere are refused, with a reason, before
 * anything is made. */
#include "rig.h"

#include <errno.h>
#include <libfdt.h>
#include <sys/time.h>
#include <unistd.h>

enum { FLIPS = 1000 };

static struct rig rig;

static char *slurp(const char *path, size_t *ret_len)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ck_assert_msg(fd >= 0 && fstat(fd, &st) == 0, "%s", path);
	char *text = malloc((size_t)st.st_size + 1);
	ck_assert_int_eq(read(fd, text, (size_t)st.st_size), st.st_size);
	text[st.st_size] = '\0';
	*ret_len = (size_t)st.st_size;
	(void)close(fd);
	return text;
}

static void put(const char *path, const void *data, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, data, len), (ssize_t)len);
	(void)close(fd);
}

static void refused(const char *what, size_t at)
{
	char path[RIG_PATH_BYTES];
	struct snapshot *snapshot;
	struct err err = ERR_INIT;
	ck_assert_msg(snapshot_open(rig_path(&rig, "s", path), &snapshot, &err) < 0, "%s at %zu", what, at);
	ck_assert_msg(err.text[0] && !strchr(err.text, '\n'), "%s at %zu: \"%s\"", what, at, err.text);
}

static void accepted(void)
{
	char path[RIG_PATH_BYTES];
	struct snapshot *snapshot;
	struct err err = ERR_INIT;
	ck_assert_msg(snapshot_open(rig_path(&rig, "s", path), &snapshot, &err) == 0, "%s", err.text);
	snapshot_close(snapshot);
}

static void flip_everywhere(const char *path, size_t len, size_t count)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	uint64_t seed = 7;
	ck_assert_int_ge(fd, 0);
	for (size_t i = 0; i < count; i++) {
		seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
		off_t at = (off_t)((seed >> 20) % len);
		uint8_t byte, flipped;
		ck_assert_int_eq(pread(fd, &byte, 1, at), 1);
		flipped = byte ^ (uint8_t)(1U << (seed >> 60 & 7));
		ck_assert_int_eq(pwrite(fd, &flipped, 1, at), 1);
		refused(path, (size_t)at);
		ck_assert_int_eq(pwrite(fd, &byte, 1, at), 1);
	}
	(void)close(fd);
	accepted();
}

static void setup(void)
{
	rig_init(&rig, "\"memory\": {\"size\": \"64M\"}, \"devices\": [{\"type\": \"rng\"}], ");
	rig_run_for(&rig, 10);
	rig_save(&rig, "s");
	rig_end_life(&rig);
}

START_TEST(a_cut_manifest)
{
	char path[RIG_PATH_BYTES];
	size_t len;
	setup();
	char *text = slurp(rig_path(&rig, "s/manifest.json", path), &len);
	for (size_t at = 0; at < len; at++) {
		put(path, text, at);
		refused("manifest cut", at);
	}
	put(path, text, len);
	flip_everywhere(path, len, FLIPS);
	put(path, text, len);
	free(text);
	rig_finish(&rig);
}
END_TEST

/* At every property, and every tag of the tree. */
START_TEST(a_cut_state)
{
	char path[RIG_PATH_BYTES];
	size_t len;
	setup();
	char *blob = slurp(rig_path(&rig, "s/state.dtb", path), &len);
	int at = 0, next;
	do {
		fdt_next_tag(blob, at, &next);
		put(path, blob, (size_t)at + (size_t)fdt_off_dt_struct(blob));
		refused("state cut", (size_t)at);
		at = next;
	} while (next > 0);
	put(path, blob, len);
	flip_everywhere(path, len, FLIPS);
	free(blob);
	rig_finish(&rig);
}
END_TEST

START_TEST(other_files)
{
	char path[RIG_PATH_BYTES];
	size_t len;
	setup();
	char *text = slurp(rig_path(&rig, "s/config.json", path), &len);
	flip_everywhere(path, len, 100);
	put(path, text, len - 1);
	refused("config cut", len - 1);
	put(path, text, len);
	free(text);
	rig_path(&rig, "s/memory", path);
	ck_assert_int_eq(truncate(path, (64 << 20) - 4096), 0);
	refused("memory cut", 0);
	ck_assert_int_eq(truncate(path, 64 << 20), 0);
	(void)remove(path);
	refused("memory gone", 0);
	rig_finish(&rig);
}
END_TEST

/* Found by the restore that reads all of it. */
START_TEST(flipped_memory)
{
	char path[RIG_PATH_BYTES];
	uint8_t byte = 0;
	setup();
	int fd = open(rig_path(&rig, "s/memory", path), O_RDWR | O_CLOEXEC);
	static const off_t places[] = {0x100000, 0x3fffff0, 0x9000};
	for (size_t i = 0; i < ARRAY_LEN(places); i++) {
		struct err err = ERR_INIT;
		ck_assert_int_eq(pread(fd, &byte, 1, places[i]), 1);
		uint8_t flipped = byte ^ 0x10;
		ck_assert_int_eq(pwrite(fd, &flipped, 1, places[i]), 1);
		ck_assert_int_lt(rig_try_restore(&rig, "s", false, &err), 0);
		ck_assert_msg(strstr(err.text, "memory: damaged"), "%s", err.text);
		config_free(rig.config);
		ck_assert_int_eq(pwrite(fd, &byte, 1, places[i]), 1);
	}
	(void)close(fd);
	rig_restore(&rig, "s", false);
	rig_finish(&rig);
}
END_TEST

static void check(const char *set, const char *reason)
{
	char path[RIG_PATH_BYTES];
	const char *sets[] = {set};
	struct snapshot *snapshot;
	struct machine_config *config = NULL;
	struct err err = ERR_INIT;
	ck_assert_int_eq(snapshot_open(rig_path(&rig, "s", path), &snapshot, &err), 0);
	int r = snapshot_config(snapshot, sets, set ? 1 : 0, &config, &err);
	if (r == 0)
		r = snapshot_check(snapshot, config, &err);
	if (reason) {
		ck_assert_msg(r < 0 && strstr(err.text, reason), "%d: %s", r, err.text);
		/* A restore refuses it for the same reason, before it makes anything. */
		struct machine *machine = NULL;
		struct err again = ERR_INIT;
		bool refused = false;
		if (config)
			ck_assert_int_eq(snapshot_restore(snapshot, config, true, &machine, &refused, &again),
					 r);
		ck_assert(!config || (refused && !machine && strcmp(again.text, err.text) == 0));
	} else {
		ck_assert_msg(r == 0, "%s", err.text);
	}
	config_free(config);
	snapshot_close(snapshot);
}

START_TEST(disks_must_be_what_they_were)
{
	char path[RIG_PATH_BYTES], other[RIG_PATH_BYTES], set[RIG_PATH_BYTES + 32], more[512];
	char folder[64];
	static const char zeros[65536];
	ck_assert_ptr_nonnull(scratch_folder(folder, sizeof(folder), "disk-XXXXXX"));
	(void)snprintf(path, sizeof(path), "%s/disk", folder);
	(void)snprintf(other, sizeof(other), "%s/other", folder);
	put(path, zeros, sizeof(zeros));
	put(other, zeros, sizeof(zeros));
	(void)snprintf(
		more, sizeof(more),
		"\"memory\": {\"size\": \"64M\"}, \"devices\": [{\"type\": \"disk\", \"path\": \"%s\"}], ",
		path);
	rig_init(&rig, more);
	rig_run_for(&rig, 5);
	rig_save(&rig, "s");
	rig_end_life(&rig);
	check(NULL, NULL);
	put(path, zeros, sizeof(zeros) / 2);
	check(NULL, "32768 bytes, 65536 when");
	put(path, zeros, sizeof(zeros));
	check(NULL, "written since");
	(void)snprintf(set, sizeof(set), "devices.0.path=%s", other);
	check(set, NULL);
	(void)remove(path);
	check(NULL, "No such file");
	check("memory.size=128M", "memory.size: 134217728 bytes, 67108864 in the snapshot");
	rig_remove(folder);
	rig_finish(&rig);
}
END_TEST

/* What the state says must be what the machine is. */
START_TEST(another_machine)
{
	static const struct {
		const char *set, *reason;
	} rows[] = {
		{"cpus={\"count\": 3}", "vcpus: has 2 nodes, this machine knows 3 of them"},
		{"devices=[]", "devices: has "},
		{"devices=[{\"type\": \"balloon\"}]", "balloon0 is missing"},
		{"devices.0.slot=7", "rng0: rng0: was in slot"},
	};
	char path[RIG_PATH_BYTES];
	setup();
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const char *sets[] = {rows[i].set};
		struct snapshot *snapshot;
		struct machine_config *config = NULL;
		struct machine *machine = NULL;
		struct err err = ERR_INIT;
		ck_assert_int_eq(snapshot_open(rig_path(&rig, "s", path), &snapshot, &err), 0);
		ck_assert_msg(snapshot_config(snapshot, sets, 1, &config, &err) == 0, "%s", err.text);
		bool refused = true;
		int r = snapshot_restore(snapshot, config, true, &machine, &refused, &err);
		ck_assert_msg(r < 0 && strstr(err.text, rows[i].reason), "%s: %d: %s", rows[i].set, r,
			      err.text);
		ck_assert(!refused && !machine); /* it takes the machine to see it */
		config_free(config);
		snapshot_close(snapshot);
	}
	rig_finish(&rig);
}
END_TEST

START_TEST(only_a_snapshot_is_replaced)
{
	char path[RIG_PATH_BYTES];
	struct err err = ERR_INIT;
	rig_init(&rig, "\"memory\": {\"size\": \"64M\"}, ");
	rig_run_for(&rig, 5);
	ck_assert_int_eq(mkdir(rig_path(&rig, "home", path), 0700), 0);
	ck_assert_int_eq(rig_try_save(&rig, "home", NULL, NULL, &err), 0); /* empty */
	ck_assert_int_eq(mkdir(rig_path(&rig, "full", path), 0700), 0);
	put(rig_path(&rig, "full/letter", path), "x", 1);
	ck_assert_int_eq(rig_try_save(&rig, "full", NULL, NULL, &err), -EEXIST);
	ck_assert_ptr_nonnull(strstr(err.text, "and not a snapshot"));
	err = ERR_INIT;
	ck_assert_int_eq(rig_try_save(&rig, "full/letter", NULL, NULL, &err), -EEXIST);
	err = ERR_INIT;
	ck_assert_int_eq(rig_try_save(&rig, "gone/s", NULL, NULL, &err), -ENOENT);
	rig_finish(&rig);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {a_cut_manifest,
				      a_cut_state,
				      other_files,
				      flipped_memory,
				      disks_must_be_what_they_were,
				      another_machine,
				      only_a_snapshot_is_replaced};
	return rig_has_kvm() ? harness_run("snapshot damage", tests, ARRAY_LEN(tests)) : TEST_SKIP;
}
