/*
 * The virtio PCI transport under a driver that mostly knows what it does. The input is a list of actions,
 * each a byte and what it needs: registers one by one, whole start-ups, requests, bytes in the rings,
 * doorbells, the configuration window, resets of device and queues, pauses, snapshots and damaged ones.
 *
 * Rules: the device hears only what virtio.h promises; a reset brings back the registers of a new device; a
 * refused restore changes nothing, and what was saved is taken back; whatever was done, after a reset the
 * device works.
 */
#include "feed.h"
#include "fuzz.h"

#include "../devices/echo.h"
#include "base/bytes.h"
#include "base/log.h"

enum { ACTIONS_MAX = 200, DATA_BYTES = 4096 };

struct machine {
	struct world world; /* made once */
	bool made;
	uint64_t data_gpa, free_gpa;
	struct echo echo;
	struct driver driver;
	struct virtio_regs fresh;
	unsigned pauses;
};

static struct machine machine;

static void device_create(struct machine *m)
{
	struct err err = ERR_INIT;
	FUZZ_CHECK(echo_create(&m->echo, &m->world, &err) == 0);
}

static void machine_begin(struct machine *m)
{
	if (!m->made) {
		world_init(&m->world, 1);
		m->data_gpa = world_alloc(&m->world, DATA_BYTES);
		m->free_gpa = m->world.next_gpa;
		m->made = true;
	}
	m->world.next_gpa = m->free_gpa;
	m->pauses = 0;
	device_create(m);
	FUZZ_CHECK(driver_init(&m->driver, &m->world, VIRTIO_ID_CONSOLE) == 0);
	virtio_save(m->echo.virtio, &m->fresh);
}

/* Nothing is held and no stop waits for us: calls that wait come back. */
static void let_go(struct machine *m)
{
	m->echo.slow_stop = false;
	m->echo.hold = false;
	echo_release(&m->echo);
}

static void resume_all(struct machine *m)
{
	for (; m->pauses; m->pauses--)
		virtio_resume(m->echo.virtio);
}

static void assert_reset(struct machine *m)
{
	struct virtio_regs now;
	let_go(m);
	FUZZ_CHECK(driver_reset(&m->driver) == 0);
	virtio_save(m->echo.virtio, &now);
	FUZZ_CHECK(memcmp(&now, &m->fresh, offsetof(struct virtio_regs, pci)) == 0);
}

static void start(struct machine *m, unsigned choice)
{
	static const uint64_t features[] = {VIRTIO_F_INDIRECT_DESC, VIRTIO_F_EVENT_IDX, VIRTIO_F_RING_PACKED,
					    VIRTIO_F_RING_RESET};
	struct driver_options options = {.queue_size = (uint16_t)(choice & 16 ? 8 : 0), .intx = choice & 32};
	for (unsigned i = 0; i < ARRAY_LEN(features); i++)
		options.features |= choice & 1U << i ? features[i] : 0;
	let_go(m);
	world_config_write(&m->world, m->driver.slot, 4, 2, 6);
	FUZZ_CHECK(driver_start(&m->driver, &options) == 0);
}

static void finish_works(struct machine *m)
{
	const struct ring_buffer buffers[] = {{m->data_gpa, 16, false}, {m->data_gpa + 64, 16, true}};
	resume_all(m);
	start(m, 0);
	FUZZ_CHECK(driver_request(&m->driver, 1, buffers, 2) == 16);
}

static void machine_end(struct machine *m)
{
	finish_works(m);
	assert_reset(m);
	driver_finish(&m->driver);
	virtio_destroy(m->echo.virtio);
	FUZZ_CHECK(m->echo.mistakes == 0);
}

/* ---- actions ---- */

static void act_register(struct machine *m, unsigned choice, struct feed *feed)
{
	static const struct {
		uint8_t offset, size;
	} registers[] = {{0, 4},  {8, 4},  {12, 4}, {16, 2}, {20, 1}, {22, 2}, {24, 2},
			 {26, 2}, {28, 2}, {32, 8}, {40, 8}, {48, 8}, {58, 2}};
	unsigned i = take(feed, 1) % ARRAY_LEN(registers);
	unsigned size = choice & 1 && registers[i].size == 8 ? 4 : registers[i].size;
	driver_common_write(&m->driver, registers[i].offset, size, take(feed, size > 2 ? 3 : size));
}

static void act_bar(struct machine *m, unsigned choice, struct feed *feed)
{
	uint64_t gpa = m->driver.common_gpa + take(feed, 2) % 0x4000;
	if (choice & 4)
		(void)world_read(&m->world, gpa, 1U << (choice & 3));
	else
		world_write(&m->world, gpa, 1U << (choice & 3), take(feed, 2));
}

static void act_submit(struct machine *m, struct feed *feed)
{
	unsigned queue = take(feed, 1);
	uint64_t shape = take(feed, 1);
	if (!m->driver.queue_count || m->echo.slow_stop)
		return;
	queue %= m->driver.queue_count;
	struct ring_buffer buffers[4];
	size_t count = 1 + (shape & 3);
	for (size_t i = 0; i < count; i++)
		buffers[i] = (struct ring_buffer){m->data_gpa + (shape >> 4) * 16 + 512 * i,
						  (uint32_t)(shape >> 2) * 8, i >= (shape >> 3) % 4};
	(void)driver_submit(&m->driver, queue, buffers, count);
}

