/*
 * Every address and number of the PC that aerie builds. It stands on the lowest floor because RAM, devices,
 * firmware tables and boot loaders must agree on it; nothing else in the tree spells an address.
 *
 * Guest-physical memory
 *
 *	0000_0000  real-mode area: vectors, BIOS data, the loaders' small structures (below)
 *	0009_fc00  end of conventional memory; EBDA, reserved
 *	000a_0000  VGA hole: nobody answers
 *	000e_0000  ACPI tables, RSDP first
 *	000e_f000  generation id
 *	000f_0000  SMBIOS: the anchor first
 *	0010_0000  RAM, kernels and initrds
 *	c000_0000  PCI hole: 32-bit BARs
 *	e000_0000  ECAM (256 buses)
 *	f000_0000  more 32-bit BARs
 *	fec0_0000  IOAPIC
 *	fee0_0000  local APICs, MSI
 *	fffb_c000  identity map page and TSS that KVM wants on old Intel CPUs
 *	1_0000_0000  RAM above the hole, then 64-bit BARs
 */
#ifndef AERIE_BASE_LAYOUT_H
#define AERIE_BASE_LAYOUT_H

#include <stdint.h>

#define KIB UINT64_C(1024)
#define MIB (UINT64_C(1024) * KIB)
#define GIB (UINT64_C(1024) * MIB)

/* Guest-physical addresses and lengths, in bytes. */
#define LAYOUT_IVT_GPA	    UINT64_C(0x00000000) /* real mode's interrupt vectors */
#define LAYOUT_BDA_GPA	    UINT64_C(0x00000400) /* BIOS data area */
#define LAYOUT_BOOT_GDT_GPA UINT64_C(0x00000500)
#define LAYOUT_BOOT_IDT_GPA                                                                                  \
	UINT64_C(0x00000600) /* empty: a fault before the guest sets its own is a triple fault               \
			      */
#define LAYOUT_BOOT_INFO_GPA   UINT64_C(0x00001000) /* PVH start info or multiboot info, with its lists */
#define LAYOUT_BOOT_INFO_BYTES UINT64_C(0x00006000)
#define LAYOUT_ZERO_PAGE_GPA   UINT64_C(0x00007000) /* Linux boot_params */
#define LAYOUT_BOOT_STACK_GPA  UINT64_C(0x00008ff0)
#define LAYOUT_BOOT_PAGE_TABLES_GPA                                                                          \
	UINT64_C(0x00009000) /* identity map of the first 4 GiB: PML4, PDPT, 4 PDs */
#define LAYOUT_CMDLINE_GPA	    UINT64_C(0x00020000)
#define LAYOUT_CMDLINE_BYTES	    UINT64_C(0x00010000) /* 64 KiB with the terminating 0 */
#define LAYOUT_LOW_RAM_END_GPA	    UINT64_C(0x0009fc00)
#define LAYOUT_VGA_HOLE_GPA	    UINT64_C(0x000a0000)
#define LAYOUT_ACPI_GPA		    UINT64_C(0x000e0000)
#define LAYOUT_ACPI_BYTES	    UINT64_C(0x0000f000)
#define LAYOUT_VMGENID_GPA	    UINT64_C(0x000ef000) /* 16 bytes; the rest of the page is free */
#define LAYOUT_SMBIOS_GPA	    UINT64_C(0x000f0000)
#define LAYOUT_SMBIOS_BYTES	    UINT64_C(0x00010000)
#define LAYOUT_KERNEL_GPA	    UINT64_C(0x00100000)
#define LAYOUT_PCI_HOLE_GPA	    UINT64_C(0xc0000000) /* RAM below 4 GiB ends here at the latest */
#define LAYOUT_ECAM_GPA		    UINT64_C(0xe0000000)
#define LAYOUT_ECAM_BYTES	    (256 * MIB)
#define LAYOUT_IOAPIC_GPA	    UINT64_C(0xfec00000)
#define LAYOUT_LAPIC_GPA	    UINT64_C(0xfee00000)
#define LAYOUT_KVM_IDENTITY_MAP_GPA UINT64_C(0xfffbc000)
#define LAYOUT_KVM_TSS_GPA	    UINT64_C(0xfffbd000)
#define LAYOUT_KVM_TSS_BYTES	    (12 * KIB)
#define LAYOUT_HIGH_RAM_GPA	    UINT64_C(0x100000000)

