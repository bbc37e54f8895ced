/*
 * The common configuration structure (VIRTIO 1.3, 4.1.4.3) and the status it drives (2.1, 3.1.1). All with
 * the transport's lock held.
 *
 * What a driver may not write, it has not written: the register keeps its value, the mistake is counted and
 * logged. Only what leaves no way to go on costs DEVICE_NEEDS_RESET.
 */
#include "virtio_impl.h"

#include "base/bytes.h"

enum {
	COMMON_DEVICE_FEATURE_SELECT = 0,
	COMMON_DEVICE_FEATURE = 4,
	COMMON_DRIVER_FEATURE_SELECT = 8,
	COMMON_DRIVER_FEATURE = 12,
	COMMON_CONFIG_VECTOR = 16,
	COMMON_NUM_QUEUES = 18,
	COMMON_STATUS = 20,
	COMMON_CONFIG_GENERATION = 21,
	COMMON_QUEUE_SELECT = 22,
	COMMON_QUEUE_SIZE = 24,
	COMMON_QUEUE_VECTOR = 26,
	COMMON_QUEUE_ENABLE = 28,
	COMMON_QUEUE_NOTIFY_OFF = 30,
	COMMON_QUEUE_DESC = 32,
	COMMON_QUEUE_DRIVER = 40,
	COMMON_QUEUE_DEVICE = 48,
	COMMON_QUEUE_NOTIF_DATA = 56,
	COMMON_QUEUE_RESET = 58,
	COMMON_ADMIN_QUEUE = 60, /* index and number, 0: VIRTIO_F_ADMIN_VQ is not offered */
};

static bool queue_selected(const struct virtio *v)
{
	return v->regs.queue_select < v->spec.queue_count;
}

/* ---- reading ---- */

/* Feature words above the second are 0 (4.1.4.3.1). */
static uint32_t feature_word(uint64_t features, uint32_t select)
{
	return select < 2 ? (uint32_t)(features >> 32 * select) : 0;
}

/* A queue that there is not reads 0, above all its size. */
static void fill_queue(const struct virtio *v, uint8_t *image)
{
	const struct virtio_regs *regs = &v->regs;
	unsigned i = regs->queue_select;
	store_le16(image + COMMON_QUEUE_SIZE, regs->queue_size[i]);
	store_le16(image + COMMON_QUEUE_VECTOR, regs->queue_vector[i]);
	store_le16(image + COMMON_QUEUE_ENABLE, regs->queue_enable[i]);
	store_le16(image + COMMON_QUEUE_NOTIFY_OFF, (uint16_t)i);
	store_le64(image + COMMON_QUEUE_DESC, regs->queue_desc[i]);
	store_le64(image + COMMON_QUEUE_DRIVER, regs->queue_driver[i]);
	store_le64(image + COMMON_QUEUE_DEVICE, regs->queue_device[i]);
	store_le16(image + COMMON_QUEUE_NOTIF_DATA, (uint16_t)i);
	store_le16(image + COMMON_QUEUE_RESET, (v->queue_resetting & VIRTIO_BIT(i)) != 0);
}

void virtio_common_read(const struct virtio *v, uint32_t offset, void *data, unsigned size)
{
	const struct virtio_regs *regs = &v->regs;
	uint8_t image[COMMON_BYTES] = {0};
	store_le32(image + COMMON_DEVICE_FEATURE_SELECT, regs->device_feature_select);
	store_le32(image + COMMON_DEVICE_FEATURE, feature_word(v->offered, regs->device_feature_select));
	store_le32(image + COMMON_DRIVER_FEATURE_SELECT, regs->driver_feature_select);
	store_le32(image + COMMON_DRIVER_FEATURE,
		   feature_word(regs->driver_features, regs->driver_feature_select));
	store_le16(image + COMMON_CONFIG_VECTOR, regs->config_vector);
	store_le16(image + COMMON_NUM_QUEUES, (uint16_t)v->spec.queue_count);
	image[COMMON_STATUS] = regs->status; /* during a reset what it was, so not 0 */
	image[COMMON_CONFIG_GENERATION] = regs->config_generation;
	store_le16(image + COMMON_QUEUE_SELECT, regs->queue_select);
	if (queue_selected(v))
		fill_queue(v, image);
	memcpy(data, image + offset, size);
}

