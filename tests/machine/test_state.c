/* A machine's state out of one machine and into another, in the middle of a guest that counts. */
#include "base/cleanup.h"
#include "host/loop.h"
#include "machine/machine.h"
#include "memory/memory.h"

#include "harness.h"
#include "scratch.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

enum {
	CPUS = 2,
	NUMBERS = 2000,
	LINE_BYTES = 9,
	TEXT_MAX = NUMBERS * LINE_BYTES * 2,
	HURRY_GPA = 0x90000 /* tests/native/guest/count.c */
};

struct rig {
	char folder[32];
	struct machine_config *config;
	struct machine *machine;
	struct loop_op delay;
	uint64_t after_ms;
	int code;
	struct err err;
};

static void rig_init(struct rig *rig, const char *console)
{
	const char *build = getenv("AERIE_BUILD");
	char text[1024];
	*rig = (struct rig){.err = ERR_INIT};
	(void)snprintf(
		text, sizeof(text),
		"{\"cpus\": {\"count\": %d}, \"memory\": {\"size\": \"64M\"}, \"devices\": [{\"type\": "
		"\"rng\"}, {\"type\": \"balloon\"}, {\"type\": \"rng\"}], \"debug\": {\"exit\": true, "
		"\"console\": {\"file\": \"%s\"}}, \"boot\": {\"kernel\": \"%s/tests/native/count.elf\"}}",
		CPUS, console, build ? build : "build");
	ck_assert_msg(config_parse("test", text, strlen(text), NULL, 0, &rig->config, &rig->err) == 0, "%s",
		      rig->err.text);
}

static void rig_finish(struct rig *rig)
{
	machine_destroy(rig->machine);
	config_free(rig->config);
}

static void stop_and_end(struct loop_op *op, int res)
{
	struct rig *rig = container_of(op, struct rig, delay);
	(void)res;
	machine_pause(rig->machine, MACHINE_SAVE_VM);
	machine_ask_end(rig->machine);
}

static void rig_run_for(struct rig *rig, uint64_t ms)
{
	rig->delay = (struct loop_op){.done = stop_and_end};
	loop_delay(machine_loop(rig->machine), &rig->delay, ms * 1000000);
	ck_assert_int_eq(machine_run(rig->machine, &rig->code, &rig->err), 0);
}

static void *save(struct machine *machine, size_t *ret_bytes)
{
	struct err err = ERR_INIT;
	struct state_writer *writer;
	const void *blob;
	ck_assert_int_eq(state_writer_create(&writer, &err), 0);
	ck_assert_msg(machine_save_state(machine, writer, &err) == 0, "%s", err.text);
	ck_assert_msg(state_writer_finish(writer, &blob, ret_bytes, &err) == 0, "%s", err.text);
	void *copy = malloc(*ret_bytes);
	memcpy(copy, blob, *ret_bytes);
	state_writer_destroy(writer);
	return copy;
}

static void copy_ram(struct machine *from, struct machine *to)
{
	const struct guest_region *source, *target;
	size_t count = guest_memory_regions(machine_memory(from), &source);
	ck_assert_uint_eq(guest_memory_regions(machine_memory(to), &target), count);
	for (size_t i = 0; i < count; i++)
		memcpy(target[i].host, source[i].host, source[i].size);
}

static size_t read_text(const char *path, char *text, size_t used)
{
	FILE *file = fopen(path, "r");
	ck_assert_ptr_nonnull(file);
	used += fread(text + used, 1, TEXT_MAX - used, file);
	(void)fclose(file);
	return used;
}

START_TEST(a_guest_goes_on_where_it_was)
{
	char folder[64], first[96], second[96];
	_cleanup_free_ char *text = calloc(1, TEXT_MAX + 1);
	ck_assert_ptr_nonnull(scratch_folder(folder, sizeof(folder), "state-XXXXXX"));
	(void)snprintf(first, sizeof(first), "%s/first", folder);
	(void)snprintf(second, sizeof(second), "%s/second", folder);
	struct rig one, two;
	size_t bytes;
	rig_init(&one, first);
	rig_init(&two, second);
	ck_assert_msg(machine_create(one.config, &one.machine, &one.err) == 0, "%s", one.err.text);
	rig_run_for(&one, 30);
	void *blob = save(one.machine, &bytes);
	ck_assert_msg(machine_create_incoming(two.config, -1, &two.machine, &two.err) == 0, "%s",
		      two.err.text);
	copy_ram(one.machine, two.machine);
	rig_finish(&one);

	struct state_file file;
	ck_assert_msg(state_file_open(blob, bytes, &file, &two.err) == 0, "%s", two.err.text);
	ck_assert_msg(machine_load_state(two.machine, &file, false, &two.err) == 0, "%s", two.err.text);
	ck_assert_str_eq(machine_status_name(machine_status(two.machine)), "inmigrate");
	ck_assert_int_eq(guest_memory_write(machine_memory(two.machine), HURRY_GPA, &(uint32_t){1}, 4), 0);
	ck_assert_int_eq(machine_run(two.machine, &two.code, &two.err), 0);
	ck_assert_int_eq(two.code, 7 << 1 | 1);
	rig_finish(&two);
	free(blob);

	size_t cut = read_text(first, text, 0), used = read_text(second, text, cut);
	ck_assert_uint_gt(cut, 0);
	ck_assert_uint_gt(used, cut);
	ck_assert_uint_eq(used, NUMBERS * LINE_BYTES);
	for (unsigned i = 0; i < NUMBERS; i++) {
		char line[LINE_BYTES + 1];
		(void)snprintf(line, sizeof(line), "%08x\n", i);
		ck_assert_msg(memcmp(text + (size_t)i * LINE_BYTES, line, LINE_BYTES) == 0, "line %u: %.9s",
			      i, text + (size_t)i * LINE_BYTES);
	}
	(void)remove(first);
	(void)remove(second);
	(void)remove(folder);
}
END_TEST

