/*
 * A guest that uses each enlightenment once and looks at the result (TLFS 6.0b); then it resets itself by
 * MSR, finds all as new, and does it again. Runs on the entry code and linker script of tests/native. With
 * "less" on its command line the machine has no SynIC, and what CPUID does not show must be refused.
 */
#include "guest.h"

#include <stdbool.h>

#define MSR_GUEST_OS_ID	    0x40000000
#define MSR_HYPERCALL	    0x40000001
#define MSR_VP_INDEX	    0x40000002
#define MSR_RESET	    0x40000003
#define MSR_VP_RUNTIME	    0x40000010
#define MSR_TIME_REF_COUNT  0x40000020
#define MSR_REFERENCE_TSC   0x40000021
#define MSR_TSC_FREQUENCY   0x40000022
#define MSR_APIC_FREQUENCY  0x40000023
#define MSR_EOI		    0x40000070
#define MSR_TPR		    0x40000072
#define MSR_VP_ASSIST_PAGE  0x40000073
#define MSR_SCONTROL	    0x40000080
#define MSR_SIMP	    0x40000083
#define MSR_EOM		    0x40000084
#define MSR_SINT0	    0x40000090
#define MSR_STIMER0	    0x400000b0 /* config, count; two for each of four timers */
#define MSR_CRASH_P0	    0x40000100
#define MSR_CRASH_CTL	    0x40000105
#define MSR_REENLIGHTENMENT 0x40000106

#define STIMER_ENABLE	     (1U << 0)
#define STIMER_PERIODIC	     (1U << 1)
#define STIMER_AUTO_ENABLE   (1U << 3)
#define STIMER_VECTOR(v)     ((v) << 4)
#define STIMER_DIRECT	     (1U << 12)
#define STIMER_SINT(n)	     ((n) << 16)
#define MESSAGE_TIMER	     0x80000010U
#define CALL_FLUSH_SPACE     0x0002
#define CALL_FLUSH_LIST	     0x0003
#define CALL_FLUSH_SPACE_EX  0x0013
#define CALL_LONG_SPIN_WAIT  0x0008
#define CALL_SEND_IPI	     0x000b
#define CALL_POST_MESSAGE    0x005c
#define CALL_SIGNAL_EVENT    0x005d
#define CALL_FAST	     (1U << 16)
#define CALL_REPEATS(n)	     ((uint64_t)(n) << 32)
#define STATUS_SUCCESS	     0
#define STATUS_BAD_CODE	     2
#define STATUS_NO_ACCESS     6
#define STATUS_NO_CONNECTION 0x12

enum { COM1 = 0x3f8, VECTOR_SINT = 0x40, VECTOR_DIRECT = 0x41, VECTOR_IPI = 0x42, VECTORS = 3 };
enum { MILLISECOND = 10000 /* units of 100 ns */, SECOND = 1000 * MILLISECOND };

#define PAGE __attribute__((aligned(4096)))
static uint8_t hypercall_page[4096] PAGE, message_page[4096] PAGE, input_page[4096] PAGE,
	assist_page[4096] PAGE;
static volatile struct {
	uint32_t sequence, reserved;
	uint64_t scale;
	int64_t offset;
} reference_page PAGE;

volatile uint32_t faults, interrupts[VECTORS]; /* counted by the handlers */
static uint32_t failures;

/* #GP on RDMSR or WRMSR is stepped over. Interrupts are counted and ended by MSR. */
void fault_entry(void);
void sint_entry(void);
void direct_entry(void);
void ipi_entry(void);
#define HANDLER(name, n)                                                                                     \
	__asm__(#name ":\n"                                                                                  \
		      "	push %eax\n	push %ecx\n	push %edx\n"                                                 \
		      "	incl interrupts+" #n "\n"                                                            \
		      "	xor %eax, %eax\n	xor %edx, %edx\n	mov $0x40000070, %ecx\n	wrmsr\n"                   \
		      "	pop %edx\n	pop %ecx\n	pop %eax\n	iret\n")
