#include "uart_regs.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

const struct uart_regs uart_reset_regs = {.msr = MSR_CONNECTED};

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

const struct state_table uart_state = STATE_TABLE("uart", struct uart_regs, uart_fields);

uint8_t uart_capacity(const struct uart_regs *regs)
{
	return regs->fcr & FCR_ENABLE ? FIFO_BYTES : 1;
}

static uint8_t trigger(const struct uart_regs *regs)
{
	static const uint8_t levels[] = {1, 4, 8, 14};
	return regs->fcr & FCR_ENABLE ? levels[regs->fcr >> FCR_TRIGGER_SHIFT] : 1;
}

/* The interrupt of highest priority that is enabled and due (8.3). */
uint8_t uart_identify(const struct uart_regs *regs)
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

/* The errors of a character show when it becomes the oldest (8.5, bits 2 to 4). */
static void reveal_errors(struct uart_regs *regs)
{
	if (regs->rx_count)
		regs->lsr |= regs->rx_errors[0];
}

void uart_push_rx(struct uart_regs *regs, uint8_t byte, uint8_t errors)
{
	if (regs->rx_count == uart_capacity(regs)) {
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

uint8_t uart_pop_rx(struct uart_regs *regs)
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

uint8_t uart_line_status(const struct uart_regs *regs)
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

void uart_write_ier(struct uart_regs *regs, uint8_t value)
{
	uint8_t changed = regs->ier ^ value;
	regs->ier = value & IER_MASK;
	/* Enabling the interrupt while THR is empty raises it (8.6, bit 1); Linux probes for this. */
	if (changed & IER_THRE)
		regs->thre_interrupt = (value & IER_THRE) && regs->tx_count == 0;
}

/* 8.2 */
void uart_write_fcr(struct uart_regs *regs, uint8_t value)
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
void uart_write_mcr(struct uart_regs *regs, uint8_t value)
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

int uart_check_regs(const struct uart_regs *regs, struct err *err)
{
	if (check("ier", regs->ier, IER_MASK, err) || check("fcr", regs->fcr, FCR_KEPT, err) ||
	    check("mcr", regs->mcr, MCR_MASK, err) || check("lsr", regs->lsr, LSR_ERRORS, err) ||
	    check_count("rx-count", regs->rx_count, uart_capacity(regs), err) ||
	    check_count("tx-count", regs->tx_count, uart_capacity(regs), err))
		return err->code;
	for (unsigned i = 0; i < FIFO_BYTES; i++) {
		if (check("rx-errors", regs->rx_errors[i], LSR_CHAR_ERRORS, err))
			return err->code;
	}
	return 0;
}
