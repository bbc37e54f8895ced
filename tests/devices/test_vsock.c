/* virtio-vsock (VIRTIO 1.3, 5.10): connections made, used and ended, as both sides see them. */
#include "vsock_rig.h"

#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

START_TEST(the_guest_learns_its_cid)
{
	rig_init(0, true);
	ck_assert_uint_eq(driver_config_get(&rig.driver, 0, 8), GUEST_CID);
	rig_finish();
}
END_TEST

static void check_both_ways(int fd, const struct packet *peer)
{
	char text[16] = "";
	host_write(fd, "to the guest", 12);
	struct packet packet = guest_expect(RW);
	ck_assert_uint_eq(packet.len, 12);
	ck_assert_mem_eq(packet.data, "to the guest", 12);
	guest_send(peer, RW, "to the host", 11);
	host_read(fd, text, 11);
	ck_assert_str_eq(text, "to the host");
}

START_TEST(a_host_program_connects)
{
	struct packet peer;
	rig_init(VIRTIO_F_RING_PACKED, true);
	_cleanup_close_ int fd = host_connect(5000, &peer);
	check_both_ways(fd, &peer);
	rig_finish();
}
END_TEST

START_TEST(the_guest_connects)
{
	struct packet peer;
	rig_init(VIRTIO_F_EVENT_IDX, true);
	_cleanup_close_ int listener = host_listen("_1234", 8);
	_cleanup_close_ int fd = guest_connect(99, 1234, listener, &peer);
	check_both_ways(fd, &peer);
	rig_finish();
}
END_TEST

START_TEST(what_a_client_says_before_the_answer_is_not_lost)
{
	rig_init(0, true);
	_cleanup_close_ int fd = host_open();
	host_write(fd, "CONN", 4);
	host_write(fd, "ECT 7\nearly", 11);
	ck_assert_int_eq(shutdown(fd, SHUT_WR), 0);
	struct packet peer = guest_expect(REQUEST);
	guest_send(&peer, RESPONSE, NULL, 0);
	struct packet data = guest_expect(RW);
	ck_assert_mem_eq(data.data, "early", 5);
	ck_assert_uint_eq(guest_expect(SHUTDOWN).flags, 2);
	rig_finish();
}
END_TEST

START_TEST(nobody_listens)
{
	rig_init(0, true);
	const struct packet peer = peer_of(99, 4);
	guest_send(&peer, REQUEST, NULL, 0);
	struct packet refusal = guest_expect(RST);
	ck_assert_uint_eq(refusal.src_port, 4);
	ck_assert_uint_eq(refusal.dst_port, 99);
	rig_finish();
}
END_TEST

START_TEST(the_guest_refuses)
{
	struct packet peer;
	rig_init(0, true);
	_cleanup_close_ int fd = host_request(6, &peer);
	guest_send(&peer, RST, NULL, 0);
	host_expect_end(fd);
	rig_finish();
}
END_TEST

START_TEST(greetings_that_are_none)
{
	static const char *const lines[] = {
		"\n",
		"CONNECT\n",
		"CONNECT \n",
		"CONNECT x\n",
		"CONNECT 1 \n",
		"CONNECT -1\n",
		"CONNECT 4294967296\n",
		"CONNECT 18446744073709551617\n",
		"CONNECT 00000000000000000000000000000000000000001\n",
		"GET / HTTP/1.1\r\n",
		"no end of line in more bytes than a greeting can have",
	};
	rig_init(0, true);
	for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
		_cleanup_close_ int fd = host_open();
		host_write(fd, lines[i], strlen(lines[i]));
		host_expect_end(fd);
	}
	struct packet peer;
	int fd = host_connect(4294967295, &peer); /* the highest; and it still works */
	check_both_ways(fd, &peer);
	(void)close_fd(fd);
	rig_finish();
}
END_TEST

START_TEST(without_a_driver_there_is_nobody_to_connect_to)
{
	rig_init(0, true);
	ck_assert_int_eq(driver_reset(&rig.driver), 0);
	_cleanup_close_ int fd = host_open();
	host_write(fd, "CONNECT 1\n", 10);
	host_expect_end(fd);
	rig_finish();
}
END_TEST

