/* Doorbells in a real KVM: which addresses it holds, seen by trying to register another one there. */
#include "bus/bus.h"
#include "harness.h"
#include "host/kvm.h"
#include "host/vm.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct machine {
	int kvm_fd, vm_fd, event_fd, probe_fd;
	struct bus *bus;
	struct err err;
};

static uint64_t nothing_read(void *owner, uint64_t offset, unsigned size)
{
	(void)owner, (void)offset, (void)size;
	return 0;
}

static void nothing_write(void *owner, uint64_t offset, unsigned size, uint64_t value)
{
	(void)owner, (void)offset, (void)size, (void)value;
}

static const struct bus_ops nothing = {nothing_read, nothing_write, 1, 8};

static void machine_init(struct machine *m)
{
	*m = (struct machine){.err = ERR_INIT};
	m->kvm_fd = kvm_open(&m->err);
	m->vm_fd = vm_create(m->kvm_fd, 1, 0, &m->err);
	ck_assert_msg(m->vm_fd >= 0, "%s", m->err.text);
	ck_assert_int_eq(bus_create(&m->bus, &m->err), 0);
	bus_set_vm(m->bus, m->vm_fd);
	m->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	m->probe_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
}

static void machine_finish(struct machine *m)
{
	bus_destroy(m->bus);
	close(m->event_fd);
	close(m->probe_fd);
	close(m->vm_fd);
	close(m->kvm_fd);
}

static struct bus_mapping *new_mapping(struct machine *m, enum bus_space space)
{
	struct bus_mapping *mapping = NULL;
	const struct bus_range range = {0, 0x1000, &nothing, NULL, "mapping"};
	ck_assert_int_eq(bus_mapping_create(m->bus, space, &range, &mapping, &m->err), 0);
	return mapping;
}

/* Does KVM have a doorbell at this address? */
static bool taken(struct machine *m, uint64_t address, uint32_t len, bool port)
{
	struct kvm_ioeventfd args = {.addr = address,
				     .len = len,
				     .fd = m->probe_fd,
				     .flags = port ? 1U << kvm_ioeventfd_flag_nr_pio : 0U};
	int r = kvm_call(m->vm_fd, KVM_IOEVENTFD, &args);
	if (r == -EEXIST)
		return true;
	ck_assert_int_eq(r, 0);
	args.flags |= 1U << kvm_ioeventfd_flag_nr_deassign;
	ck_assert_int_eq(kvm_call(m->vm_fd, KVM_IOEVENTFD, &args), 0);
	return false;
}

START_TEST(follow_the_mapping)
{
	struct machine m;
	machine_init(&m);
	struct bus_mapping *mapping = new_mapping(&m, BUS_MMIO);
	ck_assert_int_eq(bus_doorbell_add(mapping, 0x10, 2, m.event_fd, &m.err), 0);
	ck_assert(!taken(&m, 0xd0000010, 2, false));
	bus_mapping_move(mapping, 0xd0000000);
	ck_assert(taken(&m, 0xd0000010, 2, false));
	ck_assert_int_eq(bus_doorbell_add(mapping, 0x14, 0, m.event_fd, &m.err), 0);
	ck_assert(taken(&m, 0xd0000014, 0, false));
	bus_mapping_move(mapping, 0x200000000);
	ck_assert(!taken(&m, 0xd0000010, 2, false));
	ck_assert(!taken(&m, 0xd0000014, 0, false));
	ck_assert(taken(&m, 0x200000010, 2, false));
	ck_assert(taken(&m, 0x200000014, 0, false));
	bus_mapping_hide(mapping);
	ck_assert(!taken(&m, 0x200000010, 2, false));
	bus_mapping_move(mapping, 0xd0000000);
	bus_mapping_destroy(mapping);
	ck_assert(!taken(&m, 0xd0000010, 2, false));
	machine_finish(&m);
}
END_TEST

START_TEST(of_ports_too)
{
	struct machine m;
	machine_init(&m);
	struct bus_mapping *mapping = new_mapping(&m, BUS_PIO);
	ck_assert_int_eq(bus_doorbell_add(mapping, 0x10, 2, m.event_fd, &m.err), 0);
	bus_mapping_move(mapping, 0x2000);
	ck_assert(taken(&m, 0x2010, 2, true));
	ck_assert(!taken(&m, 0x2010, 2, false));
	bus_mapping_destroy(mapping);
	machine_finish(&m);
}
END_TEST

/* A guest puts two BARs at one place: KVM takes one doorbell, ours still serves the other one. */
START_TEST(two_at_one_place)
{
	struct machine m;
	machine_init(&m);
	struct bus_mapping *a = new_mapping(&m, BUS_MMIO), *b = new_mapping(&m, BUS_MMIO);
	int event_b = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	ck_assert_int_eq(bus_doorbell_add(a, 0x10, 2, m.event_fd, &m.err), 0);
	ck_assert_int_eq(bus_doorbell_add(b, 0x10, 2, event_b, &m.err), 0);
	bus_mapping_move(a, 0xd0000000);
	ck_assert_uint_eq(bus_refused_doorbell_count(m.bus), 0);
	bus_mapping_move(b, 0xd0000000);
	ck_assert_uint_eq(bus_refused_doorbell_count(m.bus), 1);
	uint16_t value = 0;
	eventfd_t count = 0;
	bus_write(m.bus, BUS_MMIO, 0xd0000010, &value, sizeof(value));
	ck_assert(eventfd_read(event_b, &count) == 0 && count == 1);
	bus_mapping_hide(a);
	ck_assert(!taken(&m, 0xd0000010, 2, false));
	bus_mapping_move(b, 0xd0001000);
	ck_assert(taken(&m, 0xd0001010, 2, false));
	bus_mapping_destroy(a);
	bus_mapping_destroy(b);
	close(event_b);
	machine_finish(&m);
}
END_TEST

/* A whole page of them moves, and nothing of it stays behind. */
START_TEST(many_move_together)
{
	struct machine m;
	machine_init(&m);
	struct bus_mapping *mapping = new_mapping(&m, BUS_MMIO);
	enum { MANY = 1024 };
	for (uint64_t i = 0; i < MANY; i++)
		ck_assert_int_eq(bus_doorbell_add(mapping, i * 4, 2, m.event_fd, &m.err), 0);
	bus_mapping_move(mapping, 0xd0000000);
	bus_mapping_move(mapping, 0xd0001000);
	uint16_t value = 0;
	eventfd_t count = 0;
	for (uint64_t i = 0; i < MANY; i++)
		bus_write(m.bus, BUS_MMIO, 0xd0001000 + i * 4, &value, sizeof(value));
	ck_assert(eventfd_read(m.event_fd, &count) == 0 && count == MANY);
	bus_mapping_hide(mapping);
	for (uint64_t i = 0; i < MANY; i += 64)
		ck_assert(!taken(&m, 0xd0001000 + i * 4, 2, false));
	bus_mapping_destroy(mapping);
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
	const TTest *const tests[] = {follow_the_mapping, of_ports_too, two_at_one_place, many_move_together};
	return harness_run("doorbell_kvm", tests, sizeof(tests) / sizeof(tests[0]));
}
