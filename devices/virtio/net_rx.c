/* Packets to the guest (VIRTIO 1.3, 5.1.6.3, 5.1.6.4); struct net_rx says how, net_buffers.h where to. */
#include "net.h"

#include <errno.h>
#include <string.h>

enum { LARGE_PACKETS = 256, BATCH_FIRST = 4 };
enum { HEADER_FLAGS_OFFSET = 0, HEADER_NUM_BUFFERS_OFFSET = 10 };

static unsigned queue_index(const struct net_rx *rx)
{
	return 2 * rx->pair;
}

/* ---- reading ---- */

static void add_to_slot(struct net_rx_slot *slot, struct net_packet *packet, struct net_buffer *buffer,
			unsigned iov_count)
{
	for (unsigned i = 0; i < iov_count; i++) {
		packet->iov[packet->count++] = buffer->chain.iov[i];
		slot->iov_bytes += buffer->chain.iov[i].iov_len;
	}
	slot->room += buffer->chain.write_bytes;
	net_buffers_add(&slot->buffers, buffer);
}

/* Chains and spill for one packet; false: there is no chain, or no more place. */
static bool fill_slot(struct net_rx *rx, unsigned index, struct iovec *iov, unsigned iov_left)
{
	struct net_rx_slot *slot = &rx->slots[index];
	struct net_packet *packet = &rx->packets[index];
	size_t want = rx->large && rx->net->features & NET_F_MRG_RXBUF ? NET_PACKET_MAX : 1;
	*slot = (struct net_rx_slot){.room = 0};
	*packet = (struct net_packet){.iov = iov};
	while (slot->room < want) {
		struct net_buffer *buffer = net_stock_take(&rx->stock);
		if (!buffer)
			break;
		unsigned count = buffer->chain.write_count;
		if (packet->count + count + 1 > iov_left) {
			if (packet->count || index) { /* first of all the next time */
				net_stock_put(&rx->stock, buffer);
				break;
			}
			count = iov_left - 1; /* the rest by way of the spill */
			want = 1;
		}
		add_to_slot(slot, packet, buffer, count);
	}
	if (!slot->room)
		return false;
	packet->iov[packet->count++] = (struct iovec){.iov_base = rx->spill + (size_t)index * NET_PACKET_MAX,
						      .iov_len = NET_PACKET_MAX};
	return true;
}

/* True: reading; false: no room, the guest's next doorbell tells. */
static bool start_reading(struct net_rx *rx)
{
	unsigned most = rx->large ? 1 : rx->batch, used = 0;
	rx->count = rx->at = 0;
	do {
		while (rx->count < most && fill_slot(rx, rx->count, rx->iov + used, NET_RX_IOVS - used))
			used += rx->packets[rx->count++].count;
	} while (rx->count == 0 && !rx->net->broken && virtq_enable_doorbell(rx->vq));
	if (rx->count == 0 || rx->net->broken)
		return false;
	rx->state = NET_RX_READING;
	net_receive(rx->net->backend, rx->pair, rx->packets, rx->count);
	return true;
}

/* ---- delivering ---- */

static void drop(struct net_rx *rx, unsigned index)
{
	net_stock_put_all(&rx->stock, &rx->slots[index].buffers);
	rx->slots[index].room = 0;
}

static size_t copy_out(const struct net_packet *packet, size_t offset, uint8_t *dst, size_t len)
{
	const struct virtq_chain chain = {.iov = packet->iov, .read_count = (uint16_t)packet->count};
	return virtq_chain_read(&chain, offset, dst, len);
}

/* What the guest wants to see; the frame is looked at where it was read to. */
static bool wanted(const struct net *net, const struct net_packet *packet)
{
	uint8_t mac[NET_MAC_BYTES] = {0};
	if (packet->bytes < NET_HEADER_BYTES + NET_ETHERNET_BYTES || !net_link(net))
		return false;
	if (!(net->features & NET_F_CTRL_RX) || net->guest.promisc)
		return true;
	(void)copy_out(packet, NET_HEADER_BYTES, mac, sizeof(mac));
	return net_filter_passes(net, mac);
}

enum room { ROOM_ENOUGH, ROOM_LATER, ROOM_NEVER };

/* A packet that is longer than its chains gets more of them (5.1.6.3.1). */
static enum room make_room(struct net_rx *rx, struct net_rx_slot *slot, size_t bytes)
{
	if (slot->room >= bytes)
		return ROOM_ENOUGH;
	if (!(rx->net->features & NET_F_MRG_RXBUF))
		return ROOM_NEVER;
	rx->large = LARGE_PACKETS;
	while (slot->room < bytes) {
		struct net_buffer *buffer = net_stock_take(&rx->stock);
		if (buffer) {
			slot->room += buffer->chain.write_bytes;
			net_buffers_add(&slot->buffers, buffer);
		} else if (rx->net->broken) {
			return ROOM_LATER;
		} else if (rx->stock.desc_held >= rx->vq->setup.size) {
			return ROOM_NEVER; /* the guest has no descriptor left to give */
		} else if (!virtq_enable_doorbell(rx->vq)) {
			return ROOM_LATER;
		}
	}
	return ROOM_ENOUGH;
}

