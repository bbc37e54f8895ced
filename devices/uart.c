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

#include <pthread.h>
#include <string.h>

/* Registers by offset (table II). */
enum {
	REG_DATA = 0, /* RBR, THR; DLL with DLAB */
	REG_IER = 1,  /* DLM with DLAB */
	REG_IIR = 2,  /* read */
	REG_FCR = 2,  /* write */
	REG_LCR = 3,
	REG_MCR = 4,
	REG_LSR = 5,
	REG_MSR = 6,
	REG_SCR = 7,
	REG_COUNT = 8,
};

enum { IER_RX = 0x01, IER_THRE = 0x02, IER_LINE = 0x04, IER_MODEM = 0x08, IER_MASK = 0x0f };

/* 8.3, table IV; the highest priority first. */
enum {
	IIR_LINE = 0x06,
	IIR_RX = 0x04,
	IIR_TIMEOUT = 0x0c,
	IIR_THRE = 0x02,
	IIR_MODEM = 0x00,
	IIR_NONE = 0x01
};
enum { IIR_FIFOS = 0xc0 };

enum { FCR_ENABLE = 0x01, FCR_CLEAR_RX = 0x02, FCR_CLEAR_TX = 0x04, FCR_DMA = 0x08, FCR_TRIGGER_SHIFT = 6 };
enum { FCR_KEPT = 0xc9 };

enum { LCR_DLAB = 0x80 };

enum { MCR_DTR = 0x01, MCR_RTS = 0x02, MCR_OUT1 = 0x04, MCR_OUT2 = 0x08, MCR_LOOP = 0x10, MCR_MASK = 0x1f };

enum {
	LSR_DR = 0x01,
	LSR_OE = 0x02,
	LSR_PE = 0x04,
	LSR_FE = 0x08,
	LSR_BI = 0x10,
	LSR_THRE = 0x20,
	LSR_TEMT = 0x40
};
enum {
	LSR_FIFO_ERROR = 0x80,
	LSR_CHAR_ERRORS = LSR_PE | LSR_FE | LSR_BI,
	LSR_ERRORS = LSR_OE | LSR_CHAR_ERRORS
};

enum { MSR_DCTS = 0x01, MSR_DDSR = 0x02, MSR_TERI = 0x04, MSR_DDCD = 0x08, MSR_DELTAS = 0x0f };
enum { MSR_CTS = 0x10, MSR_DSR = 0x20, MSR_RI = 0x40, MSR_DCD = 0x80, MSR_LEVELS = 0xf0 };
enum { MSR_CONNECTED = MSR_CTS | MSR_DSR | MSR_DCD };

enum { FIFO_BYTES = 16 };

struct uart_regs {
	uint8_t dll, dlm; /* the divisor is kept and has no effect */
	uint8_t ier, fcr, lcr, mcr, msr, scr;
	uint8_t lsr; /* LSR_ERRORS only; the other bits follow from the FIFOs */
	uint8_t rx_count, tx_count;
	uint8_t rx[FIFO_BYTES];	       /* rx[0] is the oldest; without FIFO_ENABLE only that one is used */
	uint8_t rx_errors[FIFO_BYTES]; /* LSR_CHAR_ERRORS of each */
	uint8_t tx[FIFO_BYTES];	       /* what the host has not taken yet */
	bool thre_interrupt;	       /* THR became empty and nobody has been told */
};

static const struct uart_regs uart_reset_regs = {.msr = MSR_CONNECTED};

static const struct state_field uart_fields[] = {
	STATE_FIELD(struct uart_regs, dll),
	STATE_FIELD(struct uart_regs, dlm),
	STATE_FIELD(struct uart_regs, ier),
	STATE_FIELD(struct uart_regs, fcr),
	STATE_FIELD(struct uart_regs, lcr),
	STATE_FIELD(struct uart_regs, mcr),
	STATE_FIELD(struct uart_regs, msr),
	STATE_FIELD(struct uart_regs, scr),
	STATE_FIELD(struct uart_regs, lsr),
	STATE_FIELD(struct uart_regs, rx_count),
	STATE_FIELD(struct uart_regs, tx_count),
	STATE_ARRAY(struct uart_regs, rx),
	STATE_ARRAY(struct uart_regs, rx_errors),
	STATE_ARRAY(struct uart_regs, tx),
	STATE_FIELD(struct uart_regs, thre_interrupt),
};

static const struct state_table uart_state = STATE_TABLE("uart", struct uart_regs, uart_fields);

