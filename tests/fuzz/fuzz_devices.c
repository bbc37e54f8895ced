/*
 * All devices on one bus, as a guest with bad manners sees them. The input is a list of actions, each a byte
 * and what it needs: port accesses at and near the ports that exist, time, power button, reset, snapshots,
 * and restores of damaged state.
 *
 * Rules: a snapshot restored into new devices saves as the same snapshot; a restore that is refused changes
 * nothing; whatever a device has saved it takes back.
 */
#include "feed.h"
#include "fuzz.h"

#include "../devices/clock.h"
#include "base/cleanup.h"
#include "base/layout.h"
#include "base/log.h"
#include "devices/device.h"

#include <libfdt.h>
#include <string.h>

enum { DEVICES_MAX = 32, TREE_BYTES = 8192, ACTIONS_MAX = 4096 };

struct machine {
	struct bus *bus;
	struct irq_sink irq;
	struct loop *loop;
	struct device *devices[DEVICES_MAX];
	size_t count;
};

static void irq_set(struct irq_sink *sink, const struct irq_line *line, bool level)
{
	(void)level;
	FUZZ_CHECK(sink == line->sink && line->source < IRQ_SOURCES_MAX);
}

static void request(void *owner, enum machine_request request, int exit_code)
{
	(void)owner, (void)request;
	FUZZ_CHECK(exit_code >= 0 && exit_code <= 0xff);
}

static struct machine *machine_create(void)
{
	static const struct machine_config config = {
		.memory = {.size_bytes = 5 * GIB},
		.serial = {{CHARDEV_NULL, NULL}, {CHARDEV_NULL, NULL}, {CHARDEV_NULL, NULL}},
		.serial_count = 3,
		.debug = {.exit = true, .has_console = true, .console = {CHARDEV_NULL, NULL}},
	};
	struct err err = ERR_INIT;
	struct machine *machine = calloc(1, sizeof(*machine));
	FUZZ_CHECK(machine);
	machine->irq.set = irq_set;
	FUZZ_CHECK(bus_create(&machine->bus, &err) == 0 && loop_create(16, &machine->loop, &err) == 0);
	const struct device_services services = {
		.bus = machine->bus, .irq = &machine->irq, .loop = machine->loop, .request = request};
	for (size_t i = 0; device_registry[i]; i++) {
		const struct device_class *class = device_registry[i];
		const void *device_config;
		for (size_t n = 0; (device_config = class->config(&config, n)); n++) {
			FUZZ_CHECK(machine->count < DEVICES_MAX);
			struct device **device = &machine->devices[machine->count++];
			FUZZ_CHECK(class->create(device_config, n, &services, device, &err) == 0);
		}
	}
	return machine;
}

static void machine_destroy(struct machine *machine)
{
	while (machine->count > 0) {
		struct device *device = machine->devices[--machine->count];
		device->class->destroy(device);
	}
	loop_destroy(machine->loop);
	bus_destroy(machine->bus);
	free(machine);
}

/* Trees have no padding, so two of the same state are the same bytes. */
struct tree {
	_Alignas(8) uint8_t fdt[TREE_BYTES];
};

static void encode(const struct state_table *table, const void *regs, struct tree *tree)
{
	memset(tree, 0, sizeof(*tree));
	FUZZ_CHECK(fdt_create(tree->fdt, TREE_BYTES) == 0 && fdt_finish_reservemap(tree->fdt) == 0);
	FUZZ_CHECK(fdt_begin_node(tree->fdt, "") == 0 && state_encode(table, regs, tree->fdt) == 0);
	FUZZ_CHECK(fdt_end_node(tree->fdt) == 0 && fdt_finish(tree->fdt) == 0);
}

static void *save(struct device *device, struct tree *tree)
{
	const struct state_table *table = device->class->state;
	void *regs = calloc(1, table->size + 1);
	FUZZ_CHECK(regs);
	device->class->save(device, regs);
	encode(table, regs, tree);
	return regs;
}

static int restore(struct device *device, const struct tree *tree)
{
	struct err err = ERR_INIT;
	_cleanup_free_ void *regs = calloc(1, device->class->state->size + 1);
	FUZZ_CHECK(regs && state_decode(device->class->state, regs, tree->fdt, 0, &err) == 0);
	int r = device->class->restore(device, regs, &err);
	FUZZ_CHECK(r == err.code && (r == 0) == !err.text[0]);
	return r;
}

