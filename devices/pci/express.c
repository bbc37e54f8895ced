/*
 * What PCI Express asks of every endpoint: its capability, with function-level reset where the owner takes
 * part in it (PCI Express Base 5.0, 7.5.3 and 6.6.2), and power states D0 and D3hot (7.5.2; PCI Power
 * Management 1.2, 3.2).
 */
#include "pci_impl.h"

#include "base/bytes.h"

/* The Express capability, version 2: offsets within it. */
enum {
	EXPRESS_BYTES = 0x3c,
	EXPRESS_FLAGS = 0x02,
	EXPRESS_DEVICE_CAPABILITIES = 0x04,
	EXPRESS_DEVICE_CONTROL = 0x08,

	EXPRESS_FLAGS_INTEGRATED_ENDPOINT = 9 << 4 | 2, /* no link, so its registers are 0 */
	EXPRESS_ROLE_BASED_ERRORS = 1 << 15,
	EXPRESS_FUNCTION_RESET = 1 << 28,
	/* Relaxed ordering and no snoop are allowed, reads ask for up to 512 bytes; payloads have up to 128.
	 */
	EXPRESS_CONTROL_RESET = 1 << 4 | 1 << 11 | 2 << 12,
	EXPRESS_CONTROL_WRITABLE = 0x781f,
	EXPRESS_INITIATE_RESET = 1 << 15, /* reads as 0 */
};

/* The power management capability. */
enum {
	POWER_BYTES = 8,
	POWER_FEATURES = 0x02,
	POWER_CONTROL = 0x04,

	POWER_VERSION_1_2 = 3, /* no D1, no D2, no PME */
	POWER_STATE = 3,
	POWER_D0 = 0,
	POWER_D3HOT = 3,
	POWER_NO_SOFT_RESET = 1 << 3, /* a function that comes back from D3hot is as it was */
};

void express_create(struct pci_function *function)
{
	uint8_t body[EXPRESS_BYTES - 2] = {0}, writable[EXPRESS_BYTES - 2] = {0};
	uint32_t features = EXPRESS_ROLE_BASED_ERRORS;
	if (function->spec.reset)
		features |= EXPRESS_FUNCTION_RESET;
	store_le16(body + EXPRESS_FLAGS - 2, EXPRESS_FLAGS_INTEGRATED_ENDPOINT);
	store_le32(body + EXPRESS_DEVICE_CAPABILITIES - 2, features);
	store_le16(body + EXPRESS_DEVICE_CONTROL - 2, EXPRESS_CONTROL_RESET);
	store_le16(writable + EXPRESS_DEVICE_CONTROL - 2, EXPRESS_CONTROL_WRITABLE);
	function->express_at =
		(unsigned)capability_append(function, PCI_CAPABILITY_EXPRESS, body, sizeof(body), writable);
}

bool express_asks_reset(const struct pci_function *function, unsigned offset, unsigned size, uint32_t value)
{
	unsigned at = function->express_at + EXPRESS_DEVICE_CONTROL + 1; /* the bit's byte */
	return function->express_at && function->spec.reset && offset <= at && at < offset + size &&
	       (value >> 8 * (at - offset) & EXPRESS_INITIATE_RESET >> 8);
}

void power_create(struct pci_function *function)
{
	uint8_t body[POWER_BYTES - 2] = {0}, writable[POWER_BYTES - 2] = {0};
	store_le16(body + POWER_FEATURES - 2, POWER_VERSION_1_2);
	store_le16(body + POWER_CONTROL - 2, POWER_NO_SOFT_RESET);
	writable[POWER_CONTROL - 2] = POWER_STATE;
	function->power_at =
		(unsigned)capability_append(function, PCI_CAPABILITY_POWER, body, sizeof(body), writable);
}

void power_written(struct pci_function *function, uint8_t before)
{
	uint8_t *control = &function->regs.config[function->power_at + POWER_CONTROL];
	unsigned state = *control & POWER_STATE;
	if (state == POWER_D0 || state == POWER_D3HOT)
		return;
	*control = before; /* 3.2.4: the write ends normally, and changes nothing */
}

uint8_t power_control(const struct pci_function *function)
{
	return function->regs.config[function->power_at + POWER_CONTROL];
}

bool function_awake(const struct pci_function *function)
{
	return !function->power_at || (power_control(function) & POWER_STATE) == POWER_D0;
}
