/* Control messages of the virtio console (VIRTIO 1.3, 5.3.6.2). */
#include "console.h"

#include <stdio.h>
#include <string.h>

enum control_event {
	DEVICE_READY = 0, /* driver */
	DEVICE_ADD = 1,
	PORT_READY = 3, /* driver */
	CONSOLE_PORT = 4,
	RESIZE = 5,
	PORT_OPEN = 6, /* both */
	PORT_NAME = 7,
};

struct control {
	uint32_t id;
	uint16_t event, value;
};

static void message_add(struct console *console, const struct control *control, const void *more, size_t len)
{
	if (console->message_count == CONSOLE_MESSAGES_MAX)
		return; /* console_read_control has seen to it that there is room for all answers to one
			   request */
	size_t at = (console->first_message + console->message_count++) % CONSOLE_MESSAGES_MAX;
	struct console_message *message = &console->messages[at];
	memcpy(message->data, control, sizeof(*control));
	if (len)
		memcpy(message->data + sizeof(*control), more, len);
	message->len = sizeof(*control) + len;
}

void console_send_messages(struct console *console)
{
	struct virtq *vq = virtio_queue(console->base.virtio, CONSOLE_CONTROL_RX);
	while (vq && console->message_count) {
		struct console_message *message = &console->messages[console->first_message];
		int got = virtq_pop(vq, &console->chain);
		if (got == 0 && virtq_enable_doorbell(vq))
			continue;
		if (got < 0)
			console_broken(console);
		if (got <= 0)
			break;
		/* A buffer that is too small cuts the message: the driver's loss. */
		size_t len = virtq_chain_write(&console->chain, 0, message->data, message->len);
		console->first_message = (console->first_message + 1) % CONSOLE_MESSAGES_MAX;
		console->message_count--;
		if (virtq_push(vq, &console->chain, (uint32_t)len) < 0) {
			console_broken(console);
			break;
		}
	}
	if (vq)
		virtio_interrupt(console->base.virtio, CONSOLE_CONTROL_RX);
}

void console_tell_size(struct console *console)
{
	struct console_space space;
	virtio_config_load(console->base.virtio, &space, &console->space, sizeof(space));
	if (!console_is_multiport(console) || !(console->features & CONSOLE_F_SIZE) ||
	    !console->ports[0].ready)
		return;
	const uint16_t size[2] = {space.columns, space.rows};
	message_add(console, &(struct control){.event = RESIZE}, size, sizeof(size));
}

static void port_is_ready(struct console *console, struct console_port *port)
{
	struct control control = {.id = port->index, .event = CONSOLE_PORT, .value = 1};
	port->ready = true;
	if (port->index == 0) {
		message_add(console, &control, NULL, 0);
		console_tell_size(console);
	} else {
		char name[CONSOLE_MESSAGE_BYTES - sizeof(control)];
		control.event = PORT_NAME;
		int len = snprintf(name, sizeof(name), "aerie.port.%u", port->index);
		message_add(console, &control, name, (size_t)len);
	}
	control.event = PORT_OPEN;
	message_add(console, &control, NULL, 0);
}

static void handle(struct console *console, const struct control *control)
{
	if (control->event == DEVICE_READY && control->value) {
		for (uint32_t i = 0; i < console->port_count; i++)
			message_add(console, &(struct control){.id = i, .event = DEVICE_ADD, .value = 1},
				    NULL, 0);
		return;
	}
	bool known = control->id < console->port_count;
	struct console_port *port = known ? &console->ports[control->id] : NULL;
	if (known && control->event == PORT_READY && control->value) {
		port_is_ready(console, port);
	} else if (known && control->event == PORT_OPEN) {
		port->guest_open = control->value != 0;
		console_deliver_input(port);
	} else {
		(void)log_guest(&console->base.device.counts.guest_errors,
				"%s: control event %u of port %u with value %u", console->name,
				control->event, control->id, control->value);
	}
}

void console_read_control(struct console *console)
{
	struct virtq *vq = virtio_queue(console->base.virtio, CONSOLE_CONTROL_TX);
	/* The most that one request is answered with is DEVICE_ADD for each port. */
	while (vq && CONSOLE_MESSAGES_MAX - console->message_count >= CONFIG_CONSOLE_PORTS_MAX) {
		struct control message;
		int got = virtq_pop(vq, &console->control);
		if (got < 0)
			console_broken(console);
		if (got <= 0)
			break;
		if (virtq_chain_read(&console->control, 0, &message, sizeof(message)) == sizeof(message))
			handle(console, &message);
		else
			(void)log_guest(&console->base.device.counts.guest_errors,
					"%s: half a control message", console->name);
		if (virtq_push(vq, &console->control, 0) < 0) {
			console_broken(console);
			break;
		}
	}
	if (vq)
		virtio_interrupt(console->base.virtio, CONSOLE_CONTROL_TX);
	console_send_messages(console);
}
