/*
 * virtio-pmem's requests, from a driver that means no good: any type, any framing, answers wanted in RAM or
 * in the persistent memory itself, many flushes at once, resets among them. What must come of each request is
 * worked out here (VIRTIO 1.3, 5.19.6), and what the guest stores must be in the file.
 */
#include "../../devices/devices.h"
#include "rig.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { FILE_BYTES = 2 << 20, PIECES_MAX = 4, ACTIONS_MAX = 32, UNTOUCHED = 0xee, FLUSH = 0 };
enum { ACT_START = 0xff, ACT_SCRIBBLE = 0xfe, ACT_LOSE = 0xe0, ACT_MANY = 0xd0, ACT_CONFIG = 0xc0 };

static struct {
	struct rig rig;
	bool made;
	struct pmem_config config;
	char path[RIG_PATH_BYTES];
	int fd;
	uint64_t start; /* gpa */
	uint8_t *memory;
} fuzz;

static void unmake(void)
{
	rig_unmake(&fuzz.rig);
	(void)close(fuzz.fd);
}

static void make_once(void)
{
	if (fuzz.made)
		return;
	fuzz.fd = rig_file(FILE_BYTES, fuzz.path);
	fuzz.config.path = fuzz.path;
	rig_make(&fuzz.rig, &pmem_class, &fuzz.config, VIRTIO_ID_PMEM);
	fuzz.start = driver_config_get(&fuzz.rig.driver, 0, 8);
	fuzz.memory = world_at(&fuzz.rig.world, fuzz.start, FILE_BYTES);
	FUZZ_CHECK(fuzz.memory && driver_config_get(&fuzz.rig.driver, 8, 8) == FILE_BYTES);
	fuzz.made = true;
	FUZZ_CHECK(atexit(unmake) == 0);
}

static void start(struct feed *feed)
{
	rig_start(&fuzz.rig, rig_features(take(feed, 1)));
}

struct request {
	uint32_t type, read_bytes, write_bytes;
	uint64_t answer_gpa;
	uint8_t *answer;
};

static void check(const struct request *request, const struct ring_used *used)
{
	uint32_t wanted = request->type == FLUSH && request->read_bytes >= 4 && request->write_bytes >= 4
				  ? 0
				  : UINT32_MAX;
	uint32_t len = request->write_bytes < 4 ? request->write_bytes : 4;
	FUZZ_CHECK(used->len == len && memcmp(request->answer, &wanted, len) == 0);
	for (uint32_t i = len; i < request->write_bytes; i++)
		FUZZ_CHECK(request->answer[i] == UNTOUCHED);
}

/* What lies in persistent memory lies in the file. */
static void check_file(const struct request *request)
{
	uint8_t stored[256];
	if (request->answer < fuzz.memory || request->answer >= fuzz.memory + FILE_BYTES)
		return;
	FUZZ_CHECK(pread(fuzz.fd, stored, sizeof(stored), request->answer - fuzz.memory) == sizeof(stored));
	FUZZ_CHECK(memcmp(stored, request->answer, sizeof(stored)) == 0);
}

static void one_request(struct feed *feed, unsigned how)
{
	struct ring_buffer buffers[2 * RIG_PIECES];
	struct ring_used used;
	struct request request = {.type = how & 1 ? take(feed, 4) : FLUSH,
				  .read_bytes = how & 2 ? take(feed, 1) : 4,
				  .write_bytes = how & 4 ? take(feed, 1) : 4};
	uint32_t at = how & 8 ? take(feed, 3) % (FILE_BYTES - 256) : 0;
	request.answer = how & 8 ? fuzz.memory + at : fuzz.rig.write;
	request.answer_gpa = how & 8 ? fuzz.start + at : fuzz.rig.write_gpa;
	memset(request.answer, UNTOUCHED, 256);
	memcpy(fuzz.rig.read, &request.type, 4);
	size_t count = rig_cut(feed, buffers, fuzz.rig.read_gpa, request.read_bytes, false);
	count += rig_cut(feed, buffers + count, request.answer_gpa, request.write_bytes, true);
	if (count == 0)
		return;
	FUZZ_CHECK(driver_submit(&fuzz.rig.driver, 0, buffers, count) >= 0);
	if (count > PIECES_MAX) { /* more than any driver needs */
		FUZZ_CHECK(driver_wait_status(&fuzz.rig.driver, DRIVER_NEEDS_RESET) == 0);
		start(feed);
		return;
	}
	FUZZ_CHECK(driver_collect(&fuzz.rig.driver, 0, &used) == 0);
	check(&request, &used);
	check_file(&request);
}

static void many_flushes(unsigned count)
{
	const struct ring_buffer buffers[] = {{fuzz.rig.read_gpa, 4, false}, {fuzz.rig.write_gpa, 4, true}};
	memset(fuzz.rig.read, 0, 4);
	for (unsigned i = 0; i < count; i++)
		FUZZ_CHECK(driver_submit(&fuzz.rig.driver, 0, buffers, 2) >= 0);
}

static void act(struct feed *feed, unsigned action)
{
	struct ring_used used;
	unsigned count = 1 + action % 16;
	if (action == ACT_SCRIBBLE)
		rig_scribble(&fuzz.rig, feed);
	if (action >= ACT_LOSE && action < ACT_SCRIBBLE)
		many_flushes(count);
	if (action >= ACT_LOSE) {
		start(feed);
	} else if (action >= ACT_MANY) {
		many_flushes(count);
		for (; count; count--)
			FUZZ_CHECK(driver_collect(&fuzz.rig.driver, 0, &used) == 0 && used.len == 4);
	} else if (action >= ACT_CONFIG) { /* nothing in there is the driver's */
		driver_config_set(&fuzz.rig.driver, action % 16, 1U << (action % 3), take(feed, 1));
		FUZZ_CHECK(driver_config_get(&fuzz.rig.driver, 0, 8) == fuzz.start);
		FUZZ_CHECK(driver_config_get(&fuzz.rig.driver, 8, 8) == FILE_BYTES);
	} else {
		one_request(feed, action);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct feed feed = {data, size};
	make_once();
	start(&feed);
	for (unsigned i = 0; feed.size && i < ACTIONS_MAX; i++)
		act(&feed, take(&feed, 1));
	return 0;
}
