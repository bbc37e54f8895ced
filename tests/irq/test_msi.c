/* Messages through a real KVM: what the local APIC of a vCPU that never ran has got. */
#include "base/bytes.h"
#include "harness.h"
#include "host/kvm.h"
#include "host/vm.h"
#include "irq/irqchip.h"
#include "irq/msi.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum { LAPIC_SPURIOUS = 0xf0, LAPIC_ENABLED = 0x100, LAPIC_IRR = 0x200 };
#define TO_CPU0 UINT64_C(0xfee00000)

struct machine {
	int kvm_fd, vm_fd, cpu_fd;
	struct irqchip *irqchip;
	struct msi *msi;
	struct msi_sink *sink;
	struct err err;
};

static void machine_init(struct machine *m)
{
	memset(m, 0, sizeof(*m));
	m->kvm_fd = kvm_open(&m->err);
	m->vm_fd = vm_create(m->kvm_fd, 1, 0, &m->err);
	ck_assert_msg(m->vm_fd >= 0, "%s", m->err.text);
	ck_assert_int_eq(irqchip_create(m->vm_fd, &m->irqchip, &m->err), 0);
	ck_assert_msg(msi_create(m->vm_fd, &m->msi, &m->err) == 0, "%s", m->err.text);
	m->sink = msi_get_sink(m->msi);
	m->cpu_fd = kvm_call_value(m->vm_fd, KVM_CREATE_VCPU, 0);
	ck_assert_int_ge(m->cpu_fd, 0);
	struct kvm_lapic_state lapic;
	ck_assert_int_ge(kvm_call(m->cpu_fd, KVM_GET_LAPIC, &lapic), 0);
	store_le32(lapic.regs + LAPIC_SPURIOUS, LAPIC_ENABLED | 0xff);
	ck_assert_int_ge(kvm_call(m->cpu_fd, KVM_SET_LAPIC, &lapic), 0);
}

static void machine_finish(struct machine *m)
{
	close(m->cpu_fd);
	msi_destroy(m->msi);
	irqchip_destroy(m->irqchip);
	close(m->vm_fd);
	close(m->kvm_fd);
}

static bool requested(struct machine *m, unsigned vector)
{
	struct kvm_lapic_state lapic;
	ck_assert_int_ge(kvm_call(m->cpu_fd, KVM_GET_LAPIC, &lapic), 0);
	return load_le32(lapic.regs + LAPIC_IRR + vector / 32 * 16) >> vector % 32 & 1;
}

/* KVM may inject from a worker thread. */
static bool soon_requested(struct machine *m, unsigned vector)
{
	static const struct timespec while_ = {.tv_nsec = 1000000};
	for (int i = 0; i < 2000 && !requested(m, vector); i++)
		nanosleep(&while_, NULL);
	return requested(m, vector);
}

static bool stays_unrequested(struct machine *m, unsigned vector)
{
	static const struct timespec while_ = {.tv_nsec = 30000000};
	nanosleep(&while_, NULL);
	return !requested(m, vector);
}

static int event_fd(void)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	ck_assert_int_ge(fd, 0);
	return fd;
}

static void ring(int fd)
{
	ck_assert_int_eq(eventfd_write(fd, 1), 0);
}

START_TEST(message_arrives)
{
	struct machine m;
	machine_init(&m);
	m.sink->signal(m.sink, TO_CPU0, 0x45);
	ck_assert(requested(&m, 0x45));
	ck_assert(!requested(&m, 0x46));
	machine_finish(&m);
}
END_TEST

START_TEST(messages_to_nowhere_are_dropped)
{
	struct machine m;
	machine_init(&m);
	static const uint64_t nowhere[] = {0,	       0x1000,	    0xfed00000,
					   0xfef00000, 0x1fee00000, UINT64_MAX & ~3ULL};
	for (size_t i = 0; i < sizeof(nowhere) / sizeof(nowhere[0]); i++)
		m.sink->signal(m.sink, nowhere[i], 0x45);
	m.sink->signal(m.sink, TO_CPU0 | 7 << 12, 0x45); /* a CPU that is not there */
	ck_assert(!requested(&m, 0x45));
	ck_assert_uint_ge(msi_lost_count(m.msi), sizeof(nowhere) / sizeof(nowhere[0]));
	machine_finish(&m);
}
END_TEST

START_TEST(attached_event_is_a_message)
{
	struct machine m;
	machine_init(&m);
	int a = event_fd(), b = event_fd();
	ck_assert_int_eq(m.sink->attach(m.sink, a, TO_CPU0, 0x51), 0);
	ck_assert_int_eq(m.sink->attach(m.sink, b, TO_CPU0, 0x52), 0);
	ring(a);
	ck_assert(soon_requested(&m, 0x51));
	ck_assert(!requested(&m, 0x52));
	ring(b);
	ck_assert(soon_requested(&m, 0x52));
	/* A new message replaces the old one. */
	ck_assert_int_eq(m.sink->attach(m.sink, a, TO_CPU0, 0x53), 0);
	ring(a);
	ck_assert(soon_requested(&m, 0x53));
	close(a);
	close(b);
	machine_finish(&m);
}
END_TEST

