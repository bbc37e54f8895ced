/*
 * The balloon's queues, from a driver that means no good: page numbers and reported ranges of any kind and
 * framing, statistics, new targets, resets. What must come of it is worked out here a second time (VIRTIO
 * 1.3, 5.5.6): which pages are zeros then, what the statistics are. All other pages keep what they hold.
 */
#include "../../devices/devices.h"
#include "devices/balloon.h"
#include "rig.h"

#include <string.h>

enum { PAGE_BYTES = 4096, PAGES = 32, PFNS_MAX = 1024, STAT_BYTES = 10, STATS_MAX = 64, ACTIONS_MAX = 32 };
enum { RAM_PAGES = WORLD_RAM_MIB * 256 };
enum { INFLATE, DEFLATE, STATS, LAST };
enum { SPACE_NUM_PAGES = 0, SPACE_ACTUAL = 4 };

#define F_STATS_VQ VIRTIO_BIT(1)

static const struct balloon_config config = {.deflate_on_oom = true, .free_page_reporting = true};

static struct {
	struct rig rig;
	bool made;
	uint64_t pages_gpa; /* PAGES of them that may go, and two more */
	uint8_t *pages;
	bool gone[PAGES];
	unsigned out[LAST + 1]; /* chains of the queue */
	uint64_t known, stats[BALLOON_STATS];
	uint32_t target, actual;
} fuzz;

static void unmake(void)
{
	rig_unmake(&fuzz.rig);
}

static void make_once(void)
{
	if (fuzz.made)
		return;
	rig_make(&fuzz.rig, &balloon_class, &config, VIRTIO_ID_BALLOON);
	fuzz.pages_gpa = world_alloc(&fuzz.rig.world, (PAGES + 2) * PAGE_BYTES);
	fuzz.pages = world_at(&fuzz.rig.world, fuzz.pages_gpa, (PAGES + 2) * PAGE_BYTES);
	fuzz.made = true;
	FUZZ_CHECK(atexit(unmake) == 0);
}

static void start(struct feed *feed)
{
	uint64_t choice = take(feed, 1);
	/* 16: deflate on OOM, 32: reporting, 64: statistics */
	rig_start(&fuzz.rig, rig_features((unsigned)choice) | (choice & 16 ? VIRTIO_BIT(2) : 0) |
				     (choice & 32 ? VIRTIO_BIT(5) : 0) | (choice & 64 ? F_STATS_VQ : 0));
	memset(fuzz.out, 0, sizeof(fuzz.out));
	fuzz.known = 0;
	fuzz.actual = 0;
}

static bool has_stats(void)
{
	return fuzz.rig.driver.features & F_STATS_VQ;
}

/* ---- pages ---- */

static void use_pages(void)
{
	for (unsigned i = 0; i < PAGES; i++) {
		fuzz.pages[i * PAGE_BYTES] = fuzz.pages[(i + 1) * PAGE_BYTES - 1] = (uint8_t)(i + 1);
		fuzz.gone[i] = false;
	}
}

static void check_pages(void)
{
	for (unsigned i = 0; i < PAGES; i++) {
		uint8_t wanted = fuzz.gone[i] ? 0 : (uint8_t)(i + 1);
		FUZZ_CHECK(fuzz.pages[i * PAGE_BYTES] == wanted);
		FUZZ_CHECK(fuzz.pages[(i + 1) * PAGE_BYTES - 1] == wanted);
	}
}

/* The device answers at once; the statistics' buffer it keeps. */
static void request(unsigned queue, const struct ring_buffer *buffers, size_t count)
{
	struct ring_used used;
	if (count == 0)
		return;
	FUZZ_CHECK(driver_submit(&fuzz.rig.driver, queue, buffers, count) >= 0);
	FUZZ_CHECK(driver_collect(&fuzz.rig.driver, queue, &used) == 0 && used.len == 0);
}

