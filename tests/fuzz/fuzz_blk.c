/*
 * virtio-blk's requests, from a driver that means no good. The input is a list of requests of any type, place
 * and framing, and of resets. What must come of each is worked out here a second time, from the specification
 * (VIRTIO 1.3, 5.2.6): the status, the bytes that are used, the data that is read, and at the end the whole
 * disk.
 */
#include "../../devices/devices.h"
#include "rig.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { SECTORS = 64, DISK_BYTES = SECTORS * 512, REQUESTS_MAX = 32, ID_BYTES = 20 };
enum { IN = 0, OUT = 1, FLUSH = 4, GET_ID = 8, DISCARD = 11, WRITE_ZEROES = 13 };
enum { OK = 0, IOERR = 1, UNSUPP = 2 };

#define F_DISCARD      VIRTIO_BIT(13)
#define F_WRITE_ZEROES VIRTIO_BIT(14)

static struct {
	struct rig rig;
	bool made;
	struct disk_config config;
	char path[RIG_PATH_BYTES];
	int fd;
	uint8_t disk[DISK_BYTES]; /* as it must be */
} fuzz;

struct request {
	uint32_t type;
	uint64_t sector;
	uint32_t read_bytes, write_bytes; /* with header, with status */
};

static void unmake(void)
{
	rig_unmake(&fuzz.rig);
	(void)close(fuzz.fd);
}

static void make_once(void)
{
	if (fuzz.made)
		return;
	fuzz.fd = rig_file(DISK_BYTES, fuzz.path);
	fuzz.config = (struct disk_config){.path = fuzz.path,
					   .discard = true,
					   .serial = "fuzz",
					   .queues = 1,
					   .queue_size = 16,
					   .block_size = 512};
	rig_make(&fuzz.rig, &disk_class, &fuzz.config, VIRTIO_ID_BLOCK);
	fuzz.made = true;
	FUZZ_CHECK(atexit(unmake) == 0);
}

static void start(struct feed *feed)
{
	static const uint64_t some[] = {
		VIRTIO_F_RING_PACKED, VIRTIO_F_INDIRECT_DESC, VIRTIO_F_EVENT_IDX, F_DISCARD,
		F_WRITE_ZEROES,	      VIRTIO_BIT(9),	      VIRTIO_BIT(11)};
	uint64_t choice = take(feed, 1), features = 0;
	for (unsigned i = 0; i < sizeof(some) / sizeof(some[0]); i++)
		features |= choice >> i & 1 ? some[i] : 0;
	rig_start(&fuzz.rig, features);
}

/* ---- what must come of it ---- */

static bool within(uint64_t sector, uint64_t count)
{
	return sector <= SECTORS && count <= SECTORS - sector;
}

static int expect_ranges(const struct request *request, bool discard)
{
	uint32_t bytes = request->read_bytes - 16;
	if (!(fuzz.rig.driver.features & (discard ? F_DISCARD : F_WRITE_ZEROES)))
		return UNSUPP;
	if (bytes == 0 || bytes % 16 || bytes > 32 * 16)
		return IOERR;
	for (uint32_t at = 16; at < request->read_bytes; at += 16) {
		uint64_t sector;
		uint32_t count, flags;
		memcpy(&sector, fuzz.rig.read + at, 8);
		memcpy(&count, fuzz.rig.read + at + 8, 4);
		memcpy(&flags, fuzz.rig.read + at + 12, 4);
		if (flags > (discard ? 0 : 1))
			return UNSUPP;
		if (!within(sector, count))
			return IOERR;
	}
	for (uint32_t at = 16; at < request->read_bytes; at += 16) {
		uint64_t sector;
		uint32_t count;
		memcpy(&sector, fuzz.rig.read + at, 8);
		memcpy(&count, fuzz.rig.read + at + 8, 4);
		memset(fuzz.disk + sector * 512, 0, (size_t)count * 512);
	}
	return OK;
}

/* Changes `disk` as the request must. */
static int expect(const struct request *request)
{
	uint32_t in = request->write_bytes - 1, out = request->read_bytes - 16;
	switch (request->type) {
	case IN:
		return in && in % 512 == 0 && within(request->sector, in / 512) ? OK : IOERR;
	case OUT:
		if (out == 0 || out % 512 || !within(request->sector, out / 512))
			return IOERR;
		memcpy(fuzz.disk + request->sector * 512, fuzz.rig.read + 16, out);
		return OK;
	case FLUSH:
		return OK;
	case GET_ID:
		return in >= ID_BYTES ? OK : IOERR;
	case DISCARD:
	case WRITE_ZEROES:
		return expect_ranges(request, request->type == DISCARD);
	default:
		return UNSUPP;
	}
}

