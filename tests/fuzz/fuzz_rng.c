/*
 * virtio-rng's requests, from a driver that means no good: buffers of any size and framing, many at once,
 * resets with some of them waiting for the rate, bytes in the ring. What must come of each request is worked
 * out here (VIRTIO 1.3, 5.4.6): how much is written, that it is what the host gave, and nothing besides.
 */
#include "../../devices/devices.h"
#include "rig.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

enum { REQUEST_BYTES = 8192, AT_ONCE = RIG_AREA_BYTES / REQUEST_BYTES, ANSWER_MAX = 4096, ACTIONS_MAX = 32 };
enum { HOSTS_BYTE = 0x5a, UNTOUCHED = 0xee };
enum { ACT_START = 0xff, ACT_SCRIBBLE = 0xfe };

static struct {
	struct rig rig;
	bool made;
	uint32_t asked[AT_ONCE]; /* bytes, of the requests that are out */
	unsigned slot_of_id[VIRTQ_SIZE_MAX];
} fuzz;

/* So much that it is met now and then, and waited for a millisecond. */
static const struct rng_config config = {.rate = {.bytes_per_second = 4000000, .ops_per_second = 20000}};

static _Atomic unsigned host_gives, host_interrupts; /* at most so many bytes; so often nothing */

/* Takes the place of the C library's. */
ssize_t getrandom(void *data, size_t len, unsigned flags)
{
	(void)flags;
	if (host_interrupts) {
		host_interrupts--;
		errno = EINTR;
		return -1;
	}
	size_t got = host_gives && host_gives < len ? host_gives : len;
	memset(data, HOSTS_BYTE, got);
	return (ssize_t)got;
}

static void unmake(void)
{
	rig_unmake(&fuzz.rig);
}

static void make_once(void)
{
	if (fuzz.made)
		return;
	rig_make(&fuzz.rig, &rng_class, &config, VIRTIO_ID_RNG);
	fuzz.made = true;
	FUZZ_CHECK(atexit(unmake) == 0);
}

static void start(struct feed *feed)
{
	rig_start(&fuzz.rig, rig_features(take(feed, 1)));
}

static bool all_are(const uint8_t *data, size_t len, uint8_t value)
{
	return len == 0 || (data[0] == value && memcmp(data, data + 1, len - 1) == 0);
}

/* How many are out then. */
static unsigned submit(struct feed *feed, unsigned count)
{
	struct ring_buffer buffers[2 * RIG_PIECES];
	unsigned out = 0;
	memset(fuzz.rig.write, UNTOUCHED, RIG_AREA_BYTES);
	for (; out < count; out++) {
		uint32_t how = take(feed, 1), extra = how & 0x20 ? take(feed, 1) : 0;
		uint32_t bytes = how & 0x80 ? take(feed, 2) % REQUEST_BYTES : how & 0x1f;
		uint64_t gpa = fuzz.rig.write_gpa + (uint64_t)out * REQUEST_BYTES;
		size_t pieces = rig_cut(feed, buffers, fuzz.rig.read_gpa, extra, false);
		pieces += rig_cut(feed, buffers + pieces, gpa, bytes, true);
		int id = pieces ? driver_submit(&fuzz.rig.driver, 0, buffers, pieces) : -1;
		if (id < 0)
			break;
		fuzz.asked[out] = bytes;
		fuzz.slot_of_id[id] = out;
	}
	return out;
}

static void check(const struct ring_used *used)
{
	unsigned slot = fuzz.slot_of_id[used->id];
	const uint8_t *data = fuzz.rig.write + (size_t)slot * REQUEST_BYTES;
	uint32_t wanted = fuzz.asked[slot] < ANSWER_MAX ? fuzz.asked[slot] : ANSWER_MAX;
	FUZZ_CHECK(used->len == wanted);
	FUZZ_CHECK(all_are(data, wanted, HOSTS_BYTE));
	FUZZ_CHECK(all_are(data + wanted, REQUEST_BYTES - wanted, UNTOUCHED));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct feed feed = {data, size};
	struct ring_used used;
	make_once();
	start(&feed);
	for (unsigned i = 0; feed.size && i < ACTIONS_MAX; i++) {
		unsigned action = take(&feed, 1);
		if (action == ACT_SCRIBBLE)
			rig_scribble(&fuzz.rig, &feed);
		if (action >= ACT_SCRIBBLE) {
			start(&feed);
			continue;
		}
		host_gives = action & 0x40 ? take(&feed, 1) : 0;
		host_interrupts = action >> 4 & 3;
		unsigned out = submit(&feed, 1 + action % AT_ONCE);
		if (action & 0x80) /* they are lost */
			start(&feed);
		else
			for (; out; out--) {
				FUZZ_CHECK(driver_collect(&fuzz.rig.driver, 0, &used) == 0);
				check(&used);
			}
	}
	return 0;
}
