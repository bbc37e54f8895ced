/*
 * qcow2 images: what the files qcow2_*.c share.
 *
 * Everything happens on the loop's thread, but for opening, closing and resizing, which happen while the loop
 * does not run and do their I/O by system calls (`sync`).
 *
 * A guest's request is a struct qcow2_task. It is done piece by piece; a piece lies within what one slice of
 * an L2 table describes. Where a task has to wait it stands in one queue with `run` set to what comes next;
 * qcow2_wake puts it on the list of those that are ready. Functions that may have to wait return QCOW2_WAIT
 * and are called again, from the start, when the task is woken: they change nothing before they have all they
 * need.
 *
 * Two locks keep tasks apart. The range lock (qcow2_lock.c) is on guest clusters: shared for reads and for
 * writes to clusters that are there, exclusive for all that changes where a guest cluster lies. The metadata
 * lock is held by whoever changes tables, and by the commit. Order: range, buffer, and never a buffer or a
 * range within the metadata lock.
 *
 * Tables are changed in memory only. What makes them durable, in an order that a crash at any point survives,
 * is the commit (qcow2_commit.c). A commit runs only while a guest's request waits for it, or at close.
 */
#ifndef AERIE_DEVICES_BACKEND_QCOW2_H
#define AERIE_DEVICES_BACKEND_QCOW2_H

#include "base/log.h"
#include "block.h"
#include "qcow2_format.h"

#include <endian.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { QCOW2_WAIT = 1 };

enum {
	QCOW2_UNIT_BYTES = 4096, /* tables are read and written in units of this, or of a cluster */
	QCOW2_SLICES_MAX = 2048, /* in memory, not counting those that have to be written */
	QCOW2_DIRTY_MAX = 1024,	 /* slices; more, and the next change commits first */
	QCOW2_FREES_MAX = 4096,	 /* runs that wait for a commit; the same */
	QCOW2_BUCKETS = 1024,
	QCOW2_COMMIT_WRITES = 16,    /* side by side */
	QCOW2_PIECE_BYTES = 1 << 20, /* allocated at once, or one cluster */
	QCOW2_CHAIN_MAX = 32,	     /* images */
	QCOW2_BUFFERS_BYTES = 32 << 20,
};

struct qcow2;
struct qcow2_task;

/* The file below, for what is done without the loop. As block_raw_pread; 0 or -errno. */
struct qcow2_file_ops {
	int (*pread)(struct block *file, void *buf, size_t len, uint64_t offset, struct err *err);
	int (*pwrite)(struct block *file, const void *buf, size_t len, uint64_t offset);
	int (*sync)(struct block *file);
};

extern const struct qcow2_file_ops qcow2_raw_file; /* of block_raw_open */

/* One unit of an L2 table or of a refcount block. */
enum qcow2_kind { QCOW2_L2, QCOW2_REFCOUNTS };

struct qcow2_slice {
	struct qcow2 *q;
	uint64_t offset;
	enum qcow2_kind kind;
	bool loading;
	bool dirty; /* must not be forgotten */
	uint8_t *data;
	struct qcow2_slice *hash_next, *newer, *older;
	struct qcow2_task *waiters;
	struct block_request io;
	struct iovec iov;
};

struct qcow2_run {
	uint64_t cluster, count;
};

/* Cluster numbers of tables in use: data must never be written there. Open addressing, 0 is free (cluster 0
 * is the header's and needs no entry). */
struct qcow2_set {
	uint64_t *slots;
	size_t capacity, used; /* capacity: a power of two, or 0 */
};

enum qcow2_type {
	QCOW2_TYPE_NONE,       /* reads from the backing file, or zeros */
	QCOW2_TYPE_ZERO,       /* `host` is not 0 when it has a cluster all the same */
	QCOW2_TYPE_NORMAL,     /* at `host` */
	QCOW2_TYPE_COMPRESSED, /* at byte `host`, `packed_bytes` at most */
};

/* Where guest bytes are. */
struct qcow2_map {
	enum qcow2_type type;
	bool copied;	/* nobody else uses the cluster: it can be written in place */
	uint64_t host;	/* of the cluster's first byte */
	uint64_t guest; /* the cluster's first byte */
	uint64_t bytes; /* from the byte that was asked for, all of one kind and in a row */
	uint32_t packed_bytes;
};

enum qcow2_lock { QCOW2_UNLOCKED, QCOW2_SHARED, QCOW2_EXCLUSIVE };

