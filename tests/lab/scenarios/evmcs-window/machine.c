#include "machine.h"

#include "guest.h"

#define PAGE __attribute__((aligned(4096)))

/* COM1, an NS16550A; at the IOAPIC it is pin 4. */
enum { COM1 = 0x3f8, COM1_IER = COM1 + 1, COM1_MCR = COM1 + 4, COM1_LSR = COM1 + 5 };
enum { IER_RECEIVED = 1, MCR_OUT2 = 8 /* lets interrupts out */, LSR_RECEIVED = 1, COM1_PIN = 4 };

enum { IOAPIC = 0xfec00000, IOAPIC_DATA = IOAPIC + 0x10, IOAPIC_PIN0 = 0x10 };
enum { LAPIC_EOI = 0xfee000b0, LAPIC_SPURIOUS = 0xfee000f0, LAPIC_ENABLE = 0x100 };
enum { PIC1_MASK = 0x21, PIC2_MASK = 0xa1 };
enum {
	LAPIC_LVT_TIMER = 0xfee00320,
	LAPIC_TIMER_COUNT = 0xfee00380,
	LVT_PERIODIC = 1 << 17,
	LVT_MASKED = 1 << 16
};
enum { TIMER_COUNT = 20000 };
enum { VECTOR_COM1 = 0x40, VECTOR_TIMER, VECTORS };
enum { PM1_CONTROL = 0x604, SLEEP_S5 = 5 << 10 | 1 << 13 };

enum { PDE_LARGE = 0x83 /* present, writable, 4 MiB */, CR4_PSE = 0x10, CR0_PG_NE = (int)0x80000020 };

struct table {
	uint16_t limit;
	uint32_t base;
} __attribute__((packed));

uint64_t gdt[GDT_ENTRIES] __attribute__((aligned(8)));
uint64_t idt[VECTORS] __attribute__((aligned(8)));
uint8_t l1_tss[TSS_BYTES] __attribute__((aligned(8)));

static uint32_t page_directory[1024] PAGE;
static volatile uint32_t received;

void on_com1(void), on_timer(void); /* enter.S */
void com1_interrupt(void), timer_interrupt(void);

static void write_register(uint32_t address, uint32_t value)
{
	*(volatile uint32_t *)address = value;
}

uint64_t descriptor(uint32_t base, uint32_t limit, uint32_t attributes)
{
	if (attributes & 0x8000)
		limit >>= 12; /* in pages */
	return (limit & 0xffff) | (uint64_t)(base & 0xffffff) << 16 | (uint64_t)(attributes & 0xff) << 40 |
	       (uint64_t)(limit >> 16 & 0xf) << 48 | (uint64_t)(attributes >> 12 & 0xf) << 52 |
	       (uint64_t)(base >> 24) << 56;
}

static void load_segments(void)
{
	struct table table = {sizeof(gdt) - 1, (uint32_t)gdt};
	gdt[SEL_CODE / 8] = descriptor(0, 0xffffffff, 0xc09b);
	gdt[SEL_DATA / 8] = descriptor(0, 0xffffffff, 0xc093);
	gdt[SEL_TSS / 8] = descriptor((uint32_t)l1_tss, sizeof(l1_tss) - 1, 0x89);
	__asm__ volatile("lgdt %0\n\t"
			 "ljmp %1, $1f\n"
			 "1:\n\t"
			 "mov %2, %%ds\n\t"
			 "mov %2, %%es\n\t"
			 "mov %2, %%fs\n\t"
			 "mov %2, %%gs\n\t"
			 "mov %2, %%ss\n\t"
			 "ltr %w3"
			 :
			 : "m"(table), "i"(SEL_CODE), "r"(SEL_DATA), "r"(SEL_TSS)
			 : "memory");
}

static uint64_t interrupt_gate(void (*handler)(void))
{
	uint32_t at = (uint32_t)handler;
	return (at & 0xffff) | (uint64_t)SEL_CODE << 16 | UINT64_C(0x8e00) << 32 | (uint64_t)(at >> 16) << 48;
}

