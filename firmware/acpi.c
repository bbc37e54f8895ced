#include "acpi.h"

#include "base/layout.h"
#include "cpu/boot.h"

#include <assert.h>
#include <errno.h>

#define PACKED __attribute__((packed))

#define OEM_ID	     "AERIE "	/* 6 characters */
#define OEM_TABLE_ID "AERIE PC" /* 8 */
#define CREATOR_ID   "AERI"	/* 4 */

enum { TABLE_REVISION_OEM = 1 };

struct acpi_rsdp { /* 5.2.5.3 */
	char signature[8];
	uint8_t checksum; /* over the first 20 bytes: all that ACPI 1.0 had */
	char oem_id[6];
	uint8_t revision;
	uint32_t rsdt;
	uint32_t length;
	uint64_t xsdt;
	uint8_t extended_checksum; /* over all */
	uint8_t reserved[3];
} PACKED;
static_assert(sizeof(struct acpi_rsdp) == 36, "RSDP");

struct acpi_header { /* 5.2.6 */
	char signature[4];
	uint32_t length;
	uint8_t revision;
	uint8_t checksum;
	char oem_id[6];
	char oem_table_id[8];
	uint32_t oem_revision;
	char creator_id[4];
	uint32_t creator_revision;
} PACKED;
static_assert(sizeof(struct acpi_header) == 36, "table header");

struct acpi_gas { /* 5.2.3.2, generic address structure */
	uint8_t space;
	uint8_t bit_width;
	uint8_t bit_offset;
	uint8_t access;
	uint64_t address;
} PACKED;
static_assert(sizeof(struct acpi_gas) == 12, "generic address");

enum { GAS_SYSTEM_IO = 1, GAS_ACCESS_BYTE = 1, GAS_ACCESS_WORD = 2, GAS_ACCESS_DWORD = 3 };

struct acpi_fadt { /* 5.2.9 */
	struct acpi_header header;
	uint32_t facs;
	uint32_t dsdt;
	uint8_t reserved0;
	uint8_t preferred_pm_profile;
	uint16_t sci_int;
	uint32_t smi_cmd;
	uint8_t acpi_enable, acpi_disable, s4bios_req, pstate_cnt;
	uint32_t pm1a_evt_blk, pm1b_evt_blk, pm1a_cnt_blk, pm1b_cnt_blk, pm2_cnt_blk, pm_tmr_blk;
	uint32_t gpe0_blk, gpe1_blk;
	uint8_t pm1_evt_len, pm1_cnt_len, pm2_cnt_len, pm_tmr_len, gpe0_blk_len, gpe1_blk_len, gpe1_base;
	uint8_t cst_cnt;
	uint16_t p_lvl2_lat, p_lvl3_lat;
	uint16_t flush_size, flush_stride;
	uint8_t duty_offset, duty_width;
	uint8_t day_alrm, mon_alrm, century;
	uint16_t iapc_boot_arch;
	uint8_t reserved1;
	uint32_t flags;
	struct acpi_gas reset_reg;
	uint8_t reset_value;
	uint16_t arm_boot_arch;
	uint8_t minor_revision;
	uint64_t x_facs, x_dsdt;
	struct acpi_gas x_pm1a_evt_blk, x_pm1b_evt_blk, x_pm1a_cnt_blk, x_pm1b_cnt_blk, x_pm2_cnt_blk,
		x_pm_tmr_blk;
	struct acpi_gas x_gpe0_blk, x_gpe1_blk;
	struct acpi_gas sleep_control_reg, sleep_status_reg;
	uint64_t hypervisor_vendor;
} PACKED;
static_assert(sizeof(struct acpi_fadt) == 276, "FADT");
static_assert(offsetof(struct acpi_fadt, iapc_boot_arch) == 109, "FADT: IAPC_BOOT_ARCH");
static_assert(offsetof(struct acpi_fadt, reset_reg) == 116, "FADT: RESET_REG");
static_assert(offsetof(struct acpi_fadt, x_pm1a_evt_blk) == 148, "FADT: X_PM1a_EVT_BLK");

enum {
	FADT_REVISION = 6,
	FADT_MINOR_REVISION = 5,
	FADT_WBINVD = 1 << 0,
	FADT_PROC_C1 = 1 << 2,
	FADT_SLP_BUTTON = 1 << 5, /* set: no fixed sleep button; PWR_BUTTON (4) clear: there is one */
	FADT_FIX_RTC = 1 << 6,	  /* set: the RTC's wake status is not in the fixed registers */
	FADT_TMR_VAL_EXT = 1 << 8,
	FADT_RESET_REG_SUP = 1 << 10,

