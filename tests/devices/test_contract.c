/*
 * What device.h promises of every device, asked of every class in the registry. Nothing here knows a device
 * but the list of what a battery keeps through a reset.
 */
#include "base/cleanup.h"
#include "base/log.h"
#include "clock.h"
#include "fake.h"
#include "harness.h"
#include "recording_bus.h"

#include <errno.h>
#include <libfdt.h>
#include <stdio.h>
#include <string.h>

enum { TREE_BYTES = 16384, ACCESSES = 20000, CORRUPTIONS = 200 };

static const struct machine_config everything = {
	.name = "everything",
	.cpus = {.count = 2, .sockets = 1, .cores = 2, .threads = 1},
	.memory = {.size_bytes = 5ULL << 30},
	.serial = {{CHARDEV_NULL, NULL}, {CHARDEV_NULL, NULL}, {CHARDEV_NULL, NULL}, {CHARDEV_NULL, NULL}},
	.serial_count = 4,
	.debug = {.exit = true, .has_console = true, .console = {CHARDEV_NULL, NULL}},
};

/* What a reset leaves alone, as on the real thing. */
static const struct {
	const char *device;
	const char *property;
} kept_by_battery[] = {
	{"cmos", "control-a"}, {"cmos", "control-b"}, {"cmos", "ram"},	     {"vmgenid", "guid"},
	{"cmos", "offset-s"},  {"cmos", "phase-ns"},  {"cmos", "updated-s"},
};

/* The same sequence on every run (splitmix64): a failure comes again. */
static uint64_t seed;