/* Mostly pages that may go, runs of them up and down; else such as are no RAM, or just about. */
static uint32_t next_pfn(struct feed *feed, uint32_t before)
{
	uint32_t how = take(feed, 1);
	if (how < 0x40)
		return before + 1;
	if (how < 0x60)
		return before - 1;
	if (how < 0xc0)
		return (uint32_t)(fuzz.pages_gpa / PAGE_BYTES) + how % PAGES;
	if (how < 0xe0)
		return UINT32_MAX - how % 32;
	return how < 0xf0 ? RAM_PAGES + how % 16 : take(feed, 4) | 0x80000000;
}

static bool is_ours(uint32_t pfn, uint32_t *ret_page)
{
	*ret_page = pfn - (uint32_t)(fuzz.pages_gpa / PAGE_BYTES);
	return *ret_page < PAGES;
}

/* Runs must not leave the pages that may go: those behind are other people's, ring and all. */
static uint32_t safe_pfn(uint32_t pfn)
{
	uint32_t page;
	return is_ours(pfn, &page) || pfn >= RAM_PAGES ? pfn : (uint32_t)(fuzz.pages_gpa / PAGE_BYTES);
}

static void act_pages(struct feed *feed, unsigned queue)
{
	struct ring_buffer buffers[2 * RIG_PIECES];
	uint32_t count = take(feed, 1), extra = take(feed, 1), page, pfn = 0;
	count = count < 0x40 ? count : (count - 0x40) * 4 % PFNS_MAX;
	uint32_t bytes = count * 4 + extra % 4;
	use_pages();
	memset(fuzz.rig.read + (size_t)count * 4, 0xff, 4);
	for (uint32_t i = 0; i < count; i++) {
		pfn = safe_pfn(next_pfn(feed, pfn));
		memcpy(fuzz.rig.read + i * 4, &pfn, 4);
		if (queue == INFLATE && is_ours(pfn, &page))
			fuzz.gone[page] = true;
	}
	size_t pieces = rig_cut(feed, buffers, fuzz.rig.read_gpa, bytes, false);
	if (extra & 0x80) /* what is there to write is not touched */
		pieces += rig_cut(feed, buffers + pieces, fuzz.pages_gpa, PAGE_BYTES, true);
	request(queue, buffers, pieces);
	check_pages();
}

static void act_report(struct feed *feed, unsigned queue)
{
	struct ring_buffer buffers[2 * RIG_PIECES];
	size_t count = take(feed, 1) % RIG_PIECES + 1, reads = take(feed, 1) & 1;
	use_pages();
	if (reads)
		buffers[0] = (struct ring_buffer){fuzz.pages_gpa, PAGE_BYTES, false};
	for (size_t i = 0; i < count; i++) {
		uint32_t at = take(feed, 1) % PAGES * PAGE_BYTES, len = take(feed, 1) % 9 * PAGE_BYTES;
		uint32_t odd = take(feed, 1);
		at += odd & 1 ? odd * 8 : 0;
		len = (odd & 2 || len == 0 ? len + odd * 4 + 1 : len);
		if (at + len > PAGES * PAGE_BYTES)
			len = PAGES * PAGE_BYTES + PAGE_BYTES - at;
		buffers[reads + i] = (struct ring_buffer){fuzz.pages_gpa + at, len, true};
		for (uint32_t page = (at + PAGE_BYTES - 1) / PAGE_BYTES; (page + 1) * PAGE_BYTES <= at + len;
		     page++)
			if (page < PAGES)
				fuzz.gone[page] = true;
	}
	request(queue, buffers, reads + count);
	check_pages();
}

/* ---- statistics and configuration ---- */

