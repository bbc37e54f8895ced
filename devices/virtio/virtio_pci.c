/*
 * A virtio device as a PCI function (VIRTIO 1.3, 4.1): modern only.
 *
 *	BAR 1	MSI-X table and pending bits
 *	BAR 4	0000 common configuration	1000 ISR status
 *	(64 bits) 2000 device configuration	3000 notification: queue N's doorbell is at 4 * N
 *
 * Each structure has a page, so that a hypervisor in the guest can hand them on one by one.
 */
#include "virtio_impl.h"

#include "base/bytes.h"

#include <errno.h>
#include <string.h>

enum { MSIX_BAR = 1, REGISTERS_BAR = 4 };

enum {
	REGION_COMMON = 0x0000,
	REGION_ISR = 0x1000,
	REGION_DEVICE = 0x2000,
	REGION_NOTIFY = 0x3000,
	REGION_BYTES = 0x1000,
	REGISTERS_BYTES = 0x4000,
};

enum { NOTIFY_MULTIPLIER = 4 };

enum { PCI_VENDOR_VIRTIO = 0x1af4, PCI_DEVICE_VIRTIO = 0x1040, PCI_CAP_VENDOR = 0x09 };

/* cfg_type (4.1.4). */
enum { CFG_COMMON = 1, CFG_NOTIFY = 2, CFG_ISR = 3, CFG_DEVICE = 4, CFG_PCI = 5 };

/* struct virtio_pci_cap; the bytes of pci_capability_add begin after the next pointer. */
enum {
	CAP_LEN = 2,
	CAP_TYPE = 3,
	CAP_BAR = 4,
	CAP_ID = 5,
	CAP_OFFSET = 8,
	CAP_LENGTH = 12,
	CAP_BYTES = 16,
	CAP_EXTRA = 16, /* the multiplier, or the window's data */
	CAP_EXTRA_BYTES = 20,
	CAP_BODY = 2,
};

/* ---- the structures ---- */

static void read_device_config(struct virtio *v, uint32_t offset, uint8_t *data, unsigned size)
{
	uint32_t len = v->spec.config_len;
	if (offset < len)
		v->spec.ops->config_read(v->spec.device, offset, data,
					 size < len - offset ? size : len - offset);
}

/* Reading acknowledges (4.1.4.5.1). */
static uint8_t read_isr(struct virtio *v)
{
	uint8_t isr = v->regs.isr;
	v->regs.isr = 0;
	if (isr)
		pci_intx_set(v->function, false);
	return isr;
}

/* What is no register reads 0. */
static uint64_t registers_read(void *owner, uint64_t offset, unsigned size)
{
	struct virtio *v = owner;
	uint8_t data[8] = {0};
	uint32_t within = (uint32_t)(offset % REGION_BYTES);
	pthread_mutex_lock(&v->lock);
	switch (offset - within) {
	case REGION_COMMON:
		if (within < COMMON_BYTES && size <= COMMON_BYTES - within)
			virtio_common_read(v, within, data, size);
		break;
	case REGION_ISR:
		if (within == 0)
			data[0] = read_isr(v);
		break;
	case REGION_DEVICE:
		read_device_config(v, within, data, size);
		break;
	default: /* doorbells are for writing */
		break;
	}
	pthread_mutex_unlock(&v->lock);
	return load_le64(data);
}

static bool write_device_config(struct virtio *v, uint32_t offset, unsigned size, uint64_t value)
{
	uint32_t len = v->spec.config_len;
	if (!v->spec.ops->config_write || offset >= len || size > len - offset)
		return false;
	if (!v->resetting)
		v->spec.ops->config_write(v->spec.device, offset, &value, size);
	return true;
}

/* Doorbells that did not come through KVM: of another width, or through the window. */
static bool ring_doorbell(struct virtio *v, uint32_t offset)
{
	static const uint64_t one = 1;
	unsigned index = offset / NOTIFY_MULTIPLIER;
	if (index >= v->spec.queue_count || offset % NOTIFY_MULTIPLIER)
		return false;
	/* EAGAIN: the count is at its end, which is as good as one more */
	return write(v->queues[index].doorbell_fd, &one, sizeof(one)) >= 0 || errno == EAGAIN;
}

static void registers_write(void *owner, uint64_t offset, unsigned size, uint64_t value)
{
	struct virtio *v = owner;
	uint32_t within = (uint32_t)(offset % REGION_BYTES);
	bool taken = false;
	if (offset - within == REGION_NOTIFY) {
		taken = ring_doorbell(v, within);
	} else {
		pthread_mutex_lock(&v->lock);
		if (offset - within == REGION_COMMON)
			taken = virtio_common_write(v, within, size, value);
		else if (offset - within == REGION_DEVICE)
			taken = write_device_config(v, within, size, value);
		pthread_mutex_unlock(&v->lock);
	}
	if (!taken)
		(void)log_guest(&v->counts->guest_errors,
				"%s: the driver writes %u bytes to register offset %#x, where it may not",
				v->name, size, (unsigned)offset);
}

static const struct bus_ops registers_ops = {
	.read = registers_read, .write = registers_write, .min_access_bytes = 1, .max_access_bytes = 8};

/* ---- VIRTIO_PCI_CAP_PCI_CFG: the BAR through configuration space (4.1.4.9) ---- */

/* The access that the driver has set up in the window, if it is one that the BAR takes. */
static bool window_access(const struct virtio *v, uint32_t *offset, uint32_t *len)
{
	uint8_t cap[CAP_BYTES];
	pci_capability_get(v->function, v->window, cap, sizeof(cap));
	*offset = load_le32(cap + CAP_OFFSET);
	*len = load_le32(cap + CAP_LENGTH);
	return cap[CAP_BAR] == REGISTERS_BAR && (*len == 1 || *len == 2 || *len == 4) &&
	       *offset % *len == 0 && *offset < REGISTERS_BYTES;
}

