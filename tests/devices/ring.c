/* The driver's side of a virtqueue: see ring.h. */
#include "ring.h"

#include <errno.h>
#include <string.h>

static void full_barrier(void)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

static uint64_t align(uint64_t n)
{
	return (n + 15) / 16 * 16;
}

static uint64_t desc_bytes(const struct virtq_setup *setup)
{
	return 16ULL * setup->size;
}

static uint64_t driver_bytes(const struct virtq_setup *setup)
{
	return setup->packed ? 4 : 6 + 2ULL * setup->size;
}

static uint64_t device_bytes(const struct virtq_setup *setup)
{
	return setup->packed ? 4 : 6 + 8ULL * setup->size;
}

static uint64_t table_bytes(const struct virtq_setup *setup)
{
	return setup->indirect ? 16ULL * RING_TABLE_MAX * setup->size : 0;
}

uint64_t ring_bytes(const struct virtq_setup *setup)
{
	return align(desc_bytes(setup)) + align(driver_bytes(setup)) + align(device_bytes(setup)) +
	       table_bytes(setup);
}

int ring_init(struct ring *ring, const struct guest_memory *memory, const struct virtq_setup *setup,
	      uint64_t gpa)
{
	void *area = guest_memory_at(memory, gpa, ring_bytes(setup));
	if (!area || setup->size == 0 || setup->size > VIRTQ_SIZE_MAX)
		return -EINVAL;
	memset(area, 0, ring_bytes(setup));
	*ring = (struct ring){.setup = *setup}; /* setup may be the old ring's own */
	setup = &ring->setup;
	ring->setup.desc_gpa = gpa;
	ring->setup.driver_gpa = gpa + align(desc_bytes(setup));
	ring->setup.device_gpa = ring->setup.driver_gpa + align(driver_bytes(setup));
	ring->tables_gpa = ring->setup.device_gpa + align(device_bytes(setup));
	ring->desc = guest_memory_at(memory, gpa, desc_bytes(setup));
	ring->avail = guest_memory_at(memory, ring->setup.driver_gpa, driver_bytes(setup));
	ring->used = guest_memory_at(memory, ring->setup.device_gpa, device_bytes(setup));
	if (!setup->packed) {
		ring->used_event =
			guest_memory_at(memory, ring->setup.driver_gpa + 4 + 2ULL * setup->size, 2);
		ring->avail_event =
			guest_memory_at(memory, ring->setup.device_gpa + 4 + 8ULL * setup->size, 2);
	}
	if (setup->indirect)
		ring->tables = guest_memory_at(memory, ring->tables_gpa, table_bytes(setup));
	ring->free_desc = setup->size;
	for (uint16_t i = 0; i < setup->size; i++)
		ring->link[i] = (uint16_t)((i + 1) % setup->size);
	ring_start_at(ring, 0, true);
	return 0;
}

void ring_start_at(struct ring *ring, uint16_t index, bool wrap)
{
	ring->next_avail = ring->next_used = ring->published = index;
	ring->avail_wrap = ring->used_wrap = ring->published_wrap = wrap;
	if (!ring->setup.packed) {
		ring->avail->idx = ring->used->idx = index;
		if (ring->setup.event_idx) {
			*ring->used_event = *ring->avail_event = index;
		}
		if (ring->setup.in_order)
			ring->free_head = (uint16_t)(index % ring->setup.size);
	} else {
		/* What earlier rounds have left: used, in the round before for slots yet to come. */
		for (uint16_t i = 0; i < ring->setup.size; i++)
			ring->desc[i].packed.flags = (i < index) == wrap ? RING_AVAIL | RING_USED : 0;
	}
}

/* ---- adding ---- */

static void fill_table(struct ring *ring, uint16_t id, const struct ring_buffer *buffers, size_t count)
{
	struct ring_desc *table = ring->tables + (size_t)id * RING_TABLE_MAX;
	for (size_t i = 0; i < count; i++) {
		uint16_t write = buffers[i].write ? RING_WRITE : 0;
		table[i] = (struct ring_desc){.addr = buffers[i].gpa, .len = buffers[i].len};
		if (ring->setup.packed) {
			table[i].packed.flags = write;
		} else {
			table[i].split.flags = (uint16_t)(write | (i + 1 < count ? RING_NEXT : 0));
			table[i].split.next = (uint16_t)(i + 1 < count ? i + 1 : 0);
		}
	}
}

