/* What payloads share: ports, text on the debug console, MSRs. 32-bit, no library. */
#ifndef AERIE_TESTS_GUEST_H
#define AERIE_TESTS_GUEST_H

#include <stdint.h>

/* `magic` and `info` are EAX and EBX at entry. The result goes to port 0xf4: aerie exits with (result << 1)
 * | 1. */
uint8_t payload(uint32_t magic, uint32_t info);

static inline void outb(uint16_t port, uint8_t value)
{
	__asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static inline void outw(uint16_t port, uint16_t value)
{
	__asm__ volatile("outw %0, %1" : : "a"(value), "Nd"(port));
}

static inline uint8_t inb(uint16_t port)
{
	uint8_t value;
	__asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

static inline uint32_t inl(uint16_t port)
{
	uint32_t value;
	__asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

static inline void cpuid(uint32_t leaf, uint32_t index, uint32_t out[4])
{
	__asm__ volatile("cpuid"
			 : "=a"(out[0]), "=b"(out[1]), "=c"(out[2]), "=d"(out[3])
			 : "a"(leaf), "c"(index));
}

static inline uint64_t rdmsr(uint32_t index)
{
	uint64_t value;
	__asm__ volatile("rdmsr" : "=A"(value) : "c"(index));
	return value;
}

static inline void wrmsr(uint32_t index, uint64_t value)
{
	__asm__ volatile("wrmsr" : : "A"(value), "c"(index));
}

static inline void print_to(uint16_t port, const char *text)
{
	for (; *text; text++)
		outb(port, (uint8_t)*text);
}

static inline void print(const char *text)
{
	print_to(0xe9, text);
}

static inline void print_hex(const char *name, uint32_t value)
{
	print(name);
	for (int shift = 28; shift >= 0; shift -= 4)
		outb(0xe9, (uint8_t) "0123456789abcdef"[value >> shift & 0xf]);
	print("\n");
}

/* PVH: struct hvm_start_info and its module list (xen/include/public/arch-x86/hvm/start_info.h); addresses
 * fit 32 bits. */
struct start_info {
	uint32_t magic, version, flags, nr_modules;
	uint64_t modules, cmdline, rsdp;
	uint64_t memmap;
	uint32_t memmap_entries, reserved;
};

struct start_module {
	uint64_t address, size, cmdline, reserved;
};

enum { START_INFO_MAGIC = 0x336ec578 };

static inline const void *at(uint64_t address)
{
	return (const void *)(uint32_t)address;
}

#endif
