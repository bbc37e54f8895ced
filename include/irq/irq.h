/*
 * Interrupt lines. A device holds an `irq_line` and sets its level; who listens (KVM's in-kernel chips, or a
 * recorder in a test) is behind the sink. Several devices may share a GSI (COM1 and COM3 do): the sink drives
 * it high as long as any of them does, so each line carries the number of its source.
 */
#ifndef AERIE_IRQ_IRQ_H
#define AERIE_IRQ_IRQ_H

#include <stdbool.h>
#include <stdint.h>

enum { IRQ_SOURCES_MAX = 32 }; /* for one GSI */

struct irq_line;

struct irq_sink {
	/* Any thread. Never fails for the caller. */
	void (*set)(struct irq_sink *sink, const struct irq_line *line, bool level);
};

struct irq_line {
	struct irq_sink *sink;
	uint32_t gsi;
	uint8_t source; /* unique among the lines of one GSI, below IRQ_SOURCES_MAX */
};

static inline void irq_line_set(const struct irq_line *line, bool level)
{
	line->sink->set(line->sink, line, level);
}

#endif
