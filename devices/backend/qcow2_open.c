/* qcow2: opening, closing and growing. All I/O here is done without the loop. */
#include "base/cleanup.h"
#include "qcow2.h"

/* ---- tables in memory ---- */

static void *alloc_table(uint64_t bytes, uint64_t *ret_padded)
{
	*ret_padded = (bytes + QCOW2_UNIT_BYTES - 1) / QCOW2_UNIT_BYTES * QCOW2_UNIT_BYTES;
	if (*ret_padded == 0)
		*ret_padded = QCOW2_UNIT_BYTES;
	void *table = aligned_alloc(QCOW2_UNIT_BYTES, *ret_padded);
	return table ? memset(table, 0, *ret_padded) : NULL;
}

static int read_tables(struct qcow2 *q, struct err *err)
{
	uint64_t padded;
	uint64_t l1_bytes = (uint64_t)q->l1_entries * 8;
	uint64_t reftable_bytes = (uint64_t)q->reftable_clusters * q->cluster_bytes;
	uint64_t header_bytes = q->unit_bytes < q->file->size_bytes ? q->unit_bytes : q->file->size_bytes;
	if (l1_bytes > q->file->size_bytes || reftable_bytes > q->file->size_bytes)
		return err_set(err, -EINVAL, "%s: broken header: tables larger than the file", q->path);
	q->header = alloc_table(q->unit_bytes, &padded);
	q->l1 = alloc_table(l1_bytes, &padded);
	q->l1_units = (uint32_t)((l1_bytes + q->unit_bytes - 1) / q->unit_bytes);
	q->l1_dirty = calloc((size_t)q->l1_units + 1, sizeof(*q->l1_dirty));
	if (!q->header || !q->l1 || !q->l1_dirty)
		return err_sys(err, -ENOMEM, "%s", q->path);
	if (q->file_ops->pread(q->file, q->header, header_bytes, 0, err) < 0 ||
	    q->file_ops->pread(q->file, q->l1, l1_bytes, q->l1_offset, err) < 0)
		return err_prepend(err, "header and L1 table");
	if (q->block.read_only)
		return 0; /* refcounts are for writers */
	q->reftable = alloc_table(reftable_bytes, &padded);
	q->reftable_dirty = calloc(reftable_bytes / q->unit_bytes, sizeof(*q->reftable_dirty));
	if (!q->reftable || !q->reftable_dirty)
		return err_sys(err, -ENOMEM, "%s", q->path);
	if (q->file_ops->pread(q->file, q->reftable, reftable_bytes, q->reftable_offset, err) < 0)
		return err_prepend(err, "refcount table");
	return 0;
}

static int add_tables(struct qcow2 *q, uint64_t offset, uint64_t clusters, struct err *err)
{
	for (uint64_t i = 0; i < clusters; i++) {
		uint64_t cluster = (offset >> q->cluster_bits) + i;
		int res = qcow2_set_add(&q->metadata, cluster);
		if (res == -ENOMEM)
			return err_sys(err, res, "%s", q->path);
		if (res < 0 || offset & (q->cluster_bytes - 1))
			return err_set(
				err, -EINVAL,
				"%s: broken: two tables at byte %llu, or one that is not aligned; repair "
				"it with: qemu-img check -r all %s",
				q->path, (unsigned long long)offset, q->path);
	}
	return 0;
}

/* All tables that writes go by must lie apart. */
static int find_tables(struct qcow2 *q, struct err *err)
{
	uint64_t l1_clusters = ((uint64_t)q->l1_entries * 8 + q->cluster_bytes - 1) >> q->cluster_bits;
	int res = add_tables(q, q->l1_offset, l1_clusters, err);
	if (res == 0)
		res = add_tables(q, q->reftable_offset, q->reftable_clusters, err);
	if (res == 0 && !qcow2_reftable_get(q, 0))
		res = err_set(
			err, -EINVAL,
			"%s: broken: its header has no refcount; repair it with: qemu-img check -r all %s",
			q->path, q->path);
	for (uint64_t i = 0; res == 0 && i < qcow2_reftable_entries(q); i++) {
		if (qcow2_reftable_get(q, i))
			res = add_tables(q, qcow2_reftable_get(q, i), 1, err);
	}
	for (uint64_t i = 0; res == 0 && i < q->l1_entries; i++) {
		uint64_t table = qcow2_l1_get(q, i) & QCOW2_OFFSET_MASK;
		if (table)
			res = add_tables(q, table, 1, err);
	}
	return res;
}

/* ---- what the header says of features ---- */

static int write_header(struct qcow2 *q, struct err *err)
{
	int res = q->file_ops->pwrite(q->file, q->header, q->unit_bytes, 0);
	if (res == 0)
		res = q->file_ops->sync(q->file);
	return res < 0 ? err_sys(err, res, "%s: writing its header", q->path) : 0;
}