static int add_split(struct ring *ring, const struct ring_buffer *buffers, size_t count, uint16_t indirect)
{
	uint16_t head = ring->free_head, at = head;
	for (size_t i = 0; i < count; i++) {
		bool more = i + 1 < count;
		ring->desc[at] = (struct ring_desc){
			.addr = buffers[i].gpa,
			.len = buffers[i].len,
			.split = {(uint16_t)(indirect | (buffers[i].write ? RING_WRITE : 0) |
					     (more ? RING_NEXT : 0)),
				  more ? ring->link[at] : 0},
		};
		at = ring->link[at];
	}
	ring->free_head = at;
	ring->avail->ring[ring->next_avail % ring->setup.size] = head;
	ring->next_avail++;
	return head;
}

static int add_packed(struct ring *ring, const struct ring_buffer *buffers, size_t count, uint16_t indirect)
{
	uint16_t id = ring->free_head;
	ring->free_head = ring->link[id];
	for (size_t i = 0; i < count; i++) {
		struct ring_desc *desc = &ring->desc[ring->next_avail];
		uint16_t flags =
			(uint16_t)((ring->avail_wrap ? RING_AVAIL : RING_USED) | indirect |
				   (buffers[i].write ? RING_WRITE : 0) | (i + 1 < count ? RING_NEXT : 0));
		desc->addr = buffers[i].gpa;
		desc->len = buffers[i].len;
		desc->packed.id = id;
		ring->first_flags[ring->next_avail] = flags;
		if (i > 0) {
			ring->first_flags[ring->next_avail] = 0; /* published at once; the first one, last */
			__atomic_store_n(&desc->packed.flags, flags, __ATOMIC_RELAXED);
		}
		if (++ring->next_avail == ring->setup.size) {
			ring->next_avail = 0;
			ring->avail_wrap = !ring->avail_wrap;
		}
	}
	return id;
}

int ring_add(struct ring *ring, const struct ring_buffer *buffers, size_t count, bool indirect)
{
	size_t descs = indirect ? 1 : count;
	if (count == 0 || descs > ring->free_desc || (indirect && count > RING_TABLE_MAX))
		return -ENOSPC;
	struct ring_buffer table = {.len = (uint32_t)(16 * count)};
	uint64_t room = 0;
	for (size_t i = 0; i < count; i++)
		room += buffers[i].write ? buffers[i].len : 0;
	if (indirect) {
		table.gpa = ring->tables_gpa + 16ULL * RING_TABLE_MAX * ring->free_head;
		fill_table(ring, ring->free_head, buffers, count);
		buffers = &table;
	}
	uint16_t flag = indirect ? RING_INDIRECT : 0;
	int id = ring->setup.packed ? add_packed(ring, buffers, descs, flag)
				    : add_split(ring, buffers, descs, flag);
	ring->chain_len[id] = (uint16_t)descs;
	ring->room[id] = room;
	ring->free_desc = (uint16_t)(ring->free_desc - descs);
	ring->unannounced += ring->setup.packed ? (uint32_t)descs : 1;
	ring->outstanding++;
	ring->order[ring->order_in++ % VIRTQ_SIZE_MAX] = (uint16_t)id;
	return id;
}

/* Release: pairs with the device's acquire load of the same field. */
void ring_publish(struct ring *ring)
{
	if (!ring->setup.packed) {
		__atomic_store_n(&ring->avail->idx, ring->next_avail, __ATOMIC_RELEASE);
		return;
	}
	for (uint16_t at = ring->published;
	     at != ring->next_avail || ring->published_wrap != ring->avail_wrap;) {
		if (ring->first_flags[at]) {
			__atomic_store_n(&ring->desc[at].packed.flags, ring->first_flags[at],
					 __ATOMIC_RELEASE);
			ring->first_flags[at] = 0;
		}
		if (++at == ring->setup.size) {
			at = 0;
			ring->published_wrap = !ring->published_wrap;
		}
	}
	ring->published = ring->next_avail;
}

/* ---- events ---- */

/* The entry at `event` is one of the `count` before `next`; both run modulo `modulus`. */
static bool passed(uint32_t event, uint32_t next, uint32_t count, uint32_t modulus)
{
	for (uint32_t i = 1; i <= count && i <= modulus; i++)
		if ((next + modulus - i) % modulus == event % modulus)
			return true;
	return false;
}

static uint32_t place(const struct ring *ring, uint32_t slot, bool wrap)
{
	return slot + (wrap ? 0U : ring->setup.size);
}

bool ring_wants_doorbell(struct ring *ring)
{
	uint16_t size = ring->setup.size;
	uint32_t count = ring->unannounced;
	ring->unannounced = 0;
	full_barrier(); /* pairs with that of virtq_enable_doorbell: publish, then look */
	if (!ring->setup.packed && !ring->setup.event_idx)
		return count && !(__atomic_load_n(&ring->used->flags, __ATOMIC_RELAXED) & 1);
	if (!ring->setup.packed) {
		uint16_t event = __atomic_load_n(ring->avail_event, __ATOMIC_RELAXED);
		return passed(event, ring->next_avail, count, 1U << 16);
	}
	uint32_t event = __atomic_load_n(ring->device_event, __ATOMIC_RELAXED);
	if (event >> 16 != 2)
		return count && event >> 16 == 0;
	return passed(place(ring, event & 0x7fff, event >> 15 & 1),
		      place(ring, ring->next_avail, ring->avail_wrap), count, 2U * size);
}