struct uart {
	struct device device;
	struct chardev *chardev;
	struct irq_line line;
	pthread_mutex_t lock; /* of what follows */
	struct uart_regs regs;
	bool level; /* of our interrupt, as the sink knows it */
};

/* ---- interrupts ---- */

static uint8_t capacity(const struct uart_regs *regs)
{
	return regs->fcr & FCR_ENABLE ? FIFO_BYTES : 1;
}

static uint8_t trigger(const struct uart_regs *regs)
{
	static const uint8_t levels[] = {1, 4, 8, 14};
	return regs->fcr & FCR_ENABLE ? levels[regs->fcr >> FCR_TRIGGER_SHIFT] : 1;
}

/* The interrupt of highest priority that is enabled and due (8.3). */
static uint8_t identify(const struct uart_regs *regs)
{
	if ((regs->ier & IER_LINE) && (regs->lsr & LSR_ERRORS))
		return IIR_LINE;
	if ((regs->ier & IER_RX) && regs->rx_count >= trigger(regs))
		return IIR_RX;
	if ((regs->ier & IER_RX) && regs->rx_count > 0)
		return IIR_TIMEOUT;
	if ((regs->ier & IER_THRE) && regs->thre_interrupt)
		return IIR_THRE;
	if ((regs->ier & IER_MODEM) && (regs->msr & MSR_DELTAS))
		return IIR_MODEM;
	return IIR_NONE;
}

static void set_level(struct uart *uart, bool level)
{
	if (level != uart->level)
		irq_line_set(&uart->line, level);
	uart->level = level;
}

/* On a PC, OUT2 connects the interrupt pin to the bus. */
static void update_level(struct uart *uart)
{
	set_level(uart, (uart->regs.mcr & MCR_OUT2) && identify(&uart->regs) != IIR_NONE);
}

/* The condition that the guest is being told ends here; update_level raises the line anew if it comes back.
 */
static void end_interrupt(struct uart *uart, uint8_t id)
{
	if (identify(&uart->regs) == id)
		set_level(uart, false);
}

/* ---- receiver ---- */

/* The errors of a character show when it becomes the oldest (8.5, bits 2 to 4). */
static void reveal_errors(struct uart_regs *regs)
{
	if (regs->rx_count)
		regs->lsr |= regs->rx_errors[0];
}

static void push_rx(struct uart_regs *regs, uint8_t byte, uint8_t errors)
{
	if (regs->rx_count == capacity(regs)) {
		regs->lsr |= LSR_OE;
		if (regs->fcr & FCR_ENABLE)
			return;	    /* what is in the FIFO is safe, the newcomer is lost */
		regs->rx_count = 0; /* without FIFO the newcomer overwrites */
	}
	regs->rx[regs->rx_count] = byte;
	regs->rx_errors[regs->rx_count] = errors;
	regs->rx_count++;
	reveal_errors(regs);
}

static uint8_t pop_rx(struct uart_regs *regs)
{
	if (regs->rx_count == 0)
		return 0;
	uint8_t byte = regs->rx[0];
	regs->rx_count--;
	memmove(regs->rx, regs->rx + 1, FIFO_BYTES - 1);
	memmove(regs->rx_errors, regs->rx_errors + 1, FIFO_BYTES - 1);
	reveal_errors(regs);
	return byte;
}

static uint8_t line_status(const struct uart_regs *regs)
{
	uint8_t status = regs->lsr;
	if (regs->rx_count)
		status |= LSR_DR;
	if (regs->tx_count == 0)
		status |= LSR_THRE | LSR_TEMT;
	for (unsigned i = 0; i < regs->rx_count && (regs->fcr & FCR_ENABLE); i++) {
		if (regs->rx_errors[i])
			status |= LSR_FIFO_ERROR;
	}
	return status;
}

/* ---- transmitter ---- */

static void send_waiting(struct uart *uart)
{
	struct uart_regs *regs = &uart->regs;
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
		push_rx(regs, byte, 0);
		regs->thre_interrupt = true;
		return;
	}
	if (regs->tx_count == capacity(regs))
		return; /* the guest did not look at THRE */
	regs->tx[regs->tx_count++] = byte;
	if (regs->tx_count == 1) /* else the host is known to be slow, and tells us */
		send_waiting(uart);
}

/* ---- control ---- */

static void write_ier(struct uart_regs *regs, uint8_t value)
{
	uint8_t changed = regs->ier ^ value;
	regs->ier = value & IER_MASK;
	/* Enabling the interrupt while THR is empty raises it (8.6, bit 1); Linux probes for this. */
	if (changed & IER_THRE)
		regs->thre_interrupt = (value & IER_THRE) && regs->tx_count == 0;
}

