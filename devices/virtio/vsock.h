/*
 * The parts of virtio-vsock as its files share them (VIRTIO 1.3, 5.10):
 *
 *	vsock.c		the device class, its life
 *	vsock_queue.c	packets: what the guest sends is judged and handed on, what it is to get is chosen
 *	vsock_conn.c	one connection: its UNIX socket, its two buffers, its end
 *	vsock_host.c	the socket that host programs connect to, and those that the guest connects to
 *
 * All of it lives on the device's I/O thread. No chain of a queue is held between two callbacks, so a pause
 * stops nothing but the copying; connections survive it.
 *
 * What is bounded, and by what: connections by VSOCK_CONNECTIONS; bytes from the guest by the credit that it
 * was given (an overrun ends the connection); bytes to the guest by one buffer for each connection, refilled
 * when it is empty; packets about connections by one flag for each kind; refusals of packets that belong to
 * no connection by `refusals`, whose filling stops the guest's transmit queue until it takes some.
 */
#ifndef AERIE_DEVICES_VIRTIO_VSOCK_H
#define AERIE_DEVICES_VIRTIO_VSOCK_H

#include "../devices.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "host/unix_socket.h"
#include "virtio.h"

#include <assert.h>
#include <stdatomic.h>
#include <sys/un.h>

enum {
	VSOCK_CONNECTIONS = 1024,
	VSOCK_BUCKETS = 1024,
	VSOCK_TO_HOST = 128 * 1024, /* bytes: the credit of the guest for each connection */
	VSOCK_TO_GUEST = 64 * 1024,
	VSOCK_REFUSALS_HELD = 256,   /* from here on the guest's packets wait */
	VSOCK_REFUSALS_MAX = 2048,   /* more cannot be: each connection adds one at most */
	VSOCK_FIRST_PORT = 1U << 30, /* of host programs, as the guest sees them */
	VSOCK_GREETING_MAX = 32,     /* bytes of "CONNECT <port>\n" */
	VSOCK_QUEUE_SIZE = 256,
	VSOCK_IOV = 128,
};
#define VSOCK_HOST_CID	     UINT64_C(2)
#define VSOCK_FLUSH_NS	     UINT64_C(20000000) /* at a pause, for host programs to read, a turn each */
#define VSOCK_FLUSH_TURN_NS  UINT64_C(1000000)
#define VSOCK_LINGER_NS	     UINT64_C(2000000000) /* for the guest to confirm the end of a connection */
#define VSOCK_GREETING_NS    UINT64_C(10000000000)
#define VSOCK_CONNECT_NS     UINT64_C(10000000) /* between two attempts, while the listener's backlog is full */
#define VSOCK_CONNECT_TRIES  200
#define VSOCK_PORT_CHARS_MAX 11 /* "_4294967295" */

enum vsock_queue { VSOCK_RX, VSOCK_TX, VSOCK_EVENT, VSOCK_QUEUES };

/* 5.10.6 */
enum vsock_op {
	VSOCK_OP_REQUEST = 1,
	VSOCK_OP_RESPONSE,
	VSOCK_OP_RST,
	VSOCK_OP_SHUTDOWN,
	VSOCK_OP_RW,
	VSOCK_OP_CREDIT_UPDATE,
	VSOCK_OP_CREDIT_REQUEST,
};
enum { VSOCK_TYPE_STREAM = 1 };
enum { VSOCK_NO_RECEIVE = 1, VSOCK_NO_SEND = 2, VSOCK_CLOSED = 3 }; /* flags of SHUTDOWN */

struct vsock_hdr {
	uint64_t src_cid, dst_cid;
	uint32_t src_port, dst_port;
	uint32_t len;
	uint16_t type, op;
	uint32_t flags;
	uint32_t buf_alloc, fwd_cnt;
} __attribute__((packed));
static_assert(sizeof(struct vsock_hdr) == 44, "VIRTIO 1.3, 5.10.6");

/* An RST for the guest. */
struct vsock_refusal {
	uint64_t cid; /* the packet's addressee, from which the RST then comes */
	uint32_t host_port, guest_port;
};

enum vsock_state {
	VSOCK_GREETING,	   /* a host program that has not said CONNECT; in no bucket */
	VSOCK_REQUESTED,   /* it has, and the guest has not answered */
	VSOCK_CONNECTING,  /* the guest's request, being connected on the host */
	VSOCK_ESTABLISHED, /* with both sides known */
	VSOCK_DRAINING,	   /* the guest knows it no more; what it sent goes out. In no bucket */
};

