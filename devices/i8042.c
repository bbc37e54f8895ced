/*
 * The keyboard controller (Intel 8042; IBM PS/2 Hardware Interface Technical Reference, "Keyboard and
 * Auxiliary Device Controller"), with nothing plugged in: guests use it to reset the machine, and probe it.
 *
 *	0x60	data: a byte for the keyboard or for the pending command; reads take the output buffer
 *	0x64	status / command
 *
 * A byte for the keyboard is answered at once as the controller answers when nobody does: 0xfe, with the
 * time-out bit. There is no auxiliary port: its loop-back answers through the keyboard's side and its test
 * fails, which Linux's i8042_check_aux takes as "none". Every probe has an answer, because Linux waits half a
 * second for each one that has not.
 */
#include "base/cleanup.h"
#include "base/layout.h"
#include "devices.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

enum {
	STATUS_OUTPUT_FULL = 0x01,
	STATUS_SYSTEM = 0x04,	  /* the self test has passed */
	STATUS_COMMAND = 0x08,	  /* the last write was to 0x64 */
	STATUS_NOT_LOCKED = 0x10, /* nobody turned the key of the keyboard lock */
	STATUS_TIMEOUT = 0x40,
	STATUS_BITS =
		STATUS_OUTPUT_FULL | STATUS_SYSTEM | STATUS_COMMAND | STATUS_NOT_LOCKED | STATUS_TIMEOUT,

	CONTROL_IRQ = 0x01, /* interrupt when the output buffer fills */
	CONTROL_AUX_IRQ = 0x02,
	CONTROL_SYSTEM = 0x04, /* shown as STATUS_SYSTEM */
	CONTROL_KEYBOARD_OFF = 0x10,
	CONTROL_AUX_OFF = 0x20,
	CONTROL_TRANSLATE = 0x40,

	OUTPUT_PORT_NOT_RESET = 0x01,
	OUTPUT_PORT_A20 = 0x02,
	OUTPUT_PORT_IRQ = 0x10, /* follows the interrupt line */
	OUTPUT_PORT_CLOCK = 0x40,
	OUTPUT_PORT_DATA = 0x80,
};

enum i8042_command {
	COMMAND_NONE = 0,
	COMMAND_READ_CONTROL = 0x20,
	COMMAND_WRITE_CONTROL = 0x60,
	COMMAND_TEST_AUX = 0xa9,
	COMMAND_SELF_TEST = 0xaa,
	COMMAND_TEST_KEYBOARD = 0xab,
	COMMAND_KEYBOARD_OFF = 0xad,
	COMMAND_KEYBOARD_ON = 0xae,
	COMMAND_READ_INPUT_PORT = 0xc0,
	COMMAND_READ_OUTPUT_PORT = 0xd0,
	COMMAND_WRITE_OUTPUT_PORT = 0xd1,
	COMMAND_LOOP_KEYBOARD = 0xd2,
	COMMAND_LOOP_AUX = 0xd3,
	COMMAND_WRITE_AUX = 0xd4,
	COMMAND_READ_TEST_INPUTS = 0xe0,
	COMMAND_PULSE = 0xf0, /* to 0xff: bits that are 0 pulse the output port's low four; bit 0 resets */
};

enum {
	ANSWER_NOBODY = 0xfe,
	ANSWER_SELF_TEST_PASSED = 0x55,
	ANSWER_PORT_GOOD = 0x00,
	ANSWER_CLOCK_STUCK_LOW = 0x01,
	INPUT_PORT_NOT_LOCKED = 0x80,
};

struct i8042_regs {
	uint8_t status;
	uint8_t control; /* the command byte */
	uint8_t output;	 /* what 0x60 reads */
	uint8_t output_port;
	uint8_t command; /* waits for its data byte; 0: none */
};

