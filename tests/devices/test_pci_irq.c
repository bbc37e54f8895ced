/* MSI-X with its masks and pending bits, event fds that are vectors, INTx; and a function's state. */
#include "harness.h"
#include "pci_bench.h"

#include <errno.h>
#include <libfdt.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { FUNCTION = 1, GSI = 17 };
enum { ENABLE = 0x8000, MASK_ALL = 0x4000 };
#define TABLE	UINT64_C(0xc0001000)
#define PENDING (TABLE + 2048)

static void table_set(struct bench *bench, unsigned vector, unsigned dword, uint32_t value)
{
	bench_set(bench, BUS_MMIO, TABLE + vector * 16 + dword * 4, 4, value);
}

static void control(struct bench *bench, uint16_t value)
{
	conf_set(bench, FUNCTION, conf_capability(bench, FUNCTION, 0x11) + 2, 2, value);
}

static uint32_t pending(struct bench *bench)
{
	return bench_get(bench, BUS_MMIO, PENDING, 4);
}

/* Messages since the last question; all of them `data`. */
static unsigned sent(struct bench *bench, uint32_t data)
{
	unsigned count = bench->msi.count;
	for (unsigned i = 0; i < count; i++) {
		ck_assert_uint_eq(bench->msi.sent[i].data, data);
		ck_assert_uint_eq(bench->msi.sent[i].address, 0x1fee01000);
	}
	bench->msi.count = 0;
	return count;
}

/* All four vectors with messages, unmasked; MSI-X on. */
static void irq_init(struct bench *bench)
{
	bench_init(bench);
	conf_set(bench, FUNCTION, 0x04, 2, 2);
	for (unsigned i = 0; i < 4; i++) {
		table_set(bench, i, 0, 0xfee01000);
		table_set(bench, i, 1, 1);
		table_set(bench, i, 2, 0x40 + i);
		table_set(bench, i, 3, 0);
	}
	control(bench, ENABLE);
}

START_TEST(capability_and_table_after_reset)
{
	struct bench bench;
	bench_init(&bench);
	uint32_t at = conf_capability(&bench, FUNCTION, 0x11);
	ck_assert_uint_eq(at, 0x7c);
	ck_assert_uint_eq(conf_get(&bench, FUNCTION, at + 2, 2), 3);
	ck_assert_uint_eq(conf_get(&bench, FUNCTION, at + 4, 4), 4);
	ck_assert_uint_eq(conf_get(&bench, FUNCTION, at + 8, 4), 2048 | 4);
	conf_set(&bench, FUNCTION, 0x04, 2, 2);
	for (unsigned i = 0; i < 4; i++) {
		for (unsigned dword = 0; dword < 4; dword++)
			ck_assert_uint_eq(bench_get(&bench, BUS_MMIO, TABLE + i * 16 + dword * 4, 4),
					  dword == 3);
		for (unsigned dword = 0; dword < 4; dword++)
			table_set(&bench, i, dword, 0xffffffff);
		uint64_t low = 0;
		bus_read(bench.bus, BUS_MMIO, TABLE + i * 16, &low, 8);
		ck_assert_uint_eq(low, 0xfffffffffffffffc);
		ck_assert_uint_eq(bench_get(&bench, BUS_MMIO, TABLE + i * 16 + 12, 4), 1);
	}
	/* Beyond the table and the pending bits there is nothing; small accesses are not answered. */
	table_set(&bench, 4, 2, 5);
	ck_assert_uint_eq(bench_get(&bench, BUS_MMIO, TABLE + 72, 4), 0);
	ck_assert_uint_eq(bench_get(&bench, BUS_MMIO, PENDING + 8, 4), 0);
	ck_assert_uint_eq(bench_get(&bench, BUS_MMIO, TABLE + 4092, 4), 0);
	ck_assert_uint_eq(bench_get(&bench, BUS_MMIO, TABLE, 2), 0xffff);
	ck_assert_uint_eq(bench_get(&bench, BUS_MMIO, TABLE + 2, 4), 0xffffffff);
	bench_set(&bench, BUS_MMIO, TABLE + 2, 4, 0);
	bench_set(&bench, BUS_MMIO, PENDING, 4, 0xf);
	ck_assert_uint_eq(pending(&bench), 0);
	ck_assert_uint_eq(bench_get(&bench, BUS_MMIO, TABLE, 4), 0xfffffffc);
	bench_finish(&bench);
}
END_TEST

