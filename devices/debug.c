/*
 * Two ports by which test guests talk to their maker. Neither exists on a PC, so both are there only when the
 * config asks for them:
 *
 *	0xf4-0xf7	exit: writing v ends aerie with (v << 1) | 1, as QEMU's isa-debug-exit; reads 0
 *	0xe9		console: writing a byte prints it; reads 0xe9, so that a guest can find it (Bochs)
 *
 * An exit status has 8 bits (wait(2)): a guest that writes 0x80 or more will see its value wrapped. It is
 * always odd, hence never mistaken for success.
 */
#include "base/cleanup.h"
#include "base/layout.h"
#include "base/log.h"
#include "devices.h"

#include <errno.h>
#include <stdlib.h>

struct debug {
	struct device base;
	struct device_services services;
	struct chardev *console; /* owned; NULL when there is none */
	struct log_limit lost;
};

static uint64_t debug_exit_read(void *owner, uint64_t offset, unsigned size)
{
	(void)owner, (void)offset, (void)size;
	return 0;
}

static void debug_exit_write(void *owner, uint64_t offset, unsigned size, uint64_t value)
{
	(void)offset, (void)size;
	const struct debug *debug = owner;
	debug->services.request(debug->services.request_owner, MACHINE_EXIT, (int)((value << 1 | 1) & 0xff));
}

static const struct bus_ops debug_exit_ops = {
	.read = debug_exit_read,
	.write = debug_exit_write,
	.min_access_bytes = 1,
	.max_access_bytes = 4,
};

static uint64_t debug_console_read(void *owner, uint64_t offset, unsigned size)
{
	(void)owner, (void)offset, (void)size;
	return LAYOUT_PORT_DEBUG_CONSOLE;
}

/* The port has no way to say "busy": what the host cannot take is lost. */
static void debug_console_write(void *owner, uint64_t offset, unsigned size, uint64_t value)
{
	(void)offset, (void)size;
	struct debug *debug = owner;
	uint8_t byte = (uint8_t)value;
	if (chardev_write(debug->console, &byte, 1) == 0)
		log_guest(&debug->lost, "debug console: the reader is too slow, output is lost");
}

static const struct bus_ops debug_console_ops = {
	.read = debug_console_read,
	.write = debug_console_write,
	.min_access_bytes = 1,
	.max_access_bytes = 1,
};

static const void *debug_config(const struct machine_config *machine, size_t index)
{
	bool wanted = machine->debug.exit || machine->debug.has_console;
	return wanted && index == 0 ? &machine->debug : NULL;
}

static void debug_destroy(struct device *device)
{
	if (!device)
		return;
	struct debug *debug = container_of(device, struct debug, base);
	chardev_destroy(debug->console);
	free(debug);
}

static int debug_start(struct debug *debug, const struct debug_config *config, struct err *err)
{
	const struct device_services *services = &debug->services;
	if (config->exit) {
		const struct bus_range range = {LAYOUT_PORT_DEBUG_EXIT, 4, &debug_exit_ops, debug,
						"debug exit"};
		int r = bus_add(services->bus, BUS_PIO, &range, err);
		if (r < 0)
			return r;
	}
	if (config->has_console) {
		int r = chardev_create(&config->console, services->loop, &services->keys, services->incoming,
				       &debug->console, err);
		if (r < 0)
			return err_prepend(err, "debug.console");
		const struct bus_range range = {LAYOUT_PORT_DEBUG_CONSOLE, 1, &debug_console_ops, debug,
						"debug console"};
		return bus_add(services->bus, BUS_PIO, &range, err);
	}
	return 0;
}

static int debug_create(const void *config, size_t index, const struct device_services *services,
			struct device **ret, struct err *err)
{
	(void)index;
	struct debug *debug = calloc(1, sizeof(*debug));
	if (!debug)
		return err_sys(err, -ENOMEM, "debug ports");
	debug->base.class = &debug_class;
	debug->services = *services;
	int r = debug_start(debug, config, err);
	if (r < 0) {
		debug_destroy(&debug->base);
		return r;
	}
	*ret = &debug->base;
	return 0;
}

/* Every access acts at once and leaves nothing behind: there is no state. */
static const struct state_table debug_state = {.name = "debug"};

static void debug_reset(struct device *device)
{
	(void)device;
}

static void debug_save(struct device *device, void *regs)
{
	(void)device, (void)regs;
}

static int debug_restore(struct device *device, const void *regs, struct err *err)
{
	(void)device, (void)regs, (void)err;
	return 0;
}

static void debug_quiesce(struct device *device)
{
	struct debug *debug = container_of(device, struct debug, base);
	if (debug->console)
		chardev_flush(debug->console);
}

const struct device_class debug_class = {
	.name = "debug",
	.state = &debug_state,
	.config = debug_config,
	.create = debug_create,
	.destroy = debug_destroy,
	.reset = debug_reset,
	.save = debug_save,
	.restore = debug_restore,
	.quiesce = debug_quiesce,
};
