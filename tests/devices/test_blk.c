/* The block device, by a driver in this process: VIRTIO 1.3, 5.2. */
#include "blk_rig.h"

/* ---- configuration ---- */

START_TEST(config_space_tells_the_disk)
{
	struct rig rig;
	struct disk_config config = rig_config();
	config.queues = 4;
	rig_init(&rig, &config);
	rig_start(&rig, ~UINT64_C(0));
	ck_assert_uint_eq(driver_config_get(&rig.driver, 0, 4), RIG_SECTORS);
	ck_assert_uint_eq(driver_config_get(&rig.driver, 12, 4), 126); /* seg_max */
	ck_assert_uint_eq(driver_config_get(&rig.driver, 20, 4), 512);
	ck_assert_uint_eq(driver_config_get(&rig.driver, 24, 1), 3); /* 4 KiB in 512 bytes */
	ck_assert_uint_eq(driver_config_get(&rig.driver, 26, 2), 8);
	ck_assert_uint_eq(driver_config_get(&rig.driver, 32, 1), 1); /* writeback */
	ck_assert_uint_eq(driver_config_get(&rig.driver, 34, 2), 4);
	ck_assert_uint_eq(driver_config_get(&rig.driver, 36, 4), 1 << 22);
	ck_assert_uint_eq(driver_config_get(&rig.driver, 40, 4), 32);
	ck_assert_uint_eq(driver_config_get(&rig.driver, 44, 4), 8);
	ck_assert_uint_eq(driver_config_get(&rig.driver, 48, 4), 1 << 22);
	ck_assert_uint_eq(driver_config_get(&rig.driver, 52, 4), 32);
	ck_assert_uint_eq(driver_config_get(&rig.driver, 56, 1), 1);
	ck_assert_uint_eq(rig.driver.device_len, 60);
	driver_config_set(&rig.driver, 0, 4, 77); /* not for the driver to say */
	ck_assert_uint_eq(driver_config_get(&rig.driver, 0, 4), RIG_SECTORS);
	rig_finish(&rig);
}
END_TEST

START_TEST(there_is_a_queue_for_each_cpu)
{
	static const struct {
		uint32_t wish, cpus;
		unsigned queues;
	} rows[] = {{0, 0, 1}, {0, 3, 3}, {0, 64, 16}, {2, 8, 2}};
	for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
		struct rig rig;
		struct disk_config config = rig_config();
		config.queues = rows[i].wish;
		rig_init_cpus(&rig, &config, rows[i].cpus);
		rig_start(&rig, 0);
		ck_assert_uint_eq(driver_config_get(&rig.driver, 34, 2), rows[i].queues);
		ck_assert_uint_eq(rig.driver.queue_count, rows[i].queues);
		rig_finish(&rig);
	}
}
END_TEST

static const uint64_t all_features = BLK_F_SEG_MAX | BLK_F_BLK_SIZE | BLK_F_TOPOLOGY | BLK_F_FLUSH;
static const uint64_t write_features = BLK_F_CONFIG_WCE | BLK_F_WRITE_ZEROES;

START_TEST(features_follow_the_config)
{
	static const struct {
		bool read_only, discard;
		uint32_t queues;
		uint64_t features;
	} rows[] = {
		{false, true, 1, write_features | BLK_F_DISCARD},
		{false, false, 1, write_features},
		{false, true, 2, write_features | BLK_F_DISCARD | BLK_F_MQ},
		{true, true, 1, BLK_F_RO},
	};
	for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
		struct rig rig;
		struct disk_config config = rig_config();
		config.read_only = rows[i].read_only;
		config.discard = rows[i].discard;
		config.queues = rows[i].queues;
		rig_init(&rig, &config);
		ck_assert_uint_eq(driver_offered(&rig.driver) & 0xffffff, all_features | rows[i].features);
		rig_finish(&rig);
	}
}
END_TEST

/* ---- reading and writing ---- */

static void check_round_trip(uint64_t features, bool direct)
{
	struct rig rig;
	struct disk_config config = rig_config();
	config.direct = direct;
	rig_init(&rig, &config);
	rig_start(&rig, features);
	rig_fill(&rig, 8192, 1);
	ck_assert_int_eq(rig_io(&rig, BLK_T_OUT, 16, 8192), BLK_S_OK);
	ck_assert_int_eq(rig_io(&rig, BLK_T_FLUSH, 0, 0), BLK_S_OK);
	rig_check_file(&rig, 16 * 512, 8192);
	memset(rig.data, 0xee, 8192);
	ck_assert_int_eq(rig_io(&rig, BLK_T_IN, 16, 8192), BLK_S_OK);
	rig_check_file(&rig, 16 * 512, 8192);
	rig_finish(&rig);
}

