/* Registers of the virtio PCI transport, and drivers that break its rules (VIRTIO 1.3, 2.1, 2.2, 4.1.4). */
#include "echo_rig.h"

#define OFFERED                                                                                              \
	(ECHO_FEATURE | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX | VIRTIO_F_VERSION_1 |                   \
	 VIRTIO_F_RING_PACKED | VIRTIO_F_ORDER_PLATFORM | VIRTIO_F_RING_RESET)

START_TEST(reset_values)
{
	rig_init();
	ck_assert_uint_eq(driver_offered(&rig.driver), OFFERED);
	ck_assert_int_eq(driver_reset(&rig.driver), 0);
	ck_assert_uint_eq(get(DRIVER_DEVICE_FEATURE_SELECT, 4), 0);
	ck_assert_uint_eq(get(DRIVER_FEATURE_SELECT, 4), 0);
	ck_assert_uint_eq(get(DRIVER_FEATURE, 4), 0);
	ck_assert_uint_eq(get(DRIVER_CONFIG_VECTOR, 2), 0xffff);
	ck_assert_uint_eq(get(DRIVER_NUM_QUEUES, 2), ECHO_QUEUES);
	ck_assert_uint_eq(get(DRIVER_STATUS, 1), 0);
	ck_assert_uint_eq(get(DRIVER_GENERATION, 1), 0);
	for (unsigned queue = 0; queue < ECHO_QUEUES; queue++) {
		set(DRIVER_QUEUE_SELECT, 2, queue);
		ck_assert_uint_eq(get(DRIVER_QUEUE_SIZE, 2), queue == 2 ? 32 : 64);
		ck_assert_uint_eq(get(DRIVER_QUEUE_VECTOR, 2), 0xffff);
		ck_assert_uint_eq(get(DRIVER_QUEUE_ENABLE, 2), 0);
		ck_assert_uint_eq(get(DRIVER_QUEUE_NOTIFY_OFF, 2), queue);
		ck_assert_uint_eq(get(DRIVER_QUEUE_RESET, 2), 0);
		ck_assert_uint_eq(get(DRIVER_QUEUE_DESC, 8), 0);
	}
	rig_finish();
}
END_TEST

START_TEST(a_queue_that_there_is_not_has_size_0_and_takes_nothing)
{
	static const uint16_t none[] = {ECHO_QUEUES, VIRTIO_QUEUES_MAX, VIRTIO_QUEUES_MAX + 1, 0xffff};
	rig_init();
	for (size_t i = 0; i < ARRAY_LEN(none); i++) {
		set(DRIVER_QUEUE_SELECT, 2, none[i]);
		ck_assert_uint_eq(get(DRIVER_QUEUE_SELECT, 2), none[i]);
		set(DRIVER_QUEUE_SIZE, 2, 8);
		set(DRIVER_QUEUE_VECTOR, 2, 1);
		set(DRIVER_QUEUE_DESC, 8, 0x1000);
		set(DRIVER_QUEUE_ENABLE, 2, 1);
		set(DRIVER_QUEUE_RESET, 2, 1);
		for (uint32_t offset = DRIVER_QUEUE_SIZE; offset < 64; offset += 2)
			ck_assert_uint_eq(get((enum driver_common)offset, 2), 0);
	}
	rig_finish();
}
END_TEST

START_TEST(feature_words_beyond_the_second_are_0)
{
	static const uint32_t selects[] = {2, 3, 31, 32, 64, UINT32_MAX};
	rig_init();
	for (size_t i = 0; i < ARRAY_LEN(selects); i++) {
		set(DRIVER_DEVICE_FEATURE_SELECT, 4, selects[i]);
		ck_assert_uint_eq(get(DRIVER_DEVICE_FEATURE_SELECT, 4), selects[i]);
		ck_assert_uint_eq(get(DRIVER_DEVICE_FEATURE, 4), 0);
		set(DRIVER_FEATURE_SELECT, 4, selects[i]);
		set(DRIVER_FEATURE, 4, UINT32_MAX);
		for (uint32_t word = 0; word < 2; word++) {
			set(DRIVER_FEATURE_SELECT, 4, word);
			ck_assert_uint_eq(get(DRIVER_FEATURE, 4), 0);
		}
	}
	ck_assert_int_eq(driver_negotiate(&rig.driver, VIRTIO_F_VERSION_1), 0);
	rig_finish();
}
END_TEST

