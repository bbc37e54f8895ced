/*
 * A 16550A UART. Sections are those of the PC16550D data sheet (National Semiconductor, June 1995).
 *
 * The wire is infinitely fast and comes in bursts. A byte that is sent has left at once, unless the host
 * takes no more: then it waits in the transmit FIFO and THRE stays clear, as on a wire held by the other end.
 * Input arrives as much at a time as fits, and then the wire is idle, so a character time-out (8.4) is due as
 * soon as the FIFO holds less than its trigger level; the guest need not wait the four character times.
 *
 * ISA interrupts are edges. What makes an interrupt condition end and come back within one access (a THR
 * write, an RBR read) therefore lowers the line for a moment; a driver that handles one byte for each
 * interrupt depends on it.
 *
 * vCPU threads and the loop's thread meet under `lock`. chardev_ functions take the character device's own
 * lock within it; the character device calls us without holding that.
 */
#include "base/cleanup.h"
#include "base/layout.h"
#include "base/log.h"
#include "devices.h"
#include "devices/device.h"
#include "uart_regs.h"

#include <pthread.h>
#include <string.h>

struct uart {
	struct device device;
	struct chardev *chardev;
	struct irq_line line;
	pthread_mutex_t lock; /* of what follows */
	struct uart_regs regs;
	bool level;   /* of our interrupt, as the sink knows it */
	bool at_rest; /* the wire stands still: who goes on with our state, here or elsewhere, is not decided
		       */
};

/* ---- interrupts ---- */

static void set_level(struct uart *uart, bool level)
{
	if (level != uart->level)
		irq_line_set(&uart->line, level);
	uart->level = level;
}

/* On a PC, OUT2 connects the interrupt pin to the bus. */
static void update_level(struct uart *uart)
{
	set_level(uart, (uart->regs.mcr & MCR_OUT2) && uart_identify(&uart->regs) != IIR_NONE);
}

/* The condition that the guest is being told ends here; update_level raises the line anew if it comes back.
 */
static void end_interrupt(struct uart *uart, uint8_t id)
{
	if (uart_identify(&uart->regs) == id)
		set_level(uart, false);
}

/* ---- transmitter ---- */

static void send_waiting(struct uart *uart)
{
	struct uart_regs *regs = &uart->regs;
	if (uart->at_rest || regs->tx_count == 0)
		return;
	size_t taken = chardev_write(uart->chardev, regs->tx, regs->tx_count);
	regs->tx_count = (uint8_t)(regs->tx_count - taken);
	memmove(regs->tx, regs->tx + taken, regs->tx_count);
	if (taken && regs->tx_count == 0)
		regs->thre_interrupt = true;
}

static void write_thr(struct uart *uart, uint8_t byte)
{
	struct uart_regs *regs = &uart->regs;
	end_interrupt(uart, IIR_THRE);
	regs->thre_interrupt = false;
	if (regs->mcr & MCR_LOOP) {
		uart_push_rx(regs, byte, 0);
		regs->thre_interrupt = true;
		return;
	}
	if (regs->tx_count == uart_capacity(regs))
		return; /* the guest did not look at THRE */
	regs->tx[regs->tx_count++] = byte;
	if (regs->tx_count == 1) /* else the host is known to be slow, and tells us */
		send_waiting(uart);
}

/* ---- bus ---- */

static uint8_t read_register(struct uart *uart, uint64_t offset)
{
	struct uart_regs *regs = &uart->regs;
	bool dlab = regs->lcr & LCR_DLAB;
	uint8_t value;
	switch (offset) {
	case REG_DATA:
		if (dlab)
			return regs->dll;
		end_interrupt(uart, IIR_TIMEOUT);
		return uart_pop_rx(regs);
	case REG_IER:
		return dlab ? regs->dlm : regs->ier;
	case REG_IIR:
		value = uart_identify(regs);
		if (value == IIR_THRE)
			regs->thre_interrupt = false;
		return value | (regs->fcr & FCR_ENABLE ? IIR_FIFOS : 0);
	case REG_LCR:
		return regs->lcr;
	case REG_MCR:
		return regs->mcr;
	case REG_LSR:
		value = uart_line_status(regs);
		regs->lsr = 0;
		regs->rx_errors[0] = 0; /* has been told */
		return value;
	case REG_MSR:
		value = regs->msr;
		regs->msr &= MSR_LEVELS;
		return value;
	default:
		return regs->scr;
	}
}

