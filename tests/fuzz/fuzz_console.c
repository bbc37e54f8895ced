/*
 * The virtio console's ports and its control queue, between a guest and a host that both have bad manners.
 * The input is a list of actions: output in any pieces, buffers for input, control messages of any length,
 * emergency characters, new sizes, a host that takes little or nothing, bytes from the host, resets.
 *
 * Rules: what the guest writes reaches the host once and in order, and the other way round, however slow
 * either is, and also when the machine is saved and restored meanwhile; what the device says on the control
 * queue is a message about a port that exists; whatever was done, after a reset a character passes both ways.
 */
#include "../../devices/devices.h"
#include "../../devices/virtio/console.h"
#include "base/cleanup.h"
#include "devices/chardev.h"
#include "rig.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { PORTS = 2, QUEUES = 2 + 2 * PORTS, SLOTS = 16, SLOT_BYTES = 1024, ACTIONS_MAX = 64, PATIENCE = 1000 };
enum { DEVICE_ADD = 1, CONSOLE_PORT = 4, RESIZE = 5, PORT_OPEN = 6, PORT_NAME = 7 };
enum { COUNT_TO = 251, EMERGENCY = 0xff }; /* streams count, so that each byte tells its place */

/* ---- the host's end of a port, in place of devices/backend/chardev.c ---- */

struct chardev {
	const struct chardev_user *user;
	void *owner;
	pthread_mutex_t lock; /* of what follows */
	size_t room;
	uint64_t got;  /* bytes of the guest's, since its start */
	bool held;     /* it took less than it was given */
	bool lost;     /* the ring was scribbled on: anything may come, until the next start */
	uint64_t sent; /* bytes to the guest */
};

static struct chardev ports[PORTS];

int chardev_create(const struct chardev_config *config, struct loop *loop, const struct console_keys *keys,
		   bool goes_on, struct chardev **ret, struct err *err)
{
	(void)loop, (void)keys, (void)goes_on, (void)err;
	struct chardev *port = &ports[config->path[0] - '0'];
	*port = (struct chardev){.lock = PTHREAD_MUTEX_INITIALIZER};
	*ret = port;
	return 0;
}

void chardev_destroy(struct chardev *port)
{
	(void)port;
}

void chardev_attach(struct chardev *port, const struct chardev_user *user, void *owner)
{
	port->user = user;
	port->owner = owner;
}

size_t chardev_write(struct chardev *port, const void *data, size_t len)
{
	const uint8_t *bytes = data;
	pthread_mutex_lock(&port->lock);
	size_t taken = len < port->room ? len : port->room;
	port->room -= taken;
	port->held = taken < len;
	for (size_t i = 0; i < taken && !port->lost; i++)
		if (bytes[i] != EMERGENCY)
			FUZZ_CHECK(bytes[i] == port->got++ % COUNT_TO);
	pthread_mutex_unlock(&port->lock);
	return taken;
}

void chardev_flush(struct chardev *port)
{
	(void)port; /* what it takes, it has */
}

void chardev_receive_ready(struct chardev *port)
{
	(void)port; /* we ask for room when we have something */
}

const char *chardev_peer(const struct chardev *port)
{
	(void)port;
	return NULL;
}

void chardev_restore_terminal(void)
{
}

static void give_room(struct chardev *port, size_t bytes)
{
	pthread_mutex_lock(&port->lock);
	bool tell = port->held;
	port->room = bytes;
	port->held = false;
	pthread_mutex_unlock(&port->lock);
	if (tell)
		port->user->writable(port->owner);
}

static void host_sends(struct chardev *port, size_t len)
{
	uint8_t data[256];
	size_t room = port->user->room(port->owner);
	len = len < room ? len : room;
	for (size_t i = 0; i < len; i++)
		data[i] = (uint8_t)((port->sent + i) % COUNT_TO);
	if (len)
		port->user->receive(port->owner, data, len);
	port->sent += len;
}