START_TEST(a_client_that_gives_up_waiting)
{
	struct packet peer;
	rig_init(0, true);
	int fd = host_request(5, &peer);
	(void)close_fd(fd);
	struct packet reset = guest_expect(RST);
	ck_assert_uint_eq(reset.src_port, peer.src_port);
	guest_send(&peer, RESPONSE, NULL, 0); /* too late */
	(void)guest_expect(RST);
	rig_finish();
}
END_TEST

START_TEST(the_host_closes_its_half)
{
	struct packet peer;
	char text[8] = "";
	rig_init(0, true);
	_cleanup_close_ int fd = host_connect(5, &peer);
	host_write(fd, "last", 4);
	ck_assert_int_eq(shutdown(fd, SHUT_WR), 0);
	ck_assert_uint_eq(guest_expect(RW).len, 4);
	ck_assert_uint_eq(guest_expect(SHUTDOWN).flags, 2);
	guest_send(&peer, RW, "answer", 6); /* the other half lives */
	host_read(fd, text, 6);
	ck_assert_str_eq(text, "answer");
	guest_shut(&peer, 3);
	(void)guest_expect(RST);
	host_expect_end(fd);
	rig_finish();
}
END_TEST

START_TEST(the_guest_closes_its_half)
{
	struct packet peer;
	char text[8] = "";
	rig_init(0, true);
	_cleanup_close_ int fd = host_connect(5, &peer);
	guest_send(&peer, RW, "last", 4);
	guest_shut(&peer, 2);
	host_read(fd, text, 4);
	ck_assert_str_eq(text, "last");
	host_expect_end(fd);
	host_write(fd, "answer", 6);
	ck_assert_uint_eq(guest_expect(RW).len, 6);
	guest_send(&peer, RW, "more", 4); /* which it had said it would not */
	(void)guest_expect(RST);
	rig_finish();
}
END_TEST

START_TEST(the_host_closes)
{
	struct packet peer, packet;
	rig_init(0, true);
	int fd = host_connect(5, &peer);
	host_write(fd, "last", 4);
	(void)close_fd(fd);
	bool data = false;
	while ((packet = guest_receive()).op != SHUTDOWN || packet.flags != 3) {
		ck_assert(packet.op == SHUTDOWN || (packet.op == RW && packet.len == 4));
		data |= packet.op == RW;
	}
	ck_assert(data); /* before the end */
	guest_send(&peer, RST, NULL, 0);
	fd = host_connect(5, &peer);
	(void)close_fd(fd);
	while ((packet = guest_receive()).op != SHUTDOWN || packet.flags != 3)
		ck_assert_uint_eq(packet.op, SHUTDOWN);
	(void)guest_expect(RST); /* a guest that says nothing is told so */
	rig_finish();
}
END_TEST

START_TEST(what_the_guest_sent_before_it_closed_arrives)
{
	static uint8_t sent[60000], got[60000];
	struct packet peer;
	rig_init(0, true);
	_cleanup_close_ int fd = host_connect(5, &peer);
	memset(sent, 0x5a, sizeof(sent));
	guest_send(&peer, RW, sent, sizeof(sent));
	guest_send(&peer, RW, sent, sizeof(sent)); /* more than the socket holds at once */
	guest_shut(&peer, 3);
	(void)guest_expect(RST);
	for (int i = 0; i < 2; i++) {
		host_read(fd, got, sizeof(got));
		ck_assert_mem_eq(got, sent, sizeof(got));
	}
	host_expect_end(fd);
	rig_finish();
}
END_TEST

struct reader {
	int fd;
	_Atomic size_t bytes;
};

static void *read_all_of_it(void *arg)
{
	struct reader *reader = arg;
	uint8_t data[4096];
	for (ssize_t n; (n = recv(reader->fd, data, sizeof(data), 0)) > 0;)
		reader->bytes += (size_t)n;
	return NULL;
}

