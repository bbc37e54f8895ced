/*
 * The host's side of virtio-vsock, as Firecracker has it, so that its clients work here.
 *
 * A host program connects to the socket `path`, writes "CONNECT <port>\n" and reads "OK <its port>\n" when
 * the guest has accepted; a connection that the guest refuses is closed. When the guest connects to CID 2
 * port P, whoever listens on the socket `path`_P gets the connection.
 */
#include "vsock.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static struct loop *loop_of(struct vsock *vsock)
{
	return virtio_loop(vsock->base.virtio);
}

/* ---- host programs ---- */

static void greeting_late(struct loop_op *op, int res)
{
	(void)res;
	vsock_conn_free(container_of(op, struct vsock_conn, wait_op));
}

static void accepted(struct loop_op *op, int res)
{
	struct vsock *vsock = container_of(op, struct vsock, accept_op);
	if (res < 0) { /* it was gone before we came (ECONNABORTED), or descriptors are short (EMFILE) */
		loop_delay(loop_of(vsock), &vsock->again_op, VSOCK_LINGER_NS / 10);
		return;
	}
	struct vsock_conn *conn = vsock_conn_new(vsock, res);
	if (conn) {
		conn->wait_op.done = greeting_late;
		loop_delay(loop_of(vsock), &conn->wait_op, VSOCK_GREETING_NS);
		vsock_conn_receive(conn);
	}
	vsock_accept(vsock);
}

static void accept_again(struct loop_op *op, int res)
{
	(void)res;
	vsock_accept(container_of(op, struct vsock, again_op));
}

void vsock_accept(struct vsock *vsock)
{
	vsock->accept_op.done = accepted;
	vsock->again_op.done = accept_again;
	if (!atomic_load(&vsock->leaving) && !vsock->accept_op.pending && !vsock->again_op.pending &&
	    vsock->conn_count < VSOCK_CONNECTIONS)
		loop_accept(loop_of(vsock), &vsock->accept_op, vsock->listener.fd);
}

/* The port of "CONNECT <port>", of `len` bytes without the end of line. False: it is none. */
static bool parse_greeting(const char *line, size_t len, uint32_t *ret)
{
	static const char word[] = "CONNECT ";
	uint64_t port = 0;
	size_t at = sizeof(word) - 1;
	if (len <= at || strncasecmp(line, word, at) != 0)
		return false;
	for (; at < len; at++) {
		if (!isdigit((unsigned char)line[at]))
			return false;
		port = port * 10 + (uint64_t)(line[at] - '0');
		if (port > UINT32_MAX)
			return false;
	}
	*ret = (uint32_t)port;
	return true;
}

static uint32_t free_port(struct vsock *vsock, uint32_t guest_port)
{
	do {
		vsock->next_port = vsock->next_port < VSOCK_FIRST_PORT || vsock->next_port == UINT32_MAX
					   ? VSOCK_FIRST_PORT
					   : vsock->next_port + 1;
	} while (vsock_conn_find(vsock, vsock->next_port, guest_port));
	return vsock->next_port;
}

/* More of the greeting has come, or its end. */
void vsock_greeted(struct vsock_conn *conn)
{
	struct vsock *vsock = conn->vsock;
	size_t most = conn->end < VSOCK_GREETING_MAX ? conn->end : VSOCK_GREETING_MAX;
	const uint8_t *end = memchr(conn->to_guest, '\n', most);
	uint32_t port;
	if (!end && most < VSOCK_GREETING_MAX && !conn->host_eof) {
		vsock_conn_receive(conn);
		return;
	}
	if (!end || !parse_greeting((const char *)conn->to_guest, (size_t)(end - conn->to_guest), &port) ||
	    !vsock->driven) {
		vsock_conn_free(conn);
		return;
	}
	(void)loop_release(loop_of(vsock), &conn->wait_op);
	conn->start = (size_t)(end - conn->to_guest) + 1;
	conn->guest_port = port;
	conn->host_port = free_port(vsock, port);
	conn->hello_len = (uint8_t)snprintf(conn->hello, sizeof(conn->hello), "OK %u\n", conn->host_port);
	conn->state = VSOCK_REQUESTED;
	conn->pending = 1U << VSOCK_OP_REQUEST;
	vsock_conn_publish(conn);
	vsock_conn_watch(conn);
	vsock_conn_receive(conn);
	vsock_conn_ready(conn);
}

/* ---- the guest's requests ---- */

static void connect_now(struct vsock_conn *conn)
{
	loop_connect(loop_of(conn->vsock), &conn->wait_op, conn->fd, (const struct sockaddr *)&conn->address,
		     sizeof(conn->address));
}

/*
 * EAGAIN: the listener's backlog is full. The socket is non-blocking and we wait here, since a connect that
 * blocks would cost the kernel a thread for each that a guest can ask for.
 */
static void connected(struct loop_op *op, int res)
{
	struct vsock_conn *conn = container_of(op, struct vsock_conn, wait_op);
	struct vsock *vsock = conn->vsock;
	if (res == -ETIME || res == -EINTR) {
		connect_now(conn);
		return;
	}
	if (res == -EAGAIN && ++conn->attempts < VSOCK_CONNECT_TRIES) {
		loop_delay(loop_of(vsock), op, VSOCK_CONNECT_NS);
		return;
	}
	if (res < 0) {
		vsock_conn_reset(conn);
	} else {
		conn->pending = 1U << VSOCK_OP_RESPONSE;
		vsock_conn_watch(conn);
		vsock_conn_established(conn);
	}
	vsock_pump(vsock);
}

void vsock_connect(struct vsock *vsock, uint32_t host_port, uint32_t guest_port, const struct vsock_hdr *hdr)
{
	int fd = -1;
	struct vsock_conn *conn = NULL;
	if (vsock->conn_count < VSOCK_CONNECTIONS)
		fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd >= 0)
		conn = vsock_conn_new(vsock, fd);
	if (!conn) {
		vsock_refuse(vsock, VSOCK_HOST_CID, host_port, guest_port);
		return;
	}
	conn->state = VSOCK_CONNECTING;
	conn->host_port = host_port;
	conn->guest_port = guest_port;
	conn->buf_alloc = hdr->buf_alloc;
	conn->fwd_cnt = hdr->fwd_cnt;
	conn->address.sun_family = AF_UNIX;
	(void)snprintf(conn->address.sun_path, sizeof(conn->address.sun_path), "%s_%u", vsock->config->path,
		       host_port);
	conn->wait_op.done = connected;
	vsock_conn_publish(conn);
	connect_now(conn);
}

/* ---- the socket ---- */

int vsock_listen(struct vsock *vsock, struct err *err)
{
	const char *path = vsock->config->path;
	const size_t most = sizeof(((struct sockaddr_un *)0)->sun_path) - 1 - VSOCK_PORT_CHARS_MAX;
	if (strlen(path) > most)
		return err_set(err, -ENAMETOOLONG,
			       "%s: at most %zu characters, so that \"_4294967295\" fits behind it", path,
			       most);
	return unix_socket_listen(path, 0777, SOMAXCONN, &vsock->listener, err);
}

void vsock_unlisten(struct vsock *vsock)
{
	unix_socket_unlisten(&vsock->listener);
}