/* ---- the guest ---- */

/* A queue's buffers, none of which is used again before it came back. */
struct lane {
	unsigned busy; /* a bit for each slot */
	unsigned slot_of_id[VIRTQ_SIZE_MAX];
	uint32_t reads[SLOTS], writes[SLOTS]; /* bytes */
};

static struct {
	struct rig rig;
	bool made;
	struct console_config config;
	uint64_t gpa; /* SLOTS for each queue */
	struct lane lanes[QUEUES];
	uint64_t sent[PORTS]; /* bytes, since the start */
	bool synced[PORTS];   /* we know what comes next */
	uint8_t next[PORTS];
} fuzz;

static unsigned queue_of(unsigned port, bool output)
{
	return (port ? 2 + 2 * port : 0) + output;
}

static uint64_t slot_gpa(unsigned queue, unsigned slot)
{
	return fuzz.gpa + ((uint64_t)queue * SLOTS + slot) * SLOT_BYTES;
}

static uint8_t *slot_at(unsigned queue, unsigned slot)
{
	return world_at(&fuzz.rig.world, slot_gpa(queue, slot), SLOT_BYTES);
}

/* SLOTS: none is free. */
static unsigned free_slot(unsigned queue)
{
	unsigned slot = 0;
	while (slot < SLOTS && fuzz.lanes[queue].busy >> slot & 1)
		slot++;
	return slot;
}

static bool submit(struct feed *feed, unsigned queue, unsigned slot, uint32_t reads, uint32_t writes)
{
	struct ring_buffer buffers[2 * RIG_PIECES];
	struct lane *lane = &fuzz.lanes[queue];
	size_t count = rig_cut(feed, buffers, slot_gpa(queue, slot), reads, false);
	count += rig_cut(feed, buffers + count, slot_gpa(queue, slot) + reads, writes, true);
	int id = count ? driver_submit(&fuzz.rig.driver, queue, buffers, count) : -1;
	if (id < 0)
		return false;
	lane->busy |= 1U << slot;
	lane->slot_of_id[id] = slot;
	lane->reads[slot] = reads;
	lane->writes[slot] = writes;
	return true;
}

static void check_input(unsigned port, const uint8_t *data, uint32_t len)
{
	if (!fuzz.synced[port] && len)
		fuzz.next[port] = data[0];
	fuzz.synced[port] |= len > 0;
	for (uint32_t i = 0; i < len; i++) {
		FUZZ_CHECK(data[i] == fuzz.next[port]);
		fuzz.next[port] = (uint8_t)((data[i] + 1) % COUNT_TO);
	}
}

static void check_message(const uint8_t *data, uint32_t len)
{
	uint32_t id;
	uint16_t event;
	if (len < 8) /* the buffer was too small */
		return;
	memcpy(&id, data, 4);
	memcpy(&event, data + 4, 2);
	FUZZ_CHECK(id < PORTS && len <= CONSOLE_MESSAGE_BYTES);
	FUZZ_CHECK(event == DEVICE_ADD || event == CONSOLE_PORT || event == RESIZE || event == PORT_OPEN ||
		   event == PORT_NAME);
	if (event == PORT_NAME && len > 16)
		FUZZ_CHECK(memcmp(data + 8, "aerie.port.", len - 8 < 11 ? len - 8 : 11) == 0);
}

static void collect_queue(unsigned queue)
{
	struct ring_used used;
	struct lane *lane = &fuzz.lanes[queue];
	while (driver_try_collect(&fuzz.rig.driver, queue, &used) == 1) {
		unsigned slot = lane->slot_of_id[used.id];
		const uint8_t *data = slot_at(queue, slot) + lane->reads[slot];
		FUZZ_CHECK(lane->busy >> slot & 1 && used.len <= lane->writes[slot]);
		lane->busy &= ~(1U << slot);
		if (queue == CONSOLE_CONTROL_RX)
			check_message(data, used.len);
		else if (queue % 2 == 0)
			check_input(queue ? queue / 2 - 1 : 0, data, used.len);
		else
			FUZZ_CHECK(used.len == 0);
	}
}

