/*
 * A virtqueue and its driver. The input is a set-up and then a list of actions, each a byte and what it
 * needs: mostly a driver that keeps the rules and a device that serves it, and between any two steps the
 * driver's memory may change: indices, heads, descriptors, indirect tables, or any bytes of the rings.
 *
 * Rules: every buffer that is popped is wholly RAM and the chain adds up; no head is popped twice; a queue
 * breaks for good, and never under a driver that keeps the rules; then also everything given back is
 * collected. Nothing but the ring itself is written.
 */
#include "feed.h"
#include "fuzz.h"

#include "../devices/ring.h"
#include "base/cleanup.h"

#include <errno.h>
#include <string.h>

enum { RAM_BYTES = 256 << 10, RING_GPA = 64 << 10, DATA_GPA = 0x1000, DATA_BYTES = 0x8000 };
enum { DATA_END_GPA = DATA_GPA + DATA_BYTES + 0xff0 }; /* of the last buffer */
enum { SIZE_SMALL_MAX = 64, IOVS = 32, ACTIONS_MAX = 2048 };

struct queue {
	struct guest_memory *memory; /* made once, cleared for every input */
	uint8_t *ram;
	struct ring ring;
	struct virtq vq;
	bool honest;	/* the driver has kept the rules so far */
	bool relocated; /* the device's areas are not where the driver's are */
	bool scribbled; /* the device has written where a dishonest driver told it to */
	struct virtq_chain chains[SIZE_SMALL_MAX];
	struct iovec iov[SIZE_SMALL_MAX][IOVS];
	unsigned flying;
	unsigned given_back, collected; /* since set-up */
};

/* ---- the device ---- */

static void check_chain(const struct queue *queue, const struct virtq_chain *chain)
{
	uint64_t bytes[2] = {0};
	unsigned count = (unsigned)chain->read_count + chain->write_count;
	FUZZ_CHECK(chain->head < queue->vq.setup.size && count <= chain->iov_max);
	FUZZ_CHECK(chain->desc_count >= 1 && chain->desc_count <= queue->vq.setup.size);
	for (unsigned i = 0; i < count; i++) {
		const struct iovec *iov = &chain->iov[i];
		size_t offset = (size_t)((uint8_t *)iov->iov_base - queue->ram);
		FUZZ_CHECK(iov->iov_len && offset < RAM_BYTES && iov->iov_len <= RAM_BYTES - offset);
		bytes[i >= chain->read_count] += iov->iov_len;
	}
	FUZZ_CHECK(bytes[0] == chain->read_bytes && bytes[1] == chain->write_bytes);
	for (unsigned i = 0; i < queue->flying; i++)
		FUZZ_CHECK(queue->chains[i].head != chain->head);
}

static void pop(struct queue *queue, uint16_t iov_max)
{
	if (queue->flying == SIZE_SMALL_MAX)
		return;
	struct virtq_chain *chain = &queue->chains[queue->flying];
	bool was_broken = queue->vq.broken, expected = virtq_has_request(&queue->vq);
	*chain = (struct virtq_chain){.iov = queue->iov[queue->flying], .iov_max = iov_max};
	int r = virtq_pop(&queue->vq, chain);
	FUZZ_CHECK(r == 1 || r == 0 || r == -EPROTO);
	FUZZ_CHECK(queue->vq.broken == (r == -EPROTO) && (!was_broken || r == -EPROTO));
	FUZZ_CHECK(queue->vq.broken || expected == (r == 1));
	if (r == 1) {
		check_chain(queue, chain);
		queue->flying++;
	}
	if (iov_max < IOVS)
		queue->honest &= r >= 0; /* the device may have been too small for the chain */
	FUZZ_CHECK(!queue->honest || r >= 0);
	FUZZ_CHECK(queue->vq.in_flight == queue->flying);
}

/* Takes a chain out of our list; the places keep their iov arrays. */
static void forget(struct queue *queue, unsigned which)
{
	for (queue->flying--; which < queue->flying; which++) {
		queue->chains[which] = queue->chains[which + 1];
		memcpy(queue->iov[which], queue->iov[which + 1], sizeof(queue->iov[which]));
		queue->chains[which].iov = queue->iov[which];
	}
}

