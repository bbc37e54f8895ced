/* A virtio driver in this process: see driver.h. */
#include "driver.h"

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/layout.h"

#include <errno.h>
#include <string.h>
#include <time.h>

enum { VENDOR_VIRTIO = 0x1af4, DEVICE_VIRTIO = 0x1040, CAP_VENDOR = 0x09, CAP_MSIX = 0x11 };
enum { CONFIG_COMMAND = 0x04, CONFIG_BAR0 = 0x10, CONFIG_CAPS = 0x34, CONFIG_IRQ_LINE = 0x3c };
enum { COMMAND_MEMORY = 2, COMMAND_MASTER = 4 };
enum { CFG_COMMON = 1, CFG_NOTIFY, CFG_ISR, CFG_DEVICE, CFG_PCI };

static uint32_t config(struct driver *d, unsigned offset, unsigned size)
{
	return world_config_read(d->world, d->slot, offset, size);
}

/* ---- finding the device ---- */

static uint64_t bar_gpa(struct driver *d, unsigned bar)
{
	uint32_t low = config(d, CONFIG_BAR0 + 4 * bar, 4);
	uint64_t high = (low & 6) == 4 ? config(d, CONFIG_BAR0 + 4 * bar + 4, 4) : 0;
	return high << 32 | (low & ~15U);
}

static void take_capability(struct driver *d, uint8_t at)
{
	uint8_t type = (uint8_t)config(d, at + 3U, 1);
	uint64_t gpa = bar_gpa(d, config(d, at + 4U, 1)) + config(d, at + 8U, 4);
	switch (type) {
	case CFG_COMMON:
		d->common_gpa = gpa;
		break;
	case CFG_NOTIFY:
		d->notify_gpa = gpa;
		d->notify_multiplier = config(d, at + 16U, 4);
		break;
	case CFG_ISR:
		d->isr_gpa = gpa;
		break;
	case CFG_DEVICE:
		d->device_gpa = gpa;
		d->device_len = config(d, at + 12U, 4);
		break;
	case CFG_PCI:
		d->window = at;
		break;
	default:
		break;
	}
}

static void walk_capabilities(struct driver *d)
{
	uint8_t at = (uint8_t)config(d, CONFIG_CAPS, 1);
	for (unsigned i = 0; at && i < 48; i++) {
		uint8_t id = (uint8_t)config(d, at, 1);
		if (id == CAP_VENDOR)
			take_capability(d, at);
		else if (id == CAP_MSIX)
			d->msix = at;
		at = (uint8_t)config(d, at + 1U, 1);
	}
}

/* Vector V: data = slot and V, to the first local APIC. */
static void switch_msix(struct driver *d, bool on)
{
	uint16_t control = (uint16_t)config(d, d->msix + 2U, 2);
	uint32_t table = config(d, d->msix + 4U, 4);
	uint64_t gpa = bar_gpa(d, table & 7) + (table & ~7U);
	for (uint32_t i = 0; i <= (control & 0x7ffU); i++, gpa += 16) {
		world_write(d->world, gpa, 4, LAYOUT_LAPIC_GPA);
		world_write(d->world, gpa + 4, 4, 0);
		world_write(d->world, gpa + 8, 4, d->slot << 8 | i);
		world_write(d->world, gpa + 12, 4, 0);
	}
	control = (uint16_t)(on ? control | 0x8000U : control & ~0x8000U);
	world_config_write(d->world, d->slot, d->msix + 2U, 2, control);
}

int driver_init_at(struct driver *d, struct world *world, uint32_t slot)
{
	*d = (struct driver){.world = world, .slot = slot};
	if (config(d, 0, 2) != VENDOR_VIRTIO)
		return -ENODEV;
	walk_capabilities(d);
	if (!d->common_gpa || !d->notify_gpa || !d->isr_gpa || !d->window || !d->msix ||
	    !d->notify_multiplier)
		return -ENODEV;
	d->gsi = config(d, CONFIG_IRQ_LINE, 1) % WORLD_GSIS;
	world_config_write(world, slot, CONFIG_COMMAND, 2, COMMAND_MEMORY | COMMAND_MASTER);
	return 0;
}