enum { PIECES = 4 }; /* of 60000 bytes: more than a socket holds at once, no more than it and we do */

static int waits_unread(int fd)
{
	int bytes = 0;
	ck_assert_int_ge(ioctl(fd, FIONREAD, &bytes), 0);
	return bytes;
}

/* Within its credit: the next piece when the last one is in the socket, as the first three can be. */
static void send_pieces(int fd, const struct packet *peer, const uint8_t *data, uint32_t len)
{
	for (unsigned i = 0; i < PIECES; i++) {
		for (unsigned n = 0; n < 5000 && waits_unread(fd) < (int)(i * len); n++)
			(void)usleep(1000);
		guest_send(peer, RW, data, len);
	}
}

/* How much of it the host program had or could read when the device had come to rest. */
static size_t there_at_rest(void)
{
	static uint8_t data[60000];
	struct packet peer;
	pthread_t thread;
	_cleanup_close_ int fd = host_connect(5, &peer);
	send_pieces(fd, &peer, data, sizeof(data));
	guest_shut(&peer, 3);
	(void)guest_expect(RST);
	struct reader reader = {.fd = fd};
	ck_assert_int_eq(pthread_create(&thread, NULL, read_all_of_it, &reader), 0);
	vsock_class.quiesce(rig.device);
	size_t there = (size_t)waits_unread(fd);
	there += reader.bytes; /* what is read between the two counts twice */
	vsock_class.resume(rig.device);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	ck_assert_uint_eq(reader.bytes, PIECES * sizeof(data));
	return there;
}

/* A guest that closes behind its last words takes them for read, and this process may be killed at once. On a
 * busy host a reader does not always get its turn in time. */
START_TEST(at_rest_what_it_took_has_left)
{
	size_t there = 0;
	rig_init(0, true);
	for (unsigned i = 0; i < 20 && there < PIECES * 60000; i++)
		there = there_at_rest();
	ck_assert_uint_ge(there, PIECES * 60000);
	rig_finish();
}
END_TEST

/* Whoever does not read holds nobody up, and gets it later. */
START_TEST(at_rest_nobody_is_waited_for_long)
{
	static uint8_t data[60000];
	struct packet peer;
	rig_init(0, true);
	_cleanup_close_ int fd = host_connect(5, &peer);
	send_pieces(fd, &peer, data, sizeof(data));
	uint64_t start_ns = loop_now_ns();
	vsock_class.quiesce(rig.device);
	ck_assert_uint_ge(loop_now_ns() - start_ns, 20000000);
	for (int i = 0; i < PIECES; i++)
		host_read(fd, data, sizeof(data));
	vsock_class.resume(rig.device);
	check_both_ways(fd, &peer);
	rig_finish();
}
END_TEST

START_TEST(the_socket_file)
{
	struct err err = ERR_INIT;
	rig_world();
	int stale = host_listen("", 1);
	ck_assert_int_eq(rig_create(&err), -EADDRINUSE); /* somebody listens */
	ck_assert_ptr_nonnull(strstr(err.text, "another process listens"));
	(void)close_fd(stale);
	err = ERR_INIT;
	ck_assert_msg(rig_create(&err) == 0, "%s", err.text); /* nobody does any more */
	vsock_class.destroy(rig.device);
	ck_assert_int_eq(access(rig.path, F_OK), -1);

	int file = open(rig.path, O_CREAT | O_WRONLY, 0600);
	(void)close_fd(file);
	err = ERR_INIT;
	ck_assert_int_eq(rig_create(&err), -EADDRINUSE);
	ck_assert_ptr_nonnull(strstr(err.text, "not a socket"));
	ck_assert_int_eq(access(rig.path, F_OK), 0);
	ck_assert_int_eq(unlink(rig.path), 0);

	char path[120];
	memset(path, 'x', sizeof(path));
	path[97] = 0;
	rig.config.path = path;
	err = ERR_INIT;
	ck_assert_int_eq(rig_create(&err), -ENAMETOOLONG);
	rig.config.path = "/nowhere/at/all";
	err = ERR_INIT;
	ck_assert_int_eq(rig_create(&err), -ENOENT);
	world_finish(&rig.world);
	ck_assert_int_eq(rmdir(rig.dir), 0);
}
END_TEST

