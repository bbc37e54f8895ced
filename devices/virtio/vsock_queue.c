/* Packets of virtio-vsock, both ways (VIRTIO 1.3, 5.10.6). */
#include "vsock.h"

#include <errno.h>
#include <inttypes.h>

/* ---- to the guest ---- */

static uint32_t refusals(const struct vsock *vsock)
{
	return vsock->refusal_in - vsock->refusal_out;
}

void vsock_refuse(struct vsock *vsock, uint64_t cid, uint32_t host_port, uint32_t guest_port)
{
	if (refusals(vsock) < VSOCK_REFUSALS_MAX)
		vsock->refusals[vsock->refusal_in++ % VSOCK_REFUSALS_MAX] =
			(struct vsock_refusal){cid, host_port, guest_port};
}

/* The guest does not say that it has seen the end of a connection: it is told that there is none. */
static void linger_over(struct loop_op *op, int res)
{
	struct vsock_conn *conn = container_of(op, struct vsock_conn, wait_op);
	struct vsock *vsock = conn->vsock;
	(void)res;
	vsock_conn_reset(conn);
	vsock_pump(vsock);
}

/* What the guest does not know yet of the host's ends. That no more comes, only after all has come. */
static uint32_t news_of_end(const struct vsock_conn *conn)
{
	uint32_t flags = conn->host_gone ? VSOCK_NO_RECEIVE : 0;
	if (conn->host_eof && conn->start == conn->end)
		flags |= VSOCK_NO_SEND;
	return flags & ~conn->told;
}

/*
 * The next packet of a connection: its operation, 0 for none. Data goes before what can wait. Nothing is
 * changed yet, there may be no buffer for it.
 */
static enum vsock_op next_op(const struct vsock_conn *conn)
{
	if (conn->pending & 1U << VSOCK_OP_REQUEST)
		return VSOCK_OP_REQUEST;
	if (conn->pending & 1U << VSOCK_OP_RESPONSE)
		return VSOCK_OP_RESPONSE;
	if (conn->state != VSOCK_ESTABLISHED)
		return 0;
	bool data = conn->start < conn->end;
	if (data && vsock_conn_credit(conn) > 0)
		return VSOCK_OP_RW;
	if (news_of_end(conn))
		return VSOCK_OP_SHUTDOWN;
	if (conn->pending & 1U << VSOCK_OP_CREDIT_UPDATE)
		return VSOCK_OP_CREDIT_UPDATE;
	return data && !conn->asked ? VSOCK_OP_CREDIT_REQUEST : 0;
}

static struct vsock_hdr header(struct vsock *vsock, uint32_t host_port, uint32_t guest_port, enum vsock_op op)
{
	return (struct vsock_hdr){
		.src_cid = VSOCK_HOST_CID,
		.dst_cid = vsock->config->cid,
		.src_port = host_port,
		.dst_port = guest_port,
		.type = VSOCK_TYPE_STREAM,
		.op = (uint16_t)op,
	};
}

/* Into vsock->chain; the bytes written. */
static uint32_t fill(struct vsock_conn *conn, enum vsock_op op)
{
	struct vsock *vsock = conn->vsock;
	struct vsock_hdr hdr = header(vsock, conn->host_port, conn->guest_port, op);
	hdr.buf_alloc = VSOCK_TO_HOST;
	hdr.fwd_cnt = conn->told_forwarded = conn->forwarded;
	conn->pending &= ~(1U << op | 1U << VSOCK_OP_CREDIT_UPDATE);
	if (op == VSOCK_OP_RW) {
		uint64_t len = conn->end - conn->start, room = vsock->chain.write_bytes - sizeof(hdr);
		uint32_t credit = vsock_conn_credit(conn);
		len = len < room ? len : room;
		hdr.len = len < credit ? (uint32_t)len : credit;
		(void)virtq_chain_write(&vsock->chain, sizeof(hdr), conn->to_guest + conn->start, hdr.len);
		conn->start += hdr.len;
		conn->sent += hdr.len;
		conn->asked = false;
		vsock_conn_receive(conn);
	} else if (op == VSOCK_OP_SHUTDOWN) {
		conn->told |= news_of_end(conn);
		hdr.flags = conn->told;
	} else if (op == VSOCK_OP_CREDIT_REQUEST) {
		conn->asked = true;
	} else if (op == VSOCK_OP_REQUEST) {
		conn->requested = true;
	}
	(void)virtq_chain_write(&vsock->chain, 0, &hdr, sizeof(hdr));
	return (uint32_t)sizeof(hdr) + hdr.len;
}

