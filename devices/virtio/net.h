/*
 * The network device (VIRTIO 1.3, 5.1), by its parts:
 *
 *	net.c		the device as the driver configures it: features, config space, life, state
 *	net_queues.c	its queues start and stop, and what the backend says finds its way to them
 *	net_rx.c	packets to the guest
 *	net_buffers.c	the buffers that the guest has given for them
 *	net_tx.c	packets from the guest
 *	net_rss.c	which queue a packet is for
 *	net_control.c	the control queue
 *	net_announce.c	telling the network where the machine is
 */
#ifndef AERIE_DEVICES_VIRTIO_NET_H
#define AERIE_DEVICES_VIRTIO_NET_H

#include "../backend/net_backend.h"
#include "../backend/ratelimit.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "devices/net.h"
#include "net_buffers.h"
#include "net_mac.h"
#include "net_rss.h"
#include "virtio.h"

/* Feature bits (5.1.3). */
#define NET_F_CSUM		  VIRTIO_BIT(0)
#define NET_F_GUEST_CSUM	  VIRTIO_BIT(1)
#define NET_F_CTRL_GUEST_OFFLOADS VIRTIO_BIT(2)
#define NET_F_MTU		  VIRTIO_BIT(3)
#define NET_F_MAC		  VIRTIO_BIT(5)
#define NET_F_GUEST_TSO4	  VIRTIO_BIT(7)
#define NET_F_GUEST_TSO6	  VIRTIO_BIT(8)
#define NET_F_GUEST_ECN		  VIRTIO_BIT(9)
#define NET_F_HOST_TSO4		  VIRTIO_BIT(11)
#define NET_F_HOST_TSO6		  VIRTIO_BIT(12)
#define NET_F_HOST_ECN		  VIRTIO_BIT(13)
#define NET_F_MRG_RXBUF		  VIRTIO_BIT(15)
#define NET_F_STATUS		  VIRTIO_BIT(16)
#define NET_F_CTRL_VQ		  VIRTIO_BIT(17)
#define NET_F_CTRL_RX		  VIRTIO_BIT(18)
#define NET_F_CTRL_RX_EXTRA	  VIRTIO_BIT(20)
#define NET_F_GUEST_ANNOUNCE	  VIRTIO_BIT(21)
#define NET_F_MQ		  VIRTIO_BIT(22)
#define NET_F_CTRL_MAC_ADDR	  VIRTIO_BIT(23)
#define NET_F_RSS		  VIRTIO_BIT(60)
#define NET_F_SPEED_DUPLEX	  VIRTIO_BIT(63)

#define NET_GUEST_OFFLOADS (NET_F_GUEST_CSUM | NET_F_GUEST_TSO4 | NET_F_GUEST_TSO6 | NET_F_GUEST_ECN)

enum { NET_S_LINK_UP = 1, NET_S_ANNOUNCE = 2 }; /* 5.1.4 */

enum { NET_PAIRS_MAX = 16, NET_MACS_MAX = 64 };

enum {
	NET_RX_BATCH = 32,
	NET_RX_IOVS = 1024,
	NET_TX_BATCH = NET_BATCH_MAX,
	NET_TX_IOVS = 2 * VIRTQ_SIZE_MAX + 1,
	NET_PACKET_IOVS_MAX = 1024, /* IOV_MAX */
};

/* The header in front of each frame (5.1.6), little-endian. */
struct net_header {
	uint8_t flags;
	uint8_t gso_type;
	uint16_t hdr_len;
	uint16_t gso_size;
	uint16_t csum_start;
	uint16_t csum_offset;
	uint16_t num_buffers;
};

/* 5.1.4 as far as our features go. */
struct net_space {
	uint8_t mac[NET_MAC_BYTES];
	uint16_t status;
	uint16_t max_virtqueue_pairs;
	uint16_t mtu;	/* bytes */
	uint32_t speed; /* Mbit/s */
	uint8_t duplex;
	uint8_t rss_max_key_size; /* bytes; with NET_F_RSS, as what follows */
	uint16_t rss_max_table;	  /* entries */
	uint32_t hash_types;
};

/* What the driver has set by commands. */
struct net_guest {
	uint64_t offloads; /* NET_F_GUEST_ bits; valid with offloads_set, else as negotiated */
	uint16_t pairs;	   /* in use */
	uint16_t unicast_count, multicast_count;
	bool offloads_set;
	bool announce; /* asked of the driver, not acknowledged yet */
	bool promisc, allmulti, alluni, nomulti, nouni, nobcast;
	bool unicast_overflow, multicast_overflow; /* more were given than we keep: all are let through */
	uint8_t mac[NET_MAC_BYTES];
	uint8_t macs[NET_MACS_MAX * NET_MAC_BYTES]; /* first unicast, then multicast */
	struct net_rss rss;
};

struct net;

