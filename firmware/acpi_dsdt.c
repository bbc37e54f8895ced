/* The namespace of our PC: what cannot be found by probing and is not in another table. */
#include "acpi.h"
#include "aml.h"
#include "base/cleanup.h"
#include "base/layout.h"

#include <assert.h>

enum { RESOURCES_BYTES = 64 };

static void dsdt_hid(struct writer *w, const char *id)
{
	aml_name(w, "_HID");
	aml_eisa_id(w, id);
}

static void dsdt_uid(struct writer *w, uint64_t uid)
{
	aml_name(w, "_UID");
	aml_integer(w, uid);
}

static void dsdt_crs(struct writer *w, struct writer *resources)
{
	aml_name(w, "_CRS");
	aml_resources(w, resources);
}

/* \_S5: the sleep type for PM1a, for PM1b (which we lack), and two reserved (7.4.2). There are no S1 to S4.
 */
static void dsdt_write_s5(struct writer *w)
{
	aml_name(w, "_S5_");
	size_t package = aml_open_package(w, 4);
	aml_integer(w, LAYOUT_SLEEP_TYPE_S5);
	aml_integer(w, LAYOUT_SLEEP_TYPE_S5);
	aml_integer(w, 0);
	aml_integer(w, 0);
	aml_close(w, package);
}

/* Processor devices (8.4); _UID ties each to its MADT entry. */
static void dsdt_write_cpus(const struct machine_config *config, struct writer *w)
{
	static const char hex[] = "0123456789ABCDEF";
	static_assert(CONFIG_CPUS_MAX <= 0x1000, "three digits name a CPU");
	for (uint32_t i = 0; i < config->cpus.count; i++) {
		const char name[] = {'C', hex[i >> 8 & 0xf], hex[i >> 4 & 0xf], hex[i & 0xf]};
		size_t device = aml_open_device(w, name);
		aml_name(w, "_HID");
		aml_string(w, "ACPI0007");
		dsdt_uid(w, i);
		aml_close(w, device);
	}
}

/* Ports and memory that belong to the board and to no device of the namespace: nobody else may be given them.
 */
static void dsdt_write_board(const struct machine_config *config, struct writer *w)
{
	uint8_t bytes[RESOURCES_BYTES];
	struct writer resources = writer_on(bytes, sizeof(bytes));
	aml_resource_io(&resources, LAYOUT_PORT_POST, 1);
	aml_resource_io(&resources, LAYOUT_PORT_SYSTEM_A, 1);
	aml_resource_io(&resources, LAYOUT_PORT_ACPI_PM1_EVT,
			LAYOUT_PORT_ACPI_PM_TMR + 4 - LAYOUT_PORT_ACPI_PM1_EVT);
	aml_resource_memory32(&resources, LAYOUT_ECAM_GPA, LAYOUT_ECAM_BYTES);
	if (config->debug.has_console)
		aml_resource_io(&resources, LAYOUT_PORT_DEBUG_CONSOLE, 1);
	if (config->debug.exit)
		aml_resource_io(&resources, LAYOUT_PORT_DEBUG_EXIT, 1);

	size_t device = aml_open_device(w, "MBRD");
	dsdt_hid(w, "PNP0C02");
	dsdt_uid(w, 0);
	dsdt_crs(w, &resources);
	aml_close(w, device);
}

static void dsdt_write_rtc(struct writer *w)
{
	uint8_t bytes[RESOURCES_BYTES];
	struct writer resources = writer_on(bytes, sizeof(bytes));
	aml_resource_io(&resources, LAYOUT_PORT_CMOS, 2);
	aml_resource_irq(&resources, LAYOUT_GSI_RTC);

	size_t device = aml_open_device(w, "RTC_");
	dsdt_hid(w, "PNP0B00");
	dsdt_crs(w, &resources);
	aml_close(w, device);
}

static void dsdt_write_keyboard(struct writer *w)
{
	uint8_t bytes[RESOURCES_BYTES];
	struct writer resources = writer_on(bytes, sizeof(bytes));
	aml_resource_io(&resources, LAYOUT_PORT_I8042_DATA, 1);
	aml_resource_io(&resources, LAYOUT_PORT_I8042_STATUS, 1);
	aml_resource_irq(&resources, LAYOUT_GSI_I8042);

	size_t device = aml_open_device(w, "KBD_");
	dsdt_hid(w, "PNP0303");
	dsdt_crs(w, &resources);
	aml_close(w, device);
}

static void dsdt_write_serial(const struct machine_config *config, struct writer *w)
{
	for (size_t i = 0; i < config->serial_count && i < ARRAY_LEN(layout_com); i++) {
		uint8_t bytes[RESOURCES_BYTES];
		struct writer resources = writer_on(bytes, sizeof(bytes));
		aml_resource_io(&resources, layout_com[i].port, 8);
		aml_resource_irq(&resources, layout_com[i].gsi);

		const char name[] = {'C', 'O', 'M', (char)('1' + i)};
		size_t device = aml_open_device(w, name);
		dsdt_hid(w, "PNP0501");
		dsdt_uid(w, i + 1);
		dsdt_crs(w, &resources);
		aml_close(w, device);
	}
}

/*
 * The generation id (devices/vmgenid.c): where it is, and an event device (5.6.9) whose interrupt means that
 * it has changed. Drivers know it by the compatible id, which is longer than ACPI allows, as everywhere.
 */
static void dsdt_write_generation_id(struct writer *w)
{
	uint8_t bytes[RESOURCES_BYTES];
	struct writer resources = writer_on(bytes, sizeof(bytes));
	aml_resource_interrupt(&resources, LAYOUT_GSI_VMGENID);

	size_t device = aml_open_device(w, "VGEN");
	aml_name(w, "_HID");
	aml_string(w, "AERI0001");
	aml_name(w, "_CID");
	aml_string(w, "VM_Gen_Counter");
	aml_name(w, "_DDN");
	aml_string(w, "VM_Gen_Counter");
	aml_name(w, "ADDR");
	size_t package = aml_open_package(w, 2);
	aml_integer(w, LAYOUT_VMGENID_GPA);
	aml_integer(w, 0); /* the upper half */
	aml_close(w, package);
	aml_close(w, device);

	device = aml_open_device(w, "GED_");
	aml_name(w, "_HID");
	aml_string(w, "ACPI0013");
	dsdt_uid(w, 0);
	dsdt_crs(w, &resources);
	size_t method = aml_open_method(w, "_EVT", 1);
	aml_notify(w, "_SB_", "VGEN", 0x80);
	aml_close(w, method);
	aml_close(w, device);
}

void acpi_write_dsdt_terms(const struct machine_config *config, struct writer *w)
{
	dsdt_write_s5(w);
	size_t scope = aml_open_scope(w, "_SB_");
	dsdt_write_board(config, w);
	acpi_write_pci_root(config, w);
	dsdt_write_rtc(w);
	dsdt_write_keyboard(w);
	dsdt_write_serial(config, w);
	dsdt_write_generation_id(w);
	dsdt_write_cpus(config, w);
	aml_close(w, scope);
}
