/*
 * Packets from the guest (VIRTIO 1.3, 5.1.6.2). The header is copied once and judged; the frame goes to the
 * host from where it is. A batch is given back with one interrupt.
 */
#include "net.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

enum { HEADER_F_NEEDS_CSUM = 1, GSO_NONE = 0, GSO_TCPV4 = 1, GSO_TCPV6 = 4, GSO_ECN = 0x80, CSUM_BYTES = 2 };

static_assert(sizeof(struct net_header) == NET_HEADER_BYTES, "5.1.6");

static bool gso_allowed(const struct net_header *header, uint64_t features)
{
	uint8_t type = header->gso_type & (uint8_t)~GSO_ECN;
	if ((header->gso_type & GSO_ECN) && !(features & NET_F_HOST_ECN))
		return false;
	if (type == GSO_TCPV4)
		return features & NET_F_HOST_TSO4;
	return type == GSO_TCPV6 && (features & NET_F_HOST_TSO6);
}

bool net_header_check(struct net_header *header, size_t frame_bytes, uint64_t features)
{
	header->flags &= HEADER_F_NEEDS_CSUM; /* others are ignored (5.1.6.2.2) */
	header->num_buffers = 0;
	if (header->flags) {
		if (!(features & NET_F_CSUM) ||
		    (size_t)header->csum_start + header->csum_offset + CSUM_BYTES > frame_bytes)
			return false;
	} else {
		header->csum_start = header->csum_offset = 0;
	}
	if (header->gso_type == GSO_NONE) {
		header->gso_size = header->hdr_len = 0;
		return true;
	}
	if (header->hdr_len > frame_bytes) /* a hint, and a bad one is no reason to drop (5.1.6.2.2) */
		header->hdr_len = 0;
	return gso_allowed(header, features) && header->flags && header->gso_size;
}

/* ---- one packet ---- */

/* The chain's buffers begin at iov[1]: cut the header off, and put the copy in its place. */
static void make_packet(struct net_packet *packet, struct net_header *header, struct iovec *iov,
			const struct virtq_chain *chain)
{
	unsigned first = 1, count = chain->read_count;
	size_t skip = NET_HEADER_BYTES;
	while (count && iov[first].iov_len <= skip) {
		skip -= iov[first].iov_len;
		first++;
		count--;
	}
	if (count) {
		iov[first].iov_base = (uint8_t *)iov[first].iov_base + skip;
		iov[first].iov_len -= skip;
	}
	iov[first - 1] = (struct iovec){.iov_base = header, .iov_len = sizeof(*header)};
	*packet = (struct net_packet){.iov = &iov[first - 1], .count = count + 1, .bytes = chain->read_bytes};
}

/* What is wrong with it; NULL: nothing. */
static const char *judge(struct net_tx *tx, const struct virtq_chain *chain, struct net_header *header)
{
	size_t frame_bytes = chain->read_bytes - NET_HEADER_BYTES;
	if (chain->write_count)
		return "has buffers to write to";
	if (frame_bytes < NET_ETHERNET_BYTES)
		return "is shorter than an Ethernet header";
	if (frame_bytes > NET_FRAME_MAX)
		return "is longer than any frame";
	if (chain->read_count + 1U > NET_PACKET_IOVS_MAX)
		return "is in too many pieces";
	(void)virtq_chain_read(chain, 0, header, sizeof(*header));
	return net_header_check(header, frame_bytes, tx->net->features) ? NULL
									: "has a header that may not be";
}

/* True: the packet joins the batch; else it has been given back. */
static bool take_packet(struct net_tx *tx, struct virtq_chain *chain, struct iovec *iov)
{
	struct net *net = tx->net;
	struct net_header *header = &tx->headers[tx->count];
	const char *wrong = judge(tx, chain, header);
	if (!wrong && net_link(net)) {
		make_packet(&tx->packets[tx->count], header, iov, chain);
		tx->chains[tx->count] = *chain;
		tx->chains[tx->count++].iov = NULL;
		return true;
	}
	if (wrong)
		(void)log_guest(&net->base.device.counts.guest_errors, "%s: a packet that %s", net->name,
				wrong);
	net->counts.tx_dropped++;
	(void)virtq_push(tx->vq, chain, 0);
	return false;
}

/* ---- the queue ---- */