START_TEST(detached_event_is_kept_for_later)
{
	struct machine m;
	machine_init(&m);
	int fd = event_fd();
	ck_assert_int_eq(m.sink->attach(m.sink, fd, 0, 0), 0); /* nothing to take away */
	ck_assert_int_eq(m.sink->attach(m.sink, fd, TO_CPU0, 0x61), 0);
	ck_assert_int_eq(m.sink->attach(m.sink, fd, 0, 0), 0);
	ring(fd);
	ck_assert(stays_unrequested(&m, 0x61));
	ck_assert_int_eq(m.sink->attach(m.sink, fd, TO_CPU0, 0x62), 0);
	ck_assert(soon_requested(&m, 0x62));
	/* A message to nowhere is as good as none. */
	ck_assert_int_eq(m.sink->attach(m.sink, fd, 0x1fee00000, 0x63), 0);
	ring(fd);
	ck_assert(stays_unrequested(&m, 0x63));
	close(fd);
	machine_finish(&m);
}
END_TEST

START_TEST(what_is_no_event_fd_is_refused)
{
	struct machine m;
	machine_init(&m);
	int fd = event_fd();
	ck_assert_int_lt(m.sink->attach(m.sink, m.kvm_fd, TO_CPU0, 0x71), 0);
	ck_assert_int_lt(m.sink->attach(m.sink, m.kvm_fd, TO_CPU0, 0x71), 0); /* it left nothing behind */
	ck_assert_int_eq(m.sink->attach(m.sink, fd, TO_CPU0, 0x72), 0);
	ring(fd);
	ck_assert(soon_requested(&m, 0x72));
	close(fd);
	machine_finish(&m);
}
END_TEST

/* Many come and go: routes are reused, and one that is refused leaves the others alone. */
START_TEST(routes_have_an_end)
{
	struct machine m;
	machine_init(&m);
	enum { MANY = 1024 };
	static int fds[MANY + 1];
	for (int i = 0; i <= MANY; i++)
		fds[i] = event_fd();
	for (int i = 0; i < MANY; i++)
		ck_assert_int_eq(m.sink->attach(m.sink, fds[i], TO_CPU0, 0x80 + (uint32_t)i % 8), 0);
	ck_assert_int_eq(m.sink->attach(m.sink, fds[MANY], TO_CPU0, 0x90), -ENOSPC);
	ck_assert_int_eq(m.sink->attach(m.sink, fds[MANY], 0, 0), 0);
	ck_assert_int_eq(m.sink->attach(m.sink, fds[500], 0, 0), 0);
	ck_assert_int_eq(m.sink->attach(m.sink, fds[MANY], TO_CPU0, 0x91), 0);
	ring(fds[MANY]);
	ck_assert(soon_requested(&m, 0x91));
	ring(fds[1023]);
	ck_assert(soon_requested(&m, 0x80 + 1023 % 8));
	for (int i = 0; i <= MANY; i++)
		close(fds[i]);
	machine_finish(&m);
}
END_TEST

static uint32_t ioapic_pin_state(struct machine *m, unsigned pin)
{
	struct kvm_irqchip chip = {.chip_id = KVM_IRQCHIP_IOAPIC};
	ck_assert_int_ge(kvm_call(m->vm_fd, KVM_GET_IRQCHIP, &chip), 0);
	return chip.chip.ioapic.irr >> pin & 1;
}

/* Every line of the board still ends at its pin, and the timer's at pin 2, where the MADT has it. */
START_TEST(lines_end_at_their_pins)
{
	struct machine m;
	machine_init(&m);
	struct irq_sink *lines = irqchip_sink(m.irqchip);
	for (uint32_t gsi = 0; gsi < 24; gsi++) {
		if (gsi == 2)
			continue;
		struct irq_line line = {.sink = lines, .gsi = gsi};
		irq_line_set(&line, true);
		ck_assert_uint_eq(ioapic_pin_state(&m, gsi == 0 ? 2 : gsi), 1);
		struct kvm_irqchip pic = {.chip_id =
						  gsi < 8 ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE};
		ck_assert_int_ge(kvm_call(m.vm_fd, KVM_GET_IRQCHIP, &pic), 0);
		ck_assert(gsi >= 16 || (pic.chip.pic.irr >> gsi % 8 & 1));
		irq_line_set(&line, false);
	}
	machine_finish(&m);
}
END_TEST

int main(void)
{
	struct err err = ERR_INIT;
	int fd = kvm_open(&err);
	if (fd < 0) {
		puts(err.text);
		return TEST_SKIP;
	}
	close(fd);
	const TTest *const tests[] = {message_arrives,
				      messages_to_nowhere_are_dropped,
				      attached_event_is_a_message,
				      detached_event_is_kept_for_later,
				      what_is_no_event_fd_is_refused,
				      routes_have_an_end,
				      lines_end_at_their_pins};
	return harness_run("msi", tests, sizeof(tests) / sizeof(tests[0]));
}
