/*
 * The virtio console (VIRTIO 1.3, 5.3): up to eight ports, each with a byte stream of the host behind it.
 *
 * The streams (chardev.h) belong to the machine's thread, the queues to the device's I/O thread. Input goes
 * through a small buffer between them; output is handed to the stream from the I/O thread, and what it does
 * not take stays in the guest's buffer until there is room.
 */
#include "console.h"

#include "../devices.h"
#include "base/cleanup.h"
#include "devices/chardev.h"
#include "devices/console.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

enum { PCI_CLASS_COMMUNICATION = 0x078000, OUTPUT_AT_ONCE = 4096 };

static_assert(sizeof(struct console_space) == 12, "5.3.4");

bool console_is_multiport(const struct console *console)
{
	return console->features & CONSOLE_F_MULTIPORT;
}

void console_broken(struct console *console)
{
	virtio_needs_reset(console->base.virtio, "broken queue");
}

static unsigned port_rx_queue(const struct console_port *port)
{
	return port->index == 0 ? CONSOLE_RX : 2 + 2 * port->index;
}

/* ---- I/O thread: bytes ---- */

/* Takes up to `max` bytes out of the input. */
static size_t input_take(struct console_port *port, uint8_t *data, size_t max)
{
	pthread_mutex_lock(&port->lock);
	size_t len = port->input_bytes < max ? port->input_bytes : max;
	memcpy(data, port->input, len);
	port->input_bytes -= len;
	memmove(port->input, port->input + len, port->input_bytes);
	pthread_mutex_unlock(&port->lock);
	return len;
}

static bool input_waits(struct console_port *port)
{
	pthread_mutex_lock(&port->lock);
	bool waits = port->input_bytes > 0;
	pthread_mutex_unlock(&port->lock);
	return waits;
}

void console_deliver_input(struct console_port *port)
{
	struct console *console = port->console;
	struct virtq *vq = virtio_queue(console->base.virtio, port_rx_queue(port));
	uint8_t data[CONSOLE_INPUT_BYTES];
	if (!vq || console->stopping || (console_is_multiport(console) && !port->guest_open))
		return;
	while (input_waits(port)) {
		int got = virtq_pop(vq, &console->chain);
		if (got == 0 && virtq_enable_doorbell(vq))
			continue;
		if (got < 0)
			console_broken(console);
		if (got <= 0)
			break;
		size_t max =
			console->chain.write_bytes < sizeof(data) ? console->chain.write_bytes : sizeof(data);
		size_t len = input_take(port, data, max);
		(void)virtq_chain_write(&console->chain, 0, data, len);
		if (virtq_push(vq, &console->chain, (uint32_t)len) < 0) {
			console_broken(console);
			break;
		}
	}
	virtio_interrupt(console->base.virtio, port_rx_queue(port));
	chardev_receive_ready(port->chardev);
}

/* False: the host takes no more now. */
static bool output_write(struct console_port *port)
{
	uint8_t data[OUTPUT_AT_ONCE];
	size_t len;
	while ((len = virtq_chain_read(&port->output, port->output_done, data, sizeof(data))) > 0) {
		size_t taken = chardev_write(port->chardev, data, len);
		port->output_done += taken;
		if (taken < len)
			return false;
	}
	return true;
}

static void output_run(struct console_port *port)
{
	struct console *console = port->console;
	unsigned queue = port_rx_queue(port) + 1;
	struct virtq *vq = virtio_queue(console->base.virtio, queue);
	while (vq && !console->stopping) {
		int got = port->has_output ? 1 : virtq_pop(vq, &port->output);
		if (got < 0)
			console_broken(console);
		if (got <= 0)
			break;
		port->has_output = !output_write(port);
		if (port->has_output)
			break; /* `writable` comes */
		port->output_done = 0;
		if (virtq_push(vq, &port->output, 0) < 0) {
			console_broken(console);
			break;
		}
	}
	if (vq)
		virtio_interrupt(console->base.virtio, queue);
}

static void console_work(struct loop_op *op, int res)
{
	struct console *console = container_of(op, struct console, work_op);
	(void)res;
	for (unsigned i = 0; console->active && i < console->port_count; i++) {
		console_deliver_input(&console->ports[i]);
		if (console->ports[i].has_output)
			virtio_retry(console->base.virtio, port_rx_queue(&console->ports[i]) + 1);
	}
}

/* ---- virtio ---- */

static uint64_t console_features(void *device)
{
	const struct console *console = device;
	return CONSOLE_F_EMERG_WRITE | CONSOLE_F_MULTIPORT | (console->space.columns ? CONSOLE_F_SIZE : 0);
}

static void console_config_read(void *device, uint32_t offset, void *data, uint32_t len)
{
	const struct console *console = device;
	memcpy(data, (const char *)&console->space + offset, len);
}

