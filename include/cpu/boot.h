/* The registers a boot loader hands over on the first vCPU; the others wait for INIT and SIPI. */
#ifndef AERIE_CPU_BOOT_H
#define AERIE_CPU_BOOT_H

#include "config/config.h"

#include <stdint.h>

enum cpu_boot_mode {
	CPU_BOOT_PROTECTED, /* 32-bit flat segments, paging off: PVH, multiboot */
	CPU_BOOT_LONG,	    /* 64-bit, identity-mapped through cr3: Linux bzImage */
};

struct cpu_boot {
	enum cpu_boot_mode mode;
	uint64_t rip;
	uint64_t rsp;
	uint64_t rax;
	uint64_t rbx;
	uint64_t rsi;
	uint64_t cr3;	  /* long mode only */
	uint64_t gdt_gpa; /* the loader wrote it; selectors below index it */
	uint16_t gdt_limit;
	uint16_t code_selector; /* flat, executable; 64-bit in long mode */
	uint16_t data_selector; /* flat, writable */
};

/* The x2APIC id of vCPU `index`: sockets, cores and threads each take a power of two of ids (SDM 3A, 9.9.1).
 */
uint32_t cpu_apic_id(const struct cpus_config *cpus, uint32_t index);

#endif
