/*
 * The packed ring (VIRTIO 1.3, 2.8). One ring of struct pvirtq_desc [size], aligned to 16, that both sides
 * write, and for each side an event suppression area of 4 bytes, aligned to 4:
 *
 *	bits 0 to 14	offset into the ring		bit 15	wrap counter
 *	bits 16, 17	RING_EVENT_FLAGS_*		the rest 0
 *
 * A descriptor is available when AVAIL is our wrap counter and USED is not; we make it used by setting both
 * to our counter (2.8.1). A used chain takes one descriptor, but the next one is written as many slots
 * further on as the chain had.
 */
#include "virtq_impl.h"

enum { EVENT_ENABLE = 0, EVENT_DISABLE = 1, EVENT_DESC = 2, EVENT_FLAGS_SHIFT = 16, EVENT_FLAGS_MASK = 3 };
enum { EVENT_OFFSET_MASK = 0x7fff, EVENT_WRAP_SHIFT = 15 };

int virtq_packed_init(struct virtq *vq)
{
	const struct virtq_setup *setup = &vq->setup;
	if (setup->desc_gpa % 16 || setup->driver_gpa % 4 || setup->device_gpa % 4)
		return -EINVAL; /* 2.8.10.1 */
	if (vq->at.next_avail >= setup->size)
		return -EINVAL;
	vq->desc = guest_memory_at(vq->memory, setup->desc_gpa, (uint64_t)VIRTQ_DESC_BYTES * setup->size);
	vq->driver = guest_memory_at(vq->memory, setup->driver_gpa, sizeof(uint32_t));
	vq->device = guest_memory_at(vq->memory, setup->device_gpa, sizeof(uint32_t));
	return vq->desc && vq->driver && vq->device ? 0 : -EINVAL;
}

static struct pvirtq_desc *slot(const struct virtq *vq, uint16_t index)
{
	return (struct pvirtq_desc *)vq->desc + index;
}

/*
 * Acquire: pairs with the driver's write barrier (a release store) between writing a chain and making its
 * first descriptor available, which it does last (2.8.6): all of the chain is complete when we read it.
 */
bool virtq_packed_has_request(const struct virtq *vq)
{
	uint16_t flags = __atomic_load_n(&slot(vq, vq->at.next_avail)->flags, __ATOMIC_ACQUIRE);
	bool avail = flags & VIRTQ_DESC_F_AVAIL, used = flags & VIRTQ_DESC_F_USED;
	return avail == vq->at.avail_wrap && used != vq->at.avail_wrap;
}

/* ---- descriptors to a chain ---- */

/* 2.8.7: every descriptor of the table, in order; of their flags only WRITE counts, the rest is ignored. */
static int walk_table(struct virtq *vq, struct virtq_chain *chain, const struct pvirtq_desc *indirect)
{
	const void *table;
	uint32_t count;
	int r = virtq_find_table(vq, indirect->addr, indirect->len, &table, &count);
	if (r == 0 && count > VIRTQ_SIZE_MAX)
		return virtq_break(vq, "an indirect table too long");
	for (uint32_t i = 0; r == 0 && i < count; i++) {
		struct pvirtq_desc desc;
		virtq_copy_desc(&desc, table, i);
		r = virtq_add_buffer(vq, chain, desc.addr, desc.len, desc.flags & VIRTQ_DESC_F_WRITE);
	}
	return r;
}

/* A list is either direct descriptors or one indirect (2.8.19); its id is that of the last one (2.8.6). */
static int walk(struct virtq *vq, struct virtq_chain *chain)
{
	uint16_t index = vq->at.next_avail;
	for (;;) {
		struct pvirtq_desc desc;
		if (vq->slots + chain->desc_count == vq->setup.size)
			return virtq_break(vq, "more descriptors available than the ring has");
		virtq_copy_desc(&desc, vq->desc, index);
		chain->head = desc.id;
		chain->desc_count++;
		if (desc.flags & VIRTQ_DESC_F_INDIRECT) {
			if (chain->desc_count > 1 || (desc.flags & VIRTQ_DESC_F_NEXT))
				return virtq_break(vq, "an indirect descriptor in a list of direct ones");
			return walk_table(vq, chain, &desc);
		}
		int r = virtq_add_buffer(vq, chain, desc.addr, desc.len, desc.flags & VIRTQ_DESC_F_WRITE);
		if (r < 0 || !(desc.flags & VIRTQ_DESC_F_NEXT))
			return r;
		index = (uint16_t)(index + 1 == vq->setup.size ? 0 : index + 1);
	}
}

/* Forward by at most size. The counter changes after the last descriptor of the ring (2.8.1). */
static void advance(const struct virtq *vq, uint16_t *index, bool *wrap, uint16_t count)
{
	uint32_t next = (uint32_t)*index + count;
	if (next >= vq->setup.size) {
		next -= vq->setup.size;
		*wrap = !*wrap;
	}
	*index = (uint16_t)next;
}