/* Where one packet is read to: chains, and behind them spill. */
struct net_rx_slot {
	struct net_buffers buffers;
	size_t iov_bytes; /* of packet->iov without the spill */
	size_t room;	  /* of the buffers */
	bool paid;	  /* the rate limit has let it pass */
};

enum net_rx_state { NET_RX_IDLE, NET_RX_READING, NET_RX_WAITING };

/*
 * A batch is read into the first buffers that the guest has left, one chain for each packet (all that the
 * largest packet takes, when large ones were seen), so that a frame is copied by nobody but the kernel. What
 * does not fit goes to memory of ours, and is copied to further buffers when they are there.
 */
struct net_rx {
	struct net *net;
	unsigned pair;
	struct virtq *vq; /* NULL: not running */
	enum net_rx_state state;
	struct net_stock stock;
	struct net_packet *packets; /* NET_RX_BATCH of each of these */
	struct net_rx_slot *slots;
	uint8_t *spill;
	struct iovec *iov;  /* NET_RX_IOVS */
	unsigned count, at; /* of the batch: packets at and behind `at` are not delivered yet */
	unsigned batch;	    /* packets to ask for */
	bool drained;	    /* the batch got fewer than it asked for */
	bool was_given;	    /* frames that another queue has read, and the driver has not heard of them */
	unsigned large;	    /* packets until we believe again that they are small */
	struct ratelimit limit;
};

struct net_tx {
	struct net *net;
	unsigned pair;
	struct virtq *vq; /* NULL: not running */
	bool sending;	  /* the batch is the backend's */
	unsigned count;
	struct virtq_chain *chains; /* NET_TX_BATCH of each of these; chains without their iov */
	struct net_packet *packets;
	struct net_header *headers;
	struct iovec *iov; /* NET_TX_IOVS */
	struct ratelimit limit;
};

/* The frame that says where the machine is; it goes as a batch of its own of the first transmit queue. */
enum { NET_RARP_BYTES = 60 };
struct net_rarp {
	bool due; /* to be sent as soon as the queue is free */
	struct net_header header;
	uint8_t frame[NET_RARP_BYTES];
	struct iovec iov[2];
	struct net_packet packet; /* the backend's while the queue is sending */
};

struct net {
	struct virtio_device base;
	const struct net_config *config;
	char name[16]; /* "net0" */
	struct net_port *backend;
	bool offload;		    /* the backend has them */
	uint8_t mac[NET_MAC_BYTES]; /* at power-on */

	struct net_space space; /* under the transport's lock */

	/* The I/O thread's. */
	uint64_t features; /* negotiated, those without what they need left out */
	bool active, broken;
	bool backend_link, cable;
	struct net_guest guest; /* while the device is stopped: under the transport's lock */
	unsigned pair_count;
	struct net_rx *rx; /* pair_count of each */
	struct net_tx *tx;
	struct iovec *control_iov; /* VIRTQ_SIZE_MAX */
	struct net_rarp rarp;
	struct loop_op announce_op; /* posted by the machine's thread */
	struct net_counts counts;
};

/* All on the I/O thread. */
void net_break(struct net *net, const char *why); /* DEVICE_NEEDS_RESET */
bool net_link(const struct net *net);
void net_tell_status(struct net *net);		   /* link or announcement have changed */
unsigned net_control_index(const struct net *net); /* of the control queue, or one that there is not */
void net_apply_offloads(struct net *net);

/* net_queues.c */
extern const struct net_backend_user net_user;
void net_queue_start(struct net *net, unsigned index); /* if it should run, and does not */
void net_queue_stop(struct net *net, unsigned index);
void net_queues_stop(struct net *net);
int net_set_pairs(struct net *net, uint16_t pairs);

/* net_rx.c: net_rx_run does what there is to do, whatever it was that changed. */
int net_rx_start(struct net_rx *rx, struct virtq *vq); /* -ENOMEM */
void net_rx_stop(struct net_rx *rx);		       /* the backend has let go */
void net_rx_run(struct net_rx *rx);
void net_rx_received(struct net_rx *rx);

int net_tx_start(struct net_tx *tx, struct virtq *vq);
void net_tx_stop(struct net_tx *tx);
void net_tx_run(struct net_tx *tx);
void net_tx_sent(struct net_tx *tx);
/* 5.1.6.2.2: may this header go in front of so large a frame? Puts it right where the device may. */
bool net_header_check(struct net_header *header, size_t frame_bytes, uint64_t features);

/* net_announce.c */
struct net_packet *net_rarp_take(struct net *net); /* NULL: none is due; the queue is not sending */
void net_announce_due(struct net *net);	  /* the device goes on: the queue will send, the guest is asked */
void net_announce(struct device *device); /* struct device_class says what that is */

void net_control_run(struct net *net, struct virtq *vq, unsigned index);
/* net_filter.c: 5.1.6.5.1, 5.1.6.5.2: does the guest want a frame to this address? */
bool net_filter_passes(const struct net *net, const uint8_t *mac);

#endif