/* ---- writing ---- */

static void refuse(struct virtio *v, const char *what)
{
	(void)log_guest(&v->counts->guest_errors, "%s: the driver %s", v->name, what);
}

static void write_driver_feature(struct virtio *v, uint32_t value)
{
	struct virtio_regs *regs = &v->regs;
	if (regs->status & STATUS_FEATURES_OK) {
		refuse(v, "changes features after FEATURES_OK");
		return;
	}
	if (regs->driver_feature_select > 1) {
		if (value)
			refuse(v, "accepts features that there are not");
		return;
	}
	unsigned shift = 32 * regs->driver_feature_select;
	regs->driver_features = (regs->driver_features & ~((uint64_t)UINT32_MAX << shift)) | (uint64_t)value
												     << shift;
}

/* 2.2.2: else the driver reads FEATURES_OK as 0. A legacy driver has no VERSION_1 (6.1). */
static bool features_acceptable(const struct virtio *v)
{
	uint64_t features = v->regs.driver_features;
	return (features & ~v->offered) == 0 && (features & VIRTIO_F_VERSION_1);
}

bool virtio_break(struct virtio *v)
{
	if (v->resetting || (v->regs.status & STATUS_NEEDS_RESET))
		return false;
	v->regs.status |= STATUS_NEEDS_RESET;
	atomic_fetch_add_explicit(&v->counts->needs_reset, 1, memory_order_relaxed);
	atomic_store(&v->broken, true);
	return v->regs.status & STATUS_DRIVER_OK;
}

/* 2.1: the driver sets bits in order, and clears none but by a reset. */
static void write_status(struct virtio *v, uint8_t value)
{
	struct virtio_regs *regs = &v->regs;
	if (value == 0) {
		virtio_begin_reset(v);
		return;
	}
	if (regs->status & STATUS_DRIVERS & ~value)
		refuse(v, "clears status bits");
	unsigned set = value & STATUS_DRIVERS & ~(unsigned)regs->status;
	if ((set & STATUS_FEATURES_OK) && !features_acceptable(v)) {
		refuse(v, "chose features that do not work");
		set &= ~(unsigned)(STATUS_FEATURES_OK | STATUS_DRIVER_OK);
	}
	if ((set & STATUS_DRIVER_OK) && !((regs->status | set) & STATUS_FEATURES_OK)) {
		refuse(v, "sets DRIVER_OK without FEATURES_OK: it has to reset the device");
		(void)virtio_break(v);
		set &= ~(unsigned)STATUS_DRIVER_OK;
	}
	regs->status |= (uint8_t)set;
	if ((set & STATUS_DRIVER_OK) && !(regs->status & STATUS_NEEDS_RESET)) {
		v->engaged = true;
		virtio_post_work(v);
	}
}

/* A vector that does not exist reads back as NO_VECTOR (4.1.5.1.2). */
static uint16_t usable_vector(const struct virtio *v, uint64_t value)
{
	return value < v->vectors ? (uint16_t)value : NO_VECTOR;
}

static void enable_queue(struct virtio *v, unsigned index, uint64_t value)
{
	struct virtio_regs *regs = &v->regs;
	if (value != 1 || regs->queue_enable[index]) {
		refuse(v, "writes what it may not to queue_enable");
		return;
	}
	if (v->engaged && !(regs->driver_features & VIRTIO_F_RING_RESET)) {
		refuse(v, "enables a queue after DRIVER_OK");
		return;
	}
	regs->queue_enable[index] = true;
	if (v->engaged)
		virtio_post_work(v);
}

static void write_queue_reset(struct virtio *v, unsigned index, uint64_t value)
{
	if (value != 1 || !(v->regs.driver_features & VIRTIO_F_RING_RESET))
		refuse(v, "writes what it may not to queue_reset");
	else if (!(v->queue_resetting & VIRTIO_BIT(index)))
		virtio_begin_queue_reset(v, index);
}