/* 5.3.4: one character, for a driver that cannot set up queues any more. */
static void console_config_write(void *device, uint32_t offset, const void *data, uint32_t len)
{
	struct console *console = device;
	if (offset == offsetof(struct console_space, emergency_write) && len == sizeof(uint32_t))
		(void)chardev_write(console->ports[0].chardev, data, 1);
}

static int console_activate(void *device, uint64_t features)
{
	struct console *console = device;
	console->features = features;
	console->active = true;
	console->stopping = false;
	return 0;
}

static void console_doorbell(void *device, unsigned index)
{
	struct console *console = device;
	if (index == CONSOLE_CONTROL_TX)
		console_read_control(console);
	else if (index == CONSOLE_CONTROL_RX)
		console_read_control(console); /* sends what waits, and then reads what waited for that */
	else if (index % 2 == 0)
		console_deliver_input(&console->ports[index < 2 ? 0 : index / 2 - 1]);
	else
		output_run(&console->ports[index < 2 ? 0 : index / 2 - 1]);
}

static void output_forget(struct console_port *port)
{
	port->has_output = false;
	port->output_done = 0;
}

/* A pause does not wait for a reader who may never come: the driver's buffer goes back to the queue, and of
 * what it holds the first `output_done` bytes are not written again. */
static void output_put_back(struct console_port *port)
{
	struct virtq *vq = virtio_queue(port->console->base.virtio, port_rx_queue(port) + 1);
	if (port->has_output && (!vq || virtq_unpop(vq, &port->output) < 0))
		port->output_done = 0;
	port->has_output = false;
}

static void console_stop(void *device)
{
	struct console *console = device;
	console->stopping = true;
	for (unsigned i = 0; i < console->port_count; i++)
		output_put_back(&console->ports[i]);
	console->active = false;
	virtio_stopped(console->base.virtio);
}

/* Output that the host has not taken is the driver's again. */
static void console_stop_queue(void *device, unsigned index)
{
	struct console *console = device;
	for (unsigned i = 0; i < console->port_count; i++)
		if (index == port_rx_queue(&console->ports[i]) + 1)
			output_forget(&console->ports[i]);
	virtio_queue_stopped(console->base.virtio, index);
}

static void console_power_on(void *device)
{
	struct console *console = device;
	console->message_count = 0;
	for (unsigned i = 0; i < console->port_count; i++) {
		console->ports[i].ready = console->ports[i].guest_open = false;
		output_forget(&console->ports[i]);
	}
}

static const struct virtio_ops console_ops = {
	.features = console_features,
	.config_read = console_config_read,
	.config_write = console_config_write,
	.activate = console_activate,
	.doorbell = console_doorbell,
	.stop = console_stop,
	.stop_queue = console_stop_queue,
	.reset = console_power_on,
};

/* ---- the machine's thread: the streams ---- */

/* At rest what comes waits outside: a state that is saved has not got it, one that is loaded takes its place.
 */
static size_t port_room(void *owner)
{
	struct console_port *port = owner;
	if (port->console->at_rest)
		return 0;
	pthread_mutex_lock(&port->lock);
	size_t room = sizeof(port->input) - port->input_bytes;
	pthread_mutex_unlock(&port->lock);
	return room;
}

static void port_receive(void *owner, const uint8_t *data, size_t len)
{
	struct console_port *port = owner;
	pthread_mutex_lock(&port->lock);
	memcpy(port->input + port->input_bytes, data, len);
	port->input_bytes += len;
	pthread_mutex_unlock(&port->lock);
	loop_post(virtio_loop(port->console->base.virtio), &port->console->work_op);
}

static void port_writable(void *owner)
{
	struct console_port *port = owner;
	loop_post(virtio_loop(port->console->base.virtio), &port->console->work_op);
}

static void port_send_break(void *owner)
{
	(void)owner; /* there is no such thing on this wire */
}

static const struct chardev_user port_user = {
	.room = port_room, .receive = port_receive, .writable = port_writable, .send_break = port_send_break};

/* ---- control ---- */

static int tell_size_on_thread(void *arg)
{
	struct console *console = arg;
	if (!console->active)
		return 0;
	console_tell_size(console);
	console_send_messages(console);
	return 0;
}

void console_resize(struct device *device, uint16_t columns, uint16_t rows)
{
	struct console *console = console_of(device);
	const uint16_t size[2] = {columns, rows};
	virtio_config_store(console->base.virtio, &console->space, size, sizeof(size));
	(void)virtio_call(console->base.virtio, tell_size_on_thread, console);
}

static bool terminal_size(const struct console_config *config, struct winsize *size)
{
	for (size_t i = 0; i < config->port_count; i++)
		if (config->ports[i].kind == CHARDEV_STDIO)
			return ioctl(STDIN_FILENO, TIOCGWINSZ, size) == 0 && size->ws_col > 0;
	return false;
}

