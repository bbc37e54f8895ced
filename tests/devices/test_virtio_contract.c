/*
 * What every virtio device owes to every driver, asked of each virtio class in the registry. Nothing here
 * knows a device but the configs at the top. (vhost-user devices need a back end, and have tests of their
 * own.)
 */
#include "../../devices/devices.h"
#include "base/cleanup.h"
#include "base/layout.h"
#include "base/log.h"
#include "driver.h"
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { FILE_BYTES = 4 << 20, PATH_BYTES = 64, ROUNDS = 40 };

static char folder[] = "/tmp/aerie-virtio-XXXXXX";
static char disk_path[PATH_BYTES], pmem_path[PATH_BYTES], vsock_path[PATH_BYTES], net_path[PATH_BYTES];

static const struct machine_config everything = {
	.name = "everything",
	.cpus = {.count = 2, .sockets = 1, .cores = 2, .threads = 1},
	.memory = {.size_bytes = WORLD_RAM_MIB << 20, .shared = true},
	.devices = {{.type = DEVICE_DISK,
		     .disk = {.path = disk_path,
			      .discard = true,
			      .serial = "",
			      .queues = 2,
			      .queue_size = 128,
			      .block_size = 512}},
		    {.type = DEVICE_NET,
		     .net = {.backend = NET_UNIX,
			     .socket = net_path,
			     .mac = "52:54:00:00:00:01",
			     .queues = 1,
			     .queue_size = 256}},
		    {.type = DEVICE_CONSOLE, .console = {.port_count = 2}},
		    {.type = DEVICE_RNG},
		    {.type = DEVICE_BALLOON,
		     .balloon = {.deflate_on_oom = true, .free_page_reporting = true}},
		    {.type = DEVICE_VSOCK, .vsock = {.cid = 3, .path = vsock_path}},
		    {.type = DEVICE_PMEM, .pmem = {.path = pmem_path}}},
	.device_count = 7,
};

/* The same sequence on every run (splitmix64). */
static uint64_t seed;