/*
 * Nothing in 2.8 bounds a buffer's id. Every driver numbers its buffers below the queue size, as the
 * specification's own example asserts (2.8.22), and devices index by it; other ids break the queue.
 */
int virtq_packed_pop(struct virtq *vq, struct virtq_chain *chain)
{
	if (!virtq_packed_has_request(vq))
		return 0;
	int r = walk(vq, chain);
	if (r < 0)
		return r;
	if (chain->head >= vq->setup.size)
		return virtq_break(vq, "a buffer id beyond the queue size");
	if (virtq_is_busy(vq, chain->head))
		return virtq_break(vq, "a buffer id that the device has already");
	vq->slots = (uint16_t)(vq->slots + chain->desc_count);
	advance(vq, &vq->at.next_avail, &vq->at.avail_wrap, chain->desc_count);
	return 1;
}

void virtq_packed_rewind(struct virtq *vq, const struct virtq_chain *chain)
{
	uint16_t back = chain->desc_count;
	vq->slots = (uint16_t)(vq->slots - back);
	if (back > vq->at.next_avail) {
		vq->at.avail_wrap = !vq->at.avail_wrap;
		vq->at.next_avail = (uint16_t)(vq->at.next_avail + vq->setup.size);
	}
	vq->at.next_avail = (uint16_t)(vq->at.next_avail - back);
}

/* ---- used ---- */

static void write_used(const struct virtq *vq, uint16_t index, bool wrap, const struct virtq_turn *used)
{
	struct pvirtq_desc *desc = slot(vq, index);
	unsigned flags = wrap ? VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED : 0;
	if (used->written)
		flags |= VIRTQ_DESC_F_WRITE; /* len is valid: 2.8.4 */
	__atomic_store_n(&desc->id, used->head, __ATOMIC_RELAXED);
	__atomic_store_n(&desc->len, used->written, __ATOMIC_RELAXED);
	/*
	 * Release: pairs with the driver's read barrier (an acquire load) between seeing the descriptor used
	 * and reading its id, length and buffers.
	 */
	__atomic_store_n(&desc->flags, (uint16_t)flags, __ATOMIC_RELEASE);
	virtq_wrote(vq, desc, sizeof(*desc));
}

/* The driver looks at slots in their order: what comes behind the first is seen when the first is. */
void virtq_packed_publish(struct virtq *vq, const struct virtq_turn *used, unsigned count)
{
	uint16_t first = vq->at.next_used;
	bool first_wrap = vq->at.used_wrap;
	for (unsigned i = 0; i < count; i++) {
		if (i > 0)
			write_used(vq, vq->at.next_used, vq->at.used_wrap, &used[i]);
		vq->slots = (uint16_t)(vq->slots - used[i].desc_count);
		advance(vq, &vq->at.next_used, &vq->at.used_wrap, used[i].desc_count);
		virtq_count_used(vq, used[i].desc_count);
	}
	write_used(vq, first, first_wrap, &used[0]);
}

/* A place on the circle of two rounds through the ring: wrap counter 1, then 0. */
static uint32_t place(const struct virtq *vq, uint32_t index, bool wrap)
{
	return index + (wrap ? 0U : vq->setup.size);
}

/* DESC is for VIRTIO_F_EVENT_IDX only and 3 is reserved: both are then read as "enabled" (2.8.10). */
bool virtq_packed_wants_interrupt(struct virtq *vq, uint32_t count)
{
	uint32_t area = __atomic_load_n((uint32_t *)vq->driver, __ATOMIC_RELAXED);
	unsigned flags = area >> EVENT_FLAGS_SHIFT & EVENT_FLAGS_MASK;
	if (flags == EVENT_DESC && vq->setup.event_idx)
		return virtq_event_passed(place(vq, area & EVENT_OFFSET_MASK, area >> EVENT_WRAP_SHIFT & 1),
					  place(vq, vq->at.next_used, vq->at.used_wrap), count,
					  2U * vq->setup.size);
	return flags != EVENT_DISABLE;
}

void virtq_packed_set_doorbell(struct virtq *vq, bool enable)
{
	uint32_t area = EVENT_DISABLE << EVENT_FLAGS_SHIFT;
	if (enable && vq->setup.event_idx)
		area = EVENT_DESC << EVENT_FLAGS_SHIFT | (uint32_t)vq->at.avail_wrap << EVENT_WRAP_SHIFT |
		       vq->at.next_avail;
	else if (enable)
		area = EVENT_ENABLE << EVENT_FLAGS_SHIFT;
	__atomic_store_n((uint32_t *)vq->device, area, __ATOMIC_RELAXED);
	virtq_wrote(vq, vq->device, sizeof(area));
}