	BOOT_ARCH_LEGACY_DEVICES = 1 << 0,
	BOOT_ARCH_8042 = 1 << 1,
	BOOT_ARCH_NO_VGA = 1 << 2,

	LATENCY_NO_C2 = 101,  /* P_LVL2_LAT: above 100 there is no C2 */
	LATENCY_NO_C3 = 1001, /* P_LVL3_LAT: above 1000 there is no C3 */
};

struct acpi_facs { /* 5.2.10; has no checksum, as the guest writes it */
	char signature[4];
	uint32_t length;
	uint32_t hardware_signature;
	uint32_t waking_vector;
	uint32_t global_lock;
	uint32_t flags;
	uint64_t x_waking_vector;
	uint8_t version;
	uint8_t reserved0[3];
	uint32_t ospm_flags;
	uint8_t reserved1[24];
} PACKED;
static_assert(sizeof(struct acpi_facs) == 64, "FACS");

enum { FACS_ALIGNMENT = 64, FACS_VERSION = 2 };

enum { /* MADT, 5.2.12 */
       MADT_REVISION = 5,
       MADT_PCAT_COMPAT = 1 << 0, /* there are 8259s too */
       MADT_LAPIC = 0,
       MADT_IOAPIC = 1,
       MADT_OVERRIDE = 2,
       MADT_LAPIC_NMI = 4,
       MADT_X2APIC = 9,
       MADT_X2APIC_NMI = 10,
       MADT_ENABLED = 1 << 0,
       MADT_BUS_ISA = 0,
       MADT_CONFORMS = 0,	      /* polarity and trigger as the bus has them: ISA, so high and edge */
       MADT_LEVEL_ACTIVE_HIGH = 0x0d, /* trigger 3 in bits 3:2, polarity 1 in bits 1:0 */
       MADT_IOAPIC_ID = 0,
       MADT_LINT1 = 1,
       LAPIC_ID_MAX = 254, /* 255 is the broadcast, so larger ids need x2APIC entries (5.2.12.12) */
};

/* `at` is an offset into the area; this is the address that the guest sees. */
static uint64_t acpi_gpa(size_t at)
{
	return LAYOUT_ACPI_GPA + at;
}

static uint8_t acpi_checksum(const uint8_t *bytes, size_t len)
{
	uint8_t sum = 0;
	for (size_t i = 0; i < len; i++)
		sum = (uint8_t)(sum + bytes[i]);
	return (uint8_t)-sum;
}

static void write_aligned(struct writer *w, size_t alignment)
{
	write_zeros(w, -w->used & (alignment - 1));
}

static struct acpi_header acpi_header(const char signature[4], uint8_t revision)
{
	struct acpi_header header = {.revision = revision,
				     .oem_revision = TABLE_REVISION_OEM,
				     .creator_revision = TABLE_REVISION_OEM};
	memcpy(header.signature, signature, sizeof(header.signature));
	memcpy(header.oem_id, OEM_ID, sizeof(header.oem_id));
	memcpy(header.oem_table_id, OEM_TABLE_ID, sizeof(header.oem_table_id));
	memcpy(header.creator_id, CREATOR_ID, sizeof(header.creator_id));
	return header;
}

static size_t acpi_open_table(struct writer *w, const char signature[4], uint8_t revision)
{
	write_aligned(w, 16);
	size_t opened = w->used;
	struct acpi_header header = acpi_header(signature, revision);
	write_bytes(w, &header, sizeof(header));
	return opened;
}

static void acpi_close_table(struct writer *w, size_t opened)
{
	if (w->failed)
		return;
	struct acpi_header *header = (struct acpi_header *)(w->data + opened);
	header->length = (uint32_t)(w->used - opened);
	header->checksum = 0;
	header->checksum = acpi_checksum(w->data + opened, w->used - opened);
}

static size_t acpi_write_facs(struct writer *w)
{
	write_aligned(w, FACS_ALIGNMENT);
	size_t at = w->used;
	struct acpi_facs facs = {
		.signature = {'F', 'A', 'C', 'S'}, .length = sizeof(facs), .version = FACS_VERSION};
	write_bytes(w, &facs, sizeof(facs));
	return at;
}

