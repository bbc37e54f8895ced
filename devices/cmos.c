/*
 * The real-time clock and its 128 bytes of battery-backed memory (Motorola MC146818A datasheet).
 *
 *	0x70	index (bits 6-0); bit 7 masks NMI, which nothing here raises
 *	0x71	data
 *
 *	00 02 04	seconds, minutes, hours		01 03 05	the same of the alarm
 *	06 07 08 09	day of week, day, month, year	32		century (the FADT names it)
 *	0a 0b 0c 0d	registers A to D
 *	15-18 30-31 34-35 5b-5d	how much memory there is, as SeaBIOS and QEMU have it
 *
 * The clock is the host's CLOCK_REALTIME in UTC plus an offset that the guest sets by setting the time; while
 * it is stopped (SET, or the divider held in reset) the time stands in memory. Nothing runs for a guest that
 * does not ask: the flags of register C are worked out when somebody looks, and the host's timer is armed
 * only for an interrupt that is enabled.
 *
 * A reset of the machine resets what the chip's RESET pin does (interrupt enables and flags). Time and memory
 * are the battery's and live on.
 */
#include "cmos_time.h"

#include "base/cleanup.h"
#include "base/layout.h"
#include "devices.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
	INDEX_MASK = 0x7f,

	REGISTER_A = 0x0a,
	REGISTER_B = 0x0b,
	REGISTER_C = 0x0c,
	REGISTER_D = 0x0d,

	A_RATE = 0x0f,
	A_DIVIDER = 0x70,
	A_DIVIDER_RUNS = 0x20,	/* a 32.768 kHz crystal; other time bases stop the clock */
	A_DIVIDER_RESET = 0x60, /* both bits: held in reset, whatever the third */
	A_UPDATE_SOON = 0x80,	/* UIP */

	B_UPDATE_IRQ = 0x10,
	B_ALARM_IRQ = 0x20,
	B_PERIODIC_IRQ = 0x40,
	B_SET = 0x80,
	B_IRQS = B_UPDATE_IRQ | B_ALARM_IRQ | B_PERIODIC_IRQ,
	B_SQUARE_WAVE = 0x08,

	C_UPDATE = B_UPDATE_IRQ, /* a flag of C stands where its enable does in B */
	C_ALARM = B_ALARM_IRQ,
	C_PERIODIC = B_PERIODIC_IRQ,
	C_IRQ = 0x80,
	C_BITS = C_UPDATE | C_ALARM | C_PERIODIC | C_IRQ,

	D_VALID = 0x80, /* the battery is good */
};

#define NS_PER_SECOND	    1000000000U
#define UPDATE_SOON_NS	    244141U /* UIP is up for 8/32768 s before the seconds change */
#define CRYSTAL_HZ	    32768U
#define ALARM_CHECK_SECONDS 60		       /* how long the host's clock may be set without our noticing */
#define SECONDS_LIMIT	    ((int64_t)1 << 40) /* beyond any time that the registers can say */

struct cmos_regs {
	uint8_t index;
	uint8_t control_a;
	uint8_t control_b;
	uint8_t flags;		 /* register C */
	uint8_t ram[CMOS_BYTES]; /* the time too, current while the clock is stopped; not 0a to 0d */
	uint64_t offset_s;	 /* two's complement: the clock is CLOCK_REALTIME + phase_ns + offset_s */
	uint32_t phase_ns;
	uint64_t updated_s; /* two's complement: up to which second of the clock `flags` tells */
};

/* But for the memory sizes and the time, which are no constants. */
static const struct cmos_regs cmos_image = {
	.control_a = A_DIVIDER_RUNS | 6, /* 1024 Hz, the PC's default */
	.control_b = CMOS_B_24_HOURS,
};

static const struct state_field cmos_fields[] = {
	STATE_FIELD(struct cmos_regs, index),	  STATE_FIELD(struct cmos_regs, control_a),
	STATE_FIELD(struct cmos_regs, control_b), STATE_FIELD(struct cmos_regs, flags),
	STATE_ARRAY(struct cmos_regs, ram),	  STATE_FIELD(struct cmos_regs, offset_s),
	STATE_FIELD(struct cmos_regs, phase_ns),  STATE_FIELD(struct cmos_regs, updated_s),
};
static const struct state_table cmos_state = STATE_TABLE("cmos", struct cmos_regs, cmos_fields);

struct cmos {
	struct device base;
	struct irq_line irq;
	struct loop_timer *timer; /* owned */

