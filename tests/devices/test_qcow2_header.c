/* qcow2: what the header may say, what is refused and with which remedy; widths of refcounts; entries. */
#include "../../devices/backend/qcow2.h"
#include "base/cleanup.h"
#include "harness.h"

#include <zstd.h>

enum { IMAGE_BYTES = 4096 };

static void put32(uint8_t *data, size_t at, uint32_t value)
{
	value = htobe32(value);
	memcpy(data + at, &value, sizeof(value));
}

static void put64(uint8_t *data, size_t at, uint64_t value)
{
	value = htobe64(value);
	memcpy(data + at, &value, sizeof(value));
}

/* Version 3, 64 KiB clusters, 1 GiB. */
static void good_header(uint8_t *data)
{
	memset(data, 0, IMAGE_BYTES);
	put32(data, 0, QCOW2_MAGIC);
	put32(data, 4, 3);
	put32(data, 20, 16);
	put64(data, 24, 1 << 30);
	put32(data, 36, 2);
	put64(data, 40, 3 << 16);
	put64(data, 48, 1 << 16);
	put32(data, 56, 1);
	put32(data, 96, 4);
	put32(data, 100, 104);
}

static int parse(const uint8_t *data, size_t len, bool writable, struct qcow2_header *ret, struct err *err)
{
	uint8_t *copy = malloc(len ? len : 1); /* of the exact size, for ASan */
	ck_assert_ptr_nonnull(copy);
	memcpy(copy, data, len);
	*err = ERR_INIT;
	int res = qcow2_header_parse(copy, len, "x.qcow2", writable, ret, err);
	free(copy);
	return res;
}

START_TEST(a_good_header_is_taken_apart)
{
	uint8_t data[IMAGE_BYTES];
	struct qcow2_header h;
	struct err err;
	good_header(data);
	put32(data, 104, QCOW2_EXTENSION_FORMAT);
	put32(data, 108, 5);
	memcpy(data + 112, "qcow2", 5);
	put64(data, 8, 200);
	put32(data, 16, 6);
	memcpy(data + 200, "base.q", 6);
	ck_assert_msg(parse(data, sizeof(data), true, &h, &err) == 0, "%s", err.text);
	ck_assert_uint_eq(h.size_bytes, 1 << 30);
	ck_assert_uint_eq(h.l1_entries, 2);
	ck_assert_uint_eq(h.l1_offset, 3 << 16);
	ck_assert_uint_eq(h.reftable_offset, 1 << 16);
	ck_assert_str_eq(h.backing_name, "base.q");
	ck_assert_str_eq(h.backing_format, "qcow2");
	for (size_t len = 0; len < 206; len++)
		ck_assert_int_lt(parse(data, len, true, &h, &err), 0);
}
END_TEST

/* One field of the good header changed: refused with these words. */
struct bad {
	size_t at;
	size_t bytes;
	uint64_t value;
	bool readable; /* and only refused for writing */
	const char *words;
};

static const struct bad bad[] = {
	{0, 4, 0x12345678, false, "is no qcow2 image"},
	{4, 4, 1, false, "version 1; aerie knows 2 and 3"},
	{4, 4, 4, false, "version 4"},
	{8, 8, 1 << 20, false, "name of the backing file"}, /* length is set with it, below */
	{20, 4, 8, false, "cluster_bits 8"},
	{20, 4, 22, false, "cluster_bits 22"},
	{24, 8, UINT64_MAX, false, "a disk of"},
	{24, 8, 513, false, "a disk of 513 bytes"},
	{24, 8, (UINT64_C(1) << 30) + 512, false, "2 entries in the L1 table"},
	{32, 4, 1, false, "encrypted"},
	{36, 4, 1, false, "1 entries in the L1 table"},
	{36, 4, 0xffffffff, false, "4294967295 entries in the L1 table"},
	{40, 8, 512, false, "L1 table at 512"},
	{40, 8, UINT64_C(1) << 63, false, "L1 table at"},
	{40, 8, 0, false, "L1 table at 0"},
	{48, 8, 0, false, "refcount table at 0"},
	{48, 8, 4096, false, "refcount table at 4096"},
	{56, 4, 0, false, "0 clusters of refcount table"},
	{56, 4, 129, false, "129 clusters of refcount table"},
	{72, 8, QCOW2_DIRTY, true, "qemu-img check -r all x.qcow2"},
	{72, 8, QCOW2_CORRUPT, true, "qemu-img check -r all x.qcow2"},
	{72, 8, QCOW2_EXTERNAL_DATA, false, "qemu-img convert"},
	{72, 8, QCOW2_EXTENDED_L2, false, "extended_l2=off"},
	{72, 8, 1 << 5, false, "does not know"},
	{96, 4, 7, false, "refcount_order 7"},
	{100, 4, 96, false, "header_length 96"},
	{100, 4, 0x80000000, false, "header_length"},
	{108, 4, 0xfffffff0, false, "crosses its end"}, /* type is set with it, below */
};