int driver_init(struct driver *d, struct world *world, enum virtio_id id)
{
	for (uint32_t slot = 1; slot < PCI_SLOTS; slot++)
		if (world_config_read(world, slot, 0, 4) ==
		    (VENDOR_VIRTIO | (DEVICE_VIRTIO + (uint32_t)id) << 16))
			return driver_init_at(d, world, slot);
	return -ENODEV;
}

void driver_finish(struct driver *d)
{
	(void)driver_reset(d);
	for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++)
		free(d->queues[i]);
}

/* ---- registers ---- */

uint64_t driver_common_read(struct driver *d, enum driver_common offset, unsigned size)
{
	return world_read(d->world, d->common_gpa + offset, size);
}

void driver_common_write(struct driver *d, enum driver_common offset, unsigned size, uint64_t value)
{
	world_write(d->world, d->common_gpa + offset, size, value);
}

uint8_t driver_status(struct driver *d)
{
	return (uint8_t)driver_common_read(d, DRIVER_STATUS, 1);
}

static void sleep_us(unsigned us)
{
	const struct timespec time = {.tv_nsec = us * 1000L};
	(void)nanosleep(&time, NULL);
}

static int wait_register(struct driver *d, enum driver_common offset, unsigned size, uint64_t mask,
			 uint64_t value)
{
	uint64_t end = loop_now_ns() + DRIVER_TIMEOUT_MS * UINT64_C(1000000);
	while ((driver_common_read(d, offset, size) & mask) != value) {
		if (loop_now_ns() > end)
			return -ETIMEDOUT;
		sleep_us(20);
	}
	return 0;
}

int driver_wait_status(struct driver *d, uint8_t bits)
{
	return wait_register(d, DRIVER_STATUS, 1, bits, bits);
}

void driver_config_read(struct driver *d, uint32_t offset, void *data, uint32_t len)
{
	for (uint32_t i = 0; i < len; i++)
		((uint8_t *)data)[i] = (uint8_t)driver_config_get(d, offset + i, 1);
}

uint64_t driver_config_get(struct driver *d, uint32_t offset, unsigned size)
{
	return world_read(d->world, d->device_gpa + offset, size);
}

void driver_config_set(struct driver *d, uint32_t offset, unsigned size, uint64_t value)
{
	world_write(d->world, d->device_gpa + offset, size, value);
}

uint64_t driver_offered(struct driver *d)
{
	driver_common_write(d, DRIVER_DEVICE_FEATURE_SELECT, 4, 0);
	uint64_t low = driver_common_read(d, DRIVER_DEVICE_FEATURE, 4);
	driver_common_write(d, DRIVER_DEVICE_FEATURE_SELECT, 4, 1);
	return driver_common_read(d, DRIVER_DEVICE_FEATURE, 4) << 32 | low;
}

/* ---- 3.1.1, device initialization ---- */

int driver_reset(struct driver *d)
{
	driver_common_write(d, DRIVER_STATUS, 1, 0);
	d->queue_count = 0;
	return wait_register(d, DRIVER_STATUS, 1, 0xff, 0);
}

int driver_negotiate(struct driver *d, uint64_t features)
{
	driver_common_write(d, DRIVER_STATUS, 1, DRIVER_ACKNOWLEDGE);
	driver_common_write(d, DRIVER_STATUS, 1, DRIVER_ACKNOWLEDGE | DRIVER_DRIVER);
	driver_common_write(d, DRIVER_FEATURE_SELECT, 4, 0);
	driver_common_write(d, DRIVER_FEATURE, 4, (uint32_t)features);
	driver_common_write(d, DRIVER_FEATURE_SELECT, 4, 1);
	driver_common_write(d, DRIVER_FEATURE, 4, features >> 32);
	driver_common_write(d, DRIVER_STATUS, 1, DRIVER_ACKNOWLEDGE | DRIVER_DRIVER | DRIVER_FEATURES_OK);
	d->features = features;
	return driver_status(d) & DRIVER_FEATURES_OK ? 0 : -EINVAL;
}

