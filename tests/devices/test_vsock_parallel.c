/* virtio-vsock: 100 connections at once, each with a stream of its own both ways, every byte checked. */
#include "vsock_rig.h"

#include <fcntl.h>
#include <sched.h>

enum { COUNT = 100, STREAM = 300000, CHUNK = 9000, GUEST_ROOM = 20000 };

/* Byte `at` of the stream of connection `id` in one direction. */
static uint8_t stream_byte(unsigned id, bool to_guest, uint32_t at)
{
	uint32_t x = (at ^ id << 20 ^ (to_guest ? 0x5bd1e995U : 0)) * 0x9e3779b1U;
	return (uint8_t)(x >> 24);
}

static void stream_fill(uint8_t *data, unsigned id, bool to_guest, uint32_t at, uint32_t len)
{
	for (uint32_t i = 0; i < len; i++)
		data[i] = stream_byte(id, to_guest, at + i);
}

static void stream_check(const uint8_t *data, unsigned id, bool to_guest, uint32_t at, uint32_t len)
{
	for (uint32_t i = 0; i < len; i++)
		if (data[i] != stream_byte(id, to_guest, at + i))
			ck_abort_msg("connection %u: byte %u to the %s is wrong", id, at + i,
				     to_guest ? "guest" : "host");
}

/* ---- the host's programs, in one thread ---- */

struct program {
	int fd;
	uint32_t sent, got;
};
static struct program programs[COUNT];