	pthread_mutex_t lock; /* for all below */
	struct cmos_regs regs;
	uint64_t periods_seen; /* cmos_periods when somebody last looked */
	bool armed;	       /* the timer may be: spares the system call of disarming it again */
};

/* One instant, by all clocks. */
struct cmos_now {
	uint64_t monotonic_ns;
	uint64_t realtime_ns;
	uint64_t local_ns;    /* realtime_ns with the guest's phase: what its divider chain has counted */
	int64_t seconds;      /* what the guest's clock says … */
	uint32_t fraction_ns; /* … and how far into that second it is */
};

/* The guest's clock at the instant of which the host's clocks are known. */
static void cmos_localize(const struct cmos_regs *regs, struct cmos_now *now)
{
	now->local_ns = now->realtime_ns + regs->phase_ns;
	now->seconds = (int64_t)(now->local_ns / NS_PER_SECOND) + (int64_t)regs->offset_s;
	now->fraction_ns = (uint32_t)(now->local_ns % NS_PER_SECOND);
}

static struct cmos_now cmos_now(const struct cmos_regs *regs)
{
	struct timespec realtime;
	(void)clock_gettime(CLOCK_REALTIME, &realtime);
	struct cmos_now now = {
		.monotonic_ns = loop_now_ns(),
		.realtime_ns = (uint64_t)realtime.tv_sec * NS_PER_SECOND + (uint64_t)realtime.tv_nsec,
	};
	cmos_localize(regs, &now);
	return now;
}

static bool cmos_divider_runs(const struct cmos_regs *regs)
{
	return (regs->control_a & A_DIVIDER) == A_DIVIDER_RUNS;
}

static bool cmos_runs(const struct cmos_regs *regs)
{
	return cmos_divider_runs(regs) && !(regs->control_b & B_SET);
}

/* Crystal ticks from one periodic flag to the next, 0 when there is none (datasheet, table 5). */
static uint64_t cmos_period_ticks(const struct cmos_regs *regs)
{
	unsigned rate = regs->control_a & A_RATE;
	if (rate == 0 || !cmos_divider_runs(regs))
		return 0;
	return 1ULL << (rate < 3 ? rate + 6 : rate - 1);
}

/* How many periodic flags there have been: the periods are taken from the same chain as the seconds. */
static uint64_t cmos_periods(const struct cmos_regs *regs, const struct cmos_now *now)
{
	unsigned __int128 ticks = cmos_period_ticks(regs);
	return ticks ? (uint64_t)(now->local_ns * (unsigned __int128)CRYSTAL_HZ / (ticks * NS_PER_SECOND))
		     : 0;
}

/* IRQF says that any flag is up whose interrupt is enabled. */
static void cmos_sum_up(struct cmos_regs *regs)
{
	bool any = regs->flags & regs->control_b & B_IRQS;
	regs->flags = (uint8_t)((regs->flags & ~C_IRQ) | (any ? C_IRQ : 0));
}

