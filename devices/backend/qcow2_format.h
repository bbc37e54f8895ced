/*
 * The qcow2 header, to the byte (QEMU's docs/interop/qcow2.txt). All numbers are big-endian.
 *
 *	  0  4  magic 'Q' 'F' 'I' 0xfb
 *	  4  4  version, 2 or 3
 *	  8  8  offset of the backing file's name, 0 if there is none
 *	 16  4  bytes of that name, at most 1023, no NUL
 *	 20  4  cluster_bits: 1 << this is the cluster size; 9 to 21
 *	 24  8  the disk's size, bytes
 *	 32  4  crypt_method: 0 none
 *	 36  4  entries of the active L1 table
 *	 40  8  its offset
 *	 48  8  offset of the refcount table
 *	 56  4  its length in clusters
 *	 60  4  internal snapshots
 *	 64  8  offset of their table
 *	version 3:
 *	 72  8  incompatible features: 0 dirty, 1 corrupt, 2 external data file, 3 compression type,
 *		4 extended L2
 *	 80  8  compatible features: 0 lazy refcounts
 *	 88  8  autoclear features: a writer that does not know a bit clears it
 *	 96  4  refcount_order: refcounts have 1 << this bits; 0 to 6. Version 2: 4
 *	100  4  header_length, at least 104, a multiple of 8
 *	104  1  compression type: 0 zlib, 1 zstd
 *
 * From header_length (version 2: 72) on: extensions of 4 bytes type, 4 bytes length, the data, and padding to
 * a multiple of 8; type 0 ends them. 0xe2792aca holds the backing file's format.
 *
 * An L1 entry: bits 9-55 are the offset of an L2 table (one cluster), 0 when there is none; bit 63 (COPIED)
 * says that its refcount is exactly 1. An L2 entry: bit 62 clear: bits 9-55 are the offset of a cluster, 0
 * when there is none; bit 63 as above; bit 0 (version 3): reads as zeros, whether it has a cluster or not.
 * Bit 62 set, compressed, with x = 62 - (cluster_bits - 8): bits 0 to x-1 are a byte offset, bits x to 61 the
 * number of 512-byte sectors beyond the one that it lies in.
 *
 * An entry of the refcount table: bits 9-63 are the offset of a refcount block (one cluster), or 0: all its
 * refcounts are 0. Refcounts narrower than a byte start at the lowest bit.
 */
#ifndef AERIE_DEVICES_BACKEND_QCOW2_FORMAT_H
#define AERIE_DEVICES_BACKEND_QCOW2_FORMAT_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define QCOW2_MAGIC	       0x514649fbU
#define QCOW2_COPIED	       (UINT64_C(1) << 63)
#define QCOW2_COMPRESSED       (UINT64_C(1) << 62)
#define QCOW2_ZERO	       UINT64_C(1)
#define QCOW2_OFFSET_MASK      UINT64_C(0x00fffffffffffe00)
#define QCOW2_REFTABLE_MASK    UINT64_C(0xfffffffffffffe00)
#define QCOW2_EXTENSION_FORMAT 0xe2792acaU

enum {
	QCOW2_CLUSTER_BITS_MIN = 9,
	QCOW2_CLUSTER_BITS_MAX = 21,
	QCOW2_L1_BYTES_MAX = 32 << 20, /* as QEMU has it */
	QCOW2_REFTABLE_BYTES_MAX = 8 << 20,
	QCOW2_NAME_MAX = 1023,
	QCOW2_V2_BYTES = 72,
	QCOW2_V3_BYTES = 104,
	/* Where fields are that are written after the header was made. */
	QCOW2_AT_SIZE = 24,
	QCOW2_AT_L1_ENTRIES = 36,
	QCOW2_AT_REFTABLE = 48,
	QCOW2_AT_REFTABLE_CLUSTERS = 56,
	QCOW2_AT_AUTOCLEAR = 88,
};

enum qcow2_incompatible {
	QCOW2_DIRTY = 1 << 0,
	QCOW2_CORRUPT = 1 << 1,
	QCOW2_EXTERNAL_DATA = 1 << 2,
	QCOW2_COMPRESSION_TYPE = 1 << 3,
	QCOW2_EXTENDED_L2 = 1 << 4,
};

/* Raw deflate, a window of 4 KiB; or frames of zstd. */
enum qcow2_compression { QCOW2_BY_ZLIB = 0, QCOW2_BY_ZSTD = 1 };

struct qcow2_header {
	uint32_t version, cluster_bits;
	uint64_t size_bytes;
	uint64_t l1_offset, reftable_offset, backing_name_offset;
	uint32_t l1_entries, reftable_clusters, snapshots;
	uint32_t refcount_order;
	uint64_t incompatible, autoclear;
	enum qcow2_compression compression;
	char backing_name[QCOW2_NAME_MAX + 1]; /* "" when there is none */
	char backing_format[16];	       /* "" when it is not said; cut when longer than any we know */
};

/*
 * Take apart and judge the first `len` bytes of an image (a cluster, or less when the file is shorter). All
 * that comes out is within the limits above; offsets of tables are aligned but may lie beyond the end of the
 * file. `path` is for messages. `writable` refuses what can only be read. -EINVAL for a broken header,
 * -EOPNOTSUPP for what aerie does not do; the message says what to do about it.
 */
int qcow2_header_parse(const uint8_t *data, size_t len, const char *path, bool writable,
		       struct qcow2_header *ret, struct err *err);

#endif
