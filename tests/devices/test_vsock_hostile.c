/* virtio-vsock: guests that break the rules, limits, and ends at any moment. */
#include "vsock_rig.h"

#include <sys/resource.h>

START_TEST(the_guests_credit_holds_the_host_back)
{
	static const uint8_t bytes[300];
	rig_init(0, true);
	struct packet peer, update;
	_cleanup_close_ int fd = host_request(5, &peer);
	struct packet response = answer(&peer, RESPONSE);
	response.buf_alloc = 100;
	guest_send_raw(&response, NULL, 0, HDR_BYTES);
	host_write(fd, bytes, sizeof(bytes));
	ck_assert_uint_eq(guest_expect(RW).len, 100);
	(void)guest_expect(CREDIT_REQUEST);
	update = answer(&peer, CREDIT_UPDATE);
	update.buf_alloc = 100;
	update.fwd_cnt = 60;
	guest_send_raw(&update, NULL, 0, HDR_BYTES);
	ck_assert_uint_eq(guest_expect(RW).len, 60);
	(void)guest_expect(CREDIT_REQUEST);
	update.buf_alloc = 0; /* shrinks it below what is in flight */
	guest_send_raw(&update, NULL, 0, HDR_BYTES);
	update.fwd_cnt = 1000; /* more than it ever got */
	guest_send_raw(&update, NULL, 0, HDR_BYTES);
	update.buf_alloc = 1000;
	update.fwd_cnt = 160;
	guest_send_raw(&update, NULL, 0, HDR_BYTES);
	ck_assert_uint_eq(guest_expect(RW).len, 140);
	rig_finish();
}
END_TEST

START_TEST(the_guest_is_told_its_credit)
{
	struct packet peer;
	static uint8_t bytes[65536], got[65536];
	rig_init(0, true);
	_cleanup_close_ int fd = host_connect(5, &peer);
	for (unsigned i = 1; i <= 4; i++) {
		guest_send(&peer, RW, bytes, sizeof(bytes));
		host_read(fd, got, sizeof(got));
		struct packet update = guest_expect(CREDIT_UPDATE); /* half of the credit is used */
		ck_assert_uint_le(update.fwd_cnt, i * 65536);
		while (update.fwd_cnt < i * 65536) { /* now, if it came too early */
			guest_send(&peer, CREDIT_REQUEST, NULL, 0);
			update = guest_expect(CREDIT_UPDATE);
		}
		ck_assert_uint_eq(update.buf_alloc, peer.buf_alloc);
	}
	rig_finish();
}
END_TEST

START_TEST(more_than_the_credit_ends_the_connection)
{
	struct packet peer;
	static uint8_t bytes[65536];
	rig_init(0, true);
	_cleanup_close_ int fd = host_connect(5, &peer);
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &(int){4096}, sizeof(int));
	struct packet packet = {0};
	for (unsigned i = 0; i < 64 && packet.op != RST; i++) { /* nobody reads */
		struct ring_used used;
		guest_send(&peer, RW, bytes, sizeof(bytes));
		while (packet.op != RST && driver_try_collect(&rig.driver, RX, &used) > 0)
			take_packet(&used, &packet);
	}
	ck_assert_uint_eq(packet.op, RST);
	ck_assert_int_eq(driver_status(&rig.driver) & DRIVER_NEEDS_RESET, 0);
	rig_finish();
}
END_TEST

/* Which packet, and whether it is refused. Its connection, if it names ours, is gone afterwards. */
static const struct {
	const char *what;
	uint64_t src_cid, dst_cid;
	uint32_t len, sent; /* in the header; in the chain */
	uint16_t type, op;
	bool ours, refused;
} packets[] = {
	{"another guest's CID", 43, 2, 0, 0, 1, RW, true, false},
	{"no CID", 0, 2, 0, 0, 1, RW, true, false},
	{"to another CID", 42, 3, 0, 0, 1, REQUEST, false, true},
	{"a CID of 64 bits", 42, UINT64_MAX, 0, 0, 1, REQUEST, false, true},
	{"a datagram", 42, 2, 0, 0, 3, REQUEST, false, true},
	{"seqpacket", 42, 2, 0, 0, 2, REQUEST, false, true},
	{"shorter than it says", 42, 2, 10, 9, 1, RW, true, false},
	{"far shorter than it says", 42, 2, UINT32_MAX, 9, 1, RW, true, false},
	{"data of nobody", 42, 2, 4, 4, 1, RW, false, true},
	{"an answer to nobody", 42, 2, 0, 0, 1, RESPONSE, false, true},
	{"the end of nothing", 42, 2, 0, 0, 1, SHUTDOWN, false, true},
	{"credit of nobody", 42, 2, 0, 0, 1, CREDIT_UPDATE, false, true},
	{"RST of nobody", 42, 2, 0, 0, 1, RST, false, false},
	{"no operation", 42, 2, 0, 0, 1, 0, false, true},
	{"no operation, ours", 42, 2, 0, 0, 1, 0, true, true},
	{"operation 8", 42, 2, 0, 0, 1, 8, true, true},
	{"operation 65535", 42, 2, 0, 0, 1, 65535, true, true},
	{"a second answer", 42, 2, 0, 0, 1, RESPONSE, true, true},
	{"a second request", 42, 2, 0, 0, 1, REQUEST, true, true},
	{"nothing to read", 42, 2, 0, 0, 1, RW, true, false},
	{"flags that are none", 42, 2, 0, 0, 1, SHUTDOWN, true, false},
};