static int make_ring(struct driver *d, unsigned index, uint16_t size)
{
	struct driver_queue *q = d->queues[index];
	const struct virtq_setup setup = {
		.size = size,
		.packed = d->features & VIRTIO_F_RING_PACKED,
		.indirect = d->features & VIRTIO_F_INDIRECT_DESC,
		.event_idx = d->features & VIRTIO_F_EVENT_IDX,
		.in_order = d->features & VIRTIO_F_IN_ORDER,
	};
	if (!q)
		q = d->queues[index] = calloc(1, sizeof(*q));
	if (!q)
		return -ENOMEM;
	if (ring_bytes(&setup) > q->ring_bytes) {
		q->ring_bytes = ring_bytes(&setup);
		q->ring_gpa = world_alloc(d->world, q->ring_bytes);
	}
	return ring_init(&q->ring, d->world->memory, &setup, q->ring_gpa);
}

int driver_enable_queue(struct driver *d, unsigned index, uint16_t size)
{
	driver_common_write(d, DRIVER_QUEUE_SELECT, 2, index);
	uint16_t most = (uint16_t)driver_common_read(d, DRIVER_QUEUE_SIZE, 2);
	if (most == 0)
		return -ENOENT;
	size = size && size < most ? size : most;
	int r = make_ring(d, index, size);
	if (r < 0)
		return r;
	struct driver_queue *q = d->queues[index];
	driver_common_write(d, DRIVER_QUEUE_SIZE, 2, size);
	driver_common_write(d, DRIVER_QUEUE_VECTOR, 2, d->intx ? 0xffff : index + 1);
	driver_common_write(d, DRIVER_QUEUE_DESC, 8, q->ring.setup.desc_gpa);
	driver_common_write(d, DRIVER_QUEUE_DRIVER, 8, q->ring.setup.driver_gpa);
	driver_common_write(d, DRIVER_QUEUE_DEVICE, 8, q->ring.setup.device_gpa);
	q->doorbell_gpa =
		d->notify_gpa + driver_common_read(d, DRIVER_QUEUE_NOTIFY_OFF, 2) * d->notify_multiplier;
	if (!d->intx && driver_common_read(d, DRIVER_QUEUE_VECTOR, 2) != index + 1)
		return -EIO;
	driver_common_write(d, DRIVER_QUEUE_ENABLE, 2, 1);
	return 0;
}

int driver_reset_queue(struct driver *d, unsigned index)
{
	driver_common_write(d, DRIVER_QUEUE_SELECT, 2, index);
	driver_common_write(d, DRIVER_QUEUE_RESET, 2, 1);
	int r = wait_register(d, DRIVER_QUEUE_RESET, 2, 0xffff, 0);
	return r ? r : wait_register(d, DRIVER_QUEUE_ENABLE, 2, 0xffff, 0);
}

int driver_start(struct driver *d, const struct driver_options *options)
{
	int r = driver_reset(d);
	if (r == 0)
		r = driver_negotiate(d, (options->features | VIRTIO_F_VERSION_1) & driver_offered(d));
	if (r < 0)
		return r;
	d->intx = options->intx;
	switch_msix(d, !d->intx);
	driver_common_write(d, DRIVER_CONFIG_VECTOR, 2, d->intx ? 0xffff : 0);
	unsigned count = (unsigned)driver_common_read(d, DRIVER_NUM_QUEUES, 2);
	d->queue_count = options->queues && options->queues < count ? options->queues : count;
	for (unsigned i = 0; i < d->queue_count && r == 0; i++)
		r = driver_enable_queue(d, i, options->queue_size);
	if (r < 0)
		return r;
	driver_common_write(d, DRIVER_STATUS, 1,
			    DRIVER_ACKNOWLEDGE | DRIVER_DRIVER | DRIVER_FEATURES_OK | DRIVER_OK);
	return driver_status(d) & DRIVER_OK ? 0 : -EIO;
}

