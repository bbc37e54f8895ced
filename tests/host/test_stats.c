/* KVM's statistics: files made by hand, broken ones, and this machine's own. */
#include "base/bytes.h"
#include "base/cleanup.h"
#include "harness.h"
#include "host/kvm.h"
#include "host/stats.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { NAME = 16, STRIDE = 16 + NAME, IDS = 24, DESCRIPTORS = IDS + NAME, DATA = 512, FILE_BYTES = 1024 };

/* A file with three figures: a counter, a flag, a histogram of four values. */
static void make(uint8_t *file)
{
	memset(file, 0, FILE_BYTES);
	const uint32_t header[] = {0, NAME, 3, IDS, DESCRIPTORS, DATA};
	memcpy(file, header, sizeof(header));
	strcpy((char *)file + IDS, "kvm-1/vcpu-0");
	static const struct {
		uint32_t flags;
		uint16_t size;
		uint32_t offset, bucket;
		const char *name;
	} rows[] = {
		{0x000, 1, 0, 0, "exits"},
		{0x041, 1, 40, 0, "guest_mode"},
		{0x023, 4, 8, 100, "halt_wait"},
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		uint8_t *d = file + DESCRIPTORS + i * STRIDE;
		store_le32(d, rows[i].flags);
		store_le16(d + 4, (uint16_t)-9);
		store_le16(d + 6, rows[i].size);
		store_le32(d + 8, rows[i].offset);
		store_le32(d + 12, rows[i].bucket);
		strcpy((char *)d + 16, rows[i].name);
	}
	for (uint64_t i = 0; i < 6; i++)
		store_le64(file + DATA + i * 8, 1000 + i);
}

static int open_bytes(const uint8_t *file, size_t len, struct kvm_stats **ret, struct err *err)
{
	int fd = memfd_create("stats", MFD_CLOEXEC);
	ck_assert_int_eq(write(fd, file, len), (ssize_t)len);
	return kvm_stats_open_file(fd, ret, err);
}

START_TEST(figures_are_found_by_name)
{
	uint8_t file[FILE_BYTES];
	struct kvm_stats *stats = NULL;
	struct err err = ERR_INIT;
	make(file);
	ck_assert_int_eq(open_bytes(file, sizeof(file), &stats, &err), 0);
	ck_assert_uint_eq(kvm_stats_count(stats), 3);
	ck_assert_ptr_null(kvm_stats_at(stats, 3));
	const uint64_t *values = kvm_stats_read(stats);
	ck_assert_ptr_nonnull(values);
	const struct kvm_stat *exits = kvm_stats_find(stats, "exits");
	const struct kvm_stat *mode = kvm_stats_find(stats, "guest_mode");
	const struct kvm_stat *wait = kvm_stats_find(stats, "halt_wait");
	ck_assert_uint_eq(values[exits->first], 1000);
	ck_assert_uint_eq(values[mode->first], 1005);
	ck_assert_int_eq(mode->kind, KVM_STAT_INSTANT);
	ck_assert_int_eq(mode->unit, KVM_STAT_BOOLEAN);
	ck_assert_int_eq(wait->kind, KVM_STAT_LINEAR_HISTOGRAM);
	ck_assert_int_eq(wait->unit, KVM_STAT_SECONDS);
	ck_assert_int_eq(wait->exponent, -9);
	ck_assert_uint_eq(wait->base, 10);
	ck_assert_uint_eq(wait->bucket_size, 100);
	ck_assert_uint_eq(values[wait->first + wait->count - 1], 1004);
	ck_assert_ptr_null(kvm_stats_find(stats, "nested_run"));
	kvm_stats_close(stats);
}
END_TEST

START_TEST(a_kind_of_a_later_kernel_is_left_out)
{
	uint8_t file[FILE_BYTES];
	struct kvm_stats *stats = NULL;
	struct err err = ERR_INIT;
	make(file);
	store_le32(file + DESCRIPTORS, 0x00f);
	ck_assert_int_eq(open_bytes(file, sizeof(file), &stats, &err), 0);
	ck_assert_uint_eq(kvm_stats_count(stats), 2);
	kvm_stats_close(stats);
}
END_TEST

/* Each row breaks one word of the good file. */
START_TEST(broken_files_are_refused)
{
	static const struct {
		size_t at;
		uint32_t value;
	} rows[] = {
		{4, 0},
		{4, 1U << 20},
		{8, 100000},
		{8, 64}, /* names, counts; descriptors past the end */
		{16, 1 << 20},
		{DESCRIPTORS + 8, 4},
		{DESCRIPTORS + 8, 0xfffffff8},
		{DESCRIPTORS + 4, 0}, /* size 0 */
		{DESCRIPTORS + 4, 0xffff0000},
		{DESCRIPTORS + 16, 0},
		{DESCRIPTORS + 16, 0x0a0a0a0a},
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		uint8_t file[FILE_BYTES];
		struct kvm_stats *stats = NULL;
		struct err err = ERR_INIT;
		make(file);
		store_le32(file + rows[i].at, rows[i].value);
		ck_assert_msg(open_bytes(file, sizeof(file), &stats, &err) < 0, "row %zu", i);
		ck_assert_int_ne(err.code, 0);
		ck_assert_ptr_null(stats);
	}
}
END_TEST

START_TEST(a_file_that_ends_early_never_reads_as_values)
{
	for (size_t len = 0; len < DATA + 48; len++) {
		uint8_t file[FILE_BYTES];
		struct kvm_stats *stats = NULL;
		struct err err = ERR_INIT;
		make(file);
		if (open_bytes(file, len, &stats, &err) == 0)
			ck_assert_ptr_null(kvm_stats_read(stats));
		kvm_stats_close(stats);
	}
}
END_TEST

START_TEST(this_machine)
{
	struct kvm_stats *stats = NULL;
	struct err err = ERR_INIT;
	_cleanup_close_ int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	_cleanup_close_ int vm = kvm >= 0 ? kvm_call_value(kvm, KVM_CREATE_VM, 0) : -1;
	_cleanup_close_ int vcpu = vm >= 0 ? kvm_call_value(vm, KVM_CREATE_VCPU, 0) : -1;
	if (vcpu < 0 || kvm_capability(vm, KVM_CAP_BINARY_STATS_FD) <= 0)
		return;
	ck_assert_int_eq(kvm_stats_open(vcpu, &stats, &err), 0);
	ck_assert_ptr_nonnull(kvm_stats_find(stats, "exits"));
	ck_assert_ptr_nonnull(kvm_stats_find(stats, "nested_run"));
	ck_assert_ptr_nonnull(kvm_stats_find(stats, "guest_mode"));
	ck_assert_ptr_nonnull(kvm_stats_read(stats));
	kvm_stats_close(stats);
	ck_assert_int_eq(kvm_stats_open(vm, &stats, &err), 0);
	ck_assert_ptr_nonnull(kvm_stats_read(stats));
	kvm_stats_close(stats);
}
END_TEST

TEST_MAIN("stats", figures_are_found_by_name, a_kind_of_a_later_kernel_is_left_out, broken_files_are_refused,
	  a_file_that_ends_early_never_reads_as_values, this_machine)