START_TEST(vector_is_its_message)
{
	struct bench bench;
	irq_init(&bench);
	ck_assert(pci_msix_enabled(bench.function));
	pci_msix_signal(bench.function, 2);
	ck_assert_uint_eq(sent(&bench, 0x42), 1);
	pci_msix_signal(bench.function, 4); /* there is none */
	pci_msix_signal(bench.function, UINT16_MAX);
	ck_assert_uint_eq(sent(&bench, 0), 0);
	/* A qword at once, as 64-bit guests write it. */
	uint64_t both = 0x1fee01000;
	bus_write(bench.bus, BUS_MMIO, TABLE + 16, &both, 8);
	both = 0x55;
	bus_write(bench.bus, BUS_MMIO, TABLE + 24, &both, 8);
	pci_msix_signal(bench.function, 1);
	ck_assert_uint_eq(sent(&bench, 0x55), 1);
	bench_finish(&bench);
}
END_TEST

START_TEST(masked_vector_waits)
{
	struct bench bench;
	irq_init(&bench);
	table_set(&bench, 1, 3, 1);
	pci_msix_signal(bench.function, 1);
	pci_msix_signal(bench.function, 1);
	ck_assert_uint_eq(sent(&bench, 0), 0);
	ck_assert_uint_eq(pending(&bench), 2);
	table_set(&bench, 1, 2, 0x66); /* a new message while it is masked */
	ck_assert_uint_eq(pending(&bench), 2);
	table_set(&bench, 1, 3, 0);
	ck_assert_uint_eq(sent(&bench, 0x66), 1); /* two became one */
	ck_assert_uint_eq(pending(&bench), 0);
	table_set(&bench, 1, 3, 1);
	table_set(&bench, 1, 3, 0);
	ck_assert_uint_eq(sent(&bench, 0), 0);
	bench_finish(&bench);
}
END_TEST

START_TEST(masked_function_waits)
{
	struct bench bench;
	irq_init(&bench);
	control(&bench, ENABLE | MASK_ALL);
	table_set(&bench, 3, 3, 1);
	pci_msix_signal(bench.function, 0);
	pci_msix_signal(bench.function, 3);
	ck_assert_uint_eq(pending(&bench), 9);
	control(&bench, ENABLE);
	ck_assert_uint_eq(sent(&bench, 0x40), 1);
	ck_assert_uint_eq(pending(&bench), 8); /* its own mask is still on */
	control(&bench, 0);
	ck_assert(!pci_msix_enabled(bench.function));
	pci_msix_signal(bench.function, 2);
	ck_assert_uint_eq(pending(&bench), 0xc);
	control(&bench, ENABLE);
	ck_assert_uint_eq(sent(&bench, 0x42), 1);
	pci_msix_signal(bench.function, 0);
	ck_assert_uint_eq(sent(&bench, 0x40), 1);
	conf_set(&bench, FUNCTION, 0x7f, 1, 0xc0); /* the byte alone */
	pci_msix_signal(bench.function, 0);
	ck_assert_uint_eq(sent(&bench, 0), 0);
	conf_set(&bench, FUNCTION, 0x7f, 1, 0x80);
	ck_assert_uint_eq(sent(&bench, 0x40), 1);
	pci_function_reset(bench.function);
	conf_set(&bench, FUNCTION, 0x04, 2, 2);
	ck_assert_uint_eq(pending(&bench), 0);
	ck_assert_uint_eq(bench_get(&bench, BUS_MMIO, TABLE + 8, 4), 0);
	ck_assert_uint_eq(conf_get(&bench, FUNCTION, 0x7e, 2), 3);
	bench_finish(&bench);
}
END_TEST

static uint32_t attached(struct bench *bench, int event_fd)
{
	for (size_t i = 0; i < BENCH_ATTACHED; i++)
		if (bench->msi.attached[i].address && bench->msi.attached[i].event_fd == event_fd)
			return bench->msi.attached[i].data;
	return 0;
}

