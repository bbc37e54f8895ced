/* What is at the other end of a network device's stream: passt as it frames, comes and goes, two machines
 * that meet, and passt itself where it is installed. */
#include "../../devices/backend/net_framing.h"
#include "net_rig.h"

#include <fcntl.h>
#include <linux/sockios.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

static struct rig rig;
static uint8_t frame[RIG_FRAME_MAX], wire[4 * RIG_FRAME_MAX];

/* ---- a passt of our own ---- */

struct peer {
	int listen_fd, fd;
};

static void peer_listen(struct peer *peer)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", rig.path);
	(void)unlink(rig.path);
	peer->fd = -1;
	peer->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_eq(bind(peer->listen_fd, (const struct sockaddr *)&address, sizeof(address)), 0);
	ck_assert_int_eq(listen(peer->listen_fd, 1), 0);
}

static void peer_accept(struct peer *peer)
{
	const struct timeval patience = {.tv_sec = 5};
	struct pollfd poll_fd = {.fd = peer->listen_fd, .events = POLLIN};
	ck_assert_int_eq(poll(&poll_fd, 1, 5000), 1);
	peer->fd = accept(peer->listen_fd, NULL, NULL);
	ck_assert_int_ge(peer->fd, 0);
	(void)setsockopt(peer->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
}

static void peer_write(struct peer *peer, const void *data, size_t len)
{
	ck_assert_int_eq(send(peer->fd, data, len, MSG_NOSIGNAL), (ssize_t)len);
}

static void peer_read(struct peer *peer, void *data, size_t len)
{
	ck_assert_int_eq(recv(peer->fd, data, len, MSG_WAITALL), (ssize_t)len);
}

static size_t put_prefix(uint8_t *at, size_t len)
{
	for (unsigned i = 0; i < 4; i++)
		at[i] = (uint8_t)(len >> (24 - 8 * i));
	return 4;
}

static size_t put_frame(uint8_t *at, size_t len, unsigned seed)
{
	size_t prefix = put_prefix(at, len);
	make_frame(at + prefix, len, seed);
	return prefix + len;
}

static struct net_config passt_config(void)
{
	return (struct net_config){
		.place = {.slot = 4}, .backend = NET_PASST, .passt = rig.path, .offload = true};
}

static void begin(struct peer *peer)
{
	const struct net_config config = passt_config();
	rig_open(&rig);
	peer_listen(peer);
	nic_create(&rig.a, &rig.world, &config, 0);
	peer_accept(peer);
	nic_start(&rig.a, 0);
	nic_wait_link(&rig.a, true);
	nic_post(&rig.a, RIG_RX, 32, 2048);
}

static void end(struct peer *peer)
{
	(void)close_fd(peer->fd);
	nic_destroy(&rig.a);
	(void)close_fd(peer->listen_fd);
	rig_close(&rig);
}

START_TEST(frames_are_framed)
{
	struct peer peer;
	begin(&peer);
	for (unsigned n = 0; n < 20; n++) {
		size_t len = 20 + 70 * n;
		make_frame(frame, len, n);
		nic_send(&rig.a, frame, len);
		peer_read(&peer, wire, 4 + len);
		ck_assert_uint_eq((size_t)wire[2] << 8 | wire[3], len);
		ck_assert_uint_eq(wire[0] | wire[1], 0);
		ck_assert_mem_eq(wire + 4, frame, len);
		peer_write(&peer, wire, 4 + len);
		ck_assert_uint_eq(nic_receive(&rig.a, RIG_RX), len);
		ck_assert_mem_eq(rig.a.frame, frame, len);
	}
	end(&peer);
}
END_TEST

/* Wherever the stream is cut into pieces, the frames are the same. */
START_TEST(a_frame_may_come_in_pieces)
{
	struct peer peer;
	begin(&peer);
	size_t len = put_frame(wire, 30, 1);
	len += put_frame(wire + len, 14, 2);
	for (size_t cut = 1; cut < len; cut++) {
		peer_write(&peer, wire, cut);
		if (cut % 8 == 0)
			rig_sleep_ms(2);
		peer_write(&peer, wire + cut, len - cut);
		ck_assert_uint_eq(nic_receive(&rig.a, RIG_RX), 30);
		ck_assert_mem_eq(rig.a.frame, wire + 4, 30);
		ck_assert_uint_eq(nic_receive(&rig.a, RIG_RX), 14);
		nic_post(&rig.a, RIG_RX, 2, 2048);
	}
	end(&peer);
}
END_TEST

START_TEST(frames_too_short_for_a_header_are_skipped)
{
	struct peer peer;
	begin(&peer);
	for (size_t len = 0; len < NET_ETHERNET_BYTES; len++)
		peer_write(&peer, wire, put_prefix(wire, len) + len);
	peer_write(&peer, wire, put_frame(wire, 100, 7));
	ck_assert_uint_eq(nic_receive(&rig.a, RIG_RX), 100);
	ck_assert_mem_eq(rig.a.frame, wire + 4, 100);
	end(&peer);
}
END_TEST

/* What follows an impossible length is noise: hang up, and begin anew. */
START_TEST(an_impossible_length_ends_the_connection)
{
	const size_t lengths[] = {NET_FRAME_MAX + 1, 1 << 24, 0xffffffff};
	struct peer peer;
	begin(&peer);
	for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
		size_t len = put_frame(wire, 60, (unsigned)i);
		len += put_prefix(wire + len, lengths[i]);
		peer_write(&peer, wire, len);
		ck_assert_uint_eq(nic_receive(&rig.a, RIG_RX), 60); /* what came before it is good */
		ck_assert_int_eq(recv(peer.fd, wire, 1, 0), 0);
		(void)close_fd(peer.fd);
		peer_accept(&peer);
		nic_wait_link(&rig.a, true);
		peer_write(&peer, wire, put_frame(wire, 61, 3));
		ck_assert_uint_eq(nic_receive(&rig.a, RIG_RX), 61);
	}
	end(&peer);
}
END_TEST