/* What others keep beside the tables (dirty bitmaps) will not be right after we wrote. */
static int clear_autoclear(struct qcow2 *q, const struct qcow2_header *header, struct err *err)
{
	if (q->block.read_only || !header->autoclear)
		return 0;
	memset(q->header + QCOW2_AT_AUTOCLEAR, 0, 8);
	return write_header(q, err);
}

/* ---- life ---- */

static void destroy(struct qcow2 *q)
{
	qcow2_cache_free(q);
	free(q->commit.slices);
	free(q->frees);
	free(q->metadata.slots);
	free(q->header);
	free(q->l1);
	free(q->l1_dirty);
	free(q->reftable);
	free(q->reftable_dirty);
	free(q->path);
	free(q);
}

static void qcow2_close(struct block *block)
{
	struct qcow2 *q = container_of(block, struct qcow2, block);
	q->sync = true;
	/* The first commit gives back what was replaced, the second one writes that. */
	int res = block->read_only ? 0 : qcow2_commit_sync(q);
	if (res == 0 && q->dirty_count)
		res = qcow2_commit_sync(q);
	if (res < 0)
		log_error("%s: what was not flushed is lost: %s", q->path, strerror(-res));
	block_close(q->file);
	block_close(q->backing);
	destroy(q);
}

/* ---- growing ---- */

static int check_growth(const struct qcow2 *q, uint64_t bytes, struct err *err)
{
	uint64_t per_entry = (uint64_t)q->cluster_bytes * (q->cluster_bytes / 8);
	uint64_t l1_clusters = ((uint64_t)q->l1_entries * 8 + q->cluster_bytes - 1) >> q->cluster_bits;
	uint64_t room = (l1_clusters << q->cluster_bits) / 8;
	if (q->block.read_only)
		return err_set(err, -EROFS, "%s: what is open for reading only cannot be resized", q->path);
	if (bytes < q->block.size_bytes)
		return err_set(err, -EOPNOTSUPP,
			       "%s: qcow2 images cannot shrink while they are in use; use qemu-img resize "
			       "--shrink when the machine is off",
			       q->path);
	if (bytes % 512 || bytes > INT64_MAX)
		return err_set(err, -EINVAL, "%s: a disk of %llu bytes; a multiple of 512 is possible",
			       q->path, (unsigned long long)bytes);
	if (q->snapshots)
		return err_set(
			err, -EOPNOTSUPP,
			"%s: has internal snapshots of the old size; use qemu-img resize when the machine "
			"is off",
			q->path);
	if (bytes / per_entry + (bytes % per_entry != 0) > room)
		return err_set(
			err, -EOPNOTSUPP,
			"%s: its L1 table has room for %llu bytes; use qemu-img resize when the machine is "
			"off",
			q->path, (unsigned long long)(room * per_entry));
	return 0;
}

/* More entries in the clusters that the L1 table has. What is there now may be anything. */
static int extend_l1(struct qcow2 *q, uint32_t entries, struct err *err)
{
	uint64_t padded;
	uint64_t *table = alloc_table((uint64_t)entries * 8, &padded);
	uint32_t units = (uint32_t)(((uint64_t)entries * 8 + q->unit_bytes - 1) / q->unit_bytes);
	bool *dirty = calloc((size_t)units + 1, sizeof(*dirty));
	int res = table && dirty ? 0 : -ENOMEM;
	if (res == 0) {
		memcpy(table, q->l1, (size_t)q->l1_entries * 8);
		res = q->file_ops->pwrite(q->file, table, (size_t)units * q->unit_bytes, q->l1_offset);
	}
	if (res == 0)
		res = q->file_ops->sync(q->file);
	if (res < 0) {
		free(table);
		free(dirty);
		return err_sys(err, res, "%s: its L1 table", q->path);
	}
	free(q->l1);
	free(q->l1_dirty);
	q->l1 = table;
	q->l1_dirty = dirty;
	q->l1_units = units;
	q->l1_entries = entries;
	const uint32_t entries_be = htobe32(entries);
	memcpy(q->header + QCOW2_AT_L1_ENTRIES, &entries_be, sizeof(entries_be));
	return 0;
}

static int grow(struct qcow2 *q, uint64_t bytes, struct err *err)
{
	uint64_t per_entry = (uint64_t)q->cluster_bytes * (q->cluster_bytes / 8);
	uint32_t entries = (uint32_t)(bytes / per_entry + (bytes % per_entry != 0));
	int res = qcow2_commit_sync(q); /* the L1 table, above all */
	if (res < 0)
		return err_sys(err, res, "%s: writing its tables", q->path);
	if (entries > q->l1_entries && extend_l1(q, entries, err) < 0)
		return err->code;
	const uint64_t size = htobe64(bytes);
	const uint64_t old = htobe64(q->block.size_bytes);
	memcpy(q->header + QCOW2_AT_SIZE, &size, sizeof(size));
	if (write_header(q, err) < 0) {
		memcpy(q->header + QCOW2_AT_SIZE, &old, sizeof(old));
		return err->code;
	}
	q->block.size_bytes = bytes;
	return 0;
}

