/* One mistake of each kind that an operator can see counted (tests/control/run-counts), then none any more.
 */
#include "guest.h"

enum { ECAM = 0xe0000000, SLOT = 5, COMMAND = 0x04, REGISTERS_BAR = 0x20, REGISTERS_HIGH = 0x24 };
enum { REGISTERS = 0xd0000000, STATUS = 0x14, ACKNOWLEDGE = 1, DRIVER = 2, DRIVER_OK = 4 };
enum { PM1_CONTROL = 0x604, SLEEP_TYPE_3 = 3 << 10, SLEEP_ENABLE = 1 << 13, UNKNOWN_MSR = 0x12345678 };

static volatile uint32_t *conf(uint32_t offset)
{
	return (volatile uint32_t *)(ECAM + (SLOT << 15) + offset);
}

/* The features are not agreed upon: the device cannot start, and says so. */
static void start_too_early(void)
{
	*conf(REGISTERS_BAR) = REGISTERS;
	*conf(REGISTERS_HIGH) = 0;
	*conf(COMMAND) = 2;
	volatile uint8_t *status = (volatile uint8_t *)(REGISTERS + STATUS);
	*status = ACKNOWLEDGE | DRIVER | DRIVER_OK;
	print_hex("status ", *status);
}

uint8_t payload(uint32_t magic, uint32_t info)
{
	(void)magic, (void)info;
	outb(0x1234, 1);
	outb(0x1235, 1);
	(void)inb(0x1236);
	wrmsr(UNKNOWN_MSR, rdmsr(UNKNOWN_MSR));
	outw(PM1_CONTROL, SLEEP_TYPE_3 | SLEEP_ENABLE);
	start_too_early();
	print("made them\n");
	for (;;)
		__asm__ volatile("pause");
}
