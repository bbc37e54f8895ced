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

enum { VIRTIO_QUEUES_MAX = 64 };

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
	 * …). Asked once, by virtio_create. */
	uint64_t (*features)(void *device);
	/*
	 * vCPU thread, under the transport's lock: copy from or to the config struct; bounds are already
	 * checked. Call nothing of ours from here. The I/O thread uses virtio_config_store and _load.
	 */
	void (*config_read)(void *device, uint32_t offset, void *data, uint32_t len);
	void (*config_write)(void *device, uint32_t offset, const void *data,
			     uint32_t len); /* NULL: read only */
	/* DRIVER_OK: queues are set up (virtio_queue), `features` were negotiated. -errno:
	 * DEVICE_NEEDS_RESET. */
	int (*activate)(void *device, uint64_t features);
	/*
	 * Queue `index` may have requests: pop until there is none. While this runs the driver's doorbells
	 * are off, and they are turned on again after it, so that a busy queue costs no wakeups. Requests
	 * that you leave in the queue (no room, rate limit) you must ask for with virtio_retry when you can
	 * take them: no doorbell comes until then. Also called once after activate, and after a queue was
	 * enabled anew.
	 *
	 * A queue of buffers for input is popped whenever there is input; it may do nothing here, but when it
	 * finds the queue empty it calls virtq_enable_doorbell itself, to hear of new buffers.
	 */
	void (*doorbell)(void *device, unsigned index);
	/*
	 * Stop: take no more requests, and call virtio_stopped when nothing of ours touches the guest's
	 * memory any more (at once, or later). If virtio_resetting, cancel what can be and push or drop the
	 * rest as you like; else this is a pause, activate will follow, and what was popped must be pushed
	 * with its true result.
	 */
	void (*stop)(void *device);
	/*
	 * One queue only (RING_RESET); virtio_queue_stopped when done. The driver may enable the queue anew:
	 * then doorbell is called. NULL: the feature is not offered.
	 */
	void (*stop_queue)(void *device, unsigned index);
	/*
	 * The device has stopped: what the guest can see of it apart from the transport's registers goes back
	 * to what it was at power-on. Under the transport's lock, any thread. NULL: nothing to do.
	 */
	void (*reset)(void *device);
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
	struct device_counts *counts; /* what the transport finds wrong is counted there; borrowed */
};

/* Makes the device appear on the PCI bus (virtio_pci.c). `services` is copied. */
int virtio_create(const struct virtio_spec *spec, const struct device_services *services, struct virtio **ret,
		  struct err *err);
void virtio_destroy(struct virtio *virtio); /* stops the device first; NULL is fine */
void virtio_reset(
	struct virtio *virtio); /* machine reset: waits until the device has stopped; not its I/O thread */

struct loop *virtio_loop(struct virtio *virtio); /* the device's I/O thread */

/*
 * Run fn(arg) on the device's I/O thread and wait for its result: for what creating and destroying a device
 * has to do there (timers, polls). Not from that thread. A device with operations of its own on the loop is
 * destroyed in three steps: virtio_reset, so that nothing starts them any more; virtio_call, to release them;
 * virtio_destroy.
 */
int virtio_call(struct virtio *virtio, int (*fn)(void *arg), void *arg);

/* The queue, ready to pop, or NULL when the driver did not enable it. I/O thread, between activate and stop.
 */
struct virtq *virtio_queue(struct virtio *virtio, unsigned index);

/* After pushes: interrupt if the driver wants one. I/O thread. */
void virtio_interrupt(struct virtio *virtio, unsigned index);

/* Requests that doorbell left in the queue can be taken now: doorbell is called, at once. I/O thread. */
void virtio_retry(struct virtio *virtio, unsigned index);

/*
 * `field` is part of the config struct that config_read copies from: set it under the transport's lock and,
 * if it changed, tell the driver. virtio_config_load copies a field that the driver writes. Any thread.
 */
void virtio_config_store(struct virtio *virtio, void *field, const void *value, size_t len);
void virtio_config_load(struct virtio *virtio, void *value, const void *field, size_t len);

/* News of `device`, which is this one (enum device_news), for whoever watches the machine. Any thread. */
void virtio_tell(struct virtio *virtio, struct device *device, unsigned news);

/* The guest broke a rule (-EPROTO from a queue, a malformed request): DEVICE_NEEDS_RESET, counted and logged.
 */
void virtio_needs_reset(struct virtio *virtio, const char *why);

/* Is the stop that is under way a reset (rather than a pause)? I/O thread. */
bool virtio_resetting(const struct virtio *virtio);

