/*
 * What the kinds of character device share. Each kind opens its descriptors and says what differs; buffering
 * is the same for all: output in chardev_output.c, input in chardev_input.c.
 *
 * Threads: `lock` guards the output buffer, which vCPU threads fill. All else belongs to the loop's thread.
 */
#ifndef AERIE_DEVICES_BACKEND_CHARDEV_IMPL_H
#define AERIE_DEVICES_BACKEND_CHARDEV_IMPL_H

#include "base/cleanup.h"
#include "base/log.h"
#include "devices/chardev.h"
#include "host/unix_socket.h"

#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <termios.h>

enum {
	CHARDEV_OUTPUT_BYTES = 65536,
	CHARDEV_INPUT_BYTES = 65536,
};

struct chardev_backend {
	/* Sets in_fd and out_fd where there are such, and `connected` when output goes somewhere. */
	int (*open)(struct chardev *chardev, const struct chardev_config *config, struct err *err);
	/* Closes what open opened, also when open failed half-way. The ops are at rest. NULL: nothing to do.
	 */
	void (*close)(struct chardev *chardev);
	/* May input be read now? NULL: yes. */
	bool (*may_read)(struct chardev *chardev);
	/* Takes out of `data` what is not for the guest; returns the new length. NULL: all is for the guest.
	 */
	size_t (*filter)(struct chardev *chardev, uint8_t *data, size_t len);
	/* The peer is gone: `code` is 0 for the end of input, or the -errno. NULL: input just ends, and
	 * output is tried again for each batch of bytes. */
	void (*hung_up)(struct chardev *chardev, int code);
};

/* The members of kinds that need some; the others' lie idle. */
struct chardev_terminal {
	bool is_terminal;
	bool escape; /* Ctrl-A was the last key */
};

struct chardev_pty {
	int master_fd;	     /* in_fd and out_fd while a slave is open */
	char name[64];	     /* of the slave: /dev/pts/N */
	bool linked;	     /* chardev->path is a link that we made */
	struct loop_op look; /* whether a slave is open, now and then while there is none */
};

struct chardev_unix {
	struct unix_listener listener;
	int client_fd; /* in_fd and out_fd while there is one */
	struct loop_op accept;
	struct loop_op again; /* accept, after a failure */
};

struct chardev {
	const struct chardev_backend *kind;
	bool opened;  /* kind->open was called: kind->close has something to do */
	bool goes_on; /* there was output before us */
	struct loop *loop;
	struct console_keys keys;
	char path[PATH_MAX]; /* for messages, and to unlink; "stdio" and the like for kinds without one */
	int in_fd, out_fd;   /* -1: none */
	const struct chardev_user *user;
	void *owner;
	union {
		struct chardev_terminal terminal;
		struct chardev_pty pty;
		struct chardev_unix socket;
	};

	/* Output: a ring of bytes, out[out_head] is the oldest. */
	pthread_mutex_t lock;
	uint8_t *out;
	size_t out_head, out_used;
	bool connected;	 /* else all that is written is dropped */
	bool asked;	 /* the loop's thread knows that there is output */
	bool hurried;	 /* …and that it is much */
	bool blocked;	 /* the user was refused some bytes and waits for writable() */
	uint64_t lost;	 /* bytes that an error took */
	bool complained; /* about an error that may repeat */
	uint64_t last_write_ns;
	size_t writing; /* bytes handed to write_op */
	struct loop_op flush_op, pace_op, write_op, drained_op;

	/* Input: in[in_head] to in[in_tail]. */
	uint8_t *in;
	size_t in_head, in_tail;
	bool in_open;
	bool reads_on;	   /* what the buffer has no room for is read and thrown away, for the keys in it */
	_Atomic bool held; /* the user had no room: chardev_receive_ready goes on */
	struct loop_op readable_op, resume_op;
};

extern const struct chardev_backend chardev_null, chardev_stdio, chardev_stderr, chardev_file, chardev_pty,
	chardev_unix;

/* chardev_output.c */
void chardev_output_init(struct chardev *chardev);
void chardev_output_connect(struct chardev *chardev, int fd);
void chardev_output_disconnect(
	struct chardev *chardev);		     /* drops what is buffered and forgets the descriptor */
void chardev_output_finish(struct chardev *chardev); /* writes out what is buffered, for a second at most */

/* chardev_input.c */
void chardev_input_init(struct chardev *chardev);
void chardev_input_connect(struct chardev *chardev, int fd);
void chardev_input_disconnect(struct chardev *chardev); /* what was read before is still delivered */

#endif
