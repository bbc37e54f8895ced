/*
 * A virtio device, apart from its transport and its queues' layout (VIRTIO 1.3, 2 and 3).
 *
 * Threads. The transport's registers are touched by vCPU threads under its lock. The device itself lives on
 * one I/O thread: everything in struct virtio_ops but config_read and features runs there, so a device needs
 * no lock. The transport posts what the driver did (activate, reset, doorbell) to that thread. While a reset
 * is under way the status register keeps reading non-zero; the driver waits for 0 (2.4.2).
 */
#ifndef AERIE_DEVICES_VIRTIO_VIRTIO_H
#define AERIE_DEVICES_VIRTIO_VIRTIO_H

#include "devices/device.h"
#include "virtq.h"

enum { VIRTIO_QUEUES_MAX = 64, VIRTIO_CONFIG_MAX = 256 };

/* Device ids (5) and feature bits (6). */
enum virtio_id {
	VIRTIO_ID_NET = 1,
	VIRTIO_ID_BLOCK = 2,
	VIRTIO_ID_CONSOLE = 3,
	VIRTIO_ID_RNG = 4,
	VIRTIO_ID_BALLOON = 5,
	VIRTIO_ID_VSOCK = 19,
	VIRTIO_ID_FS = 26,
	VIRTIO_ID_PMEM = 27,
};

#define VIRTIO_BIT(n)		   (UINT64_C(1) << (n))
#define VIRTIO_F_INDIRECT_DESC	   VIRTIO_BIT(28)
#define VIRTIO_F_EVENT_IDX	   VIRTIO_BIT(29)
#define VIRTIO_F_VERSION_1	   VIRTIO_BIT(32)
#define VIRTIO_F_ACCESS_PLATFORM   VIRTIO_BIT(33)
#define VIRTIO_F_RING_PACKED	   VIRTIO_BIT(34)
#define VIRTIO_F_IN_ORDER	   VIRTIO_BIT(35)
#define VIRTIO_F_ORDER_PLATFORM	   VIRTIO_BIT(36)
#define VIRTIO_F_NOTIFICATION_DATA VIRTIO_BIT(38)
#define VIRTIO_F_RING_RESET	   VIRTIO_BIT(40)

struct virtio;

struct virtio_ops {
	/* Device-specific feature bits offered; the core adds its own (ring layouts, event index, VERSION_1
	 * …). */
	uint64_t (*features)(void *device);
	/* vCPU thread, under the transport's lock: copy from or to the config struct; bounds are already
	 * checked. */
	void (*config_read)(void *device, uint32_t offset, void *data, uint32_t len);
	void (*config_write)(void *device, uint32_t offset, const void *data,
			     uint32_t len); /* NULL: read only */
	/* DRIVER_OK: queues are set up (virtio_queue), `features` were negotiated. -errno:
	 * DEVICE_NEEDS_RESET. */
	int (*activate)(void *device, uint64_t features);
	/* Queue `index` may have requests. */
	void (*doorbell)(void *device, unsigned index);
	/*
	 * Stop: take no more requests, cancel what can be, and call virtio_stopped when nothing of ours
	 * touches the guest's memory any more (at once, or later). For reset, and for pause (issue 5).
	 */
	void (*stop)(void *device);
	/* One queue only (RING_RESET); virtio_queue_stopped when done. NULL: the feature is not offered. */
	void (*stop_queue)(void *device, unsigned index);
};

struct virtio_spec {
	const char *name;
	enum virtio_id id;
	uint32_t class_code; /* PCI's */
	unsigned queue_count;
	uint16_t queue_size_max[VIRTIO_QUEUES_MAX];
	uint32_t config_len; /* bytes of device config */
	bool no_packed;	     /* vhost-user back ends without it */
	uint64_t withhold;   /* core feature bits not to offer */
	struct pci_place_config place;
	const struct virtio_ops *ops;
	void *device;
};

/* Makes the device appear on the PCI bus (virtio_pci.c). `services` is copied. */
int virtio_create(const struct virtio_spec *spec, const struct device_services *services, struct virtio **ret,
		  struct err *err);
void virtio_destroy(struct virtio *virtio); /* stops the device first; NULL is fine */
void virtio_reset(
	struct virtio *virtio); /* machine reset: waits until the device has stopped; not its I/O thread */

struct loop *virtio_loop(struct virtio *virtio); /* the device's I/O thread */

/* The queue, ready to pop, or NULL when the driver did not enable it. I/O thread, between activate and stop.
 */
struct virtq *virtio_queue(struct virtio *virtio, unsigned index);

/* After pushes: interrupt if the driver wants one. I/O thread. */
void virtio_interrupt(struct virtio *virtio, unsigned index);

/* The device's config changed. Any thread. */
void virtio_config_changed(struct virtio *virtio);

/* The guest broke a rule (-EPROTO from a queue, a malformed request): DEVICE_NEEDS_RESET, counted and logged.
 */
void virtio_needs_reset(struct virtio *virtio, const char *why);

void virtio_stopped(struct virtio *virtio);
void virtio_queue_stopped(struct virtio *virtio, unsigned index);

/* For vhost-user: where queue `index` lies, its doorbell, and its MSI-X message if it is usable now. */
const struct virtq_setup *virtio_queue_setup(struct virtio *virtio, unsigned index);
int virtio_queue_doorbell_fd(struct virtio *virtio, unsigned index);
int virtio_queue_attach_irq(struct virtio *virtio, unsigned index, int event_fd);

#endif
