/* One connection of virtio-vsock: see vsock.h. */
#include "vsock.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

static struct vsock_conn **bucket(struct vsock *vsock, uint32_t host_port, uint32_t guest_port)
{
	uint32_t hash = (host_port * 0x9e3779b1U ^ guest_port) * 0x85ebca6bU;
	return &vsock->buckets[hash >> 16 & (VSOCK_BUCKETS - 1)];
}

struct vsock_conn *vsock_conn_find(struct vsock *vsock, uint32_t host_port, uint32_t guest_port)
{
	struct vsock_conn *conn = *bucket(vsock, host_port, guest_port);
	while (conn && (conn->host_port != host_port || conn->guest_port != guest_port))
		conn = conn->chain;
	return conn;
}

void vsock_conn_publish(struct vsock_conn *conn)
{
	struct vsock_conn **head = bucket(conn->vsock, conn->host_port, conn->guest_port);
	conn->chain = *head;
	*head = conn;
}

static void hide(struct vsock_conn *conn)
{
	struct vsock_conn **at = bucket(conn->vsock, conn->host_port, conn->guest_port);
	while (*at && *at != conn)
		at = &(*at)->chain;
	if (*at)
		*at = conn->chain;
}

void vsock_conn_ready(struct vsock_conn *conn)
{
	struct vsock *vsock = conn->vsock;
	if (conn->ready)
		return;
	conn->ready = true;
	conn->after = NULL;
	if (vsock->ready_last)
		vsock->ready_last->after = conn;
	else
		vsock->ready_first = conn;
	vsock->ready_last = conn;
}

static void unready(struct vsock_conn *conn)
{
	struct vsock *vsock = conn->vsock;
	struct vsock_conn *before = NULL;
	if (!conn->ready)
		return;
	for (struct vsock_conn *at = vsock->ready_first; at != conn; at = at->after)
		before = at;
	if (before)
		before->after = conn->after;
	else
		vsock->ready_first = conn->after;
	if (vsock->ready_last == conn)
		vsock->ready_last = before;
	conn->ready = false;
}

/* ---- to the host ---- */

/* The guest may send more, and does not know it: when it could have used up half of its credit. */
static void tell_credit(struct vsock_conn *conn)
{
	uint32_t used = conn->received - conn->told_forwarded;
	if (conn->state != VSOCK_ESTABLISHED || conn->forwarded == conn->told_forwarded ||
	    used < VSOCK_TO_HOST / 2)
		return;
	conn->pending |= 1U << VSOCK_OP_CREDIT_UPDATE;
	vsock_conn_ready(conn);
}

/* All is sent. False: the connection is gone. */
static bool drained(struct vsock_conn *conn)
{
	if ((conn->guest_shut & VSOCK_NO_SEND) && !conn->wr_shut) {
		conn->wr_shut = true;
		(void)shutdown(conn->fd, SHUT_WR);
	}
	if (conn->state != VSOCK_DRAINING)
		return true;
	vsock_conn_free(conn);
	return false;
}

/* To the host what there is. */
static void vsock_conn_send(struct vsock_conn *conn)
{
	struct loop *loop = virtio_loop(conn->vsock->base.virtio);
	if (conn->send_op.pending)
		return;
	if (conn->host_gone) { /* nobody will read it */
		conn->hello_sent = conn->hello_len;
		conn->forwarded = conn->received;
		tell_credit(conn);
	}
	uint32_t at = conn->forwarded % VSOCK_TO_HOST, len = conn->received - conn->forwarded;
	if (conn->hello_sent < conn->hello_len)
		loop_send(loop, &conn->send_op, conn->fd, conn->hello + conn->hello_sent,
			  (size_t)(conn->hello_len - conn->hello_sent), MSG_NOSIGNAL);
	else if (len)
		loop_send(loop, &conn->send_op, conn->fd, conn->to_host + at,
			  len < VSOCK_TO_HOST - at ? len : VSOCK_TO_HOST - at, MSG_NOSIGNAL);
	else
		(void)drained(conn);
}

