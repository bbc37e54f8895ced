/*
 * virtio-vsock's packets, from a guest that means no good. The input is a list of actions: packets of any
 * header and length on a few connections, host programs that come, write and go, buffers for the guest that
 * are there or not, resets. Rules: the device lives, and what it writes are packets to this guest.
 */
#include "../../devices/devices.h"
#include "rig.h"
#include "scratch.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { RX, TX, EVENT };
enum { CID = 3, PROGRAMS = 4, BUFFER = 512, PACKET = 1024, ACTIONS_MAX = 64, HDR = 44 };

static struct {
	struct rig rig;
	bool made;
	struct vsock_config config;
	char path[64];
	uint64_t rx_gpa, tx_gpa;
	uint64_t rx_at[VIRTQ_SIZE_MAX];
	int programs[PROGRAMS];
	uint32_t host_port; /* of the latest packet */
} fuzz;

static void unmake(void)
{
	rig_unmake(&fuzz.rig);
}

static void make_once(void)
{
	if (fuzz.made)
		return;
	char name[32];
	(void)snprintf(name, sizeof(name), "fuzz-vsock-%d", (int)getpid());
	scratch_path(fuzz.path, sizeof(fuzz.path), name);
	fuzz.config = (struct vsock_config){.cid = CID, .path = fuzz.path};
	rig_make(&fuzz.rig, &vsock_class, &fuzz.config, VIRTIO_ID_VSOCK);
	fuzz.made = true;
	fuzz.rx_gpa = world_alloc(&fuzz.rig.world, 256 * BUFFER);
	fuzz.tx_gpa = world_alloc(&fuzz.rig.world, PACKET);
	for (unsigned i = 0; i < PROGRAMS; i++)
		fuzz.programs[i] = -1;
	FUZZ_CHECK(atexit(unmake) == 0);
}

static void post(struct feed *feed)
{
	unsigned count = take(feed, 1) % 16 + 1;
	for (unsigned i = 0; i < count; i++) {
		uint64_t gpa = fuzz.rx_gpa + i * BUFFER;
		uint32_t len = take(feed, 1) * 4 % BUFFER;
		int id = driver_submit(&fuzz.rig.driver, RX, &(struct ring_buffer){gpa, len, true}, 1);
		if (id >= 0)
			fuzz.rx_at[id] = gpa;
	}
}

static void send_packet(struct feed *feed)
{
	uint8_t *at = world_at(&fuzz.rig.world, fuzz.tx_gpa, PACKET);
	uint32_t how = take(feed, 1), len = take(feed, 1) * 2, word = CID;
	struct ring_used used;
	memset(at, 0, PACKET);
	memcpy(at, &word, 4);
	at[8] = 2;
	word = how & 1 ? fuzz.host_port : take(feed, 1);
	memcpy(at + 20, &word, 4); /* dst_port */
	at[16] = (uint8_t)(take(feed, 1) & 3);
	memcpy(at + 24, &len, 4);
	at[28] = 1;
	at[30] = (uint8_t)(take(feed, 1) % 9);
	at[32] = (uint8_t)take(feed, 1);
	word = take(feed, 2) << (how >> 4);
	memcpy(at + 36, &word, 4);
	word = take(feed, 2);
	memcpy(at + 40, &word, 4);
	if (how & 2) /* anything, anywhere */
		at[take(feed, 1) % HDR] = (uint8_t)take(feed, 1);
	uint32_t bytes = how & 4 ? take(feed, 1) : HDR + len;
	(void)driver_submit(&fuzz.rig.driver, TX, &(struct ring_buffer){fuzz.tx_gpa, bytes, false}, 1);
	for (unsigned i = 0; i < 100 && driver_try_collect(&fuzz.rig.driver, TX, &used) == 0; i++)
		(void)usleep(10);
}

static void collect(void)
{
	struct ring_used used;
	while (driver_try_collect(&fuzz.rig.driver, RX, &used) > 0) {
		const uint8_t *at = world_at(&fuzz.rig.world, fuzz.rx_at[used.id], BUFFER);
		FUZZ_CHECK(used.len == 0 || used.len >= HDR);
		if (used.len == 0)
			continue; /* too small, and the device has said so */
		memcpy(&fuzz.host_port, at + 16, 4);
	}
}

static void program(struct feed *feed)
{
	static const uint8_t bytes[BUFFER] = "CONNECT 1\nhello";
	uint32_t how = take(feed, 1);
	int *fd = &fuzz.programs[how % PROGRAMS];
	if (*fd < 0) {
		struct sockaddr_un address = {.sun_family = AF_UNIX};
		(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", fuzz.path);
		*fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		FUZZ_CHECK(*fd >= 0);
		(void)connect(*fd, (struct sockaddr *)&address, sizeof(address));
		(void)send(*fd, bytes, how & 4 ? 15 : 10, MSG_NOSIGNAL);
	} else if (how & 8) {
		(void)send(*fd, bytes, take(feed, 1), MSG_NOSIGNAL);
	} else if (how & 16) {
		(void)shutdown(*fd, SHUT_WR);
	} else {
		(void)close(*fd);
		*fd = -1;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct feed feed = {data, size};
	make_once();
	rig_start(&fuzz.rig, take(&feed, 1) & 1 ? VIRTIO_F_RING_PACKED : 0);
	for (unsigned i = 0; feed.size && i < ACTIONS_MAX; i++) {
		switch (take(&feed, 1) & 7) {
		case 0:
			post(&feed);
			break;
		case 1:
			program(&feed);
			break;
		case 2:
			rig_start(&fuzz.rig, take(&feed, 1) & 1 ? VIRTIO_F_EVENT_IDX : 0);
			break;
		case 3:
			collect();
			break;
		default:
			send_packet(&feed);
			break;
		}
	}
	collect();
	for (unsigned i = 0; i < PROGRAMS; i++) {
		if (fuzz.programs[i] >= 0)
			(void)close(fuzz.programs[i]);
		fuzz.programs[i] = -1;
	}
	FUZZ_CHECK(driver_reset(&fuzz.rig.driver) == 0);
	return 0;
}
