/*
 * virtio-blk's requests, from a driver that means no good. The input is a list of requests of any type, place
 * and framing, and of resets. What must come of each is worked out here a second time, from the specification
 * (VIRTIO 1.3, 5.2.6): the status, the bytes that are used, the data that is read, and at the end the whole
 * disk.
 */
#include "fuzz.h"

#include "../../devices/devices.h"
#include "../devices/driver.h"
#include "base/log.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
	SECTORS = 64,
	DISK_BYTES = SECTORS * 512,
	AREA_BYTES = 65536,
	REQUESTS_MAX = 32,
	PIECES = 4,
	ID_BYTES = 20
};
enum { IN = 0, OUT = 1, FLUSH = 4, GET_ID = 8, DISCARD = 11, WRITE_ZEROES = 13 };
enum { OK = 0, IOERR = 1, UNSUPP = 2 };

#define F_DISCARD      VIRTIO_BIT(13)
#define F_WRITE_ZEROES VIRTIO_BIT(14)

struct feed {
	const uint8_t *data;
	size_t size;
};

static uint64_t take(struct feed *feed, unsigned bytes)
{
	uint64_t value = 0;
	for (unsigned i = 0; i < bytes && feed->size; i++) {
		value |= (uint64_t)*feed->data++ << (8 * i);
		feed->size--;
	}
	return value;
}

static struct {
	struct world world;
	struct driver driver;
	struct device *device;
	struct disk_config config;
	char path[64];
	int fd;
	uint64_t read_gpa, write_gpa; /* what the device reads, and writes, one after the other */
	uint8_t *read, *write;
	uint8_t disk[DISK_BYTES]; /* as it must be */
} fuzz;

struct request {
	uint32_t type;
	uint64_t sector;
	uint32_t read_bytes, write_bytes; /* with header, with status */
};

static void unmake(void)
{
	driver_finish(&fuzz.driver);
	disk_class.destroy(fuzz.device);
	world_finish(&fuzz.world);
	(void)close(fuzz.fd);
}

static void make_once(void)
{
	struct err err = ERR_INIT;
	if (fuzz.device)
		return;
	log_set_level(LOG_ERROR);
	fuzz.fd = memfd_create("disk", MFD_CLOEXEC);
	FUZZ_CHECK(fuzz.fd >= 0 && ftruncate(fuzz.fd, DISK_BYTES) == 0);
	(void)snprintf(fuzz.path, sizeof(fuzz.path), "/proc/self/fd/%d", fuzz.fd);
	fuzz.config = (struct disk_config){.path = fuzz.path,
					   .discard = true,
					   .serial = "fuzz",
					   .queues = 1,
					   .queue_size = 16,
					   .block_size = 512};
	world_init(&fuzz.world, 1);
	FUZZ_CHECK(disk_class.create(&fuzz.config, 0, &fuzz.world.services, &fuzz.device, &err) == 0);
	FUZZ_CHECK(driver_init(&fuzz.driver, &fuzz.world, VIRTIO_ID_BLOCK) == 0);
	fuzz.read_gpa = world_alloc(&fuzz.world, AREA_BYTES);
	fuzz.write_gpa = world_alloc(&fuzz.world, AREA_BYTES);
	fuzz.read = world_at(&fuzz.world, fuzz.read_gpa, AREA_BYTES);
	fuzz.write = world_at(&fuzz.world, fuzz.write_gpa, AREA_BYTES);
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
	FUZZ_CHECK(driver_start(&fuzz.driver, &(struct driver_options){.features = features}) == 0);
}

/* ---- what must come of it ---- */

static bool within(uint64_t sector, uint64_t count)
{
	return sector <= SECTORS && count <= SECTORS - sector;
}

