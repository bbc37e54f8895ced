#include "irq/msi.h"

#include "base/cleanup.h"
#include "base/layout.h"
#include "base/log.h"
#include "host/kvm.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum {
	ATTACHED_MAX = 1024,
	PIC_PINS = 8,
	CHIP_ROUTES_MAX = 2 * PIC_PINS + LAYOUT_GSI_COUNT,
	PIT_PIN = LAYOUT_GSI_PIT, /* of the IOAPIC; GSI 0 comes in there */
	CASCADE_IRQ = 2,	  /* where the second 8259 comes in */
};

/* The address of a message (Intel SDM 3A, 11.11.1): 0xfee in bits 31:20, the destination in bits 19:12. */
enum { MSI_WINDOW = 0xfee, MSI_WINDOW_SHIFT = 20 };

/* An event fd and its message; its GSI follows from its index. */
struct attached {
	bool used;
	int event_fd;
	uint64_t address;
	uint32_t data;
};

struct msi {
	struct msi_sink sink;
	int vm_fd;
	struct log_limit log;
	pthread_mutex_t lock; /* of what follows */
	struct attached attached[ATTACHED_MAX];
	struct kvm_irq_routing *table; /* as KVM takes it, with room for all */
};

static uint32_t attached_gsi(size_t index)
{
	return LAYOUT_GSI_COUNT + (uint32_t)index;
}

static void route_chip(struct msi *msi, uint32_t gsi, uint32_t chip, uint32_t pin)
{
	msi->table->entries[msi->table->nr++] = (struct kvm_irq_routing_entry){
		.gsi = gsi, .type = KVM_IRQ_ROUTING_IRQCHIP, .u.irqchip = {.irqchip = chip, .pin = pin}};
}

/*
 * As the wires of a PC run: ISA interrupts to the 8259s and to the same pin of the IOAPIC, but for the timer,
 * which has pin 2 there. That is what our MADT says; KVM's own default would bring it to pin 0.
 */
static void route_chips(struct msi *msi)
{
	for (uint32_t gsi = 0; gsi < 2 * PIC_PINS; gsi++)
		if (gsi != CASCADE_IRQ)
			route_chip(msi, gsi, gsi < PIC_PINS ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE,
				   gsi % PIC_PINS);
	for (uint32_t gsi = 0; gsi < LAYOUT_GSI_COUNT; gsi++)
		if (gsi != PIT_PIN)
			route_chip(msi, gsi, KVM_IRQCHIP_IOAPIC, gsi == 0 ? PIT_PIN : gsi);
}

/* Tell KVM all routes anew (it knows no other way). Under the lock, or before there is another thread. */
static int msi_route(struct msi *msi)
{
	msi->table->nr = 0;
	route_chips(msi);
	for (size_t i = 0; i < ATTACHED_MAX; i++) {
		const struct attached *at = &msi->attached[i];
		if (at->used)
			msi->table->entries[msi->table->nr++] = (struct kvm_irq_routing_entry){
				.gsi = attached_gsi(i),
				.type = KVM_IRQ_ROUTING_MSI,
				.u.msi = {.address_lo = (uint32_t)at->address, .data = at->data}};
	}
	int r = kvm_call(msi->vm_fd, KVM_SET_GSI_ROUTING, msi->table);
	return r < 0 ? r : 0;
}

static int msi_irqfd(const struct msi *msi, size_t index, bool assign)
{
	struct kvm_irqfd args = {.fd = (uint32_t)msi->attached[index].event_fd,
				 .gsi = attached_gsi(index),
				 .flags = assign ? 0 : KVM_IRQFD_FLAG_DEASSIGN};
	int r = kvm_call(msi->vm_fd, KVM_IRQFD, &args);
	return r < 0 ? r : 0;
}

/* KVM refuses addresses that reach no local APIC, and for all routes at once. */
static bool msi_has_target(uint64_t address)
{
	return address >> MSI_WINDOW_SHIFT == MSI_WINDOW;
}

static void msi_signal(struct msi_sink *sink, uint64_t address, uint32_t data)
{
	struct msi *msi = container_of(sink, struct msi, sink);
	struct kvm_msi message = {.address_lo = (uint32_t)address, .data = data};
	int r = msi_has_target(address) ? kvm_call(msi->vm_fd, KVM_SIGNAL_MSI, &message) : -EINVAL;
	if (r < 0)
		log_guest(&msi->log, "a message to nowhere: address %#" PRIx64 ", data %#" PRIx32, address,
			  data);
}

/* The place of the event fd, else a free one, else ATTACHED_MAX. */
static size_t attached_find(const struct msi *msi, int event_fd)
{
	size_t vacant = ATTACHED_MAX;
	for (size_t i = ATTACHED_MAX; i-- > 0;) {
		if (!msi->attached[i].used)
			vacant = i;
		else if (msi->attached[i].event_fd == event_fd)
			return i;
	}
	return vacant;
}

static int msi_detach(struct msi *msi, size_t index)
{
	if (!msi->attached[index].used)
		return 0;
	int r = msi_irqfd(msi, index, false);
	msi->attached[index].used = false;
	int routed = msi_route(msi);
	return r < 0 ? r : routed;
}

/* A new message for an event fd that KVM has, or has not yet. The route first: irqfd looks at it. */
static int msi_attach_at(struct msi *msi, size_t index, int event_fd, uint64_t address, uint32_t data)
{
	struct attached *at = &msi->attached[index], before = *at;
	*at = (struct attached){.used = true, .event_fd = event_fd, .address = address, .data = data};
	int r = msi_route(msi);
	if (r == 0 && !before.used)
		r = msi_irqfd(msi, index, true);
	if (r == 0)
		return 0;
	*at = before;
	(void)msi_route(msi);
	return r;
}

static int msi_attach(struct msi_sink *sink, int event_fd, uint64_t address, uint32_t data)
{
	struct msi *msi = container_of(sink, struct msi, sink);
	pthread_mutex_lock(&msi->lock);
	size_t index = attached_find(msi, event_fd);
	int r = 0;
	if (!msi_has_target(address))
		r = index < ATTACHED_MAX ? msi_detach(msi, index) : 0;
	else
		r = index < ATTACHED_MAX ? msi_attach_at(msi, index, event_fd, address, data) : -ENOSPC;
	pthread_mutex_unlock(&msi->lock);
	if (r < 0)
		log_error("KVM: interrupt by event fd: %s", strerror(-r));
	return r;
}

int msi_create(int vm_fd, struct msi **ret, struct err *err)
{
	struct msi *msi = calloc(1, sizeof(*msi));
	if (!msi)
		return err_sys(err, -ENOMEM, "MSI");
	msi->sink = (struct msi_sink){.signal = msi_signal, .attach = msi_attach};
	msi->vm_fd = vm_fd;
	pthread_mutex_init(&msi->lock, NULL);
	msi->table = calloc(1, sizeof(*msi->table) +
				       (CHIP_ROUTES_MAX + ATTACHED_MAX) * sizeof(msi->table->entries[0]));
	int r = msi->table ? msi_route(msi) : -ENOMEM;
	if (r < 0) {
		msi_destroy(msi);
		return err_sys(err, r, "KVM_SET_GSI_ROUTING");
	}
	*ret = msi;
	return 0;
}

void msi_destroy(struct msi *msi)
{
	if (!msi)
		return;
	pthread_mutex_destroy(&msi->lock);
	free(msi->table);
	free(msi);
}

struct msi_sink *msi_get_sink(struct msi *msi)
{
	return &msi->sink;
}

uint64_t msi_lost_count(const struct msi *msi)
{
	return msi->log.total;
}