static void check(const struct request *request, const struct ring_used *used)
{
	int status = fuzz.rig.write[request->write_bytes - 1];
	int wanted = expect(request);
	uint32_t len = wanted == OK ? request->write_bytes : request->write_bytes == 1;
	if (wanted == OK && request->type == GET_ID && len > ID_BYTES + 1)
		len = ID_BYTES;
	FUZZ_CHECK(status == wanted);
	FUZZ_CHECK(used->len == len);
	if (wanted == OK && request->type == IN)
		FUZZ_CHECK(memcmp(fuzz.rig.write, fuzz.disk + request->sector * 512,
				  request->write_bytes - 1) == 0);
	if (wanted == OK && request->type == GET_ID)
		FUZZ_CHECK(memcmp(fuzz.rig.write, "fuzz\0\0\0\0", 8) == 0);
}

/* ---- requests ---- */

/* Mostly lengths that mean something. */
static uint32_t take_bytes(struct feed *feed, uint32_t extra)
{
	uint32_t how = take(feed, 1);
	if (how & 0x80)
		return take(feed, 2) % RIG_AREA_BYTES;
	return how & 0x40 ? (how & 0x3f) * 16 + extra : (how & 0x0f) * 512 + extra;
}

static uint64_t take_sector(struct feed *feed)
{
	uint32_t how = take(feed, 1);
	return how < 0x80 ? how : take64(feed, 8);
}

static void fill(struct feed *feed, const struct request *request)
{
	const uint64_t sector = request->sector;
	uint8_t byte = (uint8_t)take(feed, 1);
	memset(fuzz.rig.read, byte, RIG_AREA_BYTES);
	memset(fuzz.rig.write, 0xee, RIG_AREA_BYTES);
	memcpy(fuzz.rig.read, &request->type, 4);
	memcpy(fuzz.rig.read + 8, &sector, 8);
	if (request->type != DISCARD && request->type != WRITE_ZEROES)
		return;
	for (uint32_t at = 16; at + 16 <= request->read_bytes && at < 33 * 16; at += 16) {
		uint64_t first = take_sector(feed);
		uint32_t count = take(feed, 1), flags = take(feed, 1);
		count = count < 0x80 ? count : count << 24;
		flags = flags < 0x80 ? flags >> 6 : flags;
		memcpy(fuzz.rig.read + at, &first, 8);
		memcpy(fuzz.rig.read + at + 8, &count, 4);
		memcpy(fuzz.rig.read + at + 12, &flags, 4);
	}
}

static void one_request(struct feed *feed)
{
	static const uint32_t types[] = {IN, OUT, FLUSH, GET_ID, DISCARD, WRITE_ZEROES, IN, OUT};
	struct ring_buffer buffers[2 * RIG_PIECES];
	struct ring_used used;
	uint32_t how = take(feed, 1);
	struct request request = {.type = how & 0x80 ? take(feed, 4) : types[how & 7]};
	request.sector = take_sector(feed);
	request.read_bytes = take_bytes(feed, 16);
	request.write_bytes = take_bytes(feed, 1);
	fill(feed, &request);
	size_t count = rig_cut(feed, buffers, fuzz.rig.read_gpa, request.read_bytes, false);
	count += rig_cut(feed, buffers + count, fuzz.rig.write_gpa, request.write_bytes, true);
	if (count == 0)
		return;
	FUZZ_CHECK(driver_submit(&fuzz.rig.driver, 0, buffers, count) >= 0);
	if (request.read_bytes < 16 || request.write_bytes == 0) {
		FUZZ_CHECK(driver_wait_status(&fuzz.rig.driver, DRIVER_NEEDS_RESET) == 0);
		start(feed);
		return;
	}
	FUZZ_CHECK(driver_collect(&fuzz.rig.driver, 0, &used) == 0);
	check(&request, &used);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct feed feed = {data, size};
	static uint8_t real[DISK_BYTES];
	make_once();
	start(&feed);
	for (unsigned i = 0; feed.size && i < REQUESTS_MAX; i++) {
		if (take(&feed, 1) == 0xff)
			start(&feed);
		else
			one_request(&feed);
	}
	FUZZ_CHECK(pread(fuzz.fd, real, DISK_BYTES, 0) == DISK_BYTES);
	FUZZ_CHECK(memcmp(real, fuzz.disk, DISK_BYTES) == 0);
	return 0;
}
