/*
 * The bus and its host bridge: the two ways to configuration space.
 *
 * Mechanism #1 (PCI 3.0, 3.2.2.3.2): a dword written to 0xcf8 says where, 0xcfc to 0xcff are what is there.
 * ECAM (PCI Express Base 5.0, 7.2.2): 4 KiB of memory for each function of each bus. There is only bus 0, and
 * on it each device has only function 0; everything else reads all ones, which is how its absence is seen.
 */
#include "pci_impl.h"

#include "base/layout.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

enum {
	ADDRESS_ENABLE_SHIFT = 31,
	ADDRESS_BUS_SHIFT = 16,
	ADDRESS_DEVFN_SHIFT = 8,
	ADDRESS_REGISTER = 0xfc,

	ECAM_BUS_SHIFT = 20,
	ECAM_DEVFN_SHIFT = 12,
};
#define ADDRESS_BITS 0x80fffffcU

/* "QEMU PCIe Host bridge" in the list of ids: class host bridge, and no driver or quirk of any system wants
 * it. */
enum { HOST_VENDOR = 0x1b36, HOST_DEVICE = 0x0008, HOST_SUBSYSTEM_VENDOR = 0x1af4, HOST_SUBSYSTEM = 0x1100 };
enum { HOST_CLASS = 0x060000 };

static struct pci_function *function_at(struct pci_bus *pci, uint32_t bus, uint32_t devfn)
{
	if (bus != 0 || devfn % 8 != 0)
		return NULL;
	return atomic_load_explicit(&pci->slots[devfn / 8], memory_order_acquire);
}

static uint64_t config_read(struct pci_function *function, unsigned offset, unsigned size)
{
	if (!function || offset % 4 + size > 4)
		return UINT64_MAX;
	return pci_config_read(function, offset, size);
}

static void config_write(struct pci_function *function, unsigned offset, unsigned size, uint64_t value)
{
	if (function && offset % 4 + size <= 4)
		pci_config_write(function, offset, size, (uint32_t)value);
}

static uint64_t address_read(void *owner, uint64_t offset, unsigned size)
{
	(void)offset, (void)size;
	struct pci_bus *pci = owner;
	return atomic_load_explicit(&pci->address, memory_order_relaxed);
}

static void address_write(void *owner, uint64_t offset, unsigned size, uint64_t value)
{
	(void)offset, (void)size;
	struct pci_bus *pci = owner;
	atomic_store_explicit(&pci->address, (uint32_t)value & ADDRESS_BITS, memory_order_relaxed);
}

/* Bytes and words at 0xcf8 are not ours: 0xcf9 is the reset register. */
static const struct bus_ops address_ops = {address_read, address_write, 4, 4};

/* The function and the register that the configuration address selects; NULL: nothing. */
static struct pci_function *selected(struct pci_bus *pci, unsigned *ret_offset)
{
	uint32_t address = atomic_load_explicit(&pci->address, memory_order_relaxed);
	*ret_offset = address & ADDRESS_REGISTER;
	if (!(address >> ADDRESS_ENABLE_SHIFT))
		return NULL;
	return function_at(pci, address >> ADDRESS_BUS_SHIFT & 0xff, address >> ADDRESS_DEVFN_SHIFT & 0xff);
}

static uint64_t data_read(void *owner, uint64_t offset, unsigned size)
{
	unsigned at;
	struct pci_function *function = selected(owner, &at);
	return config_read(function, at + (unsigned)offset, size);
}

static void data_write(void *owner, uint64_t offset, unsigned size, uint64_t value)
{
	unsigned at;
	struct pci_function *function = selected(owner, &at);
	config_write(function, at + (unsigned)offset, size, value);
}

static const struct bus_ops data_ops = {data_read, data_write, 1, 4};

