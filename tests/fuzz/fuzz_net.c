/*
 * A network device between a guest and a peer that both have bad manners. The input is a list of actions,
 * each a byte and what it needs: packets with any header in any pieces, commands, receive buffers, bytes from
 * the peer, which may break the framing, and new starts with other features.
 *
 * Rules: whatever was done, the device can be reset and started, and then a good frame passes both ways.
 */
#include "feed.h"
#include "fuzz.h"

#include "../../devices/devices.h"
#include "../../devices/virtio/net.h"
#include "../devices/driver.h"
#include "scratch.h"

#include <poll.h>
#include <string.h>
#include <sys/un.h>

enum {
	BUFFERS = 64,
	BUFFER_BYTES = 4096,
	QUEUE_SIZE = 32,
	ACTIONS_MAX = 64,
	FRAME_BYTES = 100,
	PATIENCE_MS = 10000
};

static struct {
	struct world world;
	struct device *device;
	struct driver driver;
	char path[64];
	int listen_fd, fd;
	uint64_t buffers_gpa;
} rig;

/* The device connects anew when it has hung up, in a third of a second. */
static void meet(void)
{
	struct pollfd poll_fd = {.fd = rig.listen_fd, .events = POLLIN};
	FUZZ_CHECK(poll(&poll_fd, 1, PATIENCE_MS) == 1);
	rig.fd = close_fd(rig.fd);
	rig.fd = accept4(rig.listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	FUZZ_CHECK(rig.fd >= 0);
}

static void remove_socket(void)
{
	(void)unlink(rig.path);
}

static void begin(void)
{
	static struct net_config config = {
		.place = {.slot = 4}, .backend = NET_PASST, .queue_size = QUEUE_SIZE};
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct err err = ERR_INIT;
	log_set_level(LOG_ERROR);
	world_init(&rig.world, 1);
	char name[32];
	(void)snprintf(name, sizeof(name), "fuzz-net-%d", (int)getpid());
	scratch_path(rig.path, sizeof(rig.path), name);
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", rig.path);
	(void)unlink(rig.path);
	config.passt = rig.path;
	rig.fd = -1;
	rig.listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	FUZZ_CHECK(bind(rig.listen_fd, (const struct sockaddr *)&address, sizeof(address)) == 0);
	FUZZ_CHECK(listen(rig.listen_fd, 4) == 0 && atexit(remove_socket) == 0);
	FUZZ_CHECK(net_class.create(&config, 0, &rig.world.services, &rig.device, &err) == 0);
	meet();
	FUZZ_CHECK(driver_init(&rig.driver, &rig.world, VIRTIO_ID_NET) == 0);
	rig.buffers_gpa = world_alloc(&rig.world, BUFFERS * BUFFER_BYTES);
}

static void start(uint64_t features)
{
	const struct driver_options options = {.features = features};
	FUZZ_CHECK(driver_start(&rig.driver, &options) == 0);
}

static uint64_t choose_features(uint8_t choice)
{
	return (choice & 1 ? VIRTIO_F_RING_PACKED : 0) | (choice & 2 ? VIRTIO_F_INDIRECT_DESC : 0) |
	       (choice & 4 ? NET_F_MRG_RXBUF : 0) |
	       (choice & 8 ? NET_F_CTRL_VQ | NET_F_CTRL_RX | NET_F_CTRL_RX_EXTRA | NET_F_CTRL_MAC_ADDR |
				     NET_F_STATUS | NET_F_GUEST_ANNOUNCE
			   : 0);
}

/* A chain of up to four buffers with bytes of the input, some of them perhaps for the device to write. */
static void submit(struct feed *feed, unsigned queue, bool answers)
{
	struct ring_buffer buffers[4];
	uint8_t shape = (uint8_t)take(feed, 1);
	unsigned count = 1 + shape % 4U;
	uint64_t gpa = rig.buffers_gpa + shape % BUFFERS * (uint64_t)BUFFER_BYTES;
	for (unsigned i = 0; i < count; i++) {
		uint32_t len = take(feed, 1);
		bool write = i + 1 == count && (answers ^ (shape >> 7));
		uint8_t *at = world_at(&rig.world, gpa, len);
		for (uint32_t k = 0; k < len && !write; k++)
			at[k] = (uint8_t)take(feed, 1);
		buffers[i] = (struct ring_buffer){gpa, len, write};
		gpa += len;
	}
	(void)driver_submit(&rig.driver, queue, buffers, count);
}

static void offer_buffers(struct feed *feed)
{
	uint8_t shape = (uint8_t)take(feed, 1);
	const uint32_t len = shape & 0x80 ? shape & 0x7fU : 16 * (shape + 1U);
	for (unsigned i = 0; i < 4; i++) {
		const struct ring_buffer buffer = {rig.buffers_gpa + i * (uint64_t)BUFFER_BYTES, len, true};
		(void)driver_submit(&rig.driver, 0, &buffer, 1);
	}
}

static void write_peer(struct feed *feed, bool framed)
{
	uint8_t data[4 + 256];
	uint32_t len = take(feed, 1), at = framed ? 4 : 0;
	for (uint32_t i = 0; i < len; i++)
		data[at + i] = (uint8_t)take(feed, 1);
	if (framed)
		memcpy(data, (const uint8_t[]){0, 0, 0, (uint8_t)len}, 4);
	(void)send(rig.fd, data, at + len, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void read_peer(void)
{
	static uint8_t data[1 << 16];
	while (recv(rig.fd, data, sizeof(data), MSG_DONTWAIT) > 0)
		;
}

static void collect(void)
{
	struct ring_used used;
	for (unsigned queue = 0; queue < 3; queue++)
		while (driver_try_collect(&rig.driver, queue, &used) == 1)
			;
}

/* Frames that were begun before may still come: wait for ours. */
static void expect_from_guest(const uint8_t *frame)
{
	uint8_t got[FRAME_BYTES];
	size_t at = 0;
	struct pollfd poll_fd = {.fd = rig.fd, .events = POLLIN};
	while (at < FRAME_BYTES) { /* its bytes are like nothing else: a window over the stream finds it */
		uint8_t byte;
		FUZZ_CHECK(poll(&poll_fd, 1, PATIENCE_MS) == 1 && recv(rig.fd, &byte, 1, 0) == 1);
		got[at++] = byte;
		while (at && memcmp(got, frame, at) != 0)
			memmove(got, got + 1, --at);
	}
}

static void check_alive(void)
{
	uint64_t in = rig.buffers_gpa, out = in + BUFFER_BYTES;
	uint8_t frame[4 + FRAME_BYTES] = {0, 0, 0, FRAME_BYTES};
	struct ring_used used;
	/* The peer begins anew too: its stream may be in the middle of anything. */
	(void)shutdown(rig.fd, SHUT_RDWR);
	meet();
	for (unsigned i = 0; i < FRAME_BYTES; i++)
		frame[4 + i] = (uint8_t)(i ^ 0xa5);
	start(0);
	const struct ring_buffer receive = {in, BUFFER_BYTES, true};
	const struct ring_buffer transmit = {out, NET_HEADER_BYTES + FRAME_BYTES, false};
	uint8_t *at = world_at(&rig.world, out, NET_HEADER_BYTES + FRAME_BYTES);
	memset(at, 0, NET_HEADER_BYTES);
	memcpy(at + NET_HEADER_BYTES, frame + 4, FRAME_BYTES);
	/* 6: status. Without a link what is sent is dropped. */
	for (unsigned i = 0; !driver_config_get(&rig.driver, 6, 2); i++)
		FUZZ_CHECK(i < PATIENCE_MS && poll(NULL, 0, 1) == 0);
	FUZZ_CHECK(driver_submit(&rig.driver, 0, &receive, 1) >= 0);
	FUZZ_CHECK(driver_request(&rig.driver, 1, &transmit, 1) == 0);
	expect_from_guest(frame + 4);
	FUZZ_CHECK(send(rig.fd, frame, sizeof(frame), MSG_NOSIGNAL) == (ssize_t)sizeof(frame));
	FUZZ_CHECK(driver_collect(&rig.driver, 0, &used) == 0 && used.len == NET_HEADER_BYTES + FRAME_BYTES);
	FUZZ_CHECK(memcmp((uint8_t *)world_at(&rig.world, in, BUFFER_BYTES) + NET_HEADER_BYTES, frame + 4,
			  FRAME_BYTES) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct feed feed = {data, size};
	static unsigned runs;
	if (!rig.device)
		begin();
	start(choose_features((uint8_t)take(&feed, 1)));
	for (unsigned i = 0; i < ACTIONS_MAX && feed.size; i++) {
		switch (take(&feed, 1) % 8) {
		case 0:
		case 1:
			submit(&feed, 1, false);
			break;
		case 2:
		case 3:
			submit(&feed, 2, true);
			break;
		case 4:
			offer_buffers(&feed);
			break;
		case 5:
			write_peer(&feed, true);
			break;
		case 6:
			write_peer(&feed, false);
			break;
		default:
			start(choose_features((uint8_t)take(&feed, 1)));
			break;
		}
		collect();
		read_peer();
	}
	if (runs++ % 64 == 0) /* it takes the time of a reconnection */
		check_alive();
	FUZZ_CHECK(driver_reset(&rig.driver) == 0);
	return 0;
}