static uint64_t random_u64(void)
{
	uint64_t z = seed += 0x9e3779b97f4a7c15;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

/* ---- one device in a world of its own ---- */

struct bench {
	struct world world;
	const struct device_class *class;
	struct device *device;
	struct driver driver;
	uint64_t data_gpa;
};

enum { DATA_BYTES = 1 << 20 };

static struct bench bench;

static void make_device(void)
{
	struct err err = ERR_INIT;
	bench.device = NULL;
	int r = bench.class->create(bench.class->config(&everything, 0), 0, &bench.world.services,
				    &bench.device, &err);
	ck_assert_msg(r == 0, "%s: %s", bench.class->name, err.text);
	ck_assert_ptr_eq(bench.device->class, bench.class);
}

static uint32_t find_slot(void)
{
	for (uint32_t slot = 1; slot < PCI_SLOTS; slot++)
		if (world_config_read(&bench.world, slot, 0, 2) == 0x1af4)
			return slot;
	ck_abort_msg("%s: is not on the PCI bus", bench.class->name);
}

static void bench_finish(void);

static void bench_init(const struct device_class *class)
{
	if (bench.device) /* of a test that failed */
		bench_finish();
	memset(&bench, 0, sizeof(bench));
	bench.class = class;
	world_init(&bench.world, 1);
	make_device();
	ck_assert_msg(driver_init_at(&bench.driver, &bench.world, find_slot()) == 0,
		      "%s: not as VIRTIO has it", class->name);
	bench.data_gpa = world_alloc(&bench.world, DATA_BYTES);
}

static void bench_finish(void)
{
	driver_finish(&bench.driver);
	bench.class->destroy(bench.device);
	bench.device = NULL;
	world_finish(&bench.world);
}

static bool is_virtio(const struct device_class *class)
{
	return class->state && class->state->field_count &&
	       strstr(class->state->fields[0].name, "driver_features");
}

static void for_each_class(void (*test)(void))
{
	log_set_level(LOG_ERROR); /* of the guest's many mistakes we know */
	for (size_t i = 0; device_registry[i]; i++) {
		const struct device_class *class = device_registry[i];
		if (!is_virtio(class) || !class->config(&everything, 0))
			continue;
		seed = 1000 * i;
		bench_init(class);
		test();
		bench_finish();
	}
}

static const uint64_t layouts[] = {
	0, VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC,
	VIRTIO_F_RING_PACKED | VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC,
	UINT64_MAX, /* all that it offers */
};

static void start(uint64_t features)
{
	int r = driver_start(&bench.driver, &(struct driver_options){.features = features});
	ck_assert_msg(r == 0, "%s: does not start with features %#llx: %d", bench.class->name,
		      (unsigned long long)features, r);
}

/* Still a device that a driver can use. */
static void assert_usable(void)
{
	for (size_t i = 0; i < ARRAY_LEN(layouts); i++) {
		start(layouts[i]);
		usleep(200);
		ck_assert_msg(driver_status(&bench.driver) == 15, "%s: status %#x after a reset",
			      bench.class->name, driver_status(&bench.driver));
	}
	ck_assert_int_eq(driver_reset(&bench.driver), 0);
}

/*
 * A guest writes where the device reads, that is its right; ThreadSanitizer shall not tell of it. The
 * device's side is watched as ever.
 */
__attribute__((no_sanitize("thread"))) static void scribble(void *data, unsigned bytes, uint64_t value)
{
	volatile uint8_t *at = data;
	for (unsigned i = 0; i < bytes; i++)
		at[i] = (uint8_t)(value >> 8 * (i % 8));
}

static bool all_are(const uint8_t *data, size_t len, uint8_t value)
{
	return len == 0 || (data[0] == value && memcmp(data, data + 1, len - 1) == 0);
}

/* Requests of random shape with random contents, some in forms that most devices know. */
static void submit_anything(unsigned queue)
{
	struct ring_buffer buffers[6];
	size_t count = 1 + random_u64() % ARRAY_LEN(buffers), readable = random_u64() % (count + 1);
	for (size_t i = 0; i < count; i++) {
		static const uint32_t lens[] = {0, 1, 4, 8, 16, 44, 512, 4096, 65536, UINT32_MAX};
		uint64_t r = random_u64();
		uint32_t len = lens[r % (i ? 9 : 10) % ARRAY_LEN(lens)];
		uint64_t gpa = bench.data_gpa + (r >> 8) % (DATA_BYTES - 65536);
		if (len == UINT32_MAX)
			len = (r >> 40) % 64 ? 16 : len; /* seldom: it breaks the queue */
		buffers[i] = (struct ring_buffer){gpa, len, i >= readable};
		uint8_t *data = world_at(&bench.world, gpa, 64);
		for (unsigned n = 0; n < 8; n++)
			scribble(data + 8 * n, 8, random_u64() >> (random_u64() & 3 ? 60 : 0));
	}
	(void)driver_submit(&bench.driver, queue, buffers, count);
}

static void use(unsigned requests)
{
	for (unsigned i = 0; i < requests && bench.driver.queue_count; i++) {
		submit_anything((unsigned)(random_u64() % bench.driver.queue_count));
		if (random_u64() % 8 == 0)
			driver_config_set(&bench.driver, (uint32_t)(random_u64() % 64),
					  1U << random_u64() % 3, random_u64());
	}
}

/* ---- what is asked ---- */

static void check_identity(void)
{
	ck_assert(driver_offered(&bench.driver) & VIRTIO_F_VERSION_1);
	ck_assert_uint_ge(driver_common_read(&bench.driver, DRIVER_NUM_QUEUES, 2), 1);
	ck_assert_uint_eq(driver_status(&bench.driver), 0);
	assert_usable();
}

START_TEST(every_device_is_on_the_bus_and_starts)
{
	for_each_class(check_identity);
}
END_TEST

START_TEST(every_virtio_class_is_tested_here)
{
	unsigned count = 0;
	for (size_t i = 0; device_registry[i]; i++) {
		const struct device_class *class = device_registry[i];
		if (!is_virtio(class) || strstr(class->name, "vhost"))
			continue;
		ck_assert_msg(class->config(&everything, 0) != NULL, "%s has no config in this test",
			      class->name);
		count++;
	}
	ck_assert_uint_gt(count, 0);
}
END_TEST

static void check_table(void)
{
	const struct state_table *table = bench.class->state;
	static const size_t element[] = {
		[STATE_BOOL] = 1, [STATE_U8] = 1, [STATE_U16] = 2, [STATE_U32] = 4, [STATE_U64] = 8};
	size_t end = 0;
	for (size_t i = 0; i < table->field_count; i++) {
		const struct state_field *field = &table->fields[i];
		size_t size = element[field->type];
		/* A struct in the struct may end with padding. */
		ck_assert_msg(field->offset >= end && field->offset <= (end + 7) / 8 * 8,
			      "%s: a field before %s is not in the table", bench.class->name, field->name);
		end = field->offset + field->count * size;
	}
	ck_assert_msg(table->size == (end + 7) / 8 * 8, "%s: the last field is not in the table",
		      bench.class->name);
	bench.class->destroy(NULL);
}

START_TEST(state_tables_are_complete)
{
	for_each_class(check_table);
}
END_TEST

static void check_features(void)
{
	uint64_t offered = driver_offered(&bench.driver);
	for (unsigned bit = 0; bit < 64; bit++) {
		uint64_t feature = VIRTIO_BIT(bit);
		ck_assert_int_eq(driver_reset(&bench.driver), 0);
		int r = driver_negotiate(&bench.driver, (offered & ~feature) | (~offered & feature));
		bool good = (offered & feature) && feature != VIRTIO_F_VERSION_1;
		ck_assert_msg(r == (good ? 0 : -EINVAL), "%s: feature bit %u: %d", bench.class->name, bit, r);
	}
	assert_usable();
}

START_TEST(features_that_are_not_offered_are_refused)
{
	for_each_class(check_features);
}
END_TEST

/* After the reset nothing may be written to what were the driver's rings and buffers (2.4.2). */
static void check_reset(void)
{
	uint8_t *ram = world_at(&bench.world, 1 << 20, WORLD_RAM_MIB * MIB - (1 << 20));
	for (unsigned round = 0; round < ROUNDS; round++) {
		start(layouts[round % ARRAY_LEN(layouts)]);
		use((unsigned)(random_u64() % 40));
		if (round % 3)
			usleep((useconds_t)(random_u64() % 500));
		ck_assert_msg(driver_reset(&bench.driver) == 0, "%s: does not come out of a reset",
			      bench.class->name);
		size_t used = bench.world.next_gpa - (1 << 20);
		memset(ram, 0xa5, used);
		usleep(500);
		ck_assert_msg(all_are(ram, used, 0xa5), "%s: wrote to memory after its reset",
			      bench.class->name);
		memset(ram, 0, used);
	}
	assert_usable();
}

START_TEST(a_reset_at_any_moment_leaves_memory_alone)
{
	for_each_class(check_reset);
}
END_TEST

static void check_config_space(void)
{
	uint64_t beyond = 0;
	if (bench.driver.device_len == 0)
		return; /* no structure: nothing there to read */
	for (unsigned round = 0; round < 2; round++) {
		for (uint32_t offset = 0; offset < 0x1000; offset++) {
			for (unsigned size = 1; size <= 8; size *= 2) {
				uint64_t value = driver_config_get(&bench.driver, offset, size);
				beyond |= offset >= bench.driver.device_len ? value : 0;
				if (round && offset % 7 == 0)
					driver_config_set(&bench.driver, offset, size, random_u64());
			}
		}
		start(0);
	}
	ck_assert_msg(beyond == 0, "%s: config space has no end", bench.class->name);
	assert_usable();
}

START_TEST(config_space_is_bounded)
{
	for_each_class(check_config_space);
}
END_TEST

static void check_addresses(void)
{
	static const uint64_t bad[] = {
		1, WORLD_RAM_MIB * MIB, WORLD_RAM_MIB * MIB - 2, UINT64_MAX - 15, 0xfee00000, UINT64_MAX};
	for (unsigned i = 0; i < ARRAY_LEN(bad) * 3; i++) {
		ck_assert_int_eq(driver_reset(&bench.driver), 0);
		ck_assert_int_eq(driver_negotiate(&bench.driver, VIRTIO_F_VERSION_1), 0);
		driver_common_write(&bench.driver, DRIVER_QUEUE_SELECT, 2, 0);
		static const enum driver_common registers[] = {DRIVER_QUEUE_DESC, DRIVER_QUEUE_DRIVER,
							       DRIVER_QUEUE_DEVICE};
		for (unsigned n = 0; n < 3; n++)
			driver_common_write(&bench.driver, registers[n], 8,
					    n == i % 3 ? bad[i / 3] : bench.data_gpa + 65536 * n);
		driver_common_write(&bench.driver, DRIVER_QUEUE_ENABLE, 2, 1);
		driver_common_write(&bench.driver, DRIVER_STATUS, 1, 15);
		ck_assert_msg(driver_wait_status(&bench.driver, DRIVER_NEEDS_RESET) == 0,
			      "%s: works with a queue at %#llx", bench.class->name,
			      (unsigned long long)bad[i / 3]);
	}
	assert_usable();
}

START_TEST(queues_in_bad_places_need_a_reset)
{
	for_each_class(check_addresses);
}
END_TEST

/* Rings full of anything, changing while the device reads them. */
static void check_rings(void)
{
	for (unsigned round = 0; round < ROUNDS; round++) {
		start(layouts[round % ARRAY_LEN(layouts)]);
		for (unsigned n = 0; n < 30; n++) {
			unsigned queue = (unsigned)(random_u64() % bench.driver.queue_count);
			struct driver_queue *q = bench.driver.queues[queue];
			uint8_t *ring = world_at(&bench.world, q->ring_gpa, q->ring_bytes);
			for (unsigned i = 0; i < 64; i++)
				scribble(ring + random_u64() % (n % 2 ? q->ring_bytes : 512), 1,
					 random_u64());
			driver_ring_doorbell(&bench.driver, queue);
		}
		ck_assert_msg(driver_reset(&bench.driver) == 0, "%s: does not come out of a reset",
			      bench.class->name);
	}
	assert_usable();
}

START_TEST(hostile_rings_cost_a_reset_and_nothing_else)
{
	for_each_class(check_rings);
}
END_TEST

/* ---- state ---- */

static void *save(void)
{
	void *regs = calloc(1, bench.class->state->size + 1);
	ck_assert_ptr_nonnull(regs);
	bench.class->save(bench.device, regs);
	return regs;
}

static int restore(const void *regs, struct err *err)
{
	*err = ERR_INIT;
	int r = bench.class->restore(bench.device, regs, err);
	ck_assert_msg(r == err->code && (r == 0) == (err->text[0] == 0), "%s: restore gives %d and \"%s\"",
		      bench.class->name, r, err->text);
	return r;
}

static void assert_same(const uint8_t *a, const uint8_t *b, const char *what)
{
	static const size_t element[] = {
		[STATE_BOOL] = 1, [STATE_U8] = 1, [STATE_U16] = 2, [STATE_U32] = 4, [STATE_U64] = 8};
	const struct state_table *table = bench.class->state;
	for (size_t i = 0; i < table->field_count; i++) {
		const struct state_field *field = &table->fields[i];
		if (strstr(field->name, "config_generation"))
			continue; /* the host may change the config at any moment: a link that comes up */
		ck_assert_msg(memcmp(a + field->offset, b + field->offset,
				     field->count * element[field->type]) == 0,
			      "%s: %s differs: %s", bench.class->name, field->name, what);
	}
}

static void check_machine_reset(void)
{
	bench.class->destroy(bench.device); /* the driver has been at this one */
	make_device();
	_cleanup_free_ void *fresh = save();
	bench.class->reset(bench.device);
	_cleanup_free_ void *reset = save();
	assert_same(fresh, reset, "fresh and reset");
	for (size_t i = 0; i < ARRAY_LEN(layouts); i++) {
		world_config_write(&bench.world, bench.driver.slot, 4, 2, 6);
		start(layouts[i]);
		use(30);
		bench.class->reset(bench.device);
		_cleanup_free_ void *after = save();
		assert_same(fresh, after, "fresh and after use and reset");
	}
	world_config_write(&bench.world, bench.driver.slot, 4, 2, 6);
	assert_usable();
}

START_TEST(reset_equals_fresh)
{
	for_each_class(check_machine_reset);
}
END_TEST

static void check_restore(void)
{
	for (unsigned round = 0; round < 2 * ARRAY_LEN(layouts); round++) {
		struct err err;
		start(layouts[round / 2]);
		usleep(500);
		_cleanup_free_ void *before = save();
		bench.class->destroy(bench.device);
		make_device();
		ck_assert_msg(restore(before, &err) == 0, "%s: %s", bench.class->name, err.text);
		usleep(500);
		ck_assert_uint_eq(driver_status(&bench.driver), 15);
		_cleanup_free_ void *after = save();
		assert_same(before, after, "saved and restored");
		use(round);
		ck_assert_int_eq(driver_reset(&bench.driver), 0);
	}
	assert_usable();
}

START_TEST(a_restored_device_is_the_same)
{
	for_each_class(check_restore);
}
END_TEST

/* Bits that flipped in a file: refused with nothing changed, or taken; never more than a reset is lost. */
static void check_damaged(void)
{
	start(VIRTIO_F_EVENT_IDX);
	for (unsigned round = 0; round < 5 * ROUNDS; round++) {
		struct err err;
		_cleanup_free_ uint8_t *before = save();
		_cleanup_free_ uint8_t *bad = save();
		const struct state_table *table = bench.class->state;
		const struct state_field *field = &table->fields[random_u64() % table->field_count];
		size_t at = field->offset + (field->count > 4 ? random_u64() % 4 : 0);
		if (field->type == STATE_BOOL)
			bad[at] ^= 1;
		else
			bad[at] ^= (uint8_t)(1U << random_u64() % 8);
		if (restore(bad, &err) == 0) {
			ck_assert_int_eq(restore(before, &err), 0);
			continue;
		}
		_cleanup_free_ uint8_t *after = save();
		assert_same(before, after, "a restore that was refused");
	}
	world_config_write(&bench.world, bench.driver.slot, 4, 2, 6);
	assert_usable();
}

START_TEST(damaged_state_is_refused_whole_or_taken)
{
	for_each_class(check_damaged);
}
END_TEST

static void check_slots(void)
{
	struct device *second = NULL;
	struct err err = ERR_INIT;
	struct device_config config;
	const struct pci_place_config *place = bench.class->config(&everything, 0); /* first in each */
	size_t index = 0;
	while (&everything.devices[index].disk.place != place)
		index++;
	config = everything.devices[index];
	config.disk.place.slot = bench.driver.slot;
	int r = bench.class->create(&config.disk, 1, &bench.world.services, &second, &err);
	ck_assert_msg(r < 0 && err.code == r && err.text[0], "%s: two in one slot", bench.class->name);
	ck_assert_ptr_null(second);
	assert_usable();
}

START_TEST(a_slot_that_is_taken_is_refused)
{
	for_each_class(check_slots);
}
END_TEST

static void check_destroy_in_use(void)
{
	for (size_t i = 0; i < ARRAY_LEN(layouts); i++) {
		start(layouts[i]);
		use(40);
		bench.class->destroy(bench.device);
		make_device();
		world_config_write(&bench.world, bench.driver.slot, 4, 2, 6);
	}
	assert_usable();
}

START_TEST(a_device_is_destroyed_in_use)
{
	for_each_class(check_destroy_in_use);
}
END_TEST

/* ---- the files that devices need ---- */

static int make_file(char *path, const char *name)
{
	(void)snprintf(path, PATH_BYTES, "%s/%s", folder, name);
	int fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	int r = fd < 0 ? -1 : ftruncate(fd, FILE_BYTES);
	close_fd(fd);
	return r;
}

static void remove_files(void)
{
	(void)unlink(disk_path);
	(void)unlink(pmem_path);
	(void)unlink(vsock_path);
	(void)unlink(net_path);
	(void)rmdir(folder);
}

int main(void)
{
	const TTest *const tests[] = {every_device_is_on_the_bus_and_starts,
				      every_virtio_class_is_tested_here,
				      state_tables_are_complete,
				      features_that_are_not_offered_are_refused,
				      a_reset_at_any_moment_leaves_memory_alone,
				      config_space_is_bounded,
				      queues_in_bad_places_need_a_reset,
				      hostile_rings_cost_a_reset_and_nothing_else,
				      reset_equals_fresh,
				      a_restored_device_is_the_same,
				      damaged_state_is_refused_whole_or_taken,
				      a_slot_that_is_taken_is_refused,
				      a_device_is_destroyed_in_use};
	if (!mkdtemp(folder) || make_file(disk_path, "disk") || make_file(pmem_path, "pmem")) {
		perror(folder);
		return EXIT_FAILURE;
	}
	(void)snprintf(vsock_path, PATH_BYTES, "%s/vsock", folder);
	(void)snprintf(net_path, PATH_BYTES, "%s/net", folder);
	int r = harness_run("virtio_contract", tests, ARRAY_LEN(tests));
	remove_files();
	return r;
}