static void push(struct queue *queue, uint32_t which, uint32_t written)
{
	if (!queue->flying)
		return;
	which %= queue->flying;
	const struct virtq_chain *chain = &queue->chains[which];
	if (queue->honest)
		written = (uint32_t)(written % (chain->write_bytes + 1));
	int r = virtq_push(&queue->vq, chain, written);
	if (written > chain->write_bytes) {
		FUZZ_CHECK(r == -EINVAL && queue->vq.in_flight == queue->flying);
		return;
	}
	FUZZ_CHECK(r == (queue->vq.broken ? -EPROTO : 0));
	FUZZ_CHECK(virtq_push(&queue->vq, chain, 0) == -EINVAL);
	forget(queue, which);
	queue->given_back++;
	FUZZ_CHECK(queue->vq.in_flight == queue->flying);
}

/* All that is in flight, or all but one. */
static void push_together(struct queue *queue, bool all)
{
	struct virtq_used used[SIZE_SMALL_MAX];
	unsigned count = queue->flying - (!all && queue->flying);
	for (unsigned i = 0; i < count; i++)
		used[i] = (struct virtq_used){.chain = &queue->chains[i]};
	int r = virtq_push_together(&queue->vq, used, count);
	if (count == 0 || queue->vq.setup.in_order) {
		FUZZ_CHECK(r == -EINVAL);
		return;
	}
	FUZZ_CHECK(r == (queue->vq.broken ? -EPROTO : 0));
	for (unsigned i = 0; i < count; i++)
		forget(queue, 0);
	queue->given_back += count;
	FUZZ_CHECK(queue->vq.in_flight == queue->flying);
}

/* The driver's bytes through ours and back. Buffers may be anywhere in RAM, and so on the ring itself. */
static void copy(struct queue *queue, uint32_t offset, uint32_t len)
{
	static uint8_t flat[512];
	if (!queue->flying)
		return;
	const struct virtq_chain *chain = &queue->chains[queue->flying - 1];
	size_t got = virtq_chain_read(chain, offset, flat, len);
	FUZZ_CHECK(got <= len &&
		   (got == len || offset >= chain->read_bytes || got == chain->read_bytes - offset));
	memset(flat, 0xa5, len);
	queue->scribbled |= !queue->honest;
	size_t put = virtq_chain_write(chain, offset, flat, len);
	FUZZ_CHECK(put <= len &&
		   (put == len || offset >= chain->write_bytes || put == chain->write_bytes - offset));
}

static void unpop(struct queue *queue)
{
	if (queue->flying && virtq_unpop(&queue->vq, &queue->chains[queue->flying - 1]) == 0)
		forget(queue, queue->flying - 1);
	FUZZ_CHECK(queue->vq.in_flight == queue->flying);
}

/* ---- the driver ---- */

static void add(struct queue *queue, struct feed *feed)
{
	struct ring_buffer buffers[16];
	uint32_t shape = take(feed, 1);
	size_t count = 1 + shape % 8, reads = shape / 8 % 16;
	bool indirect = queue->ring.setup.indirect && shape & 0x80;
	for (size_t i = 0; i < count; i++) {
		buffers[i].gpa = DATA_GPA + take(feed, 2) % DATA_BYTES;
		buffers[i].len = take(feed, 1) * 16;
		buffers[i].write = i >= reads;
	}
	(void)ring_add(&queue->ring, buffers, count, indirect);
}

static void collect(struct queue *queue)
{
	struct ring_used used;
	int r = ring_collect(&queue->ring, &used);
	FUZZ_CHECK(!queue->honest || r >= 0);
	queue->collected += r == 1;
}

/* Values near the edges of what a ring can hold, or any. */
static uint32_t edge(const struct queue *queue, struct feed *feed)
{
	uint32_t what = take(feed, 1);
	const uint32_t size = queue->ring.setup.size;
	const uint32_t edges[] = {0,
				  1,
				  size - 1,
				  size,
				  size + 1,
				  2 * size,
				  0xffff,
				  0x8000,
				  queue->vq.at.next_avail,
				  queue->vq.at.next_used,
				  0x7fff,
				  UINT32_MAX};
	if (what < 2 * ARRAY_LEN(edges))
		return edges[what / 2] + (what & 1 ? 1U : 0U);
	return what & 1 ? take(feed, 4) : what;
}

