/*
 * Asks for a reset in each way a PC has, one after the other. A counter in RAM that no loader touches tells
 * the boots apart; what the guest did to CPU, MSRs, chips and devices before must be gone after each.
 */
#include "guest.h"

struct __attribute__((packed)) idt_pointer {
	uint16_t limit;
	uint32_t base;
};

enum { COUNTER = 0x200000, MAGIC = 0x41455249 };

static void dirty(void)
{
	uint32_t cr4;
	__asm__ volatile("mov %%cr4, %0\n or $0x200, %0\n mov %0, %%cr4" : "=r"(cr4)); /* OSFXSR */
	wrmsr(0x174, 0x1234);							       /* SYSENTER_CS */
	wrmsr(0x2ff, 0);							       /* MTRRs off */
	outb(0x21, 0x5a);							       /* PIC mask */
	outb(0x3ff, 0x77);							       /* COM1 scratch */
}

static int is_clean(void)
{
	uint32_t cr4;
	__asm__ volatile("mov %%cr4, %0" : "=r"(cr4));
	const struct {
		const char *name;
		uint32_t is, want;
	} rows[] = {
		{"CR4.OSFXSR ", cr4 & 0x200, 0},
		{"SYSENTER_CS ", (uint32_t)rdmsr(0x174), 0},
		{"MTRR default ", (uint32_t)rdmsr(0x2ff), 0x806},
		{"PIC mask ", inb(0x21) == 0x5a, 0},
		{"COM1 scratch ", inb(0x3ff) == 0x77, 0},
	};
	int clean = 1;
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (rows[i].is != rows[i].want) {
			print_hex(rows[i].name, rows[i].is);
			clean = 0;
		}
	}
	return clean;
}

uint8_t payload(uint32_t magic, uint32_t info)
{
	volatile uint32_t *counter = (volatile uint32_t *)COUNTER;
	const struct idt_pointer no_idt = {0, 0};
	(void)magic, (void)info;

	if (counter[0] != MAGIC) {
		counter[0] = MAGIC;
		counter[1] = 0;
	}
	uint32_t boot = counter[1]++;
	print_hex("boot ", boot);
	if (!is_clean()) {
		print("not clean\n");
		return 2;
	}
	dirty();
	switch (boot) {
	case 0:
		outb(0x64, 0xfe);
		break;
	case 1:
		outb(0xcf9, 0x02);
		outb(0xcf9, 0x06);
		break;
	case 2:
		outb(0x92, 0x01);
		break;
	case 3:
		__asm__ volatile("lidt %0\n ud2" : : "m"(no_idt));
		break;
	default:
		print("all resets work\n");
		return 20;
	}
	print("ran on after a reset\n"); /* a request stops the vCPU before its next instruction */
	return 3;
}
