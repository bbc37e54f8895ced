/* The virtio console (VIRTIO 1.3, 5.3): what the device (console.c), its control messages
 * (console_control.c) and its state (console_state.c) share. */
#ifndef AERIE_DEVICES_VIRTIO_CONSOLE_H
#define AERIE_DEVICES_VIRTIO_CONSOLE_H

#include "base/cleanup.h"
#include "base/log.h"
#include "virtio.h"

#include <pthread.h>

#define CONSOLE_F_SIZE	      VIRTIO_BIT(0)
#define CONSOLE_F_MULTIPORT   VIRTIO_BIT(1)
#define CONSOLE_F_EMERG_WRITE VIRTIO_BIT(2)

/* 5.3.2: the ports' queues in pairs, with the control pair after the first one. */
enum { CONSOLE_RX = 0, CONSOLE_TX = 1, CONSOLE_CONTROL_RX = 2, CONSOLE_CONTROL_TX = 3 };
enum {
	CONSOLE_QUEUE_SIZE = 64,
	CONSOLE_IOV = 64,
	CONSOLE_INPUT_BYTES = 1024,
	CONSOLE_MESSAGES_MAX = 64, /* to the driver, waiting for a buffer */
	CONSOLE_MESSAGE_BYTES = 32,
};

struct console_space { /* 5.3.4 */
	uint16_t columns, rows;
	uint32_t max_ports;
	uint32_t emergency_write;
};

struct console_port {
	struct console *console;
	unsigned index;
	struct chardev *chardev;

	pthread_mutex_t
		lock; /* of the input, which the machine's thread puts in and the I/O thread takes out */
	uint8_t input[CONSOLE_INPUT_BYTES];
	size_t input_bytes;

	/* I/O thread */
	struct virtq_chain output; /* what the host has not taken yet, from output_done on */
	struct iovec output_iov[CONSOLE_IOV];
	uint64_t output_done; /* also while the machine stands and the buffer is in the queue again */
	bool has_output;
	bool ready;	 /* the driver knows the port */
	bool guest_open; /* a program in the guest has it open */
};

struct console_message {
	uint8_t data[CONSOLE_MESSAGE_BYTES];
	size_t len;
};

struct console {
	struct virtio_device base;
	const struct console_config *config;
	struct console_space space; /* under the transport's lock */
	uint64_t features;
	struct loop_op work_op; /* posted by the machine's thread: input came, or there is room for output */
	bool at_rest;		/* the machine's thread's: between quiesce and resume */
	bool active, stopping;
	struct virtq_chain chain; /* buffers to the driver: done when popped */
	struct iovec iov[CONSOLE_IOV];
	struct virtq_chain control; /* a control message, while it is handled */
	struct iovec control_iov[CONSOLE_IOV];
	struct console_message messages[CONSOLE_MESSAGES_MAX]; /* a ring */
	size_t first_message, message_count;
	struct console_port ports[CONFIG_CONSOLE_PORTS_MAX];
	unsigned port_count;
	char name[16];
};

static inline struct console *console_of(struct device *device)
{
	return container_of(device, struct console, base.device);
}

/* The guest is told that its console has this size, in characters. Any thread but the device's I/O thread. */
void console_resize(struct device *device, uint16_t columns, uint16_t rows);
bool console_is_multiport(const struct console *console);
void console_broken(struct console *console);

/* console_state.c */
extern const struct state_table console_state;
void console_save(struct device *device, void *state);
int console_restore(struct device *device, const void *state, struct err *err);

/* console_control.c: on the I/O thread. */
void console_read_control(struct console *console);  /* CONSOLE_CONTROL_TX has requests */
void console_send_messages(struct console *console); /* as far as the driver gave buffers */
void console_tell_size(struct console *console);
/* A port that the guest opened may have input waiting. */
void console_deliver_input(struct console_port *port);

#endif
