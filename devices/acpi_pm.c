/*
 * ACPI fixed hardware (ACPI specification 6.5, section 4.8.3): what a guest needs to power off, to hear the
 * power button and to tell the time before it knows a better clock.
 *
 *	0x600	PM1 status: events, a 1 written clears; 2 bytes
 *	0x602	PM1 enable: which of them raise the SCI; 2 bytes
 *	0x604	PM1 control; 2 bytes
 *	0x608	PM timer: 3.579545 MHz, 32 bits, read only; 4 bytes
 *
 * There is no SMI command port, so the machine is always in ACPI mode (SCI_EN is 1 and stays so). The
 * registers of the event and control blocks may be accessed by bytes and by words. The PM timer runs on the
 * host's CLOCK_MONOTONIC and goes on after a restore where it stood at the save. Its carry event costs
 * nothing until the guest enables it: the status bit is worked out when somebody looks.
 */
#include "base/cleanup.h"
#include "base/layout.h"
#include "base/log.h"
#include "devices.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

enum {
	PM1_TIMER = 0x0001,  /* status and enable: bit 31 of the timer changed */
	PM1_GLOBAL = 0x0020, /* the BIOS wants the lock: there is none, it never happens */
	PM1_POWER_BUTTON = 0x0100,
	PM1_SLEEP_BUTTON = 0x0200, /* not there, says the FADT; the enable bit is remembered */
	PM1_RTC = 0x0400,	   /* FIX_RTC in the FADT says that it is not here */
	PM1_STATUS_BITS = PM1_TIMER | PM1_POWER_BUTTON,
	PM1_ENABLE_BITS = PM1_TIMER | PM1_GLOBAL | PM1_POWER_BUTTON | PM1_SLEEP_BUTTON | PM1_RTC,

	CONTROL_SCI_EN = 0x0001,
	CONTROL_BM_RLD = 0x0002,
	CONTROL_SLP_TYP_SHIFT = 10,
	CONTROL_SLP_TYP = 7 << CONTROL_SLP_TYP_SHIFT,
	CONTROL_SLP_EN = 0x2000, /* write only */
	CONTROL_KEPT = CONTROL_BM_RLD | CONTROL_SLP_TYP,
};

#define TIMER_HZ	3579545U
#define TIMER_CARRY_BIT 31
#define NS_PER_SECOND	1000000000U

struct acpi_pm_regs {
	uint16_t status;
	uint16_t enable;
	uint16_t control;
	uint32_t timer; /* its value when the clock said base_ns */
};

static const struct acpi_pm_regs acpi_pm_image = {.control = CONTROL_SCI_EN};

static const struct state_field acpi_pm_fields[] = {
	STATE_FIELD(struct acpi_pm_regs, status),
	STATE_FIELD(struct acpi_pm_regs, enable),
	STATE_FIELD(struct acpi_pm_regs, control),
	STATE_FIELD(struct acpi_pm_regs, timer),
};
static const struct state_table acpi_pm_state = STATE_TABLE("acpi-pm", struct acpi_pm_regs, acpi_pm_fields);

struct acpi_pm {
	struct device base;
	struct device_services services;
	struct irq_line sci;
	struct loop_timer *carry_timer; /* owned; armed only while the guest waits for the carry event */

	pthread_mutex_t lock; /* for all below */
	struct acpi_pm_regs regs;
	uint64_t base_ns;      /* CLOCK_MONOTONIC at which the timer was regs.timer */
	uint64_t carries_seen; /* ticks >> TIMER_CARRY_BIT when somebody last looked */
	uint64_t armed_ns;     /* deadline of carry_timer, 0 when disarmed */
};

/* The timer without its wrap-around: 64 bits, of which the guest sees the low 32. */
static uint64_t acpi_pm_ticks(const struct acpi_pm *pm, uint64_t now_ns)
{
	unsigned __int128 elapsed = now_ns - pm->base_ns;
	return pm->regs.timer + (uint64_t)(elapsed * TIMER_HZ / NS_PER_SECOND);
}

/* The first instant at which acpi_pm_ticks is at least `ticks`. */
static uint64_t acpi_pm_tick_ns(const struct acpi_pm *pm, uint64_t ticks)
{
	unsigned __int128 elapsed = ticks - pm->regs.timer;
	return pm->base_ns + (uint64_t)((elapsed * NS_PER_SECOND + TIMER_HZ - 1) / TIMER_HZ);
}

static void acpi_pm_rebase(struct acpi_pm *pm, uint32_t timer, uint64_t now_ns)
{
	pm->regs.timer = timer;
	pm->base_ns = now_ns;
	pm->carries_seen = timer >> TIMER_CARRY_BIT;
}

/* Catch up with the clock, before anybody looks at the status or changes it. */
static void acpi_pm_catch_up(struct acpi_pm *pm, uint64_t now_ns)
{
	uint64_t carries = acpi_pm_ticks(pm, now_ns) >> TIMER_CARRY_BIT;
	if (carries != pm->carries_seen)
		pm->regs.status |= PM1_TIMER;
	pm->carries_seen = carries;
}