START_TEST(what_is_written_is_read)
{
	check_round_trip(0, false);
	check_round_trip(0, true);
	check_round_trip(VIRTIO_F_RING_PACKED, false);
	check_round_trip(VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX, false);
	check_round_trip(~UINT64_C(0), true);
}
END_TEST

/* 2.7.4.1: the driver frames a request as it likes. */
START_TEST(any_framing_is_good)
{
	struct rig rig;
	struct disk_config config = rig_config();
	rig_init(&rig, &config);
	rig_start(&rig, 0);
	rig_fill(&rig, 1024, 2);
	rig_header(&rig, BLK_T_OUT, 4);
	memcpy((uint8_t *)rig.header + 16, rig.data, 1024); /* header and data in one buffer */
	const struct ring_buffer one[] = {{rig.header_gpa, 16 + 1024, false}, {rig.status_gpa, 1, true}};
	ck_assert_int_eq(rig_send(&rig, one, 2), BLK_S_OK);
	rig_check_file(&rig, 4 * 512, 1024);

	rig_header(&rig, BLK_T_OUT, 8); /* everything in pieces */
	const struct ring_buffer pieces[] = {
		{rig.header_gpa, 1, false}, {rig.header_gpa + 1, 9, false}, {rig.header_gpa + 10, 6, false},
		{rig.data_gpa, 1, false},   {rig.data_gpa + 1, 510, false}, {rig.data_gpa + 511, 513, false},
		{rig.status_gpa, 1, true},
	};
	ck_assert_int_eq(rig_send(&rig, pieces, 7), BLK_S_OK);
	rig_check_file(&rig, 8 * 512, 1024);

	rig_header(&rig, BLK_T_IN, 8); /* the status is the last byte of the data's buffer */
	memcpy(rig.shadow, rig.data, 1024);
	memset(rig.data, 0xee, 1025);
	const struct ring_buffer last[] = {{rig.header_gpa, 16, false}, {rig.data_gpa, 1025, true}};
	ck_assert_int_eq(driver_request(&rig.driver, 0, last, 2), 1025);
	ck_assert_uint_eq(rig.data[1024], BLK_S_OK);
	ck_assert_int_eq(memcmp(rig.data, rig.shadow, 1024), 0);

	struct ring_buffer many[64]; /* more buffers than a request has room for */
	many[0] = (struct ring_buffer){rig.header_gpa, 16, false};
	for (unsigned i = 0; i < 32; i++)
		many[i + 1] = (struct ring_buffer){rig.data_gpa + i * 32, 32, true};
	many[33] = (struct ring_buffer){rig.status_gpa, 1, true};
	memset(rig.data, 0xee, 1024);
	ck_assert_int_eq(rig_send(&rig, many, 34), BLK_S_OK);
	ck_assert_int_eq(memcmp(rig.data, rig.shadow, 1024), 0);
	rig_finish(&rig);
}
END_TEST

START_TEST(requests_outside_the_disk_fail)
{
	static const struct {
		uint64_t sector;
		uint32_t len;
		int status;
	} rows[] = {
		{RIG_SECTORS - 1, 512, BLK_S_OK},
		{RIG_SECTORS - 1, 1024, BLK_S_IOERR},
		{RIG_SECTORS, 512, BLK_S_IOERR},
		{UINT64_MAX, 512, BLK_S_IOERR},
		{UINT64_MAX / 512, 1024, BLK_S_IOERR},
		{(UINT64_C(1) << 55) + 1, 512, BLK_S_IOERR}, /* * 512 wraps to sector 1 */
		{0, 0, BLK_S_IOERR},
		{0, 511, BLK_S_IOERR},
		{0, 513, BLK_S_IOERR},
	};
	struct rig rig;
	struct disk_config config = rig_config();
	rig_init(&rig, &config);
	rig_start(&rig, 0);
	for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
		ck_assert_int_eq(rig_io(&rig, BLK_T_IN, rows[i].sector, rows[i].len), rows[i].status);
		ck_assert_int_eq(rig_io(&rig, BLK_T_OUT, rows[i].sector, rows[i].len), rows[i].status);
	}
	ck_assert_uint_eq(rig.blk->base.device.counts.guest_errors.total, 16);
	rig_finish(&rig);
}
END_TEST

