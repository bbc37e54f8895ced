/* A device's BARs under a guest that sizes them, moves them for ever and puts them where others are. */
#include "guest.h"

enum { ECAM = 0xe0000000, SLOT = 5, MOVES = 200 };
enum { COMMAND = 0x04, MSIX_BAR = 0x14, REGISTERS_BAR = 0x20, REGISTERS_HIGH = 0x24, NUM_QUEUES = 0x12 };
enum { NOTIFY = 0x3000 };

static volatile uint32_t *conf(uint32_t offset)
{
	return (volatile uint32_t *)(ECAM + (SLOT << 15) + offset);
}

static uint32_t load(uint32_t address)
{
	return *(volatile uint32_t *)address;
}

static uint32_t queues(uint32_t base)
{
	return *(volatile uint16_t *)(base + NUM_QUEUES);
}

/* From one place to the other; at each, exactly that one answers, and the doorbell takes a write. */
static uint32_t move_about(void)
{
	uint32_t wrong = 0;
	for (uint32_t i = 0; i < MOVES; i++) {
		uint32_t here = i % 2 ? 0xd0000000 : 0xd8000000, there = here ^ 0x08000000;
		*conf(REGISTERS_BAR) = here;
		wrong += queues(here) != 1;
		wrong += queues(there) != 0xffff;
		*(volatile uint16_t *)(here + NOTIFY) = 0;
	}
	return wrong;
}

uint8_t payload(uint32_t magic, uint32_t info)
{
	(void)magic, (void)info;
	print_hex("device ", *conf(0));
	uint32_t msix = *conf(MSIX_BAR);
	print_hex("first place ", msix);
	print_hex("off ", load(msix + 12));
	*conf(MSIX_BAR) = 0xffffffff;
	print_hex("size mask ", *conf(MSIX_BAR));
	*conf(MSIX_BAR) = msix;
	*conf(COMMAND) = 2;
	print_hex("vector control ", load(msix + 12));
	print_hex("above 4 GiB ", *conf(REGISTERS_HIGH));
	*conf(REGISTERS_HIGH) = 0;
	print_hex("wrong ", move_about());
	/* Over the MSI-X table: the last one to come answers, and then the table is back. */
	*conf(REGISTERS_BAR) = msix & ~0x3fffU;
	print_hex("over the table ", load(msix + 12));
	*conf(REGISTERS_BAR) = 0xd0000000;
	print_hex("table again ", load(msix + 12));
	/* Over ECAM, the local APIC and RAM: those stay what they are. */
	uint32_t apic_version = load(0xfee00030);
	*conf(REGISTERS_BAR) = ECAM;
	print_hex("host ", load(ECAM));
	*conf(REGISTERS_BAR) = 0xfee00000;
	print_hex("apic ", load(0xfee00030) ^ apic_version);
	*conf(REGISTERS_BAR) = 0x00100000;
	*conf(REGISTERS_BAR) = 0xd0000000;
	print_hex("queues ", queues(0xd0000000));
	*conf(COMMAND) = 0;
	print_hex("off again ", queues(0xd0000000));
	return 0;
}