/* 2.2.2, 3.1.1 step 6 */
START_TEST(features_that_do_not_work_are_refused_by_features_ok)
{
	rig_init();
	static const uint64_t bad[] = {0,
				       ECHO_FEATURE,
				       VIRTIO_F_VERSION_1 | VIRTIO_F_ACCESS_PLATFORM,
				       VIRTIO_F_VERSION_1 | VIRTIO_F_IN_ORDER,
				       VIRTIO_F_VERSION_1 | 1,
				       VIRTIO_F_VERSION_1 | VIRTIO_F_NOTIFICATION_DATA,
				       UINT64_MAX};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		ck_assert_int_eq(driver_reset(&rig.driver), 0);
		ck_assert_int_eq(driver_negotiate(&rig.driver, bad[i]), -EINVAL);
		ck_assert_uint_eq(driver_status(&rig.driver), DRIVER_ACKNOWLEDGE | DRIVER_DRIVER);
	}
	/* It may try again with others, and each bit alone is as good as all. */
	ck_assert_int_eq(driver_negotiate(&rig.driver, VIRTIO_F_VERSION_1), 0);
	for (unsigned bit = 0; bit < 64; bit++) {
		ck_assert_int_eq(driver_reset(&rig.driver), 0);
		ck_assert_int_eq(driver_negotiate(&rig.driver, VIRTIO_F_VERSION_1 | VIRTIO_BIT(bit)),
				 OFFERED & VIRTIO_BIT(bit) ? 0 : -EINVAL);
	}
	rig_finish();
}
END_TEST

START_TEST(features_stand_after_features_ok)
{
	rig_init();
	ck_assert_int_eq(driver_negotiate(&rig.driver, VIRTIO_F_VERSION_1 | ECHO_FEATURE), 0);
	set(DRIVER_FEATURE_SELECT, 4, 0);
	set(DRIVER_FEATURE, 4, 0);
	ck_assert_uint_eq(get(DRIVER_FEATURE, 4), ECHO_FEATURE);
	rig_finish();
}
END_TEST

START_TEST(driver_ok_without_features_ok_needs_a_reset)
{
	rig_init();
	start(0);
	echo_settle(&rig.echo); /* the device starts in a thread of its own */
	unsigned activations = rig.echo.activations;
	ck_assert_int_eq(driver_reset(&rig.driver), 0);
	set(DRIVER_STATUS, 1, DRIVER_ACKNOWLEDGE | DRIVER_DRIVER | DRIVER_OK);
	ck_assert_uint_eq(driver_status(&rig.driver),
			  DRIVER_ACKNOWLEDGE | DRIVER_DRIVER | DRIVER_NEEDS_RESET);
	set(DRIVER_STATUS, 1, 15); /* too late, and FEATURES_OK without VERSION_1 */
	echo_settle(&rig.echo);
	ck_assert_uint_eq(rig.echo.activations, activations);
	start(0); /* a reset helps */
	exchange(0, 1);
	rig_finish();
}
END_TEST

