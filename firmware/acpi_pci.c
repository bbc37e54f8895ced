/*
 * PCI for ACPI: the root bridge with what it hands on, where its slots' interrupts go, and where ECAM is
 * (PCI Firmware Specification 3.3, chapter 4).
 */
#include "acpi.h"
#include "aml.h"
#include "base/layout.h"

enum { RESOURCES_BYTES = 256, SLOTS = 32, BUS_LAST = 255 };

/*
 * 4.1.2: one allocation, segment 0 with its 256 buses. The DSDT reserves the same memory as the board's
 * (4.1.3), without which Linux does not believe it.
 */
void acpi_write_mcfg_body(struct writer *w)
{
	write_zeros(w, 8);
	write_le64(w, LAYOUT_ECAM_GPA);
	write_le16(w, 0);
	write_u8(w, 0);
	write_u8(w, BUS_LAST);
	write_zeros(w, 4);
}

/* The configuration ports are the bridge's own; all other ports and two holes of memory it hands on. */
static void pci_write_crs(const struct machine_config *config, struct writer *w)
{
	uint64_t window64 = layout_pci64_gpa(layout_ram_end_gpa(config->memory.size_bytes));
	uint8_t bytes[RESOURCES_BYTES];
	struct writer resources = writer_on(bytes, sizeof(bytes));
	aml_window_bus(&resources, 0, BUS_LAST);
	aml_resource_io(&resources, LAYOUT_PORT_PCI_ADDRESS, 8);
	aml_window_io(&resources, 0, LAYOUT_PORT_PCI_ADDRESS - 1);
	aml_window_io(&resources, LAYOUT_PORT_PCI_ADDRESS + 8, UINT16_MAX);
	aml_window_memory32(&resources, LAYOUT_PCI32_LOW_GPA,
			    LAYOUT_PCI32_LOW_GPA + LAYOUT_PCI32_LOW_BYTES - 1);
	aml_window_memory32(&resources, LAYOUT_PCI32_HIGH_GPA,
			    LAYOUT_PCI32_HIGH_GPA + LAYOUT_PCI32_HIGH_BYTES - 1);
	aml_window_memory64(&resources, window64, window64 + LAYOUT_PCI64_BYTES - 1);
	aml_name(w, "_CRS");
	aml_resources(w, &resources);
}

/* ACPI 6.2.13: address, pin (0 is A), source (0: the next is a GSI), GSI. All functions of a slot, pin A. */
static void pci_write_prt(struct writer *w)
{
	aml_name(w, "_PRT");
	size_t table = aml_open_package(w, SLOTS);
	for (uint32_t slot = 0; slot < SLOTS; slot++) {
		size_t row = aml_open_package(w, 4);
		aml_integer(w, slot << 16 | 0xffff);
		aml_integer(w, 0);
		aml_integer(w, 0);
		aml_integer(w, layout_pci_gsi(slot));
		aml_close(w, row);
	}
	aml_close(w, table);
}

/* Opcodes of _OSC (ACPI 6.5, 20.2). */
enum {
	AML_METHOD = 0x14,
	AML_METHOD_SERIALIZED = 1 << 3,
	AML_LOCAL0 = 0x60,
	AML_ARG0 = 0x68,
	AML_ARG1 = 0x69,
	AML_ARG3 = 0x6b,
	AML_STORE = 0x70,
	AML_AND = 0x7b,
	AML_OR = 0x7d,
	AML_CREATE_DWORD_FIELD = 0x8a,
	AML_NOT = 0x92,
	AML_EQUAL = 0x93,
	AML_IF = 0xa0,
	AML_ELSE = 0xa1,
	AML_RETURN = 0xa4,

	OSC_UNKNOWN_UUID = 1 << 2, /* in the first dword of the answer */
	OSC_UNKNOWN_REVISION = 1 << 3,
	OSC_SOME_NOT_GIVEN = 1 << 4,
	OSC_HOT_PLUG = 1 << 0, /* in the third: what the operating system asks for */
	OSC_PME = 1 << 2,
	OSC_AER = 1 << 3,
	OSC_EXPRESS_CAPABILITY = 1 << 4,
	OSC_GIVEN = OSC_HOT_PLUG | OSC_PME | OSC_AER | OSC_EXPRESS_CAPABILITY,
};