static void write_to(struct net_buffers *buffers, size_t offset, const void *data, size_t len)
{
	const uint8_t *src = data;
	for (struct net_buffer *buffer = buffers->first; buffer && len; buffer = buffer->next) {
		if (offset >= buffer->chain.write_bytes) {
			offset -= buffer->chain.write_bytes;
			continue;
		}
		size_t part = virtq_chain_write(&buffer->chain, offset, src, len);
		src += part;
		len -= part;
		offset = 0;
	}
}

/* The kernel has written the header but for num_buffers; flags only mean something to who asked for them. */
static void finish_header(const struct net *net, struct net_buffers *buffers, uint16_t num_buffers)
{
	static const uint8_t none[HEADER_NUM_BUFFERS_OFFSET];
	if (!(net->features & NET_F_GUEST_CSUM))
		write_to(buffers, HEADER_FLAGS_OFFSET, none, sizeof(none));
	write_to(buffers, HEADER_NUM_BUFFERS_OFFSET, &num_buffers, sizeof(num_buffers));
}

/*
 * Behind one that was dropped: into its chain instead, so that what we hold unused is always what was popped
 * last, and can be put back (net_stock_return).
 */
static void close_gap(struct net_rx *rx, struct net_rx_slot *slot, const struct net_packet *packet)
{
	struct net_buffer *free_one = rx->stock.spare.first, *taken = slot->buffers.first;
	if (!free_one || !net_buffer_is_older(free_one, taken) || taken->next ||
	    free_one->chain.write_bytes < packet->bytes || packet->bytes > slot->iov_bytes)
		return;
	(void)net_buffers_take(&rx->stock.spare);
	size_t left = packet->bytes;
	for (unsigned i = 0; left; i++) {
		size_t part = left < packet->iov[i].iov_len ? left : packet->iov[i].iov_len;
		(void)virtq_chain_write(&free_one->chain, packet->bytes - left, packet->iov[i].iov_base,
					part);
		left -= part;
	}
	slot->buffers = (struct net_buffers){NULL, NULL};
	net_buffers_add(&slot->buffers, free_one);
	net_stock_put(&rx->stock, taken);
}

/* All of a packet's chains at once; what it does not need stays in the list. */
static void give(struct net_rx *rx, struct net_buffers *buffers, size_t bytes)
{
	struct virtq_used used[VIRTQ_SIZE_MAX];
	uint16_t count = 0;
	size_t left = bytes;
	const struct net_buffer *at = buffers->first;
	do {
		size_t part = left < at->chain.write_bytes ? left : at->chain.write_bytes;
		used[count++] = (struct virtq_used){.chain = &at->chain, .written = (uint32_t)part};
		left -= part;
		at = at->next;
	} while (at && left);
	finish_header(rx->net, buffers, count);
	(void)virtq_push_together(rx->vq, used, count); /* a broken queue is seen by whoever pops next */
	for (; count > 0; count--)
		net_stock_forget(&rx->stock, net_buffers_take(buffers));
	rx->net->counts.rx_packets++;
	rx->net->counts.rx_bytes += bytes - NET_HEADER_BYTES;
}

static void give_packet(struct net_rx *rx, struct net_rx_slot *slot, const struct net_packet *packet)
{
	give(rx, &slot->buffers, packet->bytes);
	drop(rx, (unsigned)(slot - rx->slots));
	if (packet->bytes > slot->iov_bytes || rx->large == 0)
		return;
	rx->large--;
}

/* ---- to another queue (5.1.6.4.3) ---- */

/* The queue that the driver wants the frame in. */
static struct net_rx *destination(struct net_rx *rx, const struct net_packet *packet)
{
	const struct net_rss *rss = &rx->net->guest.rss;
	uint8_t frame[NET_RSS_FRAME_BYTES];
	size_t len = packet->bytes - NET_HEADER_BYTES;
	if (!rss->on)
		return rx;
	len = copy_out(packet, NET_HEADER_BYTES, frame, len < sizeof(frame) ? len : sizeof(frame));
	return &rx->net->rx[net_rss_queue(rss, frame, len)];
}

/*
 * It is copied to that queue's buffers. Without room there it is dropped, as a card does it: one queue that
 * is not emptied must not hold up the others.
 */
static bool hand_over(struct net_rx *to, const struct net_packet *packet)
{
	struct net_buffers buffers = {NULL, NULL};
	struct net_buffer *buffer;
	size_t room = 0, at = 0;
	bool several = to->net->features & NET_F_MRG_RXBUF;
	while (to->vq && room < packet->bytes && (room == 0 || several) &&
	       (buffer = net_stock_take(&to->stock))) {
		room += buffer->chain.write_bytes;
		net_buffers_add(&buffers, buffer);
	}
	if (room < packet->bytes) {
		net_stock_put_all(&to->stock, &buffers);
		return false;
	}
	for (unsigned i = 0; i < packet->count && at < packet->bytes; i++) {
		size_t rest = packet->bytes - at, len = packet->iov[i].iov_len;
		write_to(&buffers, at, packet->iov[i].iov_base, len < rest ? len : rest);
		at += len;
	}
	give(to, &buffers, packet->bytes);
	net_stock_put_all(&to->stock, &buffers);
	to->was_given = true;
	return true;
}