START_TEST(the_driver_cannot_set_or_clear_what_is_not_its_own)
{
	rig_init();
	set(DRIVER_STATUS, 1, 0x70); /* reserved bits, and DEVICE_NEEDS_RESET */
	ck_assert_uint_eq(driver_status(&rig.driver), 0);
	start(0);
	set(DRIVER_STATUS, 1, DRIVER_ACKNOWLEDGE); /* clears: only a reset does */
	ck_assert_uint_eq(driver_status(&rig.driver), 15);
	exchange(0, 1);
	virtio_needs_reset(rig.echo.virtio, "the test says so");
	set(DRIVER_STATUS, 1, 15);
	ck_assert_uint_eq(driver_status(&rig.driver), 15 | DRIVER_NEEDS_RESET);
	rig_finish();
}
END_TEST

START_TEST(sizes_of_queues_are_bounded)
{
	rig_init();
	ck_assert_int_eq(driver_negotiate(&rig.driver, VIRTIO_F_VERSION_1), 0);
	set(DRIVER_QUEUE_SELECT, 2, 2);
	static const uint16_t bad[] = {0, 33, 64, 0x8000, 0xffff};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		set(DRIVER_QUEUE_SIZE, 2, bad[i]);
		ck_assert_uint_eq(get(DRIVER_QUEUE_SIZE, 2), 32);
	}
	set(DRIVER_QUEUE_SIZE, 2, 16);
	ck_assert_uint_eq(get(DRIVER_QUEUE_SIZE, 2), 16);
	rig_finish();
}
END_TEST

START_TEST(vectors_that_there_are_not_read_back_as_none)
{
	rig_init();
	static const uint16_t vectors[] = {0, 1, ECHO_QUEUES, ECHO_QUEUES + 1, 0x7fff, 0xfffe, 0xffff};
	for (size_t i = 0; i < ARRAY_LEN(vectors); i++) {
		uint16_t expected = vectors[i] <= ECHO_QUEUES ? vectors[i] : 0xffff;
		set(DRIVER_QUEUE_VECTOR, 2, vectors[i]);
		set(DRIVER_CONFIG_VECTOR, 2, vectors[i]);
		ck_assert_uint_eq(get(DRIVER_QUEUE_VECTOR, 2), expected);
		ck_assert_uint_eq(get(DRIVER_CONFIG_VECTOR, 2), expected);
	}
	rig_finish();
}
END_TEST

START_TEST(an_enabled_queue_stands)
{
	rig_init();
	ck_assert_int_eq(driver_negotiate(&rig.driver, VIRTIO_F_VERSION_1), 0);
	ck_assert_int_eq(driver_enable_queue(&rig.driver, 0, 16), 0);
	uint64_t desc = get(DRIVER_QUEUE_DESC, 8), avail = get(DRIVER_QUEUE_DRIVER, 8);
	set(DRIVER_QUEUE_SIZE, 2, 8);
	set(DRIVER_QUEUE_DESC, 8, 0);
	set(DRIVER_QUEUE_DRIVER, 4, 0);
	set(DRIVER_QUEUE_ENABLE, 2, 0);
	set(DRIVER_QUEUE_ENABLE, 2, 1);
	ck_assert_uint_eq(get(DRIVER_QUEUE_SIZE, 2), 16);
	ck_assert_uint_eq(get(DRIVER_QUEUE_DESC, 8), desc);
	ck_assert_uint_eq(get(DRIVER_QUEUE_DRIVER, 8), avail);
	ck_assert_uint_eq(get(DRIVER_QUEUE_ENABLE, 2), 1);
	set(DRIVER_QUEUE_SELECT, 2, 1);
	set(DRIVER_QUEUE_ENABLE, 2, 2); /* only 1 enables */
	ck_assert_uint_eq(get(DRIVER_QUEUE_ENABLE, 2), 0);
	rig_finish();
}
END_TEST