/* Saved, loaded and saved again it is the same, but for time and what follows it. */
START_TEST(what_was_loaded_is_saved_alike)
{
	struct rig one, two;
	size_t bytes, again;
	rig_init(&one, "/dev/null");
	rig_init(&two, "/dev/null");
	ck_assert_int_eq(machine_create(one.config, &one.machine, &one.err), 0);
	ck_assert_int_eq(machine_create_incoming(two.config, -1, &two.machine, &two.err), 0);
	machine_pause(one.machine, MACHINE_SAVE_VM);
	void *blob = save(one.machine, &bytes);
	copy_ram(one.machine, two.machine);
	struct state_file file, other;
	ck_assert_int_eq(state_file_open(blob, bytes, &file, &two.err), 0);
	ck_assert_msg(machine_load_state(two.machine, &file, false, &two.err) == 0, "%s", two.err.text);
	void *second = save(two.machine, &again);
	ck_assert_uint_eq(again, bytes);
	ck_assert_int_eq(state_file_open(second, again, &other, &two.err), 0);
	static const char *const parts[] = {"regs",	 "sregs2", "xsave", "xcrs",
					    "debugregs", "events", "cpuid", "apic-id"};
	for (uint32_t cpu = 0; cpu < CPUS; cpu++) {
		int a = state_node_numbered(&file, state_node(&file, 0, "vcpus", &two.err), "vcpu", cpu,
					    &two.err);
		int b = state_node_numbered(&other, state_node(&other, 0, "vcpus", &two.err), "vcpu", cpu,
					    &two.err);
		for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
			size_t alen, blen;
			const void *x = state_read_bytes(&file, a, parts[i], &alen, &two.err);
			const void *y = state_read_bytes(&other, b, parts[i], &blen, &two.err);
			ck_assert_uint_eq(alen, blen);
			ck_assert_msg(memcmp(x, y, alen) == 0, "vcpu%u: %s", cpu, parts[i]);
		}
	}
	free(blob);
	free(second);
	rig_finish(&one);
	rig_finish(&two);
}
END_TEST

static uint64_t saved_tsc(const void *blob, size_t bytes, uint64_t *ret_clock_ns)
{
	struct state_file file;
	struct err err = ERR_INIT;
	uint64_t tsc;
	ck_assert_int_eq(state_file_open(blob, bytes, &file, &err), 0);
	int node = state_node(&file, 0, "clock", &err);
	ck_assert_int_eq(state_read_u64(&file, node, "tsc", &tsc, &err), 0);
	ck_assert_int_eq(state_read_u64(&file, node, "clock-ns", ret_clock_ns, &err), 0);
	return tsc;
}

START_TEST(clocks_go_on_from_where_they_stood)
{
	struct rig one, two;
	size_t bytes, again;
	uint64_t clock_before, clock_after;
	rig_init(&one, "/dev/null");
	rig_init(&two, "/dev/null");
	ck_assert_int_eq(machine_create(one.config, &one.machine, &one.err), 0);
	rig_run_for(&one, 10);
	void *blob = save(one.machine, &bytes);
	ck_assert_int_eq(machine_create_incoming(two.config, -1, &two.machine, &two.err), 0);
	copy_ram(one.machine, two.machine);
	struct state_file file;
	ck_assert_int_eq(state_file_open(blob, bytes, &file, &two.err), 0);
	ck_assert_msg(machine_load_state(two.machine, &file, false, &two.err) == 0, "%s", two.err.text);
	void *second = save(two.machine, &again);
	uint64_t before = saved_tsc(blob, bytes, &clock_before);
	uint64_t after = saved_tsc(second, again, &clock_after);
	ck_assert_uint_ge(after, before);
	ck_assert_uint_ge(clock_after, clock_before);
	ck_assert_uint_lt(clock_after - clock_before, 2000000000);
	free(blob);
	free(second);
	rig_finish(&one);
	rig_finish(&two);
}
END_TEST

START_TEST(a_running_machine_is_not_saved)
{
	struct rig one;
	struct err err = ERR_INIT;
	struct state_writer *writer;
	rig_init(&one, "/dev/null");
	ck_assert_int_eq(machine_create(one.config, &one.machine, &one.err), 0);
	ck_assert_int_eq(state_writer_create(&writer, &err), 0);
	ck_assert_int_lt(machine_save_state(one.machine, writer, &err), 0);
	state_writer_destroy(writer);
	rig_finish(&one);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {a_guest_goes_on_where_it_was, what_was_loaded_is_saved_alike,
				      clocks_go_on_from_where_they_stood, a_running_machine_is_not_saved};
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		(void)printf("skipped: no usable /dev/kvm\n");
		return TEST_SKIP;
	}
	(void)close_fd(fd);
	return harness_run("machine state", tests, ARRAY_LEN(tests));
}
