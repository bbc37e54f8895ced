/*
 * With "nested": "off" there is no way into VMX or SVM: no CPUID bit, no capability MSR, no enabling bit in
 * CR4 or EFER that could be set, and every instruction of either is undefined. In ring 0, where nothing but
 * the processor stands in the way. Speaks on COM1; the exit value counts what was found.
 */
#include "guest.h"

enum { COM1 = 0x3f8, UD = 6, GP = 13, CR4_VMXE = 1 << 13, EFER = 0xc0000080, EFER_SVME = 1 << 12 };

volatile uint32_t vector, resume_at;

/*
 * Both handlers go back by a jump to where the try says, as an emulating KVM knows no IRET in protected mode.
 * #GP has an error code, #UD has none.
 */
void undefined_entry(void);
void protection_entry(void);
__asm__("undefined_entry:\n"
	"	movl $6, vector\n"
	"	addl $12, %esp\n"
	"	jmp *resume_at\n"
	"protection_entry:\n"
	"	movl $13, vector\n"
	"	addl $16, %esp\n"
	"	jmp *resume_at\n");

static uint64_t idt[32];
static uint32_t found;

static void catch (unsigned number, void (*entry)(void))
{
	uint32_t at = (uint32_t)entry;
	uint16_t cs;
	__asm__ volatile("mov %%cs, %0" : "=r"(cs));
	idt[number] =
		(uint64_t)(at >> 16) << 48 | (uint64_t)0x8e00 << 32 | (uint32_t)cs << 16 | (at & 0xffff);
}

/* The vector of the fault that `code` takes; 0 if it passes. */
#define TRY(code, ...)                                                                                       \
	({                                                                                                   \
		vector = 0;                                                                                  \
		__asm__ volatile("movl $1f, resume_at\n\t" code "\n1:" : : __VA_ARGS__ : "memory", "cc");    \
		vector;                                                                                      \
	})

static void expect(const char *name, uint32_t got, uint32_t want)
{
	if (got == want)
		return;
	found++;
	print_to(COM1, name);
	print_to(COM1, got ? ": another fault\n" : ": no fault\n");
}

static void expect_zero(const char *name, uint32_t value)
{
	if (!value)
		return;
	found++;
	print_to(COM1, name);
	print_to(COM1, ": is there\n");
}

static void look_at_cpuid(void)
{
	uint32_t leaf[4], last[4];
	cpuid(1, 0, leaf);
	expect_zero("CPUID.1 VMX", leaf[2] & (1 << 5));
	cpuid(0x80000000, 0, last);
	cpuid(0x80000001, 0, leaf);
	expect_zero("CPUID.80000001 SVM", leaf[2] & (1 << 2));
	cpuid(0x8000000a, 0, leaf);
	if (last[0] >= 0x8000000a)
		expect_zero("CPUID.8000000A", leaf[0] | leaf[1] | leaf[2] | leaf[3]);
}

static uint32_t read_fault(uint32_t msr)
{
	vector = 0;
	__asm__ volatile("movl $1f, resume_at\n\trdmsr\n1:" : : "c"(msr) : "eax", "edx", "memory");
	return vector;
}

static uint32_t write_fault(uint32_t msr, uint32_t low)
{
	vector = 0;
	__asm__ volatile("movl $1f, resume_at\n\twrmsr\n1:" : : "c"(msr), "a"(low), "d"(0) : "memory");
	return vector;
}

static void look_at_registers(void)
{
	uint32_t cr4;
	for (uint32_t msr = 0x480; msr <= 0x493; msr++)
		expect("read of a VMX capability MSR", read_fault(msr), GP);
	/* KVM answers for FEATURE_CONTROL in any case; what counts is that VMX cannot be turned on in it. */
	expect("write of FEATURE_CONTROL", write_fault(0x3a, 5), GP);
	__asm__ volatile("mov %%cr4, %0" : "=r"(cr4));
	expect("CR4.VMXE", TRY("mov %0, %%cr4", "r"(cr4 | CR4_VMXE)), GP);
	expect("EFER.SVME", write_fault(EFER, (uint32_t)rdmsr(EFER) | EFER_SVME), GP);
}

static void try_instructions(void)
{
	static uint64_t memory[4];
	expect("VMXON", TRY("vmxon %0", "m"(memory[0])), UD);
	expect("VMXOFF", TRY("vmxoff"), UD);
	expect("VMPTRLD", TRY("vmptrld %0", "m"(memory[0])), UD);
	expect("VMCLEAR", TRY("vmclear %0", "m"(memory[0])), UD);
	expect("VMLAUNCH", TRY("vmlaunch"), UD);
	expect("VMREAD", TRY("vmread %0, %0", "r"(0)), UD);
	expect("VMRUN", TRY("vmrun", "a"(0)), UD);
	expect("VMLOAD", TRY("vmload", "a"(0)), UD);
	expect("VMSAVE", TRY("vmsave", "a"(0)), UD);
	expect("STGI", TRY("stgi"), UD);
	expect("CLGI", TRY("clgi"), UD);
}

uint8_t payload(uint32_t magic, uint32_t info)
{
	struct __attribute__((packed)) {
		uint16_t limit;
		uint32_t base;
	} idtr = {sizeof(idt) - 1, (uint32_t)idt};
	(void)magic, (void)info;
	catch (UD, undefined_entry);
	catch (GP, protection_entry);
	__asm__ volatile("lidt %0" : : "m"(idtr));
	look_at_cpuid();
	look_at_registers();
	try_instructions();
	print_to(COM1, found ? "nested off: something is there\n" : "nested off: nothing is there\n");
	return (uint8_t)found;
}
