/*
 * The split ring (VIRTIO 1.3, 2.7). Three areas:
 *
 *	descriptor table	struct virtq_desc [size]			aligned to 16
 *	available ring		le16 flags, idx, ring[size], used_event		2, the driver's
 *	used ring		le16 flags, idx, {le32 id, len} [size], le16 avail_event	4, ours
 *
 * Both idx run free over 16 bits, entry n lies at n modulo size.
 */
#include "virtq_impl.h"

/* Offsets in both rings, and their flags (2.7.6, 2.7.8). */
enum { RING_FLAGS = 0, RING_IDX = 2, RING_ENTRIES = 4 };
enum { AVAIL_ENTRY_BYTES = 2, USED_ENTRY_BYTES = 8 };
enum { AVAIL_F_NO_INTERRUPT = 1, USED_F_NO_NOTIFY = 1 };

static uint16_t *field(void *ring, size_t offset)
{
	return (uint16_t *)((uint8_t *)ring + offset);
}

static uint16_t *used_event(const struct virtq *vq)
{
	return field(vq->driver, RING_ENTRIES + (size_t)AVAIL_ENTRY_BYTES * vq->setup.size);
}

static uint16_t *avail_event(const struct virtq *vq)
{
	return field(vq->device, RING_ENTRIES + (size_t)USED_ENTRY_BYTES * vq->setup.size);
}

/* The sizes are those of 2.7, with the event fields whether they were negotiated or not. */
int virtq_split_init(struct virtq *vq)
{
	const struct virtq_setup *setup = &vq->setup;
	uint64_t size = setup->size;
	if (size & (size - 1))
		return -EINVAL;
	if (setup->desc_gpa % 16 || setup->driver_gpa % 2 || setup->device_gpa % 4)
		return -EINVAL;
	vq->desc = guest_memory_at(vq->memory, setup->desc_gpa, VIRTQ_DESC_BYTES * size);
	vq->driver =
		guest_memory_at(vq->memory, setup->driver_gpa, RING_ENTRIES + AVAIL_ENTRY_BYTES * size + 2);
	vq->device =
		guest_memory_at(vq->memory, setup->device_gpa, RING_ENTRIES + USED_ENTRY_BYTES * size + 2);
	vq->avail_idx = vq->at.next_avail;
	return vq->desc && vq->driver && vq->device ? 0 : -EINVAL;
}

/*
 * Acquire: pairs with the driver's write barrier (a release store) between filling descriptors and available
 * entries and moving idx. Whatever idx covers is complete when we read it.
 */
static uint16_t read_avail_idx(const struct virtq *vq)
{
	return __atomic_load_n(field(vq->driver, RING_IDX), __ATOMIC_ACQUIRE);
}

bool virtq_split_has_request(const struct virtq *vq)
{
	return vq->avail_idx != vq->at.next_avail || read_avail_idx(vq) != vq->at.next_avail;
}

/* ---- descriptors to a chain ---- */

/* 2.7.5.3: the table's own chain. As long as the device takes buffers it may be longer than the queue. */
static int walk_table(struct virtq *vq, struct virtq_chain *chain, const struct virtq_desc *indirect)
{
	const void *table;
	uint32_t count, index = 0;
	if (indirect->flags & VIRTQ_DESC_F_NEXT)
		return virtq_break(vq, "an indirect descriptor with a next one"); /* 2.7.5.3.1 */
	int r = virtq_find_table(vq, indirect->addr, indirect->len, &table, &count);
	for (unsigned walked = 0; r == 0; walked++) {
		struct virtq_desc desc;
		if (walked == VIRTQ_SIZE_MAX || walked == count)
			return virtq_break(vq, "a loop in an indirect table, or one too long");
		virtq_copy_desc(&desc, table, index);
		if (desc.flags & VIRTQ_DESC_F_INDIRECT)
			return virtq_break(vq, "an indirect descriptor in an indirect table"); /* 2.7.5.3.1 */
		r = virtq_add_buffer(vq, chain, desc.addr, desc.len, desc.flags & VIRTQ_DESC_F_WRITE);
		if (!(desc.flags & VIRTQ_DESC_F_NEXT))
			break;
		index = desc.next;
		if (r == 0 && index >= count)
			return virtq_break(vq, "a next descriptor beyond the indirect table");
	}
	return r;
}

