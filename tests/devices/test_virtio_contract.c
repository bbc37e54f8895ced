/*
 * What every virtio device owes to every driver, asked of each virtio class in the registry. Nothing here
 * knows a device but the configs in contract_rig.h. (vhost-user devices need a back end, and have tests of
 * their own.)
 */
#include "contract_rig.h"

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

/* The same for one queue (2.6.1.1); the others go on, and it can be enabled anew. */
static void check_queue_reset(void)
{
	for (unsigned round = 0; round < ROUNDS; round++) {
		start(layouts[round % ARRAY_LEN(layouts)] | VIRTIO_F_RING_RESET);
		ck_assert_msg(bench.driver.features & VIRTIO_F_RING_RESET, "%s: no RING_RESET",
			      bench.class->name);
		unsigned index = (unsigned)(random_u64() % bench.driver.queue_count);
		const struct driver_queue *queue = bench.driver.queues[index];
		use((unsigned)(random_u64() % 40));
		ck_assert_msg(driver_reset_queue(&bench.driver, index) == 0,
			      "%s: queue %u does not come out of a reset", bench.class->name, index);
		uint8_t *ring = world_at(&bench.world, queue->ring_gpa, queue->ring_bytes);
		memset(ring, 0xa5, queue->ring_bytes);
		usleep(300);
		ck_assert_msg(all_are(ring, queue->ring_bytes, 0xa5), "%s: wrote to queue %u after its reset",
			      bench.class->name, index);
		ck_assert_int_eq(driver_enable_queue(&bench.driver, index, 0), 0);
		use(10);
	}
	assert_usable();
}

START_TEST(a_queue_is_reset_at_any_moment)
{
	for_each_class(check_queue_reset);
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
		ck_assert_msg(bench.device->counts.needs_reset == i + 1 &&
				      bench.device->counts.guest_errors.total > i,
			      "%s: the mistakes are not counted", bench.class->name);
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

int main(void)
{
	const TTest *const tests[] = {every_device_is_on_the_bus_and_starts,
				      every_virtio_class_is_tested_here,
				      state_tables_are_complete,
				      features_that_are_not_offered_are_refused,
				      a_reset_at_any_moment_leaves_memory_alone,
				      a_queue_is_reset_at_any_moment,
				      config_space_is_bounded,
				      queues_in_bad_places_need_a_reset,
				      hostile_rings_cost_a_reset_and_nothing_else,
				      reset_equals_fresh,
				      a_restored_device_is_the_same,
				      damaged_state_is_refused_whole_or_taken,
				      a_slot_that_is_taken_is_refused,
				      a_device_is_destroyed_in_use};
	if (!scratch_folder(folder, sizeof(folder), "virtio-XXXXXX") || make_file(disk_path, "disk") ||
	    make_file(pmem_path, "pmem")) {
		perror(folder);
		return EXIT_FAILURE;
	}
	(void)snprintf(vsock_path, PATH_BYTES, "%s/vsock", folder);
	(void)snprintf(net_path, PATH_BYTES, "%s/net", folder);
	int r = harness_run("virtio_contract", tests, ARRAY_LEN(tests));
	remove_files();
	return r;
}
