/*
 * Two functions on a PCI bus, under a guest that writes anything anywhere: configuration space by both ways,
 * BARs wherever they are just now, the MSI-X table, interrupts, reset, restores of damaged state. The input
 * is a list of actions, each a byte and what it needs.
 *
 * Rules: both ways to configuration space read the same; what a guest cannot write never changes; a BAR
 * answers where its registers say, unless something else lies there; event fds are with the message sink
 * exactly while their vectors can be sent; state that was saved is taken back, and what is refused changes
 * nothing.
 */
#include "feed.h"
#include "fuzz.h"

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/layout.h"
#include "base/log.h"
#include "devices/pci.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>

enum { FUNCTIONS = 2, VECTORS = 3, ACTIONS_MAX = 2048, SMALL_BAR = 4096, LARGE_BAR = 1 << 20 };
enum { MSIX_AT = 0x7c, OWN_AT = 0x90, OWN_BYTES = 14 };

struct machine {
	struct irq_sink irq;
	struct msi_sink msi;
	struct bus *bus;
	struct pci_bus *pci;
	struct pci_function *functions[FUNCTIONS];
	struct pci_regs fresh[FUNCTIONS];
	int event_fd;
	bool attached; /* as the sink knows it */
	bool doorbell; /* there is one in the large BAR of function 0 */
};

static void irq_set(struct irq_sink *sink, const struct irq_line *line, bool level)
{
	(void)level;
	FUZZ_CHECK(sink == line->sink && line->source < IRQ_SOURCES_MAX);
	FUZZ_CHECK(line->gsi >= LAYOUT_GSI_PCI && line->gsi < LAYOUT_GSI_COUNT);
}

static void msi_signal(struct msi_sink *sink, uint64_t address, uint32_t data)
{
	(void)sink, (void)data;
	FUZZ_CHECK(address % 4 == 0);
}

static int msi_attach(struct msi_sink *sink, int event_fd, uint64_t address, uint32_t data)
{
	struct machine *machine = container_of(sink, struct machine, msi);
	(void)data;
	FUZZ_CHECK(event_fd == machine->event_fd && (address || machine->attached));
	machine->attached = address != 0;
	return 0;
}

/* Every BAR answers with its owner's number. */
static const uint32_t numbers[2 * FUNCTIONS] = {0x1a1a1a1a, 0x2b2b2b2b, 0x3c3c3c3c, 0x4d4d4d4d};

static uint64_t bar_read(void *owner, uint64_t offset, unsigned size)
{
	FUZZ_CHECK(offset + size <= LARGE_BAR);
	return *(uint32_t *)owner;
}

static void bar_write(void *owner, uint64_t offset, unsigned size, uint64_t value)
{
	(void)owner, (void)value;
	FUZZ_CHECK(offset + size <= LARGE_BAR);
}

static const struct bus_ops bar_ops = {bar_read, bar_write, 1, 4};

static void capability_touched(void *owner, uint8_t offset, unsigned size)
{
	(void)owner;
	FUZZ_CHECK(offset / 4 >= OWN_AT / 4 && offset + size <= OWN_AT + OWN_BYTES + 2U);
}

static void function_create(struct machine *machine, size_t index)
{
	struct err err = ERR_INIT;
	void *small = (void *)(uintptr_t)&numbers[2 * index],
	     *large = (void *)(uintptr_t)&numbers[2 * index + 1];
	const struct pci_spec spec = {
		.name = "fuzzed",
		.vendor_id = 0x1af4,
		.bars = {[0] = {.size = SMALL_BAR, .ops = &bar_ops, .owner = small, .name = "small"},
			 [2] = {.size = LARGE_BAR,
				.is_64bit = true,
				.ops = &bar_ops,
				.owner = large,
				.name = "large"}},
		.msix_vectors = VECTORS,
		.msix_bar = 1,
		.has_intx = true,
		.capability_written = capability_touched,
		.capability_read = capability_touched,
	};
	static const uint8_t body[OWN_BYTES] = {1, 2, 3},
			     mask[OWN_BYTES] = {[2] = 0xff, [3] = 0x0f, [13] = 0xff};
	FUZZ_CHECK(pci_function_create(machine->pci, &spec, &machine->functions[index], &err) == 0);
	FUZZ_CHECK(pci_capability_add(machine->functions[index], 9, body, OWN_BYTES, mask) == OWN_AT);
	pci_function_save(machine->functions[index], &machine->fresh[index]);
}