static void load_interrupts(void)
{
	struct table table = {sizeof(idt) - 1, (uint32_t)idt};
	idt[VECTOR_COM1] = interrupt_gate(on_com1);
	idt[VECTOR_TIMER] = interrupt_gate(on_timer);
	__asm__ volatile("lidt %0" : : "m"(table));
	outb(PIC1_MASK, 0xff);
	outb(PIC2_MASK, 0xff);
	write_register(LAPIC_SPURIOUS, LAPIC_ENABLE | 0xff);
	write_register(IOAPIC, IOAPIC_PIN0 + 2 * COM1_PIN);
	write_register(IOAPIC_DATA,
		       VECTOR_COM1); /* edge, fixed, to the LAPIC that the next register names: 0 */
	write_register(IOAPIC, IOAPIC_PIN0 + 2 * COM1_PIN + 1);
	write_register(IOAPIC_DATA, 0);
}

void machine_set_up(void)
{
	load_segments();
	for (uint32_t i = 0; i < 1024; i++)
		page_directory[i] = i << 22 | PDE_LARGE;
	__asm__ volatile("mov %%cr4, %%eax\n\t"
			 "or %1, %%eax\n\t"
			 "mov %%eax, %%cr4\n\t"
			 "mov %0, %%cr3\n\t"
			 "mov %%cr0, %%eax\n\t"
			 "or %2, %%eax\n\t"
			 "mov %%eax, %%cr0"
			 :
			 : "r"(page_directory), "i"(CR4_PSE), "i"(CR0_PG_NE)
			 : "eax", "memory");
	load_interrupts();
}

void say(const char *text)
{
	print_to(COM1, text);
}

void say_number(uint32_t value)
{
	char text[11];
	unsigned at = sizeof(text) - 1;
	text[at] = '\0';
	do
		text[--at] = (char)('0' + value % 10);
	while ((value /= 10));
	say(text + at);
}

void say_hex(uint32_t value)
{
	say("0x");
	for (int shift = 28; shift >= 0; shift -= 4)
		outb(COM1, (uint8_t) "0123456789abcdef"[value >> shift & 0xf]);
}

bool byte_came(void)
{
	if (!(inb(COM1_LSR) & LSR_RECEIVED))
		return false;
	(void)inb(COM1);
	return true;
}

void wait_polling(void)
{
	while (!byte_came())
		continue;
}

/* Called by on_timer. */
void timer_interrupt(void)
{
	write_register(LAPIC_EOI, 0);
}

void timer_start(void)
{
	write_register(LAPIC_LVT_TIMER, VECTOR_TIMER | LVT_PERIODIC);
	write_register(LAPIC_TIMER_COUNT, TIMER_COUNT);
}

void timer_stop(void)
{
	write_register(LAPIC_LVT_TIMER, VECTOR_TIMER | LVT_MASKED);
	write_register(LAPIC_TIMER_COUNT, 0);
	take_interrupt(); /* one that came before */
}

void take_interrupt(void)
{
	__asm__ volatile("sti; nop; cli" : : : "memory");
}

/* Called by on_com1. */
void com1_interrupt(void)
{
	while (inb(COM1_LSR) & LSR_RECEIVED) {
		(void)inb(COM1);
		received = 1;
	}
	write_register(LAPIC_EOI, 0);
}

void wait_halted(void)
{
	received = 0;
	outb(COM1_MCR, MCR_OUT2);
	outb(COM1_IER, IER_RECEIVED);
	while (!received) /* no interrupt fits between STI and HLT */
		__asm__ volatile("sti; hlt; cli" : : : "memory");
	outb(COM1_IER, 0);
}

void power_off(void)
{
	outw(PM1_CONTROL, SLEEP_S5);
	for (;;)
		__asm__ volatile("hlt");
}