static void collect(void)
{
	rig_settle(&fuzz.rig);
	for (unsigned queue = 0; queue < fuzz.rig.driver.queue_count; queue++)
		collect_queue(queue);
}

static void start(unsigned choice)
{
	rig_start(&fuzz.rig, rig_features(choice) | (choice & 16 ? CONSOLE_F_MULTIPORT : 0) |
				     (choice & 32 ? CONSOLE_F_SIZE : 0) |
				     (choice & 64 ? CONSOLE_F_EMERG_WRITE : 0));
	memset(fuzz.lanes, 0, sizeof(fuzz.lanes));
	for (unsigned i = 0; i < PORTS; i++) {
		fuzz.sent[i] = ports[i].got = 0; /* what the host had not taken is lost with the reset */
		ports[i].held = ports[i].lost = fuzz.synced[i] = false;
	}
}

/* ---- actions ---- */

static void act_output(struct feed *feed, unsigned port)
{
	unsigned queue = queue_of(port, true), slot = free_slot(queue);
	uint32_t how = take(feed, 1), bytes = how < 0x80 ? how : (how & 0x7f) * 8;
	uint32_t writes = take(feed, 1) & 7;
	if (slot == SLOTS)
		return;
	uint8_t *at = slot_at(queue, slot);
	for (uint32_t i = 0; i < bytes; i++)
		at[i] = (uint8_t)((fuzz.sent[port] + i) % COUNT_TO);
	if (submit(feed, queue, slot, bytes, writes == 7 ? 1 : 0))
		fuzz.sent[port] += bytes;
}

static void act_buffer(struct feed *feed, unsigned queue)
{
	unsigned slot = free_slot(queue);
	uint32_t how = take(feed, 1);
	if (slot < SLOTS)
		(void)submit(feed, queue, slot, how & 0x80 ? 4 : 0, how & 0x7f);
}

static void act_control(struct feed *feed)
{
	static const uint16_t events[] = {0, 3, 6, 3, 6, 1, 4, 0xffff};
	unsigned slot = free_slot(CONSOLE_CONTROL_TX), how = take(feed, 1);
	uint32_t id = how >> 3 & 1;
	uint16_t words[2] = {how & 0x40 ? (uint16_t)take(feed, 2) : events[how & 7], how >> 4 & 1};
	uint32_t bytes = how & 0x20 ? take(feed, 1) : 8;
	if (how & 0x80) /* a port that there is not */
		id = take(feed, 1) * 0x01010101U >> (how & 0x40 ? 0 : 24);
	if (slot == SLOTS)
		return;
	memcpy(slot_at(CONSOLE_CONTROL_TX, slot), &id, 4);
	memcpy(slot_at(CONSOLE_CONTROL_TX, slot) + 4, words, 4);
	(void)submit(feed, CONSOLE_CONTROL_TX, slot, bytes, 0);
}

static void act_space(struct feed *feed)
{
	unsigned where = take(feed, 1), value = take(feed, 2);
	if (where & 0x80) {
		console_resize(fuzz.rig.device, (uint16_t)value, (uint16_t)where);
		FUZZ_CHECK(driver_config_get(&fuzz.rig.driver, 0, 2) == value);
		FUZZ_CHECK(driver_config_get(&fuzz.rig.driver, 2, 2) == where);
	} else {
		driver_config_set(&fuzz.rig.driver, 8, 4, value | EMERGENCY);
		driver_config_set(&fuzz.rig.driver, where % 12, 1U << (where >> 4 & 1), value);
	}
	FUZZ_CHECK(driver_config_get(&fuzz.rig.driver, 4, 4) == PORTS);
}