static struct machine *machine_create(void)
{
	struct err err = ERR_INIT;
	struct machine *machine = calloc(1, sizeof(*machine));
	FUZZ_CHECK(machine);
	machine->irq.set = irq_set;
	machine->msi = (struct msi_sink){msi_signal, msi_attach};
	machine->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	FUZZ_CHECK(bus_create(&machine->bus, &err) == 0);
	FUZZ_CHECK(pci_bus_create(machine->bus, &machine->irq, &machine->msi, GIB, &machine->pci, &err) == 0);
	for (size_t i = 0; i < FUNCTIONS; i++)
		function_create(machine, i);
	return machine;
}

static void machine_destroy(struct machine *machine)
{
	for (size_t i = 0; i < FUNCTIONS; i++)
		pci_function_destroy(machine->functions[i]);
	FUZZ_CHECK(!machine->attached);
	pci_bus_destroy(machine->pci);
	bus_destroy(machine->bus);
	close_fd(machine->event_fd);
	free(machine);
}

/* ---- rules ---- */

static uint32_t look(struct machine *machine, enum bus_space space, uint64_t address, unsigned size)
{
	uint32_t value = 0;
	bus_read(machine->bus, space, address, &value, size);
	return value;
}

static uint64_t ecam(size_t function, uint32_t offset)
{
	return LAYOUT_ECAM_GPA + ((function + 1) << 15) + offset;
}

static uint64_t bar_base(const struct pci_regs *regs, unsigned index)
{
	uint32_t low = load_le32(regs->config + 0x10 + 4 * index);
	uint64_t high = low & 4 ? load_le32(regs->config + 0x14 + 4 * index) : 0;
	return (low & ~15U) | high << 32;
}

/* An address of its own: decoded, not 0, not at the end. */
static bool bar_shown(const struct pci_regs *regs, unsigned index, uint64_t size)
{
	uint64_t base = bar_base(regs, index), last = index == 2 ? UINT64_MAX : UINT32_MAX;
	return (regs->config[4] & 2) && base != 0 && size - 1 < last - base;
}

static const struct {
	unsigned index;
	uint64_t size;
} bars[] = {{0, SMALL_BAR}, {1, 4096}, {2, LARGE_BAR}};

/* How many BARs hold this address. */
static unsigned holders(const struct pci_regs *regs, uint64_t address)
{
	unsigned count = 0;
	for (size_t i = 0; i < FUNCTIONS; i++)
		for (size_t bar = 0; bar < ARRAY_LEN(bars); bar++)
			count += bar_shown(&regs[i], bars[bar].index, bars[bar].size) &&
				 address - bar_base(&regs[i], bars[bar].index) < bars[bar].size;
	return count;
}

static void check_bars(struct machine *machine, const struct pci_regs *regs)
{
	for (size_t i = 0; i < FUNCTIONS; i++) {
		for (unsigned bar = 0; bar <= 2; bar += 2) {
			uint64_t base = bar_base(&regs[i], bar);
			bool board = base - LAYOUT_ECAM_GPA < LAYOUT_ECAM_BYTES;
			uint32_t got = look(machine, BUS_MMIO, base, 4);
			if (board || holders(regs, base) > 1)
				continue;
			if (bar_shown(&regs[i], bar, bar ? LARGE_BAR : SMALL_BAR))
				FUZZ_CHECK(got == numbers[2 * i + bar / 2]);
			else
				FUZZ_CHECK(holders(regs, base) || got == UINT32_MAX);
		}
	}
}

static void check_rules(struct machine *machine, bool wants_attached)
{
	struct pci_regs regs[FUNCTIONS];
	for (size_t i = 0; i < FUNCTIONS; i++) {
		struct err err = ERR_INIT;
		pci_function_save(machine->functions[i], &regs[i]);
		FUZZ_CHECK(pci_function_restore(machine->functions[i], &regs[i], &err) == 0);
		for (uint32_t offset = 0; offset < 256; offset += 4) {
			uint32_t value = look(machine, BUS_MMIO, ecam(i, offset), 4);
			uint32_t address = 0x80000000 | (uint32_t)(i + 1) << 11 | offset;
			bus_write(machine->bus, BUS_PIO, LAYOUT_PORT_PCI_ADDRESS, &address, 4);
			FUZZ_CHECK(look(machine, BUS_PIO, LAYOUT_PORT_PCI_DATA, 4) == value);
		}
	}
	check_bars(machine, regs);
	const struct pci_regs *first = &regs[0];
	bool on = (load_le16(first->config + MSIX_AT + 2) & 0xc000) == 0x8000 &&
		  !(first->msix_table[3] & 1) && (first->msix_table[0] || first->msix_table[1]);
	FUZZ_CHECK(machine->attached == (wants_attached && on));
}

/* ---- actions ---- */

