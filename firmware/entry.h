/*
 * The world of the first instruction: a flat GDT and, for long mode, an identity map of the first 4 GiB, in
 * the low structures of layout.h. One GDT serves every protocol.
 */
#ifndef AERIE_FIRMWARE_ENTRY_H
#define AERIE_FIRMWARE_ENTRY_H

#include "cpu/boot.h"
#include "memory/memory.h"

/* 64-bit, as Linux wants it (boot.rst, "64-bit boot protocol"): cs 0x10, data 0x18, rsi = boot_params. */
int entry_long(struct guest_memory *memory, uint64_t rip, uint64_t rsi, struct cpu_boot *ret);

/* 32-bit flat with paging off, as PVH and multiboot want it. */
int entry_protected(struct guest_memory *memory, uint64_t rip, uint64_t rax, uint64_t rbx,
		    struct cpu_boot *ret);

#endif