/* Also when it is read in one go with them. */
START_TEST(frames_before_an_impossible_length_arrive)
{
	const struct net_config config = passt_config();
	struct peer peer;
	rig_open(&rig);
	peer_listen(&peer);
	nic_create(&rig.a, &rig.world, &config, 0);
	peer_accept(&peer);
	nic_start(&rig.a, 0);
	nic_wait_link(&rig.a, true);
	size_t len = put_frame(wire, 60, 1);
	len += put_frame(wire + len, 61, 2);
	len += put_prefix(wire + len, 1 << 24);
	peer_write(&peer, wire, len);
	for (int left = 1; left > 0; rig_sleep_ms(1)) /* until the device has it all */
		ck_assert_int_eq(ioctl(peer.fd, SIOCOUTQ, &left), 0);
	nic_post_together(&rig.a, RIG_RX, 8, 2048);
	ck_assert_uint_eq(nic_receive(&rig.a, RIG_RX), 60);
	ck_assert_uint_eq(nic_receive(&rig.a, RIG_RX), 61);
	ck_assert_int_eq(recv(peer.fd, wire, 1, 0), 0);
	end(&peer);
}
END_TEST

START_TEST(the_link_is_down_until_passt_is_back)
{
	struct peer peer;
	begin(&peer);
	for (unsigned round = 0; round < 3; round++) {
		unsigned before = driver_config_interrupts(&rig.a.driver);
		if (round == 1) /* in the middle of a frame */
			peer_write(&peer, wire, put_frame(wire, 100, 1) - 50);
		peer.fd = close_fd(peer.fd);
		(void)close_fd(peer.listen_fd);
		ck_assert_int_eq(driver_wait_config_interrupt(&rig.a.driver, before), 0);
		ck_assert_uint_eq(nic_status(&rig.a), 0);
		uint64_t dropped = nic_counts(&rig.a).tx_dropped;
		nic_send(&rig.a, frame, make_frame(frame, 100, 1));
		ck_assert_uint_eq(nic_counts(&rig.a).tx_dropped, dropped + 1);
		rig_sleep_ms(round * 400);
		peer_listen(&peer);
		peer_accept(&peer);
		nic_wait_link(&rig.a, true);
		peer_write(&peer, wire, put_frame(wire, 60, 1));
		ck_assert_uint_eq(nic_receive(&rig.a, RIG_RX), 60);
	}
	end(&peer);
}
END_TEST