static uint32_t fill_refusal(struct vsock *vsock)
{
	const struct vsock_refusal *refusal = &vsock->refusals[vsock->refusal_out++ % VSOCK_REFUSALS_MAX];
	struct vsock_hdr hdr = header(vsock, refusal->host_port, refusal->guest_port, VSOCK_OP_RST);
	hdr.src_cid = refusal->cid;
	(void)virtq_chain_write(&vsock->chain, 0, &hdr, sizeof(hdr));
	return sizeof(hdr);
}

/* Takes the first connection that has a packet to the front; those before it have none. */
static struct vsock_conn *first_ready(struct vsock *vsock, enum vsock_op *op)
{
	struct vsock_conn *conn;
	*op = 0;
	while ((conn = vsock->ready_first) && !(*op = next_op(conn))) {
		vsock->ready_first = conn->after;
		if (!vsock->ready_first)
			vsock->ready_last = NULL;
		conn->ready = false;
	}
	return conn;
}

/* To the end of the line: others get their turn. */
static void sent_one(struct vsock_conn *conn, enum vsock_op op)
{
	struct vsock *vsock = conn->vsock;
	vsock->ready_first = conn->after;
	if (!vsock->ready_first)
		vsock->ready_last = NULL;
	conn->ready = false;
	vsock_conn_ready(conn);
	if (op == VSOCK_OP_SHUTDOWN && conn->told == VSOCK_CLOSED && !conn->wait_op.pending) {
		conn->wait_op.done = linger_over;
		loop_delay(virtio_loop(vsock->base.virtio), &conn->wait_op, VSOCK_LINGER_NS);
	}
}

/* The guest broke a queue: nothing is taken from it before it has reset the device. */
static void needs_reset(struct vsock *vsock, const char *why)
{
	vsock->active = false;
	virtio_needs_reset(vsock->base.virtio, why);
}

/* A buffer for a packet: 1, 0 when there is none, -EPROTO. */
static int take_buffer(struct vsock *vsock, struct virtq *vq)
{
	int got = virtq_pop(vq, &vsock->chain);
	if (got == 0 && virtq_enable_doorbell(vq))
		got = virtq_pop(vq, &vsock->chain);
	if (got > 0 && vsock->chain.write_bytes <= sizeof(struct vsock_hdr)) {
		needs_reset(vsock, "a receive buffer without room for a packet");
		(void)virtq_push(vq, &vsock->chain, 0);
		return -EPROTO;
	}
	if (got < 0)
		needs_reset(vsock, "broken queue");
	return got;
}

/* One packet: false when there is none, or no buffer. */
static bool pump_one(struct vsock *vsock, struct virtq *vq)
{
	enum vsock_op op = 0;
	struct vsock_conn *conn = refusals(vsock) ? NULL : first_ready(vsock, &op);
	uint32_t written;
	if ((!refusals(vsock) && !conn) || take_buffer(vsock, vq) <= 0)
		return false;
	if (conn)
		written = fill(conn, op);
	else
		written = fill_refusal(vsock);
	if (virtq_push(vq, &vsock->chain, written) < 0) {
		needs_reset(vsock, "broken queue");
		return false;
	}
	if (conn)
		sent_one(conn, op);
	return true;
}

void vsock_pump(struct vsock *vsock)
{
	struct virtio *virtio = vsock->base.virtio;
	struct virtq *vq = vsock->active && !vsock->pumping ? virtio_queue(virtio, VSOCK_RX) : NULL;
	bool any = false;
	if (!vq || vq->broken)
		return;
	vsock->pumping = true;
	while (pump_one(vsock, vq))
		any = true;
	vsock->pumping = false;
	if (any)
		virtio_interrupt(virtio, VSOCK_RX);
	if (vsock->tx_held && refusals(vsock) < VSOCK_REFUSALS_HELD / 2) {
		vsock->tx_held = false;
		virtio_retry(virtio, VSOCK_TX);
	}
}

/* ---- from the guest ---- */

static void take_credit(struct vsock_conn *conn, const struct vsock_hdr *hdr)
{
	conn->buf_alloc = hdr->buf_alloc;
	conn->fwd_cnt = hdr->fwd_cnt;
	if (vsock_conn_credit(conn) > 0)
		conn->asked = false;
	vsock_conn_ready(conn);
}

/* A packet of an established connection. False: it breaks the rules. */
static bool take_established(struct vsock_conn *conn, const struct vsock_hdr *hdr)
{
	switch (hdr->op) {
	case VSOCK_OP_RW:
		return !(conn->guest_shut & VSOCK_NO_SEND) &&
		       vsock_conn_take(conn, &conn->vsock->chain, sizeof(*hdr), hdr->len);
	case VSOCK_OP_CREDIT_REQUEST:
		conn->pending |= 1U << VSOCK_OP_CREDIT_UPDATE;
		return true;
	case VSOCK_OP_CREDIT_UPDATE:
		return true;
	case VSOCK_OP_SHUTDOWN:
		vsock_conn_guest_shut(conn, hdr->flags);
		return true;
	default:
		return false;
	}
}

