/* A PCI bus with one function on it, seen as the guest sees it: by 0xcf8 and 0xcfc, by ECAM, by its BARs. */
#ifndef AERIE_TESTS_DEVICES_PCI_BENCH_H
#define AERIE_TESTS_DEVICES_PCI_BENCH_H

#include "fake.h"

#include "base/bytes.h"
#include "base/layout.h"
#include "devices/pci.h"

enum { BENCH_MESSAGES = 64, BENCH_ATTACHED = 8 };

/* Remembers what was sent and what is attached. */
struct bench_msi {
	struct msi_sink sink;
	pthread_mutex_t lock;
	unsigned count;
	struct {
		uint64_t address;
		uint32_t data;
	} sent[BENCH_MESSAGES];
	struct {
		int event_fd;
		uint64_t address; /* 0: free */
		uint32_t data;
	} attached[BENCH_ATTACHED];
	unsigned attaches;
	int refuse; /* what attach answers */
};

/* The owner of BARs: answers with what it is asked, and counts. */
struct bench_bar {
	_Atomic unsigned reads, writes;
	uint64_t offset, value;
};

struct bench {
	struct fake_irq irq;
	struct bench_msi msi;
	struct bus *bus;
	struct pci_bus *pci;
	struct pci_function *function;
	struct bench_bar bar[PCI_BARS];
	struct err err;
	/* What the callbacks saw. */
	unsigned written, read;
	uint8_t written_at, read_at;
	unsigned written_size;
	uint8_t refresh_at; /* capability_read puts a counter here, 0: nowhere */
};

static inline void bench_signal(struct msi_sink *sink, uint64_t address, uint32_t data)
{
	struct bench_msi *msi = container_of(sink, struct bench_msi, sink);
	pthread_mutex_lock(&msi->lock);
	msi->sent[msi->count % BENCH_MESSAGES].address = address;
	msi->sent[msi->count % BENCH_MESSAGES].data = data;
	msi->count++;
	pthread_mutex_unlock(&msi->lock);
}

static inline int bench_attach(struct msi_sink *sink, int event_fd, uint64_t address, uint32_t data)
{
	struct bench_msi *msi = container_of(sink, struct bench_msi, sink);
	msi->attaches++;
	if (msi->refuse)
		return msi->refuse;
	size_t at = 0;
	while (at < BENCH_ATTACHED && (!msi->attached[at].address || msi->attached[at].event_fd != event_fd))
		at++;
	if (at == BENCH_ATTACHED)
		for (at = 0; msi->attached[at].address; at++)
			ck_assert_uint_lt(at, BENCH_ATTACHED - 1);
	msi->attached[at].event_fd = event_fd;
	msi->attached[at].address = address;
	msi->attached[at].data = data;
	return 0;
}

static inline uint64_t bench_bar_read(void *owner, uint64_t offset, unsigned size)
{
	struct bench_bar *bar = owner;
	(void)size;
	bar->reads++;
	return offset;
}

static inline void bench_bar_write(void *owner, uint64_t offset, unsigned size, uint64_t value)
{
	struct bench_bar *bar = owner;
	(void)size;
	bar->writes++;
	bar->offset = offset;
	bar->value = value;
}

static const struct bus_ops bench_bar_ops = {bench_bar_read, bench_bar_write, 1, 8};

static inline void bench_written(void *owner, uint8_t offset, unsigned size)
{
	struct bench *bench = owner;
	bench->written++;
	bench->written_at = offset;
	bench->written_size = size;
}

static inline void bench_read(void *owner, uint8_t offset, unsigned size)
{
	struct bench *bench = owner;
	(void)size;
	bench->read++;
	bench->read_at = offset;
	if (bench->refresh_at)
		pci_capability_set(bench->function, bench->refresh_at, &bench->read, 1);
}

/* BAR 0: 32-bit, 4 KiB. BAR 2 and 3: 64-bit, prefetchable, 1 MiB. BAR 4: MSI-X, 4 vectors. */
static inline struct pci_spec bench_spec(struct bench *bench)
{
	return (struct pci_spec){
		.name = "bench",
		.vendor_id = 0x1af4,
		.device_id = 0x1042,
		.subsystem_vendor_id = 0x1af4,
		.subsystem_id = 0x40,
		.revision = 1,
		.class_code = 0x010203,
		.bars = {[0] = {.size = 4096,
				.ops = &bench_bar_ops,
				.owner = &bench->bar[0],
				.name = "bar 0"},
			 [2] = {.size = 1 << 20,
				.is_64bit = true,
				.prefetchable = true,
				.ops = &bench_bar_ops,
				.owner = &bench->bar[2],
				.name = "bar 2"}},
		.msix_vectors = 4,
		.msix_bar = 4,
		.has_intx = true,
		.capability_written = bench_written,
		.capability_read = bench_read,
		.owner = bench,
	};
}