START_TEST(packets_that_break_the_rules)
{
	rig_init(0, true);
	for (size_t i = 0; i < ARRAY_LEN(packets); i++) {
		static const uint8_t bytes[16];
		struct packet peer;
		_cleanup_close_ int fd = host_connect(5, &peer);
		struct packet hdr = {.src_cid = packets[i].src_cid,
				     .dst_cid = packets[i].dst_cid,
				     .src_port = packets[i].ours ? 5 : 6,
				     .dst_port = peer.src_port,
				     .len = packets[i].len,
				     .type = packets[i].type,
				     .op = packets[i].op,
				     .flags = 0xfffffffc,
				     .buf_alloc = 65536};
		guest_send_raw(&hdr, bytes, packets[i].sent, HDR_BYTES);
		if (packets[i].refused) {
			struct packet reset = guest_receive();
			ck_assert_msg(reset.op == RST, "%s", packets[i].what);
			ck_assert_uint_eq(reset.src_cid, packets[i].dst_cid);
			ck_assert_uint_eq(reset.dst_port, hdr.src_port);
			ck_assert_uint_eq(reset.src_port, hdr.dst_port);
		}
		if (packets[i].refused && packets[i].ours) {
			host_expect_end(fd);
			continue;
		}
		host_write(fd, "x", 1);
		struct packet data = guest_receive();
		ck_assert_msg(data.op == RW && data.len == 1, "%s: %u", packets[i].what, data.op);
		guest_shut(&peer, 3);
		(void)guest_expect(RST);
	}
	rig_finish();
}
END_TEST

START_TEST(chains_shorter_than_a_header)
{
	rig_init(0, true);
	const struct packet hdr = {.src_cid = 42, .dst_cid = 2, .type = 1, .op = RW};
	for (uint32_t len = 1; len < HDR_BYTES; len++)
		guest_send_raw(&hdr, NULL, 0, len);
	guest_send_raw(&hdr, NULL, 0, HDR_BYTES);
	(void)guest_expect(RST);
	ck_assert_int_eq(driver_status(&rig.driver) & DRIVER_NEEDS_RESET, 0);
	rig_finish();
}
END_TEST

START_TEST(buffers_too_small_for_a_packet)
{
	rig_init(0, false);
	guest_post(rig.rx_gpa, HDR_BYTES);
	const struct packet peer = peer_of(1, 2);
	guest_send(&peer, RW, NULL, 0);
	ck_assert_int_eq(driver_wait_status(&rig.driver, DRIVER_NEEDS_RESET), 0);
	guest_start(0);
	guest_post_all();
	struct packet again;
	_cleanup_close_ int fd = host_connect(5, &again);
	ck_assert_int_ge(fd, 0);
	rig_finish();
}
END_TEST

START_TEST(refusals_without_buffers_stop_the_guest_and_nobody_else)
{
	enum { SENT = 1000 };
	rig_init(0, false);
	const struct packet hdr = {.src_cid = 42, .dst_cid = 2, .type = 1, .op = RW, .src_port = 9};
	memcpy(world_at(&rig.world, rig.tx_gpa, HDR_BYTES), &hdr, HDR_BYTES);
	unsigned sent = 0, refused = 0;
	struct ring_used used;
	/* On a busy host it takes them when it can. */
	for (unsigned idle = 0; sent < SENT && (idle < 200 || sent < 256);) {
		if (driver_submit(&rig.driver, TX, &(struct ring_buffer){rig.tx_gpa, HDR_BYTES, false}, 1) >=
		    0) {
			sent++;
			idle = 0;
		} else {
			(void)usleep(1000);
			idle++;
		}
		while (driver_try_collect(&rig.driver, TX, &used) > 0)
			idle = 0;
	}
	ck_assert_uint_ge(sent, 256);
	ck_assert_uint_lt(sent, SENT); /* it was stopped */
	guest_post_all();
	for (; refused < sent; refused++)
		(void)guest_expect(RST);
	rig_finish();
}
END_TEST