struct qcow2_task {
	struct qcow2 *q;
	struct block_request *request; /* the guest's */
	void (*run)(struct qcow2_task *task);
	struct qcow2_task *next; /* in the one queue that it stands in */
	int res;		 /* of the last wait, and in the end of all */
	int load_error;		 /* of a slice that it waited for */

	uint64_t finished;	/* bytes of the request */
	uint64_t offset, bytes; /* the piece, in the guest's disk */
	struct qcow2_map map;	/* of the piece, or of its first cluster */
	struct qcow2_map map_last;
	struct qcow2_map packed_map; /* of a fetch that has to be unpacked */
	uint64_t host;		     /* clusters to write to: the first one's offset */

	enum qcow2_lock lock, wanted;
	uint64_t first, last; /* guest clusters that it locks */
	struct qcow2_task *lock_prev, *lock_next;

	uint64_t new_table; /* of an L2 table that is being copied; 0: none */
	uint32_t new_slices;
	uint64_t commits; /* that had begun when a flush was submitted */
	void (*then)(struct qcow2_task *task);

	/* I/O. The buffers are held within a slot of q->buffers. */
	bool has_buffer;
	uint8_t *buffer;   /* what is copied from the old clusters */
	uint8_t *packed;   /* compressed, as read */
	uint8_t *unpacked; /* a cluster */
	struct iovec *iov;
	unsigned iov_count;
	struct iovec part;
	uint64_t skip; /* within the cluster: where a fetch begins */
	struct block_request io;
};

enum qcow2_phase {
	QCOW2_PHASE_REFCOUNTS,
	QCOW2_PHASE_REFTABLE,
	QCOW2_PHASE_HEADER,
	QCOW2_PHASE_L2,
	QCOW2_PHASE_L1,
	QCOW2_PHASE_END,
};

struct qcow2_write {
	struct qcow2 *q;
	bool busy;
	struct block_request io;
	struct iovec iov;
};

struct qcow2_commit {
	enum qcow2_phase phase;
	struct qcow2_task *task; /* that waits for it */
	void (*then)(struct qcow2_task *task);
	struct qcow2_slice **slices; /* dirty, by offset */
	size_t slice_count, slice_capacity;
	size_t cursor; /* within the phase */
	bool wrote;    /* in this phase */
	bool syncing;
	int error;
	unsigned outstanding;
	struct qcow2_write writes[QCOW2_COMMIT_WRITES];
};

struct qcow2_queue {
	struct qcow2_task *head, *tail;
};

struct qcow2 {
	struct block block;
	struct block *file;
	const struct qcow2_file_ops *file_ops;
	struct block *backing; /* NULL: none */
	char *path;
	bool discard, writethrough;
	bool has_zero; /* version 3: clusters can read as zeros */
	bool sync;     /* no loop: I/O by file_ops */
	enum qcow2_compression compression;
	struct log_limit complaints;

	uint32_t cluster_bits, cluster_bytes;
	uint32_t unit_bytes;
	uint32_t snapshots;
	uint8_t *header; /* its first unit, as on disk */

	uint64_t *l1; /* as on disk, padded to whole units */
	uint32_t l1_entries, l1_units;
	uint64_t l1_offset;
	bool *l1_dirty; /* each unit */

	uint32_t refcount_bits;
	uint32_t refcounts_log2; /* log2 of the refcounts in a block */
	uint64_t *reftable;	 /* as on disk */
	uint32_t reftable_clusters;
	uint64_t reftable_offset;
	bool *reftable_dirty; /* each unit */
	bool reftable_moved;  /* the whole table has to be written, and the header */
	uint64_t next_free;   /* no cluster before this one is free */
	struct qcow2_set metadata;
	/* Clusters that the tables no longer name. They are freed when the tables that say so are durable. */
	struct qcow2_run *frees;
	size_t free_count, free_capacity, free_at;
	uint64_t free_done; /* clusters of frees[free_at] */
	bool free_punch;    /* all of them are free now */

	struct qcow2_slice *buckets[QCOW2_BUCKETS];
	struct qcow2_slice *newest, *oldest;
	size_t slice_count, dirty_count;

	bool running; /* qcow2_run_ready */
	struct qcow2_queue ready, finished;
	struct qcow2_task *holders; /* of the range lock */
	unsigned exclusive_holders;
	struct qcow2_queue range_queue;
	struct qcow2_task *meta_owner;
	struct qcow2_queue meta_queue;
	unsigned buffers; /* slots that are free */
	struct qcow2_queue buffer_queue;