void console_window_changed(struct device *device)
{
	struct winsize size;
	if (device->class == &console_class && terminal_size(console_of(device)->config, &size))
		console_resize(device, size.ws_col, size.ws_row);
}

/* ---- at rest ---- */

static void console_quiesce(struct device *device)
{
	struct console *console = console_of(device);
	console->at_rest = true;
	virtio_device_quiesce(device);
	for (unsigned i = 0; i < console->port_count; i++)
		chardev_flush(console->ports[i].chardev);
}

static void console_wake(struct device *device)
{
	struct console *console = console_of(device);
	console->at_rest = false;
	virtio_device_resume(device);
	for (unsigned i = 0; i < console->port_count; i++)
		chardev_receive_ready(console->ports[i].chardev);
}

/* ---- life ---- */

static int leave_thread(void *arg)
{
	struct console *console = arg;
	(void)loop_release(virtio_loop(console->base.virtio), &console->work_op);
	return 0;
}

static void console_destroy(struct device *device)
{
	if (!device)
		return;
	struct console *console = console_of(device);
	/* First nobody posts to the I/O thread any more, then nobody there uses the streams. */
	for (unsigned i = 0; i < console->port_count; i++)
		if (console->ports[i].chardev)
			chardev_attach(console->ports[i].chardev, NULL, NULL);
	if (console->base.virtio)
		(void)virtio_call(console->base.virtio, leave_thread, console);
	virtio_destroy(console->base.virtio);
	for (unsigned i = 0; i < console->port_count; i++) {
		chardev_destroy(console->ports[i].chardev);
		(void)pthread_mutex_destroy(&console->ports[i].lock);
	}
	free(console);
}

static int create_ports(struct console *console, const struct device_services *services, struct err *err)
{
	for (unsigned i = 0; i < console->config->port_count; i++) {
		struct console_port *port = &console->ports[i];
		port->console = console;
		port->index = i;
		port->output = (struct virtq_chain){.iov = port->output_iov, .iov_max = CONSOLE_IOV};
		(void)pthread_mutex_init(&port->lock, NULL);
		console->port_count = i + 1;
		int r = chardev_create(&console->config->ports[i], services->loop, &services->keys,
				       services->incoming, &port->chardev, err);
		if (r < 0)
			return err_prepend(err, "ports.%u", i);
		if (chardev_peer(port->chardev))
			log_warn("%s: port %u: %s", console->name, i, chardev_peer(port->chardev));
	}
	return 0;
}

static int console_create(const void *config, size_t index, const struct device_services *services,
			  struct device **ret, struct err *err)
{
	struct winsize size = {0};
	struct console *console = calloc(1, sizeof(*console));
	if (!console)
		return err_sys(err, -ENOMEM, "console");
	console->base.device.class = &console_class;
	console->config = config;
	console->work_op.done = console_work;
	console->chain = (struct virtq_chain){.iov = console->iov, .iov_max = CONSOLE_IOV};
	console->control = (struct virtq_chain){.iov = console->control_iov, .iov_max = CONSOLE_IOV};
	(void)snprintf(console->name, sizeof(console->name), "console%zu", index);
	if (terminal_size(console->config, &size))
		console->space = (struct console_space){.columns = size.ws_col, .rows = size.ws_row};
	console->space.max_ports = (uint32_t)console->config->port_count;
	struct virtio_spec spec = {
		.name = console->name,
		.id = VIRTIO_ID_CONSOLE,
		.class_code = PCI_CLASS_COMMUNICATION,
		.queue_count = 2 + 2 * (unsigned)console->config->port_count,
		.config_len = sizeof(console->space),
		.place = console->config->place,
		.ops = &console_ops,
		.device = console,
		.counts = &console->base.device.counts,
	};
	for (unsigned i = 0; i < spec.queue_count; i++)
		spec.queue_size_max[i] = CONSOLE_QUEUE_SIZE;
	int r = create_ports(console, services, err);
	if (r == 0)
		r = virtio_create(&spec, services, &console->base.virtio, err);
	if (r < 0) {
		console_destroy(&console->base.device);
		return r;
	}
	for (unsigned i = 0; i < console->port_count; i++)
		chardev_attach(console->ports[i].chardev, &port_user, &console->ports[i]);
	*ret = &console->base.device;
	return 0;
}

static const void *console_config_at(const struct machine_config *machine, size_t index)
{
	return virtio_device_config(machine, DEVICE_CONSOLE, index);
}

const struct device_class console_class = {
	.name = "console",
	.state = &console_state,
	.config = console_config_at,
	.create = console_create,
	.destroy = console_destroy,
	.reset = virtio_device_reset,
	.save = console_save,
	.restore = console_restore,
	.quiesce = console_quiesce,
	.resume = console_wake,
};