START_TEST(there_are_only_so_many_connections)
{
	enum { MOST = 1024, TRIED = 1040 };
	struct rlimit limit = {4096, 4096};
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	rig_init(0, true);
	_cleanup_close_ int listener = host_listen("_7", TRIED);
	ck_assert_int_ge(listener, 0);
	unsigned accepted = 0, refused = 0;
	for (uint32_t port = 1; port <= TRIED; port++) {
		const struct packet peer = peer_of(port, 7);
		guest_send(&peer, REQUEST, NULL, 0);
		struct packet packet = guest_receive();
		accepted += packet.op == RESPONSE;
		refused += packet.op == RST;
	}
	ck_assert_uint_eq(accepted, MOST);
	ck_assert_uint_eq(refused, TRIED - MOST);
	_cleanup_close_ int waiting = host_open(); /* a host program waits for its turn */
	host_write(waiting, "CONNECT 3\n", 10);
	const struct packet first = peer_of(1, 7);
	guest_send(&first, RST, NULL, 0);
	ck_assert_uint_eq(guest_expect(REQUEST).dst_port, 3);
	rig_finish();
}
END_TEST

START_TEST(a_listener_that_is_slow_to_accept)
{
	rig_init(0, true);
	_cleanup_close_ int listener = host_listen("_7", 0); /* one waits, the others try again */
	for (uint32_t port = 1; port <= 4; port++) {
		const struct packet peer = peer_of(port, 7);
		guest_send(&peer, REQUEST, NULL, 0);
	}
	for (unsigned i = 0; i < 4; i++) {
		_cleanup_close_ int fd = accept(listener, NULL, NULL);
		ck_assert_int_ge(fd, 0);
		struct packet packet = guest_receive();
		while (packet.op != RESPONSE) { /* we close those before */
			ck_assert_uint_eq(packet.op, SHUTDOWN);
			packet = guest_receive();
		}
	}
	rig_finish();
}
END_TEST

START_TEST(resets_with_traffic_in_flight)
{
	static uint8_t bytes[32768];
	rig_init(0, true);
	_cleanup_close_ int listener = host_listen("_7", 64);
	ck_assert_int_ge(listener, 0);
	for (unsigned round = 0; round < 30; round++) {
		int fds[4];
		struct packet peers[4];
		for (unsigned i = 0; i < 4; i++)
			fds[i] = host_connect(10 + i, &peers[i]);
		for (unsigned i = 0; i < 4; i++) {
			(void)send(fds[i], bytes, sizeof(bytes), MSG_DONTWAIT | MSG_NOSIGNAL);
			if (i < 2)
				guest_send(&peers[i], RW, bytes, sizeof(bytes));
		}
		const struct packet request = peer_of(round, 7);
		guest_send(&request, REQUEST, NULL, 0);
		guest_start(round & 1 ? VIRTIO_F_RING_PACKED : 0);
		guest_post_all();
		for (unsigned i = 0; i < 4; i++) {
			while (recv(fds[i], bytes, sizeof(bytes), 0) > 0)
				continue; /* ends */
			(void)close_fd(fds[i]);
		}
	}
	struct packet peer;
	_cleanup_close_ int fd = host_connect(5, &peer);
	host_write(fd, "x", 1);
	(void)guest_expect(RW);
	vsock_class.reset(rig.device); /* the machine's */
	host_expect_end(fd);
	rig_finish();
}
END_TEST

TEST_MAIN("vsock_hostile", the_guests_credit_holds_the_host_back, the_guest_is_told_its_credit,
	  more_than_the_credit_ends_the_connection, packets_that_break_the_rules,
	  chains_shorter_than_a_header, buffers_too_small_for_a_packet,
	  refusals_without_buffers_stop_the_guest_and_nobody_else, there_are_only_so_many_connections,
	  a_listener_that_is_slow_to_accept, resets_with_traffic_in_flight)