static void send_done(struct loop_op *op, int res)
{
	struct vsock_conn *conn = container_of(op, struct vsock_conn, send_op);
	struct vsock *vsock = conn->vsock;
	if (res < 0 && res != -EINTR && res != -EAGAIN) {
		conn->host_gone = true;
		vsock_conn_ready(conn);
	} else if (res > 0 && conn->hello_sent < conn->hello_len) {
		conn->hello_sent = (uint8_t)(conn->hello_sent + res);
	} else if (res > 0) {
		conn->forwarded += (uint32_t)res;
		tell_credit(conn);
	}
	vsock_conn_send(conn);
	vsock_pump(vsock);
}

void vsock_conn_flush_all(struct vsock *vsock)
{
	struct loop *loop = virtio_loop(vsock->base.virtio);
	uint64_t end_ns = loop_now_ns() + VSOCK_FLUSH_NS;
	bool waits = true;
	while (waits) {
		waits = false;
		for (struct vsock_conn *conn = vsock->conns, *next; conn; conn = next) {
			next = conn->next; /* this one may go, when all is sent */
			if (!conn->send_op.pending)
				continue;
			if (loop_now_ns() >= end_ns)
				return;
			waits = true;
			int res = loop_wait(loop, &conn->send_op, VSOCK_FLUSH_TURN_NS);
			send_done(&conn->send_op, res == -ECANCELED ? -EINTR : res);
		}
	}
}

bool vsock_conn_take(struct vsock_conn *conn, const struct virtq_chain *chain, size_t offset, uint32_t len)
{
	if (len > VSOCK_TO_HOST - (conn->received - conn->forwarded))
		return false;
	uint32_t at = conn->received % VSOCK_TO_HOST;
	uint32_t first = len < VSOCK_TO_HOST - at ? len : VSOCK_TO_HOST - at;
	(void)virtq_chain_read(chain, offset, conn->to_host + at, first);
	(void)virtq_chain_read(chain, offset + first, conn->to_host, len - first);
	conn->received += len;
	vsock_conn_send(conn);
	return true;
}

/* ---- from the host ---- */

void vsock_conn_receive(struct vsock_conn *conn)
{
	bool wanted = conn->state == VSOCK_GREETING || conn->state == VSOCK_REQUESTED ||
		      conn->state == VSOCK_ESTABLISHED;
	if (!wanted || conn->recv_op.pending || conn->host_eof)
		return;
	if (conn->start == conn->end)
		conn->start = conn->end = 0;
	else if (conn->state != VSOCK_GREETING)
		return;
	loop_recv(virtio_loop(conn->vsock->base.virtio), &conn->recv_op, conn->fd, conn->to_guest + conn->end,
		  VSOCK_TO_GUEST - conn->end, 0);
}

static void recv_done(struct loop_op *op, int res)
{
	struct vsock_conn *conn = container_of(op, struct vsock_conn, recv_op);
	struct vsock *vsock = conn->vsock;
	if (res > 0)
		conn->end += (size_t)res;
	else if (res != -EINTR && res != -EAGAIN) /* a peer that dies with bytes unread is ECONNRESET */
		conn->host_eof = true;
	if (conn->state == VSOCK_GREETING) {
		vsock_greeted(conn);
	} else {
		if (conn->guest_shut & VSOCK_NO_RECEIVE)
			conn->start = conn->end = 0;
		vsock_conn_receive(conn);
		vsock_conn_ready(conn);
	}
	vsock_pump(vsock);
}

uint32_t vsock_conn_credit(const struct vsock_conn *conn)
{
	uint32_t used = conn->sent - conn->fwd_cnt;
	return used < conn->buf_alloc ? conn->buf_alloc - used : 0;
}

/* ---- ends ---- */

