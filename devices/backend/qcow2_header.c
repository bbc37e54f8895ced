/* qcow2: the header. See qcow2_format.h for its bytes. */
#include "qcow2_format.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

static uint32_t be32_at(const uint8_t *data, size_t offset)
{
	uint32_t v;
	memcpy(&v, data + offset, sizeof(v));
	return be32toh(v);
}

static uint64_t be64_at(const uint8_t *data, size_t offset)
{
	uint64_t v;
	memcpy(&v, data + offset, sizeof(v));
	return be64toh(v);
}

static int check_features(const struct qcow2_header *h, const char *path, bool writable, uint8_t compression,
			  struct err *err)
{
	if (h->incompatible & QCOW2_EXTERNAL_DATA)
		return err_set(
			err, -EOPNOTSUPP,
			"%s: keeps its data in another file; aerie wants one file: qemu-img convert -O "
			"qcow2 OLD NEW",
			path);
	if (h->incompatible & QCOW2_EXTENDED_L2)
		return err_set(
			err, -EOPNOTSUPP,
			"%s: has extended L2 entries; aerie wants plain ones: qemu-img convert -O qcow2 "
			"-o extended_l2=off OLD NEW",
			path);
	if (compression > QCOW2_BY_ZSTD)
		return err_set(
			err, -EOPNOTSUPP,
			"%s: is compressed by method %u; aerie knows zlib and zstd: qemu-img convert -O "
			"qcow2 -o compression_type=zstd OLD NEW",
			path, compression);
	/* The bit stands for a type that not every reader knows, so it and the type go together. */
	if (!(h->incompatible & QCOW2_COMPRESSION_TYPE) != (compression == QCOW2_BY_ZLIB))
		return err_set(err, -EINVAL,
			       "%s: broken header: compression type %u, and its feature bit says otherwise",
			       path, compression);
	if (h->incompatible >> 5)
		return err_set(err, -EOPNOTSUPP,
			       "%s: has incompatible features (0x%llx) that aerie does not know", path,
			       (unsigned long long)h->incompatible);
	if (writable && h->incompatible & QCOW2_CORRUPT)
		return err_set(
			err, -EOPNOTSUPP,
			"%s: is marked corrupt and can only be read; repair it with: qemu-img check -r all "
			"%s",
			path, path);
	if (writable && h->incompatible & QCOW2_DIRTY)
		return err_set(err, -EOPNOTSUPP,
			       "%s: was not closed properly and its refcounts may be wrong; repair it with: "
			       "qemu-img check -r all %s",
			       path, path);
	return 0;
}

static int check_tables(const struct qcow2_header *h, const char *path, struct err *err)
{
	uint64_t cluster = UINT64_C(1) << h->cluster_bits;
	uint64_t per_l1_entry = cluster * (cluster / 8);
	if (h->refcount_order > 6)
		return err_set(err, -EINVAL, "%s: broken header: refcount_order %u, at most 6 is valid", path,
			       h->refcount_order);
	if (h->size_bytes > INT64_MAX || h->size_bytes % 512)
		return err_set(err, -EINVAL, "%s: broken header: a disk of %llu bytes", path,
			       (unsigned long long)h->size_bytes);
	if (h->l1_entries > QCOW2_L1_BYTES_MAX / 8 ||
	    h->l1_entries < h->size_bytes / per_l1_entry + (h->size_bytes % per_l1_entry != 0))
		return err_set(err, -EINVAL, "%s: broken header: %u entries in the L1 table for %llu bytes",
			       path, h->l1_entries, (unsigned long long)h->size_bytes);
	if (h->l1_offset % cluster || h->l1_offset > INT64_MAX / 2 || (h->l1_entries && !h->l1_offset))
		return err_set(err, -EINVAL, "%s: broken header: L1 table at %llu", path,
			       (unsigned long long)h->l1_offset);
	if (h->reftable_clusters == 0 || h->reftable_clusters > QCOW2_REFTABLE_BYTES_MAX / cluster)
		return err_set(err, -EINVAL, "%s: broken header: %u clusters of refcount table", path,
			       h->reftable_clusters);
	if (h->reftable_offset % cluster || h->reftable_offset > INT64_MAX / 2 || !h->reftable_offset)
		return err_set(err, -EINVAL, "%s: broken header: refcount table at %llu", path,
			       (unsigned long long)h->reftable_offset);
	return 0;
}