static int expect_ranges(const struct request *request, bool discard)
{
	uint32_t bytes = request->read_bytes - 16;
	if (!(fuzz.driver.features & (discard ? F_DISCARD : F_WRITE_ZEROES)))
		return UNSUPP;
	if (bytes == 0 || bytes % 16 || bytes > 32 * 16)
		return IOERR;
	for (uint32_t at = 16; at < request->read_bytes; at += 16) {
		uint64_t sector;
		uint32_t count, flags;
		memcpy(&sector, fuzz.read + at, 8);
		memcpy(&count, fuzz.read + at + 8, 4);
		memcpy(&flags, fuzz.read + at + 12, 4);
		if (flags > (discard ? 0 : 1))
			return UNSUPP;
		if (!within(sector, count))
			return IOERR;
	}
	for (uint32_t at = 16; at < request->read_bytes; at += 16) {
		uint64_t sector;
		uint32_t count;
		memcpy(&sector, fuzz.read + at, 8);
		memcpy(&count, fuzz.read + at + 8, 4);
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
		memcpy(fuzz.disk + request->sector * 512, fuzz.read + 16, out);
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
	int status = fuzz.write[request->write_bytes - 1];
	int wanted = expect(request);
	uint32_t len = wanted == OK ? request->write_bytes : request->write_bytes == 1;
	if (wanted == OK && request->type == GET_ID && len > ID_BYTES + 1)
		len = ID_BYTES;
	FUZZ_CHECK(status == wanted);
	FUZZ_CHECK(used->len == len);
	if (wanted == OK && request->type == IN)
		FUZZ_CHECK(memcmp(fuzz.write, fuzz.disk + request->sector * 512, request->write_bytes - 1) ==
			   0);
	if (wanted == OK && request->type == GET_ID)
		FUZZ_CHECK(memcmp(fuzz.write, "fuzz\0\0\0\0", 8) == 0);
}

/* ---- requests ---- */

/* Mostly lengths that mean something. */
static uint32_t take_bytes(struct feed *feed, uint32_t extra)
{
	uint32_t how = (uint32_t)take(feed, 1);
	if (how & 0x80)
		return (uint32_t)take(feed, 2) % AREA_BYTES;
	return how & 0x40 ? (how & 0x3f) * 16 + extra : (how & 0x0f) * 512 + extra;
}

static uint64_t take_sector(struct feed *feed)
{
	uint32_t how = (uint32_t)take(feed, 1);
	return how < 0x80 ? how : take(feed, 8);
}

static void fill(struct feed *feed, const struct request *request)
{
	const uint64_t sector = request->sector;
	uint8_t byte = (uint8_t)take(feed, 1);
	memset(fuzz.read, byte, AREA_BYTES);
	memset(fuzz.write, 0xee, AREA_BYTES);
	memcpy(fuzz.read, &request->type, 4);
	memcpy(fuzz.read + 8, &sector, 8);
	if (request->type != DISCARD && request->type != WRITE_ZEROES)
		return;
	for (uint32_t at = 16; at + 16 <= request->read_bytes && at < 33 * 16; at += 16) {
		uint64_t first = take_sector(feed);
		uint32_t count = (uint32_t)take(feed, 1), flags = (uint32_t)take(feed, 1);
		count = count < 0x80 ? count : count << 24;
		flags = flags < 0x80 ? flags >> 6 : flags;
		memcpy(fuzz.read + at, &first, 8);
		memcpy(fuzz.read + at + 8, &count, 4);
		memcpy(fuzz.read + at + 12, &flags, 4);
	}
}

/* Cut `bytes` into buffers as the input says. */
static size_t cut(struct feed *feed, struct ring_buffer *buffers, uint64_t gpa, uint32_t bytes, bool write)
{
	size_t count = 0;
	while (bytes) {
		uint32_t len = (uint32_t)take(feed, 1);
		len = len & 0x80 ? len & 0x7f : len * 64;
		if (len == 0 || len > bytes || count == PIECES - 1)
			len = bytes;
		buffers[count++] = (struct ring_buffer){gpa, len, write};
		gpa += len;
		bytes -= len;
	}
	return count;
}

static void one_request(struct feed *feed)
{
	static const uint32_t types[] = {IN, OUT, FLUSH, GET_ID, DISCARD, WRITE_ZEROES, IN, OUT};
	struct ring_buffer buffers[2 * PIECES];
	struct ring_used used;
	uint32_t how = (uint32_t)take(feed, 1);
	struct request request = {.type = how & 0x80 ? (uint32_t)take(feed, 4) : types[how & 7]};
	request.sector = take_sector(feed);
	request.read_bytes = take_bytes(feed, 16);
	request.write_bytes = take_bytes(feed, 1);
	fill(feed, &request);
	size_t count = cut(feed, buffers, fuzz.read_gpa, request.read_bytes, false);
	count += cut(feed, buffers + count, fuzz.write_gpa, request.write_bytes, true);
	if (count == 0)
		return;
	FUZZ_CHECK(driver_submit(&fuzz.driver, 0, buffers, count) >= 0);
	if (request.read_bytes < 16 || request.write_bytes == 0) {
		FUZZ_CHECK(driver_wait_status(&fuzz.driver, DRIVER_NEEDS_RESET) == 0);
		start(feed);
		return;
	}
	FUZZ_CHECK(driver_collect(&fuzz.driver, 0, &used) == 0);
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
