/* What a kernel of ring 0 needs, whatever it does: flat segments and paging, COM1, and a way to sleep. */
#ifndef AERIE_LAB_MACHINE_H
#define AERIE_LAB_MACHINE_H

#include <stdbool.h>
#include <stdint.h>

/* Selectors. Each L2 has three of its own: code, data, TSS. */
enum {
	SEL_CODE = 0x08,
	SEL_DATA = 0x10,
	SEL_TSS = 0x18,
	SEL_L2 = 0x20,
	SEL_L2_BYTES = 0x18,
	GDT_ENTRIES = 12
};

enum { TSS_BYTES = 104 };

extern uint64_t gdt[GDT_ENTRIES], idt[];
extern uint8_t l1_tss[TSS_BYTES];

/* A descriptor with the attributes as a VMCS has them: access in bits 0 to 7, G and D in 12 to 15. */
uint64_t descriptor(uint32_t base, uint32_t limit, uint32_t attributes);

/* Segments, the IDT with the one interrupt there is, and paging: 4 GiB in pages of 4 MiB, where they are. */
void machine_set_up(void);

void say(const char *text);
void say_number(uint32_t value);
void say_hex(uint32_t value);

/* Until COM1 gets a byte, which is dropped: by looking again and again, or asleep until its interrupt. */
void wait_polling(void);
void wait_halted(void);

bool byte_came(void); /* does not wait; it is dropped */

/* An interrupt of the local APIC every now and then, of which nothing is to be known; take_interrupt() lets
 * one in. */
void timer_start(void);
void timer_stop(void);
void take_interrupt(void);

void power_off(void) __attribute__((noreturn));

#endif
