/*
 * Disk images: what lies between a disk device and the host's storage.
 *
 * A `struct block` is an open image of one format. Its user fills a `struct block_request` (embedded in its
 * own request) and submits it; `done` follows later on the loop's thread, never from within block_submit.
 * Requests run side by side and end in any order: who needs an order waits. An image whose requests overlap
 * while they run has either result for the overlap.
 *
 * Threads: open, refresh and close may run on any thread while nothing else uses the image and, if something
 * was submitted before, the loop's thread is that thread or does not run. All else happens on the loop's
 * thread.
 *
 * Formats stack: qcow2 opens its file, and its backing file, as blocks of their own (block_raw_open).
 */
#ifndef AERIE_DEVICES_BACKEND_BLOCK_H
#define AERIE_DEVICES_BACKEND_BLOCK_H

#include "base/err.h"
#include "config/config.h"
#include "host/loop.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

enum block_command {
	BLOCK_READ,
	BLOCK_WRITE,
	BLOCK_FLUSH,	    /* all that was done before this was submitted survives a loss of power */
	BLOCK_DISCARD,	    /* a hint: afterwards the range reads as it was, or as zeros */
	BLOCK_WRITE_ZEROES, /* reads as zeros from now on */
};

struct block;

struct block_request {
	/* By the user, and left alone until `done`. */
	enum block_command command;
	bool fua;   /* WRITE, WRITE_ZEROES, DISCARD: done means durable, as if a flush followed */
	bool unmap; /* WRITE_ZEROES: storage may be given back */
	uint64_t offset;
	uint64_t bytes; /* READ, WRITE: the sum of iov; FLUSH: 0 */
	/* READ, WRITE. Array and buffers are borrowed until `done`; buffers may be guest memory, any
	 * alignment. */
	const struct iovec *iov;
	unsigned iov_count; /* at most IOV_MAX */
	/* 0, or -errno: then a write's range may hold old and new data mixed. May free the request. */
	void (*done)(struct block_request *request, int res);

	/* By the block that it was submitted to. */
	struct block *block;
	struct block_request *next;
	void *state; /* for formats that need more */
	struct loop_op op;
	uint64_t finished; /* bytes */
	struct iovec part; /* of what has to be done piecewise */
	void *bounce;
	uint8_t step;
	uint8_t attempts;
};

struct block_ops {
	const char *name;
	/* The range lies within the image, `bytes` is not 0 (but for FLUSH), the image is writable if it has
	 * to be. */
	void (*submit)(struct block *block, struct block_request *request);
	/*
	 * Set size_bytes to what the host says now; first, if `bytes` is not 0, make the image that large
	 * (the guest's data beyond it is lost when it shrinks).
	 */
	int (*resize)(struct block *block, uint64_t bytes, struct err *err);
	void (*close)(struct block *block); /* nothing is in flight; frees the block */
};

/* The head of every format's own struct. All but size_bytes is constant after open. */
struct block {
	const struct block_ops *ops;
	struct loop *loop;
	uint64_t size_bytes; /* what the guest sees; of a container, where its file ends */
	bool extends;	     /* a container: requests may go beyond size_bytes */
	bool read_only;
	/* What requests should be aligned to for speed, bytes, powers of two; 0: unknown. */
	uint32_t physical_block_bytes;
	uint32_t optimal_io_bytes;
	/* Alignment at which discards give storage back, bytes. */
	uint32_t discard_bytes;
};

/* Open what `config` names. Errors name the path and what would be accepted. */
int block_open(const struct disk_config *config, struct loop *loop, struct block **ret, struct err *err);
/*
 * How large the guest finds it, without opening it for a machine: another one may have it and write to it.
 * Any thread. -EINVAL: it is no image of that format.
 */
int block_look(const struct disk_config *config, uint64_t *ret_bytes, struct err *err);
/*
 * One lock on the whole file, held by the open file description: a dead machine holds none. It also excludes
 * the byte locks that QEMU's tools take. Readers share it. -EBUSY names who may have it.
 */
int block_lock(int fd, const char *path, bool read_only, struct err *err);
void block_unlock(int fd); /* before closing it: an io_uring may keep the file open for a while yet */

/*
 * Holds the place of an image that another machine has: as large and as writable as `like`, but every request
 * is -EIO.
 */
int block_absent_open(const struct block *like, struct block **ret, struct err *err);
bool block_is_absent(const struct block *block);

void block_close(struct block *block); /* nothing is in flight; NULL is fine */

/* Out of range: -EINVAL; a change of a read-only image: -EROFS; both by `done`, as all else. */
void block_submit(struct block *block, struct block_request *request);

/* See struct block_ops. Not while requests that need the old size are in flight. */
int block_resize(struct block *block, uint64_t bytes, struct err *err);

/* For formats: end a request with `res` on the loop's next round. */
void block_finish_later(struct block_request *request, int res);

/*
 * A plain file or a block device, as such or as the container of a format.
 *
 * The file is locked (an OFD lock on all of it) until close: shared for readers, exclusive for writers;
 * -EBUSY when somebody else has it.
 */
struct block_raw_spec {
	const char *path;
	bool read_only;
	bool direct;	   /* O_DIRECT; guest buffers that do not suit are copied */
	bool writethrough; /* every write is durable when it is done */
	bool discard;	   /* else discards do nothing, and zeroes are written without unmapping */
	bool container;	   /* writes beyond the end extend the file, reads there give zeros; else both fail */
	uint32_t block_size; /* offsets and lengths are multiples of it, a power of two; what O_DIRECT cannot
				is refused */
};

int block_raw_open(const struct block_raw_spec *spec, struct loop *loop, struct block **ret, struct err *err);

/* For formats that read their tables before the loop runs: all of it or an error (-EIO: beyond the end). */
int block_raw_pread(struct block *raw, void *buf, size_t len, uint64_t offset, struct err *err);

#endif