static void write_register(struct uart *uart, uint64_t offset, uint8_t value)
{
	struct uart_regs *regs = &uart->regs;
	bool dlab = regs->lcr & LCR_DLAB;
	switch (offset) {
	case REG_DATA:
		if (dlab)
			regs->dll = value;
		else
			write_thr(uart, value);
		break;
	case REG_IER:
		if (dlab)
			regs->dlm = value;
		else
			uart_write_ier(regs, value);
		break;
	case REG_FCR:
		uart_write_fcr(regs, value);
		break;
	case REG_LCR:
		regs->lcr = value;
		break;
	case REG_MCR:
		uart_write_mcr(regs, value);
		break;
	case REG_SCR:
		regs->scr = value;
		break;
	default: /* LSR and MSR are read-only (8.5: writing LSR is for factory tests) */
		break;
	}
}

static uint64_t uart_read(void *owner, uint64_t offset, unsigned size)
{
	struct uart *uart = owner;
	(void)size;
	pthread_mutex_lock(&uart->lock);
	uint8_t value = read_register(uart, offset);
	update_level(uart);
	pthread_mutex_unlock(&uart->lock);
	if (offset == REG_DATA)
		chardev_receive_ready(uart->chardev);
	return value;
}

static void uart_write(void *owner, uint64_t offset, unsigned size, uint64_t value)
{
	struct uart *uart = owner;
	(void)size;
	pthread_mutex_lock(&uart->lock);
	write_register(uart, offset, (uint8_t)value);
	update_level(uart);
	pthread_mutex_unlock(&uart->lock);
	if (offset == REG_FCR || offset == REG_MCR) /* an emptied FIFO, the end of loop-back */
		chardev_receive_ready(uart->chardev);
}

static const struct bus_ops uart_bus_ops = {
	.read = uart_read, .write = uart_write, .min_access_bytes = 1, .max_access_bytes = 1};

/* ---- the character device calls ---- */

/* In loop-back the receiver does not listen to the wire; what comes waits in the character device, as it does
 * at rest, where a state that is loaded would take its place. */
static size_t uart_room(void *owner)
{
	struct uart *uart = owner;
	pthread_mutex_lock(&uart->lock);
	const struct uart_regs *regs = &uart->regs;
	bool deaf = uart->at_rest || regs->mcr & MCR_LOOP;
	size_t room = deaf ? 0 : (size_t)(uart_capacity(regs) - regs->rx_count);
	pthread_mutex_unlock(&uart->lock);
	return room;
}

static void uart_receive(void *owner, const uint8_t *data, size_t len)
{
	struct uart *uart = owner;
	pthread_mutex_lock(&uart->lock);
	for (size_t i = 0; i < len; i++)
		uart_push_rx(&uart->regs, data[i], 0);
	update_level(uart);
	pthread_mutex_unlock(&uart->lock);
}

static void uart_writable(void *owner)
{
	struct uart *uart = owner;
	pthread_mutex_lock(&uart->lock);
	send_waiting(uart);
	update_level(uart);
	pthread_mutex_unlock(&uart->lock);
}

/* A break is a zero character with BI (8.5, bit 4). */
static void uart_break(void *owner)
{
	struct uart *uart = owner;
	pthread_mutex_lock(&uart->lock);
	uart_push_rx(&uart->regs, 0, LSR_BI);
	update_level(uart);
	pthread_mutex_unlock(&uart->lock);
}

static const struct chardev_user uart_user = {
	.room = uart_room, .receive = uart_receive, .writable = uart_writable, .send_break = uart_break};

/* ---- state ---- */