static bool touches_window(const struct virtio *v, uint8_t offset, unsigned size)
{
	unsigned data = (unsigned)v->window + CAP_EXTRA;
	return offset < data + 4 && offset + size > data;
}

static void window_written(void *owner, uint8_t offset, unsigned size)
{
	struct virtio *v = owner;
	uint32_t at, len;
	uint8_t data[8] = {0};
	if (!touches_window(v, offset, size) || !window_access(v, &at, &len))
		return;
	pci_capability_get(v->function, (uint8_t)(v->window + CAP_EXTRA), data, len);
	registers_write(v, at, len, load_le64(data));
}

static void window_read(void *owner, uint8_t offset, unsigned size)
{
	struct virtio *v = owner;
	uint32_t at, len;
	if (!touches_window(v, offset, size) || !window_access(v, &at, &len))
		return;
	uint64_t value = registers_read(v, at, len);
	pci_capability_set(v->function, (uint8_t)(v->window + CAP_EXTRA), &value, len);
}

/* Function-level reset: what a driver does by writing 0 to the status, whether there is a driver or not. */
static void function_reset(void *owner)
{
	struct virtio *v = owner;
	pthread_mutex_lock(&v->lock);
	virtio_begin_reset(v);
	pthread_mutex_unlock(&v->lock);
}

/* ---- making the function ---- */

static const struct {
	uint8_t type;
	uint16_t offset;
	uint16_t length;
} structures[] = {
	{CFG_COMMON, REGION_COMMON, COMMON_BYTES},
	{CFG_NOTIFY, REGION_NOTIFY, 0},
	{CFG_ISR, REGION_ISR, 1},
	{CFG_DEVICE, REGION_DEVICE, 0},
	{CFG_PCI, 0, 0},
};

static uint32_t structure_length(const struct virtio *v, size_t i)
{
	switch (structures[i].type) {
	case CFG_NOTIFY:
		return v->spec.queue_count * NOTIFY_MULTIPLIER;
	case CFG_DEVICE:
		return v->spec.config_len;
	default:
		return structures[i].length;
	}
}

static int add_capability(struct virtio *v, size_t i)
{
	uint8_t type = structures[i].type;
	bool extra = type == CFG_NOTIFY || type == CFG_PCI;
	uint8_t len = extra ? CAP_EXTRA_BYTES : CAP_BYTES;
	uint8_t cap[CAP_EXTRA_BYTES] = {[CAP_LEN] = len, [CAP_TYPE] = type, [CAP_BAR] = REGISTERS_BAR};
	uint8_t mask[CAP_EXTRA_BYTES] = {[CAP_BAR] = 0xff};
	store_le32(cap + CAP_OFFSET, structures[i].offset);
	store_le32(cap + CAP_LENGTH, structure_length(v, i));
	if (type == CFG_NOTIFY)
		store_le32(cap + CAP_EXTRA, NOTIFY_MULTIPLIER);
	if (type == CFG_PCI)
		cap[CAP_BAR] = 0; /* the driver writes it before use */
	memset(mask + CAP_OFFSET, 0xff, CAP_EXTRA_BYTES - CAP_OFFSET);
	int at = pci_capability_add(v->function, PCI_CAP_VENDOR, cap + CAP_BODY, (uint8_t)(len - CAP_BODY),
				    type == CFG_PCI ? mask + CAP_BODY : NULL);
	if (at >= 0 && type == CFG_PCI)
		v->window = (uint8_t)at;
	return at < 0 ? at : 0;
}

static int add_capabilities(struct virtio *v, struct err *err)
{
	for (size_t i = 0; i < ARRAY_LEN(structures); i++) {
		if (structures[i].type == CFG_DEVICE && v->spec.config_len == 0)
			continue; /* 4.1.4.6: only where there is one */
		int r = add_capability(v, i);
		if (r < 0)
			return err_sys(err, r, "PCI capabilities");
	}
	return 0;
}

int virtio_pci_create(struct virtio *v, struct err *err)
{
	const struct pci_spec spec = {
		.name = v->name,
		.slot = v->spec.place.slot,
		.vendor_id = PCI_VENDOR_VIRTIO,
		.device_id = (uint16_t)(PCI_DEVICE_VIRTIO + v->spec.id),
		.subsystem_vendor_id = PCI_VENDOR_VIRTIO,
		.subsystem_id = (uint16_t)(PCI_DEVICE_VIRTIO + v->spec.id),
		.revision = 1,
		.class_code = v->spec.class_code,
		.bars[REGISTERS_BAR] = {.size = REGISTERS_BYTES,
					.is_64bit = true,
					.prefetchable = true,
					.ops = &registers_ops,
					.owner = v,
					.name = v->name},
		.msix_vectors = v->vectors,
		.msix_bar = MSIX_BAR,
		.has_intx = true,
		.capability_written = window_written,
		.capability_read = window_read,
		.reset = function_reset,
		.owner = v,
	};
	int r = pci_function_create(v->services.pci, &spec, &v->function, err);
	if (r == 0)
		r = add_capabilities(v, err);
	for (unsigned i = 0; i < v->spec.queue_count && r == 0; i++)
		r = pci_doorbell_add(v->function, REGISTERS_BAR, REGION_NOTIFY + i * NOTIFY_MULTIPLIER, 0,
				     v->queues[i].doorbell_fd, err);
	return r;
}