/* Answers to the stop callbacks. I/O thread. */
void virtio_stopped(struct virtio *virtio);
void virtio_queue_stopped(struct virtio *virtio, unsigned index);

/*
 * Stop the device with all that it has taken finished, and let it go on. Between the two its queues stand
 * still and their positions are in the registers. Pauses count. Not from the I/O thread.
 */
void virtio_pause(struct virtio *virtio);
void virtio_resume(struct virtio *virtio);

/*
 * For vhost-user, from activate on: where queue `index` lies (NULL: not enabled); its doorbell, which from
 * then on is not read by us until the next activate; and an event fd that from now on is the queue's
 * interrupt, whatever vector the guest chooses (-1: no longer). I/O thread.
 */
const struct virtq_setup *virtio_queue_setup(struct virtio *virtio, unsigned index);
int virtio_queue_doorbell_fd(struct virtio *virtio, unsigned index);
int virtio_queue_attach_irq(struct virtio *virtio, unsigned index, int event_fd);

/* ---- state ---- */

/* All that the guest can see of the transport. */
struct virtio_regs {
	uint64_t driver_features;
	uint32_t device_feature_select, driver_feature_select;
	uint16_t config_vector;
	uint16_t queue_select;
	uint8_t status;
	uint8_t config_generation;
	uint8_t isr;
	/* The queues; those above queue_count stay as reset left them. */
	bool queue_enable[VIRTIO_QUEUES_MAX];
	uint16_t queue_size[VIRTIO_QUEUES_MAX];
	uint16_t queue_vector[VIRTIO_QUEUES_MAX];
	uint64_t queue_desc[VIRTIO_QUEUES_MAX];
	uint64_t queue_driver[VIRTIO_QUEUES_MAX];
	uint64_t queue_device[VIRTIO_QUEUES_MAX];
	/* struct virtq_position of each, valid while the device is stopped. */
	uint16_t queue_next_avail[VIRTIO_QUEUES_MAX];
	uint16_t queue_next_used[VIRTIO_QUEUES_MAX];
	bool queue_avail_wrap[VIRTIO_QUEUES_MAX];
	bool queue_used_wrap[VIRTIO_QUEUES_MAX];
	struct pci_regs pci; /* only when saved */
};

/* Rows for the state table of a device whose struct `s` has a struct virtio_regs `m`, first of all. */
#define VIRTIO_STATE_FIELDS(s, m)                                                                            \
	STATE_FIELD(s, m.driver_features), STATE_FIELD(s, m.device_feature_select),                          \
		STATE_FIELD(s, m.driver_feature_select), STATE_FIELD(s, m.config_vector),                    \
		STATE_FIELD(s, m.queue_select), STATE_FIELD(s, m.status),                                    \
		STATE_FIELD(s, m.config_generation), STATE_FIELD(s, m.isr), STATE_ARRAY(s, m.queue_enable),  \
		STATE_ARRAY(s, m.queue_size), STATE_ARRAY(s, m.queue_vector), STATE_ARRAY(s, m.queue_desc),  \
		STATE_ARRAY(s, m.queue_driver), STATE_ARRAY(s, m.queue_device),                              \
		STATE_ARRAY(s, m.queue_next_avail), STATE_ARRAY(s, m.queue_next_used),                       \
		STATE_ARRAY(s, m.queue_avail_wrap), STATE_ARRAY(s, m.queue_used_wrap),                       \
		PCI_STATE_FIELDS(s, m.pci)

/*
 * `regs` is a true moment of the device: a running one is paused for it. Restoring stops the device, checks,
 * assigns, and starts it again where the guest had it running. Not from the I/O thread. virtio_check_regs
 * only judges, for devices that have more to check.
 */
void virtio_save(struct virtio *virtio, struct virtio_regs *regs);
int virtio_check_regs(const struct virtio *virtio, const struct virtio_regs *regs, struct err *err);
int virtio_restore(struct virtio *virtio, const struct virtio_regs *regs, struct err *err);

/*
 * What a device class needs, for devices whose struct begins with this. Those without state of their own
 * take table and functions as they are; the others use virtio_save and virtio_restore within their own.
 */
struct virtio_device {
	struct device device;
	struct virtio *virtio;
};

extern const struct state_table virtio_state; /* of struct virtio_regs */
void virtio_device_reset(struct device *device);
void virtio_device_save(struct device *device, void *regs);
int virtio_device_restore(struct device *device, const void *regs, struct err *err);
void virtio_device_quiesce(struct device *device);
void virtio_device_resume(struct device *device);

/* The config of instance `index` among the devices of `type`: a pointer into its union; NULL at the end. */
const void *virtio_device_config(const struct machine_config *machine, enum device_type type, size_t index);

#endif
