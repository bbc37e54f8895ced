/*
 * What the two ring layouts share: how the guest's memory is read, how a chain is judged, what is in flight.
 *
 * The rings are shared with the driver's CPUs. Every access that synchronises is one atomic of its natural
 * size, little-endian as the host; what it pairs with on the driver's side stands beside it.
 */
#ifndef AERIE_DEVICES_VIRTIO_VIRTQ_IMPL_H
#define AERIE_DEVICES_VIRTIO_VIRTQ_IMPL_H

#include "virtq.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

/* 2.7.5 and 2.8.13: the layouts differ in the last four bytes only. */
struct virtq_desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags;
	uint16_t next;
};

struct pvirtq_desc {
	uint64_t addr;
	uint32_t len;
	uint16_t id;
	uint16_t flags;
};

static_assert(sizeof(struct virtq_desc) == 16 && sizeof(struct pvirtq_desc) == 16, "2.7.5, 2.8.13");

enum {
	VIRTQ_DESC_F_NEXT = 1 << 0,
	VIRTQ_DESC_F_WRITE = 1 << 1,
	VIRTQ_DESC_F_INDIRECT = 1 << 2,
	VIRTQ_DESC_F_AVAIL = 1 << 7,
	VIRTQ_DESC_F_USED = 1 << 15,
};

enum { VIRTQ_DESC_BYTES = 16 };

/* 2.7.5.2 */
#define VIRTQ_CHAIN_BYTES_MAX (UINT64_C(1) << 32)

/*
 * Copies a descriptor once. The asm makes the copy opaque: the compiler cannot go back to the guest's memory
 * for a field that was judged already. Indirect tables have no alignment, hence no atomics.
 */
static inline void virtq_copy_desc(void *desc, const void *ring, size_t index)
{
	uint64_t words[2];
	memcpy(words, (const uint8_t *)ring + VIRTQ_DESC_BYTES * index, VIRTQ_DESC_BYTES);
	__asm__ volatile("" : "+r"(words[0]), "+r"(words[1]));
	memcpy(desc, words, VIRTQ_DESC_BYTES);
}

static inline int virtq_break(struct virtq *vq, const char *why)
{
	vq->broken = true;
	vq->why = why;
	return -EPROTO;
}

static inline bool virtq_is_busy(const struct virtq *vq, uint16_t head)
{
	return vq->busy[head / 64] >> head % 64 & 1;
}

/* Is the entry at `event` among the `count` entries before `next`, on a circle of `modulus`? (2.7.7, 2.8.10)
 */
static inline bool virtq_event_passed(uint32_t event, uint32_t next, uint32_t count, uint32_t modulus)
{
	return (event + modulus + count - next) % modulus < count;
}

static inline void virtq_count_used(struct virtq *vq, uint16_t steps)
{
	if (vq->unsignalled <= UINT32_MAX - steps)
		vq->unsignalled += steps;
}

/* virtq.c: one descriptor's buffer into the chain; all descriptors of an indirect table. */
int virtq_add_buffer(struct virtq *vq, struct virtq_chain *chain, uint64_t addr, uint32_t len, bool write);
int virtq_find_table(struct virtq *vq, uint64_t addr, uint32_t len, const void **ret_table,
		     uint32_t *ret_count);

/*
 * The layouts. pop fills the chain and moves `at`, or breaks the queue; publish shows used chains to the
 * driver, all at once; rewind moves `at` back before a popped chain.
 */
int virtq_split_init(struct virtq *vq);
int virtq_split_pop(struct virtq *vq, struct virtq_chain *chain);
void virtq_split_publish(struct virtq *vq, const struct virtq_turn *used, unsigned count);
void virtq_split_rewind(struct virtq *vq, const struct virtq_chain *chain);
bool virtq_split_wants_interrupt(struct virtq *vq, uint32_t count);
void virtq_split_set_doorbell(struct virtq *vq, bool enable);
bool virtq_split_has_request(const struct virtq *vq);

int virtq_packed_init(struct virtq *vq);
int virtq_packed_pop(struct virtq *vq, struct virtq_chain *chain);
void virtq_packed_publish(struct virtq *vq, const struct virtq_turn *used, unsigned count);
void virtq_packed_rewind(struct virtq *vq, const struct virtq_chain *chain);
bool virtq_packed_wants_interrupt(struct virtq *vq, uint32_t count);
void virtq_packed_set_doorbell(struct virtq *vq, bool enable);
bool virtq_packed_has_request(const struct virtq *vq);

#endif