/* The guest goes on in a new machine. */
static struct machine *act_move(struct machine *machine)
{
	struct machine *moved = machine_create();
	for (size_t i = 0; i < machine->count; i++) {
		struct tree before, after;
		free(save(machine->devices[i], &before));
		FUZZ_CHECK(restore(moved->devices[i], &before) == 0);
		free(save(moved->devices[i], &after));
		FUZZ_CHECK(!memcmp(&before, &after, sizeof(before)));
	}
	machine_destroy(machine);
	return moved;
}

/* Some bytes of a saved struct overwritten, then restored. */
static void act_damage(struct machine *machine, struct feed *feed)
{
	struct device *device = machine->devices[take(feed, 1) % machine->count];
	const struct state_table *table = device->class->state;
	if (table->field_count == 0)
		return;
	const struct state_field *field = &table->fields[take(feed, 1) % table->field_count];
	struct tree before, damaged, after;
	_cleanup_free_ uint8_t *regs = save(device, &before);
	uint64_t value = take(feed, 4) | (uint64_t)take(feed, 4) << 32;
	static const size_t bytes[] = {
		[STATE_BOOL] = 1, [STATE_U8] = 1, [STATE_U16] = 2, [STATE_U32] = 4, [STATE_U64] = 8};
	size_t at = take(feed, 1) % field->count * bytes[field->type];
	value &= field->type == STATE_BOOL ? 1 : UINT64_MAX;
	memcpy(regs + field->offset + at, &value, bytes[field->type]);
	encode(table, regs, &damaged);
	int r = restore(device, &damaged);
	free(save(device, &after));
	FUZZ_CHECK(r == 0 || !memcmp(&before, &after, sizeof(before)));
	FUZZ_CHECK(r != 0 || restore(device, &after) == 0);
}

static void act_access(struct machine *machine, uint32_t how, struct feed *feed)
{
	static const uint16_t ports[] = {
		LAYOUT_PORT_I8042_DATA,
		LAYOUT_PORT_I8042_STATUS,
		LAYOUT_PORT_CMOS,
		LAYOUT_PORT_CMOS,
		LAYOUT_PORT_POST,
		LAYOUT_PORT_SYSTEM_A,
		LAYOUT_PORT_DEBUG_EXIT,
		LAYOUT_PORT_DEBUG_CONSOLE,
		LAYOUT_PORT_ACPI_PM1_EVT,
		LAYOUT_PORT_ACPI_PM1_EVT,
		LAYOUT_PORT_ACPI_PM1_CNT,
		LAYOUT_PORT_ACPI_PM_TMR,
		LAYOUT_PORT_RESET & ~3,
		0x3f8,
		0x2f8,
		0x3e8,
	};
	uint32_t where = take(feed, 1);
	uint64_t port = ports[where % ARRAY_LEN(ports)] + where / ARRAY_LEN(ports) % 8;
	unsigned size = 1U << (how & 3);
	uint8_t data[8] = {0};
	if (how & 4) {
		bus_read(machine->bus, BUS_PIO, port, data, size);
		return;
	}
	uint32_t value = take(feed, size < 4 ? size : 4);
	memcpy(data, &value, sizeof(value));
	bus_write(machine->bus, BUS_PIO, port, data, size);
}

static void act_on_all(struct machine *machine, bool reset)
{
	for (size_t i = 0; i < machine->count; i++) {
		struct device *device = machine->devices[i];
		if (reset)
			device->class->reset(device);
		else if (device->class->power_button)
			device->class->power_button(device);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct feed feed = {data, size};
	log_set_level(LOG_ERROR);
	clock_hold(1700000000);
	struct machine *machine = machine_create();
	for (unsigned i = 0; feed.size && i < ACTIONS_MAX; i++) {
		uint32_t action = take(&feed, 1);
		switch (action >> 3 & 7) {
		case 0:
			clock_advance_ns((int64_t)take(&feed, 1) << (action & 7) * 5);
			break;
		case 1:
			if (action & 7)
				act_damage(machine, &feed);
			else
				machine = act_move(machine);
			break;
		case 2:
			act_on_all(machine, (action & 7) == 0);
			break;
		default:
			act_access(machine, action & 7, &feed);
			break;
		}
	}
	machine_destroy(machine);
	clock_release();
	return 0;
}
