/*
 * The driver's side of a virtqueue, in this process: split and packed rings (VIRTIO 1.3, 2.7 and 2.8) for
 * tests and benchmarks of devices. It knows nothing of devices/virtio/virtq*.c but the set-up, so that both
 * sides are written from the specification and check each other. One thread uses a ring; the device may be on
 * another.
 *
 *	struct ring ring;
 *	ring_init(&ring, memory, &(struct virtq_setup){.size = 256, .event_idx = true}, 1 * MIB);
 *	... hand ring.setup to the device ...
 *	int id = ring_add(&ring, (struct ring_buffer[]){{gpa, 16, false}, {gpa + 4096, 512, true}}, 2, false);
 *	ring_publish(&ring);
 *	if (ring_wants_doorbell(&ring))
 *		...
 *	struct ring_used used;
 *	while (ring_collect(&ring, &used) > 0)
 *		... used.id, used.len ...
 */
#ifndef AERIE_TESTS_DEVICES_RING_H
#define AERIE_TESTS_DEVICES_RING_H

#include "../../devices/virtio/virtq.h"

enum { RING_TABLE_MAX = 64 }; /* descriptors in an indirect table */

enum { RING_NEXT = 1, RING_WRITE = 2, RING_INDIRECT = 4, RING_AVAIL = 0x80, RING_USED = 0x8000 };

struct ring_buffer {
	uint64_t gpa;
	uint32_t len; /* bytes */
	bool write;   /* the device writes it; after those that it reads */
};

struct ring_used {
	uint16_t id; /* as ring_add returned it */
	uint32_t len;
};

/* Both layouts; the last two fields are next and nothing in a split ring, see 2.7.5 and 2.8.13. */
struct ring_desc {
	uint64_t addr;
	uint32_t len;
	union {
		struct {
			uint16_t flags, next;
		} split;
		struct {
			uint16_t id, flags;
		} packed;
	};
};

struct ring_avail {
	uint16_t flags, idx, ring[]; /* then le16 used_event */
};

struct ring_used_elem {
	uint32_t id, len;
};

struct ring_used_ring {
	uint16_t flags, idx;
	struct ring_used_elem ring[]; /* then le16 avail_event */
};

struct ring {
	struct virtq_setup setup; /* for the device */

	/* The areas, for tests that break rules. */
	struct ring_desc *desc;
	union {
		struct ring_avail *avail;
		uint32_t *driver_event; /* packed */
	};
	union {
		struct ring_used_ring *used;
		uint32_t *device_event;
	};
	uint16_t *used_event, *avail_event; /* split */
	uint64_t tables_gpa;		    /* RING_TABLE_MAX descriptors for each id */
	struct ring_desc *tables;

	/* The driver's own memory. next_ are indices: free-running (split) or slots (packed). */
	uint16_t next_avail, next_used;
	bool avail_wrap, used_wrap;
	uint16_t published; /* next_avail as the device knows it */
	bool published_wrap;
	uint32_t unannounced;		      /* available steps since ring_wants_doorbell */
	uint16_t free_desc;		      /* ring descriptors */
	uint16_t outstanding;		      /* chains */
	uint16_t free_head;		      /* split: first free descriptor; packed: first free id */
	uint16_t chain_len[VIRTQ_SIZE_MAX];   /* by id; 0: not outstanding */
	uint16_t link[VIRTQ_SIZE_MAX];	      /* free list, and split chains */
	uint64_t room[VIRTQ_SIZE_MAX];	      /* by id: bytes the device may write */
	uint16_t first_flags[VIRTQ_SIZE_MAX]; /* packed, by slot: withheld until published */
	uint16_t order[VIRTQ_SIZE_MAX];	      /* in order: ids as they were added */
	uint16_t order_in, order_out;
};

/* What ring_init takes of guest memory, in bytes. */
uint64_t ring_bytes(const struct virtq_setup *setup);

/*
 * A new ring at `gpa` (a multiple of 16). Of `setup` size and features are read; ring->setup gets the
 * addresses too. -EINVAL when it does not fit into RAM. Nothing to finish.
 */
int ring_init(struct ring *ring, const struct guest_memory *memory, const struct virtq_setup *setup,
	      uint64_t gpa);

/*
 * Places a chain, direct or in an indirect table; the device does not see it before ring_publish. Returns its
 * id (below size, unique among the outstanding) or -ENOSPC. Addresses and order are not checked: tests lie.
 */
int ring_add(struct ring *ring, const struct ring_buffer *buffers, size_t count, bool indirect);
void ring_publish(struct ring *ring);

/* After ring_publish: does the device want a doorbell for what was added since it was asked last? */
bool ring_wants_doorbell(struct ring *ring);

/* The next used chain: 1, 0 for none, -EPROTO when the device broke a rule (a test fails then). */
int ring_collect(struct ring *ring, struct ring_used *ret);

/*
 * Interrupts on: for the next used chain, with event_idx after `skip` more used entries (packed: slots) than
 * that. Returns true when there is something to collect already.
 */
bool ring_enable_interrupt(struct ring *ring, uint16_t skip);
void ring_disable_interrupt(struct ring *ring);

/* Start a new ring at these indices, as if so much traffic had passed (packed: below size). Before any add.
 */
void ring_start_at(struct ring *ring, uint16_t index, bool wrap);

#endif