static inline void bench_bus_init(struct bench *bench, uint64_t ram_end_gpa)
{
	memset(bench, 0, sizeof(*bench));
	pthread_mutex_init(&bench->irq.lock, NULL);
	pthread_mutex_init(&bench->msi.lock, NULL);
	bench->irq.sink.set = fake_irq_set;
	bench->msi.sink = (struct msi_sink){.signal = bench_signal, .attach = bench_attach};
	if (bus_create(&bench->bus, &bench->err) ||
	    pci_bus_create(bench->bus, &bench->irq.sink, &bench->msi.sink, ram_end_gpa, &bench->pci,
			   &bench->err))
		ck_abort_msg("%s", bench->err.text);
}

static inline void bench_init(struct bench *bench)
{
	bench_bus_init(bench, 1 * GIB);
	struct pci_spec spec = bench_spec(bench);
	if (pci_function_create(bench->pci, &spec, &bench->function, &bench->err))
		ck_abort_msg("%s", bench->err.text);
}

static inline void bench_finish(struct bench *bench)
{
	pci_function_destroy(bench->function);
	pci_bus_destroy(bench->pci);
	bus_destroy(bench->bus);
	pthread_mutex_destroy(&bench->irq.lock);
	pthread_mutex_destroy(&bench->msi.lock);
}

static inline uint32_t bench_get(struct bench *bench, enum bus_space space, uint64_t address, unsigned size)
{
	uint32_t value = 0;
	bus_read(bench->bus, space, address, &value, size);
	return value;
}

static inline void bench_set(struct bench *bench, enum bus_space space, uint64_t address, unsigned size,
			     uint32_t value)
{
	bus_write(bench->bus, space, address, &value, size);
}

/* Configuration space by ECAM. */
static inline uint64_t ecam_at(uint32_t slot, uint32_t offset)
{
	return LAYOUT_ECAM_GPA + (slot << 15) + offset;
}

static inline uint32_t conf_get(struct bench *bench, uint32_t slot, uint32_t offset, unsigned size)
{
	return bench_get(bench, BUS_MMIO, ecam_at(slot, offset), size);
}

static inline void conf_set(struct bench *bench, uint32_t slot, uint32_t offset, unsigned size,
			    uint32_t value)
{
	bench_set(bench, BUS_MMIO, ecam_at(slot, offset), size, value);
}

/* Configuration space by ports. */
static inline void port_select(struct bench *bench, uint32_t slot, uint32_t offset)
{
	bench_set(bench, BUS_PIO, 0xcf8, 4, 0x80000000 | slot << 11 | (offset & 0xfc));
}

static inline uint32_t port_get(struct bench *bench, uint32_t slot, uint32_t offset, unsigned size)
{
	port_select(bench, slot, offset);
	return bench_get(bench, BUS_PIO, 0xcfc + offset % 4, size);
}

static inline void port_set(struct bench *bench, uint32_t slot, uint32_t offset, unsigned size,
			    uint32_t value)
{
	port_select(bench, slot, offset);
	bench_set(bench, BUS_PIO, 0xcfc + offset % 4, size, value);
}

/* The offset of a capability, 0 if there is none. */
static inline uint32_t conf_capability(struct bench *bench, uint32_t slot, uint8_t id)
{
	uint32_t at = conf_get(bench, slot, 0x34, 1);
	for (unsigned steps = 0; at && conf_get(bench, slot, at, 1) != id; steps++) {
		ck_assert_uint_lt(steps, 48);
		ck_assert_uint_ge(at, 0x40);
		ck_assert_uint_eq(at % 4, 0);
		at = conf_get(bench, slot, at + 1, 1);
	}
	return at;
}

static inline uint64_t conf_bar(struct bench *bench, uint32_t slot, unsigned bar)
{
	uint32_t low = conf_get(bench, slot, 0x10 + 4 * bar, 4);
	uint64_t high = low & 4 ? conf_get(bench, slot, 0x14 + 4 * bar, 4) : 0;
	return (low & ~15U) | high << 32;
}

#endif