START_TEST(large_blocks_are_whole)
{
	struct rig rig;
	struct disk_config config = rig_config();
	config.block_size = 4096;
	rig_init(&rig, &config);
	rig_start(&rig, 0);
	ck_assert_uint_eq(driver_config_get(&rig.driver, 20, 4), 4096);
	ck_assert_uint_eq(driver_config_get(&rig.driver, 0, 4), RIG_SECTORS); /* always of 512 bytes */
	ck_assert_int_eq(rig_io(&rig, BLK_T_IN, 8, 4096), BLK_S_OK);
	ck_assert_int_eq(rig_io(&rig, BLK_T_IN, 1, 4096), BLK_S_IOERR);
	ck_assert_int_eq(rig_io(&rig, BLK_T_IN, 8, 512), BLK_S_IOERR);
	rig_finish(&rig);
}
END_TEST

START_TEST(wrong_directions_fail)
{
	struct rig rig;
	struct disk_config config = rig_config();
	rig_init(&rig, &config);
	rig_start(&rig, 0);
	rig_header(&rig, BLK_T_IN, 0);
	const struct ring_buffer in[] = {
		{rig.header_gpa, 16, false}, {rig.data_gpa, 512, false}, {rig.status_gpa, 1, true}};
	ck_assert_int_eq(rig_send(&rig, in, 3), BLK_S_IOERR);
	rig_header(&rig, BLK_T_OUT, 0);
	const struct ring_buffer out[] = {
		{rig.header_gpa, 16, false}, {rig.data_gpa, 512, true}, {rig.status_gpa, 1, true}};
	ck_assert_int_eq(rig_send(&rig, out, 3), BLK_S_IOERR);
	ck_assert_int_eq(driver_status(&rig.driver) & DRIVER_NEEDS_RESET, 0);
	rig_finish(&rig);
}
END_TEST

START_TEST(requests_without_header_or_status_break_the_device)
{
	struct rig rig;
	struct disk_config config = rig_config();
	rig_init(&rig, &config);
	const struct ring_buffer rows[][2] = {
		{{rig.header_gpa, 15, false}, {rig.status_gpa, 1, true}}, /* cut */
		{{rig.status_gpa, 1, true}, {0}},			  /* none */
		{{rig.header_gpa, 16, false}, {rig.data_gpa, 512, false}},
		{{rig.header_gpa, 16, false}, {0}},
	};
	for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
		rig_start(&rig, 0);
		rig_header(&rig, BLK_T_IN, 0);
		ck_assert_int_ge(driver_submit(&rig.driver, 0, rows[i], rows[i][1].len ? 2 : 1), 0);
		ck_assert_int_eq(driver_wait_status(&rig.driver, DRIVER_NEEDS_RESET), 0);
		rig_start(&rig, 0);
		ck_assert_int_eq(rig_io(&rig, BLK_T_IN, 0, 512), BLK_S_OK);
	}
	rig_finish(&rig);
}
END_TEST

/* ---- the other types ---- */

START_TEST(unknown_types_are_not_supported)
{
	static const uint32_t types[] = {2, 3, 5, 6, 7, 9, 10, 12, 14, 0x7fffffff, UINT32_MAX};
	struct rig rig;
	struct disk_config config = rig_config();
	rig_init(&rig, &config);
	rig_start(&rig, 0);
	for (unsigned i = 0; i < ARRAY_LEN(types); i++)
		ck_assert_int_eq(rig_io(&rig, types[i], 0, 512), BLK_S_UNSUPP);
	/* Not negotiated. */
	ck_assert_int_eq(rig_range(&rig, BLK_T_DISCARD, 0, 8, 0), BLK_S_UNSUPP);
	ck_assert_int_eq(rig_range(&rig, BLK_T_WRITE_ZEROES, 0, 8, 0), BLK_S_UNSUPP);
	rig_finish(&rig);
}
END_TEST