HANDLER(sint_entry, 0);
HANDLER(direct_entry, 4);
HANDLER(ipi_entry, 8);
__asm__("fault_entry:\n"
	"	incl faults\n"
	"	addl $2, 4(%esp)\n"
	"	addl $4, %esp\n"
	"	iret\n");

static uint64_t idt[256];

static void set_gate(unsigned vector, void (*handler)(void))
{
	uint32_t at = (uint32_t)handler;
	uint16_t cs;
	__asm__ volatile("mov %%cs, %0" : "=r"(cs));
	idt[vector] =
		(uint64_t)(at >> 16) << 48 | (uint64_t)0x8e00 << 32 | (uint32_t)cs << 16 | (at & 0xffff);
}

static void set_up_interrupts(void)
{
	struct __attribute__((packed)) {
		uint16_t limit;
		uint32_t base;
	} idtr = {sizeof(idt) - 1, (uint32_t)idt};
	set_gate(13, fault_entry);
	set_gate(VECTOR_SINT, sint_entry);
	set_gate(VECTOR_DIRECT, direct_entry);
	set_gate(VECTOR_IPI, ipi_entry);
	__asm__ volatile("lidt %0" : : "m"(idtr));
	outb(0x21, 0xff); /* the PIC stays silent */
	outb(0xa1, 0xff);
	*(volatile uint32_t *)0xfee000f0 = 0x1ff; /* local APIC on */
}

static void say_hex(uint64_t value)
{
	for (int shift = 60; shift >= 0; shift -= 4)
		outb(COM1, (uint8_t) "0123456789abcdef"[value >> shift & 0xf]);
}

/* One line for each check. */
static void check(const char *what, bool good, uint64_t value)
{
	print_to(COM1, good ? "LAB HV ok: " : "LAB HV BAD: ");
	print_to(COM1, what);
	print_to(COM1, " ");
	say_hex(value);
	print_to(COM1, "\n");
	failures += !good;
}

static uint64_t now(void)
{
	return rdmsr(MSR_TIME_REF_COUNT);
}

/* Interrupts on until `counter` has grown to `want`, a second at most. */
static bool wait_for(volatile uint32_t *counter, uint32_t want)
{
	uint64_t end = now() + SECOND;
	__asm__ volatile("sti" : : : "memory");
	while (*counter < want && now() < end)
		__asm__ volatile("pause");
	__asm__ volatile("cli" : : : "memory");
	return *counter >= want;
}

/* 32-bit guests: EDX:EAX call, EBX:ECX input, EDI:ESI output or second input (TLFS 3.7). */
static uint64_t hypercall(uint64_t call, uint64_t input, uint64_t second)
{
	uint32_t a = (uint32_t)call, b = (uint32_t)(input >> 32), c = (uint32_t)input,
		 d = (uint32_t)(call >> 32);
	uint32_t si = (uint32_t)second, di = (uint32_t)(second >> 32);
	__asm__ volatile("call *%[page]"
			 : "+a"(a), "+b"(b), "+c"(c), "+d"(d), "+S"(si), "+D"(di)
			 : [page] "m"((uint32_t){(uint32_t)hypercall_page})
			 : "memory", "cc");
	return (uint64_t)d << 32 | a; /* status, and repeats done from bit 32 on */
}

static bool msr_faults(uint32_t index)
{
	uint32_t low = 0, high = 0;
	faults = 0;
	__asm__ volatile("rdmsr" : "+a"(low), "+d"(high) : "c"(index) : "memory");
	return faults != 0;
}

static void check_identity(void)
{
	uint32_t r[4];
	cpuid(0x40000000, 0, r);
	check("vendor is Microsoft Hv", r[1] == 0x7263694d && r[2] == 0x666f736f && r[3] == 0x76482074, r[1]);
	check("leaves up to 0x4000000a", r[0] >= 0x4000000a, r[0]);
	cpuid(0x40000001, 0, r);
	check("interface is Hv#1", r[0] == 0x31237648, r[0]);
	cpuid(0x40000100, 0, r);
	check("KVM is at 0x40000100", r[1] == 0x4b4d564b, r[1]);
	check("VP index", rdmsr(MSR_VP_INDEX) == 0, rdmsr(MSR_VP_INDEX));
}

