#include "entry.h"

#include "base/layout.h"

#include <errno.h>
#include <string.h>

/* Selectors: 0x10 and 0x18 are Linux's __BOOT_CS and __BOOT_DS; the others are free to lie around them. */
enum { SELECTOR_CODE32 = 0x08, SELECTOR_CODE64 = 0x10, SELECTOR_DATA = 0x18 };

/* Flat, present, ring 0, accessed already set so that the processor never writes here (SDM 3A, 3.4.5). */
static const uint64_t gdt[] = {
	[SELECTOR_CODE32 / 8] = 0x00cf9b000000ffff, /* G, D, execute/read */
	[SELECTOR_CODE64 / 8] = 0x00af9b000000ffff, /* G, L, execute/read */
	[SELECTOR_DATA / 8] = 0x00cf93000000ffff,   /* G, B, read/write */
};

enum {
	PAGE_BYTES = 4096,
	PAGE_ENTRIES = 512,
	PAGE_DIRECTORIES = 4,	/* 1 GiB each */
	PAGE_TABLE_FLAGS = 0x3, /* present, writable */
	PAGE_2M_FLAGS = 0x83,	/* and "this entry maps 2 MiB" */
};

static int entry_write_gdt(struct guest_memory *memory, struct cpu_boot *boot)
{
	boot->gdt_gpa = LAYOUT_BOOT_GDT_GPA;
	boot->gdt_limit = sizeof(gdt) - 1;
	boot->data_selector = SELECTOR_DATA;
	return guest_memory_write(memory, LAYOUT_BOOT_GDT_GPA, gdt, sizeof(gdt));
}

/* PML4, PDPT and four page directories of 2 MiB pages, one after another (SDM 3A, 4.5). */
static int entry_write_page_tables(struct guest_memory *memory)
{
	const uint64_t pml4_gpa = LAYOUT_BOOT_PAGE_TABLES_GPA;
	const uint64_t pdpt_gpa = pml4_gpa + PAGE_BYTES;
	const uint64_t directories_gpa = pdpt_gpa + PAGE_BYTES;
	const uint64_t bytes = (2ULL + PAGE_DIRECTORIES) * PAGE_BYTES;

	uint64_t *pml4 = guest_memory_at(memory, pml4_gpa, bytes);
	if (!pml4)
		return -EFAULT;
	uint64_t *pdpt = pml4 + PAGE_ENTRIES;
	uint64_t *directories = pdpt + PAGE_ENTRIES;
	memset(pml4, 0, bytes);
	pml4[0] = pdpt_gpa | PAGE_TABLE_FLAGS;
	for (uint64_t i = 0; i < PAGE_DIRECTORIES; i++)
		pdpt[i] = (directories_gpa + i * PAGE_BYTES) | PAGE_TABLE_FLAGS;
	for (uint64_t i = 0; i < (uint64_t)PAGE_DIRECTORIES * PAGE_ENTRIES; i++)
		directories[i] = i * 2 * MIB | PAGE_2M_FLAGS;
	return 0;
}

int entry_long(struct guest_memory *memory, uint64_t rip, uint64_t rsi, struct cpu_boot *ret)
{
	*ret = (struct cpu_boot){
		.mode = CPU_BOOT_LONG,
		.rip = rip,
		.rsp = LAYOUT_BOOT_STACK_GPA,
		.rsi = rsi,
		.cr3 = LAYOUT_BOOT_PAGE_TABLES_GPA,
		.code_selector = SELECTOR_CODE64,
	};
	int r = entry_write_page_tables(memory);
	return r ? r : entry_write_gdt(memory, ret);
}

int entry_protected(struct guest_memory *memory, uint64_t rip, uint64_t rax, uint64_t rbx,
		    struct cpu_boot *ret)
{
	*ret = (struct cpu_boot){
		.mode = CPU_BOOT_PROTECTED,
		.rip = rip,
		.rsp = LAYOUT_BOOT_STACK_GPA, /* a courtesy that a kernel may load over */
		.rax = rax,
		.rbx = rbx,
		.code_selector = SELECTOR_CODE32,
	};
	return entry_write_gdt(memory, ret);
}
