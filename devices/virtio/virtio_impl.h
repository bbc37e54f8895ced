/*
 * The transport's parts as its files share them:
 *
 *	virtio.c	what a device is made of, and what its class gets for nothing
 *	virtio_life.c	the I/O thread's side: start, stop, pause, reset of a device and of one queue
 *	virtio_queue.c	doorbells and interrupts
 *	virtio_regs.c	the common configuration registers (VIRTIO 1.3, 4.1.4.3)
 *	virtio_pci.c	the PCI function: capabilities, BAR, ISR, device configuration
 *	virtio_state.c	saving and restoring
 *
 * What the driver asks for is kept as wishes (engaged, resetting, pauses, queue_resetting) under the lock;
 * virtio_work compares them with what is (active, stopping, live: the I/O thread's own) and acts. Whoever
 * changes a wish posts the work.
 */
#ifndef AERIE_DEVICES_VIRTIO_VIRTIO_IMPL_H
#define AERIE_DEVICES_VIRTIO_VIRTIO_IMPL_H

#include "base/cleanup.h"
#include "base/log.h"
#include "virtio.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>

/* 2.1 */
enum {
	STATUS_ACKNOWLEDGE = 0x01,
	STATUS_DRIVER = 0x02,
	STATUS_DRIVER_OK = 0x04,
	STATUS_FEATURES_OK = 0x08,
	STATUS_NEEDS_RESET = 0x40,
	STATUS_FAILED = 0x80,
	STATUS_DRIVERS = STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_DRIVER_OK | STATUS_FEATURES_OK |
			 STATUS_FAILED, /* the driver sets these */
};

enum { ISR_QUEUE = 0x01, ISR_CONFIG = 0x02 }; /* 4.1.4.5 */

enum { NO_VECTOR = 0xffff }; /* 4.1.4.3 */

enum { COMMON_BYTES = 64 }; /* struct virtio_pci_common_cfg */

struct virtio_queue {
	struct virtio *virtio;
	int doorbell_fd; /* an eventfd that is never read by us: each write to it is an edge for the poll */

	/* The I/O thread's. */
	struct loop_op doorbell_op;
	struct loop_op retry_op;
	struct loop_op irq_op;
	int irq_fd;	/* virtio_queue_attach_irq; borrowed, or -1 */
	int irq_vector; /* the vector that has irq_fd, or -1: we read it */
	bool live;	/* vq is set up */
	bool stopping;	/* stop_queue was called */
	bool external;	/* somebody else reads doorbell_fd */
	bool running;	/* the device's doorbell is on our stack */
	bool again;	/* and asked for another call meanwhile */
	bool parked;	/* the device has left requests: doorbells are off until its virtio_retry */
	struct virtq_setup setup;
	struct virtq vq;
};

struct virtio {
	char name[32];
	struct virtio_spec spec;
	struct device_services services;
	struct pci_function *function;
	struct iothread *iothread;
	struct loop *loop; /* its */
	uint64_t offered;  /* features */
	uint16_t vectors;
	uint8_t window;		       /* offset of the VIRTIO_PCI_CAP_PCI_CFG capability */
	struct device_counts *counts;  /* its device's */
	struct virtio_regs reset_regs; /* what reset assigns */

	pthread_mutex_t lock; /* of what follows */
	pthread_cond_t changed;
	struct virtio_regs regs;
	bool engaged;		  /* DRIVER_OK was set: the device is or will be active */
	bool resetting;		  /* and now the driver has asked for a reset */
	bool restored;		  /* by virtio_restore, and not active since */
	unsigned pauses;	  /* virtio_pause without virtio_resume */
	bool paused;		  /* it has come to a stop for them */
	uint64_t queue_resetting; /* queues with queue_reset 1 */

	_Atomic bool broken; /* DEVICE_NEEDS_RESET: no more requests */

	/* The I/O thread's. */
	struct loop_op work_op;
	struct loop_poller poller; /* while active */
	bool active;		   /* between activate and virtio_stopped */
	bool stopping;		   /* stop was called */
	bool reset_stop;	   /* for a reset */
	struct virtio_queue *queues;
};

static_assert(VIRTIO_QUEUES_MAX <= 64, "queue_resetting has a bit for each queue");

/* virtio_life.c. Lock held: */
void virtio_post_work(struct virtio *v);
void virtio_begin_reset(struct virtio *v); /* `resetting` tells whether it takes time */
void virtio_begin_queue_reset(struct virtio *v, unsigned index);
void virtio_assign(struct virtio *v, const struct virtio_regs *regs); /* paused, checked */
/* On the loop: */
void virtio_work(struct loop_op *op, int res);

/* virtio_queue.c. I/O thread: */
void virtio_queue_open(struct virtio_queue *q);	     /* listen to the doorbell, and look into the queue */
void virtio_queue_close(struct virtio_queue *q);     /* doorbells are heard no more */
void virtio_queue_route_irq(struct virtio_queue *q); /* the vector may have changed */
void virtio_queue_drop_irq(struct virtio_queue *q);
void virtio_queue_init(struct virtio *v, unsigned index); /* any thread */
void virtio_poller_init(struct virtio *v);
/* Any thread, without the lock: */
void virtio_config_interrupt(struct virtio *v);

/* virtio_regs.c. Lock held: */
void virtio_common_read(const struct virtio *v, uint32_t offset, void *data, unsigned size);
/* False: not a register, or not of this size. */
bool virtio_common_write(struct virtio *v, uint32_t offset, unsigned size, uint64_t value);
/* DEVICE_NEEDS_RESET; true when the driver is to be interrupted. */
bool virtio_break(struct virtio *v);

/* virtio_pci.c */
int virtio_pci_create(struct virtio *v, struct err *err);

#endif