static void check_time(void)
{
	uint64_t a = now(), b = now(), run = rdmsr(MSR_VP_RUNTIME);
	check("reference counter grows", b > a && b - a < SECOND, b - a);
	check("runtime grows", rdmsr(MSR_VP_RUNTIME) >= run, run);
	check("TSC frequency", rdmsr(MSR_TSC_FREQUENCY) > 100000000, rdmsr(MSR_TSC_FREQUENCY));
	check("APIC frequency", rdmsr(MSR_APIC_FREQUENCY) == 1000000000, rdmsr(MSR_APIC_FREQUENCY));
	wrmsr(MSR_REENLIGHTENMENT, 1ULL << 16 | 0xee);
	check("reenlightenment", rdmsr(MSR_REENLIGHTENMENT) == (1ULL << 16 | 0xee),
	      rdmsr(MSR_REENLIGHTENMENT));
	wrmsr(MSR_REENLIGHTENMENT, 0);
}

/* The upper half of a 64 by 64 bit product. */
static uint64_t multiply_high(uint64_t a, uint64_t b)
{
	uint64_t al = (uint32_t)a, ah = a >> 32, bl = (uint32_t)b, bh = b >> 32;
	uint64_t mid = ah * bl + (al * bl >> 32), more = al * bh + (uint32_t)mid;
	return ah * bh + (mid >> 32) + (more >> 32);
}

static uint64_t reference_time(void)
{
	uint32_t low, high;
	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
	return multiply_high((uint64_t)high << 32 | low, reference_page.scale) +
	       (uint64_t)reference_page.offset;
}

static void check_reference_tsc(void)
{
	wrmsr(MSR_REFERENCE_TSC, (uint32_t)&reference_page | 1);
	check("reference TSC page is valid", reference_page.sequence != 0, reference_page.sequence);
	for (int i = 0; i < 3; i++) {
		uint64_t before = now(), between = reference_time(), after = now();
		check("reference TSC agrees with the counter", before <= between + 1 && between <= after + 1,
		      between - before);
	}
}

static void check_hypercalls(void)
{
	struct {
		uint64_t space, flags, processors, list[2];
	} *flush = (void *)input_page;
	struct {
		uint32_t connection, reserved, type, bytes;
		uint8_t payload[240];
	} *post = (void *)input_page;

	wrmsr(MSR_GUEST_OS_ID, 0x8100000000000000);
	wrmsr(MSR_HYPERCALL, (uint32_t)hypercall_page | 1);
	check("hypercall page", rdmsr(MSR_HYPERCALL) == ((uint32_t)hypercall_page | 1), hypercall_page[2]);
	uint64_t r = hypercall(CALL_LONG_SPIN_WAIT | CALL_FAST, 100, 0);
	check("long spin wait", r == STATUS_SUCCESS, r);
	flush->flags = 3; /* all processors, all address spaces */
	r = hypercall(CALL_FLUSH_SPACE, (uint32_t)flush, 0);
	check("flush", r == STATUS_SUCCESS, r);
	flush->list[0] = (uint32_t)hypercall_page & ~0xfffU;
	flush->list[1] = ((uint32_t)input_page & ~0xfffU) | 1; /* and the page behind it */
	r = hypercall(CALL_FLUSH_LIST | CALL_REPEATS(2), (uint32_t)flush, 0);
	check("flush of a list", r == CALL_REPEATS(2), r);
	flush->processors = 1; /* the format of a set of processors: all of them */
	flush->list[0] = 0;
	r = hypercall(CALL_FLUSH_SPACE_EX, (uint32_t)flush, 0);
	check("flush by processor set", r == STATUS_SUCCESS, r);
	interrupts[2] = 0;
	r = hypercall(CALL_SEND_IPI | CALL_FAST, VECTOR_IPI, 1);
	check("IPI", r == STATUS_SUCCESS && wait_for(&interrupts[2], 1), r);
	r = hypercall(0x7ff | CALL_FAST, 0, 0);
	check("unknown hypercall", r == STATUS_BAD_CODE, r);
	post->connection = 4711;
	post->type = 1;
	post->bytes = 8;
	r = hypercall(CALL_POST_MESSAGE, (uint32_t)post, 0);
	check("message without receiver", r == STATUS_NO_CONNECTION, r);
	r = hypercall(CALL_SIGNAL_EVENT | CALL_FAST, 4711, 0);
	check("event without receiver", r == STATUS_NO_CONNECTION, r);
}

