/* The PC without vCPUs that the driver of driver.h needs. */
#include "driver.h"

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/layout.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { PORT_CONFIG_ADDRESS = 0xcf8, PORT_CONFIG_DATA = 0xcfc, FIRST_GPA = 1 << 20, PAGE_BYTES = 4096 };

static void check(int r, const struct err *err)
{
	if (r == 0)
		return;
	(void)fprintf(stderr, "world: %s\n", err->text);
	abort();
}

static void set_line(struct irq_sink *sink, const struct irq_line *line, bool level)
{
	struct world *world = container_of(sink, struct world, irq);
	unsigned gsi = line->gsi % WORLD_GSIS;
	uint32_t bit = 1U << line->source;
	pthread_mutex_lock(&world->lock);
	if (level && !(world->levels[gsi] & bit))
		world->rises[gsi]++;
	world->levels[gsi] = level ? world->levels[gsi] | bit : world->levels[gsi] & ~bit;
	pthread_cond_broadcast(&world->changed);
	pthread_mutex_unlock(&world->lock);
}

static void signal_message(struct msi_sink *sink, uint64_t address, uint32_t data)
{
	struct world *world = container_of(sink, struct world, msi);
	unsigned slot = data >> 8, vector = data & 0xff;
	pthread_mutex_lock(&world->lock);
	if (address == LAYOUT_LAPIC_GPA && slot < PCI_SLOTS && vector <= PCI_MSIX_MAX)
		world->messages[slot][vector]++;
	else
		world->lost_messages++;
	pthread_cond_broadcast(&world->changed);
	pthread_mutex_unlock(&world->lock);
}

/* There is no KVM here: whoever wants to attach must read the event fd. */
static int refuse_attach(struct msi_sink *sink, int event_fd, uint64_t address, uint32_t data)
{
	(void)sink, (void)event_fd, (void)data;
	return address ? -ENOTSUP : 0;
}

static void ignore_request(void *owner, enum machine_request request, int exit_code)
{
	(void)owner, (void)request, (void)exit_code;
}

static void note_news(void *owner, struct device *device, unsigned news)
{
	(void)owner;
	atomic_fetch_or(&device->news, news);
}

static void ignore_key(void *owner, enum console_action action)
{
	(void)owner, (void)action;
}

static void make_condition(struct world *world)
{
	pthread_condattr_t attr;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&world->changed, &attr);
	pthread_condattr_destroy(&attr);
	pthread_mutex_init(&world->lock, NULL);
}

void world_init(struct world *world, unsigned threads)
{
	struct err err = ERR_INIT;
	memset(world, 0, sizeof(*world));
	world->next_gpa = FIRST_GPA;
	world->irq.set = set_line;
	world->msi.signal = signal_message;
	world->msi.attach = refuse_attach;
	make_condition(world);
	const struct memory_config ram = {.size_bytes = WORLD_RAM_MIB * MIB, .shared = true};
	check(guest_memory_create(&ram, &world->memory, &err), &err);
	check(loop_create(64, &world->loop, &err), &err);
	check(bus_create(&world->bus, &err), &err);
	check(pci_bus_create(world->bus, &world->irq, &world->msi, LAYOUT_HIGH_RAM_GPA, &world->pci, &err),
	      &err);
	for (unsigned i = 0; i < threads; i++)
		check(iothread_create("io", &world->threads[i], &err), &err);
	world->services = (struct device_services){
		.bus = world->bus,
		.irq = &world->irq,
		.loop = world->loop,
		.memory = world->memory,
		.vm_fd = -1,
		.pci = world->pci,
		.io_threads = world->threads,
		.io_thread_count = threads,
		.request = ignore_request,
		.request_owner = world,
		.tell = note_news,
		.keys = {.action = ignore_key, .owner = world},
	};
}

void world_finish(struct world *world)
{
	pci_bus_destroy(world->pci);
	bus_destroy(world->bus);
	for (unsigned i = 0; i < WORLD_THREADS_MAX; i++)
		iothread_destroy(world->threads[i]);
	loop_destroy(world->loop);
	guest_memory_destroy(world->memory);
	pthread_cond_destroy(&world->changed);
	pthread_mutex_destroy(&world->lock);
}

uint64_t world_alloc(struct world *world, uint64_t bytes)
{
	uint64_t gpa = world->next_gpa;
	if (!world_at(world, gpa, bytes)) {
		(void)fprintf(stderr, "world: no RAM is left\n");
		abort();
	}
	world->next_gpa = (gpa + bytes + PAGE_BYTES - 1) & ~(uint64_t)(PAGE_BYTES - 1);
	return gpa;
}

void *world_at(struct world *world, uint64_t gpa, uint64_t len)
{
	return guest_memory_at(world->memory, gpa, len);
}

uint64_t world_read(struct world *world, uint64_t gpa, unsigned size)
{
	uint8_t data[8] = {0};
	bus_read(world->bus, BUS_MMIO, gpa, data, size);
	return load_le64(data);
}

void world_write(struct world *world, uint64_t gpa, unsigned size, uint64_t value)
{
	bus_write(world->bus, BUS_MMIO, gpa, &value, size);
}

/* Configuration mechanism #1. */
static uint16_t select_config(struct world *world, uint32_t slot, unsigned offset)
{
	uint32_t address = 1U << 31 | slot << 11 | (offset & 0xfcU);
	bus_write(world->bus, BUS_PIO, PORT_CONFIG_ADDRESS, &address, 4);
	return (uint16_t)(PORT_CONFIG_DATA + (offset & 3U));
}

uint32_t world_config_read(struct world *world, uint32_t slot, unsigned offset, unsigned size)
{
	uint32_t value = 0;
	bus_read(world->bus, BUS_PIO, select_config(world, slot, offset), &value, size);
	return value;
}

void world_config_write(struct world *world, uint32_t slot, unsigned offset, unsigned size, uint32_t value)
{
	bus_write(world->bus, BUS_PIO, select_config(world, slot, offset), &value, size);
}