static void act_config(struct machine *machine, uint32_t how, struct feed *feed)
{
	size_t function = how & 1;
	uint32_t offset = take(feed, 1), value = take(feed, 4);
	unsigned size = 1U << (how >> 1 & 3);
	size = size > 4 ? 4 : size;
	if (how & 8) {
		uint32_t address = 0x80000000 | (uint32_t)(function + 1) << 11 | (offset & 0xfc);
		bus_write(machine->bus, BUS_PIO, LAYOUT_PORT_PCI_ADDRESS, &address, 4);
		bus_write(machine->bus, BUS_PIO, LAYOUT_PORT_PCI_DATA + offset % 4, &value, size);
	} else {
		bus_write(machine->bus, BUS_MMIO, ecam(function, offset), &value, size);
	}
}

/* Near a place where something is: a BAR, the table, ECAM, the ports. */
static void act_memory(struct machine *machine, uint32_t how, struct feed *feed)
{
	struct pci_regs regs;
	pci_function_save(machine->functions[how & 1], &regs);
	uint64_t base = bar_base(&regs, (how >> 1 & 3) % 3) + take(feed, 2) - 16;
	uint64_t value = take(feed, 4) | (uint64_t)take(feed, 1) << 32;
	unsigned size = 1 + take(feed, 1) % 8;
	if (how & 8)
		bus_write(machine->bus, BUS_MMIO, base, &value, size);
	else
		bus_read(machine->bus, BUS_MMIO, base, &value, size);
}

static void act_ports(struct machine *machine, struct feed *feed)
{
	uint64_t port = LAYOUT_PORT_PCI_ADDRESS - 2 + take(feed, 1) % 12;
	uint64_t value = take(feed, 4);
	bus_write(machine->bus, BUS_PIO, port, &value, 1 + take(feed, 1) % 4);
	bus_read(machine->bus, BUS_PIO, port, &value, 4);
}

static void act_damage(struct machine *machine, size_t index, struct feed *feed)
{
	struct pci_function *function = machine->functions[index];
	struct pci_regs before, damaged, after;
	struct err err = ERR_INIT;
	memset(&before, 0, sizeof(before));
	memset(&after, 0, sizeof(after));
	pci_function_save(function, &before);
	damaged = before;
	uint32_t at = take(feed, 2) % (uint32_t)offsetof(struct pci_regs, intx);
	((uint8_t *)&damaged)[at] ^= (uint8_t)take(feed, 1);
	int r = pci_function_restore(function, &damaged, &err);
	pci_function_save(function, &after);
	FUZZ_CHECK(r == err.code && (r == 0) == !err.text[0]);
	FUZZ_CHECK(r == 0 || !memcmp(&before, &after, sizeof(before)));
}

static void act_reset(struct machine *machine, size_t index)
{
	struct pci_regs regs;
	pci_function_reset(machine->functions[index]);
	memset(&regs, 0, sizeof(regs));
	pci_function_save(machine->functions[index], &regs);
	FUZZ_CHECK(!memcmp(regs.config, machine->fresh[index].config, sizeof(regs.config)));
	FUZZ_CHECK(!memcmp(regs.msix_table, machine->fresh[index].msix_table, sizeof(regs.msix_table)));
	FUZZ_CHECK(!regs.intx && !regs.msix_pending[0]);
}

static void act_doorbell(struct machine *machine)
{
	struct err err = ERR_INIT;
	int r = pci_doorbell_add(machine->functions[0], 2, 0x1000, 0, machine->event_fd, &err);
	FUZZ_CHECK(r == (machine->doorbell ? -EEXIST : 0));
	machine->doorbell = true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct feed feed = {data, size};
	struct machine *machine = machine_create();
	bool wants_attached = false;
	log_set_level(LOG_ERROR);
	for (unsigned i = 0; feed.size && i < ACTIONS_MAX; i++) {
		uint32_t action = take(&feed, 1), how = action & 15;
		switch (action >> 4) {
		case 0:
			pci_msix_signal(machine->functions[how & 1], (uint16_t)(how >> 1));
			break;
		case 1:
			pci_intx_set(machine->functions[how & 1], how & 2);
			break;
		case 2:
			wants_attached = how & 1;
			FUZZ_CHECK(pci_msix_attach(machine->functions[0], 0,
						   wants_attached ? machine->event_fd : -1) == 0);
			break;
		case 3:
			act_damage(machine, how & 1, &feed);
			break;
		case 4:
			act_reset(machine, how & 1);
			break;
		case 5:
			act_ports(machine, &feed);
			break;
		case 6:
			if (how == 0)
				act_doorbell(machine);
			else
				check_rules(machine, wants_attached);
			break;
		case 7:
		case 8:
		case 9:
		case 10:
			act_memory(machine, how, &feed);
			break;
		default:
			act_config(machine, how, &feed);
			break;
		}
	}
	check_rules(machine, wants_attached);
	machine_destroy(machine);
	return 0;
}