	struct qcow2_commit commit;
	uint64_t commits_begun, last_good_commit; /* counted from 1 */
};

static inline uint64_t qcow2_l1_get(const struct qcow2 *q, uint64_t index)
{
	return be64toh(q->l1[index]);
}

static inline uint64_t qcow2_entry_get(const struct qcow2_slice *slice, size_t index)
{
	uint64_t v;
	memcpy(&v, slice->data + 8 * index, sizeof(v));
	return be64toh(v);
}

static inline void qcow2_entry_set(struct qcow2_slice *slice, size_t index, uint64_t entry)
{
	uint64_t v = htobe64(entry);
	memcpy(slice->data + 8 * index, &v, sizeof(v));
}

static inline uint64_t qcow2_reftable_get(const struct qcow2 *q, uint64_t index)
{
	return be64toh(q->reftable[index]) & QCOW2_REFTABLE_MASK;
}

static inline uint64_t qcow2_reftable_entries(const struct qcow2 *q)
{
	return (uint64_t)q->reftable_clusters << (q->cluster_bits - 3);
}

/* Entries of an L2 slice, and the guest clusters that it describes. */
static inline uint64_t qcow2_slice_entries(const struct qcow2 *q)
{
	return q->unit_bytes / 8;
}

/* Broken tables: a message at a limited rate, and -EIO. */
int qcow2_broken(struct qcow2 *q, const char *what, uint64_t offset);

/* ---- qcow2_open.c ---- */

struct qcow2_options {
	const char *path; /* for messages */
	bool read_only, discard, writethrough, direct;
	uint32_t block_size;
};

/*
 * An image whose file, and backing file if the header names one (else NULL), are open. Takes both over X
 */
int qcow2_attach(struct block *file, const struct qcow2_file_ops *ops, struct block *backing,
		 const struct qcow2_header *header, const struct qcow2_options *options, struct loop *loop,
		 struct block **ret, struct err *err);
/* The header of an open file. */
int qcow2_read_header(struct block *file, const struct qcow2_file_ops *ops,
		      const struct qcow2_options *options, struct qcow2_header *ret, struct err *err);

/* ---- qcow2_chain.c ---- */

int qcow2_open(const struct disk_config *config, struct loop *loop, struct block **ret, struct err *err);

/* ---- qcow2_task.c ---- */

void qcow2_submit(struct block *block, struct block_request *request);
void qcow2_push(struct qcow2_queue *queue, struct qcow2_task *task);
struct qcow2_task *qcow2_pop(struct qcow2_queue *queue);
void qcow2_wake(struct qcow2_task *task, void (*run)(struct qcow2_task *task));
void qcow2_run_ready(struct qcow2 *q);			 /* at the end of every callback of the loop */
void qcow2_piece_done(struct qcow2_task *task, int res); /* of task->bytes */
void qcow2_lower(struct qcow2_task *task, struct block *lower, void (*then)(struct qcow2_task *task));
/* `len` bytes of the request's buffers, from `skip` on, to task->iov; false: no memory. */
bool qcow2_slice_iov(struct qcow2_task *task, uint64_t skip, uint64_t len);
/* Buffers of so many bytes; the task has a slot. -ENOMEM. */
int qcow2_take_buffer(struct qcow2_task *task, uint8_t **ret, size_t bytes);

/* ---- qcow2_lock.c ---- */

/* Guest bytes; goes on in `run` at once or later. */
void qcow2_lock_range(struct qcow2_task *task, enum qcow2_lock lock, uint64_t offset, uint64_t bytes,
		      void (*run)(struct qcow2_task *task));
void qcow2_unlock_range(struct qcow2_task *task);
void qcow2_lock_meta(struct qcow2_task *task, void (*run)(struct qcow2_task *task));
void qcow2_unlock_meta(struct qcow2_task *task);
void qcow2_lock_buffer(struct qcow2_task *task, void (*run)(struct qcow2_task *task));
void qcow2_unlock_buffer(struct qcow2_task *task); /* frees the task's buffers */

/* ---- qcow2_cache.c ---- */