static void osc_field(struct writer *w, uint8_t offset, const char *name)
{
	write_u8(w, AML_CREATE_DWORD_FIELD);
	write_u8(w, AML_ARG3);
	aml_integer(w, offset);
	write_bytes(w, name, 4);
}

static size_t osc_open_if(struct writer *w)
{
	write_u8(w, AML_IF);
	return aml_open_length(w);
}

static void osc_report(struct writer *w, uint8_t bit)
{
	write_u8(w, AML_OR);
	write_bytes(w, "CDW1", 4);
	aml_integer(w, bit);
	write_bytes(w, "CDW1", 4);
}

/* If (Arg0 == ToUUID ("33db4d5b-1ff7-401c-9657-7441c03dd766")) */
static size_t osc_open_if_pci(struct writer *w)
{
	static const uint8_t uuid[] = {0x5b, 0x4d, 0xdb, 0x33, 0xf7, 0x1f, 0x1c, 0x40,
				       0x96, 0x57, 0x74, 0x41, 0xc0, 0x3d, 0xd7, 0x66};
	size_t opened = osc_open_if(w);
	write_u8(w, AML_EQUAL);
	write_u8(w, AML_ARG0);
	aml_buffer(w, uuid, sizeof(uuid));
	return opened;
}

/* If (Arg1 != 1) { CDW1 |= unknown revision } */
static void osc_check_revision(struct writer *w)
{
	size_t opened = osc_open_if(w);
	write_u8(w, AML_NOT);
	write_u8(w, AML_EQUAL);
	write_u8(w, AML_ARG1);
	aml_integer(w, 1);
	osc_report(w, OSC_UNKNOWN_REVISION);
	aml_close(w, opened);
}

/* Local0 = CDW3 & given; If (CDW3 != Local0) { CDW1 |= some not given }; CDW3 = Local0 */
static void osc_give(struct writer *w)
{
	write_u8(w, AML_AND);
	write_bytes(w, "CDW3", 4);
	aml_integer(w, OSC_GIVEN);
	write_u8(w, AML_LOCAL0);
	size_t opened = osc_open_if(w);
	write_u8(w, AML_NOT);
	write_u8(w, AML_EQUAL);
	write_bytes(w, "CDW3", 4);
	write_u8(w, AML_LOCAL0);
	osc_report(w, OSC_SOME_NOT_GIVEN);
	aml_close(w, opened);
	write_u8(w, AML_STORE);
	write_u8(w, AML_LOCAL0);
	write_bytes(w, "CDW3", 4);
}

/* 4.5.1: the operating system may run hot-plug, PME, AER and the PCI Express capability by itself. */
static void pci_write_osc(struct writer *w)
{
	write_u8(w, AML_METHOD);
	size_t method = aml_open_length(w);
	write_bytes(w, "_OSC", 4);
	write_u8(w, 4 | AML_METHOD_SERIALIZED); /* arguments: UUID, revision, count, buffer */
	osc_field(w, 0, "CDW1");
	size_t branch = osc_open_if_pci(w);
	osc_field(w, 8, "CDW3");
	osc_check_revision(w);
	osc_give(w);
	aml_close(w, branch);
	write_u8(w, AML_ELSE);
	branch = aml_open_length(w);
	osc_report(w, OSC_UNKNOWN_UUID);
	aml_close(w, branch);
	write_u8(w, AML_RETURN);
	write_u8(w, AML_ARG3);
	aml_close(w, method);
}

void acpi_write_pci_root(const struct machine_config *config, struct writer *w)
{
	size_t device = aml_open_device(w, "PCI0");
	aml_name(w, "_HID");
	aml_eisa_id(w, "PNP0A08"); /* PCI Express */
	aml_name(w, "_CID");
	aml_eisa_id(w, "PNP0A03"); /* and PCI, for who does not know it */
	aml_name(w, "_UID");
	aml_integer(w, 0);
	aml_name(w, "_SEG");
	aml_integer(w, 0);
	aml_name(w, "_BBN");
	aml_integer(w, 0);
	pci_write_crs(config, w);
	pci_write_prt(w);
	pci_write_osc(w);
	aml_close(w, device);
}
