/*
 * Interrupt lines. A device holds an `irq_line` and sets its level; who listens (KVM's in-kernel chips, or a
 * recorder in a test) is behind the sink.
 */
#ifndef AERIE_IRQ_IRQ_H
#define AERIE_IRQ_IRQ_H

#include <stdbool.h>
#include <stdint.h>

struct irq_sink {
	/* Any thread. The level of `gsi` as this sink's devices drive it. Never fails for the caller. */
	void (*set)(struct irq_sink *sink, uint32_t gsi, bool level);
};

struct irq_line {
	struct irq_sink *sink;
	uint32_t gsi;
};

static inline void irq_line_set(const struct irq_line *line, bool level)
{
	line->sink->set(line->sink, line->gsi, level);
}

#endif
