/* MSRs that KVM does not know: read and written, and whether that was a #GP. Speaks on COM1, so that aerie's
 * own log is not in between. */
#include "guest.h"

enum { COM1 = 0x3f8, UNKNOWN = 0x12345678, ANOTHER = 0x12345679, KNOWN = 0x277 /* PAT */ };

volatile uint32_t faults; /* counted by the handler */

/*
 * #GP on RDMSR or WRMSR, which have two bytes. Goes back by a jump: an emulating KVM (PVM) knows no IRET in
 * protected mode, and flags and segments are what they were.
 */
void fault_entry(void);
__asm__("fault_entry:\n"
	"	incl faults\n"
	"	movl 4(%esp), %esi\n"
	"	addl $2, %esi\n"
	"	addl $16, %esp\n"
	"	jmp *%esi\n");

static uint64_t idt[32];

static void catch_faults(void)
{
	struct __attribute__((packed)) {
		uint16_t limit;
		uint32_t base;
	} idtr = {sizeof(idt) - 1, (uint32_t)idt};
	uint32_t at = (uint32_t)fault_entry;
	uint16_t cs;
	__asm__ volatile("mov %%cs, %0" : "=r"(cs));
	idt[13] = (uint64_t)(at >> 16) << 48 | (uint64_t)0x8e00 << 32 | (uint32_t)cs << 16 | (at & 0xffff);
	__asm__ volatile("lidt %0" : : "m"(idtr));
}

static void probe(const char *name, uint32_t index)
{
	uint32_t low = 0xffffffff, high = 0xffffffff;
	print_to(COM1, name);
	faults = 0;
	__asm__ volatile("rdmsr" : "+a"(low), "+d"(high) : "c"(index) : "esi", "memory");
	print_to(COM1, faults ? "read faults, " : (low | high) == 0 ? "reads 0, " : "reads something, ");
	faults = 0;
	__asm__ volatile("wrmsr" : : "a"(0x1234), "d"(0), "c"(index) : "esi", "memory");
	print_to(COM1, faults ? "write faults\n" : "write passes\n");
}

uint8_t payload(uint32_t magic, uint32_t info)
{
	(void)magic, (void)info;
	catch_faults();
	probe("unknown: ", UNKNOWN);
	probe("another: ", ANOTHER);
	probe("again: ", UNKNOWN);
	faults = 0;
	(void)rdmsr(KNOWN);
	print_to(COM1, faults ? "known faults\n" : "known reads\n");
	return 0;
}