/* 4.1.3.1: each register in its own width, 64-bit ones also by halves; what else is written, is not. */
START_TEST(registers_take_their_own_width_only)
{
	rig_init();
	static const enum driver_common addresses[] = {DRIVER_QUEUE_DESC, DRIVER_QUEUE_DRIVER,
						       DRIVER_QUEUE_DEVICE};
	for (size_t i = 0; i < ARRAY_LEN(addresses); i++) {
		enum driver_common low = addresses[i], high = (enum driver_common)(low + 4);
		set(low, 8, 0x1122334455667788);
		ck_assert_uint_eq(get(low, 8), 0x1122334455667788);
		set(high, 4, 0xaabbccdd);
		ck_assert_uint_eq(get(low, 8), 0xaabbccdd55667788);
		set(low, 4, 0x99887766);
		ck_assert_uint_eq(get(low, 8), 0xaabbccdd99887766);
		set(low, 2, 0);
		set((enum driver_common)(low + 2), 4, 0);
		set(high, 1, 0);
		set(high, 8, 0); /* reaches into the next one */
		ck_assert_uint_eq(get(low, 8), 0xaabbccdd99887766);
	}
	set(DRIVER_QUEUE_SELECT, 2, 1);
	set(DRIVER_QUEUE_SELECT, 1, 0);
	set(DRIVER_QUEUE_SELECT, 4, 0);
	set(DRIVER_QUEUE_SELECT, 8, 0);
	set((enum driver_common)(DRIVER_QUEUE_SELECT + 1), 1, 7);
	ck_assert_uint_eq(get(DRIVER_QUEUE_SELECT, 2), 1);
	set(DRIVER_STATUS, 2, 0x0101);
	set(DRIVER_STATUS, 4, 1);
	ck_assert_uint_eq(get(DRIVER_STATUS, 4), 1 << 16);
	for (unsigned size = 1; size <= 8; size *= 2) { /* read only, or nothing at all */
		set(DRIVER_DEVICE_FEATURE, size, UINT64_MAX);
		set(DRIVER_NUM_QUEUES, size, UINT64_MAX);
		set(DRIVER_GENERATION, size, UINT64_MAX);
		set(DRIVER_QUEUE_NOTIFY_OFF, size, UINT64_MAX);
		for (uint64_t offset = 60; offset < 0x2000; offset += 0x333)
			world_write(&rig.world, rig.driver.common_gpa + offset, size, UINT64_MAX);
	}
	ck_assert_uint_eq(get(DRIVER_NUM_QUEUES, 2), ECHO_QUEUES);
	ck_assert_uint_eq(get(DRIVER_STATUS, 1), 0);
	/* Reading is harmless in any width: the bytes are those of the structure. */
	uint8_t bytes[64];
	for (unsigned i = 0; i < 64; i++)
		bytes[i] = (uint8_t)get((enum driver_common)i, 1);
	for (unsigned size = 2; size <= 8; size *= 2)
		for (unsigned i = 0; i + size <= 64; i++) {
			uint64_t value = get((enum driver_common)i, size);
			ck_assert_mem_eq(&value, bytes + i, size);
		}
	rig_finish();
}
END_TEST

START_TEST(what_is_no_register_reads_0)
{
	rig_init();
	static const uint64_t offsets[] = {60,	   64,	   0xffc,  0x1001, 0x1ffc, 0x2000 + ECHO_CONFIG_BYTES,
					   0x2ffc, 0x3000, 0x3004, 0x3ffc};
	for (size_t i = 0; i < ARRAY_LEN(offsets); i++)
		for (unsigned size = 1; size <= 4; size *= 2)
			ck_assert_uint_eq(world_read(&rig.world, rig.driver.common_gpa + offsets[i], size),
					  0);
	rig_finish();
}
END_TEST

