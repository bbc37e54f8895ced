/*
 * A virtio driver in this process, and the PC without vCPUs that it needs: for tests and benchmarks of virtio
 * devices. It finds the device in PCI configuration space, and speaks to it through the bus alone.
 *
 *	struct world world;
 *	struct driver driver;
 *	world_init(&world, 1);
 *	... rng_class.create(&config, 0, &world.services, &device, &err) ...
 *	driver_init(&driver, &world, VIRTIO_ID_RNG);
 *	ck_assert_int_eq(driver_start(&driver, &(struct driver_options){.features = VIRTIO_F_RING_PACKED}),
 *0); uint64_t gpa = world_alloc(&world, 4096); struct ring_buffer buffer = {gpa, 64, true};
 *	ck_assert_int_eq(driver_request(&driver, 0, &buffer, 1), 64);	// the bytes written
 *	... world_at(&world, gpa, 64) ...
 *	driver_finish(&driver);
 *	... rng_class.destroy(device) ...
 *	world_finish(&world);
 *
 * One thread uses a driver; different queues may be used by different threads after driver_start. Functions
 * return 0 (or what they say) or -errno; -ETIMEDOUT after DRIVER_TIMEOUT_MS without an interrupt.
 */
#ifndef AERIE_TESTS_DEVICES_DRIVER_H
#define AERIE_TESTS_DEVICES_DRIVER_H

#include "../../devices/virtio/virtio.h"
#include "ring.h"

#include <pthread.h>

enum { DRIVER_TIMEOUT_MS = 10000, WORLD_THREADS_MAX = 4, WORLD_GSIS = 32, WORLD_RAM_MIB = 256 };

/* ---- the PC ---- */

struct world {
	struct device_services services; /* hand a pointer to this to the device */
	struct guest_memory *memory;	 /* WORLD_RAM_MIB of shared RAM at 0 */
	struct bus *bus;
	struct pci_bus *pci;
	struct loop *loop; /* the machine's: this thread's, runs only when the test runs it */
	struct iothread *threads[WORLD_THREADS_MAX];
	uint64_t next_gpa;

	struct irq_sink irq;
	struct msi_sink msi;
	pthread_mutex_t lock; /* of what follows */
	pthread_cond_t changed;
	uint32_t levels[WORLD_GSIS];			/* a bit for each source */
	unsigned rises[WORLD_GSIS];			/* of any source */
	unsigned messages[PCI_SLOTS][PCI_MSIX_MAX + 1]; /* MSI-X that arrived; see driver_init */
	unsigned lost_messages;				/* to an address or with data that nobody asked for */
};

/* Aborts with a message when the host cannot. `threads`: I/O threads, 1 to WORLD_THREADS_MAX. */
void world_init(struct world *world, unsigned threads);
void world_finish(struct world *world); /* devices are gone */

/* RAM that nobody else uses: page-aligned, zeroed, never given back. Aborts when there is no more. */
uint64_t world_alloc(struct world *world, uint64_t bytes);
void *world_at(struct world *world, uint64_t gpa, uint64_t len); /* NULL: not RAM */

uint64_t world_read(struct world *world, uint64_t gpa, unsigned size); /* through the bus, as a vCPU does */
void world_write(struct world *world, uint64_t gpa, unsigned size, uint64_t value);
uint32_t world_config_read(struct world *world, uint32_t slot, unsigned offset, unsigned size);
void world_config_write(struct world *world, uint32_t slot, unsigned offset, unsigned size, uint32_t value);

/* ---- the driver ---- */

/* Offsets in the common configuration (VIRTIO 1.3, 4.1.4.3), and bits of its status (2.1). */
enum driver_common {
	DRIVER_DEVICE_FEATURE_SELECT = 0,
	DRIVER_DEVICE_FEATURE = 4,
	DRIVER_FEATURE_SELECT = 8,
	DRIVER_FEATURE = 12,
	DRIVER_CONFIG_VECTOR = 16,
	DRIVER_NUM_QUEUES = 18,
	DRIVER_STATUS = 20,
	DRIVER_GENERATION = 21,
	DRIVER_QUEUE_SELECT = 22,
	DRIVER_QUEUE_SIZE = 24,
	DRIVER_QUEUE_VECTOR = 26,
	DRIVER_QUEUE_ENABLE = 28,
	DRIVER_QUEUE_NOTIFY_OFF = 30,
	DRIVER_QUEUE_DESC = 32,
	DRIVER_QUEUE_DRIVER = 40,
	DRIVER_QUEUE_DEVICE = 48,
	DRIVER_QUEUE_RESET = 58,
};
enum {
	DRIVER_ACKNOWLEDGE = 1,
	DRIVER_DRIVER = 2,
	DRIVER_OK = 4,
	DRIVER_FEATURES_OK = 8,
	DRIVER_NEEDS_RESET = 64
};