/* 0, QCOW2_WAIT, or -errno. The slice is good until the task waits or takes 32 others. */
int qcow2_slice_get(struct qcow2_task *task, enum qcow2_kind kind, uint64_t offset, struct qcow2_slice **ret);
/* A dirty slice of zeros where nothing was, or nothing that matters. NULL: no memory. */
struct qcow2_slice *qcow2_slice_new(struct qcow2 *q, enum qcow2_kind kind, uint64_t offset);
/* All slices of a new table; -ENOMEM leaves none. */
int qcow2_table_new(struct qcow2 *q, enum qcow2_kind kind, uint64_t offset);
void qcow2_table_drop(struct qcow2 *q, uint64_t offset, uint32_t slices);
void qcow2_slice_dirty(struct qcow2_slice *slice);
void qcow2_cache_free(struct qcow2 *q);

/* ---- qcow2_set.c ---- */

int qcow2_set_add(struct qcow2_set *set, uint64_t cluster); /* -EEXIST, -ENOMEM */
void qcow2_set_remove(struct qcow2_set *set, uint64_t cluster);
bool qcow2_set_has(const struct qcow2_set *set, uint64_t cluster);
/* Does the cluster hold a table, or the header? */
bool qcow2_is_metadata(const struct qcow2 *q, uint64_t cluster);

/* ---- qcow2_refcount.c: under the metadata lock, but for qcow2_free ---- */

uint64_t qcow2_refcount_get(const uint8_t *data, size_t index, uint32_t bits);
void qcow2_refcount_set(uint8_t *data, size_t index, uint32_t bits, uint64_t value);
/* Up to `want` clusters in a row, their refcounts set to 1. */
int qcow2_alloc(struct qcow2_task *task, uint64_t want, struct qcow2_run *ret);
/* One reference less, after the next commit. */
void qcow2_free(struct qcow2 *q, uint64_t cluster, uint64_t count);
/* After a commit; goes on in `then`. Clusters whose refcounts cannot be read stay lost. */
void qcow2_apply_frees(struct qcow2_task *task, void (*then)(struct qcow2_task *task));

/* ---- qcow2_reftable.c ---- */

int qcow2_refblock_new(struct qcow2 *q, uint64_t index);
int qcow2_reftable_grow(struct qcow2 *q);

/* ---- qcow2_map.c ---- */

/* Where the piece's bytes are, as far as they are in a row. 0, QCOW2_WAIT, -errno. */
int qcow2_lookup(struct qcow2_task *task, uint64_t offset, uint64_t bytes, struct qcow2_map *ret);
void qcow2_decode(const struct qcow2 *q, uint64_t entry, struct qcow2_map *ret); /* type, copied, host */
/* The slice of an L2 table of our own that describes `offset`; makes the table if there is none. Under the
 * metadata lock. */
int qcow2_own_slice(struct qcow2_task *task, uint64_t offset, struct qcow2_slice **ret);
size_t qcow2_slice_index(const struct qcow2 *q, uint64_t offset);
void qcow2_free_entry(struct qcow2 *q, uint64_t entry); /* whatever clusters it names */

/* ---- qcow2_commit.c ---- */

/* Make all tables durable, and the data before them. Under the metadata lock. task->res, then `then`. */
void qcow2_commit(struct qcow2_task *task, void (*then)(struct qcow2_task *task));
int qcow2_commit_sync(struct qcow2 *q);
/* True when the task first has to commit; goes on in `then`, with an error in task->res. */
bool qcow2_commit_if_full(struct qcow2_task *task, void (*then)(struct qcow2_task *task));

/* ---- the commands: each does task->offset to at most task->bytes and ends in qcow2_piece_done ---- */

void qcow2_read_piece(struct qcow2_task *task);
void qcow2_write_piece(struct qcow2_task *task);
void qcow2_zero_piece(struct qcow2_task *task);
void qcow2_discard_piece(struct qcow2_task *task);
void qcow2_write_zeros_as_data(struct qcow2_task *task); /* range is locked exclusively */

/* Guest bytes [offset, offset + bytes), which `map` describes, to task->iov; goes on in `then` with
 * task->res. Compressed: the task has a buffer slot. */
void qcow2_fetch(struct qcow2_task *task, const struct qcow2_map *map, uint64_t offset, uint64_t bytes,
		 void (*then)(struct qcow2_task *task));

/* ---- qcow2_unpack.c ---- */

/* 0 when it gave `out_bytes`, -EIO when it is broken, -ENOMEM. */
int qcow2_unpack(enum qcow2_compression by, const uint8_t *in, size_t in_bytes, uint8_t *out,
		 size_t out_bytes);

#endif
