/* A small machine that counts (tests/native/guest/count.c), snapshots of it, and its sequence over several
 * lives. */
#ifndef AERIE_TESTS_SNAPSHOT_RIG_H
#define AERIE_TESTS_SNAPSHOT_RIG_H

#include "base/cleanup.h"
#include "host/loop.h"
#include "machine/machine.h"
#include "memory/memory.h"
#include "snapshot/snapshot.h"

#include "harness.h"
#include "scratch.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum {
	RIG_NUMBERS = 2000,
	RIG_LINE_BYTES = 9,
	RIG_EXIT_CODE = 7 << 1 | 1,
	RIG_PATH_BYTES = 256,
	RIG_HURRY_GPA = 0x90000 /* count.c's */
};

struct rig {
	char folder[64]; /* everything is in it */
	struct machine_config *config;
	struct machine *machine;
	struct loop_op delay;
	unsigned life; /* each life has its own console file */
	int code;
	struct err err;
};

static inline const char *rig_path(const struct rig *rig, const char *name, char path[RIG_PATH_BYTES])
{
	(void)snprintf(path, RIG_PATH_BYTES, "%s/%s", rig->folder, name);
	return path;
}

static inline void rig_remove(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *entry;
	while (dir && (entry = readdir(dir))) {
		_cleanup_free_ char *inner = NULL;
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		if (asprintf(&inner, "%s/%s", path, entry->d_name) > 0)
			rig_remove(inner);
	}
	if (dir)
		(void)closedir(dir);
	(void)remove(path);
}

static inline const char *rig_build(void)
{
	const char *build = getenv("AERIE_BUILD");
	return build ? build : "build";
}

/* `more`: keys for the config, with a comma behind them. */
static inline void rig_init(struct rig *rig, const char *more)
{
	char text[1024];
	*rig = (struct rig){.err = ERR_INIT};
	ck_assert_ptr_nonnull(scratch_folder(rig->folder, sizeof(rig->folder), "snapshot-XXXXXX"));
	(void)snprintf(text, sizeof(text),
		       "{%s\"cpus\": {\"count\": 2}, \"debug\": {\"exit\": true, \"console\": {\"file\": "
		       "\"%s/console0\"}}, \"boot\": {\"kernel\": \"%s/tests/native/count.elf\"}}",
		       more, rig->folder, rig_build());
	ck_assert_msg(config_parse("test", text, strlen(text), NULL, 0, &rig->config, &rig->err) == 0, "%s",
		      rig->err.text);
	ck_assert_msg(machine_create(rig->config, &rig->machine, &rig->err) == 0, "%s", rig->err.text);
}

static inline void rig_end_life(struct rig *rig)
{
	machine_destroy(rig->machine);
	config_free(rig->config);
	rig->machine = NULL;
	rig->config = NULL;
}

static inline void rig_finish(struct rig *rig)
{
	rig_end_life(rig);
	rig_remove(rig->folder);
}

static inline bool rig_has_spoken(const struct rig *rig)
{
	char name[32], path[RIG_PATH_BYTES];
	struct stat file;
	(void)snprintf(name, sizeof(name), "console%u", rig->life);
	return stat(rig_path(rig, name, path), &file) == 0 && file.st_size > 0;
}

/* On a busy host the guest may not have had its turn: a life that said nothing proves nothing. */
static inline void rig_pause_now(struct loop_op *op, int res)
{
	struct rig *rig = container_of(op, struct rig, delay);
	(void)res;
	if (!rig_has_spoken(rig)) {
		loop_delay(machine_loop(rig->machine), &rig->delay, 1000000);
		return;
	}
	machine_pause(rig->machine, MACHINE_SAVE_VM);
	loop_quit(machine_loop(rig->machine));
}

/* Lets the guest run so long, or until it has spoken, and leaves it paused. The loop runs without
 * machine_run, which would end it. */
static inline void rig_run_for(struct rig *rig, uint64_t ms)
{
	rig->delay = (struct loop_op){.done = rig_pause_now};
	machine_continue(rig->machine);
	loop_delay(machine_loop(rig->machine), &rig->delay, ms * 1000000);
	while (machine_status(rig->machine) ==
	       MACHINE_RUNNING) /* machine_continue ends it once, for machine_run */
		ck_assert_int_eq(loop_run(machine_loop(rig->machine)), 0);
}

