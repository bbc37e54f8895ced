/* Virtqueues: what both ring layouts share. See virtq.h, and virtq_split.c and virtq_packed.c for the rings.
 */
#include "virtq_impl.h"

/* ---- chains ---- */

int virtq_add_buffer(struct virtq *vq, struct virtq_chain *chain, uint64_t addr, uint32_t len, bool write)
{
	if (!write && chain->write_count)
		return virtq_break(
			vq, "a device-readable buffer after a device-writable one"); /* 2.7.4.2, 2.8.17 */
	if (len == 0)
		return 0;
	uint32_t count = (uint32_t)chain->read_count + chain->write_count;
	if (count == chain->iov_max)
		return virtq_break(vq, "a chain of more buffers than the device takes");
	if (chain->read_bytes + chain->write_bytes + len > VIRTQ_CHAIN_BYTES_MAX)
		return virtq_break(vq, "a chain of more than 2^32 bytes"); /* 2.7.5.2 */
	void *host = guest_memory_at(vq->memory, addr, len);
	if (!host)
		return virtq_break(vq, "a buffer outside RAM");
	chain->iov[count] = (struct iovec){.iov_base = host, .iov_len = len};
	if (write) {
		chain->write_count++;
		chain->write_bytes += len;
	} else {
		chain->read_count++;
		chain->read_bytes += len;
	}
	return 0;
}

int virtq_find_table(struct virtq *vq, uint64_t addr, uint32_t len, const void **ret_table,
		     uint32_t *ret_count)
{
	if (!vq->setup.indirect)
		return virtq_break(vq, "an indirect descriptor without VIRTIO_F_INDIRECT_DESC");
	if (len == 0 || len % VIRTQ_DESC_BYTES)
		return virtq_break(vq, "an indirect table whose length is not that of descriptors");
	const void *table = guest_memory_at(vq->memory, addr, len);
	if (!table)
		return virtq_break(vq, "an indirect table outside RAM");
	*ret_table = table;
	*ret_count = len / VIRTQ_DESC_BYTES;
	return 0;
}

/* ---- set-up ---- */

int virtq_init(struct virtq *vq, const struct guest_memory *memory, const struct virtq_setup *setup,
	       const struct virtq_position *position)
{
	struct virtq fresh = {
		.memory = memory,
		.setup = *setup,
		.at = {.avail_wrap = setup->packed,
		       .used_wrap = setup->packed}, /* 2.8.1: both begin with 1 */
		.signalled_valid = !position,
	};
	if (position)
		fresh.at = *position;
	if (setup->size == 0 || setup->size > VIRTQ_SIZE_MAX)
		return -EINVAL;
	/* Whatever was in flight when the position was taken would never be used. */
	if (fresh.at.next_avail != fresh.at.next_used || fresh.at.avail_wrap != fresh.at.used_wrap)
		return -EINVAL;
	int r = setup->packed ? virtq_packed_init(&fresh) : virtq_split_init(&fresh);
	if (r == 0)
		*vq = fresh;
	return r;
}

/* ---- requests ---- */

/* The chain's head is below size and not busy. */
static void enter_flight(struct virtq *vq, struct virtq_chain *chain)
{
	vq->busy[chain->head / 64] |= UINT64_C(1) << chain->head % 64;
	vq->in_flight++;
	chain->order = vq->pops++;
	if (vq->setup.in_order)
		vq->turns[chain->order % VIRTQ_SIZE_MAX] =
			(struct virtq_turn){.head = chain->head, .desc_count = chain->desc_count};
}

static void leave_flight(struct virtq *vq, const struct virtq_chain *chain)
{
	vq->busy[chain->head / 64] &= ~(UINT64_C(1) << chain->head % 64);
	vq->in_flight--;
}

static bool in_flight(const struct virtq *vq, const struct virtq_chain *chain)
{
	return chain->head < vq->setup.size && virtq_is_busy(vq, chain->head);
}

int virtq_pop(struct virtq *vq, struct virtq_chain *chain)
{
	if (vq->broken)
		return -EPROTO;
	chain->desc_count = 0;
	chain->read_count = chain->write_count = 0;
	chain->read_bytes = chain->write_bytes = 0;
	int r = vq->setup.packed ? virtq_packed_pop(vq, chain) : virtq_split_pop(vq, chain);
	if (r == 1)
		enter_flight(vq, chain);
	return r;
}

void virtq_wrote_chain(const struct virtq *vq, const struct virtq_chain *chain, uint64_t written)
{
	for (unsigned i = 0; chain->iov && written && i < chain->write_count; i++) {
		const struct iovec *iov = &chain->iov[chain->read_count + i];
		uint64_t part = iov->iov_len < written ? iov->iov_len : written;
		virtq_wrote(vq, iov->iov_base, part);
		written -= part;
	}
}

static void publish(struct virtq *vq, const struct virtq_turn *used, unsigned count)
{
	if (vq->setup.packed)
		virtq_packed_publish(vq, used, count);
	else
		virtq_split_publish(vq, used, count);
}

/*
 * 2.7.9, 2.8.8: chains are used in the order in which they came. Each gets a used entry of its own; a batch
 * with one entry, as the specification allows it, would lose how many bytes were written into the others.
 */
