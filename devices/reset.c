/*
 * The ports by which a PC is reset, and the one that shows how far its BIOS has come.
 *
 *	0xcf9	RST_CNT (Intel ICH9 datasheet, 13.7.5): bit 2 RST_CPU going from 0 to 1 resets; bit 1 SYS_RST
 *		makes it a hard reset instead of INIT, bit 3 FULL_RST adds a power cycle. Here all three kinds
 *		reset all of the machine: an INIT without its firmware would run into nothing.
 *	0x92	system control port A (ICH9, 13.7.2): bit 0 going from 0 to 1 is the fast reset; bit 1 is the
 *		A20 gate, remembered but without effect, since no CPU that can nest masks A20.
 *	0x80	POST codes: taken and forgotten. Linux writes here just to wait for a microsecond.
 */
#include "base/cleanup.h"
#include "base/layout.h"
#include "devices.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

enum {
	RST_CNT_SYS_RST = 0x02,
	RST_CNT_RST_CPU = 0x04,
	RST_CNT_FULL_RST = 0x08,
	RST_CNT_BITS = RST_CNT_SYS_RST | RST_CNT_RST_CPU | RST_CNT_FULL_RST,

	SYSTEM_A_FAST_RESET = 0x01,
	SYSTEM_A_A20 = 0x02,
	SYSTEM_A_BITS = SYSTEM_A_FAST_RESET | SYSTEM_A_A20,
};

struct reset_regs {
	uint8_t rst_cnt;
	uint8_t system_a;
};

static const struct reset_regs reset_image = {.system_a = SYSTEM_A_A20};

static const struct state_field reset_fields[] = {
	STATE_FIELD(struct reset_regs, rst_cnt),
	STATE_FIELD(struct reset_regs, system_a),
};
static const struct state_table reset_state = STATE_TABLE("reset", struct reset_regs, reset_fields);

struct reset {
	struct device base;
	struct device_services services;
	pthread_mutex_t lock;
	struct reset_regs regs; /* under lock */
};

/* Store the `allowed` bits; a reset is asked for when `trigger` goes from 0 to 1. */
static void reset_store(struct reset *reset, uint8_t *reg, uint8_t allowed, uint8_t trigger, uint64_t value)
{
	pthread_mutex_lock(&reset->lock);
	bool rises = value & trigger & ~*reg;
	*reg = (uint8_t)value & allowed;
	pthread_mutex_unlock(&reset->lock);
	if (rises)
		reset->services.request(reset->services.request_owner, MACHINE_RESET, 0);
}

static uint64_t reset_load(struct reset *reset, const uint8_t *reg)
{
	pthread_mutex_lock(&reset->lock);
	uint8_t value = *reg;
	pthread_mutex_unlock(&reset->lock);
	return value;
}

/*
 * RST_CNT is the second byte of the dword at 0xcf8, the PCI configuration address. Whoever probes for PCI
 * writes that dword, and its second byte often has bit 2 set. Chipsets tell the two apart by the size of the
 * access: dwords are for the host bridge, bytes are ours; words are claimed and answered as by nobody.
 */
enum { RST_CNT_DWORD = LAYOUT_PORT_RESET & ~3, RST_CNT_OFFSET = LAYOUT_PORT_RESET & 3 };

static uint64_t rst_cnt_read(void *owner, uint64_t offset, unsigned size)
{
	struct reset *reset = owner;
	return offset == RST_CNT_OFFSET && size == 1 ? reset_load(reset, &reset->regs.rst_cnt) : UINT64_MAX;
}

static void rst_cnt_write(void *owner, uint64_t offset, unsigned size, uint64_t value)
{
	struct reset *reset = owner;
	if (offset == RST_CNT_OFFSET && size == 1)
		reset_store(reset, &reset->regs.rst_cnt, RST_CNT_BITS, RST_CNT_RST_CPU, value);
}

static const struct bus_ops rst_cnt_ops = {
	.read = rst_cnt_read,
	.write = rst_cnt_write,
	.min_access_bytes = 1,
	.max_access_bytes = 2,
};