/* The machine as the guest knows it has changed under us: tell everybody. */
static void assign_regs(struct uart *uart, const struct uart_regs *regs)
{
	pthread_mutex_lock(&uart->lock);
	uart->regs = *regs;
	send_waiting(uart);
	update_level(uart);
	pthread_mutex_unlock(&uart->lock);
	chardev_receive_ready(uart->chardev);
}

static void uart_reset(struct device *device)
{
	assign_regs(container_of(device, struct uart, device), &uart_reset_regs);
}

static void uart_save(struct device *device, void *regs)
{
	struct uart *uart = container_of(device, struct uart, device);
	pthread_mutex_lock(&uart->lock);
	memcpy(regs, &uart->regs, sizeof(uart->regs));
	pthread_mutex_unlock(&uart->lock);
}

static int uart_restore(struct device *device, const void *state, struct err *err)
{
	const struct uart_regs *regs = state;
	int res = uart_check_regs(regs, err);
	if (res < 0)
		return res;
	assign_regs(container_of(device, struct uart, device), regs);
	return 0;
}

static void set_at_rest(struct uart *uart, bool at_rest)
{
	pthread_mutex_lock(&uart->lock);
	uart->at_rest = at_rest;
	send_waiting(uart);
	update_level(uart);
	pthread_mutex_unlock(&uart->lock);
}

/* What the guest has seen leave must not be lost with us; what it has not, stays in the transmit FIFO. */
static void uart_quiesce(struct device *device)
{
	struct uart *uart = container_of(device, struct uart, device);
	chardev_flush(uart->chardev);
	set_at_rest(uart, true);
}

static void uart_resume(struct device *device)
{
	struct uart *uart = container_of(device, struct uart, device);
	set_at_rest(uart, false);
	chardev_receive_ready(uart->chardev);
}

/* ---- life ---- */

static const void *uart_config(const struct machine_config *machine, size_t index)
{
	return index < machine->serial_count ? &machine->serial[index] : NULL;
}

static void uart_destroy(struct device *device)
{
	if (!device)
		return;
	struct uart *uart = container_of(device, struct uart, device);
	chardev_destroy(uart->chardev);
	pthread_mutex_destroy(&uart->lock);
	free(uart);
}

static int uart_create(const void *config, size_t index, const struct device_services *services,
		       struct device **ret, struct err *err)
{
	static const char *const names[ARRAY_LEN(layout_com)] = {"serial0", "serial1", "serial2", "serial3"};
	struct uart *uart = calloc(1, sizeof(*uart));
	if (!uart)
		return err_sys(err, -ENOMEM, "%s", names[index]);
	uart->device.class = &uart_class;
	uart->regs = uart_reset_regs;
	uart->line = (struct irq_line){
		.sink = services->irq, .gsi = layout_com[index].gsi, .source = (uint8_t)index};
	pthread_mutex_init(&uart->lock, NULL);
	const struct bus_range range = {.base = layout_com[index].port,
					.size = REG_COUNT,
					.ops = &uart_bus_ops,
					.owner = uart,
					.name = names[index]};
	int res = chardev_create(config, services->loop, &services->keys, services->incoming, &uart->chardev,
				 err);
	if (res == 0)
		res = bus_add(services->bus, BUS_PIO, &range, err);
	if (res < 0) {
		uart_destroy(&uart->device);
		return err_prepend(err, "%s", names[index]);
	}
	chardev_attach(uart->chardev, &uart_user, uart);
	if (chardev_peer(
		    uart->chardev)) /* a warning only in that it must be seen: nobody can guess the number */
		log_warn("%s: %s", names[index], chardev_peer(uart->chardev));
	*ret = &uart->device;
	return 0;
}

const struct device_class uart_class = {
	.name = "serial",
	.state = &uart_state,
	.config = uart_config,
	.create = uart_create,
	.destroy = uart_destroy,
	.reset = uart_reset,
	.save = uart_save,
	.restore = uart_restore,
	.quiesce = uart_quiesce,
	.resume = uart_resume,
};