static void program_send(struct program *p, unsigned id)
{
	uint8_t data[CHUNK];
	uint32_t len = STREAM - p->sent < CHUNK ? STREAM - p->sent : CHUNK;
	if (len == 0)
		return;
	stream_fill(data, id, true, p->sent, len);
	ssize_t n = send(p->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	ck_assert(n > 0 || errno == EAGAIN);
	p->sent += n > 0 ? (uint32_t)n : 0;
	if (p->sent == STREAM)
		ck_assert_int_eq(shutdown(p->fd, SHUT_WR), 0);
}

/* True: all has come, and its end. */
static bool program_receive(struct program *p, unsigned id)
{
	uint8_t data[CHUNK];
	ssize_t n = recv(p->fd, data, sizeof(data), MSG_DONTWAIT);
	if (n == 0) {
		ck_assert_uint_eq(p->got, STREAM);
		return true;
	}
	ck_assert(n > 0 || errno == EAGAIN);
	if (n > 0)
		stream_check(data, id, false, p->got, (uint32_t)n);
	p->got += n > 0 ? (uint32_t)n : 0;
	return false;
}

static void *run_programs(void *arg)
{
	unsigned running = COUNT;
	(void)arg;
	while (running > 0) {
		struct pollfd fds[COUNT];
		for (unsigned i = 0; i < COUNT; i++)
			fds[i] = (struct pollfd){
				.fd = programs[i].fd,
				.events = (short)(programs[i].sent < STREAM ? POLLIN | POLLOUT : POLLIN)};
		ck_assert_int_gt(poll(fds, COUNT, DRIVER_TIMEOUT_MS), 0);
		for (unsigned i = 0; i < COUNT; i++) {
			struct program *p = &programs[i];
			if (fds[i].revents & POLLOUT)
				program_send(p, i);
			if ((fds[i].revents & (POLLIN | POLLHUP)) && program_receive(p, i)) {
				ck_assert_uint_eq(p->sent, STREAM);
				p->fd = close_fd(p->fd);
				running--;
			}
		}
	}
	return NULL;
}

/* ---- the guest ---- */

struct socket_of_guest {
	struct packet peer;
	uint32_t sent, got, told; /* bytes of the streams; got, when the host was told last */
	uint32_t buf_alloc, fwd_cnt;
	bool ended, shut;
};
static struct socket_of_guest sockets[COUNT];
static unsigned open_sockets;

static void guest_header(unsigned id, unsigned op, uint32_t flags, const void *data, uint32_t len)
{
	struct socket_of_guest *s = &sockets[id];
	struct packet hdr = answer(&s->peer, op);
	hdr.buf_alloc = GUEST_ROOM;
	hdr.fwd_cnt = s->told = s->got;
	hdr.flags = flags;
	hdr.len = len;
	guest_send_raw(&hdr, data, len, HDR_BYTES);
}

static void guest_packet(const struct packet *packet)
{
	unsigned id = packet->dst_port - 1;
	struct socket_of_guest *s = &sockets[id];
	ck_assert_uint_lt(id, COUNT);
	s->buf_alloc = packet->buf_alloc;
	s->fwd_cnt = packet->fwd_cnt;
	if (packet->op == RW) {
		stream_check(packet->data, id, true, s->got, packet->len);
		s->got += packet->len;
		ck_assert_uint_le(s->got - s->told, GUEST_ROOM);
		if (s->got - s->told > GUEST_ROOM / 2)
			guest_header(id, CREDIT_UPDATE, 0, NULL, 0);
	} else if (packet->op == SHUTDOWN) {
		s->ended |= packet->flags & 2;
	} else if (packet->op == CREDIT_REQUEST) {
		guest_header(id, CREDIT_UPDATE, 0, NULL, 0);
	} else if (packet->op == RST) {
		ck_assert(s->shut && s->ended);
		ck_assert_uint_eq(s->got, STREAM);
		open_sockets--;
	} else {
		ck_assert_uint_eq(packet->op, CREDIT_UPDATE);
	}
}

/* True: something was done. */
static bool guest_turn(unsigned id)
{
	static uint8_t data[CHUNK];
	struct socket_of_guest *s = &sockets[id];
	uint32_t room = s->buf_alloc - (s->sent - s->fwd_cnt);
	uint32_t len = STREAM - s->sent < CHUNK ? STREAM - s->sent : CHUNK;
	len = len < room ? len : room;
	if (len > 0) {
		stream_fill(data, id, false, s->sent, len);
		s->sent += len;
		guest_header(id, RW, 0, data, len);
		return true;
	}
	if (s->ended && s->sent == STREAM && !s->shut) {
		s->shut = true;
		guest_header(id, SHUTDOWN, 3, NULL, 0);
		return true;
	}
	return false;
}

static void run_guest(void)
{
	uint64_t end = loop_now_ns() + UINT64_C(50000000000);
	while (open_sockets > 0) {
		struct ring_used used;
		struct packet packet;
		bool any = false;
		for (unsigned i = 0; i < COUNT; i++)
			any |= guest_turn(i);
		while (driver_try_collect(&rig.driver, RX, &used) > 0) {
			take_packet(&used, &packet);
			guest_packet(&packet);
			any = true;
		}
		if (!any)
			(void)sched_yield();
		ck_assert_uint_lt(loop_now_ns(), end);
	}
}

static void make_connection(unsigned id, int listener)
{
	struct socket_of_guest *s = &sockets[id];
	*s = (struct socket_of_guest){0};
	if (id & 1) {
		programs[id] = (struct program){.fd = host_connect(id + 1, &s->peer)};
		guest_header(id, CREDIT_UPDATE, 0, NULL, 0);
	} else {
		programs[id] = (struct program){.fd = guest_connect(id + 1, 7, listener, &s->peer)};
	}
	s->buf_alloc = s->peer.buf_alloc;
}

static void exchange(uint64_t features)
{
	pthread_t thread;
	rig_init(features, true);
	_cleanup_close_ int listener = host_listen("_7", COUNT);
	open_sockets = COUNT;
	for (unsigned i = 0; i < COUNT; i++)
		make_connection(i, listener);
	ck_assert_int_eq(pthread_create(&thread, NULL, run_programs, NULL), 0);
	run_guest();
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	for (unsigned i = 0; i < COUNT; i++)
		ck_assert_uint_eq(programs[i].got, STREAM);
	rig_finish();
}

START_TEST(a_hundred_streams_both_ways_split)
{
	exchange(VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC);
}
END_TEST

START_TEST(a_hundred_streams_both_ways_packed)
{
	exchange(VIRTIO_F_RING_PACKED);
}
END_TEST

TEST_MAIN("vsock_parallel", a_hundred_streams_both_ways_split, a_hundred_streams_both_ways_packed)
