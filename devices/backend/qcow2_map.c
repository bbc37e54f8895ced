/* qcow2: L1 and L2 tables. */
#include "base/cleanup.h"
#include "qcow2.h"

int qcow2_broken(struct qcow2 *q, const char *what, uint64_t offset)
{
	log_guest(&q->complaints, "%s: broken: %s (at byte %llu); repair it with: qemu-img check -r all",
		  q->path, what, (unsigned long long)offset);
	return -EIO;
}

static uint64_t l1_index(const struct qcow2 *q, uint64_t offset)
{
	return offset >> (2 * q->cluster_bits - 3);
}

/* Where in the L2 table the slice begins that describes `offset`. */
static uint64_t slice_offset(const struct qcow2 *q, uint64_t offset)
{
	uint64_t index = (offset >> q->cluster_bits) & (q->cluster_bytes / 8 - 1);
	return index / qcow2_slice_entries(q) * q->unit_bytes;
}

size_t qcow2_slice_index(const struct qcow2 *q, uint64_t offset)
{
	return (size_t)((offset >> q->cluster_bits) % qcow2_slice_entries(q));
}

void qcow2_decode(const struct qcow2 *q, uint64_t entry, struct qcow2_map *ret)
{
	*ret = (struct qcow2_map){.type = QCOW2_TYPE_NONE};
	if (entry & QCOW2_COMPRESSED) {
		unsigned x = 62 - (q->cluster_bits - 8);
		uint64_t sectors = (entry & ~QCOW2_COPIED & ~QCOW2_COMPRESSED) >> x;
		ret->type = QCOW2_TYPE_COMPRESSED;
		ret->host = entry & ((UINT64_C(1) << x) - 1);
		ret->packed_bytes = (uint32_t)((sectors + 1) * 512 - ret->host % 512);
		return;
	}
	ret->host = entry & QCOW2_OFFSET_MASK;
	ret->copied = ret->host && entry & QCOW2_COPIED;
	if (q->has_zero && entry & QCOW2_ZERO)
		ret->type = QCOW2_TYPE_ZERO;
	else if (ret->host)
		ret->type = QCOW2_TYPE_NORMAL;
}

/* Does the cluster `n` behind `first` continue it? */
static bool continues(const struct qcow2 *q, const struct qcow2_map *first, const struct qcow2_map *next,
		      uint64_t n)
{
	if (next->type != first->type)
		return false;
	if (first->type == QCOW2_TYPE_NORMAL)
		return next->copied == first->copied && next->host == first->host + (n << q->cluster_bits);
	return first->type != QCOW2_TYPE_COMPRESSED;
}

static int check_alignment(struct qcow2 *q, const struct qcow2_map *map)
{
	if (map->type != QCOW2_TYPE_COMPRESSED && map->host & (q->cluster_bytes - 1))
		return qcow2_broken(q, "an unaligned cluster", map->host);
	return 0;
}

/* L1 entry to offset of the table, 0 when there is none. */
static int table_offset(struct qcow2 *q, uint64_t entry, uint64_t *ret)
{
	*ret = entry & QCOW2_OFFSET_MASK;
	if (*ret & (q->cluster_bytes - 1))
		return qcow2_broken(q, "an unaligned L2 table", *ret);
	return 0;
}

int qcow2_lookup(struct qcow2_task *task, uint64_t offset, uint64_t bytes, struct qcow2_map *ret)
{
	struct qcow2 *q = task->q;
	uint64_t within = offset & (q->cluster_bytes - 1);
	uint64_t table;
	int res = table_offset(q, qcow2_l1_get(q, l1_index(q, offset)), &table);
	if (res < 0)
		return res;
	if (!table) {
		*ret = (struct qcow2_map){.type = QCOW2_TYPE_NONE, .guest = offset - within, .bytes = bytes};
		return 0;
	}
	struct qcow2_slice *slice = NULL;
	res = qcow2_slice_get(task, QCOW2_L2, table + slice_offset(q, offset), &slice);
	if (res != 0)
		return res;
	size_t index = qcow2_slice_index(q, offset);
	qcow2_decode(q, qcow2_entry_get(slice, index), ret);
	ret->guest = offset - within;
	ret->bytes = q->cluster_bytes - within;
	if (check_alignment(q, ret) < 0)
		return -EIO;
	for (uint64_t n = 1; ret->bytes < bytes && index + n < qcow2_slice_entries(q); n++) {
		struct qcow2_map next;
		qcow2_decode(q, qcow2_entry_get(slice, index + n), &next);
		if (!continues(q, ret, &next, n))
			break;
		ret->bytes += q->cluster_bytes;
	}
	if (ret->bytes > bytes)
		ret->bytes = bytes;
	return 0;
}