static void scribble(struct feed *feed)
{
	for (unsigned i = 0; i < PORTS; i++) {
		pthread_mutex_lock(&ports[i].lock);
		ports[i].lost = true;
		pthread_mutex_unlock(&ports[i].lock);
	}
	rig_scribble(&fuzz.rig, feed);
}

/* Saved and brought back wherever it is: the guest sees nothing of that, and the host sees every byte once.
 */
static void pause_and_restore(void)
{
	struct err err = ERR_INIT;
	_cleanup_free_ void *state = calloc(1, console_class.state->size);
	FUZZ_CHECK(state);
	console_class.quiesce(fuzz.rig.device);
	console_class.save(fuzz.rig.device, state);
	int r = console_class.restore(fuzz.rig.device, state, &err);
	FUZZ_CHECK(r == 0 || ports[0].lost);
	console_class.resume(fuzz.rig.device);
}

static void act(struct feed *feed, unsigned action)
{
	unsigned port = action & 1, choice = action >> 1 & 7;
	bool settle = action & 0x10;
	switch (choice) {
	case 0:
		act_output(feed, port);
		break;
	case 1:
		act_buffer(feed, action & 0x20 ? CONSOLE_CONTROL_RX : queue_of(port, false));
		break;
	case 2:
		act_control(feed);
		break;
	case 3:
		if (action & 0x20)
			pause_and_restore();
		else
			act_control(feed);
		break;
	case 4:
		give_room(&ports[port], take(feed, 1) * 16);
		break;
	case 5:
		host_sends(&ports[port], take(feed, 1));
		break;
	case 6:
		act_space(feed);
		break;
	default:
		if (action & 0x20)
			scribble(feed);
		start(take(feed, 1));
		break;
	}
	if (settle)
		collect();
}

/* What was written arrives when the host takes it. */
static void finish_output(void)
{
	for (unsigned i = 0; i < PORTS; i++)
		give_room(&ports[i], SIZE_MAX);
	for (unsigned i = 0; ports[0].got != fuzz.sent[0] || ports[1].got != fuzz.sent[1]; i++) {
		FUZZ_CHECK(i < PATIENCE);
		collect();
	}
}

static void check_alive(void)
{
	struct feed none = {NULL, 0};
	start(0);
	FUZZ_CHECK(submit(&none, CONSOLE_RX, 0, 0, SLOT_BYTES));
	host_sends(&ports[0], 1);
	*slot_at(CONSOLE_TX, 0) = 0;
	FUZZ_CHECK(submit(&none, CONSOLE_TX, 0, 1, 0));
	fuzz.sent[0] = 1;
	finish_output();
	collect();
	FUZZ_CHECK(fuzz.synced[0]);
}

static void unmake(void)
{
	rig_unmake(&fuzz.rig);
}

static void make_once(void)
{
	static const char *const names[PORTS] = {"0", "1"};
	if (fuzz.made)
		return;
	fuzz.config.port_count = PORTS;
	for (unsigned i = 0; i < PORTS; i++)
		fuzz.config.ports[i] = (struct chardev_config){.kind = CHARDEV_FILE, .path = names[i]};
	rig_make(&fuzz.rig, &console_class, &fuzz.config, VIRTIO_ID_CONSOLE);
	fuzz.gpa = world_alloc(&fuzz.rig.world, QUEUES * SLOTS * SLOT_BYTES);
	fuzz.made = true;
	FUZZ_CHECK(atexit(unmake) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct feed feed = {data, size};
	make_once();
	console_resize(fuzz.rig.device, 80, 25); /* it has CONSOLE_F_SIZE when it knows one */
	for (unsigned i = 0; i < PORTS; i++)
		ports[i].room = SIZE_MAX;
	start(take(&feed, 1));
	for (unsigned i = 0; feed.size && i < ACTIONS_MAX; i++)
		act(&feed, take(&feed, 1));
	finish_output();
	check_alive();
	return 0;
}
