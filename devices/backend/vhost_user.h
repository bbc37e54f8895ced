/*
 * The front end's side of the vhost-user protocol: commands to a back end in another process over a UNIX
 * socket, one after the other, each with its answer.
 *
 * The back end is another program, and may be wrong in any way: an answer that was not asked for, of another
 * request, of another size, or none within VHOST_USER_TIMEOUT_NS ends the connection. Everything here runs on
 * the loop's thread.
 *
 * A message is a header (le32 request, le32 flags, le32 size) and `size` bytes; descriptors come with its
 * first byte.
 */
#ifndef AERIE_DEVICES_BACKEND_VHOST_USER_H
#define AERIE_DEVICES_BACKEND_VHOST_USER_H

#include "base/err.h"
#include "host/loop.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum vhost_user_request {
	VHOST_USER_GET_FEATURES = 1,
	VHOST_USER_SET_FEATURES = 2,
	VHOST_USER_SET_OWNER = 3,
	VHOST_USER_SET_MEM_TABLE = 5,
	VHOST_USER_SET_VRING_NUM = 8,
	VHOST_USER_SET_VRING_ADDR = 9,
	VHOST_USER_SET_VRING_BASE = 10,
	VHOST_USER_GET_VRING_BASE = 11,
	VHOST_USER_SET_VRING_KICK = 12,
	VHOST_USER_SET_VRING_CALL = 13,
	VHOST_USER_GET_PROTOCOL_FEATURES = 15,
	VHOST_USER_SET_PROTOCOL_FEATURES = 16,
	VHOST_USER_GET_QUEUE_NUM = 17,
	VHOST_USER_SET_VRING_ENABLE = 18,
	VHOST_USER_SET_BACKEND_REQ_FD = 21,
	VHOST_USER_GET_CONFIG = 24,
	VHOST_USER_SET_CONFIG = 25,
	VHOST_USER_GET_INFLIGHT_FD = 31,
	VHOST_USER_SET_INFLIGHT_FD = 32,
};
enum { VHOST_USER_BACKEND_CONFIG_CHANGE = 2 }; /* what the back end asks */

#define VHOST_USER_F_PROTOCOL_FEATURES (UINT64_C(1) << 30)

#define VHOST_USER_PROTOCOL_MQ		(UINT64_C(1) << 0)
#define VHOST_USER_PROTOCOL_REPLY_ACK	(UINT64_C(1) << 3)
#define VHOST_USER_PROTOCOL_BACKEND_REQ (UINT64_C(1) << 5)
#define VHOST_USER_PROTOCOL_CONFIG	(UINT64_C(1) << 9)
#define VHOST_USER_PROTOCOL_INFLIGHT	(UINT64_C(1) << 12)

enum {
	VHOST_USER_HEADER = 12,
	VHOST_USER_PAYLOAD_MAX = 288,
	VHOST_USER_FDS_MAX = 4,
	VHOST_USER_COMMANDS_MAX = 512,
};
#define VHOST_USER_TIMEOUT_NS UINT64_C(5000000000) /* for a whole row of commands */

struct vhost_user_command {
	enum vhost_user_request request;
	uint32_t size; /* of payload */
	uint8_t payload[VHOST_USER_PAYLOAD_MAX];
	int fds[VHOST_USER_FDS_MAX]; /* borrowed until it is answered */
	unsigned fd_count;
	uint32_t reply_min, reply_max; /* bytes of the answer; both 0: at most an acknowledgement */
	bool no_ack;		       /* not even that */
	uint32_t tag;		       /* the owner's */
};

struct vhost_user_owner {
	/* The answer to a command. `fd`: a descriptor that came with it, or -1; take it by setting it -1.
	 * NULL, or why the answer cannot be. */
	const char *(*replied)(void *owner, const struct vhost_user_command *command, const uint8_t *payload,
			       uint32_t size, int *fd);
	void (*idle)(void *owner);		      /* all commands are answered */
	void (*failed)(void *owner, const char *why); /* the connection is gone */
	void (*asked)(void *owner, uint32_t request); /* by the back end */
};

struct vhost_user_half { /* one direction of reading */
	struct loop_op op;
	uint8_t bytes[VHOST_USER_HEADER + VHOST_USER_PAYLOAD_MAX];
	uint32_t got, want;
	struct iovec iov;
	struct msghdr msg;
	_Alignas(8) char control[64];
	int fd; /* received */
};

struct vhost_user {
	struct loop *loop;
	const struct vhost_user_owner *ops;
	void *owner;
	int fd;			   /* -1: not connected */
	int channel_fd;		   /* on which the back end asks; -1: none */
	bool reply_ack;		   /* negotiated */
	bool busy, sent, answered; /* the first command is on its way; it went out; its answer is here */
	uint64_t deadline_ns;	   /* of the row */
	uint32_t first, last;	   /* of commands, free-running */
	struct vhost_user_command *commands; /* VHOST_USER_COMMANDS_MAX */
	struct loop_op send_op, timer_op;
	uint8_t out[VHOST_USER_HEADER + VHOST_USER_PAYLOAD_MAX];
	uint32_t out_len, out_sent;
	struct iovec out_iov;
	struct msghdr out_msg;
	_Alignas(8) char out_control[64];
	struct vhost_user_half in, channel;
};

int vhost_user_init(struct vhost_user *link, const struct vhost_user_owner *ops,
		    void *owner);		 /* or -ENOMEM */
void vhost_user_finish(struct vhost_user *link); /* closes; it is detached, or never was attached */

/* Takes `fd`, a connected socket (-1: keep the one there is), and from now on lives on `loop`. */
void vhost_user_attach(struct vhost_user *link, struct loop *loop, int fd);
/* Leaves the loop with its connection as it is; nothing is under way. */
void vhost_user_detach(struct vhost_user *link);

/* Copied. More than VHOST_USER_COMMANDS_MAX at once end the connection. */
void vhost_user_submit(struct vhost_user *link, const struct vhost_user_command *command);
/* As the answer of this row says; `fd` is ours then. */
void vhost_user_open_channel(struct vhost_user *link, int fd);

#endif