static unsigned queue_index(const struct net_tx *tx)
{
	return 2 * tx->pair + 1;
}

/* False: no more, for now. */
static bool pop_packet(struct net_tx *tx, unsigned *iov_used, bool *dropped)
{
	struct iovec *iov = tx->iov + *iov_used;
	struct virtq_chain chain = {.iov = iov + 1, .iov_max = tx->vq->setup.size};
	int got = virtq_pop(tx->vq, &chain);
	if (got == 0)
		return false;
	if (got < 0) {
		net_break(tx->net, tx->vq->why);
		return false;
	}
	if (chain.read_bytes < NET_HEADER_BYTES) {
		(void)virtq_push(tx->vq, &chain, 0);
		net_break(tx->net, "a packet without a whole header");
		return false;
	}
	if (!ratelimit_take(&tx->limit, chain.read_bytes - NET_HEADER_BYTES)) {
		(void)virtq_unpop(tx->vq, &chain);
		return false;
	}
	if (take_packet(tx, &chain, iov))
		*iov_used += 1U + chain.read_count;
	else
		*dropped = true;
	return true;
}

void net_tx_run(struct net_tx *tx)
{
	unsigned iov_used = 0;
	bool dropped = false;
	if (!tx->vq || tx->sending || tx->net->broken)
		return;
	struct net_packet *own = tx->pair == 0 ? net_rarp_take(tx->net) : NULL;
	if (own) {
		tx->sending = true;
		net_send(tx->net->backend, tx->pair, own, 1);
		return;
	}
	while (tx->count < NET_TX_BATCH && iov_used + 1U + tx->vq->setup.size <= NET_TX_IOVS &&
	       pop_packet(tx, &iov_used, &dropped))
		;
	if (dropped)
		virtio_interrupt(tx->net->base.virtio, queue_index(tx));
	if (tx->count) {
		tx->sending = true;
		net_send(tx->net->backend, tx->pair, tx->packets, tx->count);
	}
}

/* Whatever became of them, the guest has them back. */
static void give_back(struct net_tx *tx)
{
	struct net_counts *counts = &tx->net->counts;
	for (unsigned i = 0; i < tx->count; i++) {
		size_t bytes = tx->packets[i].bytes;
		counts->tx_packets += bytes > 0;
		counts->tx_dropped += bytes == 0;
		counts->tx_bytes += bytes ? bytes - NET_HEADER_BYTES : 0;
		(void)virtq_push(tx->vq, &tx->chains[i], 0);
	}
	tx->count = 0;
	tx->sending = false;
	virtio_interrupt(tx->net->base.virtio, queue_index(tx));
}

void net_tx_sent(struct net_tx *tx)
{
	if (tx->count)
		give_back(tx);
	tx->sending = false; /* ours are nobody's to get back */
	virtio_retry(tx->net->base.virtio, queue_index(tx));
}

static void limit_ready(void *owner)
{
	struct net_tx *tx = owner;
	if (tx->vq)
		virtio_retry(tx->net->base.virtio, queue_index(tx));
}

static void free_memory(struct net_tx *tx)
{
	free(take_ptr(tx->chains));
	free(take_ptr(tx->packets));
	free(take_ptr(tx->headers));
	free(take_ptr(tx->iov));
}

int net_tx_start(struct net_tx *tx, struct virtq *vq)
{
	tx->chains = calloc(NET_TX_BATCH, sizeof(*tx->chains));
	tx->packets = calloc(NET_TX_BATCH, sizeof(*tx->packets));
	tx->headers = calloc(NET_TX_BATCH, sizeof(*tx->headers));
	tx->iov = calloc(NET_TX_IOVS, sizeof(*tx->iov));
	if (!tx->chains || !tx->packets || !tx->headers || !tx->iov) {
		free_memory(tx);
		return -ENOMEM;
	}
	ratelimit_init(&tx->limit, &tx->net->config->rate, virtio_loop(tx->net->base.virtio), limit_ready,
		       tx);
	tx->count = 0;
	tx->sending = false;
	tx->vq = vq;
	return 0;
}

void net_tx_stop(struct net_tx *tx)
{
	if (!tx->vq)
		return;
	ratelimit_finish(&tx->limit);
	if (tx->count)
		give_back(tx);
	free_memory(tx);
	tx->vq = NULL;
}
