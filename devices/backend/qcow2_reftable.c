/*
 * qcow2: more room for refcounts. All of it is made in memory; the commit writes the blocks before the table
 * that names them, and a table that has moved before the header that says so.
 */
#include "base/cleanup.h"
#include "qcow2.h"

static void set_entry(struct qcow2 *q, uint64_t index, uint64_t cluster)
{
	q->reftable[index] = htobe64(cluster << q->cluster_bits);
	q->reftable_dirty[index * 8 / q->unit_bytes] = true;
}

/* A block of zeros at `cluster`, but for its first `used` refcounts, which are 1. */
static int make_block(struct qcow2 *q, uint64_t cluster, uint64_t used)
{
	if (qcow2_is_metadata(q, cluster))
		return qcow2_broken(q, "a table without a refcount", cluster << q->cluster_bits);
	int res = qcow2_set_add(&q->metadata, cluster);
	if (res == 0)
		res = qcow2_table_new(q, QCOW2_REFCOUNTS, cluster << q->cluster_bits);
	if (res < 0) {
		qcow2_set_remove(&q->metadata, cluster);
		return res;
	}
	size_t per_unit = (size_t)q->unit_bytes * 8 / q->refcount_bits;
	struct qcow2_slice *slice = NULL;
	for (uint64_t i = 0; i < used; i++) {
		struct qcow2_task task = {.q = q};
		if (i % per_unit == 0)
			(void)qcow2_slice_get(&task, QCOW2_REFCOUNTS,
					      (cluster << q->cluster_bits) + i / per_unit * q->unit_bytes,
					      &slice);
		qcow2_refcount_set(slice->data, (size_t)(i % per_unit), q->refcount_bits, 1);
	}
	return 0;
}

int qcow2_refblock_new(struct qcow2 *q, uint64_t index)
{
	/* Nothing in what the block describes is in use, or its refcounts would be there: its first cluster
	 * holds it. */
	uint64_t cluster = index << q->refcounts_log2;
	if (cluster >= (UINT64_C(1) << 55) >> q->cluster_bits)
		return -ENOSPC;
	int res = make_block(q, cluster, 1);
	if (res == 0)
		set_entry(q, index, cluster);
	return res;
}

/* Take the clusters of the new table out of those that data may have; all or none. */
static int reserve(struct qcow2 *q, uint64_t first, uint64_t count)
{
	for (uint64_t i = 0; i < count; i++) {
		int res = qcow2_set_add(&q->metadata, first + i);
		if (res < 0) {
			while (i-- > 0)
				qcow2_set_remove(&q->metadata, first + i);
			return res == -EEXIST ? qcow2_broken(q, "a table without a refcount",
							     (first + i) << q->cluster_bits)
					      : res;
		}
	}
	return 0;
}

/* The table is there: use it, and give back the old one. */
static void move_table(struct qcow2 *q, uint64_t *table, bool *dirty, uint64_t cluster, uint32_t clusters)
{
	uint64_t old = q->reftable_offset >> q->cluster_bits;
	for (uint32_t i = 0; i < q->reftable_clusters; i++)
		qcow2_set_remove(&q->metadata, old + i);
	qcow2_free(q, old, q->reftable_clusters);
	free(q->reftable);
	free(q->reftable_dirty);
	q->reftable = table;
	q->reftable_dirty = dirty;
	q->reftable_offset = cluster << q->cluster_bits;
	q->reftable_clusters = clusters;
	q->reftable_moved = true;
	const uint64_t offset = htobe64(q->reftable_offset);
	const uint32_t length = htobe32(clusters);
	memcpy(q->header + QCOW2_AT_REFTABLE, &offset, sizeof(offset));
	memcpy(q->header + QCOW2_AT_REFTABLE_CLUSTERS, &length, sizeof(length));
}

/*
 * The new table lies where the old one's reach ends, behind the blocks that hold the refcounts of both:
 * blocks and table together fit in what the blocks describe.
 */
int qcow2_reftable_grow(struct qcow2 *q)
{
	uint64_t entries = qcow2_reftable_entries(q);
	uint64_t first = entries << q->refcounts_log2;
	uint64_t per_block = UINT64_C(1) << q->refcounts_log2;
	uint64_t clusters = (uint64_t)q->reftable_clusters * 2;
	if (clusters * q->cluster_bytes > QCOW2_REFTABLE_BYTES_MAX ||
	    first >= (UINT64_C(1) << 55) >> q->cluster_bits)
		return -ENOSPC;
	uint64_t blocks = 1;
	while (blocks * per_block < blocks + clusters)
		blocks++;
	uint64_t *table =
		aligned_alloc(QCOW2_UNIT_BYTES, (clusters * q->cluster_bytes + QCOW2_UNIT_BYTES - 1) /
							QCOW2_UNIT_BYTES * QCOW2_UNIT_BYTES);
	bool *dirty = calloc(clusters * q->cluster_bytes / q->unit_bytes, sizeof(*dirty));
	int res = table && dirty ? reserve(q, first + blocks, clusters) : -ENOMEM;
	bool reserved = res == 0;
	uint64_t made = 0;
	while (res == 0 && made < blocks) {
		uint64_t used = blocks + clusters - made * per_block;
		res = make_block(q, first + made, used < per_block ? used : per_block);
		made += res == 0;
	}
	if (res < 0) {
		while (made-- > 0) {
			qcow2_table_drop(q, (first + made) << q->cluster_bits,
					 q->cluster_bytes / q->unit_bytes);
			qcow2_set_remove(&q->metadata, first + made);
		}
		for (uint64_t i = 0; reserved && i < clusters; i++)
			qcow2_set_remove(&q->metadata, first + blocks + i);
		free(table);
		free(dirty);
		return res;
	}
	memset(table, 0, clusters * q->cluster_bytes);
	memcpy(table, q->reftable, entries * 8);
	for (uint64_t i = 0; i < blocks; i++)
		table[entries + i] = htobe64((first + i) << q->cluster_bits);
	move_table(q, table, dirty, first + blocks, (uint32_t)clusters);
	return 0;
}
