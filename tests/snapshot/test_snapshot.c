/* Snapshots of a guest in the middle of its work, and all ways back. */
#include "rig.h"

#include "../../src/snapshot/manifest.h"
#include "base/crc32c.h"
#include "base/layout.h"
#include "memory/memory.h"

#include <errno.h>
#include <unistd.h>

#define SMALL "\"memory\": {\"size\": \"64M\"}, "

static void several_lives(bool lazy)
{
	struct rig rig;
	rig_init(&rig, SMALL "\"devices\": [{\"type\": \"rng\"}, {\"type\": \"balloon\"}], ");
	for (int i = 0; i < 3; i++) {
		rig_run_for(&rig, 15);
		rig_save(&rig, "snapshot");
		rig_end_life(&rig);
		rig_restore(&rig, "snapshot", lazy);
		ck_assert_str_eq(machine_status_name(machine_status(rig.machine)), "inmigrate");
	}
	rig_run_to_end(&rig);
	rig_end_life(&rig);
	rig_check_sequence(&rig);
	rig_finish(&rig);
}

START_TEST(the_sequence_goes_on)
{
	several_lives(false);
}
END_TEST

START_TEST(lazily_too)
{
	several_lives(true);
}
END_TEST

START_TEST(a_snapshot_does_not_disturb_the_machine)
{
	struct rig rig;
	rig_init(&rig, SMALL);
	for (int i = 0; i < 3; i++) {
		rig_run_for(&rig, 10);
		rig_save(&rig, "snapshot");
	}
	rig_run_to_end(&rig);
	rig_end_life(&rig);
	rig_check_sequence(&rig);
	rig_finish(&rig);
}
END_TEST

START_TEST(a_chain_restores_and_is_flattened)
{
	struct rig rig;
	struct snapshot_base *first, *second, *third;
	char dir[RIG_PATH_BYTES], out[RIG_PATH_BYTES];
	rig_init(&rig, SMALL);
	rig_run_for(&rig, 10);
	ck_assert_msg(rig_try_save(&rig, "a", NULL, &first, &rig.err) == 0, "%s", rig.err.text);
	rig_run_for(&rig, 10);
	ck_assert_int_eq(snapshot_base_check(first, rig_path(&rig, "a", dir), &rig.err), 0);
	ck_assert_msg(rig_try_save(&rig, "b", first, &second, &rig.err) == 0, "%s", rig.err.text);
	snapshot_base_free(first);
	rig_run_for(&rig, 10);
	ck_assert_msg(rig_try_save(&rig, "c", second, &third, &rig.err) == 0, "%s", rig.err.text);
	ck_assert_int_lt(snapshot_base_check(third, rig_path(&rig, "a", dir), &rig.err), 0);
	rig.err = ERR_INIT;
	snapshot_base_free(second);
	snapshot_base_free(third);
	rig_end_life(&rig);

	struct rig clone = rig;
	ck_assert_msg(snapshot_flatten(rig_path(&rig, "c", dir), rig_path(&rig, "flat", out), &rig.err) == 0,
		      "%s", rig.err.text);
	struct stat whole, top;
	ck_assert_int_eq(stat(rig_path(&rig, "flat/memory", dir), &whole), 0);
	ck_assert_int_eq(stat(rig_path(&rig, "c/memory", dir), &top), 0);
	ck_assert_msg(top.st_blocks < whole.st_blocks, "%ld blocks of %ld", (long)top.st_blocks,
		      (long)whole.st_blocks);
	rig_restore(&rig, "c", false);
	rig_run_to_end(&rig);
	rig_end_life(&rig);
	rig_check_sequence(&rig);

	/* What it stood on is not needed any more; and again lazily, over a chain and alone. */
	rig_restore(&clone, "c", true);
	rig_run_to_end(&clone);
	rig_end_life(&clone);
	clone.life = 0;
	rig_remove(rig_path(&rig, "a", dir));
	ck_assert_int_lt(rig_try_restore(&clone, "c", false, &clone.err), 0);
	ck_assert_ptr_nonnull(strstr(clone.err.text, "No such file"));
	clone.err = ERR_INIT;
	rig_restore(&clone, "flat", true);
	rig_run_to_end(&clone);
	rig_end_life(&clone);
	rig_check_sequence(&clone);
	rig_finish(&rig);
}
END_TEST

static void cannot_open(const struct rig *rig, const char *name, int code, const char *why)
{
	char path[RIG_PATH_BYTES];
	struct snapshot *snapshot;
	struct err err = ERR_INIT;
	ck_assert_int_eq(snapshot_open(rig_path(rig, name, path), &snapshot, &err), code);
	ck_assert_msg(strstr(err.text, why), "%s, not %s", err.text, why);
}

