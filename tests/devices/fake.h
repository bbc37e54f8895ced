/*
 * What a device under test stands on: a real bus and a real loop, an interrupt sink that records, and a
 * machine that notes what was asked of it. `fake_init` in place, `fake_finish` when done; hand
 * `&fake.services` to the device.
 *
 *	struct fake fake;
 *	fake_init(&fake);
 *	ck_assert_int_eq(uart_class.create(&config, 0, &fake.services, &device, &fake.err), 0);
 *	fake_out(&fake, 0x3f8, 1, 'A');
 *	ck_assert(fake_irq_level(&fake, 4));
 */
#ifndef AERIE_TESTS_DEVICES_FAKE_H
#define AERIE_TESTS_DEVICES_FAKE_H

#include "base/cleanup.h"
#include "devices/device.h"

#include <check.h>
#include <pthread.h>
#include <string.h>

enum { FAKE_GSIS = 24 };

/* As the real sink: ORs the sources of a GSI. Any thread. */
struct fake_irq {
	struct irq_sink sink;
	pthread_mutex_t lock;
	uint32_t sources[FAKE_GSIS];
	unsigned rises[FAKE_GSIS]; /* how often the line went from low to high */
	unsigned calls;
};

struct fake {
	struct fake_irq irq;
	struct device_services services;
	struct err err;
	/* What devices asked of the machine, and the keys of its console: how often, and the last one. */
	unsigned requests;
	enum machine_request request;
	int exit_code;
	unsigned actions;
	enum console_action action;
};

static inline void fake_irq_set(struct irq_sink *sink, const struct irq_line *line, bool level)
{
	struct fake_irq *irq = container_of(sink, struct fake_irq, sink);
	ck_assert_uint_lt(line->gsi, FAKE_GSIS);
	ck_assert_uint_lt(line->source, IRQ_SOURCES_MAX);
	pthread_mutex_lock(&irq->lock);
	uint32_t before = irq->sources[line->gsi], bit = 1u << line->source;
	uint32_t after = level ? before | bit : before & ~bit;
	irq->sources[line->gsi] = after;
	irq->rises[line->gsi] += !before && after;
	irq->calls++;
	pthread_mutex_unlock(&irq->lock);
}

static inline void fake_request(void *owner, enum machine_request request, int exit_code)
{
	struct fake *fake = owner;
	fake->requests++;
	fake->request = request;
	fake->exit_code = exit_code;
}

static inline void fake_action(void *owner, enum console_action action)
{
	struct fake *fake = owner;
	fake->actions++;
	fake->action = action;
}

static inline void fake_init(struct fake *fake)
{
	memset(fake, 0, sizeof(*fake));
	pthread_mutex_init(&fake->irq.lock, NULL);
	fake->irq.sink.set = fake_irq_set;
	fake->services = (struct device_services){
		.irq = &fake->irq.sink,
		.request = fake_request,
		.request_owner = fake,
		.keys = {.action = fake_action, .owner = fake},
	};
	if (bus_create(&fake->services.bus, &fake->err) || loop_create(64, &fake->services.loop, &fake->err))
		ck_abort_msg("%s", fake->err.text);
}

/* The device must be destroyed before. */
static inline void fake_finish(struct fake *fake)
{
	loop_destroy(fake->services.loop);
	bus_destroy(fake->services.bus);
	pthread_mutex_destroy(&fake->irq.lock);
}

static inline bool fake_irq_level(struct fake *fake, uint32_t gsi)
{
	pthread_mutex_lock(&fake->irq.lock);
	bool level = fake->irq.sources[gsi] != 0;
	pthread_mutex_unlock(&fake->irq.lock);
	return level;
}

/* How often the line rose since the last question. */
static inline unsigned fake_irq_rises(struct fake *fake, uint32_t gsi)
{
	pthread_mutex_lock(&fake->irq.lock);
	unsigned rises = fake->irq.rises[gsi];
	fake->irq.rises[gsi] = 0;
	pthread_mutex_unlock(&fake->irq.lock);
	return rises;
}

/* Port accesses, as a guest makes them. */
static inline uint32_t fake_in(struct fake *fake, uint16_t port, unsigned size)
{
	uint8_t data[8] = {0};
	bus_read(fake->services.bus, BUS_PIO, port, data, size);
	return (uint32_t)data[0] | (uint32_t)data[1] << 8 | (uint32_t)data[2] << 16 | (uint32_t)data[3] << 24;
}

static inline void fake_out(struct fake *fake, uint16_t port, unsigned size, uint32_t value)
{
	uint8_t data[8] = {(uint8_t)value, (uint8_t)(value >> 8), (uint8_t)(value >> 16),
			   (uint8_t)(value >> 24)};
	bus_write(fake->services.bus, BUS_PIO, port, data, size);
}

struct fake_stop {
	struct loop_op op;
	struct loop *loop;
};

static inline void fake_stop_done(struct loop_op *op, int res)
{
	(void)res;
	loop_quit(container_of(op, struct fake_stop, op)->loop);
}

static inline void fake_run_once(struct fake *fake, unsigned ms)
{
	struct fake_stop stop = {.op.done = fake_stop_done, .loop = fake->services.loop};
	loop_delay(stop.loop, &stop.op, ms * 1000000ULL);
	ck_assert_int_eq(loop_run(stop.loop), 0);
}

/* Let the loop work for `ms` milliseconds on this thread; longer where a busy host took them for others. */
static inline void fake_run(struct fake *fake, unsigned ms)
{
	uint64_t end_ns;
	do {
		end_ns = loop_now_ns() + ms * 1000000ULL;
		fake_run_once(fake, ms);
		ms = ms < 20 ? ms : 20;
	} while (loop_now_ns() > end_ns + 2000000);
}

#endif
