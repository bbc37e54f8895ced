/* Where BARs are: the guest's choice, and before that ours. */
#include "pci_impl.h"

#include "base/bytes.h"
#include "base/layout.h"

#include <errno.h>
#include <inttypes.h>

struct window {
	uint64_t gpa, size;
};

static const struct pci_bar *home_of(const struct pci_function *function, uint64_t gpa, uint64_t size)
{
	for (size_t i = 0; function && i < PCI_BARS; i++) {
		const struct pci_bar *bar = &function->bars[i];
		if (bar->size && bar->home_gpa < gpa + size && gpa < bar->home_gpa + bar->size)
			return bar;
	}
	return NULL;
}

/* A BAR that has its home in [gpa, gpa + size), or NULL: of the functions on the bus and of the one to come.
 */
static const struct pci_bar *home_at(const struct pci_function *newcomer, uint64_t gpa, uint64_t size)
{
	const struct pci_bar *bar = home_of(newcomer, gpa, size);
	for (size_t slot = 0; !bar && slot < PCI_SLOTS; slot++)
		bar = home_of(atomic_load(&newcomer->pci->slots[slot]), gpa, size);
	return bar;
}

/* The lowest free place, naturally aligned; each turn steps over one BAR. */
static bool window_find(const struct pci_function *newcomer, const struct window *window, uint64_t size,
			uint64_t *ret_gpa)
{
	uint64_t end = window->gpa + window->size, gpa = window->gpa;
	for (;;) {
		gpa = (gpa + size - 1) & ~(size - 1);
		if (gpa >= end || size > end - gpa)
			return false;
		const struct pci_bar *other = home_at(newcomer, gpa, size);
		if (!other) {
			*ret_gpa = gpa;
			return true;
		}
		gpa = other->home_gpa + other->size;
	}
}

static bool bar_find_home(const struct pci_function *newcomer, const struct pci_bar_spec *spec,
			  uint64_t *ret_gpa)
{
	static const struct window low[] = {{LAYOUT_PCI32_LOW_GPA, LAYOUT_PCI32_LOW_BYTES},
					    {LAYOUT_PCI32_HIGH_GPA, LAYOUT_PCI32_HIGH_BYTES}};
	const struct window high = {newcomer->pci->window64_gpa, LAYOUT_PCI64_BYTES};
	if (spec->is_64bit)
		return window_find(newcomer, &high, spec->size, ret_gpa);
	return window_find(newcomer, &low[0], spec->size, ret_gpa) ||
	       window_find(newcomer, &low[1], spec->size, ret_gpa);
}

static int bar_create(struct pci_function *function, unsigned index, struct err *err)
{
	const struct pci_bar_spec *spec = &function->spec.bars[index];
	struct pci_bar *bar = &function->bars[index];
	uint64_t limit = spec->is_64bit ? LAYOUT_PCI64_BYTES : LAYOUT_PCI32_LOW_BYTES;
	if (spec->size < PCI_BAR_BYTES_MIN || (spec->size & (spec->size - 1)) || spec->size > limit ||
	    (spec->is_64bit && (index + 1 == PCI_BARS || function->spec.bars[index + 1].size)))
		return err_set(err, -EINVAL, "BAR %u of %#" PRIx64 " bytes cannot be", index, spec->size);
	struct pci_bar found = {.size = spec->size, .is_64bit = spec->is_64bit};
	if (!bar_find_home(function, spec, &found.home_gpa))
		return err_set(err, -ENOSPC, "no address space is left for a BAR of %#" PRIx64 " bytes",
			       spec->size);
	const struct bus_range range = {
		.size = spec->size, .ops = spec->ops, .owner = spec->owner, .name = spec->name};
	int r = bus_mapping_create(function->pci->bus, BUS_MMIO, &range, &found.mapping, err);
	if (r < 0)
		return r;
	*bar = found;

	uint8_t *image = &function->image[PCI_BAR0 + 4 * index];
	uint8_t *writable = &function->writable[PCI_BAR0 + 4 * index];
	uint32_t flags =
		(spec->is_64bit ? PCI_BAR_64BIT : 0U) | (spec->prefetchable ? PCI_BAR_PREFETCHABLE : 0U);
	store_le32(image, (uint32_t)bar->home_gpa | flags);
	store_le32(writable, (uint32_t) ~(bar->size - 1));
	if (spec->is_64bit) {
		store_le32(image + 4, (uint32_t)(bar->home_gpa >> 32));
		store_le32(writable + 4, (uint32_t)(~(bar->size - 1) >> 32));
	}
	return 0;
}

int bars_create(struct pci_function *function, struct err *err)
{
	for (unsigned i = 0; i < PCI_BARS; i++) {
		int r = function->spec.bars[i].size ? bar_create(function, i, err) : 0;
		if (r < 0)
			return r;
	}
	return 0;
}

void bars_destroy(struct pci_function *function)
{
	for (size_t i = 0; i < PCI_BARS; i++)
		bus_mapping_destroy(function->bars[i].mapping);
}

/*
 * What a BAR holds while it is being sized reaches the end of the address space: like an address of 0, that
 * is no place.
 */
static bool bar_address(const struct pci_function *function, unsigned index, uint64_t *ret_gpa)
{
	const struct pci_bar *bar = &function->bars[index];
	const uint8_t *value = &function->regs.config[PCI_BAR0 + 4 * index];
	uint64_t last = bar->is_64bit ? UINT64_MAX : UINT32_MAX;
	*ret_gpa = load_le32(value) & ~(uint32_t)PCI_BAR_FLAGS;
	if (bar->is_64bit)
		*ret_gpa |= (uint64_t)load_le32(value + 4) << 32;
	return *ret_gpa != 0 && bar->size - 1 < last - *ret_gpa;
}

void bars_update(struct pci_function *function)
{
	bool decodes = (load_le16(function->regs.config + PCI_COMMAND) & PCI_COMMAND_MEMORY) &&
		       function_awake(function);
	for (unsigned i = 0; i < PCI_BARS; i++) {
		uint64_t gpa;
		if (!function->bars[i].mapping)
			continue;
		if (decodes && bar_address(function, i, &gpa))
			bus_mapping_move(function->bars[i].mapping, gpa);
		else
			bus_mapping_hide(function->bars[i].mapping);
	}
}
