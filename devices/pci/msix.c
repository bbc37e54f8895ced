/*
 * MSI-X (PCI 3.0, 6.8.2): table and pending bits in a BAR of their own.
 *
 * A message that cannot be sent, because its vector or the function is masked or MSI-X is off, leaves a
 * pending bit, and is sent when it can be. Vectors with an event fd are signalled by the message sink itself;
 * while they are masked the sink lets go of the event fd, whose counter then is the pending bit.
 */
#include "pci_impl.h"

#include "base/bytes.h"
#include "base/cleanup.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>

enum {
	MSIX_BAR_BYTES = 4096,
	MSIX_PBA_OFFSET = 2048,
	MSIX_CONTROL = 2, /* in the capability; its high byte is the one that the guest writes */
	MSIX_CONTROL_MASK_ALL = 1 << 14,
	MSIX_CONTROL_ENABLE = 1 << 15,
	MSIX_CAPABILITY_BYTES = 12,

	ENTRY_DWORDS = 4,
	ENTRY_ADDRESS = 0,
	ENTRY_ADDRESS_HIGH = 1,
	ENTRY_DATA = 2,
	ENTRY_CONTROL = 3,
	ENTRY_CONTROL_MASKED = 1,
};

/* Bits that the guest can write. */
static const uint32_t entry_bits[ENTRY_DWORDS] = {
	[ENTRY_ADDRESS] = 0xfffffffc,
	[ENTRY_ADDRESS_HIGH] = UINT32_MAX,
	[ENTRY_DATA] = UINT32_MAX,
	[ENTRY_CONTROL] = ENTRY_CONTROL_MASKED,
};

static_assert(PCI_MSIX_MAX * ENTRY_DWORDS * 4 <= MSIX_PBA_OFFSET, "the table ends before the pending bits");
static_assert(PCI_MSIX_WORDS * 64 == PCI_MSIX_MAX, "a pending bit for each vector");

static uint16_t msix_control(const struct pci_function *function)
{
	return function->msix_at ? load_le16(function->regs.config + function->msix_at + MSIX_CONTROL) : 0;
}

bool msix_usable(const struct pci_function *function)
{
	return msix_control(function) & MSIX_CONTROL_ENABLE;
}

static const uint32_t *vector_entry(const struct pci_function *function, unsigned vector)
{
	return &function->regs.msix_table[(size_t)vector * ENTRY_DWORDS];
}

static unsigned table_dwords(const struct pci_function *function)
{
	return function->spec.msix_vectors * (unsigned)ENTRY_DWORDS;
}

static bool vector_masked(const struct pci_function *function, unsigned vector)
{
	uint16_t control = msix_control(function);
	return !function_awake(function) || !(control & MSIX_CONTROL_ENABLE) ||
	       (control & MSIX_CONTROL_MASK_ALL) ||
	       (vector_entry(function, vector)[ENTRY_CONTROL] & ENTRY_CONTROL_MASKED);
}

static void vector_message(const struct pci_function *function, unsigned vector, uint64_t *ret_address,
			   uint32_t *ret_data)
{
	const uint32_t *entry = vector_entry(function, vector);
	*ret_address = (uint64_t)entry[ENTRY_ADDRESS_HIGH] << 32 | entry[ENTRY_ADDRESS];
	*ret_data = entry[ENTRY_DATA];
}

static void vector_send(struct pci_function *function, unsigned vector)
{
	uint64_t address;
	uint32_t data;
	vector_message(function, vector, &address, &data);
	function->pci->msi->signal(function->pci->msi, address, data);
}