START_TEST(device_config_is_bounded)
{
	rig_init();
	for (unsigned i = 0; i < ECHO_CONFIG_BYTES / 2; i++)
		driver_config_set(&rig.driver, i, 1, 0xa0 + i);
	uint8_t all[ECHO_CONFIG_BYTES + 8];
	driver_config_read(&rig.driver, 0, all, sizeof(all));
	for (unsigned i = 0; i < sizeof(all); i++)
		ck_assert_uint_eq(all[i], i < 8 ? 0xa0 + i : i < 16 ? i : 0);
	ck_assert_uint_eq(driver_config_get(&rig.driver, 12, 4), 0x0f0e0d0c);
	ck_assert_uint_eq(driver_config_get(&rig.driver, 14, 4), 0x00000f0e);
	ck_assert_uint_eq(driver_config_get(&rig.driver, 15, 2), 0x0f);
	driver_config_set(&rig.driver, 6, 4, 0); /* the device judges: half of it is read only */
	driver_config_set(&rig.driver, 14, 4, 0);
	driver_config_set(&rig.driver, 16, 4, 0);
	driver_config_set(&rig.driver, 0xffc, 4, 0);
	driver_config_read(&rig.driver, 0, all, sizeof(all));
	ck_assert_uint_eq(all[6], 0xa6);
	ck_assert_uint_eq(all[14], 14);
	driver_config_set(&rig.driver, 4, 4, 0x44332211);
	ck_assert_uint_eq(driver_config_get(&rig.driver, 0, 8), 0x44332211a3a2a1a0);
	ck_assert_int_eq(driver_reset(&rig.driver), 0);
	ck_assert_uint_eq(driver_config_get(&rig.driver, 0, 8), 0);
	rig_finish();
}
END_TEST

START_TEST(a_changed_field_changes_the_generation_and_interrupts)
{
	rig_init();
	start(0);
	uint32_t value = 0x12345678;
	uint8_t generation = (uint8_t)get(DRIVER_GENERATION, 1);
	virtio_config_store(rig.echo.virtio, rig.echo.config + 4, &value, 4);
	ck_assert_uint_eq(driver_config_interrupts(&rig.driver), 1);
	ck_assert_uint_eq(get(DRIVER_GENERATION, 1), generation + 1U);
	ck_assert_uint_eq(driver_config_get(&rig.driver, 4, 4), value);
	virtio_config_store(rig.echo.virtio, rig.echo.config + 4, &value, 4); /* the same again is nothing */
	ck_assert_uint_eq(driver_config_interrupts(&rig.driver), 1);
	driver_config_set(&rig.driver, 0, 4, 99);
	virtio_config_load(rig.echo.virtio, &value, rig.echo.config, 4);
	ck_assert_uint_eq(value, 99);
	rig_finish();
}
END_TEST

/* 4.1.4.9: the BAR through configuration space, also while the BAR itself is switched off. */
static void window_set(uint8_t bar, uint32_t offset, uint32_t len)
{
	uint8_t at = rig.driver.window;
	world_config_write(&rig.world, rig.driver.slot, at + 4U, 1, bar);
	world_config_write(&rig.world, rig.driver.slot, at + 8U, 4, offset);
	world_config_write(&rig.world, rig.driver.slot, at + 12U, 4, len);
}

static uint32_t window_read(uint32_t offset, uint32_t len)
{
	window_set(4, offset, len);
	return world_config_read(&rig.world, rig.driver.slot, rig.driver.window + 16U, len);
}

static void window_write(uint32_t offset, uint32_t len, uint32_t value)
{
	window_set(4, offset, len);
	world_config_write(&rig.world, rig.driver.slot, rig.driver.window + 16U, len, value);
}

