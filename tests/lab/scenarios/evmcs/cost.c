/*
 * What an exit costs: the median of single ones, in ticks of the TSC, which under the emulator counts
 * instructions. Says whose it was by the word "as=..." of its command line.
 */
#include "guest.h"

enum { COM1 = 0x3f8, ROUNDS = 65, PIT = 0x40, NOBODY = 0x80, MSR_APIC_BASE = 0x1b };

static void exit_cpuid(void)
{
	uint32_t r[4];
	cpuid(0, 0, r);
}

static void exit_rdmsr(void)
{
	(void)rdmsr(MSR_APIC_BASE);
}

/* Answered by the kernel below. */
static void exit_port(void)
{
	(void)inb(PIT);
}

/* Answered by the VMM below, a process. */
static void exit_port_vmm(void)
{
	(void)inb(NOBODY);
}

static void nothing(void)
{
}

static uint32_t ticks(void)
{
	uint32_t low, high;
	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high) : : "memory");
	return low;
}

static uint32_t median(void (*act)(void))
{
	uint32_t cost[ROUNDS];
	for (unsigned i = 0; i < ROUNDS; i++) {
		uint32_t start = ticks();
		act();
		uint32_t c = ticks() - start;
		unsigned at = i;
		for (; at > 0 && cost[at - 1] > c; at--)
			cost[at] = cost[at - 1];
		cost[at] = c;
	}
	return cost[ROUNDS / 2];
}

static void say_number(uint32_t value)
{
	char text[11];
	unsigned at = sizeof(text) - 1;
	text[at] = '\0';
	do
		text[--at] = (char)('0' + value % 10);
	while ((value /= 10));
	print_to(COM1, text + at);
}

static const char *name_of(uint32_t info)
{
	const char *text = at(((const struct start_info *)info)->cmdline);
	for (; *text; text++)
		if (text[0] == 'a' && text[1] == 's' && text[2] == '=')
			return text + 3;
	return "?";
}

uint8_t payload(uint32_t magic, uint32_t info)
{
	static const struct {
		const char *name;
		void (*act)(void);
	} rows[] = {
		{"nothing", nothing}, {"CPUID", exit_cpuid},	 {"RDMSR", exit_rdmsr},
		{"IN", exit_port},    {"IN-VMM", exit_port_vmm},
	};
	(void)magic;
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint32_t cost = median(rows[i].act);
		print_to(COM1, "LAB cost ");
		print_to(COM1, name_of(info));
		print_to(COM1, " ");
		print_to(COM1, rows[i].name);
		print_to(COM1, " ");
		say_number(cost);
		print_to(COM1, "\n");
	}
	return 0;
}