struct driver_options {
	uint64_t features;   /* to accept, as far as they are offered; VERSION_1 always is */
	unsigned queues;     /* to enable, from the first one; 0: all */
	uint16_t queue_size; /* 0: the device's largest */
	bool intx;	     /* no MSI-X */
};

struct driver_queue {
	struct ring ring;
	uint64_t doorbell_gpa;
	uint64_t ring_gpa, ring_bytes; /* what is kept for the next start */
};

struct driver {
	struct world *world;
	uint32_t slot;
	uint64_t common_gpa, notify_gpa, isr_gpa, device_gpa;
	uint32_t notify_multiplier, device_len;
	uint8_t window;	   /* the VIRTIO_PCI_CAP_PCI_CFG capability */
	uint8_t msix;	   /* the MSI-X capability */
	uint64_t features; /* negotiated */
	bool intx;
	unsigned gsi;	      /* of INTx */
	unsigned queue_count; /* enabled ones */
	struct driver_queue *queues[VIRTIO_QUEUES_MAX];
};

/*
 * Looks for the first function with this virtio id (the second and later ones: driver_init_at), switches on
 * its BARs, and points MSI-X vector V at world.messages[slot][V]. -ENODEV: none, or it is not as VIRTIO says.
 */
int driver_init(struct driver *driver, struct world *world, enum virtio_id id);
int driver_init_at(struct driver *driver, struct world *world, uint32_t slot);
void driver_finish(struct driver *driver); /* resets the device */

/*
 * Resets the device and brings it to DRIVER_OK; queue N has MSI-X vector N + 1, configuration changes have
 * vector 0. -EINVAL: it refuses the features.
 */
int driver_start(struct driver *driver, const struct driver_options *options);
int driver_negotiate(struct driver *driver, uint64_t features); /* only until FEATURES_OK; exactly these */
int driver_reset(struct driver *driver);			/* and wait until status is 0 */
/* The ring is set up anew and enabled; before DRIVER_OK, or after driver_reset_queue. size 0: the largest. */
int driver_enable_queue(struct driver *driver, unsigned index, uint16_t size);
int driver_reset_queue(struct driver *driver, unsigned index);

uint64_t driver_offered(struct driver *driver);
uint8_t driver_status(struct driver *driver);
int driver_wait_status(struct driver *driver, uint8_t bits); /* until they are set */
uint64_t driver_common_read(struct driver *driver, enum driver_common offset, unsigned size);
void driver_common_write(struct driver *driver, enum driver_common offset, unsigned size, uint64_t value);
void driver_config_read(struct driver *driver, uint32_t offset, void *data, uint32_t len); /* byte by byte */
uint64_t driver_config_get(struct driver *driver, uint32_t offset, unsigned size);
void driver_config_set(struct driver *driver, uint32_t offset, unsigned size, uint64_t value);

/* ---- queues ---- */

/* Add a chain (an indirect one if that was negotiated and it has several buffers), publish, ring the doorbell
 * if the device wants it. Its id, or -ENOSPC. */
int driver_submit(struct driver *driver, unsigned index, const struct ring_buffer *buffers, size_t count);
void driver_kick(struct driver *driver, unsigned index);	  /* publish, and the doorbell if wanted */
void driver_ring_doorbell(struct driver *driver, unsigned index); /* wanted or not */
/* The next used chain, waiting for the device's interrupt. -EPROTO: the device broke a rule. */
int driver_collect(struct driver *driver, unsigned index, struct ring_used *ret);
int driver_try_collect(struct driver *driver, unsigned index, struct ring_used *ret); /* 1, 0 or -EPROTO */
/* driver_submit and driver_collect; the number of bytes written. For one request at a time. */
int driver_request(struct driver *driver, unsigned index, const struct ring_buffer *buffers, size_t count);

/* Interrupts so far; with INTx those of all the device's queues. */
unsigned driver_interrupts(struct driver *driver, unsigned index);
unsigned driver_config_interrupts(struct driver *driver);
/* Until there are more than `before`. With INTx reads the ISR. */
int driver_wait_config_interrupt(struct driver *driver, unsigned before);

#endif