START_TEST(the_window_reaches_all_registers)
{
	rig_init();
	world_config_write(&rig.world, rig.driver.slot, 4, 2, 0);
	ck_assert_uint_eq(get(DRIVER_NUM_QUEUES, 2), 0xffff);
	ck_assert_uint_eq(window_read(DRIVER_NUM_QUEUES, 2), ECHO_QUEUES);
	window_write(DRIVER_STATUS, 1, DRIVER_ACKNOWLEDGE);
	ck_assert_uint_eq(window_read(DRIVER_STATUS, 1), DRIVER_ACKNOWLEDGE);
	window_write(DRIVER_QUEUE_DESC, 4, 0x89abcdef);
	ck_assert_uint_eq(window_read(DRIVER_QUEUE_DESC, 4), 0x89abcdef);
	ck_assert_uint_eq(window_read(0x2008, 4), 0x0b0a0908);
	world_config_write(&rig.world, rig.driver.slot, 4, 2, 6);
	start(0);
	struct ring *ring = &rig.driver.queues[0]->ring;
	const struct ring_buffer buffers[] = {{rig.in_gpa, 16, false}, {rig.out_gpa, 16, true}};
	echo_settle(&rig.echo);
	ck_assert_int_ge(ring_add(ring, buffers, 2, false), 0);
	ring_publish(ring);
	window_write(0x3000, 2, 0);
	collect(0, 1);
	rig_finish();
}
END_TEST

START_TEST(the_window_refuses_what_4_1_4_9_forbids)
{
	rig_init();
	static const struct {
		uint8_t bar;
		uint32_t offset, len;
	} bad[] = {{1, DRIVER_STATUS, 1},
		   {0, DRIVER_STATUS, 1},
		   {255, DRIVER_STATUS, 1},
		   {4, DRIVER_STATUS, 0},
		   {4, DRIVER_STATUS, 3},
		   {4, DRIVER_STATUS, 8},
		   {4, 0x4000, 4},
		   {4, UINT32_MAX, 1},
		   {4, DRIVER_FEATURE + 2, 4},
		   {4, 0xfffffffc, 4},
		   {4, DRIVER_STATUS, UINT32_MAX}};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		window_set(bad[i].bar, bad[i].offset, bad[i].len);
		world_config_write(&rig.world, rig.driver.slot, rig.driver.window + 16U, 4, UINT32_MAX);
		(void)world_config_read(&rig.world, rig.driver.slot, rig.driver.window + 16U, 4);
		ck_assert_uint_eq(driver_status(&rig.driver), 0);
	}
	window_write(0x2002, 4, UINT32_MAX);
	ck_assert_uint_eq(driver_config_get(&rig.driver, 0, 8), 0);
	window_write(0x2004, 4, UINT32_MAX);
	ck_assert_uint_eq(driver_config_get(&rig.driver, 0, 8), 0xffffffff00000000);
	rig_finish();
}
END_TEST

START_TEST(doorbells_of_any_width_are_heard)
{
	rig_init();
	start(0);
	for (unsigned size = 1; size <= 8; size *= 2) {
		struct ring *ring = &rig.driver.queues[0]->ring;
		const struct ring_buffer buffers[] = {{rig.in_gpa, 16, false}, {rig.out_gpa, 16, true}};
		echo_settle(&rig.echo);
		ck_assert_int_ge(ring_add(ring, buffers, 2, false), 0);
		ring_publish(ring);
		world_write(&rig.world, rig.driver.notify_gpa, size, 0);
		collect(0, 1);
	}
	/* And those of no queue by nobody. */
	for (uint64_t offset = 1; offset < 0x1000; offset = offset * 2 + 1)
		world_write(&rig.world, rig.driver.notify_gpa + offset, 1, 0);
	rig_finish();
}
END_TEST

TEST_MAIN("virtio_regs", reset_values, a_queue_that_there_is_not_has_size_0_and_takes_nothing,
	  feature_words_beyond_the_second_are_0, features_that_do_not_work_are_refused_by_features_ok,
	  features_stand_after_features_ok, driver_ok_without_features_ok_needs_a_reset,
	  the_driver_cannot_set_or_clear_what_is_not_its_own, sizes_of_queues_are_bounded,
	  vectors_that_there_are_not_read_back_as_none, an_enabled_queue_stands,
	  registers_take_their_own_width_only, what_is_no_register_reads_0, device_config_is_bounded,
	  a_changed_field_changes_the_generation_and_interrupts, the_window_reaches_all_registers,
	  the_window_refuses_what_4_1_4_9_forbids, doorbells_of_any_width_are_heard)
