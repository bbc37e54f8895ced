/*
 * The registers of a 16550A and what they say to each other: no bus, no thread, no wire. Sections and tables
 * are those of the PC16550D data sheet (National Semiconductor, June 1995).
 */
#ifndef AERIE_DEVICES_UART_REGS_H
#define AERIE_DEVICES_UART_REGS_H

#include "base/err.h"
#include "state/state.h"

#include <stdbool.h>
#include <stdint.h>

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

extern const struct uart_regs uart_reset_regs;
extern const struct state_table uart_state;

/* How many bytes each FIFO holds now: 16, or 1 when FIFOs are off. */
uint8_t uart_capacity(const struct uart_regs *regs);
/* The interrupt of highest priority that is enabled and due: IIR_LINE and so on (8.3). */
uint8_t uart_identify(const struct uart_regs *regs);
/* LSR as the guest reads it; reading has its own effects (8.5). */
uint8_t uart_line_status(const struct uart_regs *regs);

/* A character arrives, with LSR_CHAR_ERRORS of its own. Without room it is an overrun. */
void uart_push_rx(struct uart_regs *regs, uint8_t byte, uint8_t errors);
/* The oldest character; 0 when there is none. */
uint8_t uart_pop_rx(struct uart_regs *regs);

void uart_write_ier(struct uart_regs *regs, uint8_t value);
void uart_write_fcr(struct uart_regs *regs, uint8_t value);
void uart_write_mcr(struct uart_regs *regs, uint8_t value);

/* Could a 16550 be in this state? -EINVAL and a message that names the register when it could not. */
int uart_check_regs(const struct uart_regs *regs, struct err *err);

#endif