static int walk(struct virtq *vq, struct virtq_chain *chain)
{
	uint16_t index = chain->head;
	for (;;) {
		struct virtq_desc desc;
		if (chain->desc_count == vq->setup.size)
			return virtq_break(vq, "a loop in a chain");
		virtq_copy_desc(&desc, vq->desc, index);
		chain->desc_count++;
		if (desc.flags & VIRTQ_DESC_F_INDIRECT) /* may end a chain of direct ones: 2.7.5.3.2 */
			return walk_table(vq, chain, &desc);
		int r = virtq_add_buffer(vq, chain, desc.addr, desc.len, desc.flags & VIRTQ_DESC_F_WRITE);
		if (r < 0 || !(desc.flags & VIRTQ_DESC_F_NEXT))
			return r;
		index = desc.next;
		if (index >= vq->setup.size)
			return virtq_break(vq, "a next descriptor beyond the table");
	}
}

int virtq_split_pop(struct virtq *vq, struct virtq_chain *chain)
{
	uint16_t next = vq->at.next_avail;
	if (vq->avail_idx == next) {
		vq->avail_idx = read_avail_idx(vq);
		if (vq->avail_idx == next)
			return 0;
		if ((uint16_t)(vq->avail_idx - next) > vq->setup.size)
			return virtq_break(vq, "an available index more than the queue size ahead");
	}
	size_t entry = next & (vq->setup.size - 1U);
	chain->head = __atomic_load_n(field(vq->driver, RING_ENTRIES + AVAIL_ENTRY_BYTES * entry),
				      __ATOMIC_RELAXED);
	if (chain->head >= vq->setup.size)
		return virtq_break(vq, "a head beyond the descriptor table");
	if (virtq_is_busy(vq, chain->head))
		return virtq_break(vq, "a head that the device has already");
	int r = walk(vq, chain);
	if (r < 0)
		return r;
	vq->at.next_avail++;
	return 1;
}

void virtq_split_rewind(struct virtq *vq, const struct virtq_chain *chain)
{
	(void)chain; /* one entry, however long */
	vq->at.next_avail--;
}

/* ---- used ---- */

void virtq_split_publish(struct virtq *vq, const struct virtq_turn *used, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		size_t entry = vq->at.next_used & (vq->setup.size - 1U);
		uint32_t elem[2] = {used[i].head, used[i].written};
		uint8_t *at = (uint8_t *)vq->device + RING_ENTRIES + USED_ENTRY_BYTES * entry;
		memcpy(at, elem, sizeof(elem));
		virtq_wrote(vq, at, sizeof(elem));
		vq->at.next_used++;
	}
	/*
	 * Release: pairs with the driver's read barrier (an acquire load) between reading idx and reading
	 * entries and buffers; 2.7.8.2 demands the entry and the data first.
	 */
	__atomic_store_n(field(vq->device, RING_IDX), vq->at.next_used, __ATOMIC_RELEASE);
	virtq_wrote(vq, vq->device, RING_ENTRIES);
	virtq_count_used(vq, (uint16_t)count);
}

bool virtq_split_wants_interrupt(struct virtq *vq, uint32_t count)
{
	if (!vq->setup.event_idx)
		return !(__atomic_load_n(field(vq->driver, RING_FLAGS), __ATOMIC_RELAXED) &
			 AVAIL_F_NO_INTERRUPT);
	uint16_t event = __atomic_load_n(used_event(vq), __ATOMIC_RELAXED);
	return virtq_event_passed(event, vq->at.next_used, count, 1U << 16);
}

/* With VIRTIO_F_EVENT_IDX flags stay 0 (2.7.10.2) and an event that lies behind is as good as none. */
void virtq_split_set_doorbell(struct virtq *vq, bool enable)
{
	uint16_t *at = vq->setup.event_idx ? avail_event(vq) : field(vq->device, RING_FLAGS);
	if (!vq->setup.event_idx)
		__atomic_store_n(at, enable ? 0 : USED_F_NO_NOTIFY, __ATOMIC_RELAXED);
	else if (enable)
		__atomic_store_n(at, vq->at.next_avail, __ATOMIC_RELAXED);
	virtq_wrote(vq, at, sizeof(*at));
}