static uint64_t system_a_read(void *owner, uint64_t offset, unsigned size)
{
	(void)offset, (void)size;
	struct reset *reset = owner;
	return reset_load(reset, &reset->regs.system_a);
}

static void system_a_write(void *owner, uint64_t offset, unsigned size, uint64_t value)
{
	(void)offset, (void)size;
	struct reset *reset = owner;
	reset_store(reset, &reset->regs.system_a, SYSTEM_A_BITS, SYSTEM_A_FAST_RESET, value);
}

static const struct bus_ops system_a_ops = {
	.read = system_a_read,
	.write = system_a_write,
	.min_access_bytes = 1,
	.max_access_bytes = 1,
};

static uint64_t post_read(void *owner, uint64_t offset, unsigned size)
{
	(void)owner, (void)offset, (void)size;
	return UINT64_MAX;
}

static void post_write(void *owner, uint64_t offset, unsigned size, uint64_t value)
{
	(void)owner, (void)offset, (void)size, (void)value;
}

static const struct bus_ops post_ops = {
	.read = post_read,
	.write = post_write,
	.min_access_bytes = 1,
	.max_access_bytes = 1,
};

static const void *reset_config(const struct machine_config *machine, size_t index)
{
	return index == 0 ? machine : NULL; /* every PC has it; there is nothing to configure */
}

static void reset_destroy(struct device *device)
{
	if (!device)
		return;
	struct reset *reset = container_of(device, struct reset, base);
	pthread_mutex_destroy(&reset->lock);
	free(reset);
}

static int reset_create(const void *config, size_t index, const struct device_services *services,
			struct device **ret, struct err *err)
{
	(void)config, (void)index;
	struct reset *reset = calloc(1, sizeof(*reset));
	if (!reset)
		return err_sys(err, -ENOMEM, "reset ports");
	reset->base.class = &reset_class;
	reset->services = *services;
	reset->regs = reset_image;
	pthread_mutex_init(&reset->lock, NULL);

	const struct bus_range ranges[] = {
		{RST_CNT_DWORD, 4, &rst_cnt_ops, reset, "reset control"},
		{LAYOUT_PORT_SYSTEM_A, 1, &system_a_ops, reset, "system control A"},
		{LAYOUT_PORT_POST, 1, &post_ops, reset, "POST code"},
	};
	for (size_t i = 0; i < ARRAY_LEN(ranges); i++) {
		int r = bus_add(services->bus, BUS_PIO, &ranges[i], err);
		if (r < 0) {
			reset_destroy(&reset->base);
			return r;
		}
	}
	*ret = &reset->base;
	return 0;
}

static void reset_assign(struct reset *reset, const struct reset_regs *regs)
{
	pthread_mutex_lock(&reset->lock);
	reset->regs = *regs;
	pthread_mutex_unlock(&reset->lock);
}

static void reset_reset(struct device *device)
{
	reset_assign(container_of(device, struct reset, base), &reset_image);
}

static void reset_save(struct device *device, void *regs)
{
	struct reset *reset = container_of(device, struct reset, base);
	pthread_mutex_lock(&reset->lock);
	*(struct reset_regs *)regs = reset->regs;
	pthread_mutex_unlock(&reset->lock);
}

static int reset_restore(struct device *device, const void *regs, struct err *err)
{
	const struct reset_regs *saved = regs;
	if (saved->rst_cnt & ~RST_CNT_BITS)
		return err_set(err, -EINVAL, "reset: rst-cnt %#x has unknown bits", saved->rst_cnt);
	if (saved->system_a & ~SYSTEM_A_BITS)
		return err_set(err, -EINVAL, "reset: system-a %#x has unknown bits", saved->system_a);
	reset_assign(container_of(device, struct reset, base), saved);
	return 0;
}

const struct device_class reset_class = {
	.name = "reset",
	.state = &reset_state,
	.config = reset_config,
	.create = reset_create,
	.destroy = reset_destroy,
	.reset = reset_reset,
	.save = reset_save,
	.restore = reset_restore,
};