static void mutate_desc(struct queue *queue, struct feed *feed)
{
	uint32_t where = take(feed, 2), field = take(feed, 1), value = edge(queue, feed);
	struct ring_desc *desc = &queue->ring.desc[where % queue->ring.setup.size];
	if (queue->ring.tables && field & 0x80)
		desc = &queue->ring.tables[where % ((uint32_t)queue->ring.setup.size * RING_TABLE_MAX)];
	switch (field % 6) {
	case 0:
		desc->addr = field & 0x40 ? (uint64_t)value << 32 | desc->addr : value % (2 * RAM_BYTES);
		break;
	case 1:
		desc->len = value;
		break;
	case 2:
		desc->split.flags ^= (uint16_t)value;
		break;
	case 3:
		desc->packed.flags ^= (uint16_t)value; /* split: next */
		break;
	case 4:
		desc->packed.flags = (uint16_t)value;
		break;
	default:
		desc->packed.id = (uint16_t)value; /* split: flags */
		break;
	}
}

static void mutate(struct queue *queue, struct feed *feed, uint32_t how)
{
	queue->honest = false;
	uint64_t bytes = ring_bytes(&queue->ring.setup);
	uint8_t *areas = queue->ram + RING_GPA;
	uint16_t *entry = &queue->ring.avail->ring[0];
	switch (how) {
	case 0: /* split: idx; packed: both halves of the driver's event area */
		queue->ring.avail->idx = (uint16_t)edge(queue, feed);
		break;
	case 1:
		if (!queue->ring.setup.packed)
			entry[take(feed, 2) % queue->ring.setup.size] = (uint16_t)edge(queue, feed);
		break;
	case 2:
		areas[take(feed, 4) % bytes] = (uint8_t)take(feed, 1);
		break;
	case 3: { /* one piece of the ring over another: entries repeat, areas mix */
		uint64_t from = take(feed, 4) % bytes, to = take(feed, 4) % bytes, len = take(feed, 1);
		if (from + len <= bytes && to + len <= bytes)
			memmove(areas + to, areas + from, len);
		break;
	}
	default:
		mutate_desc(queue, feed);
		break;
	}
}

/* ---- both ---- */

static bool begin(struct queue *queue, struct feed *feed)
{
	static const uint16_t sizes[] = {1, 2, 3, 4, 8, 13, 32, 64};
	uint32_t features = take(feed, 1);
	struct virtq_setup setup = {
		.size = sizes[take(feed, 1) % ARRAY_LEN(sizes)],
		.packed = features & 1,
		.indirect = features & 2,
		.event_idx = features & 4,
		.in_order = features & 8,
	};
	if (!setup.packed && setup.size & (setup.size - 1))
		setup.size = 16;
	memset(queue->ram, 0, RAM_BYTES);
	queue->honest = true;
	queue->relocated = features & 32;
	queue->scribbled = false;
	queue->given_back = queue->collected = 0;
	FUZZ_CHECK(ring_init(&queue->ring, queue->memory, &setup, RING_GPA) == 0);
	uint16_t index = (uint16_t)take(feed, 2);
	if (setup.packed)
		index %= setup.size;
	bool wrap = features & 16;
	struct virtq_position at = {index, index, setup.packed && wrap, setup.packed && wrap};
	ring_start_at(&queue->ring, index, wrap);
	if (queue->relocated) { /* areas somewhere, also on top of each other */
		queue->honest = false;
		uint32_t lies = take(feed, 1);
		if (lies & 1)
			queue->ring.setup.size = (uint16_t)take(feed, 2);
		at.next_used = (uint16_t)(at.next_used + (lies >> 1 & 1));
		at.used_wrap ^= lies >> 2 & 1;
		queue->ring.setup.driver_gpa = RING_GPA + take(feed, 2);
		queue->ring.setup.device_gpa = RING_GPA + take(feed, 2);
		if (features & 64)
			queue->ring.setup.desc_gpa = (uint64_t)take(feed, 4) << 8 | take(feed, 1);
	}
	queue->flying = 0;
	int r = virtq_init(&queue->vq, queue->memory, &queue->ring.setup, &at);
	FUZZ_CHECK(r == 0 || (r == -EINVAL && !queue->honest));
	queue->ring.setup.size = setup.size; /* the driver goes on with the true one */
	return r == 0;
}

