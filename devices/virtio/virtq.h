/*
 * Virtqueues: split and packed rings (VIRTIO 1.3, 2.7 and 2.8). Knows guest memory and rings, nothing of
 * transports, notifications or devices. One thread uses a queue.
 *
 * Everything in the ring is the guest's and may change while we look: descriptors are copied once, every walk
 * is bounded by the queue size, every buffer must be wholly RAM. A broken ring is -EPROTO, from then on for
 * ever (until virtq_init): the device then needs a reset.
 *
 * Descriptors of length 0 are allowed anywhere (nothing in 2.7 or 2.8 forbids them); they count as
 * descriptors but give no iov, and their address is not looked at. A chain of nothing else is popped with no
 * buffers at all, and the device says what it thinks of that request. An indirect table without a descriptor
 * is broken. 2.7.5.3.1 bounds a chain by the queue size, but Linux makes longer tables: they may have
 * VIRTQ_SIZE_MAX descriptors in a queue of any size.
 */
#ifndef AERIE_DEVICES_VIRTIO_VIRTQ_H
#define AERIE_DEVICES_VIRTIO_VIRTQ_H

#include "memory/memory.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

enum { VIRTQ_SIZE_MAX = 1024 };

/* Where the driver has put it, and what was negotiated. */
struct virtq_setup {
	uint16_t size;	     /* split: a power of two; 1 to VIRTQ_SIZE_MAX */
	uint64_t desc_gpa;   /* descriptor table, or the packed ring */
	uint64_t driver_gpa; /* available ring, or the driver's event suppression */
	uint64_t device_gpa; /* used ring, or the device's event suppression */
	bool packed;	     /* VIRTIO_F_RING_PACKED */
	bool indirect;	     /* VIRTIO_F_INDIRECT_DESC */
	bool event_idx;	     /* VIRTIO_F_EVENT_IDX */
	bool in_order;	     /* VIRTIO_F_IN_ORDER */
};

/* What must survive a save: indices only, the rest is the guest's memory (VIRTIO 1.3, 2.8.10 for packed
 * wraps). */
struct virtq_position {
	uint16_t next_avail;
	uint16_t next_used;
	bool avail_wrap; /* packed */
	bool used_wrap;
};

/* A chain that was popped, for VIRTIO_F_IN_ORDER: its turn to be used may come after its push. */
struct virtq_turn {
	uint32_t written;
	uint16_t head;
	uint16_t desc_count;
	bool pushed;
};

/* What others may read: setup, at, broken, why, in_flight, pops. */
struct virtq {
	const struct guest_memory *memory; /* borrowed */
	struct virtq_setup setup;
	struct virtq_position at;
	bool broken;
	const char *why;    /* when broken: the rule, for the log */
	uint16_t in_flight; /* popped and not pushed: never more than size */
	uint16_t pops;	    /* counts pops, less those undone */

	/* The rest is private to virtq*.c. */
	void *desc, *driver, *device; /* the three areas, wholly RAM for the queue's life */
	uint16_t avail_idx; /* split: the driver's index as last read, so that it is not read for every pop */
	uint16_t slots;	    /* packed: ring slots of the chains in flight */
	uint16_t turn;	    /* in order: the oldest chain that is not used yet */
	uint32_t unsignalled; /* used index (packed: slot) steps since virtq_should_interrupt; saturates */
	bool signalled_valid; /* false after a restore: nobody knows what the driver was told */
	uint64_t busy[VIRTQ_SIZE_MAX / 64]; /* heads in flight */
	struct virtq_turn turns[VIRTQ_SIZE_MAX];
};

/* One request: buffers that the device reads, then those it writes, as host pointers into guest RAM. */
struct virtq_chain {
	uint16_t head;	     /* below size, and no other chain in flight has it: good as an index */
	uint16_t desc_count; /* ring descriptors it took; one for an indirect table */
	uint16_t order;	     /* of its pop, for virtq_push and virtq_unpop */
	uint16_t read_count; /* iov[0 .. read_count) are the driver's to read from */
	uint16_t write_count;
	uint64_t read_bytes, write_bytes;
	uint16_t iov_max;  /* capacity of iov, set by the owner */
	struct iovec *iov; /* the owner's */
};

/*
 * Checks addresses, alignment and size (2.7, 2.8.10.1); -EINVAL with nothing changed. `position` NULL: from
 * the beginning; otherwise as `at` was when nothing was in flight, everything else is -EINVAL. Writes nothing
 * to the guest; doorbells are as the driver's memory says, on in a new ring.
 */
int virtq_init(struct virtq *vq, const struct guest_memory *memory, const struct virtq_setup *setup,
	       const struct virtq_position *position);

/*
 * The next request into `chain` (its iov and iov_max set). 1 got one; 0 none; -EPROTO broken, also when a
 * chain has more than iov_max buffers.
 */
int virtq_pop(struct virtq *vq, struct virtq_chain *chain);

/*
 * For who tracks writes to RAM (memory/dirty.h): virtq_push marks the first `written` bytes of the buffers
 * that the device may write, so a device whose chain has lost its iov by then (NULL), or that wrote elsewhere
 * in them, says what it wrote by this, after writing and before the push.
 */
static inline void virtq_wrote(const struct virtq *vq, const void *host, uint64_t len)
{
	guest_memory_mark(vq->memory, host, len);
}
/* The same for the first `written` bytes of the buffers that it may write. */
void virtq_wrote_chain(const struct virtq *vq, const struct virtq_chain *chain, uint64_t written);

/*
 * Give it back with `written` bytes; in any order. Visible to the driver at once, or with VIRTIO_F_IN_ORDER
 * when all chains popped before it have been pushed. -EPROTO: the queue is broken, nothing was written, the
 * chain is no longer in flight. -EINVAL, a mistake of the caller with nothing changed: the chain is not in
 * flight, or has less room than `written`.
 */
int virtq_push(struct virtq *vq, const struct virtq_chain *chain, uint32_t written);

/*
 * The same for several different chains at once: the driver sees all of them used, or none (5.1.6.4 wants
 * that of the buffers of one packet). Not with VIRTIO_F_IN_ORDER: -EINVAL.
 */
struct virtq_used {
	const struct virtq_chain *chain;
	uint32_t written;
};
int virtq_push_together(struct virtq *vq, const struct virtq_used *used, unsigned count);

/* Undo the latest pop: the next one gets the chain again. -EINVAL when it is not the latest, or not in
 * flight. */
int virtq_unpop(struct virtq *vq, const struct virtq_chain *chain);

/* After pushes: does the driver want an interrupt for what is new since the last time it was told so? */
bool virtq_should_interrupt(struct virtq *vq);

/*
 * Tell the driver whether we want doorbells. After turning them on, true means that requests came in between:
 * pop again, a doorbell may not come.
 */
bool virtq_enable_doorbell(struct virtq *vq);
void virtq_disable_doorbell(struct virtq *vq);

/* Is a request waiting? Without taking it. */
bool virtq_has_request(const struct virtq *vq);

/* Copies between a chain's buffers and flat memory, from `offset`; returns the bytes copied (short at the
 * end). */
size_t virtq_chain_read(const struct virtq_chain *chain, size_t offset, void *dst, size_t len);
size_t virtq_chain_write(const struct virtq_chain *chain, size_t offset, const void *src, size_t len);

#endif