static void check_messages(void)
{
	volatile struct {
		uint32_t type;
		uint8_t bytes, flags, reserved[2];
		uint64_t origin;
		uint32_t timer, more;
		uint64_t expired, delivered;
	} *message = (void *)(message_page + 2 * 256); /* of SINT 2 */
	wrmsr(MSR_SCONTROL, 1);
	wrmsr(MSR_SIMP, (uint32_t)message_page | 1);
	wrmsr(MSR_SINT0 + 2, VECTOR_SINT);
	uint64_t due = now() + 5 * MILLISECOND;
	wrmsr(MSR_STIMER0 + 1, due);
	wrmsr(MSR_STIMER0, STIMER_ENABLE | STIMER_SINT(2));
	bool came = wait_for(&interrupts[0], 1);
	check("timer message interrupts", came && interrupts[0] == 1, interrupts[0]);
	check("timer message type", message->type == MESSAGE_TIMER, message->type);
	check("timer message names timer 0", message->timer == 0, message->timer);
	check("timer message came in time", message->expired >= due && message->delivered >= message->expired,
	      message->delivered - due);
	check("one-shot timer is off", !(rdmsr(MSR_STIMER0) & STIMER_ENABLE), rdmsr(MSR_STIMER0));

	/* A second one while the slot is taken waits for EOM. */
	wrmsr(MSR_STIMER0 + 1, now() + MILLISECOND);
	wrmsr(MSR_STIMER0, STIMER_ENABLE | STIMER_SINT(2));
	uint64_t end = now() + 5 * MILLISECOND;
	while (now() < end)
		__asm__ volatile("pause");
	check("a taken slot is not overwritten", interrupts[0] == 1 && message->flags == 1, message->flags);
	message->type = 0;
	wrmsr(MSR_EOM, 0);
	check("the next message follows EOM", wait_for(&interrupts[0], 2) && message->type == MESSAGE_TIMER,
	      interrupts[0]);
	message->type = 0;
	wrmsr(MSR_EOM, 0);
}

static void check_direct_timers(void)
{
	uint32_t direct = STIMER_DIRECT | STIMER_VECTOR(VECTOR_DIRECT);
	interrupts[1] = 0;
	wrmsr(MSR_STIMER0 + 2, direct | STIMER_AUTO_ENABLE); /* timer 1: one shot, on when its count is set */
	uint64_t due = now() + 5 * MILLISECOND;
	wrmsr(MSR_STIMER0 + 3, due);
	bool came = wait_for(&interrupts[1], 1);
	uint64_t late = now() - due;
	check("direct timer", came && interrupts[1] == 1 && late < SECOND, late);

	interrupts[1] = 0;
	uint64_t start = now();
	wrmsr(MSR_STIMER0 + 5, 2 * MILLISECOND); /* timer 2: every 2 ms */
	wrmsr(MSR_STIMER0 + 4, direct | STIMER_PERIODIC | STIMER_ENABLE);
	came = wait_for(&interrupts[1], 5);
	uint64_t took = now() - start;
	wrmsr(MSR_STIMER0 + 4, 0);
	check("periodic direct timer", came && took >= 9 * MILLISECOND && took < SECOND, took);
	uint32_t last = interrupts[1];
	check("no interrupt after its end", !wait_for(&interrupts[1], last + 1), last);
}