/* Acquire: pairs with the device's release of the same field, after entry and data. */
static bool is_used(const struct ring *ring)
{
	if (!ring->setup.packed)
		return __atomic_load_n(&ring->used->idx, __ATOMIC_ACQUIRE) != ring->next_used;
	uint16_t flags = __atomic_load_n(&ring->desc[ring->next_used].packed.flags, __ATOMIC_ACQUIRE);
	return ring->outstanding && (flags & RING_AVAIL ? true : false) == ring->used_wrap &&
	       (flags & RING_USED ? true : false) == ring->used_wrap;
}

bool ring_enable_interrupt(struct ring *ring, uint16_t skip)
{
	uint16_t size = ring->setup.size;
	if (!ring->setup.packed) {
		if (ring->setup.event_idx)
			__atomic_store_n(ring->used_event, (uint16_t)(ring->next_used + skip),
					 __ATOMIC_RELAXED);
		else
			__atomic_store_n(&ring->avail->flags, 0, __ATOMIC_RELAXED);
	} else if (ring->setup.event_idx) {
		uint32_t at = (place(ring, ring->next_used, ring->used_wrap) + skip) % (2U * size);
		uint32_t event = 2U << 16 | (at < size ? 1U << 15 | at : at - size);
		__atomic_store_n(ring->driver_event, event, __ATOMIC_RELAXED);
	} else {
		__atomic_store_n(ring->driver_event, 0, __ATOMIC_RELAXED);
	}
	full_barrier(); /* pairs with that of virtq_should_interrupt: ask, then look */
	return is_used(ring);
}

void ring_disable_interrupt(struct ring *ring)
{
	if (ring->setup.packed)
		__atomic_store_n(ring->driver_event, 1U << 16, __ATOMIC_RELAXED);
	else if (!ring->setup.event_idx)
		__atomic_store_n(&ring->avail->flags, 1, __ATOMIC_RELAXED);
	else /* farthest from happening */
		__atomic_store_n(ring->used_event, (uint16_t)(ring->next_used - 1), __ATOMIC_RELAXED);
}

/* ---- collecting ---- */

static void free_split(struct ring *ring, uint16_t id)
{
	uint16_t last = id;
	if (ring->setup.in_order)
		return; /* freed in the order of the table: free_head comes around to them */
	for (uint16_t i = 1; i < ring->chain_len[id]; i++)
		last = ring->link[last];
	ring->link[last] = ring->free_head;
	ring->free_head = id;
}

static void free_packed(struct ring *ring, uint16_t id)
{
	ring->link[id] = ring->free_head;
	ring->free_head = id;
	ring->next_used = (uint16_t)(ring->next_used + ring->chain_len[id]);
	if (ring->next_used >= ring->setup.size) {
		ring->next_used = (uint16_t)(ring->next_used - ring->setup.size);
		ring->used_wrap = !ring->used_wrap;
	}
}

int ring_collect(struct ring *ring, struct ring_used *ret)
{
	uint32_t id, len;
	if (!is_used(ring))
		return 0;
	if (ring->setup.packed) {
		const struct ring_desc *desc = &ring->desc[ring->next_used];
		id = desc->packed.id;
		len = __atomic_load_n(&desc->packed.flags, __ATOMIC_RELAXED) & RING_WRITE ? desc->len : 0;
	} else {
		if ((uint16_t)(__atomic_load_n(&ring->used->idx, __ATOMIC_RELAXED) - ring->next_used) >
		    ring->outstanding)
			return -EPROTO;
		const struct ring_used_elem *elem = &ring->used->ring[ring->next_used % ring->setup.size];
		id = elem->id;
		len = elem->len;
	}
	if (id >= ring->setup.size || !ring->chain_len[id] || len > ring->room[id])
		return -EPROTO;
	if (ring->setup.in_order && id != ring->order[ring->order_out % VIRTQ_SIZE_MAX])
		return -EPROTO;
	ring->order_out++;
	if (ring->setup.packed) {
		free_packed(ring, (uint16_t)id);
	} else {
		free_split(ring, (uint16_t)id);
		ring->next_used++;
	}
	ring->free_desc = (uint16_t)(ring->free_desc + ring->chain_len[id]);
	ring->chain_len[id] = 0;
	ring->outstanding--;
	*ret = (struct ring_used){.id = (uint16_t)id, .len = len};
	return 1;
}