static struct pci_function *ecam_function(struct pci_bus *pci, uint64_t offset)
{
	return function_at(pci, (uint32_t)(offset >> ECAM_BUS_SHIFT),
			   (uint32_t)(offset >> ECAM_DEVFN_SHIFT) & 0xff);
}

static uint64_t ecam_read(void *owner, uint64_t offset, unsigned size)
{
	return config_read(ecam_function(owner, offset), (unsigned)(offset % PCI_ECAM_BYTES), size);
}

static void ecam_write(void *owner, uint64_t offset, unsigned size, uint64_t value)
{
	config_write(ecam_function(owner, offset), (unsigned)(offset % PCI_ECAM_BYTES), size, value);
}

static const struct bus_ops ecam_ops = {ecam_read, ecam_write, 1, 4};
static_assert(LAYOUT_ECAM_BYTES == UINT64_C(256) << ECAM_BUS_SHIFT, "256 buses");

static int host_create(struct pci_bus *pci, struct err *err)
{
	static const struct pci_spec spec = {
		.name = "PCI host bridge",
		.vendor_id = HOST_VENDOR,
		.device_id = HOST_DEVICE,
		.subsystem_vendor_id = HOST_SUBSYSTEM_VENDOR,
		.subsystem_id = HOST_SUBSYSTEM,
		.class_code = HOST_CLASS,
	};
	struct pci_function *host;
	return pci_function_make(pci, &spec, true, &host, err);
}

int pci_bus_create(struct bus *bus, struct irq_sink *irq, struct msi_sink *msi, uint64_t ram_end_gpa,
		   struct pci_bus **ret, struct err *err)
{
	struct pci_bus *pci = calloc(1, sizeof(*pci));
	if (!pci)
		return err_sys(err, -ENOMEM, "PCI bus");
	*pci = (struct pci_bus){
		.bus = bus, .irq = irq, .msi = msi, .window64_gpa = layout_pci64_gpa(ram_end_gpa)};
	pthread_mutex_init(&pci->lock, NULL);
	const struct bus_range address = {LAYOUT_PORT_PCI_ADDRESS, 4, &address_ops, pci,
					  "PCI configuration address"};
	const struct bus_range data = {LAYOUT_PORT_PCI_DATA, 4, &data_ops, pci, "PCI configuration data"};
	const struct bus_range ecam = {LAYOUT_ECAM_GPA, LAYOUT_ECAM_BYTES, &ecam_ops, pci, "ECAM"};
	int r = bus_add(bus, BUS_PIO, &address, err);
	if (r == 0)
		r = bus_add(bus, BUS_PIO, &data, err);
	if (r == 0)
		r = bus_add(bus, BUS_MMIO, &ecam, err);
	if (r == 0)
		r = host_create(pci, err);
	if (r < 0) {
		pci_bus_destroy(pci);
		return r;
	}
	*ret = pci;
	return 0;
}

void pci_bus_destroy(struct pci_bus *pci)
{
	if (!pci)
		return;
	pci_function_destroy(atomic_load(&pci->slots[0]));
	pthread_mutex_destroy(&pci->lock);
	free(pci);
}

static const struct state_field host_fields[] = {STATE_FIELD(struct pci_host_regs, config_address)};
const struct state_table pci_host_state = STATE_TABLE("pci-host", struct pci_host_regs, host_fields);

void pci_bus_reset(struct pci_bus *pci)
{
	atomic_store(&pci->address, 0);
	pci_function_reset(atomic_load(&pci->slots[0]));
}

void pci_bus_save(struct pci_bus *pci, struct pci_host_regs *regs)
{
	regs->config_address = atomic_load(&pci->address);
}

int pci_bus_restore(struct pci_bus *pci, const struct pci_host_regs *regs, struct err *err)
{
	if (regs->config_address & ~ADDRESS_BITS)
		return err_set(err, -EINVAL, "PCI host bridge: config-address %#x has reserved bits",
			       regs->config_address);
	atomic_store(&pci->address, regs->config_address);
	return 0;
}