START_TEST(a_bad_header_is_refused_with_a_reason)
{
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		uint8_t data[IMAGE_BYTES];
		struct qcow2_header h;
		struct err err;
		good_header(data);
		put32(data, 16, bad[i].at == 8 ? 5 : 0);
		put32(data, 104, bad[i].at == 108 ? QCOW2_EXTENSION_FORMAT : 0);
		if (bad[i].bytes == 4)
			put32(data, bad[i].at, (uint32_t)bad[i].value);
		else
			put64(data, bad[i].at, bad[i].value);
		if (bad[i].at == 24 && bad[i].value == (1 << 30) + 512)
			put64(data, 24, (UINT64_C(1) << 30) + 512);
		ck_assert_msg(parse(data, sizeof(data), true, &h, &err) < 0, "%s", bad[i].words);
		ck_assert_msg(strstr(err.text, bad[i].words) != NULL, "'%s' has no '%s'", err.text,
			      bad[i].words);
		ck_assert_int_eq(parse(data, sizeof(data), false, &h, &err) == 0, bad[i].readable);
	}
}
END_TEST

START_TEST(compression_types)
{
	static const struct {
		uint64_t feature;
		uint8_t type;
		int res;
		const char *words;
	} cases[] = {
		{0, 0, 0, NULL},
		{QCOW2_COMPRESSION_TYPE, 1, 0, NULL},
		{QCOW2_COMPRESSION_TYPE, 2, -EOPNOTSUPP, "compression_type=zstd"},
		{QCOW2_COMPRESSION_TYPE, 0, -EINVAL, "feature bit"},
		{0, 1, -EINVAL, "feature bit"},
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		uint8_t data[IMAGE_BYTES];
		struct qcow2_header h;
		struct err err;
		good_header(data);
		put64(data, 72, cases[i].feature);
		put32(data, 100, 112);
		data[104] = cases[i].type;
		ck_assert_int_eq(parse(data, sizeof(data), false, &h, &err), cases[i].res);
		if (cases[i].res == 0)
			ck_assert_int_eq((int)h.compression, cases[i].type);
		else
			ck_assert_ptr_nonnull(strstr(err.text, cases[i].words));
	}
}
END_TEST

START_TEST(a_zstd_cluster_is_whole_or_an_error)
{
	enum { CLUSTER = 4096, HALF = 1500 };
	uint8_t plain[CLUSTER], out[CLUSTER + 1], packed[2 * CLUSTER] = {0};
	for (size_t i = 0; i < CLUSTER; i++)
		plain[i] = (uint8_t)(i * i >> 7);
	size_t bytes = ZSTD_compress(packed, sizeof(packed), plain, CLUSTER, 3);
	ck_assert(!ZSTD_isError(bytes));
	for (size_t n = 0; n < bytes; n++)
		ck_assert_int_eq(qcow2_unpack(QCOW2_BY_ZSTD, packed, n, out, CLUSTER), -EIO);
	/* With padding as sectors leave it; never more than asked for. */
	memset(out, 0xee, sizeof(out));
	ck_assert_int_eq(qcow2_unpack(QCOW2_BY_ZSTD, packed, bytes + 300, out, CLUSTER), 0);
	ck_assert_mem_eq(out, plain, CLUSTER);
	ck_assert_uint_eq(out[CLUSTER], 0xee);
	ck_assert_int_eq(qcow2_unpack(QCOW2_BY_ZSTD, packed, bytes, out, CLUSTER - 1), -EIO);
	ck_assert_int_eq(qcow2_unpack(QCOW2_BY_ZSTD, packed, bytes, out, CLUSTER + 1), -EIO);
	/* Two frames make a cluster as well. */
	bytes = ZSTD_compress(packed, sizeof(packed), plain, HALF, 3);
	bytes += ZSTD_compress(packed + bytes, sizeof(packed) - bytes, plain + HALF, CLUSTER - HALF, 3);
	memset(out, 0, sizeof(out));
	ck_assert_int_eq(qcow2_unpack(QCOW2_BY_ZSTD, packed, bytes + 7, out, CLUSTER), 0);
	ck_assert_mem_eq(out, plain, CLUSTER);
	/* A frame of nothing is no progress without end. */
	memset(packed, 0, sizeof(packed));
	ck_assert_int_eq(qcow2_unpack(QCOW2_BY_ZSTD, packed, sizeof(packed), out, CLUSTER), -EIO);
}
END_TEST

