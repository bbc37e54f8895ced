/* A function from its creation to its end: header, capabilities, reset, state. */
#include "pci_impl.h"

#include "base/bytes.h"
#include "base/layout.h"

#include <errno.h>
#include <stdlib.h>

/* ---- capabilities ---- */

int capability_append(struct pci_function *function, uint8_t id, const void *body, uint8_t len,
		      const uint8_t *writable)
{
	unsigned at = function->free_at;
	if (len + 2U > PCI_CONFIG_BYTES - at)
		return -ENOSPC;
	pthread_mutex_lock(&function->lock);
	uint8_t *image = function->image;
	image[at] = id;
	memcpy(image + at + 2, body, len);
	if (writable)
		memcpy(function->writable + at + 2, writable, len);
	image[function->next_at] = (uint8_t)at;
	image[PCI_STATUS] |= PCI_STATUS_CAPABILITIES;
	memcpy(function->regs.config, image, PCI_CONFIG_BYTES);
	function->next_at = at + 1;
	function->free_at = (at + 2 + len + 3U) & ~3U;
	pthread_mutex_unlock(&function->lock);
	return (int)at;
}

int pci_capability_add(struct pci_function *function, uint8_t id, const void *body, uint8_t len,
		       const uint8_t *writable)
{
	int at = capability_append(function, id, body, len, writable);
	for (unsigned byte = (unsigned)at; at >= 0 && byte < (unsigned)at + 2 + len; byte++)
		function->owned |= 1ULL << byte / 4;
	return at;
}

void pci_capability_get(struct pci_function *function, uint8_t offset, void *data, unsigned size)
{
	if (size > PCI_CONFIG_BYTES - (unsigned)offset)
		return;
	pthread_mutex_lock(&function->lock);
	memcpy(data, function->regs.config + offset, size);
	pthread_mutex_unlock(&function->lock);
}

void pci_capability_set(struct pci_function *function, uint8_t offset, const void *data, unsigned size)
{
	if (size > PCI_CONFIG_BYTES - (unsigned)offset)
		return;
	pthread_mutex_lock(&function->lock);
	memcpy(function->regs.config + offset, data, size);
	pthread_mutex_unlock(&function->lock);
}

/* ---- creation ---- */

/* Firmware's traces: the interrupt line, which no operating system that knows ACPI reads. */
static void header_create(struct pci_function *function)
{
	const struct pci_spec *spec = &function->spec;
	uint8_t *image = function->image, *writable = function->writable;
	store_le16(image + PCI_VENDOR_ID, spec->vendor_id);
	store_le16(image + PCI_DEVICE_ID, spec->device_id);
	store_le16(writable + PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_PARITY |
						   PCI_COMMAND_SERR | PCI_COMMAND_INTX_OFF);
	image[PCI_REVISION] = spec->revision;
	store_le16(image + PCI_CLASS, (uint16_t)spec->class_code);
	image[PCI_CLASS + 2] = (uint8_t)(spec->class_code >> 16);
	writable[PCI_CACHE_LINE] = 0xff;
	store_le16(image + PCI_SUBSYSTEM_VENDOR_ID, spec->subsystem_vendor_id);
	store_le16(image + PCI_SUBSYSTEM_ID, spec->subsystem_id);
	writable[PCI_INTERRUPT_LINE] = 0xff;
	if (spec->has_intx) {
		image[PCI_INTERRUPT_PIN] = 1; /* A */
		image[PCI_INTERRUPT_LINE] = (uint8_t)function->line.gsi;
	}
	function->next_at = PCI_CAPABILITIES;
	function->free_at = PCI_HEADER_END;
}