static int qcow2_resize(struct block *block, uint64_t bytes, struct err *err)
{
	struct qcow2 *q = container_of(block, struct qcow2, block);
	if (bytes == 0 || bytes == block->size_bytes)
		return 0; /* nobody else changes it: the file is locked */
	if (check_growth(q, bytes, err) < 0)
		return err->code;
	q->sync = true;
	int res = grow(q, bytes, err);
	q->sync = false;
	return res;
}

static const struct block_ops qcow2_ops = {
	.name = "qcow2", .submit = qcow2_submit, .resize = qcow2_resize, .close = qcow2_close};

/* ---- opening ---- */

int qcow2_read_header(struct block *file, const struct qcow2_file_ops *ops,
		      const struct qcow2_options *options, struct qcow2_header *ret, struct err *err)
{
	size_t len = (size_t)1 << QCOW2_CLUSTER_BITS_MAX;
	if (len > file->size_bytes)
		len = (size_t)file->size_bytes;
	_cleanup_free_ uint8_t *start = malloc(len + 1);
	if (!start)
		return err_sys(err, -ENOMEM, "%s", options->path);
	if (ops->pread(file, start, len, 0, err) < 0)
		return err->code;
	return qcow2_header_parse(start, len, options->path, !options->read_only, ret, err);
}

static int check_options(const struct qcow2_header *header, const struct qcow2_options *options,
			 struct err *err)
{
	if (options->direct && 1U << header->cluster_bits < options->block_size)
		return err_set(err, -EOPNOTSUPP,
			       "%s: has clusters of %u bytes, smaller than a block of the host's disk; set "
			       "\"direct\": false",
			       options->path, 1U << header->cluster_bits);
	if (options->block_size && header->size_bytes % options->block_size)
		return err_set(err, -EINVAL, "%s: its size of %llu bytes is no multiple of the block size %u",
			       options->path, (unsigned long long)header->size_bytes, options->block_size);
	return 0;
}

static void init(struct qcow2 *q, const struct qcow2_header *h, const struct qcow2_options *options)
{
	q->block.ops = &qcow2_ops;
	q->block.size_bytes = h->size_bytes;
	q->block.read_only = options->read_only;
	q->block.physical_block_bytes = q->file->physical_block_bytes;
	q->discard = options->discard;
	q->writethrough = options->writethrough;
	q->compression = h->compression;
	q->has_zero = h->version == 3;
	q->cluster_bits = h->cluster_bits;
	q->cluster_bytes = 1U << h->cluster_bits;
	q->block.optimal_io_bytes = q->block.discard_bytes = q->cluster_bytes;
	q->unit_bytes = q->cluster_bytes < QCOW2_UNIT_BYTES ? q->cluster_bytes : QCOW2_UNIT_BYTES;
	q->snapshots = h->snapshots;
	q->l1_entries = h->l1_entries;
	q->l1_offset = h->l1_offset;
	q->refcount_bits = 1U << h->refcount_order;
	q->refcounts_log2 = h->cluster_bits + 3 - h->refcount_order;
	q->reftable_clusters = h->reftable_clusters;
	q->reftable_offset = h->reftable_offset;
	q->buffers = QCOW2_BUFFERS_BYTES / 4 / q->cluster_bytes;
	if (q->buffers > 64)
		q->buffers = 64;
}

int qcow2_attach(struct block *file, const struct qcow2_file_ops *ops, struct block *backing,
		 const struct qcow2_header *header, const struct qcow2_options *options, struct loop *loop,
		 struct block **ret, struct err *err)
{
	if (check_options(header, options, err) < 0)
		return err->code;
	struct qcow2 *q = calloc(1, sizeof(*q));
	char *path = strdup(options->path);
	if (!q || !path) {
		free(q);
		free(path);
		return err_sys(err, -ENOMEM, "%s", options->path);
	}
	q->file = file;
	q->file_ops = ops;
	q->backing = backing;
	q->path = path;
	q->block.loop = loop;
	init(q, header, options);
	int res = read_tables(q, err);
	if (res == 0 && !options->read_only)
		res = find_tables(q, err);
	if (res == 0)
		res = clear_autoclear(q, header, err);
	if (res < 0) {
		destroy(q);
		return res;
	}
	*ret = &q->block;
	return 0;
}