START_TEST(attached_event_follows_its_vector)
{
	struct bench bench;
	irq_init(&bench);
	int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), other = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	ck_assert_int_eq(pci_msix_attach(bench.function, 1, fd), 0);
	ck_assert_uint_eq(attached(&bench, fd), 0x41);
	eventfd_write(fd, 1);
	ck_assert_uint_eq(pending(&bench), 0); /* KVM is about to send it */
	eventfd_t count;
	ck_assert_int_eq(eventfd_read(fd, &count), 0);
	table_set(&bench, 1, 2, 0x51);
	ck_assert_uint_eq(attached(&bench, fd), 0x51);
	unsigned before = bench.msi.attaches;
	table_set(&bench, 1, 2, 0x51);
	control(&bench, ENABLE);
	table_set(&bench, 2, 2, 0x52);		       /* another vector */
	ck_assert_uint_eq(bench.msi.attaches, before); /* KVM is not asked for what it knows */
	/* Masked: the event fd is ours, and what it counts is pending. */
	table_set(&bench, 1, 3, 1);
	ck_assert_uint_eq(attached(&bench, fd), 0);
	ck_assert_uint_eq(pending(&bench), 0);
	eventfd_write(fd, 1);
	ck_assert_uint_eq(pending(&bench), 2);
	table_set(&bench, 1, 3, 0);
	ck_assert_uint_eq(attached(&bench, fd), 0x51);
	control(&bench, ENABLE | MASK_ALL);
	ck_assert_uint_eq(attached(&bench, fd), 0);
	control(&bench, ENABLE);
	/* Another event fd takes its place; none at all. */
	ck_assert_int_eq(pci_msix_attach(bench.function, 1, other), 0);
	ck_assert_uint_eq(attached(&bench, fd), 0);
	ck_assert_uint_eq(attached(&bench, other), 0x51);
	ck_assert_int_eq(pci_msix_attach(bench.function, 1, -1), 0);
	ck_assert_uint_eq(attached(&bench, other), 0);
	/* Reset takes them from KVM, destroying too. */
	ck_assert_int_eq(pci_msix_attach(bench.function, 0, fd), 0);
	pci_function_reset(bench.function);
	ck_assert_uint_eq(attached(&bench, fd), 0);
	conf_set(&bench, FUNCTION, 0x04, 2, 2);
	table_set(&bench, 0, 0, 0xfee00000);
	table_set(&bench, 0, 2, 0x77);
	table_set(&bench, 0, 3, 0);
	control(&bench, ENABLE);
	ck_assert_uint_eq(attached(&bench, fd), 0x77);
	pci_function_destroy(bench.function);
	bench.function = NULL;
	ck_assert_uint_eq(attached(&bench, fd), 0);
	close(fd);
	close(other);
	bench_finish(&bench);
}
END_TEST

START_TEST(attach_can_fail)
{
	struct bench bench;
	irq_init(&bench);
	ck_assert_int_eq(pci_msix_attach(bench.function, 4, 0), -EINVAL);
	bench.msi.refuse = -ENOSPC;
	ck_assert_int_eq(pci_msix_attach(bench.function, 0, 5), -ENOSPC);
	bench.msi.refuse = 0;
	table_set(&bench, 0, 2, 0x99); /* the next change tries again */
	ck_assert_uint_eq(attached(&bench, 5), 0x99);
	bench_finish(&bench);
}
END_TEST

