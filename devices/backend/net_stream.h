/* Network backends on a UNIX stream socket: the parts as their files share them. */
#ifndef AERIE_DEVICES_BACKEND_NET_STREAM_H
#define AERIE_DEVICES_BACKEND_NET_STREAM_H

#include "net_backend.h"
#include "net_framing.h"

#include <sys/socket.h>
#include <sys/un.h>

enum { NET_STREAM_IOVS = 1024 }; /* IOV_MAX: what one sendmsg takes */

/* Frames that sendmsg has been given, and what of them it has not taken yet. */
struct net_stream_out {
	struct net_packet *packets; /* the batch */
	unsigned count, next;	    /* next: the first that is not in iov */
	struct iovec iov[NET_STREAM_IOVS];
	unsigned iov_at, iov_count;
	size_t first_taken;		    /* bytes of iov[iov_at] that are gone */
	unsigned starts[NET_BATCH_MAX + 2]; /* where frames begin in iov, and the end of the last */
	unsigned frames;
	uint8_t prefixes[NET_BATCH_MAX][NET_FRAMING_PREFIX];
	struct msghdr msg;
	/* The rest of a frame of which the peer has the beginning, when its batch was taken back. */
	uint8_t *owed;
	size_t owed_len;
};

struct net_stream {
	struct net_port base;
	struct sockaddr_un address;
	bool may_listen; /* the other side is as we are: whoever comes first listens */
	bool complained;
	int fd;	       /* the peer, or -1 */
	int listen_fd; /* or -1 */
	dev_t listen_device;
	ino_t listen_inode;
	struct loop_op accept_op, again_op;

	struct loop_op recv_op, in_op; /* in_op: deferred, received or readable */
	struct net_framing *in;
	bool flow, waiting, receiving, malformed;

	struct loop_op send_op, out_op; /* out_op: deferred, sent */
	bool sending;
	struct net_stream_out out;
};

/* net_peer.c: who is at the other end. */
/* Connect, or listen if that may be. 0, or -errno with a message. */
int net_peer_meet(struct net_stream *stream, struct err *err);
void net_peer_start(struct net_stream *stream); /* on the loop: accept, or go on as connected */
void net_peer_lost(struct net_stream *stream, const char *why);
void net_peer_finish(struct net_stream *stream);
void net_peer_init(struct net_stream *stream);

/* net_stream.c */
void net_stream_connected(struct net_stream *stream);
void net_stream_disconnected(struct net_stream *stream); /* nothing is in flight on fd afterwards */

#endif