/* A host bridge is always on, and there is nothing about it to control. */
static void host_header_create(struct pci_function *function)
{
	store_le16(function->image + PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	memset(function->writable, 0, sizeof(function->writable));
}

static int slot_find(struct pci_bus *pci, const struct pci_spec *spec, uint32_t *ret_slot, struct err *err)
{
	if (spec->slot >= PCI_SLOTS)
		return err_set(err, -EINVAL, "there is no PCI slot %u, only 1 to %d", spec->slot,
			       PCI_SLOTS - 1);
	if (spec->slot != 0) {
		const struct pci_function *other = atomic_load(&pci->slots[spec->slot]);
		*ret_slot = spec->slot;
		return other ? err_set(err, -EEXIST, "PCI slot %u is taken by %s", spec->slot,
				       other->spec.name)
			     : 0;
	}
	for (*ret_slot = 1; *ret_slot < PCI_SLOTS; ++*ret_slot)
		if (!atomic_load(&pci->slots[*ret_slot]))
			return 0;
	return err_set(err, -ENOSPC, "all %d PCI slots are taken", PCI_SLOTS - 1);
}

static int function_build(struct pci_function *function, bool is_host, struct err *err)
{
	header_create(function);
	if (is_host)
		host_header_create(function);
	else
		express_create(function);
	int r = msix_create(function, err);
	if (!is_host)
		power_create(function);
	if (r == 0)
		r = bars_create(function, err);
	return r;
}

/* The bus's lock is held from the search for a slot and for addresses until others can see them taken. */
int pci_function_make(struct pci_bus *pci, const struct pci_spec *spec, bool is_host,
		      struct pci_function **ret, struct err *err)
{
	struct pci_function *function = calloc(1, sizeof(*function));
	if (!function)
		return err_sys(err, -ENOMEM, "%s", spec->name);
	pthread_mutex_init(&function->access, NULL);
	pthread_mutex_init(&function->lock, NULL);
	function->pci = pci;
	function->spec = *spec;
	pthread_mutex_lock(&pci->lock);
	int r = is_host ? 0 : slot_find(pci, spec, &function->slot, err);
	function->line = (struct irq_line){
		.sink = pci->irq, .gsi = layout_pci_gsi(function->slot), .source = (uint8_t)function->slot};
	if (r == 0)
		r = function_build(function, is_host, err);
	if (r == 0) {
		pci_function_reset(function);
		atomic_store(&pci->slots[function->slot], function);
		*ret = function;
	}
	pthread_mutex_unlock(&pci->lock);
	if (r < 0) {
		bars_destroy(function);
		pthread_mutex_destroy(&function->lock);
		pthread_mutex_destroy(&function->access);
		free(function);
	}
	return r;
}

int pci_function_create(struct pci_bus *pci, const struct pci_spec *spec, struct pci_function **ret,
			struct err *err)
{
	return pci_function_make(pci, spec, false, ret, err);
}

void pci_function_destroy(struct pci_function *function)
{
	if (!function)
		return;
	pthread_mutex_lock(&function->pci->lock);
	atomic_store(&function->pci->slots[function->slot], NULL);
	pthread_mutex_unlock(&function->pci->lock);
	msix_detach_all(function);
	pci_intx_set(function, false);
	bars_destroy(function);
	pthread_mutex_destroy(&function->lock);
	pthread_mutex_destroy(&function->access);
	free(function);
}

uint32_t pci_function_slot(const struct pci_function *function)
{
	return function->slot;
}

/* ---- reset and state ---- */

/* Registers have been assigned: BARs, messages and the line follow. */
static void function_update(struct pci_function *function)
{
	bars_update(function);
	msix_update(function);
	intx_update(function);
}

void pci_function_reset(struct pci_function *function)
{
	pthread_mutex_lock(&function->lock);
	memcpy(function->regs.config, function->image, sizeof(function->image));
	function->regs.intx = false;
	msix_clear(function);
	function_update(function);
	pthread_mutex_unlock(&function->lock);
}

void pci_function_save(struct pci_function *function, struct pci_regs *regs)
{
	pthread_mutex_lock(&function->lock);
	*regs = function->regs;
	regs->slot = (uint8_t)function->slot;
	pthread_mutex_unlock(&function->lock);
}

/* What the guest cannot change must be as it is here: the same device, in the same machine. */
static int config_check(const struct pci_function *function, const struct pci_regs *regs, struct err *err)
{
	if (regs->slot != function->slot)
		return err_set(err, -EINVAL, "%s: was in slot %u, and is in %u here", function->spec.name,
			       regs->slot, function->slot);
	for (unsigned i = 0; i < PCI_CONFIG_BYTES; i++)
		if ((regs->config[i] ^ function->image[i]) & ~function->writable[i])
			return err_set(err, -EINVAL,
				       "%s: byte %#x of the PCI configuration is %#x, and %#x here",
				       function->spec.name, i, regs->config[i], function->image[i]);
	if (regs->intx && !function->spec.has_intx)
		return err_set(err, -EINVAL, "%s: an interrupt from a function without a pin",
			       function->spec.name);
	return 0;
}

int pci_function_restore(struct pci_function *function, const struct pci_regs *regs, struct err *err)
{
	int r = config_check(function, regs, err);
	if (r == 0)
		r = msix_check(function, regs, err);
	if (r < 0)
		return r;
	pthread_mutex_lock(&function->lock);
	function->regs = *regs;
	function_update(function);
	pthread_mutex_unlock(&function->lock);
	return 0;
}

int pci_doorbell_add(struct pci_function *function, unsigned bar, uint64_t offset, unsigned size,
		     int event_fd, struct err *err)
{
	if (bar >= PCI_BARS || !function->bars[bar].mapping)
		return err_set(err, -EINVAL, "%s: there is no BAR %u", function->spec.name, bar);
	return bus_doorbell_add(function->bars[bar].mapping, offset, size, event_fd, err);
}
