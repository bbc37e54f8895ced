/*
 * A virtio device whose queues another process works on, as its files share it:
 *
 *	vhost_user.c		the device class: kinds, configuration space, life
 *	vhost_user_link.c	the connection: greeting, configuration, coming back
 *	vhost_user_rings.c	the queues: handed over, taken back
 *
 * Requests never pass through us: the back end reads the doorbells' event fds and writes the interrupts'.
 * What we do is telling it, on the device's I/O thread, where things are. A row of commands is under way at
 * most; when it ends (vhost_user_next), what is (up, started) is compared with what should be (active,
 * stopping), and the next row begins.
 *
 * A back end that goes away is waited for. The guest's requests stay in its rings; with in-flight tracking
 * the new one knows which were taken and not done. Without, they are known only when none was in flight;
 * otherwise a disk or a file system needs a reset, since a request done twice may write to memory that is
 * somebody else's by now; so it does when it is paused (saved) before the new one is there. A network card
 * goes on, as lost packets are nothing new to it.
 */
#ifndef AERIE_DEVICES_VIRTIO_VHOST_USER_H
#define AERIE_DEVICES_VIRTIO_VHOST_USER_H

#include "../backend/vhost_user.h"
#include "../devices.h"
#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "virtio.h"

enum { VHOST_USER_SPACE = 60, VHOST_USER_NAME = 20, VHOST_USER_WCE = 32 /* in a disk's space */ };

struct vhost_user_kind_info {
	const char *name;
	enum virtio_id id;
	uint32_t class_code;
	uint64_t passed; /* feature bits that the back end may offer the guest */
	uint64_t own;	 /* feature bits that we offer */
	uint32_t config_len;
	bool config_from_backend;
	bool forgets; /* requests in flight that are lost do no harm */
};

struct vhost_user_queue {
	bool claimed; /* the doorbell is the back end's */
	bool running; /* in the back end */
	bool again;   /* has run since the device was activated: the used ring tells the position */
	int call_fd;
};

struct vhost_user_device {
	struct virtio_device base;
	const struct vhost_user_config *config;
	const struct vhost_user_kind_info *kind;
	struct guest_memory *memory;
	char name[VHOST_USER_NAME];
	uint8_t space[VHOST_USER_SPACE]; /* under the transport's lock once there is one */
	uint8_t cache; /* also under it: what the driver chose for a disk, 1 + writeback; 0: nothing */
	uint32_t config_len;
	unsigned queue_count;

	/* The I/O thread's, and before that the creating thread's. */
	struct vhost_user link;
	uint64_t backend_features, protocol;
	uint64_t offered; /* to the guest, of those of the back end: it must keep them when it comes back */
	char why[80];	  /* the connection failed */
	bool greeted;	  /* the first time */
	bool up;	  /* connected, and both know what the other can */
	bool active, stopping;
	bool starting, started, ending; /* the queues are being handed over, are, are being taken back */
	bool owed;			/* a back end went away with requests, perhaps */
	bool broken;			/* requests may be lost: nothing before a reset */
	uint64_t features;		/* negotiated */
	struct vhost_user_queue queues[VIRTIO_QUEUES_MAX];
	int inflight_fd;
	uint64_t inflight_size, inflight_offset;
	int channel_theirs; /* the back end's end, until it has it */
	struct loop_op wait_op, write_op;
	uint64_t wait_ns;
};

/* vhost_user_link.c */
int vhost_user_first_greeting(struct vhost_user_device *vu, struct err *err); /* waits for it; any thread */
int vhost_user_enter(void *vu); /* the I/O thread, from now on */
int vhost_user_leave(void *vu);
void vhost_user_next(struct vhost_user_device *vu);
void vhost_user_write_config(struct loop_op *op, int res);

/* vhost_user_rings.c */
void vhost_user_claim(struct vhost_user_device *vu, unsigned index);
void vhost_user_start(struct vhost_user_device *vu);	  /* tell where memory and queues are */
void vhost_user_start_late(struct vhost_user_device *vu); /* those that came after that */
void vhost_user_wake(struct vhost_user_device *vu);	  /* both sides look into their rings */
void vhost_user_end(struct vhost_user_device *vu);	  /* take them back */
void vhost_user_keep_positions(struct vhost_user_device *vu);
bool vhost_user_in_flight(struct vhost_user_device *vu); /* may requests be lost? */
void vhost_user_drop_inflight(struct vhost_user_device *vu);
const char *vhost_user_ring_reply(struct vhost_user_device *vu, const struct vhost_user_command *command,
				  const uint8_t *payload, int *fd);

#endif