/* Make the SCI and the timer what the registers say. */
static void acpi_pm_update(struct acpi_pm *pm)
{
	const struct acpi_pm_regs *regs = &pm->regs;
	irq_line_set(&pm->sci, regs->status & regs->enable);

	bool waits = regs->enable & PM1_TIMER && !(regs->status & PM1_TIMER);
	uint64_t deadline = waits ? acpi_pm_tick_ns(pm, (pm->carries_seen + 1) << TIMER_CARRY_BIT) : 0;
	if (deadline != pm->armed_ns)
		loop_timer_arm(pm->carry_timer, deadline);
	pm->armed_ns = deadline;
}

static void acpi_pm_carry(void *owner)
{
	struct acpi_pm *pm = owner;
	pthread_mutex_lock(&pm->lock);
	pm->armed_ns = 0; /* it fires once */
	acpi_pm_catch_up(pm, loop_now_ns());
	acpi_pm_update(pm);
	pthread_mutex_unlock(&pm->lock);
}

/* The event block as one 32-bit word, status below enable, so that any access is a shift and a mask of it. */
static uint64_t acpi_pm_event_read(void *owner, uint64_t offset, unsigned size)
{
	(void)size;
	struct acpi_pm *pm = owner;
	pthread_mutex_lock(&pm->lock);
	acpi_pm_catch_up(pm, loop_now_ns());
	acpi_pm_update(pm);
	uint32_t block = pm->regs.status | (uint32_t)pm->regs.enable << 16;
	pthread_mutex_unlock(&pm->lock);
	return block >> (8 * offset);
}

static void acpi_pm_event_write(void *owner, uint64_t offset, unsigned size, uint64_t value)
{
	struct acpi_pm *pm = owner;
	uint32_t mask = (size == 1 ? 0xffU : 0xffffU) << (8 * offset);
	uint32_t bits = (uint32_t)value << (8 * offset) & mask;
	pthread_mutex_lock(&pm->lock);
	acpi_pm_catch_up(pm, loop_now_ns());
	pm->regs.status &= (uint16_t)~bits;
	uint16_t enable_mask = (uint16_t)(mask >> 16);
	pm->regs.enable = (uint16_t)((pm->regs.enable & ~enable_mask) | (bits >> 16 & PM1_ENABLE_BITS));
	acpi_pm_update(pm);
	pthread_mutex_unlock(&pm->lock);
}

static const struct bus_ops acpi_pm_event_ops = {
	.read = acpi_pm_event_read,
	.write = acpi_pm_event_write,
	.min_access_bytes = 1,
	.max_access_bytes = 2,
};

static uint64_t acpi_pm_control_read(void *owner, uint64_t offset, unsigned size)
{
	(void)size;
	struct acpi_pm *pm = owner;
	pthread_mutex_lock(&pm->lock);
	uint32_t control = pm->regs.control;
	pthread_mutex_unlock(&pm->lock);
	return control >> (8 * offset);
}

static void acpi_pm_control_write(void *owner, uint64_t offset, unsigned size, uint64_t value)
{
	struct acpi_pm *pm = owner;
	uint16_t mask = (uint16_t)((size == 1 ? 0xffU : 0xffffU) << (8 * offset));
	uint16_t bits = (uint16_t)(value << (8 * offset)) & mask;
	pthread_mutex_lock(&pm->lock);
	pm->regs.control = (uint16_t)((pm->regs.control & ~mask) | (bits & CONTROL_KEPT) | CONTROL_SCI_EN);
	int sleep_type = (pm->regs.control & CONTROL_SLP_TYP) >> CONTROL_SLP_TYP_SHIFT;
	pthread_mutex_unlock(&pm->lock);
	if (!(bits & CONTROL_SLP_EN))
		return;
	if (sleep_type == LAYOUT_SLEEP_TYPE_S5)
		pm->services.request(pm->services.request_owner, MACHINE_POWER_OFF, 0);
	else
		log_guest(&pm->base.counts.guest_errors,
			  "asked for sleep type %d, which its ACPI tables do not offer", sleep_type);
}

static const struct bus_ops acpi_pm_control_ops = {
	.read = acpi_pm_control_read,
	.write = acpi_pm_control_write,
	.min_access_bytes = 1,
	.max_access_bytes = 2,
};

static uint64_t acpi_pm_timer_read(void *owner, uint64_t offset, unsigned size)
{
	(void)size;
	struct acpi_pm *pm = owner;
	pthread_mutex_lock(&pm->lock);
	uint32_t ticks = (uint32_t)acpi_pm_ticks(pm, loop_now_ns());
	pthread_mutex_unlock(&pm->lock);
	return ticks >> (8 * offset);
}

static void acpi_pm_timer_write(void *owner, uint64_t offset, unsigned size, uint64_t value)
{
	(void)owner, (void)offset, (void)size, (void)value;
}

static const struct bus_ops acpi_pm_timer_ops = {
	.read = acpi_pm_timer_read,
	.write = acpi_pm_timer_write,
	.min_access_bytes = 1,
	.max_access_bytes = 4,
};