/* It does not read: the guest's packets stay in its queue, and a reset is not held up by them. */
static unsigned fill(size_t len)
{
	unsigned sent = 0, idle = 0;
	while (idle < 100) {
		struct ring_used used;
		if (nic_submit(&rig.a, RIG_TX, &(struct net_header){0}, frame,
			       make_frame(frame, len, sent)) >= 0)
			sent++;
		idle = driver_try_collect(&rig.a.driver, RIG_TX, &used) == 1 ? 0 : idle + 1;
		if (idle)
			rig_sleep_ms(1);
		ck_assert_uint_lt(sent, 100000);
	}
	return sent;
}

START_TEST(a_peer_that_does_not_read_holds_the_guest_back)
{
	struct peer peer;
	begin(&peer);
	unsigned sent = fill(1400);
	ck_assert_uint_gt(sent, RIG_QUEUE / 3);
	for (unsigned n = 0; n < sent; n++) {
		peer_read(&peer, wire, 4 + 1400);
		ck_assert_uint_eq((size_t)wire[2] << 8 | wire[3], 1400);
	}
	end(&peer);
}
END_TEST

/* A reset takes the batch back in the middle of a frame: the peer gets all of it, and then the next one. */
START_TEST(a_reset_does_not_tear_a_frame)
{
	struct peer peer;
	begin(&peer);
	for (unsigned round = 0; round < 8; round++) {
		const size_t len = 30011;
		(void)fill(len);
		nic_start(&rig.a, rig_layouts[round % 4]);
		make_frame(frame, 77, round);
		ck_assert_int_ge(nic_submit(&rig.a, RIG_TX, &(struct net_header){0}, frame, 77), 0);
		size_t got;
		do {
			peer_read(&peer, wire, 4);
			got = (size_t)wire[2] << 8 | wire[3];
			ck_assert_uint_eq(wire[0] | wire[1], 0);
			ck_assert(got == len || got == 77);
			peer_read(&peer, wire, got);
			ck_assert_uint_eq(wire[12], 0x88);
			ck_assert_uint_eq(wire[13], 0xb5);
		} while (got != 77);
		ck_assert_mem_eq(wire, frame, 77);
		nic_collect_sent(&rig.a, RIG_TX);
	}
	end(&peer);
}
END_TEST

