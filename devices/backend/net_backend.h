/*
 * The host side of a network device: a TAP interface, passt, or another machine. It knows frames and the
 * header in front of them (VIRTIO 1.3, 5.1.6), and no guest. All on one loop's thread but net_backend_create.
 *
 * Each queue can have one batch on its way in and one on its way out. A batch's packets, and what they point
 * to, are the backend's from receive or send until received or sent is called, or halt has returned.
 */
#ifndef AERIE_DEVICES_BACKEND_NET_BACKEND_H
#define AERIE_DEVICES_BACKEND_NET_BACKEND_H

#include "base/err.h"
#include "config/config.h"
#include "host/loop.h"

#include <sys/uio.h>

enum {
	NET_HEADER_BYTES = 12,
	NET_ETHERNET_BYTES = 14,
	NET_FRAME_MAX = 65535 + NET_ETHERNET_BYTES + 4, /* with a VLAN tag */
	NET_PACKET_MAX = NET_HEADER_BYTES + NET_FRAME_MAX,
	NET_BATCH_MAX = 64,
};

/* What TAP may leave to the guest (TUN_F_ in linux/if_tun.h). */
enum { NET_OFFLOAD_CSUM = 1, NET_OFFLOAD_TSO4 = 2, NET_OFFLOAD_TSO6 = 4, NET_OFFLOAD_ECN = 8 };

/* A header and a frame. */
struct net_packet {
	struct iovec *iov; /* to send: the first is the header, alone */
	unsigned count;	   /* at most IOV_MAX */
	size_t bytes;	   /* to send: all of it, 0 afterwards when it was not; received: 0 for nothing */
};

/* Never called from within a function of the backend. */
struct net_backend_user {
	void (*received)(void *owner, unsigned queue);
	void (*readable)(void *owner, unsigned queue);
	void (*sent)(void *owner, unsigned queue);
	void (*link)(void *owner, bool up);
};

struct net_port;

struct net_backend_ops {
	void (*start)(struct net_port *backend);
	void (*destroy)(struct net_port *backend);
	void (*receive)(struct net_port *backend, unsigned queue, struct net_packet *packets, unsigned count);
	void (*wait)(struct net_port *backend, unsigned queue);
	void (*send)(struct net_port *backend, unsigned queue, struct net_packet *packets, unsigned count);
	void (*halt)(struct net_port *backend, unsigned queue, bool out);
	void (*set_flow)(struct net_port *backend, bool on);		  /* NULL: nothing to do */
	int (*set_offloads)(struct net_port *backend, unsigned offloads); /* NULL: it has none */
	int (*set_queues)(struct net_port *backend, unsigned count);	  /* NULL: it has one */
};

struct net_port {
	const struct net_backend_ops *ops;
	const char *name; /* of the device, for messages; borrowed */
	struct loop *loop;
	const struct net_backend_user *user;
	void *owner;
	bool link; /* as it was last told */
};

/* Opens what the config names; any thread. Errors name it, and what to do. `name` is borrowed. */
int net_backend_create(const struct net_config *config, const char *name, struct net_port **ret,
		       struct err *err);
/* From now on it is the loop's, and calls. */
void net_backend_start(struct net_port *backend, struct loop *loop, const struct net_backend_user *user,
		       void *owner);
void net_backend_destroy(struct net_port *backend); /* the loop's thread, if started; NULL is fine */

/*
 * Read what is there now into at most `count` (1 to NET_BATCH_MAX) packets; `received` when it is known.
 * What is longer than a packet's room is cut.
 */
void net_receive(struct net_port *backend, unsigned queue, struct net_packet *packets, unsigned count);
/* `readable` when there is something again. */
void net_wait(struct net_port *backend, unsigned queue);
/* `sent` when all are sent, or dropped. Without a link: dropped. */
void net_send(struct net_port *backend, unsigned queue, struct net_packet *packets, unsigned count);
/* Take back a batch, and `wait`: nothing of the queue in this direction is called afterwards. */
void net_halt(struct net_port *backend, unsigned queue, bool out);
/* Nobody will receive: what comes may be thrown away, so that the other side does not wait for us. */
void net_set_flow(struct net_port *backend, bool on);
int net_set_offloads(struct net_port *backend, unsigned offloads);
int net_set_queues(struct net_port *backend, unsigned count); /* only so many are received from */

/* For backends. */
void net_set_backend_link(struct net_port *backend, bool up);
int net_tap_create(const struct net_config *config, struct net_port **ret, struct err *err);
int net_stream_create(const struct net_config *config, struct net_port **ret, struct err *err);

#endif