static void check_id(const char *serial)
{
	char want[20] = {0};
	struct rig rig;
	struct disk_config config = rig_config();
	config.serial = serial;
	rig_init(&rig, &config);
	rig_start(&rig, 0);
	memset(rig.data, 0xee, 64);
	memcpy(want, serial, strnlen(serial, 20));
	rig_header(&rig, BLK_T_GET_ID, 0);
	const struct ring_buffer buffers[] = {
		{rig.header_gpa, 16, false}, {rig.data_gpa, 20, true}, {rig.status_gpa, 1, true}};
	ck_assert_int_eq(driver_request(&rig.driver, 0, buffers, 3), 21);
	ck_assert_int_eq(memcmp(rig.data, want, 20), 0);
	ck_assert_uint_eq(rig.data[20], 0xee);
	ck_assert_int_eq(rig_io(&rig, BLK_T_GET_ID, 0, 19), BLK_S_IOERR);
	rig_finish(&rig);
}

START_TEST(the_serial_number_is_told)
{
	check_id("");
	check_id("L1-root");
	check_id("01234567890123456789");
}
END_TEST

START_TEST(ranges_are_judged_before_any_is_done)
{
	struct rig rig;
	struct disk_config config = rig_config();
	rig_init(&rig, &config);
	rig_start(&rig, ~UINT64_C(0));
	static const struct {
		uint32_t type;
		struct blk_range range;
		int status;
	} rows[] = {
		{BLK_T_DISCARD, {0, 8, 0}, BLK_S_OK},
		{BLK_T_DISCARD, {0, 0, 0}, BLK_S_OK},
		{BLK_T_DISCARD, {0, 8, 1}, BLK_S_UNSUPP},
		{BLK_T_WRITE_ZEROES, {0, 8, 1}, BLK_S_OK},
		{BLK_T_WRITE_ZEROES, {0, 8, 2}, BLK_S_UNSUPP},
		{BLK_T_WRITE_ZEROES, {0, 8, 0x80000000}, BLK_S_UNSUPP},
		{BLK_T_WRITE_ZEROES, {RIG_SECTORS - 8, 8, 0}, BLK_S_OK},
		{BLK_T_WRITE_ZEROES, {RIG_SECTORS - 8, 9, 0}, BLK_S_IOERR},
		{BLK_T_WRITE_ZEROES, {UINT64_MAX, 8, 0}, BLK_S_IOERR},
		{BLK_T_WRITE_ZEROES, {UINT64_MAX - 7, 8, 0}, BLK_S_IOERR},
		{BLK_T_DISCARD, {0, UINT32_MAX, 0}, BLK_S_IOERR},
	};
	for (unsigned i = 0; i < ARRAY_LEN(rows); i++)
		ck_assert_int_eq(rig_range(&rig, rows[i].type, rows[i].range.sector, rows[i].range.count,
					   rows[i].range.flags),
				 rows[i].status);
	/* Nothing, a cut range, too many. */
	ck_assert_int_eq(rig_out(&rig, BLK_T_DISCARD, 0, 0), BLK_S_IOERR);
	ck_assert_int_eq(rig_out(&rig, BLK_T_DISCARD, 0, 24), BLK_S_IOERR);
	memset(rig.data, 0, 33 * 16);
	ck_assert_int_eq(rig_out(&rig, BLK_T_DISCARD, 0, 33 * 16), BLK_S_IOERR);
	ck_assert_int_eq(rig_out(&rig, BLK_T_DISCARD, 0, 32 * 16), BLK_S_OK);
	/* On a disk (with nothing in it) that is larger than a range may be. */
	struct err err = ERR_INIT;
	ck_assert_int_eq(disk_resize(rig.device, UINT64_C(8) << 30, &err), 0);
	ck_assert_int_eq(rig_range(&rig, BLK_T_DISCARD, 8, BLK_RANGE_SECTORS_MAX, 0), BLK_S_OK);
	ck_assert_int_eq(rig_range(&rig, BLK_T_DISCARD, 8, BLK_RANGE_SECTORS_MAX + 1, 0), BLK_S_IOERR);
	/* A good range and a bad one: neither. */
	rig_fill(&rig, 4096, 3);
	ck_assert_int_eq(rig_io(&rig, BLK_T_OUT, 0, 4096), BLK_S_OK);
	memcpy(rig.shadow, rig.data, 4096);
	const struct blk_range two[] = {{0, 8, 0}, {UINT64_C(1) << 24, 8, 0}};
	memcpy(rig.data, two, sizeof(two));
	ck_assert_int_eq(rig_out(&rig, BLK_T_WRITE_ZEROES, 0, sizeof(two)), BLK_S_IOERR);
	memcpy(rig.data, rig.shadow, 4096);
	rig_check_file(&rig, 0, 4096);
	rig_finish(&rig);
}
END_TEST

