/*
 * The host side of a byte stream: stdio, a file, a pty, a UNIX socket, nothing.
 *
 * The front end (a UART, the debug console) hands bytes in from vCPU threads; they are buffered and written
 * by the loop's thread, many with one system call, so that a booting guest does not cost one write a byte.
 * When the buffer is full (the reader is slow or gone), chardev_write takes fewer bytes; the UART then leaves
 * its transmitter busy, as a wire would. A UNIX socket or a pty without a peer takes and drops everything.
 */
#ifndef AERIE_DEVICES_CHARDEV_H
#define AERIE_DEVICES_CHARDEV_H

#include "base/err.h"
#include "config/config.h"
#include "host/loop.h"

#include <stddef.h>
#include <stdint.h>

struct chardev;

/* Called on the loop's thread. */
struct chardev_user {
	size_t (*room)(void *owner); /* how many bytes receive() can take now */
	void (*receive)(void *owner, const uint8_t *data, size_t len); /* len <= room() */
	void (*writable)(void *owner);	 /* after chardev_write took less than all */
	void (*send_break)(void *owner); /* Ctrl-A b */
};

/* What the keys of the stdio console ask of the machine (Ctrl-A x, p, r). Called on the loop's thread. */
enum console_action { CONSOLE_QUIT, CONSOLE_POWER_BUTTON, CONSOLE_RESET };
struct console_keys {
	void (*action)(void *owner, enum console_action action);
	void *owner;
};

/*
 * Opens what `config` names. A terminal on stdin is put into raw mode for CHARDEV_STDIO and given back by
 * destroy (and by chardev_restore_terminal). `keys` may be NULL when the kind is not STDIO. Errors name the
 * path. `goes_on`: the machine has run before, here or elsewhere, and so has its output: a file is appended
 * to, not begun anew.
 */
int chardev_create(const struct chardev_config *config, struct loop *loop, const struct console_keys *keys,
		   bool goes_on, struct chardev **ret, struct err *err);
/* Flushes for at most a second. The loop is not running; call it on the thread that ran it. NULL is fine. */
void chardev_destroy(struct chardev *chardev);

/* Whom to tell. `user` NULL detaches. Loop's thread or before it runs. */
void chardev_attach(struct chardev *chardev, const struct chardev_user *user, void *owner);

/* Any thread. Returns how many bytes were taken, in order from the first. */
size_t chardev_write(struct chardev *chardev, const void *data, size_t len);

/*
 * For a pause: what was written leaves this process now, so that neither a kill nor a move loses it. A reader
 * who takes no more has 20 ms; what is left then is written when he does, as ever. Loop's thread.
 */
void chardev_flush(struct chardev *chardev);

/* The user has room again: deliver input that was held back. Any thread. */
void chardev_receive_ready(struct chardev *chardev);

/* What a person opens to talk to it, when that is not in the config: "/dev/pts/3" of a pty. NULL for other
 * kinds. */
const char *chardev_peer(const struct chardev *chardev);

/* For abnormal ends: put the terminal back. Async-signal-safe; does nothing when it is not in raw mode. */
void chardev_restore_terminal(void);

#endif