static void fill_stats(struct feed *feed, uint32_t bytes)
{
	fuzz.known = 0;
	for (uint32_t i = 0; i < bytes / STAT_BYTES; i++) {
		uint32_t how = take(feed, 1);
		uint16_t tag = (uint16_t)(how & 0x80 ? how << 8 | take(feed, 1) : how % (BALLOON_STATS + 2));
		uint64_t value = take(feed, 1) * UINT64_C(0x0101010101010101);
		memcpy(fuzz.rig.read + i * STAT_BYTES, &tag, 2);
		memcpy(fuzz.rig.read + i * STAT_BYTES + 2, &value, 8);
		if (tag >= BALLOON_STATS || i >= STATS_MAX)
			continue;
		fuzz.known |= VIRTIO_BIT(tag);
		fuzz.stats[tag] = value;
	}
}

static void collect_stats(void)
{
	struct ring_used used;
	while (driver_try_collect(&fuzz.rig.driver, STATS, &used) == 1) {
		FUZZ_CHECK(used.len == 0 && fuzz.out[STATS] > 0);
		fuzz.out[STATS]--;
	}
}

/* The device keeps one buffer at most. */
static void act_stats(struct feed *feed)
{
	struct ring_buffer buffers[2 * RIG_PIECES];
	uint32_t bytes = take(feed, 1) * 3, writes = take(feed, 1) & 0x3f;
	fill_stats(feed, bytes);
	size_t count = rig_cut(feed, buffers, fuzz.rig.read_gpa, bytes, false);
	count += rig_cut(feed, buffers + count, fuzz.rig.write_gpa, writes + !count, true);
	FUZZ_CHECK(driver_submit(&fuzz.rig.driver, STATS, buffers, count) >= 0);
	fuzz.out[STATS]++;
	rig_settle(&fuzz.rig);
	collect_stats();
	FUZZ_CHECK(fuzz.out[STATS] == 1);
}

static void act_info(void)
{
	struct balloon_info info;
	balloon_get_info(fuzz.rig.device, &info);
	FUZZ_CHECK(info.known == fuzz.known);
	FUZZ_CHECK(info.target_bytes == (uint64_t)fuzz.target * PAGE_BYTES);
	FUZZ_CHECK(info.actual_bytes == (uint64_t)fuzz.actual * PAGE_BYTES);
	for (unsigned i = 0; i < BALLOON_STATS; i++)
		FUZZ_CHECK(!(info.known >> i & 1) || info.stats[i] == fuzz.stats[i]);
	if (!has_stats())
		return;
	collect_stats();
	FUZZ_CHECK(fuzz.out[STATS] == 0);
}

static void act_space(struct feed *feed)
{
	uint32_t where = take(feed, 1), value = take(feed, 4);
	if (where & 0x80) {
		fuzz.target = value;
		balloon_set_target(fuzz.rig.device, (uint64_t)value * PAGE_BYTES + where);
	} else {
		unsigned size = 1U << (where >> 4 & 3) % 3, offset = where % 9;
		driver_config_set(&fuzz.rig.driver, offset, size, value);
		if (offset == SPACE_ACTUAL && size == 4)
			fuzz.actual = value;
	}
	FUZZ_CHECK(driver_config_get(&fuzz.rig.driver, SPACE_NUM_PAGES, 4) == fuzz.target);
	FUZZ_CHECK(driver_config_get(&fuzz.rig.driver, SPACE_ACTUAL, 4) == fuzz.actual);
}

static void act(struct feed *feed, unsigned action)
{
	unsigned queue = action >> 3 & 1 ? STATS : LAST;
	switch (action & 7) {
	case 0:
	case 1:
		act_pages(feed, action & 7);
		break;
	case 2:
	case 3:
		if (queue == STATS && has_stats())
			act_stats(feed);
		else
			act_report(feed, queue);
		break;
	case 4:
		act_info();
		break;
	case 5:
		act_space(feed);
		break;
	case 6:
		rig_scribble(&fuzz.rig, feed);
		start(feed);
		break;
	default:
		start(feed);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct feed feed = {data, size};
	make_once();
	start(&feed);
	fuzz.target = 0;
	balloon_set_target(fuzz.rig.device, 0);
	for (unsigned i = 0; feed.size && i < ACTIONS_MAX; i++)
		act(&feed, take(&feed, 1));
	return 0;
}