/* ---- tables of our own ---- */

static void use_table(struct qcow2 *q, uint64_t index, uint64_t offset)
{
	q->l1[index] = htobe64(offset | QCOW2_COPIED);
	q->l1_dirty[index * 8 / q->unit_bytes] = true;
}

static void give_up_table(struct qcow2_task *task)
{
	struct qcow2 *q = task->q;
	uint64_t cluster = task->new_table >> q->cluster_bits;
	qcow2_table_drop(q, task->new_table, task->new_slices);
	qcow2_set_remove(&q->metadata, cluster);
	qcow2_free(q, cluster, 1);
	task->new_table = 0;
}

/* A cluster for a table: task->new_table. */
static int reserve_table(struct qcow2_task *task)
{
	struct qcow2 *q = task->q;
	struct qcow2_run run;
	if (task->new_table)
		return 0;
	int res = qcow2_alloc(task, 1, &run);
	if (res != 0)
		return res;
	task->new_table = run.cluster << q->cluster_bits;
	task->new_slices = 0;
	if (qcow2_set_add(&q->metadata, run.cluster) < 0) {
		qcow2_free(q, run.cluster, 1);
		task->new_table = 0;
		return -ENOMEM;
	}
	return 0;
}

static int make_table(struct qcow2_task *task, uint64_t index)
{
	struct qcow2 *q = task->q;
	int res = reserve_table(task);
	if (res != 0)
		return res;
	res = qcow2_table_new(q, QCOW2_L2, task->new_table);
	if (res < 0) {
		give_up_table(task);
		return res;
	}
	use_table(q, index, task->new_table);
	task->new_table = 0;
	return 0;
}

/* An internal snapshot uses the table too: that one keeps it, and we get a copy. */
static int copy_table(struct qcow2_task *task, uint64_t index, uint64_t old)
{
	struct qcow2 *q = task->q;
	int res = reserve_table(task);
	while (res == 0 && task->new_slices < q->cluster_bytes / q->unit_bytes) {
		uint64_t at = (uint64_t)task->new_slices * q->unit_bytes;
		struct qcow2_slice *from = NULL;
		res = qcow2_slice_get(task, QCOW2_L2, old + at, &from);
		if (res != 0)
			break;
		struct qcow2_slice *to = qcow2_slice_new(q, QCOW2_L2, task->new_table + at);
		if (to)
			memcpy(to->data, from->data, q->unit_bytes);
		res = to ? 0 : -ENOMEM;
		task->new_slices += res == 0;
	}
	if (res < 0 && task->new_table)
		give_up_table(task);
	if (res != 0)
		return res;
	qcow2_set_remove(&q->metadata, old >> q->cluster_bits);
	qcow2_free(q, old >> q->cluster_bits, 1);
	use_table(q, index, task->new_table);
	task->new_table = 0;
	return 0;
}

int qcow2_own_slice(struct qcow2_task *task, uint64_t offset, struct qcow2_slice **ret)
{
	struct qcow2 *q = task->q;
	uint64_t index = l1_index(q, offset);
	uint64_t entry = qcow2_l1_get(q, index);
	uint64_t table;
	int res = table_offset(q, entry, &table);
	if (res == 0 && !table)
		res = make_table(task, index);
	else if (res == 0 && !(entry & QCOW2_COPIED))
		res = copy_table(task, index, table);
	if (res != 0)
		return res;
	table = qcow2_l1_get(q, index) & QCOW2_OFFSET_MASK;
	return qcow2_slice_get(task, QCOW2_L2, table + slice_offset(q, offset), ret);
}

void qcow2_free_entry(struct qcow2 *q, uint64_t entry)
{
	struct qcow2_map map;
	qcow2_decode(q, entry, &map);
	if (!map.host)
		return;
	uint64_t last = map.host;
	if (map.type == QCOW2_TYPE_COMPRESSED)
		last += map.packed_bytes - 1;
	uint64_t first_cluster = map.host >> q->cluster_bits;
	qcow2_free(q, first_cluster, (last >> q->cluster_bits) - first_cluster + 1);
}