/* Section 4.8.3.1.1: pressing it sets the status; the operating system decides what it means. */
static void acpi_pm_power_button(struct device *device)
{
	struct acpi_pm *pm = container_of(device, struct acpi_pm, base);
	pthread_mutex_lock(&pm->lock);
	pm->regs.status |= PM1_POWER_BUTTON;
	acpi_pm_update(pm);
	pthread_mutex_unlock(&pm->lock);
}

static const void *acpi_pm_config(const struct machine_config *machine, size_t index)
{
	return index == 0 ? machine : NULL; /* every PC has it; there is nothing to configure */
}

static void acpi_pm_destroy(struct device *device)
{
	if (!device)
		return;
	struct acpi_pm *pm = container_of(device, struct acpi_pm, base);
	loop_timer_destroy(pm->carry_timer);
	pthread_mutex_destroy(&pm->lock);
	free(pm);
}

static int acpi_pm_start(struct acpi_pm *pm, struct err *err)
{
	int r = loop_timer_create(pm->services.loop, acpi_pm_carry, pm, &pm->carry_timer, err);
	if (r < 0)
		return err_prepend(err, "ACPI PM timer");
	const struct bus_range ranges[] = {
		{LAYOUT_PORT_ACPI_PM1_EVT, 4, &acpi_pm_event_ops, pm, "ACPI PM1 event"},
		{LAYOUT_PORT_ACPI_PM1_CNT, 2, &acpi_pm_control_ops, pm, "ACPI PM1 control"},
		{LAYOUT_PORT_ACPI_PM_TMR, 4, &acpi_pm_timer_ops, pm, "ACPI PM timer"},
	};
	for (size_t i = 0; i < ARRAY_LEN(ranges); i++) {
		r = bus_add(pm->services.bus, BUS_PIO, &ranges[i], err);
		if (r < 0)
			return r;
	}
	return 0;
}

static void acpi_pm_assign(struct acpi_pm *pm, const struct acpi_pm_regs *regs)
{
	pthread_mutex_lock(&pm->lock);
	pm->regs = *regs;
	acpi_pm_rebase(pm, regs->timer, loop_now_ns());
	acpi_pm_update(pm);
	pthread_mutex_unlock(&pm->lock);
}

static int acpi_pm_create(const void *config, size_t index, const struct device_services *services,
			  struct device **ret, struct err *err)
{
	(void)config, (void)index;
	struct acpi_pm *pm = calloc(1, sizeof(*pm));
	if (!pm)
		return err_sys(err, -ENOMEM, "ACPI PM block");
	pm->base.class = &acpi_pm_class;
	pm->services = *services;
	pm->sci = (struct irq_line){.sink = services->irq, .gsi = LAYOUT_GSI_SCI};
	pthread_mutex_init(&pm->lock, NULL);
	int r = acpi_pm_start(pm, err);
	if (r < 0) {
		acpi_pm_destroy(&pm->base);
		return r;
	}
	acpi_pm_assign(pm, &acpi_pm_image);
	*ret = &pm->base;
	return 0;
}

static void acpi_pm_reset(struct device *device)
{
	acpi_pm_assign(container_of(device, struct acpi_pm, base), &acpi_pm_image);
}

static void acpi_pm_save(struct device *device, void *regs)
{
	struct acpi_pm *pm = container_of(device, struct acpi_pm, base);
	pthread_mutex_lock(&pm->lock);
	uint64_t now_ns = loop_now_ns();
	acpi_pm_catch_up(pm, now_ns);
	/* Both the saved machine and its copy go on from here: neither keeps the part of a tick that has
	 * passed. */
	acpi_pm_rebase(pm, (uint32_t)acpi_pm_ticks(pm, now_ns), now_ns);
	acpi_pm_update(pm);
	*(struct acpi_pm_regs *)regs = pm->regs;
	pthread_mutex_unlock(&pm->lock);
}

static int acpi_pm_restore(struct device *device, const void *regs, struct err *err)
{
	const struct acpi_pm_regs *saved = regs;
	if (saved->status & ~PM1_STATUS_BITS)
		return err_set(err, -EINVAL, "acpi-pm: status %#x has unknown bits", saved->status);
	if (saved->enable & ~PM1_ENABLE_BITS)
		return err_set(err, -EINVAL, "acpi-pm: enable %#x has unknown bits", saved->enable);
	if ((saved->control & ~CONTROL_KEPT) != CONTROL_SCI_EN)
		return err_set(err, -EINVAL, "acpi-pm: control %#x cannot be", saved->control);
	acpi_pm_assign(container_of(device, struct acpi_pm, base), saved);
	return 0;
}

const struct device_class acpi_pm_class = {
	.name = "acpi-pm",
	.state = &acpi_pm_state,
	.config = acpi_pm_config,
	.create = acpi_pm_create,
	.destroy = acpi_pm_destroy,
	.reset = acpi_pm_reset,
	.save = acpi_pm_save,
	.restore = acpi_pm_restore,
	.power_button = acpi_pm_power_button,
};