/* As a BIOS leaves it after its tests. */
static const struct i8042_regs i8042_image = {
	.status = STATUS_SYSTEM | STATUS_NOT_LOCKED,
	.control = CONTROL_IRQ | CONTROL_SYSTEM | CONTROL_AUX_OFF | CONTROL_TRANSLATE,
	.output_port = OUTPUT_PORT_NOT_RESET | OUTPUT_PORT_A20,
};

static const struct state_field i8042_fields[] = {
	STATE_FIELD(struct i8042_regs, status),	 STATE_FIELD(struct i8042_regs, control),
	STATE_FIELD(struct i8042_regs, output),	 STATE_FIELD(struct i8042_regs, output_port),
	STATE_FIELD(struct i8042_regs, command),
};
static const struct state_table i8042_state = STATE_TABLE("i8042", struct i8042_regs, i8042_fields);

struct i8042 {
	struct device base;
	struct device_services services;
	struct irq_line irq;
	pthread_mutex_t lock;
	struct i8042_regs regs; /* under lock, as all below that take struct i8042 */
};

static void i8042_update_irq(struct i8042 *i8042)
{
	const struct i8042_regs *regs = &i8042->regs;
	irq_line_set(&i8042->irq, regs->status & STATUS_OUTPUT_FULL && regs->control & CONTROL_IRQ);
}

/* The output buffer holds one byte: an answer that nobody fetched is lost. */
static void i8042_answer(struct i8042 *i8042, uint8_t byte, uint8_t status)
{
	struct i8042_regs *regs = &i8042->regs;
	regs->output = byte;
	regs->status = (uint8_t)((regs->status & ~STATUS_TIMEOUT) | STATUS_OUTPUT_FULL | status);
}

static void i8042_set_control(struct i8042 *i8042, uint8_t control)
{
	struct i8042_regs *regs = &i8042->regs;
	/* The auxiliary port stays off, however often it is enabled: that is how a guest sees that it has
	 * none. */
	regs->control = (uint8_t)((control & ~CONTROL_AUX_IRQ) | CONTROL_AUX_OFF);
	regs->status = (uint8_t)((regs->status & ~STATUS_SYSTEM) | (control & CONTROL_SYSTEM));
}

static uint8_t i8042_output_port(const struct i8042 *i8042)
{
	const struct i8042_regs *regs = &i8042->regs;
	uint8_t port = regs->output_port | OUTPUT_PORT_CLOCK | OUTPUT_PORT_DATA;
	return regs->status & STATUS_OUTPUT_FULL ? port | OUTPUT_PORT_IRQ : port;
}

/* Returns true when it resets the machine. Unknown commands do nothing, as the real one's. */
static bool i8042_command(struct i8042 *i8042, uint8_t command)
{
	struct i8042_regs *regs = &i8042->regs;
	regs->status |= STATUS_COMMAND;
	regs->command = COMMAND_NONE;
	if (command >= COMMAND_PULSE)
		return !(command & OUTPUT_PORT_NOT_RESET);
	switch (command) {
	case COMMAND_READ_CONTROL:
		i8042_answer(i8042, regs->control, 0);
		break;
	case COMMAND_TEST_AUX:
		i8042_answer(i8042, ANSWER_CLOCK_STUCK_LOW, 0);
		break;
	case COMMAND_SELF_TEST:
		regs->status |= STATUS_SYSTEM;
		i8042_answer(i8042, ANSWER_SELF_TEST_PASSED, 0);
		break;
	case COMMAND_TEST_KEYBOARD:
		i8042_answer(i8042, ANSWER_PORT_GOOD, 0);
		break;
	case COMMAND_KEYBOARD_OFF:
		regs->control |= CONTROL_KEYBOARD_OFF;
		break;
	case COMMAND_KEYBOARD_ON:
		regs->control &= (uint8_t)~CONTROL_KEYBOARD_OFF;
		break;
	case COMMAND_READ_INPUT_PORT:
		i8042_answer(i8042, INPUT_PORT_NOT_LOCKED, 0);
		break;
	case COMMAND_READ_OUTPUT_PORT:
		i8042_answer(i8042, i8042_output_port(i8042), 0);
		break;
	case COMMAND_READ_TEST_INPUTS:
		i8042_answer(i8042, 0, 0);
		break;
	case COMMAND_WRITE_CONTROL:
	case COMMAND_WRITE_OUTPUT_PORT:
	case COMMAND_LOOP_KEYBOARD:
	case COMMAND_LOOP_AUX:
	case COMMAND_WRITE_AUX:
		regs->command = command;
		break;
	default:
		break;
	}
	return false;
}