static uint64_t random_u64(void)
{
	uint64_t z = seed += 0x9e3779b97f4a7c15;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

/* Mostly what drivers write: small numbers, single bits, bytes; now and then anything. */
static uint64_t random_value(void)
{
	uint64_t r = random_u64();
	switch (r & 7) {
	case 0:
		return r >> 8;
	case 1:
		return 1ULL << (r >> 8 & 31);
	case 2:
	case 3:
		return r >> 8 & 0x0f;
	default:
		return r >> 8 & 0xff;
	}
}

/* One device on its own fakes. */
struct bench {
	struct fake fake;
	const struct device_class *class;
	struct device *device;
};

/* A saved state, encoded: comparable byte by byte, since trees have no padding. */
struct tree {
	_Alignas(8) uint8_t fdt[TREE_BYTES];
};

/* Random accesses ask for resets all the time, and from several threads. */
static void no_request(void *owner, enum machine_request request, int exit_code)
{
	(void)owner, (void)request, (void)exit_code;
}

static void bench_init(struct bench *bench, const struct device_class *class, size_t index)
{
	fake_init(&bench->fake);
	bench->fake.services.request = no_request;
	bench->class = class;
	bench->device = NULL;
	int r = class->create(class->config(&everything, index), index, &bench->fake.services, &bench->device,
			      &bench->fake.err);
	ck_assert_msg(r == 0, "%s: %s", class->name, bench->fake.err.text);
	ck_assert_ptr_eq(bench->device->class, class);
}

static void bench_finish(struct bench *bench)
{
	bench->class->destroy(bench->device);
	fake_finish(&bench->fake);
}

static void encode(const struct device_class *class, const void *regs, struct tree *tree)
{
	memset(tree, 0, sizeof(*tree));
	ck_assert_int_eq(fdt_create(tree->fdt, sizeof(tree->fdt)), 0);
	ck_assert_int_eq(fdt_finish_reservemap(tree->fdt), 0);
	ck_assert_int_eq(fdt_begin_node(tree->fdt, ""), 0);
	ck_assert_msg(state_encode(class->state, regs, tree->fdt) == 0, "%s: cannot be encoded", class->name);
	ck_assert_int_eq(fdt_end_node(tree->fdt), 0);
	ck_assert_int_eq(fdt_finish(tree->fdt), 0);
	ck_assert_int_eq(fdt_check_full(tree->fdt, sizeof(tree->fdt)), 0);
}

static void *regs_alloc(const struct device_class *class)
{
	void *regs = malloc(class->state->size + 1);
	ck_assert_ptr_nonnull(regs);
	memset(regs, 0xa5, class->state->size + 1); /* what save does not fill shows up as a difference */
	return regs;
}

static void bench_save(struct bench *bench, struct tree *tree)
{
	_cleanup_free_ uint8_t *regs = regs_alloc(bench->class);
	bench->class->save(bench->device, regs);
	ck_assert_msg(regs[bench->class->state->size] == 0xa5, "%s: save writes past its struct",
		      bench->class->name);
	encode(bench->class, regs, tree);
}

static int bench_restore(struct bench *bench, const struct tree *tree, struct err *err)
{
	_cleanup_free_ uint8_t *regs = regs_alloc(bench->class);
	*err = ERR_INIT;
	int r = state_decode(bench->class->state, regs, tree->fdt, 0, err);
	ck_assert_msg(r == 0, "%s: %s", bench->class->name, err->text);
	r = bench->class->restore(bench->device, regs, err);
	ck_assert_msg(r == err->code && (r == 0) == (err->text[0] == 0), "%s: restore gives %d and \"%s\"",
		      bench->class->name, r, err->text);
	return r;
}

static void bench_use(struct bench *bench, unsigned accesses)
{
	for (unsigned i = 0; i < accesses; i++) {
		recording_bus_access(bench->fake.services.bus, random_u64(), random_value());
		if (random_u64() % 4 == 0)
			clock_advance_ns((int64_t)(random_u64() % 300000000));
		if (bench->class->power_button && random_u64() % 64 == 0)
			bench->class->power_button(bench->device);
	}
}

static bool battery_keeps(const char *device, const char *property)
{
	for (size_t i = 0; i < ARRAY_LEN(kept_by_battery); i++)
		if (!strcmp(kept_by_battery[i].device, device) &&
		    !strcmp(kept_by_battery[i].property, property))
			return true;
	return false;
}

/* Every property but those that the battery keeps, if `battery`. */
static void assert_same(const struct bench *bench, const struct tree *a, const struct tree *b, bool battery,
			const char *what)
{
	int offset;
	fdt_for_each_property_offset(offset, a->fdt, 0)
	{
		const char *name;
		int len_a, len_b;
		const void *value_a = fdt_getprop_by_offset(a->fdt, offset, &name, &len_a);
		const void *value_b = fdt_getprop(b->fdt, 0, name, &len_b);
		if (battery && battery_keeps(bench->class->name, name))
			continue;
		ck_assert_msg(len_a == len_b && !memcmp(value_a, value_b, (size_t)len_a),
			      "%s: %s differs: %s", bench->class->name, name, what);
	}
}

static void assert_same_lines(struct bench *a, struct bench *b)
{
	for (uint32_t gsi = 0; gsi < FAKE_GSIS; gsi++)
		ck_assert_msg(fake_irq_level(&a->fake, gsi) == fake_irq_level(&b->fake, gsi),
			      "%s: GSI %u is not as it was before the save", a->class->name, gsi);
}

/* Calls `test` for each instance of each class, with the clocks held. */
static void for_each_device(void (*test)(const struct device_class *class, size_t index))
{
	log_set_level(LOG_ERROR); /* of the guest's many mistakes we know */
	for (size_t i = 0; device_registry[i]; i++) {
		const struct device_class *class = device_registry[i];
		for (size_t index = 0; class->config(&everything, index); index++) {
			seed = 1000 * i + index;
			clock_hold(1767225599); /* the last second of 2025 */
			test(class, index);
			clock_release();
		}
	}
}

static void check_class(const struct device_class *class, size_t index)
{
	(void)index;
	const struct state_table *table = class->state;
	ck_assert(class->name && class->name[0] && table && table->name);
	ck_assert(class->create && class->destroy && class->reset && class->save && class->restore);
	static const size_t element[] = {
		[STATE_BOOL] = 1, [STATE_U8] = 1, [STATE_U16] = 2, [STATE_U32] = 4, [STATE_U64] = 8};
	size_t alignment = 1, end = 0; /* rows in the order of the struct, with no gap but padding */
	for (size_t i = 0; i < table->field_count; i++) {
		const struct state_field *field = &table->fields[i];
		size_t size = element[field->type];
		ck_assert_msg(field->offset >= end, "%s: %s is out of order", class->name, field->name);
		ck_assert_msg(field->offset == (end + size - 1) / size * size,
			      "%s: a field before %s is not in the table", class->name, field->name);
		end = field->offset + field->count * size;
		if (size > alignment)
			alignment = size;
	}
	ck_assert_msg(table->size == (end + alignment - 1) / alignment * alignment,
		      "%s: the last field is not in the table", class->name);
}

START_TEST(class_is_complete)
{
	for_each_device(check_class);
}
END_TEST

START_TEST(names_are_unique)
{
	ck_assert_ptr_nonnull(device_registry[0]);
	for (size_t i = 0; device_registry[i]; i++)
		for (size_t j = 0; j < i; j++)
			ck_assert_str_ne(device_registry[i]->name, device_registry[j]->name);
}
END_TEST

static void check_fresh_is_reset(const struct device_class *class, size_t index)
{
	struct bench bench;
	struct tree fresh, reset;
	bench_init(&bench, class, index);
	bench_save(&bench, &fresh);
	class->reset(bench.device);
	bench_save(&bench, &reset);
	assert_same(&bench, &fresh, &reset, false, "fresh and after reset");
	bench_finish(&bench);
}

START_TEST(fresh_equals_reset)
{
	for_each_device(check_fresh_is_reset);
}
END_TEST

static void check_reset_after_use(const struct device_class *class, size_t index)
{
	struct bench bench, other;
	struct tree fresh, reset;
	bench_init(&bench, class, index);
	bench_init(&other, class, index);
	bench_save(&bench, &fresh);
	bench_use(&bench, ACCESSES);
	class->reset(bench.device);
	bench_save(&bench, &reset);
	assert_same(&bench, &fresh, &reset, true, "fresh and after use and reset");
	assert_same_lines(&bench, &other);
	bench_finish(&other);
	bench_finish(&bench);
}

START_TEST(reset_after_use_equals_fresh)
{
	for_each_device(check_reset_after_use);
}
END_TEST

/* The same accesses on both, with time going on: the guest cannot tell which of them was restored. */
static void assert_same_behaviour(struct bench *a, struct bench *b)
{
	for (unsigned i = 0; i < 100; i++) {
		uint64_t access = random_u64(), value = random_value();
		uint64_t read_a = recording_bus_access(a->fake.services.bus, access, value);
		uint64_t read_b = recording_bus_access(b->fake.services.bus, access, value);
		ck_assert_msg(read_a == read_b, "%s: reads %#llx, after a restore %#llx", a->class->name,
			      (unsigned long long)read_a, (unsigned long long)read_b);
		assert_same_lines(a, b);
		if (random_u64() % 4 == 0)
			clock_advance_ns((int64_t)(random_u64() % 300000000));
	}
}

static void check_save_restore_save(const struct device_class *class, size_t index)
{
	struct bench bench;
	bench_init(&bench, class, index);
	for (unsigned round = 0; round < 100; round++) {
		struct bench copy;
		struct tree before, after;
		struct err err;
		bench_use(&bench, ACCESSES / 100);
		bench_save(&bench, &before);
		bench_init(&copy, class, index);
		ck_assert_msg(bench_restore(&copy, &before, &err) == 0, "%s: %s", class->name, err.text);
		bench_save(&copy, &after);
		ck_assert_msg(!memcmp(&before, &after, sizeof(before)), "%s: round %u is not lossless",
			      class->name, round);
		assert_same_lines(&bench, &copy);
		assert_same_behaviour(&bench, &copy);
		bench_finish(&copy);
	}
	bench_finish(&bench);
}

START_TEST(save_restore_save_is_lossless)
{
	for_each_device(check_save_restore_save);
}
END_TEST

static void corrupt(const struct device_class *class, struct tree *tree)
{
	const struct state_field *field = &class->state->fields[random_u64() % class->state->field_count];
	_cleanup_free_ uint8_t *regs = regs_alloc(class);
	struct err err = ERR_INIT;
	ck_assert_int_eq(state_decode(class->state, regs, tree->fdt, 0, &err), 0);
	for (uint32_t i = 0; i < field->count; i++) {
		uint64_t value = random_u64() & 1 ? random_u64() : random_value();
		uint8_t *at = regs + field->offset;
		switch (field->type) {
		case STATE_BOOL:
			at[i] = value & 1;
			break;
		case STATE_U8:
			at[i] = (uint8_t)value;
			break;
		case STATE_U16:
			((uint16_t *)at)[i] = (uint16_t)value;
			break;
		case STATE_U32:
			((uint32_t *)at)[i] = (uint32_t)value;
			break;
		case STATE_U64:
			((uint64_t *)at)[i] = value;
			break;
		}
	}
	encode(class, regs, tree);
}

static void check_corrupt_restore(const struct device_class *class, size_t index)
{
	if (class->state->field_count == 0)
		return;
	struct bench bench;
	bench_init(&bench, class, index);
	for (unsigned round = 0; round < CORRUPTIONS; round++) {
		struct tree before, bad, after, again;
		struct err err;
		bench_use(&bench, 20);
		bench_save(&bench, &before);
		bad = before;
		corrupt(class, &bad);
		int r = bench_restore(&bench, &bad, &err);
		bench_save(&bench, &after);
		if (r < 0) {
			assert_same(&bench, &before, &after, false, "a restore that failed");
			continue;
		}
		ck_assert_msg(bench_restore(&bench, &after, &err) == 0,
			      "%s: saved what it cannot restore: %s", class->name, err.text);
		bench_save(&bench, &again);
		assert_same(&bench, &after, &again, false, "a second restore");
	}
	bench_use(&bench, ACCESSES);
	bench_finish(&bench);
}

START_TEST(corrupt_state_is_refused_whole_or_taken)
{
	for_each_device(check_corrupt_restore);
}
END_TEST

static void check_destroy_null(const struct device_class *class, size_t index)
{
	(void)index;
	class->destroy(NULL);
}

START_TEST(destroying_nothing_is_fine)
{
	for_each_device(check_destroy_null);
}
END_TEST

/* LeakSanitizer and ASan look on in the sanitized builds. */
static void check_create_fails(const struct device_class *class, size_t index)
{
	size_t ranges = SIZE_MAX;
	for (size_t refuse_after = 0; refuse_after < ranges; refuse_after++) {
		struct fake fake;
		struct device *device = NULL;
		fake_init(&fake);
		fake.services.bus->refuse_after = refuse_after;
		int r = class->create(class->config(&everything, index), index, &fake.services, &device,
				      &fake.err);
		if (r == 0) {
			ranges = fake.services.bus->count;
			ck_assert_msg(ranges == refuse_after, "%s: created in spite of a refused range",
				      class->name);
			class->destroy(device);
		} else {
			ck_assert_msg(r == -EEXIST && fake.err.code == -EEXIST, "%s: %d, \"%s\"", class->name,
				      r, fake.err.text);
			ck_assert_msg(device == NULL, "%s: hands out a device that failed", class->name);
		}
		fake_finish(&fake);
	}
}

START_TEST(create_cleans_up_after_each_failure)
{
	for_each_device(check_create_fails);
}
END_TEST

/* The loop's thread and the vCPUs' at once: ThreadSanitizer looks on. */
static void *use_from_vcpu(void *arg)
{
	struct bench *bench = arg;
	for (uint64_t i = 0; i < 3000; i++)
		recording_bus_access(bench->fake.services.bus, i * 0x9e3779b97f4a7c15, i);
	return NULL;
}

static void check_threads(const struct device_class *class, size_t index)
{
	struct bench bench;
	struct tree tree;
	struct err err;
	pthread_t vcpus[2];
	bench_init(&bench, class, index);
	for (size_t i = 0; i < ARRAY_LEN(vcpus); i++)
		ck_assert_int_eq(pthread_create(&vcpus[i], NULL, use_from_vcpu, &bench), 0);
	fake_run(&bench.fake, 2);
	for (unsigned i = 0; i < 20; i++) {
		bench_save(&bench, &tree);
		ck_assert_int_eq(bench_restore(&bench, &tree, &err), 0);
		class->reset(bench.device);
	}
	for (size_t i = 0; i < ARRAY_LEN(vcpus); i++)
		ck_assert_int_eq(pthread_join(vcpus[i], NULL), 0);
	bench_finish(&bench);
}

START_TEST(many_threads_at_once)
{
	for_each_device(check_threads);
}
END_TEST

TEST_MAIN("contract", class_is_complete, names_are_unique, fresh_equals_reset, reset_after_use_equals_fresh,
	  save_restore_save_is_lossless, corrupt_state_is_refused_whole_or_taken, destroying_nothing_is_fine,
	  create_cleans_up_after_each_failure, many_threads_at_once)