/* Give the event fd of a vector to the sink, with its present message, or take it back. 0 or -errno. */
static int vector_attach(struct pci_function *function, unsigned vector, bool live)
{
	struct pci_vector *at = &function->vectors[vector];
	struct msi_sink *msi = function->pci->msi;
	uint64_t address;
	uint32_t data;
	vector_message(function, vector, &address, &data);
	live = live && at->event_fd >= 0 && address != 0;
	if (at->live == live && (!live || (at->address == address && at->data == data)))
		return 0;
	int r = msi->attach(msi, at->event_fd, live ? address : 0, live ? data : 0);
	if (r == 0)
		at->live = live, at->address = address, at->data = data;
	return r;
}

static void vector_update(struct pci_function *function, unsigned vector)
{
	uint64_t *word = &function->regs.msix_pending[vector / 64], bit = 1ULL << vector % 64;
	bool masked = vector_masked(function, vector);
	(void)vector_attach(function, vector, !masked);
	if (masked || !(*word & bit))
		return;
	*word &= ~bit;
	vector_send(function, vector);
}

void msix_update(struct pci_function *function)
{
	for (unsigned i = 0; i < function->spec.msix_vectors; i++)
		vector_update(function, i);
}

void pci_msix_signal(struct pci_function *function, uint16_t vector)
{
	if (vector >= function->spec.msix_vectors)
		return;
	pthread_mutex_lock(&function->lock);
	if (vector_masked(function, vector))
		function->regs.msix_pending[vector / 64] |= 1ULL << vector % 64;
	else
		vector_send(function, vector);
	pthread_mutex_unlock(&function->lock);
}

bool pci_msix_enabled(struct pci_function *function)
{
	pthread_mutex_lock(&function->lock);
	bool enabled = msix_usable(function);
	pthread_mutex_unlock(&function->lock);
	return enabled;
}

int pci_msix_attach(struct pci_function *function, uint16_t vector, int event_fd)
{
	if (vector >= function->spec.msix_vectors)
		return -EINVAL;
	pthread_mutex_lock(&function->lock);
	int r = vector_attach(function, vector, false);
	function->vectors[vector].event_fd = event_fd;
	if (r == 0)
		r = vector_attach(function, vector, !vector_masked(function, vector));
	pthread_mutex_unlock(&function->lock);
	return r;
}

void msix_detach_all(struct pci_function *function)
{
	for (unsigned i = 0; i < function->spec.msix_vectors; i++)
		(void)vector_attach(function, i, false);
}

void msix_clear(struct pci_function *function)
{
	memset(function->regs.msix_table, 0, sizeof(function->regs.msix_table));
	memset(function->regs.msix_pending, 0, sizeof(function->regs.msix_pending));
	for (unsigned i = 0; i < function->spec.msix_vectors; i++)
		function->regs.msix_table[i * ENTRY_DWORDS + ENTRY_CONTROL] = ENTRY_CONTROL_MASKED;
}

int msix_check(const struct pci_function *function, const struct pci_regs *regs, struct err *err)
{
	unsigned vectors = function->spec.msix_vectors;
	uint32_t wrong = 0;
	for (unsigned i = 0; i < PCI_MSIX_DWORDS; i++)
		wrong |= regs->msix_table[i] &
			 ~(i < vectors * ENTRY_DWORDS ? entry_bits[i % ENTRY_DWORDS] : 0);
	for (unsigned i = vectors; i < PCI_MSIX_MAX; i++)
		wrong |= (uint32_t)(regs->msix_pending[i / 64] >> i % 64) & 1;
	return wrong ? err_set(err, -EINVAL, "%s: the MSI-X table has bits that %u vectors do not have",
			       function->spec.name, vectors)
		     : 0;
}

/* ---- the BAR ---- */

static bool event_fd_readable(int event_fd)
{
	struct pollfd poll_fd = {.fd = event_fd, .events = POLLIN};
	return event_fd >= 0 && poll(&poll_fd, 1, 0) == 1;
}