static void put_manifest(const struct rig *rig, const char *name, const struct manifest *manifest)
{
	char path[RIG_PATH_BYTES];
	_cleanup_free_ char *text = manifest_print(manifest);
	FILE *file = fopen(rig_path(rig, name, path), "w");
	ck_assert(text && file && fputs(text, file) >= 0 && fclose(file) == 0);
}

static void read_manifest(const struct rig *rig, const char *name, struct manifest *ret)
{
	static char text[65536];
	char path[RIG_PATH_BYTES];
	struct err err = ERR_INIT;
	FILE *file = fopen(rig_path(rig, name, path), "r");
	ck_assert_ptr_nonnull(file);
	size_t len = fread(text, 1, sizeof(text), file);
	(void)fclose(file);
	ck_assert_msg(manifest_parse("m", text, len, ret, &err) == 0, "%s", err.text);
}

/* `base` is what somebody wrote there, behind a good seal. */
static void stand_on(const struct rig *rig, const char *name, const char *base, bool own_id)
{
	char path[RIG_PATH_BYTES];
	struct manifest manifest;
	read_manifest(rig, name, &manifest);
	free(manifest.base_path);
	manifest.base_path = strdup(rig_path(rig, base, path));
	if (own_id)
		memcpy(manifest.base_id, manifest.id, sizeof(manifest.base_id));
	put_manifest(rig, name, &manifest);
	manifest_finish(&manifest);
}

START_TEST(a_snapshot_stands_on_its_own_base_and_not_on_itself)
{
	struct rig rig;
	struct snapshot_base *base;
	rig_init(&rig, SMALL);
	rig_run_for(&rig, 5);
	ck_assert_msg(rig_try_save(&rig, "a", NULL, &base, &rig.err) == 0, "%s", rig.err.text);
	rig_run_for(&rig, 5);
	ck_assert_msg(rig_try_save(&rig, "b", base, NULL, &rig.err) == 0, "%s", rig.err.text);
	rig_save(&rig, "other");
	snapshot_base_free(base);
	stand_on(&rig, "b/manifest.json", "other", false);
	cannot_open(&rig, "b", -ESTALE, "other: another snapshot than the one that ");
	stand_on(&rig, "b/manifest.json", "nowhere", false);
	cannot_open(&rig, "b", -ENOENT, "No such file or directory");
	stand_on(&rig, "b/manifest.json", "b", true);
	cannot_open(&rig, "b", -ELOOP, "stands on more than ");
	rig_finish(&rig);
}
END_TEST

/* Changes what the manifest says of a file; bytes 0 and crc 0: as it is. */
static void describe(const struct rig *rig, const char *name, enum manifest_file file, uint64_t bytes,
		     uint32_t crc)
{
	struct manifest manifest;
	read_manifest(rig, name, &manifest);
	manifest.files[file].bytes = bytes ? bytes : manifest.files[file].bytes;
	manifest.files[file].crc32c = crc ? crc : manifest.files[file].crc32c;
	put_manifest(rig, name, &manifest);
	manifest_finish(&manifest);
}

START_TEST(damage_in_a_chain_is_found)
{
	struct rig rig;
	struct snapshot_base *base;
	char path[RIG_PATH_BYTES], out[RIG_PATH_BYTES];
	uint8_t bytes[64] = {0};
	uint8_t byte;
	rig_init(&rig, SMALL);
	rig_run_for(&rig, 5);
	ck_assert_msg(rig_try_save(&rig, "a", NULL, &base, &rig.err) == 0, "%s", rig.err.text);
	rig_run_for(&rig, 5);
	ck_assert_msg(rig_try_save(&rig, "b", base, NULL, &rig.err) == 0, "%s", rig.err.text);
	snapshot_base_free(base);

	int fd = open(rig_path(&rig, "a/memory", path), O_RDWR | O_CLOEXEC);
	ck_assert(pread(fd, &byte, 1, 0x100000) == 1);
	byte ^= 0x10;
	ck_assert(pwrite(fd, &byte, 1, 0x100000) == 1);
	ck_assert_int_lt(snapshot_flatten(rig_path(&rig, "b", path), rig_path(&rig, "flat", out), &rig.err),
			 0);
	ck_assert_msg(strstr(rig.err.text, "a: memory: damaged: crc32c is "), "%s", rig.err.text);
	ck_assert_int_lt(access(out, F_OK), 0); /* all or nothing */
	rig.err = ERR_INIT;
	byte ^= 0x10;
	ck_assert(pwrite(fd, &byte, 1, 0x100000) == 1);

	ck_assert_int_eq(ftruncate(fd, 32 << 20), 0);
	(void)close(fd);
	describe(&rig, "a/manifest.json", FILE_MEMORY, 32 << 20, 0);
	cannot_open(&rig, "b", -EINVAL, "a: RAM of another size than in ");

	fd = open(rig_path(&rig, "b/pages", path), O_WRONLY | O_TRUNC | O_CLOEXEC);
	ck_assert(write(fd, bytes, sizeof(bytes)) == sizeof(bytes) && close(fd) == 0);
	describe(&rig, "b/manifest.json", FILE_PAGES, sizeof(bytes), crc32c(0, bytes, sizeof(bytes)));
	cannot_open(&rig, "b", -EINVAL, "pages: 64 bytes do not fit memory");

	(void)remove(rig_path(&rig, "b/manifest.json", path));
	ck_assert_int_eq(mkfifo(path, 0600), 0);
	cannot_open(&rig, "b", -EINVAL, "manifest.json: not a file of at most 1048576 bytes");
	rig_finish(&rig);
}
END_TEST