START_TEST(refcounts_of_every_width)
{
	uint8_t data[64];
	for (uint32_t order = 0; order <= 6; order++) {
		uint32_t bits = 1U << order;
		size_t count = sizeof(data) * 8 / bits;
		uint64_t most = bits == 64 ? UINT64_MAX : (UINT64_C(1) << bits) - 1;
		memset(data, 0, sizeof(data));
		for (size_t i = 0; i < count; i++)
			qcow2_refcount_set(data, i, bits, (i * UINT64_C(0x9e3779b97f4a7c15)) & most);
		for (size_t i = 0; i < count; i++)
			ck_assert_uint_eq(qcow2_refcount_get(data, i, bits),
					  (i * UINT64_C(0x9e3779b97f4a7c15)) & most);
	}
	/* The order of bits and bytes is the format's. */
	memset(data, 0, sizeof(data));
	qcow2_refcount_set(data, 1, 1, 1);
	ck_assert_uint_eq(data[0], 2);
	qcow2_refcount_set(data, 2, 4, 0xa);
	ck_assert_uint_eq(data[1], 0x0a);
	qcow2_refcount_set(data, 1, 16, 0x1234);
	ck_assert_uint_eq(data[2], 0x12);
	ck_assert_uint_eq(data[3], 0x34);
}
END_TEST

START_TEST(l2_entries_are_taken_apart)
{
	struct qcow2 *q = calloc(1, sizeof(*q));
	struct qcow2_map map;
	ck_assert_ptr_nonnull(q);
	q->cluster_bits = 16;
	qcow2_decode(q, 0, &map);
	ck_assert_int_eq(map.type, QCOW2_TYPE_NONE);
	qcow2_decode(q, 0x50000 | QCOW2_COPIED, &map);
	ck_assert_int_eq(map.type, QCOW2_TYPE_NORMAL);
	ck_assert(map.copied);
	ck_assert_uint_eq(map.host, 0x50000);
	/* Version 2 knows no zeros. */
	qcow2_decode(q, 0x50001, &map);
	ck_assert_int_eq(map.type, QCOW2_TYPE_NORMAL);
	ck_assert(!map.copied);
	q->has_zero = true;
	qcow2_decode(q, 0x50001, &map);
	ck_assert_int_eq(map.type, QCOW2_TYPE_ZERO);
	qcow2_decode(q, QCOW2_COPIED | 1, &map);
	ck_assert_int_eq(map.type, QCOW2_TYPE_ZERO);
	ck_assert(!map.copied);
	/* 64 KiB clusters: 54 bits of offset, then 8 of sectors. */
	qcow2_decode(q, QCOW2_COMPRESSED | UINT64_C(3) << 54 | 0x12345, &map);
	ck_assert_int_eq(map.type, QCOW2_TYPE_COMPRESSED);
	ck_assert_uint_eq(map.host, 0x12345);
	ck_assert_uint_eq(map.packed_bytes, 4 * 512 - 0x145);
	free(q);
}
END_TEST

START_TEST(a_set_finds_what_was_added_and_not_removed)
{
	struct qcow2_set set = {NULL, 0, 0};
	for (uint64_t i = 1; i < 3000; i++)
		ck_assert_int_eq(qcow2_set_add(&set, i * 7), 0);
	ck_assert_int_eq(qcow2_set_add(&set, 7), -EEXIST);
	for (uint64_t i = 1; i < 3000; i += 2)
		qcow2_set_remove(&set, i * 7);
	for (uint64_t i = 1; i < 3000; i++) {
		ck_assert_int_eq(qcow2_set_has(&set, i * 7), i % 2 == 0);
		ck_assert(!qcow2_set_has(&set, i * 7 + 1));
	}
	free(set.slots);
}
END_TEST

TEST_MAIN("qcow2_header", a_good_header_is_taken_apart, a_bad_header_is_refused_with_a_reason,
	  compression_types, a_zstd_cluster_is_whole_or_an_error, refcounts_of_every_width,
	  l2_entries_are_taken_apart, a_set_finds_what_was_added_and_not_removed)