static void publish_in_turn(struct virtq *vq, const struct virtq_turn *used, uint16_t order)
{
	vq->turns[order % VIRTQ_SIZE_MAX] = *used;
	for (; vq->turn != vq->pops && vq->turns[vq->turn % VIRTQ_SIZE_MAX].pushed; vq->turn++)
		publish(vq, &vq->turns[vq->turn % VIRTQ_SIZE_MAX], 1);
}

int virtq_push(struct virtq *vq, const struct virtq_chain *chain, uint32_t written)
{
	if (!in_flight(vq, chain) || written > chain->write_bytes)
		return -EINVAL;
	leave_flight(vq, chain);
	virtq_wrote_chain(vq, chain, written);
	if (vq->broken)
		return -EPROTO;
	struct virtq_turn used = {
		.head = chain->head, .desc_count = chain->desc_count, .written = written, .pushed = true};
	if (vq->setup.in_order)
		publish_in_turn(vq, &used, chain->order);
	else
		publish(vq, &used, 1);
	return 0;
}

int virtq_push_together(struct virtq *vq, const struct virtq_used *used, unsigned count)
{
	struct virtq_turn turns[VIRTQ_SIZE_MAX];
	if (count == 0 || count > VIRTQ_SIZE_MAX || vq->setup.in_order)
		return -EINVAL;
	for (unsigned i = 0; i < count; i++) {
		const struct virtq_chain *chain = used[i].chain;
		if (!in_flight(vq, chain) || used[i].written > chain->write_bytes)
			return -EINVAL;
		turns[i] = (struct virtq_turn){
			.head = chain->head, .desc_count = chain->desc_count, .written = used[i].written};
	}
	for (unsigned i = 0; i < count; i++) {
		leave_flight(vq, used[i].chain);
		virtq_wrote_chain(vq, used[i].chain, used[i].written);
	}
	if (vq->broken)
		return -EPROTO;
	publish(vq, turns, count);
	return 0;
}

int virtq_unpop(struct virtq *vq, const struct virtq_chain *chain)
{
	if (!in_flight(vq, chain) || chain->order != (uint16_t)(vq->pops - 1))
		return -EINVAL;
	leave_flight(vq, chain);
	vq->pops--;
	if (vq->setup.packed)
		virtq_packed_rewind(vq, chain);
	else
		virtq_split_rewind(vq, chain);
	return 0;
}

/* ---- notifications ---- */

/* Writes before it are seen by everyone before what is read after it: the one order x86 does not keep. */
static void full_barrier(void)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

bool virtq_should_interrupt(struct virtq *vq)
{
	uint32_t count = vq->unsignalled;
	if (vq->broken || count == 0)
		return false;
	/*
	 * Pairs with the barrier between the driver's write of its suppression area and its last look at the
	 * used ring: either we see that it wants an interrupt, or it sees what we have used.
	 */
	full_barrier();
	bool wants = vq->setup.packed ? virtq_packed_wants_interrupt(vq, count)
				      : virtq_split_wants_interrupt(vq, count);
	wants |= !vq->signalled_valid;
	vq->unsignalled = 0;
	vq->signalled_valid = true;
	return wants;
}

bool virtq_enable_doorbell(struct virtq *vq)
{
	if (vq->broken)
		return false;
	if (vq->setup.packed)
		virtq_packed_set_doorbell(vq, true);
	else
		virtq_split_set_doorbell(vq, true);
	/*
	 * Pairs with the barrier between the driver's publishing of a chain and its read of our suppression
	 * area: either it sees that we want a doorbell, or we see the chain.
	 */
	full_barrier();
	return virtq_has_request(vq);
}

void virtq_disable_doorbell(struct virtq *vq)
{
	if (vq->broken)
		return;
	if (vq->setup.packed)
		virtq_packed_set_doorbell(vq, false);
	else
		virtq_split_set_doorbell(vq, false);
}

bool virtq_has_request(const struct virtq *vq)
{
	if (vq->broken)
		return false;
	return vq->setup.packed ? virtq_packed_has_request(vq) : virtq_split_has_request(vq);
}

/* ---- bytes ---- */

static size_t copy_iov(const struct iovec *iov, size_t count, size_t offset, void *flat, size_t len,
		       bool to_guest)
{
	uint8_t *at = flat;
	for (size_t i = 0; i < count && len; i++) {
		if (offset >= iov[i].iov_len) {
			offset -= iov[i].iov_len;
			continue;
		}
		size_t part = iov[i].iov_len - offset < len ? iov[i].iov_len - offset : len;
		uint8_t *guest = (uint8_t *)iov[i].iov_base + offset;
		memcpy(to_guest ? guest : at, to_guest ? at : guest, part);
		at += part;
		len -= part;
		offset = 0;
	}
	return (size_t)(at - (uint8_t *)flat);
}

size_t virtq_chain_read(const struct virtq_chain *chain, size_t offset, void *dst, size_t len)
{
	return copy_iov(chain->iov, chain->read_count, offset, dst, len, false);
}

size_t virtq_chain_write(const struct virtq_chain *chain, size_t offset, const void *src, size_t len)
{
	return copy_iov(chain->iov + chain->read_count, chain->write_count, offset, (void *)(uintptr_t)src,
			len, true);
}