static void notify(struct queue *queue, uint32_t what)
{
	if (what == 0)
		(void)ring_enable_interrupt(&queue->ring, 0);
	else if (what == 1)
		ring_disable_interrupt(&queue->ring);
	else if (what == 2)
		(void)virtq_should_interrupt(&queue->vq);
	else if (what == 3)
		FUZZ_CHECK(!virtq_enable_doorbell(&queue->vq) || !queue->vq.broken);
	else if (what == 4)
		virtq_disable_doorbell(&queue->vq);
	else
		(void)ring_wants_doorbell(&queue->ring);
}

/* Saved and restored: only with nothing in flight, and then it goes on. */
static void restore(struct queue *queue)
{
	struct virtq_position at = queue->vq.at;
	if (queue->vq.broken || queue->flying)
		return;
	struct virtq_setup setup = queue->vq.setup;
	FUZZ_CHECK(virtq_init(&queue->vq, queue->memory, &setup, &at) == 0);
}

static void act(struct queue *queue, struct feed *feed)
{
	uint32_t action = take(feed, 1);
	switch (action % 16) {
	case 0:
	case 1:
	case 2:
		add(queue, feed);
		if (action & 0x80)
			break; /* the device does not see it yet */
			       /* fall through */
	case 3:
		ring_publish(&queue->ring);
		break;
	case 4:
	case 5:
	case 6:
		pop(queue, action & 0x80 ? (uint16_t)(take(feed, 1) % IOVS) : IOVS);
		break;
	case 7:
		push(queue, take(feed, 1), take(feed, 2));
		break;
	case 8:
		if (action & 0x80)
			push_together(queue, action & 0x40);
		else
			copy(queue, take(feed, 2), take(feed, 1));
		break;
	case 9:
		unpop(queue);
		break;
	case 10:
	case 11:
		collect(queue);
		break;
	case 12:
		notify(queue, action / 16 % 6);
		break;
	case 13:
		restore(queue);
		break;
	default:
		if (action & 0x80)
			mutate(queue, feed, action / 16 % 8);
		break;
	}
}

/* What is in flight is given back, and the driver gets all of it. */
static void end(struct queue *queue)
{
	while (queue->flying)
		push(queue, 0, 0);
	if (!queue->honest || queue->vq.broken)
		return;
	struct ring_used used;
	while (ring_collect(&queue->ring, &used) == 1)
		queue->collected++;
	FUZZ_CHECK(queue->collected == queue->given_back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct queue queue;
	static const struct memory_config config = {.size_bytes = RAM_BYTES};
	struct feed feed = {data, size};
	struct err err = ERR_INIT;
	if (!queue.memory) {
		FUZZ_CHECK(guest_memory_create(&config, &queue.memory, &err) == 0);
		queue.ram = guest_memory_at(queue.memory, 0, RAM_BYTES);
	}
	if (!begin(&queue, &feed))
		return 0;
	for (unsigned i = 0; i < ACTIONS_MAX && feed.size; i++)
		act(&queue, &feed);
	end(&queue);
	static const uint8_t zeros[RAM_BYTES];
	uint64_t past = RING_GPA + ring_bytes(&queue.ring.setup);
	FUZZ_CHECK(queue.relocated || queue.scribbled ||
		   (memcmp(queue.ram, zeros, DATA_GPA) == 0 &&
		    memcmp(queue.ram + DATA_END_GPA, zeros, RING_GPA - DATA_END_GPA) == 0 &&
		    memcmp(queue.ram + past, zeros, RAM_BYTES - past) == 0));
	return 0;
}