static void tell_given(struct net *net)
{
	for (unsigned i = 0; i < net->pair_count; i++) {
		if (net->rx[i].was_given)
			virtio_interrupt(net->base.virtio, queue_index(&net->rx[i]));
		net->rx[i].was_given = false;
	}
}

/* False: not now. */
static bool deliver_one(struct net_rx *rx, unsigned index)
{
	struct net_rx_slot *slot = &rx->slots[index];
	const struct net_packet *packet = &rx->packets[index];
	if (packet->bytes == 0) {
		rx->drained = true;
		drop(rx, index);
		return true;
	}
	bool drops = packet->bytes > NET_PACKET_MAX || !wanted(rx->net, packet);
	if (!drops && !slot->paid && !ratelimit_take(&rx->limit, packet->bytes - NET_HEADER_BYTES))
		return false;
	slot->paid = true;
	struct net_rx *to = drops ? rx : destination(rx, packet);
	if (to != rx) {
		rx->net->counts.rx_dropped += !hand_over(to, packet);
		drop(rx, index);
		return true;
	}
	enum room room = drops ? ROOM_NEVER : make_room(rx, slot, packet->bytes);
	if (room == ROOM_LATER)
		return false;
	if (room == ROOM_NEVER) {
		rx->net->counts.rx_dropped++;
		drop(rx, index);
		return true;
	}
	if (packet->bytes > slot->iov_bytes)
		write_to(&slot->buffers, slot->iov_bytes, rx->spill + (size_t)index * NET_PACKET_MAX,
			 packet->bytes - slot->iov_bytes);
	close_gap(rx, slot, packet);
	give_packet(rx, slot, packet);
	return true;
}

/* False: the rest has to wait for buffers, or for the rate limit. */
static bool deliver(struct net_rx *rx)
{
	unsigned before = rx->at;
	while (rx->at < rx->count && deliver_one(rx, rx->at))
		rx->at++;
	tell_given(rx->net);
	if (rx->at > before)
		virtio_interrupt(rx->net->base.virtio, queue_index(rx));
	return rx->at == rx->count;
}

void net_rx_received(struct net_rx *rx)
{
	unsigned got = 0;
	for (unsigned i = 0; i < rx->count; i++)
		got += rx->packets[i].bytes > 0;
	if (got == rx->count)
		rx->batch = 2 * rx->batch < NET_RX_BATCH ? 2 * rx->batch : NET_RX_BATCH;
	else if (!rx->large)
		rx->batch = got + 1;
	rx->drained = false;
	rx->state = NET_RX_IDLE;
	net_rx_run(rx);
}

void net_rx_run(struct net_rx *rx)
{
	if (!rx->vq || rx->net->broken || rx->state == NET_RX_READING || rx->state == NET_RX_WAITING)
		return;
	if (rx->at < rx->count && !deliver(rx))
		return;
	if (rx->drained) {
		rx->drained = false;
		rx->state = NET_RX_WAITING;
		net_wait(rx->net->backend, rx->pair);
		return;
	}
	(void)start_reading(rx);
}

/* ---- life ---- */

static void limit_ready(void *owner)
{
	net_rx_run(owner);
}

static void free_memory(struct net_rx *rx)
{
	net_stock_finish(&rx->stock);
	free(take_ptr(rx->packets));
	free(take_ptr(rx->slots));
	free(take_ptr(rx->spill));
	free(take_ptr(rx->iov));
}

int net_rx_start(struct net_rx *rx, struct virtq *vq)
{
	int r = net_stock_init(&rx->stock, rx->net, vq);
	rx->packets = calloc(NET_RX_BATCH, sizeof(*rx->packets));
	rx->slots = calloc(NET_RX_BATCH, sizeof(*rx->slots));
	rx->spill = malloc((size_t)NET_RX_BATCH * NET_PACKET_MAX); /* costs nothing until it is used */
	rx->iov = calloc(NET_RX_IOVS, sizeof(*rx->iov));
	if (r < 0 || !rx->packets || !rx->slots || !rx->spill || !rx->iov) {
		free_memory(rx);
		return -ENOMEM;
	}
	ratelimit_init(&rx->limit, &rx->net->config->rate, virtio_loop(rx->net->base.virtio), limit_ready,
		       rx);
	rx->state = NET_RX_IDLE;
	rx->count = rx->at = rx->large = 0;
	rx->drained = false;
	rx->batch = BATCH_FIRST;
	rx->vq = vq;
	return 0;
}

void net_rx_stop(struct net_rx *rx)
{
	if (!rx->vq)
		return;
	ratelimit_finish(&rx->limit);
	for (unsigned i = 0; i < rx->count; i++)
		net_stock_put_all(&rx->stock, &rx->slots[i].buffers);
	net_stock_return(&rx->stock);
	virtio_interrupt(rx->net->base.virtio, queue_index(rx));
	free_memory(rx);
	rx->vq = NULL;
}