/* The backing format, from the extensions between `at` and `end`. */
static int parse_extensions(const uint8_t *data, size_t at, size_t end, const char *path,
			    struct qcow2_header *h, struct err *err)
{
	while (end - at >= 8) {
		uint32_t type = be32_at(data, at);
		uint32_t len = be32_at(data, at + 4);
		at += 8;
		if (type == 0)
			return 0;
		if (len > end - at)
			return err_set(err, -EINVAL,
				       "%s: broken header: an extension (0x%x) of %u bytes crosses its end",
				       path, type, len);
		if (type == QCOW2_EXTENSION_FORMAT) {
			size_t n = len < sizeof(h->backing_format) ? len : sizeof(h->backing_format) - 1;
			memcpy(h->backing_format, data + at, n);
			h->backing_format[n] = '\0';
		}
		size_t padded = ((size_t)len + 7) & ~(size_t)7;
		if (padded > end - at)
			return 0;
		at += padded;
	}
	return 0;
}

static int parse_backing(const uint8_t *data, size_t len, size_t header_len, const char *path,
			 struct qcow2_header *h, struct err *err)
{
	uint64_t offset = be64_at(data, 8);
	uint32_t size = be32_at(data, 16);
	size_t end = offset && offset < len ? (size_t)offset : len;
	if (offset && size) {
		if (size > QCOW2_NAME_MAX || offset < header_len || offset > len || size > len - offset ||
		    memchr(data + offset, '\0', size))
			return err_set(err, -EINVAL, "%s: broken header: name of the backing file", path);
		memcpy(h->backing_name, data + offset, size);
		h->backing_name[size] = '\0';
		h->backing_name_offset = offset;
	}
	return end < header_len ? 0 : parse_extensions(data, header_len, end, path, h, err);
}

static int check_start(const uint8_t *data, size_t len, const char *path, struct qcow2_header *h,
		       struct err *err)
{
	if (len < QCOW2_V2_BYTES || be32_at(data, 0) != QCOW2_MAGIC)
		return err_set(err, -EINVAL,
			       "%s: is no qcow2 image (\"format\": \"raw\" if it is a plain disk)", path);
	h->version = be32_at(data, 4);
	if (h->version != 2 && h->version != 3)
		return err_set(err, -EOPNOTSUPP, "%s: qcow2 version %u; aerie knows 2 and 3", path,
			       h->version);
	h->cluster_bits = be32_at(data, 20);
	if (h->cluster_bits < QCOW2_CLUSTER_BITS_MIN || h->cluster_bits > QCOW2_CLUSTER_BITS_MAX)
		return err_set(err, -EINVAL, "%s: broken header: cluster_bits %u, 9 to 21 is valid", path,
			       h->cluster_bits);
	if (be32_at(data, 32) != 0)
		return err_set(err, -EOPNOTSUPP,
			       "%s: is encrypted; aerie reads plain images: qemu-img convert, or encrypt in "
			       "the guest",
			       path);
	return 0;
}

int qcow2_header_parse(const uint8_t *data, size_t len, const char *path, bool writable,
		       struct qcow2_header *ret, struct err *err)
{
	struct qcow2_header h = {.refcount_order = 4};
	uint8_t compression = 0;
	size_t header_len = QCOW2_V2_BYTES;
	if (check_start(data, len, path, &h, err) < 0)
		return err->code;
	if (len > (size_t)1 << h.cluster_bits)
		len = (size_t)1 << h.cluster_bits;
	h.size_bytes = be64_at(data, QCOW2_AT_SIZE);
	h.l1_entries = be32_at(data, QCOW2_AT_L1_ENTRIES);
	h.l1_offset = be64_at(data, 40);
	h.reftable_offset = be64_at(data, QCOW2_AT_REFTABLE);
	h.reftable_clusters = be32_at(data, QCOW2_AT_REFTABLE_CLUSTERS);
	h.snapshots = be32_at(data, 60);
	if (h.version == 3) {
		if (len < QCOW2_V3_BYTES)
			return err_set(err, -EINVAL, "%s: broken header: it is cut", path);
		h.incompatible = be64_at(data, 72);
		h.autoclear = be64_at(data, QCOW2_AT_AUTOCLEAR);
		h.refcount_order = be32_at(data, 96);
		header_len = be32_at(data, 100);
		if (header_len < QCOW2_V3_BYTES || header_len > len)
			return err_set(err, -EINVAL, "%s: broken header: header_length %zu", path,
				       header_len);
		if (header_len > QCOW2_V3_BYTES)
			compression = data[QCOW2_V3_BYTES];
	}
	h.compression = compression == QCOW2_BY_ZSTD ? QCOW2_BY_ZSTD : QCOW2_BY_ZLIB;
	if (check_features(&h, path, writable, compression, err) < 0 || check_tables(&h, path, err) < 0 ||
	    parse_backing(data, len, header_len, path, &h, err) < 0)
		return err->code;
	*ret = h;
	return 0;
}