/* Two machines out of one directory, both at once. */
START_TEST(clones_run_side_by_side)
{
	struct rig rig, clone;
	rig_init(&rig, SMALL);
	rig_run_for(&rig, 10);
	rig_save(&rig, "snapshot");
	rig_end_life(&rig);
	clone = rig;
	clone.life = 5;
	rig_restore(&rig, "snapshot", true);
	rig_restore(&clone, "snapshot", true);
	rig_run_for(&rig, 5);
	rig_run_to_end(&clone);
	rig_run_to_end(&rig);
	rig_end_life(&clone);
	rig_end_life(&rig);
	rig_check_sequence(&rig);
	rig_finish(&rig);
}
END_TEST

static void read_generation(struct rig *rig, uint8_t id[16])
{
	memcpy(id, guest_memory_at(machine_memory(rig->machine), LAYOUT_VMGENID_GPA, 16), 16);
}

/* Restored as it was it is the same machine; a clone that is given an id of its own is another one. */
START_TEST(a_clone_has_another_generation_id)
{
	static const uint8_t clones[16] = {0x33, 0x22, 0x11, 0x00, 0x55, 0x44, 0x77, 0x66,
					   0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff};
	const char *sets[] = {"vm_generation_id=00112233-4455-6677-8899-AABBCCDDEEFF", "debug.console=null"};
	static const uint8_t none[16];
	uint8_t before[16], after[16];
	char path[RIG_PATH_BYTES];
	struct snapshot *snapshot;
	struct rig rig;
	rig_init(&rig, SMALL);
	rig_run_for(&rig, 5);
	read_generation(&rig, before);
	ck_assert_mem_ne(before, none, sizeof(none));
	rig_save(&rig, "snapshot");
	rig_end_life(&rig);
	rig_restore(&rig, "snapshot", true);
	read_generation(&rig, after);
	ck_assert_mem_eq(before, after, sizeof(after));
	rig_end_life(&rig);
	ck_assert_int_eq(snapshot_open(rig_path(&rig, "snapshot", path), &snapshot, &rig.err), 0);
	ck_assert_msg(snapshot_config(snapshot, sets, 2, &rig.config, &rig.err) == 0, "%s", rig.err.text);
	ck_assert_msg(snapshot_restore(snapshot, rig.config, true, &rig.machine, NULL, &rig.err) == 0, "%s",
		      rig.err.text);
	read_generation(&rig, after);
	ck_assert_mem_eq(after, clones, sizeof(after));
	snapshot_close(snapshot);
	rig_finish(&rig);
}
END_TEST

START_TEST(what_cannot_be_lazy_is_read)
{
	struct rig rig;
	rig_init(&rig, "\"memory\": {\"size\": \"64M\", \"shared\": true}, ");
	rig_run_for(&rig, 5);
	rig_save(&rig, "snapshot");
	rig_end_life(&rig);
	rig_restore(&rig, "snapshot", true);
	rig_run_to_end(&rig);
	rig_end_life(&rig);
	rig_check_sequence(&rig);
	rig_finish(&rig);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {the_sequence_goes_on,
				      lazily_too,
				      a_snapshot_does_not_disturb_the_machine,
				      a_chain_restores_and_is_flattened,
				      a_snapshot_stands_on_its_own_base_and_not_on_itself,
				      damage_in_a_chain_is_found,
				      clones_run_side_by_side,
				      a_clone_has_another_generation_id,
				      what_cannot_be_lazy_is_read};
	return rig_has_kvm() ? harness_run("snapshot", tests, ARRAY_LEN(tests)) : TEST_SKIP;
}