/* A byte for the command that waits, or else for the keyboard. Returns true when it resets the machine. */
static bool i8042_data(struct i8042 *i8042, uint8_t byte)
{
	struct i8042_regs *regs = &i8042->regs;
	uint8_t command = regs->command;
	regs->command = COMMAND_NONE;
	regs->status &= (uint8_t)~STATUS_COMMAND;
	switch (command) {
	case COMMAND_WRITE_CONTROL:
		i8042_set_control(i8042, byte);
		return false;
	case COMMAND_WRITE_OUTPUT_PORT:
		regs->output_port = (byte & OUTPUT_PORT_A20) | OUTPUT_PORT_NOT_RESET;
		return !(byte & OUTPUT_PORT_NOT_RESET);
	case COMMAND_LOOP_KEYBOARD:
	case COMMAND_LOOP_AUX:
		i8042_answer(i8042, byte, 0);
		return false;
	case COMMAND_WRITE_AUX:
		i8042_answer(i8042, ANSWER_NOBODY, STATUS_TIMEOUT);
		return false;
	default:
		regs->control &= (uint8_t)~CONTROL_KEYBOARD_OFF; /* sending turns the keyboard's clock on */
		i8042_answer(i8042, ANSWER_NOBODY, STATUS_TIMEOUT);
		return false;
	}
}

static void i8042_write(struct i8042 *i8042, bool (*act)(struct i8042 *i8042, uint8_t byte), uint64_t value)
{
	pthread_mutex_lock(&i8042->lock);
	bool resets = act(i8042, (uint8_t)value);
	i8042_update_irq(i8042);
	pthread_mutex_unlock(&i8042->lock);
	if (resets)
		i8042->services.request(i8042->services.request_owner, MACHINE_RESET, 0);
}

static uint64_t i8042_data_read(void *owner, uint64_t offset, unsigned size)
{
	(void)offset, (void)size;
	struct i8042 *i8042 = owner;
	pthread_mutex_lock(&i8042->lock);
	i8042->regs.status &= (uint8_t) ~(STATUS_OUTPUT_FULL | STATUS_TIMEOUT);
	i8042_update_irq(i8042);
	uint8_t value = i8042->regs.output;
	pthread_mutex_unlock(&i8042->lock);
	return value;
}

static void i8042_data_write(void *owner, uint64_t offset, unsigned size, uint64_t value)
{
	(void)offset, (void)size;
	i8042_write(owner, i8042_data, value);
}

static const struct bus_ops i8042_data_ops = {
	.read = i8042_data_read,
	.write = i8042_data_write,
	.min_access_bytes = 1,
	.max_access_bytes = 1,
};

static uint64_t i8042_status_read(void *owner, uint64_t offset, unsigned size)
{
	(void)offset, (void)size;
	struct i8042 *i8042 = owner;
	pthread_mutex_lock(&i8042->lock);
	uint8_t value = i8042->regs.status;
	pthread_mutex_unlock(&i8042->lock);
	return value;
}

static void i8042_command_write(void *owner, uint64_t offset, unsigned size, uint64_t value)
{
	(void)offset, (void)size;
	i8042_write(owner, i8042_command, value);
}

static const struct bus_ops i8042_command_ops = {
	.read = i8042_status_read,
	.write = i8042_command_write,
	.min_access_bytes = 1,
	.max_access_bytes = 1,
};