static inline void rig_run_to_end(struct rig *rig)
{
	static const uint32_t hurry = 1;
	ck_assert_int_eq(
		guest_memory_write(machine_memory(rig->machine), RIG_HURRY_GPA, &hurry, sizeof(hurry)), 0);
	machine_continue(rig->machine);
	ck_assert_msg(machine_run(rig->machine, &rig->code, &rig->err) == 0, "%s", rig->err.text);
	ck_assert_int_eq(rig->code, RIG_EXIT_CODE);
}

static inline int rig_try_save(struct rig *rig, const char *name, struct snapshot_base *on,
			       struct snapshot_base **track, struct err *err)
{
	char path[RIG_PATH_BYTES];
	struct snapshot_save *save;
	int r = snapshot_save_begin(rig->machine, rig_path(rig, name, path), on, &save, err);
	if (r < 0)
		return r;
	if (track)
		ck_assert_msg(snapshot_base_create(rig->machine, save, track, err) == 0, "%s", err->text);
	r = snapshot_save_write(save, err);
	snapshot_save_free(save);
	return r;
}

static inline void rig_save(struct rig *rig, const char *name)
{
	ck_assert_msg(rig_try_save(rig, name, NULL, NULL, &rig->err) == 0, "%s", rig->err.text);
}

/* The next life, from the snapshot; its console is a file of its own, which an earlier one may have left. */
static inline int rig_try_restore(struct rig *rig, const char *name, bool lazy, struct err *err)
{
	char path[RIG_PATH_BYTES], set[RIG_PATH_BYTES + 64];
	char console[RIG_PATH_BYTES];
	const char *sets[] = {set};
	struct snapshot *snapshot;
	(void)snprintf(console, sizeof(console), "%s/console%u", rig->folder, rig->life + 1);
	(void)snprintf(set, sizeof(set), "debug.console={\"file\": \"%s\"}", console);
	(void)unlink(console);
	int r = snapshot_open(rig_path(rig, name, path), &snapshot, err);
	if (r < 0)
		return r;
	r = snapshot_config(snapshot, sets, 1, &rig->config, err);
	if (r == 0)
		r = snapshot_restore(snapshot, rig->config, lazy, &rig->machine, NULL, err);
	snapshot_close(snapshot);
	if (r == 0)
		rig->life++;
	return r;
}

static inline void rig_restore(struct rig *rig, const char *name, bool lazy)
{
	ck_assert_msg(rig_try_restore(rig, name, lazy, &rig->err) == 0, "%s", rig->err.text);
}

/* What the consoles of all lives say, one after the other, is the sequence: none lost, none doubled. */
static inline void rig_check_sequence(const struct rig *rig)
{
	enum { MAX = RIG_NUMBERS * RIG_LINE_BYTES * 2 };
	_cleanup_free_ char *text = calloc(1, MAX);
	size_t used = 0;
	ck_assert_ptr_nonnull(text);
	for (unsigned life = 0; life <= rig->life; life++) {
		char name[32], path[RIG_PATH_BYTES];
		(void)snprintf(name, sizeof(name), "console%u", life);
		FILE *file = fopen(rig_path(rig, name, path), "r");
		ck_assert_msg(file != NULL, "%s", path);
		size_t n = fread(text + used, 1, MAX - used, file);
		(void)fclose(file);
		ck_assert_msg(n > 0, "life %u said nothing", life);
		used += n;
	}
	ck_assert_uint_eq(used, RIG_NUMBERS * RIG_LINE_BYTES);
	for (unsigned i = 0; i < RIG_NUMBERS; i++) {
		char line[RIG_LINE_BYTES + 1];
		(void)snprintf(line, sizeof(line), "%08x\n", i);
		ck_assert_msg(memcmp(text + (size_t)i * RIG_LINE_BYTES, line, RIG_LINE_BYTES) == 0,
			      "line %u: %.9s", i, text + (size_t)i * RIG_LINE_BYTES);
	}
}

static inline bool rig_has_kvm(void)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		(void)printf("skipped: no usable /dev/kvm\n");
	return close_fd(fd) == -1 && fd >= 0;
}

#endif
