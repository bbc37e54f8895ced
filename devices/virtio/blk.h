/*
 * The block device (VIRTIO 1.3, 5.2), in two parts: blk.c is the device as the driver configures it, and
 * blk_request.c what it does with requests.
 */
#ifndef AERIE_DEVICES_VIRTIO_BLK_H
#define AERIE_DEVICES_VIRTIO_BLK_H

#include "../backend/block.h"
#include "../backend/ratelimit.h"
#include "base/log.h"
#include "virtio.h"

#include <stdatomic.h>

enum { BLK_SECTOR_BYTES = 512, BLK_ID_BYTES = 20, BLK_QUEUES_MAX = 16 };

/* Discard and write zeroes: ranges in a request, and sectors in a range. */
enum { BLK_RANGES_MAX = 32, BLK_RANGE_SECTORS_MAX = 1 << 22 };

/* Feature bits (5.2.3). */
#define BLK_F_SEG_MAX	   VIRTIO_BIT(2)
#define BLK_F_RO	   VIRTIO_BIT(5)
#define BLK_F_BLK_SIZE	   VIRTIO_BIT(6)
#define BLK_F_FLUSH	   VIRTIO_BIT(9)
#define BLK_F_TOPOLOGY	   VIRTIO_BIT(10)
#define BLK_F_CONFIG_WCE   VIRTIO_BIT(11)
#define BLK_F_MQ	   VIRTIO_BIT(12)
#define BLK_F_DISCARD	   VIRTIO_BIT(13)
#define BLK_F_WRITE_ZEROES VIRTIO_BIT(14)

/* Request types and status (5.2.6). */
enum {
	BLK_T_IN = 0,
	BLK_T_OUT = 1,
	BLK_T_FLUSH = 4,
	BLK_T_GET_ID = 8,
	BLK_T_DISCARD = 11,
	BLK_T_WRITE_ZEROES = 13
};
enum { BLK_S_OK = 0, BLK_S_IOERR = 1, BLK_S_UNSUPP = 2 };

/* 5.2.4, as far as our features go. */
struct blk_config {
	uint64_t capacity; /* sectors */
	uint32_t size_max;
	uint32_t seg_max;
	uint16_t cylinders;
	uint8_t heads, sectors;
	uint32_t blk_size; /* bytes */
	uint8_t physical_block_exp;
	uint8_t alignment_offset;
	uint16_t min_io_size; /* logical blocks */
	uint32_t opt_io_size; /* logical blocks */
	uint8_t writeback;
	uint8_t unused0;
	uint16_t num_queues;
	uint32_t max_discard_sectors;
	uint32_t max_discard_seg;
	uint32_t discard_sector_alignment;
	uint32_t max_write_zeroes_sectors;
	uint32_t max_write_zeroes_seg;
	uint8_t write_zeroes_may_unmap;
	uint8_t unused1[3];
};

/* Requests of up to this many buffers need no memory of their own. */
enum { BLK_INLINE_BUFFERS = 8 };

/* One range of a discard or write zeroes (5.2.6, struct virtio_blk_discard_write_zeroes). */
struct blk_range {
	uint64_t sector;
	uint32_t count; /* sectors */
	uint32_t flags;
};

struct blk_request {
	struct block_request io;
	struct blk_queue *queue;
	struct virtq_chain chain; /* without its iov */
	uint8_t *status;	  /* in guest memory */
	struct iovec *iov;	  /* data: inline_iov, or the request's own memory */
	struct iovec inline_iov[BLK_INLINE_BUFFERS];
	struct blk_range *ranges; /* NULL, or the request's own memory */
	uint32_t range_count, range_at;
	struct blk_request *next; /* of those that wait to be tried again */
};

struct blk_queue {
	struct blk *blk;
	unsigned index;
	struct virtq *vq;	      /* NULL: not in use */
	struct blk_request *requests; /* one for each head */
	unsigned in_flight;
	bool stopping; /* this one alone (RING_RESET) */
	struct loop_op interrupt_op;
};

struct blk {
	struct virtio_device base;
	const struct disk_config *config;
	struct iothread *iothread;
	struct block *block;
	char name[16]; /* "disk0" */

	uint16_t queue_count;

	/* Under the transport's lock. */
	struct blk_config space;
	bool first_writeback; /* what reset gives space.writeback */

	/* Of the queues' thread, but for writeback. */
	uint64_t features;
	_Atomic bool writeback; /* as space.writeback */
	struct blk_queue queues[BLK_QUEUES_MAX];
	struct iovec iov[VIRTQ_SIZE_MAX]; /* where chains are popped to */
	unsigned in_flight;		  /* requests, and the flush below */
	bool active, stopping;

	/* A driver that turns the cache off expects that nothing is left in it. */
	struct loop_op settle_op; /* posted */
	struct block_request settle;
	bool settling, settle_owed;

	/* on_error "retry": requests that the host could not do. */
	struct blk_request *failed;
	struct loop_op retry_op;
	uint64_t complained_ns; /* when the log last had a line of it */

	struct ratelimit limit;
};

/* blk_request.c, all on the I/O thread. */
int blk_queue_start(struct blk *blk, unsigned index); /* -ENOMEM */
void blk_queue_finish(struct blk_queue *queue);	      /* nothing is in flight */
void blk_queue_run(struct blk_queue *queue);	      /* the doorbell */
void blk_retry_now(struct blk *blk);		      /* what waits to be tried again */
void blk_retry_done(struct loop_op *op, int res);
/* Requests that wait to be tried again are dropped: of one queue, or of all (NULL). */
void blk_drop_failed(struct blk *blk, const struct blk_queue *queue);
/* blk.c: something ended; perhaps that is what a stop waits for. */
void blk_ended(struct blk *blk);
/* The config space, from blk->block. */
void blk_fill_space(struct blk *blk);

/* blk_handover.c: of the class. */
int blk_flush(struct device *device, struct err *err);
int blk_release(struct device *device, struct err *err);
int blk_acquire(struct device *device, struct err *err);

#endif