static void check_apic(void)
{
	wrmsr(MSR_VP_ASSIST_PAGE, (uint32_t)assist_page | 1);
	check("VP assist page", rdmsr(MSR_VP_ASSIST_PAGE) == ((uint32_t)assist_page | 1),
	      rdmsr(MSR_VP_ASSIST_PAGE));
	wrmsr(MSR_TPR, 0x50);
	check("TPR by MSR", *(volatile uint32_t *)0xfee00080 == 0x50 && rdmsr(MSR_TPR) == 0x50,
	      rdmsr(MSR_TPR));
	wrmsr(MSR_TPR, 0);
}

/* "less": what CPUID does not show is refused. */
static void check_refusals(void)
{
	uint32_t r[4];
	cpuid(0x40000003, 0, r);
	check("CPUID shows no SynIC", !(r[0] & 0xc), r[0]);
	check("SynIC is refused", msr_faults(MSR_SCONTROL), 0);
	check("timers are refused", msr_faults(MSR_STIMER0), 0);
	check("VP index is there", !msr_faults(MSR_VP_INDEX), 0);
	wrmsr(MSR_GUEST_OS_ID, 0x8100000000000000);
	wrmsr(MSR_HYPERCALL, (uint32_t)hypercall_page | 1);
	uint64_t result = hypercall(CALL_SEND_IPI | CALL_FAST, VECTOR_IPI, 1);
	check("IPI is refused", result == STATUS_NO_ACCESS, result);
}

/* A word of RAM that survives a reset. */
static volatile uint32_t *const was_here = (volatile uint32_t *)0x50000;
enum { MAGIC = 0x41455249 };

/*
 * After a reset nothing is left of what the first run set up. KVM keeps the hypercall page's address, but not
 * its enable bit; a SynIC is on from the start.
 */
static void check_clean(void)
{
	static const struct {
		uint32_t msr;
		uint64_t mask, value;
	} rows[] = {
		{MSR_GUEST_OS_ID, ~0ULL, 0},	 {MSR_HYPERCALL, 1, 0},	   {MSR_REFERENCE_TSC, ~0ULL, 0},
		{MSR_VP_ASSIST_PAGE, ~0ULL, 0},	 {MSR_SCONTROL, ~0ULL, 1}, {MSR_SIMP, ~0ULL, 0},
		{MSR_SINT0 + 2, ~0ULL, 0x10000}, {MSR_STIMER0, ~0ULL, 0},  {MSR_STIMER0 + 2, ~0ULL, 0},
		{MSR_REENLIGHTENMENT, ~0ULL, 0},
	};
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint64_t value = rdmsr(rows[i].msr);
		check("clean after reset", (value & rows[i].mask) == rows[i].value, value);
	}
}

static bool told(uint32_t info, const char *word)
{
	const char *text = at(((const struct start_info *)info)->cmdline);
	for (; *text; text++) {
		const char *a = text, *b = word;
		while (*b && *a == *b)
			a++, b++;
		if (!*b)
			return true;
	}
	return false;
}

uint8_t payload(uint32_t magic, uint32_t info)
{
	(void)magic;
	set_up_interrupts();
	if (told(info, "less")) {
		check_refusals();
	} else {
		if (*was_here == MAGIC)
			check_clean();
		check_identity();
		check_time();
		check_reference_tsc();
		check_apic();
		check_messages();
		check_hypercalls();
		check_direct_timers();
		for (uint32_t i = 0; i < 5; i++)
			wrmsr(MSR_CRASH_P0 + i, 0xc0 + i);
		wrmsr(MSR_CRASH_CTL, 1ULL << 63);
	}
	print_to(COM1, failures ? "LAB HV failed\n" : "LAB HV all right\n");
	if (!failures && told(info, "reset") && *was_here != MAGIC) {
		*was_here = MAGIC;
		wrmsr(MSR_RESET, 1);
		print_to(COM1, "LAB HV failed to reset\n");
	}
	return failures ? 1 : 10;
}