static const void *i8042_config(const struct machine_config *machine, size_t index)
{
	return index == 0 ? machine : NULL; /* every PC has it; there is nothing to configure */
}

static void i8042_destroy(struct device *device)
{
	if (!device)
		return;
	struct i8042 *i8042 = container_of(device, struct i8042, base);
	pthread_mutex_destroy(&i8042->lock);
	free(i8042);
}

static int i8042_create(const void *config, size_t index, const struct device_services *services,
			struct device **ret, struct err *err)
{
	(void)config, (void)index;
	struct i8042 *i8042 = calloc(1, sizeof(*i8042));
	if (!i8042)
		return err_sys(err, -ENOMEM, "keyboard controller");
	i8042->base.class = &i8042_class;
	i8042->services = *services;
	i8042->irq = (struct irq_line){.sink = services->irq, .gsi = LAYOUT_GSI_I8042};
	i8042->regs = i8042_image;
	pthread_mutex_init(&i8042->lock, NULL);

	const struct bus_range ranges[] = {
		{LAYOUT_PORT_I8042_DATA, 1, &i8042_data_ops, i8042, "keyboard data"},
		{LAYOUT_PORT_I8042_STATUS, 1, &i8042_command_ops, i8042, "keyboard command"},
	};
	for (size_t i = 0; i < ARRAY_LEN(ranges); i++) {
		int r = bus_add(services->bus, BUS_PIO, &ranges[i], err);
		if (r < 0) {
			i8042_destroy(&i8042->base);
			return r;
		}
	}
	*ret = &i8042->base;
	return 0;
}

static void i8042_assign(struct i8042 *i8042, const struct i8042_regs *regs)
{
	pthread_mutex_lock(&i8042->lock);
	i8042->regs = *regs;
	i8042_update_irq(i8042);
	pthread_mutex_unlock(&i8042->lock);
}

static void i8042_reset(struct device *device)
{
	i8042_assign(container_of(device, struct i8042, base), &i8042_image);
}

static void i8042_save(struct device *device, void *regs)
{
	struct i8042 *i8042 = container_of(device, struct i8042, base);
	pthread_mutex_lock(&i8042->lock);
	*(struct i8042_regs *)regs = i8042->regs;
	pthread_mutex_unlock(&i8042->lock);
}

static int i8042_restore(struct device *device, const void *regs, struct err *err)
{
	const struct i8042_regs *saved = regs;
	if (saved->status & ~STATUS_BITS || !(saved->status & STATUS_NOT_LOCKED))
		return err_set(err, -EINVAL, "i8042: status %#x cannot be", saved->status);
	if ((saved->control & (CONTROL_AUX_IRQ | CONTROL_AUX_OFF)) != CONTROL_AUX_OFF)
		return err_set(err, -EINVAL, "i8042: control %#x enables a port that is not there",
			       saved->control);
	if ((saved->output_port | OUTPUT_PORT_A20) != (OUTPUT_PORT_NOT_RESET | OUTPUT_PORT_A20))
		return err_set(err, -EINVAL, "i8042: output-port %#x cannot be", saved->output_port);
	switch (saved->command) {
	case COMMAND_NONE:
	case COMMAND_WRITE_CONTROL:
	case COMMAND_WRITE_OUTPUT_PORT:
	case COMMAND_LOOP_KEYBOARD:
	case COMMAND_LOOP_AUX:
	case COMMAND_WRITE_AUX:
		break;
	default:
		return err_set(err, -EINVAL, "i8042: command %#x does not wait for data", saved->command);
	}
	i8042_assign(container_of(device, struct i8042, base), saved);
	return 0;
}

const struct device_class i8042_class = {
	.name = "i8042",
	.state = &i8042_state,
	.config = i8042_config,
	.create = i8042_create,
	.destroy = i8042_destroy,
	.reset = i8042_reset,
	.save = i8042_save,
	.restore = i8042_restore,
};