/* Nobody takes frames while the driver is away; a peer that writes must not wait for it. */
START_TEST(without_a_driver_frames_are_thrown_away)
{
	struct peer peer;
	begin(&peer);
	ck_assert_int_eq(driver_reset(&rig.a.driver), 0);
	const struct timeval patience = {.tv_sec = 5};
	(void)setsockopt(peer.fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	for (unsigned n = 0; n < 5000; n++)
		peer_write(&peer, wire, put_frame(wire, 1500, n));
	nic_start(&rig.a, 0);
	nic_post(&rig.a, RIG_RX, 32, 2048);
	peer_write(&peer, wire, put_frame(wire, 99, 1));
	size_t len;
	while ((len = nic_receive(&rig.a, RIG_RX)) == 1500) /* the last ones may have been on their way */
		nic_post(&rig.a, RIG_RX, 1, 2048);
	ck_assert_uint_eq(len, 99);
	end(&peer);
}
END_TEST

/* ---- set-up ---- */

static void refused(const struct net_config *config, int code, const char *format)
{
	struct err err;
	char message[256];
	(void)snprintf(message, sizeof(message), format, rig.path, rig.path);
	ck_assert_int_eq(nic_try_create(&rig.b, &rig.world, config, 0, &err), code);
	ck_assert_str_eq(err.text, message);
}

START_TEST(what_cannot_be_is_refused_with_what_to_do)
{
	rig_open(&rig);
	struct net_config config = passt_config();
	refused(&config, -ENOENT, "passt: %s: No such file or directory; start it first: passt --socket %s");
	FILE *file = fopen(rig.path, "we");
	ck_assert_ptr_nonnull(file);
	(void)fclose(file);
	refused(&config, -ECONNREFUSED, "passt: %s: Connection refused; start it first: passt --socket %s");
	config = rig_config(&rig, 4);
	refused(&config, -EADDRINUSE, "socket: %s: exists and is not a socket");
	char path[200];
	memset(path, 'x', sizeof(path) - 1);
	path[sizeof(path) - 1] = 0;
	config.socket = path;
	struct err err;
	ck_assert_int_eq(nic_try_create(&rig.b, &rig.world, &config, 0, &err), -ENAMETOOLONG);
	rig_close(&rig);
}
END_TEST

/* A socket that a killed process left is taken over; the third machine does not disturb the two. */
START_TEST(two_machines_meet_and_a_third_waits)
{
	static struct nic third;
	struct peer peer;
	rig_open(&rig);
	peer_listen(&peer);
	(void)close_fd(peer.listen_fd);
	struct net_config config = rig_config(&rig, 4);
	nic_create(&rig.a, &rig.world, &config, 0);
	ck_assert_uint_eq(nic_status(&rig.a), 0);
	config = rig_config(&rig, 5);
	nic_create(&rig.b, &rig.world, &config, 1);
	nic_wait_link(&rig.a, true);
	nic_wait_link(&rig.b, true);
	config = rig_config(&rig, 6);
	nic_create(&third, &rig.world, &config, 2);
	rig_sleep_ms(50);
	ck_assert_uint_eq(nic_status(&third), 0);
	ck_assert_uint_eq(nic_status(&rig.a), NET_S_LINK_UP);
	nic_destroy(&rig.b); /* then it takes the place of the one that has gone */
	nic_wait_link(&third, true);
	nic_wait_link(&rig.a, true);
	nic_start(&rig.a, 0);
	nic_start(&third, 0);
	nic_post(&third, RIG_RX, 1, 2048);
	nic_send(&rig.a, frame, make_frame(frame, 200, 1));
	ck_assert_uint_eq(nic_receive(&third, RIG_RX), 200);
	nic_destroy(&third);
	nic_destroy(&rig.a);
	struct stat file;
	ck_assert_int_lt(lstat(rig.path, &file), 0); /* nothing is left behind */
	rig_close(&rig);
}
END_TEST

/* ---- framing alone ---- */

START_TEST(framing_takes_frames_as_they_lie)
{
	static struct net_framing framing;
	const uint8_t *at;
	uint8_t *to;
	size_t len, total = 0;
	for (unsigned n = 0; n < 20000; n++) { /* round and round */
		size_t want = n % 7 == 0 ? NET_FRAME_MAX : 14 + n % 1500;
		ck_assert_uint_ge(net_framing_room(&framing, &to), 4 + want);
		net_framing_put(&framing, put_frame(to, want, n));
		ck_assert(net_framing_ready(&framing));
		ck_assert_int_eq(net_framing_next(&framing, &at, &len), 1);
		ck_assert_uint_eq(len, want);
		ck_assert_uint_eq(at[len - 1],
				  len > 14 ? (uint8_t)(n + (len - 1) * 7 + (len - 1) / 256) : at[13]);
		ck_assert_int_eq(net_framing_next(&framing, &at, &len), 0);
		total += len;
	}
	ck_assert_uint_gt(total, 0);
	(void)net_framing_room(&framing, &to);
	net_framing_put(&framing, put_prefix(to, NET_FRAME_MAX + 1));
	ck_assert_int_eq(net_framing_next(&framing, &at, &len), -EPROTO);
	ck_assert_int_eq(net_framing_next(&framing, &at, &len), -EPROTO);
}
END_TEST

/* ---- passt itself ---- */

static pid_t start_passt(void)
{
	char *const arguments[] = {"passt",	"--foreground", "--quiet",   "--socket",
				   rig.path,	"--address",	"10.77.0.2", "--gateway",
				   "10.77.0.1", "--ipv4-only",	NULL};
	extern char **environ;
	posix_spawn_file_actions_t files;
	pid_t pid;
	posix_spawn_file_actions_init(&files);
	for (int fd = 0; fd < 3; fd++)
		posix_spawn_file_actions_addopen(&files, fd, "/dev/null", O_RDWR, 0);
	(void)chmod(rig.folder, 0777); /* as root it makes itself nobody */
	int r = posix_spawnp(&pid, "passt", &files, NULL, arguments, environ);
	posix_spawn_file_actions_destroy(&files);
	if (r != 0)
		return -1;
	struct stat file;
	for (unsigned i = 0; i < 2000; i++) {
		if (lstat(rig.path, &file) == 0)
			return pid;
		if (waitpid(pid, NULL, WNOHANG) == pid)
			return -1;
		rig_sleep_ms(1);
	}
	return pid;
}

/* Who has 10.77.0.1? passt answers for the gateway that it plays. */
START_TEST(passt_answers)
{
	static const uint8_t request[42] = {
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x52, 0x54, 0,  1, 2, 3, 8, 6, 0, 1, 8, 0,	6,  4, 0,
		1,    0x52, 0x54, 0,	1,    2,    3,	  10,	77, 0, 2, 0, 0, 0, 0, 0, 0, 10, 77, 0, 1};
	rig_open(&rig);
	pid_t pid = start_passt();
	if (pid < 0) {
		(void)fprintf(stderr, "no passt here\n");
		rig_close(&rig);
		return;
	}
	const struct net_config config = passt_config();
	struct err err;
	int r = -ECONNREFUSED; /* between its bind and its listen */
	for (unsigned i = 0; i < 2000 && r == -ECONNREFUSED; i++) {
		r = nic_try_create(&rig.a, &rig.world, &config, 0, &err);
		rig_sleep_ms(r ? 1 : 0);
	}
	if (r < 0)
		(void)kill(pid, SIGTERM);
	ck_assert_msg(r == 0, "%s", err.text);
	nic_find(&rig.a);
	nic_start(&rig.a, NET_F_MRG_RXBUF);
	nic_wait_link(&rig.a, true);
	nic_post(&rig.a, RIG_RX, 32, 2048);
	nic_send(&rig.a, request, sizeof(request));
	do
		ck_assert_uint_ge(nic_receive(&rig.a, RIG_RX), 42);
	while (rig.a.frame[12] != 8 || rig.a.frame[13] != 6);
	ck_assert_uint_eq(rig.a.frame[21], 2); /* a reply */
	ck_assert_mem_eq(rig.a.frame + 28, request + 38, 4);
	(void)kill(pid, SIGTERM);
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
	nic_wait_link(&rig.a, false);
	nic_destroy(&rig.a);
	rig_close(&rig);
}
END_TEST

TEST_MAIN("net_peer", frames_are_framed, a_frame_may_come_in_pieces,
	  frames_too_short_for_a_header_are_skipped, an_impossible_length_ends_the_connection,
	  frames_before_an_impossible_length_arrive, the_link_is_down_until_passt_is_back,
	  a_peer_that_does_not_read_holds_the_guest_back, a_reset_does_not_tear_a_frame,
	  without_a_driver_frames_are_thrown_away, what_cannot_be_is_refused_with_what_to_do,
	  two_machines_meet_and_a_third_waits, framing_takes_frames_as_they_lie, passt_answers)