START_TEST(intx_is_a_level)
{
	struct bench bench;
	bench_init(&bench);
	pci_intx_set(bench.function, true);
	ck_assert_uint_eq(bench.irq.sources[GSI], 1U << FUNCTION);
	ck_assert_uint_eq(conf_get(&bench, FUNCTION, 0x06, 2), 0x18);
	ck_assert_uint_eq(conf_get(&bench, FUNCTION, 0x04, 4), 0x00180000);
	ck_assert_uint_eq(conf_get(&bench, FUNCTION, 0x06, 1), 0x18);
	ck_assert_uint_eq(conf_get(&bench, FUNCTION, 0x07, 1), 0);
	/* Disabled: the line is low, the status bit stays (6.2.3). */
	conf_set(&bench, FUNCTION, 0x05, 1, 4);
	ck_assert_uint_eq(bench.irq.sources[GSI], 0);
	ck_assert_uint_eq(conf_get(&bench, FUNCTION, 0x06, 2), 0x18);
	conf_set(&bench, FUNCTION, 0x05, 1, 0);
	ck_assert_uint_eq(bench.irq.sources[GSI], 1U << FUNCTION);
	control(&bench, ENABLE); /* messages instead */
	ck_assert_uint_eq(bench.irq.sources[GSI], 0);
	control(&bench, 0);
	ck_assert_uint_eq(bench.irq.sources[GSI], 1U << FUNCTION);
	unsigned calls = bench.irq.calls;
	pci_intx_set(bench.function, true);
	ck_assert_uint_eq(bench.irq.calls, calls);
	pci_intx_set(bench.function, false);
	ck_assert_uint_eq(bench.irq.sources[GSI], 0);
	ck_assert_uint_eq(conf_get(&bench, FUNCTION, 0x06, 2), 0x10);
	pci_intx_set(bench.function, true);
	pci_function_reset(bench.function);
	ck_assert_uint_eq(bench.irq.sources[GSI], 0);
	pci_intx_set(bench.function, true);
	pci_function_destroy(bench.function); /* lets go of the line */
	ck_assert_uint_eq(bench.irq.sources[GSI], 0);
	bench.function = NULL;
	bench_finish(&bench);
}
END_TEST

/* Slots 8 apart share a line, and each holds it by itself. */
START_TEST(intx_is_shared)
{
	struct bench bench;
	bench_bus_init(&bench, GIB);
	struct pci_function *functions[PCI_SLOTS] = {NULL};
	for (uint32_t slot = 1; slot < PCI_SLOTS; slot++) {
		struct pci_spec spec = {.name = "x", .slot = slot, .has_intx = true};
		ck_assert_int_eq(pci_function_create(bench.pci, &spec, &functions[slot], &bench.err), 0);
		pci_intx_set(functions[slot], true);
		ck_assert_uint_eq(bench.irq.sources[16 + slot % 8] >> slot, 1);
		ck_assert_uint_eq(conf_get(&bench, slot, 0x3c, 2), 0x100 | (16 + slot % 8));
	}
	pci_intx_set(functions[1], false);
	ck_assert_uint_eq(bench.irq.sources[17], 1U << 9 | 1U << 17 | 1U << 25);
	for (uint32_t slot = 1; slot < PCI_SLOTS; slot++)
		pci_function_destroy(functions[slot]);
	bench_finish(&bench);
}
END_TEST

/* ---- state ---- */

struct holder_regs {
	uint32_t own;
	struct pci_regs pci;
};

static const struct state_field holder_fields[] = {
	STATE_FIELD(struct holder_regs, own),
	PCI_STATE_FIELDS(struct holder_regs, pci),
};
static const struct state_table holder_state = STATE_TABLE("holder", struct holder_regs, holder_fields);

/* Through a tree, as a snapshot goes. */
static void through_a_tree(const struct holder_regs *from, struct holder_regs *to)
{
	static _Alignas(8) uint8_t tree[16384];
	struct err err = ERR_INIT;
	ck_assert_int_eq(fdt_create(tree, sizeof(tree)), 0);
	ck_assert_int_eq(fdt_finish_reservemap(tree), 0);
	ck_assert_int_eq(fdt_begin_node(tree, ""), 0);
	ck_assert_int_eq(state_encode(&holder_state, from, tree), 0);
	ck_assert_int_eq(fdt_end_node(tree), 0);
	ck_assert_int_eq(fdt_finish(tree), 0);
	ck_assert_msg(state_decode(&holder_state, to, tree, 0, &err) == 0, "%s", err.text);
}