START_TEST(ranges_become_zeros)
{
	struct rig rig;
	struct disk_config config = rig_config();
	rig_init(&rig, &config);
	rig_start(&rig, ~UINT64_C(0));
	rig_fill(&rig, 16384, 4);
	ck_assert_int_eq(rig_io(&rig, BLK_T_OUT, 0, 16384), BLK_S_OK);
	memcpy(rig.shadow, rig.data, 16384);
	const struct blk_range three[] = {{1, 2, 0}, {8, 8, 1}, {30, 1, 0}};
	memcpy(rig.data, three, sizeof(three));
	ck_assert_int_eq(rig_out(&rig, BLK_T_WRITE_ZEROES, 0, sizeof(three)), BLK_S_OK);
	for (unsigned i = 0; i < 3; i++)
		memset(rig.shadow + three[i].sector * 512, 0, three[i].count * 512);
	memcpy(rig.data, rig.shadow, 16384);
	rig_check_file(&rig, 0, 16384);
	rig_finish(&rig);
}
END_TEST

START_TEST(a_read_only_disk_is_not_written)
{
	struct rig rig;
	struct disk_config config = rig_config();
	config.read_only = true;
	rig_init(&rig, &config);
	rig_start(&rig, ~UINT64_C(0));
	memset(rig.data, 0, 4096);
	ck_assert_int_eq(rig_io(&rig, BLK_T_IN, 0, 4096), BLK_S_OK);
	ck_assert_int_eq(rig_io(&rig, BLK_T_FLUSH, 0, 0), BLK_S_OK);
	rig_fill(&rig, 512, 5);
	ck_assert_int_eq(rig_io(&rig, BLK_T_OUT, 0, 512), BLK_S_IOERR);
	ck_assert_int_eq(rig_range(&rig, BLK_T_DISCARD, 0, 8, 0), BLK_S_UNSUPP);
	ck_assert_int_eq(rig_range(&rig, BLK_T_WRITE_ZEROES, 0, 8, 0), BLK_S_UNSUPP);
	memset(rig.data, 0, 512);
	rig_check_file(&rig, 0, 512);
	rig_finish(&rig);
}
END_TEST

/* ---- durability ---- */

static bool last_write_was_durable(struct rig *rig)
{
	rig->faults.fua = false;
	ck_assert_int_eq(rig_io(rig, BLK_T_OUT, 0, 512), BLK_S_OK);
	return rig->faults.fua;
}

/* 5.2.6.2: who does not know of the cache need not flush it. */
START_TEST(writes_are_durable_without_a_cache)
{
	struct rig rig;
	struct disk_config config = rig_config();
	rig_init(&rig, &config);
	rig_start(&rig, 0);
	ck_assert(last_write_was_durable(&rig));
	rig_start(&rig, BLK_F_FLUSH);
	ck_assert(!last_write_was_durable(&rig));
	rig_start(&rig, BLK_F_FLUSH | BLK_F_CONFIG_WCE | BLK_F_WRITE_ZEROES);
	ck_assert(!last_write_was_durable(&rig));
	unsigned flushes = rig.faults.flushes;
	driver_config_set(&rig.driver, 32, 1, 0);
	ck_assert_uint_eq(driver_config_get(&rig.driver, 32, 1), 0);
	ck_assert(last_write_was_durable(&rig));
	ck_assert_uint_eq(rig.faults.flushes, flushes + 1); /* what was in the cache */
	rig.faults.fua = false;
	ck_assert_int_eq(rig_range(&rig, BLK_T_WRITE_ZEROES, 0, 8, 0), BLK_S_OK);
	ck_assert(rig.faults.fua);
	driver_config_set(&rig.driver, 32, 1, 1);
	ck_assert(!last_write_was_durable(&rig));
	driver_config_set(&rig.driver, 32, 1, 0);
	rig_start(&rig, BLK_F_FLUSH | BLK_F_CONFIG_WCE); /* reset */
	ck_assert_uint_eq(driver_config_get(&rig.driver, 32, 1), 1);
	rig_finish(&rig);
}
END_TEST