static size_t acpi_write_dsdt(const struct machine_config *config, struct writer *w)
{
	size_t opened = acpi_open_table(w, "DSDT", 2); /* revision 2: integers have 64 bits */
	acpi_write_dsdt_terms(config, w);
	acpi_close_table(w, opened);
	return opened;
}

static struct acpi_gas acpi_port(uint16_t port, uint8_t bytes, uint8_t access)
{
	return (struct acpi_gas){
		.space = GAS_SYSTEM_IO, .bit_width = (uint8_t)(bytes * 8), .access = access, .address = port};
}

/*
 * SMI_CMD 0: there is no SMI to switch modes with, ACPI is always on (5.2.9, SMI_CMD). The sleep type of S5
 * is in the DSDT. PM1b, PM2 and the GPE blocks do not exist.
 */
static size_t acpi_write_fadt(struct writer *w, size_t facs, size_t dsdt)
{
	struct acpi_fadt fadt = {
		.facs = (uint32_t)acpi_gpa(facs), /* and no X_FIRMWARE_CTRL: that is for one above 4 GiB */
		.dsdt = (uint32_t)acpi_gpa(dsdt),
		.x_dsdt = acpi_gpa(dsdt),
		.sci_int = LAYOUT_GSI_SCI,
		.pm1a_evt_blk = LAYOUT_PORT_ACPI_PM1_EVT,
		.pm1a_cnt_blk = LAYOUT_PORT_ACPI_PM1_CNT,
		.pm_tmr_blk = LAYOUT_PORT_ACPI_PM_TMR,
		.pm1_evt_len = 4,
		.pm1_cnt_len = 2,
		.pm_tmr_len = 4,
		.p_lvl2_lat = LATENCY_NO_C2,
		.p_lvl3_lat = LATENCY_NO_C3,
		.century = LAYOUT_CMOS_CENTURY,
		.iapc_boot_arch = BOOT_ARCH_LEGACY_DEVICES | BOOT_ARCH_8042 | BOOT_ARCH_NO_VGA,
		.flags = FADT_WBINVD | FADT_PROC_C1 | FADT_SLP_BUTTON | FADT_FIX_RTC | FADT_TMR_VAL_EXT |
			 FADT_RESET_REG_SUP,
		.reset_reg = acpi_port(LAYOUT_PORT_RESET, 1, GAS_ACCESS_BYTE),
		.reset_value = LAYOUT_RESET_VALUE,
		.minor_revision = FADT_MINOR_REVISION,
		.x_pm1a_evt_blk = acpi_port(LAYOUT_PORT_ACPI_PM1_EVT, 4, GAS_ACCESS_WORD),
		.x_pm1a_cnt_blk = acpi_port(LAYOUT_PORT_ACPI_PM1_CNT, 2, GAS_ACCESS_WORD),
		.x_pm_tmr_blk = acpi_port(LAYOUT_PORT_ACPI_PM_TMR, 4, GAS_ACCESS_DWORD),
	};
	size_t opened = acpi_open_table(w, "FACP", FADT_REVISION);
	write_bytes(w, (const uint8_t *)&fadt + sizeof(fadt.header), sizeof(fadt) - sizeof(fadt.header));
	acpi_close_table(w, opened);
	return opened;
}

static void madt_write_cpu(struct writer *w, uint32_t index, uint32_t apic_id)
{
	if (apic_id <= LAPIC_ID_MAX) {
		write_u8(w, MADT_LAPIC);
		write_u8(w, 8);
		write_u8(w, (uint8_t)index); /* = _UID in the DSDT; never above the APIC id */
		write_u8(w, (uint8_t)apic_id);
		write_le32(w, MADT_ENABLED);
		return;
	}
	write_u8(w, MADT_X2APIC);
	write_u8(w, 16);
	write_le16(w, 0);
	write_le32(w, apic_id);
	write_le32(w, MADT_ENABLED);
	write_le32(w, index);
}

static void madt_write_override(struct writer *w, uint8_t irq, uint32_t gsi, uint16_t flags)
{
	write_u8(w, MADT_OVERRIDE);
	write_u8(w, 10);
	write_u8(w, MADT_BUS_ISA);
	write_u8(w, irq);
	write_le32(w, gsi);
	write_le16(w, flags);
}

/* NMI arrives at LINT1 of every processor: one entry for those with LAPIC entries, one for the others. */
static void madt_write_nmi(struct writer *w, bool has_x2apic)
{
	write_u8(w, MADT_LAPIC_NMI);
	write_u8(w, 6);
	write_u8(w, 0xff); /* all */
	write_le16(w, MADT_CONFORMS);
	write_u8(w, MADT_LINT1);
	if (!has_x2apic)
		return;
	write_u8(w, MADT_X2APIC_NMI);
	write_u8(w, 12);
	write_le16(w, MADT_CONFORMS);
	write_le32(w, UINT32_MAX); /* all */
	write_u8(w, MADT_LINT1);
	write_zeros(w, 3);
}