/* A guest may write where the device reads: ThreadSanitizer shall not tell of it. */
__attribute__((no_sanitize("thread"))) static void act_scribble(struct machine *m, struct feed *feed)
{
	struct driver_queue *q = m->driver.queues[take(feed, 1) % ECHO_QUEUES];
	uint64_t offset = take(feed, 2);
	uint8_t value = (uint8_t)take(feed, 1);
	if (!q)
		return;
	volatile uint8_t *ring = world_at(&m->world, q->ring_gpa, q->ring_bytes);
	ring[offset % q->ring_bytes] = value;
}

static void act_window(struct machine *m, unsigned choice, struct feed *feed)
{
	unsigned at = m->driver.window;
	uint32_t slot = m->driver.slot;
	world_config_write(&m->world, slot, at + 4, 1, choice & 4 ? take(feed, 1) : 4);
	world_config_write(&m->world, slot, at + 8, 4, take(feed, 2));
	world_config_write(&m->world, slot, at + 12, 4, 1U << (choice & 3));
	if (take(feed, 1) & 1)
		(void)world_config_read(&m->world, slot, at + 16, 4);
	else
		world_config_write(&m->world, slot, at + 16, 4, take(feed, 2));
}

static void act_queue(struct machine *m, struct feed *feed)
{
	unsigned index = take(feed, 1) % ECHO_QUEUES;
	if (!m->driver.queue_count)
		return;
	let_go(m);
	if ((m->driver.features & VIRTIO_F_RING_RESET) && driver_status(&m->driver) == 15)
		FUZZ_CHECK(driver_reset_queue(&m->driver, index) == 0);
	(void)driver_enable_queue(&m->driver, index, (uint16_t)take(feed, 1));
}

static void same(const struct virtio_regs *a, const struct virtio_regs *b)
{
	FUZZ_CHECK(memcmp(a, b, offsetof(struct virtio_regs, pci)) == 0);
	FUZZ_CHECK(memcmp(a->pci.config, b->pci.config, sizeof(a->pci.config)) == 0);
}

/* To a new device, or damaged and back into this one. */
static void act_state(struct machine *m, bool damage, struct feed *feed)
{
	struct virtio_regs before, after, bad;
	struct err err = ERR_INIT;
	let_go(m);
	echo_settle(&m->echo);
	virtio_pause(m->echo.virtio);
	virtio_save(m->echo.virtio, &before);
	if (!damage) {
		m->pauses++;
		resume_all(m);
		virtio_destroy(m->echo.virtio);
		FUZZ_CHECK(m->echo.mistakes == 0);
		device_create(m);
		virtio_pause(m->echo.virtio);
		FUZZ_CHECK(virtio_restore(m->echo.virtio, &before, &err) == 0);
	} else {
		bad = before;
		size_t at = take(feed, 2) % offsetof(struct virtio_regs, pci);
		bool is_bool = (at >= offsetof(struct virtio_regs, queue_enable) &&
				at < offsetof(struct virtio_regs, queue_enable) + VIRTIO_QUEUES_MAX) ||
			       at >= offsetof(struct virtio_regs, queue_avail_wrap);
		((uint8_t *)&bad)[at] ^= (uint8_t)(is_bool ? 1 : take(feed, 1));
		if (virtio_restore(m->echo.virtio, &bad, &err) == 0)
			FUZZ_CHECK(virtio_restore(m->echo.virtio, &before, &err) == 0);
	}
	virtio_save(m->echo.virtio, &after);
	same(&before, &after);
	virtio_resume(m->echo.virtio);
}

static void act_device(struct machine *m, unsigned choice)
{
	switch (choice) {
	case 0:
		m->echo.hold = true;
		break;
	case 1:
		m->echo.slow_stop = m->pauses == 0;
		break;
	case 2:
		let_go(m);
		break;
	case 3:
		m->echo.room = 2;
		break;
	case 4:
		echo_change_config(&m->echo);
		break;
	case 5:
		virtio_needs_reset(m->echo.virtio, "fuzz");
		break;
	case 6:
		let_go(m);
		virtio_pause(m->echo.virtio);
		m->pauses++;
		break;
	default:
		resume_all(m);
		break;
	}
}

static void act(struct machine *m, unsigned action, struct feed *feed)
{
	unsigned choice = action & 7;
	switch (action >> 3 & 15) {
	case 0:
	case 1:
	case 2:
	case 3:
		act_register(m, choice, feed);
		break;
	case 4:
	case 5:
		act_bar(m, choice, feed);
		break;
	case 6:
		start(m, take(feed, 1));
		break;
	case 7:
	case 8:
		act_submit(m, feed);
		break;
	case 9:
		act_scribble(m, feed);
		break;
	case 10:
		world_write(&m->world, m->driver.notify_gpa + 4 * (choice % ECHO_QUEUES), 2, choice);
		break;
	case 11:
		if (choice & 1)
			assert_reset(m);
		else
			driver_common_write(&m->driver, DRIVER_STATUS, 1, 0);
		break;
	case 12:
		act_queue(m, feed);
		break;
	case 13:
		act_window(m, choice, feed);
		break;
	case 14:
		act_state(m, choice & 1, feed);
		break;
	default:
		act_device(m, choice);
		break;
	}
	if (action & 0x80 && !m->echo.slow_stop)
		echo_settle(&m->echo);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct feed feed = {data, size};
	log_set_level(LOG_ERROR);
	machine_begin(&machine);
	for (unsigned i = 0; feed.size && i < ACTIONS_MAX; i++)
		act(&machine, take(&feed, 1), &feed);
	machine_end(&machine);
	return 0;
}