START_TEST(writethrough_starts_without_a_cache)
{
	struct rig rig;
	struct disk_config config = rig_config();
	config.cache = DISK_WRITETHROUGH;
	rig_init(&rig, &config);
	rig_start(&rig, BLK_F_FLUSH | BLK_F_CONFIG_WCE);
	ck_assert_uint_eq(driver_config_get(&rig.driver, 32, 1), 0);
	ck_assert(last_write_was_durable(&rig));
	rig_finish(&rig);
}
END_TEST

/* ---- resizing, opening ---- */

START_TEST(a_larger_disk_is_told)
{
	struct rig rig;
	struct disk_config config = rig_config();
	struct err err = ERR_INIT;
	rig_init(&rig, &config);
	rig_start(&rig, 0);
	ck_assert_int_eq(rig_io(&rig, BLK_T_IN, RIG_SECTORS, 512), BLK_S_IOERR);
	unsigned before = driver_config_interrupts(&rig.driver);
	uint8_t generation = (uint8_t)driver_common_read(&rig.driver, DRIVER_GENERATION, 1);
	ck_assert_int_eq(disk_resize(rig.device, RIG_SECTORS * 1024, &err), 0);
	ck_assert_int_eq(driver_wait_config_interrupt(&rig.driver, before), 0);
	ck_assert_uint_ne(driver_common_read(&rig.driver, DRIVER_GENERATION, 1), generation);
	ck_assert_uint_eq(driver_config_get(&rig.driver, 0, 4), RIG_SECTORS * 2);
	ck_assert_int_eq(rig_io(&rig, BLK_T_IN, RIG_SECTORS, 512), BLK_S_OK);
	ck_assert_int_eq(truncate(rig.path, RIG_SECTORS * 512 * 3), 0);
	ck_assert_int_eq(disk_resize(rig.device, 0, &err), 0);
	ck_assert_uint_eq(driver_config_get(&rig.driver, 0, 4), RIG_SECTORS * 3);
	ck_assert_int_eq(disk_resize(rig.device, 1000, &err), -EINVAL);
	ck_assert_ptr_nonnull(strstr(err.text, "disk0: "));
	ck_assert_int_eq(rig_io(&rig, BLK_T_IN, RIG_SECTORS * 3 - 1, 512), BLK_S_OK);
	rig_finish(&rig);
}
END_TEST

START_TEST(what_cannot_be_a_disk_is_refused)
{
	struct rig rig;
	struct disk_config config = rig_config();
	rig_init(&rig, &config);
	struct device *second = NULL;
	struct err err = ERR_INIT;
	ck_assert_int_eq(disk_class.create(&rig.config, 1, &rig.world.services, &second, &err), -EBUSY);
	ck_assert_ptr_null(second);
	ck_assert_msg(strstr(err.text, rig.path) && strstr(err.text, "another machine"), "%s", err.text);
	rig.config.place.iothread = 9;
	err = ERR_INIT;
	ck_assert_int_eq(disk_class.create(&rig.config, 1, &rig.world.services, &second, &err), -EINVAL);
	ck_assert_ptr_nonnull(strstr(err.text, "iothread: 9"));
	rig.config.place.iothread = 0;
	rig.config.queues = 17;
	err = ERR_INIT;
	ck_assert_int_eq(disk_class.create(&rig.config, 1, &rig.world.services, &second, &err), -EINVAL);
	ck_assert_ptr_nonnull(strstr(err.text, "queues: 17"));
	rig_finish(&rig);
}
END_TEST

TEST_MAIN("blk", config_space_tells_the_disk, there_is_a_queue_for_each_cpu, features_follow_the_config,
	  what_is_written_is_read, any_framing_is_good, requests_outside_the_disk_fail,
	  large_blocks_are_whole, wrong_directions_fail, requests_without_header_or_status_break_the_device,
	  unknown_types_are_not_supported, the_serial_number_is_told, ranges_are_judged_before_any_is_done,
	  ranges_become_zeros, a_read_only_disk_is_not_written, writes_are_durable_without_a_cache,
	  writethrough_starts_without_a_cache, a_larger_disk_is_told, what_cannot_be_a_disk_is_refused)