/* The host program has closed its socket, or both directions have ended. */
static void watched(struct loop_op *op, int res)
{
	struct vsock_conn *conn = container_of(op, struct vsock_conn, watch_op);
	struct vsock *vsock = conn->vsock;
	if (res < 0 || !(res & (POLLHUP | POLLERR)) || conn->host_gone)
		return;
	conn->host_gone = true;
	if (conn->state == VSOCK_REQUESTED) {
		vsock_conn_reset(conn);
	} else {
		vsock_conn_ready(conn);
		vsock_conn_send(conn);
	}
	vsock_pump(vsock);
}

void vsock_conn_watch(struct vsock_conn *conn)
{
	conn->watch_op.done = watched;
	loop_poll(virtio_loop(conn->vsock->base.virtio), &conn->watch_op, conn->fd, 0);
}

void vsock_conn_established(struct vsock_conn *conn)
{
	conn->state = VSOCK_ESTABLISHED;
	vsock_conn_ready(conn);
	vsock_conn_receive(conn);
	vsock_conn_send(conn);
}

/* 5.10.6.5: both directions closed are answered by RST; what is on its way to the host still gets there. */
void vsock_conn_guest_shut(struct vsock_conn *conn, uint32_t flags)
{
	conn->guest_shut |= flags & VSOCK_CLOSED;
	if (conn->guest_shut & VSOCK_NO_RECEIVE) {
		conn->start = conn->end = 0;
		(void)shutdown(conn->fd, SHUT_RD);
	}
	if (conn->guest_shut == VSOCK_CLOSED) {
		vsock_refuse(conn->vsock, VSOCK_HOST_CID, conn->host_port, conn->guest_port);
		hide(conn);
		conn->state = VSOCK_DRAINING;
		conn->pending = 0;
	}
	vsock_conn_send(conn);
}

void vsock_conn_reset(struct vsock_conn *conn)
{
	if (conn->state == VSOCK_CONNECTING || conn->state == VSOCK_ESTABLISHED ||
	    (conn->state == VSOCK_REQUESTED && conn->requested))
		vsock_refuse(conn->vsock, VSOCK_HOST_CID, conn->host_port, conn->guest_port);
	vsock_conn_free(conn);
}

void vsock_conn_free(struct vsock_conn *conn)
{
	struct vsock *vsock = conn->vsock;
	struct loop *loop = virtio_loop(vsock->base.virtio);
	(void)loop_release(loop, &conn->recv_op);
	(void)loop_release(loop, &conn->send_op);
	(void)loop_release(loop, &conn->watch_op);
	(void)loop_release(loop, &conn->wait_op);
	unready(conn);
	if (conn->state != VSOCK_GREETING && conn->state != VSOCK_DRAINING)
		hide(conn);
	if (conn->prev)
		conn->prev->next = conn->next;
	else
		vsock->conns = conn->next;
	if (conn->next)
		conn->next->prev = conn->prev;
	vsock->conn_count--;
	(void)close_fd(conn->fd);
	free(conn->to_guest);
	free(conn->to_host);
	free(conn);
	vsock_accept(vsock);
}

void vsock_conn_drop_all(struct vsock *vsock)
{
	while (vsock->conns)
		vsock_conn_free(vsock->conns);
	vsock->refusal_in = vsock->refusal_out = 0;
	vsock->tx_held = false;
}

struct vsock_conn *vsock_conn_new(struct vsock *vsock, int fd)
{
	struct vsock_conn *conn = calloc(1, sizeof(*conn));
	uint8_t *to_guest = malloc(VSOCK_TO_GUEST), *to_host = malloc(VSOCK_TO_HOST);
	if (!conn || !to_guest || !to_host) {
		free(conn);
		free(to_guest);
		free(to_host);
		(void)close_fd(fd);
		return NULL;
	}
	*conn = (struct vsock_conn){.vsock = vsock, .fd = fd, .to_guest = to_guest, .to_host = to_host};
	conn->recv_op.done = recv_done;
	conn->send_op.done = send_done;
	conn->next = vsock->conns;
	if (conn->next)
		conn->next->prev = conn;
	vsock->conns = conn;
	vsock->conn_count++;
	return conn;
}