static uint32_t pending_dword(const struct pci_function *function, unsigned dword)
{
	if (dword >= (function->spec.msix_vectors + 63U) / 64 * 2)
		return 0;
	uint32_t value = (uint32_t)(function->regs.msix_pending[dword / 2] >> 32 * (dword % 2));
	for (unsigned i = 0; i < 32 && dword * 32 + i < function->spec.msix_vectors; i++) {
		const struct pci_vector *vector = &function->vectors[dword * 32 + i];
		if (!vector->live && event_fd_readable(vector->event_fd))
			value |= 1U << i;
	}
	return value;
}

static uint32_t bar_read_dword(const struct pci_function *function, uint64_t offset)
{
	if (offset >= MSIX_PBA_OFFSET)
		return pending_dword(function, (unsigned)(offset - MSIX_PBA_OFFSET) / 4);
	return offset / 4 < table_dwords(function) ? function->regs.msix_table[offset / 4] : 0;
}

static void bar_write_dword(struct pci_function *function, uint64_t offset, uint32_t value)
{
	unsigned dword = (unsigned)(offset / 4);
	if (dword < table_dwords(function))
		function->regs.msix_table[dword] = value & entry_bits[dword % ENTRY_DWORDS];
}

/* Whole dwords and qwords; what others do is undefined (6.8.2), so they read all ones and write nothing. */
static uint64_t msix_read(void *owner, uint64_t offset, unsigned size)
{
	struct pci_function *function = owner;
	if (offset % 4)
		return UINT64_MAX;
	pthread_mutex_lock(&function->lock);
	uint64_t value = bar_read_dword(function, offset);
	if (size == 8)
		value |= (uint64_t)bar_read_dword(function, offset + 4) << 32;
	pthread_mutex_unlock(&function->lock);
	return value;
}

static void msix_write(void *owner, uint64_t offset, unsigned size, uint64_t value)
{
	struct pci_function *function = owner;
	if (offset % 4)
		return;
	pthread_mutex_lock(&function->lock);
	bar_write_dword(function, offset, (uint32_t)value);
	if (size == 8)
		bar_write_dword(function, offset + 4, (uint32_t)(value >> 32));
	for (uint64_t at = offset; at < offset + size; at += 4)
		if (at / 4 < table_dwords(function))
			vector_update(function, (unsigned)(at / 4 / ENTRY_DWORDS));
	pthread_mutex_unlock(&function->lock);
}

static const struct bus_ops msix_ops = {
	.read = msix_read,
	.write = msix_write,
	.min_access_bytes = 4,
	.max_access_bytes = 8,
};

int msix_create(struct pci_function *function, struct err *err)
{
	struct pci_spec *spec = &function->spec;
	for (size_t i = 0; i < PCI_MSIX_MAX; i++)
		function->vectors[i].event_fd = -1;
	if (spec->msix_vectors == 0)
		return 0;
	if (spec->msix_vectors > PCI_MSIX_MAX || spec->msix_bar >= PCI_BARS ||
	    spec->bars[spec->msix_bar].size)
		return err_set(err, -EINVAL, "%u MSI-X vectors in BAR %u cannot be", spec->msix_vectors,
			       spec->msix_bar);
	spec->bars[spec->msix_bar] = (struct pci_bar_spec){
		.size = MSIX_BAR_BYTES, .ops = &msix_ops, .owner = function, .name = spec->name};

	uint8_t body[MSIX_CAPABILITY_BYTES - 2];
	static const uint8_t writable[sizeof(body)] = {0, (MSIX_CONTROL_ENABLE | MSIX_CONTROL_MASK_ALL) >> 8};
	store_le16(body, (uint16_t)(spec->msix_vectors - 1));
	store_le32(body + 2, 0U | spec->msix_bar); /* the table's offset and BAR */
	store_le32(body + 6, (uint32_t)MSIX_PBA_OFFSET | spec->msix_bar);
	int at = capability_append(function, PCI_CAPABILITY_MSIX, body, sizeof(body), writable);
	function->msix_at = (unsigned)at;
	return at < 0 ? at : 0;
}
