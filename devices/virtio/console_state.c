/*
 * Saving and restoring the virtio console. What the guest has not had buffers for goes with it: control
 * messages to its driver, and the bytes of the host that have left their stream. Of output that the host has
 * not taken, the driver's buffer is in its queue again, and output_done says how much of it is through.
 */
#include "console.h"

#include <errno.h>
#include <string.h>

struct console_regs {
	struct virtio_regs virtio;
	uint16_t columns, rows;
	bool ready[CONFIG_CONSOLE_PORTS_MAX];
	bool guest_open[CONFIG_CONSOLE_PORTS_MAX];
	uint64_t output_done[CONFIG_CONSOLE_PORTS_MAX];
	uint16_t input_bytes[CONFIG_CONSOLE_PORTS_MAX];
	uint8_t input[CONFIG_CONSOLE_PORTS_MAX * CONSOLE_INPUT_BYTES];
	uint8_t message_bytes[CONSOLE_MESSAGES_MAX]; /* of each, the oldest first; 0: no more */
	uint8_t messages[CONSOLE_MESSAGES_MAX * CONSOLE_MESSAGE_BYTES];
};

static const struct state_field console_fields[] = {
	VIRTIO_STATE_FIELDS(struct console_regs, virtio),
	STATE_FIELD(struct console_regs, columns),
	STATE_FIELD(struct console_regs, rows),
	STATE_ARRAY(struct console_regs, ready),
	STATE_ARRAY(struct console_regs, guest_open),
	STATE_ARRAY_OPTIONAL(struct console_regs, output_done),
	STATE_ARRAY_OPTIONAL(struct console_regs, input_bytes),
	STATE_ARRAY_OPTIONAL(struct console_regs, input),
	STATE_ARRAY_OPTIONAL(struct console_regs, message_bytes),
	STATE_ARRAY_OPTIONAL(struct console_regs, messages),
};
const struct state_table console_state = STATE_TABLE("console", struct console_regs, console_fields);

static void save_port(struct console_port *port, struct console_regs *regs)
{
	unsigned i = port->index;
	regs->ready[i] = port->ready;
	regs->guest_open[i] = port->guest_open;
	regs->output_done[i] = port->output_done;
	pthread_mutex_lock(&port->lock);
	regs->input_bytes[i] = (uint16_t)port->input_bytes;
	memcpy(regs->input + (size_t)i * CONSOLE_INPUT_BYTES, port->input, port->input_bytes);
	pthread_mutex_unlock(&port->lock);
}

static void restore_port(struct console_port *port, const struct console_regs *regs)
{
	unsigned i = port->index;
	port->ready = regs->ready[i];
	port->guest_open = regs->guest_open[i];
	port->output_done = regs->output_done[i];
	pthread_mutex_lock(&port->lock);
	port->input_bytes = regs->input_bytes[i];
	memcpy(port->input, regs->input + (size_t)i * CONSOLE_INPUT_BYTES, port->input_bytes);
	pthread_mutex_unlock(&port->lock);
}

static void save_messages(const struct console *console, struct console_regs *regs)
{
	for (size_t i = 0; i < console->message_count; i++) {
		size_t at = (console->first_message + i) % CONSOLE_MESSAGES_MAX;
		const struct console_message *message = &console->messages[at];
		regs->message_bytes[i] = (uint8_t)message->len;
		memcpy(regs->messages + i * CONSOLE_MESSAGE_BYTES, message->data, message->len);
	}
}

static void restore_messages(struct console *console, const struct console_regs *regs)
{
	size_t count = 0;
	for (; count < CONSOLE_MESSAGES_MAX && regs->message_bytes[count]; count++) {
		struct console_message *message = &console->messages[count];
		message->len = regs->message_bytes[count];
		memcpy(message->data, regs->messages + count * CONSOLE_MESSAGE_BYTES, message->len);
	}
	console->first_message = 0;
	console->message_count = count;
}

void console_save(struct device *device, void *state)
{
	struct console *console = console_of(device);
	struct console_regs *regs = state;
	struct console_space space;
	memset(regs, 0, sizeof(*regs));
	virtio_pause(console->base.virtio); /* the I/O thread stands still while we look */
	virtio_save(console->base.virtio, &regs->virtio);
	virtio_config_load(console->base.virtio, &space, &console->space, sizeof(space));
	regs->columns = space.columns;
	regs->rows = space.rows;
	for (unsigned i = 0; i < console->port_count; i++)
		save_port(&console->ports[i], regs);
	save_messages(console, regs);
	virtio_resume(console->base.virtio);
}

static int check_regs(const struct console *console, const struct console_regs *regs, struct err *err)
{
	for (unsigned i = 0; i < CONFIG_CONSOLE_PORTS_MAX; i++)
		if (regs->input_bytes[i] > (i < console->port_count ? CONSOLE_INPUT_BYTES : 0))
			return err_set(err, -EINVAL, "input-bytes: %u of port %u, there is room for %d",
				       regs->input_bytes[i], i,
				       i < console->port_count ? CONSOLE_INPUT_BYTES : 0);
	for (unsigned i = 0; i < CONSOLE_MESSAGES_MAX; i++)
		if (regs->message_bytes[i] > CONSOLE_MESSAGE_BYTES)
			return err_set(err, -EINVAL, "message-bytes: %u, a message has at most %d",
				       regs->message_bytes[i], CONSOLE_MESSAGE_BYTES);
	return virtio_check_regs(console->base.virtio, &regs->virtio, err);
}

int console_restore(struct device *device, const void *state, struct err *err)
{
	struct console *console = console_of(device);
	const struct console_regs *regs = state;
	int r = check_regs(console, regs, err);
	if (r < 0)
		return r;
	virtio_pause(console->base.virtio);
	r = virtio_restore(console->base.virtio, &regs->virtio, err);
	for (unsigned i = 0; r == 0 && i < console->port_count; i++)
		restore_port(&console->ports[i], regs);
	if (r == 0)
		restore_messages(console, regs);
	virtio_resume(console->base.virtio);
	return r;
}