/* ---- queues ---- */

void driver_ring_doorbell(struct driver *d, unsigned index)
{
	world_write(d->world, d->queues[index]->doorbell_gpa, 2, index);
}

void driver_kick(struct driver *d, unsigned index)
{
	struct ring *ring = &d->queues[index]->ring;
	ring_publish(ring);
	if (ring_wants_doorbell(ring))
		driver_ring_doorbell(d, index);
}

int driver_submit(struct driver *d, unsigned index, const struct ring_buffer *buffers, size_t count)
{
	bool indirect = (d->features & VIRTIO_F_INDIRECT_DESC) && count > 1 && count <= RING_TABLE_MAX;
	int id = ring_add(&d->queues[index]->ring, buffers, count, indirect);
	if (id >= 0)
		driver_kick(d, index);
	return id;
}

/* What counts the interrupts of an MSI-X vector, or of the device. */
static const unsigned *counter(struct driver *d, unsigned vector)
{
	return d->intx ? &d->world->rises[d->gsi] : &d->world->messages[d->slot][vector];
}

static unsigned count_of(struct driver *d, unsigned vector)
{
	const unsigned *at = counter(d, vector);
	pthread_mutex_lock(&d->world->lock);
	unsigned count = *at;
	pthread_mutex_unlock(&d->world->lock);
	return count;
}

unsigned driver_interrupts(struct driver *d, unsigned index)
{
	return count_of(d, index + 1);
}

unsigned driver_config_interrupts(struct driver *d)
{
	return count_of(d, 0);
}

static int wait_interrupt(struct driver *d, unsigned vector, unsigned before)
{
	const unsigned *at = counter(d, vector);
	struct timespec end;
	(void)clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += DRIVER_TIMEOUT_MS / 1000;
	int r = 0;
	pthread_mutex_lock(&d->world->lock);
	while (*at == before && r == 0)
		r = -pthread_cond_timedwait(&d->world->changed, &d->world->lock, &end);
	pthread_mutex_unlock(&d->world->lock);
	return r;
}

/* Lowers the line, so that the next interrupt is a rise. */
static void acknowledge(struct driver *d)
{
	if (d->intx)
		(void)world_read(d->world, d->isr_gpa, 1);
}

int driver_wait_config_interrupt(struct driver *d, unsigned before)
{
	int r = wait_interrupt(d, 0, before);
	acknowledge(d);
	return r;
}

int driver_try_collect(struct driver *d, unsigned index, struct ring_used *ret)
{
	return ring_collect(&d->queues[index]->ring, ret);
}

int driver_collect(struct driver *d, unsigned index, struct ring_used *ret)
{
	struct ring *ring = &d->queues[index]->ring;
	for (;;) {
		acknowledge(d);
		unsigned before = count_of(d, index + 1);
		int r = ring_collect(ring, ret);
		if (r != 0)
			return r < 0 ? r : 0;
		if (ring_enable_interrupt(ring, 0))
			continue;
		r = wait_interrupt(d, index + 1, before);
		if (r < 0)
			return r;
	}
}

int driver_request(struct driver *d, unsigned index, const struct ring_buffer *buffers, size_t count)
{
	struct ring_used used;
	int id = driver_submit(d, index, buffers, count);
	if (id < 0)
		return id;
	int r = driver_collect(d, index, &used);
	if (r < 0)
		return r;
	return used.id == id ? (int)used.len : -EPROTO;
}