/* Work out the flags of register C up to now, before anybody looks at them or at what they follow from. */
static void cmos_catch_up(struct cmos *cmos, const struct cmos_now *now)
{
	struct cmos_regs *regs = &cmos->regs;
	int64_t updated = (int64_t)regs->updated_s;
	if (cmos_runs(regs) && now->seconds != updated) {
		regs->flags |= C_UPDATE;
		if (cmos_alarm_next(regs->ram, regs->control_b, updated) <= now->seconds)
			regs->flags |= C_ALARM;
		regs->updated_s = (uint64_t)now->seconds;
	}
	uint64_t periods = cmos_periods(regs, now);
	if (periods != cmos->periods_seen)
		regs->flags |= C_PERIODIC;
	cmos->periods_seen = periods;
	cmos_sum_up(regs);
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* How long until the guest's clock says `seconds`; no longer than after which to look again. */
static uint64_t cmos_until_seconds(const struct cmos_now *now, int64_t seconds)
{
	if (seconds > now->seconds + ALARM_CHECK_SECONDS)
		seconds = now->seconds + ALARM_CHECK_SECONDS;
	return (uint64_t)(seconds - now->seconds) * NS_PER_SECOND - now->fraction_ns;
}

static uint64_t cmos_until_period(const struct cmos_regs *regs, const struct cmos_now *now)
{
	unsigned __int128 ticks = cmos_period_ticks(regs);
	unsigned __int128 local = (cmos_periods(regs, now) + 1) * ticks * NS_PER_SECOND;
	return (uint64_t)((local + CRYSTAL_HZ - 1) / CRYSTAL_HZ) - now->local_ns;
}

/* When, by CLOCK_MONOTONIC, an enabled flag that is not up yet can rise next; 0 when none can. */
static uint64_t cmos_deadline(const struct cmos_regs *regs, const struct cmos_now *now)
{
	uint8_t waits = regs->control_b & B_IRQS & (uint8_t)~regs->flags;
	uint64_t wait = UINT64_MAX;
	if (cmos_runs(regs) && waits & B_UPDATE_IRQ)
		wait = earlier(wait, cmos_until_seconds(now, now->seconds + 1));
	if (cmos_runs(regs) && waits & B_ALARM_IRQ) {
		int64_t alarm = cmos_alarm_next(regs->ram, regs->control_b, now->seconds);
		wait = earlier(wait, cmos_until_seconds(now, alarm));
	}
	if (cmos_period_ticks(regs) && waits & B_PERIODIC_IRQ)
		wait = earlier(wait, cmos_until_period(regs, now));
	return wait == UINT64_MAX ? 0 : now->monotonic_ns + wait;
}

/* Make the interrupt line and the host's timer what the registers say. */
static void cmos_update(struct cmos *cmos, const struct cmos_now *now)
{
	struct cmos_regs *regs = &cmos->regs;
	cmos_sum_up(regs);
	irq_line_set(&cmos->irq, regs->flags & C_IRQ);
	uint64_t deadline = cmos_deadline(regs, now);
	if (deadline || cmos->armed)
		loop_timer_arm(cmos->timer, deadline);
	cmos->armed = deadline != 0;
}

static void cmos_timer(void *owner)
{
	struct cmos *cmos = owner;
	pthread_mutex_lock(&cmos->lock);
	struct cmos_now now = cmos_now(&cmos->regs);
	cmos_catch_up(cmos, &now);
	cmos_update(cmos, &now);
	pthread_mutex_unlock(&cmos->lock);
}

/* The time into memory, as the guest reads it and as it stands once the clock stops. */
static void cmos_latch(struct cmos_regs *regs, const struct cmos_now *now)
{
	if (cmos_runs(regs))
		cmos_time_encode(regs->ram, regs->control_b, now->seconds);
}

/* The clock goes on from the time in memory, `fraction_ns` into its second. Brings `now` up to date. */
static void cmos_start(struct cmos_regs *regs, struct cmos_now *now, uint32_t fraction_ns)
{
	int64_t seconds = cmos_time_decode(regs->ram, regs->control_b);
	uint32_t host_ns = (uint32_t)(now->realtime_ns % NS_PER_SECOND);
	regs->phase_ns = (fraction_ns + NS_PER_SECOND - host_ns) % NS_PER_SECOND;
	regs->offset_s = (uint64_t)seconds - (now->realtime_ns + regs->phase_ns) / NS_PER_SECOND;
	regs->updated_s = (uint64_t)seconds;
	cmos_localize(regs, now);
}

static bool is_time(uint8_t index)
{
	return index == CMOS_CENTURY || (index <= CMOS_YEAR && index != CMOS_SECONDS_ALARM &&
					 index != CMOS_MINUTES_ALARM && index != CMOS_HOURS_ALARM);
}

static uint8_t cmos_load(struct cmos *cmos, const struct cmos_now *now)
{
	struct cmos_regs *regs = &cmos->regs;
	uint8_t index = regs->index & INDEX_MASK;
	bool soon = cmos_runs(regs) && now->fraction_ns >= NS_PER_SECOND - UPDATE_SOON_NS;
	uint8_t flags;
	switch (index) {
	case REGISTER_A:
		return soon ? regs->control_a | A_UPDATE_SOON : regs->control_a;
	case REGISTER_B:
		return regs->control_b;
	case REGISTER_C:
		cmos_catch_up(cmos, now);
		flags = regs->flags;
		regs->flags = 0;
		cmos_update(cmos, now);
		return flags;
	case REGISTER_D:
		return D_VALID;
	default:
		cmos_latch(regs, now);
		return regs->ram[index];
	}
}

/* Everything that a stopped clock must know is latched before it stops; it starts from what was latched. */
static void cmos_set_control(struct cmos *cmos, struct cmos_now *now, uint8_t control_a, uint8_t control_b)
{
	struct cmos_regs *regs = &cmos->regs;
	struct cmos_regs before = *regs;
	cmos_catch_up(cmos, now);
	cmos_latch(regs, now);
	regs->control_a = control_a;
	regs->control_b = control_b;
	if (cmos_runs(regs) && !cmos_runs(&before)) {
		/* From the divider's reset to the first update it is half a second (datasheet, register A).
		 */
		bool was_reset = (before.control_a & A_DIVIDER_RESET) == A_DIVIDER_RESET;
		cmos_start(regs, now, was_reset ? NS_PER_SECOND / 2 : now->fraction_ns);
	}
	cmos->periods_seen = cmos_periods(regs, now);
	cmos_update(cmos, now);
}

static void cmos_store(struct cmos *cmos, struct cmos_now *now, uint8_t value)
{
	struct cmos_regs *regs = &cmos->regs;
	uint8_t index = regs->index & INDEX_MASK;
	switch (index) {
	case REGISTER_A:
		cmos_set_control(cmos, now, value & (uint8_t)~A_UPDATE_SOON, regs->control_b);
		break;
	case REGISTER_B:
		if (value & B_SET) /* stopping the clock also takes back the update interrupt */
			value &= (uint8_t)~B_UPDATE_IRQ;
		cmos_set_control(cmos, now, regs->control_a, value);
		break;
	case REGISTER_C:
	case REGISTER_D:
		break;
	default:
		cmos_catch_up(cmos, now);
		cmos_latch(regs, now);
		regs->ram[index] = value;
		if (is_time(index) && cmos_runs(regs))
			cmos_start(regs, now, now->fraction_ns);
		cmos_update(cmos, now);
		break;
	}
}

static uint64_t cmos_read(void *owner, uint64_t offset, unsigned size)
{
	(void)size;
	if (offset == 0)
		return UINT64_MAX; /* the index is write only */
	struct cmos *cmos = owner;
	pthread_mutex_lock(&cmos->lock);
	struct cmos_now now = cmos_now(&cmos->regs);
	uint8_t value = cmos_load(cmos, &now);
	pthread_mutex_unlock(&cmos->lock);
	return value;
}

static void cmos_write(void *owner, uint64_t offset, unsigned size, uint64_t value)
{
	(void)size;
	struct cmos *cmos = owner;
	pthread_mutex_lock(&cmos->lock);
	if (offset == 0) {
		cmos->regs.index = (uint8_t)value;
	} else {
		struct cmos_now now = cmos_now(&cmos->regs);
		cmos_store(cmos, &now, (uint8_t)value);
	}
	pthread_mutex_unlock(&cmos->lock);
}

static const struct bus_ops cmos_ops = {
	.read = cmos_read,
	.write = cmos_write,
	.min_access_bytes = 1,
	.max_access_bytes = 1,
};

static void store_capped(uint8_t *ram, uint64_t value, uint64_t most, size_t bytes)
{
	if (value > most)
		value = most;
	for (size_t i = 0; i < bytes; i++)
		ram[i] = (uint8_t)(value >> (8 * i));
}

static void cmos_describe_memory(uint8_t ram[CMOS_BYTES], uint64_t size_bytes)
{
	uint64_t low = size_bytes < LAYOUT_PCI_HOLE_GPA ? size_bytes : LAYOUT_PCI_HOLE_GPA;
	uint64_t extended = low > MIB ? low - MIB : 0;
	uint64_t above_16m = low > 16 * MIB ? low - 16 * MIB : 0;
	store_capped(ram + 0x15, 640, 640, 2);					/* KiB from 0 */
	store_capped(ram + 0x17, extended / KIB, 0xffff, 2);			/* KiB from 1 MiB */
	store_capped(ram + 0x30, extended / KIB, 0xffff, 2);			/* the same once more */
	store_capped(ram + 0x34, above_16m / (64 * KIB), 0xffff, 2);		/* 64 KiB from 16 MiB */
	store_capped(ram + 0x5b, (size_bytes - low) / (64 * KIB), 0xffffff, 3); /* 64 KiB from 4 GiB */
}

static const void *cmos_config(const struct machine_config *machine, size_t index)
{
	return index == 0 ? &machine->memory : NULL;
}

static void cmos_destroy(struct device *device)
{
	if (!device)
		return;
	struct cmos *cmos = container_of(device, struct cmos, base);
	loop_timer_destroy(cmos->timer);
	pthread_mutex_destroy(&cmos->lock);
	free(cmos);
}

static void cmos_assign(struct cmos *cmos, const struct cmos_regs *regs)
{
	pthread_mutex_lock(&cmos->lock);
	cmos->regs = *regs;
	struct cmos_now now = cmos_now(regs);
	cmos->periods_seen = cmos_periods(regs, &now);
	cmos_catch_up(cmos, &now);
	cmos_update(cmos, &now);
	pthread_mutex_unlock(&cmos->lock);
}

static int cmos_create(const void *config, size_t index, const struct device_services *services,
		       struct device **ret, struct err *err)
{
	(void)index;
	const struct memory_config *memory = config;
	struct cmos *cmos = calloc(1, sizeof(*cmos));
	if (!cmos)
		return err_sys(err, -ENOMEM, "CMOS");
	cmos->base.class = &cmos_class;
	cmos->irq = (struct irq_line){.sink = services->irq, .gsi = LAYOUT_GSI_RTC};
	pthread_mutex_init(&cmos->lock, NULL);

	const struct bus_range range = {LAYOUT_PORT_CMOS, 2, &cmos_ops, cmos, "CMOS"};
	int r = loop_timer_create(services->loop, cmos_timer, cmos, &cmos->timer, err);
	if (r == 0)
		r = bus_add(services->bus, BUS_PIO, &range, err);
	if (r < 0) {
		cmos_destroy(&cmos->base);
		return r;
	}
	struct cmos_regs regs = cmos_image;
	regs.updated_s = (uint64_t)cmos_now(&regs).seconds;
	cmos_describe_memory(regs.ram, memory->size_bytes);
	cmos_assign(cmos, &regs);
	*ret = &cmos->base;
	return 0;
}

/* Datasheet, "RESET": the clock, memory, register A and the format bits of B are not touched. */
static void cmos_reset(struct device *device)
{
	struct cmos *cmos = container_of(device, struct cmos, base);
	pthread_mutex_lock(&cmos->lock);
	struct cmos_now now = cmos_now(&cmos->regs);
	cmos_catch_up(cmos, &now);
	cmos->regs.index = cmos_image.index;
	cmos->regs.control_b &= (uint8_t) ~(B_IRQS | B_SQUARE_WAVE);
	cmos->regs.flags = cmos_image.flags;
	cmos_update(cmos, &now);
	pthread_mutex_unlock(&cmos->lock);
}

static void cmos_save(struct device *device, void *regs)
{
	struct cmos *cmos = container_of(device, struct cmos, base);
	pthread_mutex_lock(&cmos->lock);
	struct cmos_now now = cmos_now(&cmos->regs);
	cmos_catch_up(cmos, &now);
	cmos_update(cmos, &now);
	*(struct cmos_regs *)regs = cmos->regs;
	pthread_mutex_unlock(&cmos->lock);
}

static bool in_limits(uint64_t seconds, int64_t limit)
{
	return (int64_t)seconds >= -limit && (int64_t)seconds <= limit;
}

static int cmos_restore(struct device *device, const void *regs, struct err *err)
{
	const struct cmos_regs *saved = regs;
	if (saved->control_a & A_UPDATE_SOON)
		return err_set(err, -EINVAL, "cmos: control-a %#x cannot be", saved->control_a);
	if (saved->control_b & B_SET && saved->control_b & B_UPDATE_IRQ)
		return err_set(err, -EINVAL, "cmos: control-b %#x cannot be", saved->control_b);
	if (saved->flags & ~C_BITS)
		return err_set(err, -EINVAL, "cmos: flags %#x has unknown bits", saved->flags);
	if (saved->phase_ns >= NS_PER_SECOND)
		return err_set(err, -EINVAL, "cmos: phase-ns %u is more than a second", saved->phase_ns);
	if (!in_limits(saved->offset_s, SECONDS_LIMIT) || !in_limits(saved->updated_s, 2 * SECONDS_LIMIT))
		return err_set(err, -EINVAL, "cmos: offset-s or updated-s is beyond the year 9999");
	cmos_assign(container_of(device, struct cmos, base), saved);
	return 0;
}

const struct device_class cmos_class = {
	.name = "cmos",
	.state = &cmos_state,
	.config = cmos_config,
	.create = cmos_create,
	.destroy = cmos_destroy,
	.reset = cmos_reset,
	.save = cmos_save,
	.restore = cmos_restore,
};