START_TEST(state_goes_to_another_machine)
{
	struct bench from, to;
	irq_init(&from);
	table_set(&from, 3, 3, 1);
	pci_msix_signal(from.function, 3);
	conf_set(&from, FUNCTION, 0x10, 4, 0xd0000000);
	conf_set(&from, FUNCTION, 0x3c, 1, 9);
	struct holder_regs saved = {.own = 1}, restored = {0}, again;
	pci_function_save(from.function, &saved.pci);
	through_a_tree(&saved, &restored);

	bench_init(&to);
	int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	ck_assert_int_eq(pci_msix_attach(to.function, 2, fd), 0);
	ck_assert_int_eq(pci_function_restore(to.function, &restored.pci, &to.err), 0);
	ck_assert_uint_eq(bench_get(&to, BUS_MMIO, 0xd0000010, 4), 0x10);
	ck_assert_uint_eq(conf_get(&to, FUNCTION, 0x3c, 1), 9);
	ck_assert_uint_eq(pending(&to), 8);
	ck_assert_uint_eq(attached(&to, fd), 0x42);
	table_set(&to, 3, 3, 0);
	ck_assert_uint_eq(sent(&to, 0x43), 1);
	ck_assert_int_eq(pci_function_restore(to.function, &restored.pci, &to.err), 0);
	memset(&again, 0, sizeof(again));
	pci_function_save(to.function, &again.pci);
	ck_assert_mem_eq(&again.pci, &saved.pci, sizeof(again.pci));
	bench_finish(&from);
	bench_finish(&to);
	close(fd);
}
END_TEST

START_TEST(a_raised_line_is_raised_again)
{
	struct bench from, to;
	struct pci_regs regs;
	bench_init(&from);
	pci_intx_set(from.function, true);
	pci_function_save(from.function, &regs);
	bench_init(&to);
	ck_assert_int_eq(pci_function_restore(to.function, &regs, &to.err), 0);
	ck_assert_uint_eq(to.irq.sources[GSI], 1U << FUNCTION);
	bench_finish(&from);
	bench_finish(&to);
}
END_TEST

static void check_refused(struct bench *bench, const struct pci_regs *regs)
{
	struct pci_regs before, after;
	bench->err = ERR_INIT;
	pci_function_save(bench->function, &before);
	ck_assert_int_eq(pci_function_restore(bench->function, regs, &bench->err), -EINVAL);
	ck_assert_int_eq(strncmp(bench->err.text, "bench: ", 7), 0);
	pci_function_save(bench->function, &after);
	ck_assert_mem_eq(&before, &after, sizeof(before));
}

START_TEST(state_of_another_function_is_refused)
{
	struct bench bench;
	struct pci_regs good, bad;
	irq_init(&bench);
	pci_function_save(bench.function, &good);
	static const uint8_t bytes[] = {0x00, 0x02, 0x06, 0x08, 0x0b, 0x0e, 0x10,
					0x18, 0x34, 0x3d, 0x41, 0x7e, 0xff};
	for (size_t i = 0; i < ARRAY_LEN(bytes); i++) {
		bad = good;
		bad.config[bytes[i]] ^= 0x01;
		check_refused(&bench, &bad);
	}
	bad = good;
	bad.msix_table[16] = 4; /* a fifth vector */
	check_refused(&bench, &bad);
	bad = good;
	bad.msix_table[0] |= 1;
	check_refused(&bench, &bad);
	bad = good;
	bad.msix_table[3] = 2;
	check_refused(&bench, &bad);
	bad = good;
	bad.msix_pending[1] = 1;
	check_refused(&bench, &bad);
	bad = good;
	bad.msix_pending[0] = 0x10;
	check_refused(&bench, &bad);
	bench_finish(&bench);
}
END_TEST

START_TEST(a_line_needs_a_pin)
{
	struct bench bench;
	struct pci_regs regs;
	bench_bus_init(&bench, GIB);
	struct pci_spec spec = {.name = "bench"};
	ck_assert_int_eq(pci_function_create(bench.pci, &spec, &bench.function, &bench.err), 0);
	ck_assert_uint_eq(conf_get(&bench, FUNCTION, 0x3c, 2), 0);
	ck_assert_uint_eq(conf_capability(&bench, FUNCTION, 0x11), 0);
	pci_function_save(bench.function, &regs);
	regs.intx = true;
	check_refused(&bench, &regs);
	bench_finish(&bench);
}
END_TEST

TEST_MAIN("pci_irq", capability_and_table_after_reset, vector_is_its_message, masked_vector_waits,
	  masked_function_waits, attached_event_follows_its_vector, attach_can_fail, intx_is_a_level,
	  intx_is_shared, state_goes_to_another_machine, a_raised_line_is_raised_again,
	  state_of_another_function_is_refused, a_line_needs_a_pin)