/* Where BARs go: 32-bit ones around ECAM, 64-bit ones above all RAM. */
#define LAYOUT_PCI32_LOW_GPA	LAYOUT_PCI_HOLE_GPA
#define LAYOUT_PCI32_LOW_BYTES	(LAYOUT_ECAM_GPA - LAYOUT_PCI32_LOW_GPA)
#define LAYOUT_PCI32_HIGH_GPA	(LAYOUT_ECAM_GPA + LAYOUT_ECAM_BYTES)
#define LAYOUT_PCI32_HIGH_BYTES (LAYOUT_IOAPIC_GPA - LAYOUT_PCI32_HIGH_GPA)
#define LAYOUT_PCI64_BYTES	(64 * GIB)

/* The first address above all RAM of a machine with so much of it. */
static inline uint64_t layout_ram_end_gpa(uint64_t ram_bytes)
{
	return ram_bytes <= LAYOUT_PCI_HOLE_GPA ? ram_bytes
						: LAYOUT_HIGH_RAM_GPA + (ram_bytes - LAYOUT_PCI_HOLE_GPA);
}

static inline uint64_t layout_pci64_gpa(uint64_t ram_end_gpa)
{
	uint64_t above = ram_end_gpa > LAYOUT_HIGH_RAM_GPA ? ram_end_gpa : LAYOUT_HIGH_RAM_GPA;
	return (above + GIB - 1) / GIB * GIB;
}

/* I/O ports. */
#define LAYOUT_PORT_I8042_DATA	  0x60
#define LAYOUT_PORT_I8042_STATUS  0x64
#define LAYOUT_PORT_CMOS	  0x70 /* index; data is the next port */
#define LAYOUT_PORT_POST	  0x80
#define LAYOUT_PORT_SYSTEM_A	  0x92 /* fast A20 and fast reset */
#define LAYOUT_PORT_DEBUG_CONSOLE 0xe9
#define LAYOUT_PORT_DEBUG_EXIT	  0xf4
#define LAYOUT_PORT_ACPI_PM1_EVT  0x600 /* status, enable: 2 bytes each */
#define LAYOUT_PORT_ACPI_PM1_CNT  0x604 /* 2 bytes */
#define LAYOUT_PORT_ACPI_PM_TMR	  0x608 /* 4 bytes */
#define LAYOUT_PORT_PCI_ADDRESS	  0xcf8 /* dword accesses only */
#define LAYOUT_PORT_RESET	  0xcf9
#define LAYOUT_PORT_PCI_DATA	  0xcfc /* 4 bytes */

struct layout_com {
	uint16_t port; /* 8 ports from here */
	uint8_t gsi;
};

/* COM1 to COM4 where the PC/AT and its successors have them. */
static const struct layout_com layout_com[4] = {{0x3f8, 4}, {0x2f8, 3}, {0x3e8, 4}, {0x2e8, 3}};

/* Interrupts (GSI = ISA IRQ; the PIT's IRQ 0 arrives at IOAPIC pin 2). */
#define LAYOUT_GSI_I8042     1
#define LAYOUT_GSI_PIT	     2
#define LAYOUT_GSI_VMGENID   5 /* an edge: the generation id has changed */
#define LAYOUT_GSI_RTC	     8
#define LAYOUT_GSI_SCI	     9 /* level-triggered, active high */
#define LAYOUT_GSI_PCI	     16 /* to 23: INTx of the slots, in turn; level-triggered, active low as PCI has it */
#define LAYOUT_GSI_PCI_COUNT 8
#define LAYOUT_GSI_COUNT     24 /* pins of the IOAPIC; from here on GSIs are messages */

static inline uint32_t layout_pci_gsi(uint32_t slot)
{
	return LAYOUT_GSI_PCI + slot % LAYOUT_GSI_PCI_COUNT; /* all functions use INTA */
}

/* What the FADT tells the guest to read and write. */
#define LAYOUT_CMOS_CENTURY  0x32 /* index of the century's byte */
#define LAYOUT_RESET_VALUE   0x06 /* to LAYOUT_PORT_RESET: full reset */
#define LAYOUT_SLEEP_TYPE_S5 5	  /* to PM1_CNT SLP_TYP: soft off */

#endif