START_TEST(a_restored_guest_is_told_that_its_connections_are_gone)
{
	struct packet peer;
	struct err err = ERR_INIT;
	struct ring_used used;
	rig_init(0, true);
	_cleanup_close_ int fd = host_connect(5, &peer);
	void *regs = calloc(1, vsock_class.state->size);
	vsock_class.save(rig.device, regs);
	check_both_ways(fd, &peer); /* saving disturbs nobody */
	vsock_class.save(rig.device, regs);
	ck_assert_msg(vsock_class.restore(rig.device, regs, &err) == 0, "%s", err.text);
	free(regs);
	host_expect_end(fd);
	const struct ring_buffer buffer = {rig.event_gpa, 4, true};
	*(uint32_t *)world_at(&rig.world, rig.event_gpa, 4) = 7;
	ck_assert_int_ge(driver_submit(&rig.driver, EVENT, &buffer, 1), 0);
	ck_assert_int_eq(driver_collect(&rig.driver, EVENT, &used), 0);
	ck_assert_uint_eq(used.len, 4);
	ck_assert_uint_eq(*(uint32_t *)world_at(&rig.world, rig.event_gpa, 4), 0);
	guest_send(&peer, RW, "x", 1);
	(void)guest_expect(RST);
	_cleanup_close_ int again = host_connect(5, &peer);
	check_both_ways(again, &peer);
	rig_finish();
}
END_TEST

/* As after a migration: another device, of another process, with a socket of its own. */
START_TEST(a_moved_guest_listens_on)
{
	struct packet peer;
	struct err err = ERR_INIT;
	struct ring_used used;
	rig_init(0, true);
	_cleanup_close_ int fd = host_connect(5, &peer);
	check_both_ways(fd, &peer);
	_cleanup_free_ void *regs = calloc(1, vsock_class.state->size);
	vsock_class.quiesce(rig.device);
	vsock_class.save(rig.device, regs);
	vsock_class.destroy(rig.device); /* the source ends */
	host_expect_end(fd);

	(void)strcat(rig.path, "-there"); /* it has room */
	ck_assert_msg(rig_create(&err) == 0, "%s", err.text);
	vsock_class.quiesce(rig.device);
	ck_assert_msg(vsock_class.restore(rig.device, regs, &err) == 0, "%s", err.text);
	vsock_class.resume(rig.device);
	const struct ring_buffer buffer = {rig.event_gpa, 4, true};
	*(uint32_t *)world_at(&rig.world, rig.event_gpa, 4) = 7;
	ck_assert_int_ge(driver_submit(&rig.driver, EVENT, &buffer, 1), 0);
	ck_assert_int_eq(driver_collect(&rig.driver, EVENT, &used), 0);
	ck_assert_uint_eq(*(uint32_t *)world_at(&rig.world, rig.event_gpa, 4), 0); /* TRANSPORT_RESET */
	guest_send(&peer, RW, "x", 1); /* of the connection that was */
	(void)guest_expect(RST);
	_cleanup_close_ int again = host_connect(5, &peer);
	check_both_ways(again, &peer);
	rig_finish();
}
END_TEST

TEST_MAIN("vsock", the_guest_learns_its_cid, a_host_program_connects, the_guest_connects,
	  what_a_client_says_before_the_answer_is_not_lost, nobody_listens, the_guest_refuses,
	  greetings_that_are_none, without_a_driver_there_is_nobody_to_connect_to,
	  a_client_that_gives_up_waiting, the_host_closes_its_half, the_guest_closes_its_half,
	  the_host_closes, what_the_guest_sent_before_it_closed_arrives, at_rest_what_it_took_has_left,
	  at_rest_nobody_is_waited_for_long, the_socket_file,
	  a_restored_guest_is_told_that_its_connections_are_gone, a_moved_guest_listens_on)