static size_t acpi_write_madt(const struct machine_config *config, struct writer *w)
{
	size_t opened = acpi_open_table(w, "APIC", MADT_REVISION);
	write_le32(w, LAYOUT_LAPIC_GPA);
	write_le32(w, MADT_PCAT_COMPAT);
	bool has_x2apic = false;
	for (uint32_t i = 0; i < config->cpus.count; i++) {
		uint32_t apic_id = cpu_apic_id(&config->cpus, i);
		has_x2apic |= apic_id > LAPIC_ID_MAX;
		madt_write_cpu(w, i, apic_id);
	}
	write_u8(w, MADT_IOAPIC);
	write_u8(w, 12);
	write_u8(w, MADT_IOAPIC_ID);
	write_u8(w, 0);
	write_le32(w, LAYOUT_IOAPIC_GPA);
	write_le32(w, 0); /* its first GSI */
	madt_write_override(w, 0, LAYOUT_GSI_PIT, MADT_CONFORMS);
	madt_write_override(w, LAYOUT_GSI_SCI, LAYOUT_GSI_SCI, MADT_LEVEL_ACTIVE_HIGH);
	madt_write_nmi(w, has_x2apic);
	acpi_close_table(w, opened);
	return opened;
}

static size_t acpi_write_mcfg(struct writer *w)
{
	size_t opened = acpi_open_table(w, "MCFG", 1);
	acpi_write_mcfg_body(w);
	acpi_close_table(w, opened);
	return opened;
}

/* RSDT and XSDT differ in the width of their pointers; many small test programs read only the RSDT. */
static size_t acpi_write_root(struct writer *w, const char signature[4], size_t pointer_bytes,
			      const size_t *tables, size_t count)
{
	size_t opened = acpi_open_table(w, signature, 1);
	for (size_t i = 0; i < count; i++) {
		uint64_t gpa = acpi_gpa(tables[i]);
		write_bytes(w, &gpa, pointer_bytes);
	}
	acpi_close_table(w, opened);
	return opened;
}

static void acpi_write_rsdp(uint8_t *area, size_t rsdt, size_t xsdt)
{
	struct acpi_rsdp rsdp = {
		.revision = 2,
		.rsdt = (uint32_t)acpi_gpa(rsdt),
		.length = sizeof(rsdp),
		.xsdt = acpi_gpa(xsdt),
	};
	memcpy(rsdp.signature, "RSD PTR ", sizeof(rsdp.signature));
	memcpy(rsdp.oem_id, OEM_ID, sizeof(rsdp.oem_id));
	rsdp.checksum = acpi_checksum((const uint8_t *)&rsdp, offsetof(struct acpi_rsdp, length));
	rsdp.extended_checksum = acpi_checksum((const uint8_t *)&rsdp, sizeof(rsdp));
	memcpy(area, &rsdp, sizeof(rsdp));
}

int acpi_write_tables(const struct machine_config *config, uint8_t *area, struct err *err)
{
	memset(area, 0, LAYOUT_ACPI_BYTES);
	struct writer w = writer_on(area, LAYOUT_ACPI_BYTES);
	write_zeros(&w, sizeof(struct acpi_rsdp)); /* written last, when the others have their addresses */
	size_t facs = acpi_write_facs(&w);
	size_t dsdt = acpi_write_dsdt(config, &w);
	const size_t tables[] = {acpi_write_fadt(&w, facs, dsdt), acpi_write_madt(config, &w),
				 acpi_write_mcfg(&w)};
	size_t rsdt =
		acpi_write_root(&w, "RSDT", sizeof(uint32_t), tables, sizeof(tables) / sizeof(tables[0]));
	size_t xsdt =
		acpi_write_root(&w, "XSDT", sizeof(uint64_t), tables, sizeof(tables) / sizeof(tables[0]));
	if (w.failed)
		return err_set(err, -ENOSPC,
			       "cpus.count: the ACPI tables of %u CPUs do not fit into %u bytes",
			       config->cpus.count, (unsigned)LAYOUT_ACPI_BYTES);
	acpi_write_rsdp(area, rsdt, xsdt);
	return 0;
}