/* 8.2 */
static void write_fcr(struct uart_regs *regs, uint8_t value)
{
	if ((value ^ regs->fcr) & FCR_ENABLE)
		value |= FCR_CLEAR_RX | FCR_CLEAR_TX;
	else if (!(value & FCR_ENABLE))
		return; /* the other bits are not programmed without bit 0 */
	if (value & FCR_CLEAR_RX)
		regs->rx_count = 0;
	if ((value & FCR_CLEAR_TX) && regs->tx_count) {
		regs->tx_count = 0;
		regs->thre_interrupt = true;
	}
	regs->fcr = value & FCR_KEPT;
}

/* 8.7 and 8.8: in loop-back the modem inputs are our own outputs. A change of an input sets its delta bit. */
static void write_mcr(struct uart_regs *regs, uint8_t value)
{
	uint8_t levels = MSR_CONNECTED;
	if (value & MCR_LOOP)
		levels = (uint8_t)((value & MCR_RTS ? MSR_CTS : 0) | (value & MCR_DTR ? MSR_DSR : 0) |
				   (value & MCR_OUT1 ? MSR_RI : 0) | (value & MCR_OUT2 ? MSR_DCD : 0));
	uint8_t changed = (regs->msr ^ levels) & MSR_LEVELS;
	if (levels & MSR_RI)
		changed &= (uint8_t)~MSR_RI; /* only the trailing edge counts */
	regs->mcr = value & MCR_MASK;
	regs->msr = (uint8_t)(levels | (regs->msr & MSR_DELTAS) | changed >> 4);
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
		return pop_rx(regs);
	case REG_IER:
		return dlab ? regs->dlm : regs->ier;
	case REG_IIR:
		value = identify(regs);
		if (value == IIR_THRE)
			regs->thre_interrupt = false;
		return value | (regs->fcr & FCR_ENABLE ? IIR_FIFOS : 0);
	case REG_LCR:
		return regs->lcr;
	case REG_MCR:
		return regs->mcr;
	case REG_LSR:
		value = line_status(regs);
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
			write_ier(regs, value);
		break;
	case REG_FCR:
		write_fcr(regs, value);
		break;
	case REG_LCR:
		regs->lcr = value;
		break;
	case REG_MCR:
		write_mcr(regs, value);
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

/* In loop-back the receiver does not listen to the wire; what comes waits in the character device. */
static size_t uart_room(void *owner)
{
	struct uart *uart = owner;
	pthread_mutex_lock(&uart->lock);
	const struct uart_regs *regs = &uart->regs;
	size_t room = regs->mcr & MCR_LOOP ? 0 : (size_t)(capacity(regs) - regs->rx_count);
	pthread_mutex_unlock(&uart->lock);
	return room;
}

static void uart_receive(void *owner, const uint8_t *data, size_t len)
{
	struct uart *uart = owner;
	pthread_mutex_lock(&uart->lock);
	for (size_t i = 0; i < len; i++)
		push_rx(&uart->regs, data[i], 0);
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
	push_rx(&uart->regs, 0, LSR_BI);
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
	if (uart->regs.tx_count)
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

static int check(const char *name, unsigned value, unsigned allowed, struct err *err)
{
	if (value & ~allowed)
		return err_set(err, -EINVAL, "%s: 0x%x has bits that a 16550 cannot hold (0x%x)", name, value,
			       allowed);
	return 0;
}

static int check_count(const char *name, unsigned value, unsigned most, struct err *err)
{
	if (value > most)
		return err_set(err, -EINVAL, "%s: %u is more than the FIFO holds (%u)", name, value, most);
	return 0;
}

static int uart_restore(struct device *device, const void *state, struct err *err)
{
	const struct uart_regs *regs = state;
	if (check("ier", regs->ier, IER_MASK, err) || check("fcr", regs->fcr, FCR_KEPT, err) ||
	    check("mcr", regs->mcr, MCR_MASK, err) || check("lsr", regs->lsr, LSR_ERRORS, err) ||
	    check_count("rx-count", regs->rx_count, capacity(regs), err) ||
	    check_count("tx-count", regs->tx_count, capacity(regs), err))
		return err->code;
	for (unsigned i = 0; i < FIFO_BYTES; i++) {
		if (check("rx-errors", regs->rx_errors[i], LSR_CHAR_ERRORS, err))
			return err->code;
	}
	assign_regs(container_of(device, struct uart, device), regs);
	return 0;
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
	int res = chardev_create(config, services->loop, &services->keys, &uart->chardev, err);
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
};
