/* Accesses to a function's configuration space, and its interrupt pin. */
#include "pci_impl.h"

#include "base/bytes.h"

void intx_update(struct pci_function *function)
{
	bool level = function->regs.intx && !msix_usable(function) && function_awake(function) &&
		     !(load_le16(function->regs.config + PCI_COMMAND) & PCI_COMMAND_INTX_OFF);
	if (level != function->level)
		irq_line_set(&function->line, level);
	function->level = level;
}

void pci_intx_set(struct pci_function *function, bool level)
{
	pthread_mutex_lock(&function->lock);
	function->regs.intx = level;
	intx_update(function);
	pthread_mutex_unlock(&function->lock);
}

/* Is any of these bytes in a capability of the owner's? An access stays within its dword. */
static bool is_owned(const struct pci_function *function, unsigned offset)
{
	return function->owned >> (offset / 4) & 1;
}

/* PCI Express Base 5.0, 7.7.1: no extended capabilities, which a header of zeros says. */
uint32_t pci_config_read(struct pci_function *function, unsigned offset, unsigned size)
{
	uint32_t value = 0;
	if (offset >= PCI_CONFIG_BYTES)
		return 0;
	pthread_mutex_lock(&function->access);
	if (is_owned(function, offset) && function->spec.capability_read)
		function->spec.capability_read(function->spec.owner, (uint8_t)offset, size);
	pthread_mutex_lock(&function->lock);
	memcpy(&value, function->regs.config + offset, size);
	if (offset <= PCI_STATUS && offset + size > PCI_STATUS && function->regs.intx)
		value |= (uint32_t)PCI_STATUS_INTX << 8 * (PCI_STATUS - offset);
	pthread_mutex_unlock(&function->lock);
	pthread_mutex_unlock(&function->access);
	return value;
}

static bool touches(unsigned offset, unsigned size, unsigned begin, unsigned end)
{
	return offset < end && offset + size > begin;
}

/* What the guest may change of these bytes; true when there is such a bit among them. */
static bool config_assign(struct pci_function *function, unsigned offset, unsigned size, uint32_t value)
{
	uint8_t may_change = 0;
	for (unsigned i = 0; i < size; i++) {
		uint8_t *byte = &function->regs.config[offset + i], mask = function->writable[offset + i];
		*byte = (uint8_t)((*byte & ~mask) | ((value >> 8 * i) & mask));
		may_change |= mask;
	}
	return may_change != 0;
}

void pci_config_write(struct pci_function *function, unsigned offset, unsigned size, uint32_t value)
{
	if (offset >= PCI_CONFIG_BYTES)
		return;
	pthread_mutex_lock(&function->access);
	pthread_mutex_lock(&function->lock);
	uint8_t power = power_control(function);
	bool was_awake = function_awake(function);
	bool may_change = config_assign(function, offset, size, value);
	if (function->power_at)
		power_written(function, power);
	bool woke_or_slept = was_awake != function_awake(function);
	if (woke_or_slept || (may_change && (touches(offset, size, PCI_COMMAND, PCI_COMMAND + 2) ||
					     touches(offset, size, PCI_BAR0, PCI_BAR_END))))
		bars_update(function);
	if (woke_or_slept || (may_change && function->msix_at &&
			      touches(offset, size, function->msix_at + 2, function->msix_at + 4)))
		msix_update(function);
	intx_update(function);
	pthread_mutex_unlock(&function->lock);
	if (may_change && is_owned(function, offset) && function->spec.capability_written)
		function->spec.capability_written(function->spec.owner, (uint8_t)offset, size);
	if (express_asks_reset(function, offset, size, value)) {
		function->spec.reset(
			function->spec.owner); /* first, so that it raises no interrupt afterwards */
		pci_function_reset(function);
	}
	pthread_mutex_unlock(&function->access);
}