static void take_known(struct vsock_conn *conn, const struct vsock_hdr *hdr)
{
	struct vsock *vsock = conn->vsock;
	if (hdr->op == VSOCK_OP_RST) {
		vsock_conn_free(conn);
		return;
	}
	if (conn->state == VSOCK_REQUESTED && conn->requested && hdr->op == VSOCK_OP_RESPONSE) {
		take_credit(conn, hdr);
		vsock_conn_established(conn);
		return;
	}
	if (conn->state == VSOCK_CONNECTING && hdr->op == VSOCK_OP_SHUTDOWN) {
		vsock_conn_reset(conn); /* it gave up waiting */
		return;
	}
	if (conn->state == VSOCK_ESTABLISHED) {
		take_credit(conn, hdr);
		if (take_established(conn, hdr))
			return;
	}
	(void)log_guest(&vsock->base.device.counts.guest_errors,
			"%s: operation %u of %u bytes does not belong into connection %u-%u", vsock->name,
			hdr->op, hdr->len, hdr->src_port, hdr->dst_port);
	vsock_conn_reset(conn);
}

/* 5.10.6.4.1: what belongs to no connection is refused, but for RST itself. */
static void take_packet(struct vsock *vsock, const struct vsock_hdr *hdr)
{
	struct vsock_conn *conn = vsock_conn_find(vsock, hdr->dst_port, hdr->src_port);
	if (hdr->src_cid != vsock->config->cid) {
		(void)log_guest(&vsock->base.device.counts.guest_errors, "%s: a packet from CID %" PRIu64,
				vsock->name, hdr->src_cid);
		return;
	}
	if (hdr->dst_cid != VSOCK_HOST_CID || hdr->type != VSOCK_TYPE_STREAM) {
		if (hdr->op != VSOCK_OP_RST)
			vsock_refuse(vsock, hdr->dst_cid, hdr->dst_port, hdr->src_port);
		return;
	}
	if (conn)
		take_known(conn, hdr);
	else if (hdr->op == VSOCK_OP_REQUEST)
		vsock_connect(vsock, hdr->dst_port, hdr->src_port, hdr);
	else if (hdr->op != VSOCK_OP_RST)
		vsock_refuse(vsock, VSOCK_HOST_CID, hdr->dst_port, hdr->src_port);
}

static void transmit(struct vsock *vsock, struct virtq *vq)
{
	struct vsock_hdr hdr;
	int got = 0;
	while (!(vsock->tx_held = refusals(vsock) >= VSOCK_REFUSALS_HELD) &&
	       (got = virtq_pop(vq, &vsock->chain)) > 0) {
		if (virtq_chain_read(&vsock->chain, 0, &hdr, sizeof(hdr)) < sizeof(hdr) ||
		    hdr.len > vsock->chain.read_bytes - sizeof(hdr))
			(void)log_guest(&vsock->base.device.counts.guest_errors,
					"%s: a packet that is shorter than it says", vsock->name);
		else
			take_packet(vsock, &hdr);
		got = virtq_push(vq, &vsock->chain, 0);
		if (got < 0)
			break;
	}
	if (got < 0)
		needs_reset(vsock, "broken queue");
	virtio_interrupt(vsock->base.virtio, VSOCK_TX);
}

/* 5.10.6.7 */
static void tell_transport_reset(struct vsock *vsock, struct virtq *vq)
{
	static const uint32_t event = 0; /* VIRTIO_VSOCK_EVENT_TRANSPORT_RESET */
	int got = vsock->transport_reset ? virtq_pop(vq, &vsock->chain) : 0;
	if (got == 0)
		return;
	if (got > 0) {
		size_t written = virtq_chain_write(&vsock->chain, 0, &event, sizeof(event));
		vsock->transport_reset = false;
		got = virtq_push(vq, &vsock->chain, (uint32_t)written);
	}
	if (got < 0)
		needs_reset(vsock, "broken queue");
	virtio_interrupt(vsock->base.virtio, VSOCK_EVENT);
}

void vsock_doorbell(void *device, unsigned index)
{
	struct vsock *vsock = device;
	struct virtq *vq = virtio_queue(vsock->base.virtio, index);
	if (!vq || !vsock->active)
		return;
	if (index == VSOCK_TX)
		transmit(vsock, vq);
	else if (index == VSOCK_EVENT)
		tell_transport_reset(vsock, vq);
	vsock_pump(vsock);
}