static void write_queue_size(struct virtio *v, unsigned index, uint64_t value)
{
	if (value == 0 || value > v->spec.queue_size_max[index])
		refuse(v, "wants a queue of a size that it cannot have");
	else
		v->regs.queue_size[index] = (uint16_t)value;
}

/* `size` 4: one half. */
static void write_address(uint64_t *address, uint32_t offset, unsigned size, uint64_t value)
{
	if (size == 8)
		*address = value;
	else if (offset & 4)
		*address = (*address & UINT32_MAX) | value << 32;
	else
		*address = (*address & ~(uint64_t)UINT32_MAX) | (value & UINT32_MAX);
}

/* 4.1.4.3.2: but for its vector, a queue is set up before it is enabled. */
static void write_queue(struct virtio *v, uint32_t offset, unsigned size, uint64_t value)
{
	struct virtio_regs *regs = &v->regs;
	unsigned i = regs->queue_select;
	if (!queue_selected(v)) {
		refuse(v, "writes to a queue that there is not");
		return;
	}
	if (offset == COMMON_QUEUE_VECTOR) {
		regs->queue_vector[i] = usable_vector(v, value);
		if (v->engaged)
			virtio_post_work(v); /* for event fds that follow it */
		return;
	}
	if (offset == COMMON_QUEUE_RESET) {
		write_queue_reset(v, i, value);
		return;
	}
	if (regs->queue_enable[i] || (v->queue_resetting & VIRTIO_BIT(i)))
		refuse(v, "sets up a queue that is enabled");
	else if (offset == COMMON_QUEUE_SIZE)
		write_queue_size(v, i, value);
	else if (offset == COMMON_QUEUE_ENABLE)
		enable_queue(v, i, value);
	else if (offset < COMMON_QUEUE_DRIVER)
		write_address(&regs->queue_desc[i], offset, size, value);
	else if (offset < COMMON_QUEUE_DEVICE)
		write_address(&regs->queue_driver[i], offset, size, value);
	else
		write_address(&regs->queue_device[i], offset, size, value);
}

/* Is there a register of just this width to write to (4.1.3.1)? 64-bit ones also take halves. */
static bool writable(uint32_t offset, unsigned size)
{
	switch (offset) {
	case COMMON_DEVICE_FEATURE_SELECT:
	case COMMON_DRIVER_FEATURE_SELECT:
	case COMMON_DRIVER_FEATURE:
		return size == 4;
	case COMMON_CONFIG_VECTOR:
	case COMMON_QUEUE_SELECT:
	case COMMON_QUEUE_SIZE:
	case COMMON_QUEUE_VECTOR:
	case COMMON_QUEUE_ENABLE:
	case COMMON_QUEUE_RESET:
		return size == 2;
	case COMMON_STATUS:
		return size == 1;
	case COMMON_QUEUE_DESC:
	case COMMON_QUEUE_DRIVER:
	case COMMON_QUEUE_DEVICE:
		return size == 4 || size == 8;
	case COMMON_QUEUE_DESC + 4:
	case COMMON_QUEUE_DRIVER + 4:
	case COMMON_QUEUE_DEVICE + 4:
		return size == 4;
	default:
		return false;
	}
}

bool virtio_common_write(struct virtio *v, uint32_t offset, unsigned size, uint64_t value)
{
	struct virtio_regs *regs = &v->regs;
	if (!writable(offset, size))
		return false;
	if (v->resetting) /* 2.4.2: the driver waits for status 0 */
		return true;
	switch (offset) {
	case COMMON_DEVICE_FEATURE_SELECT:
		regs->device_feature_select = (uint32_t)value;
		break;
	case COMMON_DRIVER_FEATURE_SELECT:
		regs->driver_feature_select = (uint32_t)value;
		break;
	case COMMON_DRIVER_FEATURE:
		write_driver_feature(v, (uint32_t)value);
		break;
	case COMMON_CONFIG_VECTOR:
		regs->config_vector = usable_vector(v, value);
		break;
	case COMMON_STATUS:
		write_status(v, (uint8_t)value);
		break;
	case COMMON_QUEUE_SELECT:
		regs->queue_select = (uint16_t)value;
		break;
	default:
		write_queue(v, offset, size, value);
		break;
	}
	return true;
}