struct vsock_conn {
	struct vsock *vsock;
	struct vsock_conn *prev, *next; /* of all */
	struct vsock_conn *chain;	/* of its bucket */
	struct vsock_conn *after;	/* of those with something for the guest */
	bool ready;			/* it is in that list */
	enum vsock_state state;
	uint32_t host_port, guest_port;
	int fd;
	struct loop_op recv_op, send_op;
	struct loop_op watch_op; /* the other side hung up */
	struct loop_op wait_op;	 /* connecting, and delays */
	unsigned attempts;
	struct sockaddr_un address; /* that is being connected */

	unsigned pending; /* a bit for each vsock_op that is to be sent */
	bool requested;	  /* the guest knows of the request */
	/* To the guest: bytes [start, end) of to_guest. */
	uint8_t *to_guest;
	size_t start, end;
	bool host_eof;	    /* no more bytes come */
	bool host_gone;	    /* nor does anybody take any */
	uint32_t told;	    /* VSOCK_NO_ flags */
	uint32_t sent;	    /* bytes, counted as 5.10.6.3 has it */
	uint32_t buf_alloc; /* the guest's */
	uint32_t fwd_cnt;
	bool asked; /* for credit */
	/* From the guest: bytes received - ... - received of to_host, a ring. */
	char hello[24]; /* goes first: "OK <port>\n" */
	uint8_t hello_len, hello_sent;
	uint8_t *to_host;
	uint32_t received, forwarded; /* free-running */
	uint32_t told_forwarded;
	uint32_t guest_shut; /* VSOCK_NO_ flags that it sent */
	bool wr_shut;	     /* and the host program knows */
};

struct vsock {
	struct virtio_device base;
	const struct vsock_config *config;
	struct {
		uint64_t guest_cid;
	} space; /* 5.10.4 */
	char name[16];

	atomic_bool fresh;   /* the guest has reset the device: what was, is no more */
	atomic_bool leaving; /* being destroyed */

	/* The I/O thread's. */
	struct loop_op fresh_op;
	bool driven;	      /* a driver has been there since the last reset */
	bool active;	      /* the queues may be touched */
	bool transport_reset; /* the guest is to be told that its connections are gone */
	bool tx_held;	      /* packets wait until there is room for refusals */
	bool pumping;
	struct vsock_conn *conns;
	size_t conn_count;
	struct vsock_conn *buckets[VSOCK_BUCKETS];
	struct vsock_conn *ready_first, *ready_last;
	struct vsock_refusal refusals[VSOCK_REFUSALS_MAX];
	uint32_t refusal_in, refusal_out; /* free-running */
	uint32_t next_port;

	struct unix_listener listener;
	struct loop_op accept_op, again_op;

	struct virtq_chain chain;
	struct iovec iov[VSOCK_IOV];
};

/* vsock_conn.c */
struct vsock_conn *vsock_conn_new(struct vsock *vsock, int fd); /* takes fd, even on error; NULL: no memory */
void vsock_conn_free(struct vsock_conn *conn);			/* out of every list, closed */
void vsock_conn_reset(struct vsock_conn *conn);			/* RST for the guest, and free */
void vsock_conn_drop_all(struct vsock *vsock);
/* For a pause: what the guest has sent is with the host programs, as far as they read it in 20 ms. */
void vsock_conn_flush_all(struct vsock *vsock);
struct vsock_conn *vsock_conn_find(struct vsock *vsock, uint32_t host_port, uint32_t guest_port);
void vsock_conn_publish(struct vsock_conn *conn); /* ports are known: into its bucket */
void vsock_conn_ready(struct vsock_conn *conn);	  /* it may have something for the guest */
void vsock_conn_watch(struct vsock_conn *conn);
void vsock_conn_receive(struct vsock_conn *conn); /* from the host, when there is room */
/* `len` bytes of the chain from `offset`: false when the guest has no credit for them. */
bool vsock_conn_take(struct vsock_conn *conn, const struct virtq_chain *chain, size_t offset, uint32_t len);
void vsock_conn_established(struct vsock_conn *conn);
void vsock_conn_guest_shut(struct vsock_conn *conn, uint32_t flags); /* may free it */
uint32_t vsock_conn_credit(const struct vsock_conn *conn);	     /* bytes that may be sent to the guest */

/* vsock_queue.c */
void vsock_refuse(struct vsock *vsock, uint64_t cid, uint32_t host_port, uint32_t guest_port);
void vsock_pump(struct vsock *vsock); /* hand the guest what there is and what it has room for */
void vsock_doorbell(void *device, unsigned index);

/* vsock_host.c */
int vsock_listen(struct vsock *vsock, struct err *err);
void vsock_unlisten(struct vsock *vsock); /* the loop is left already */
void vsock_accept(struct vsock *vsock);	  /* if there may be more connections */
void vsock_greeted(struct vsock_conn *conn);
void vsock_connect(struct vsock *vsock, uint32_t host_port, uint32_t guest_port, const struct vsock_hdr *hdr);

#endif
