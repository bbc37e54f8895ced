/* The ACPI tables, found and checked as a kernel does: from the RSDP on (ACPI 6.5, chapter 5). */
#include "../../firmware/acpi.h"
#include "../../firmware/aml.h"
#include "base/cleanup.h"
#include "base/layout.h"
#include "cpu/boot.h"
#include "harness.h"

#include <errno.h>
#include <string.h>

static uint8_t area[LAYOUT_ACPI_BYTES];

static struct machine_config config_of(uint32_t sockets, uint32_t cores, uint32_t threads)
{
	return (struct machine_config){
		.name = "acpi",
		.cpus = {.count = sockets * cores * threads,
			 .sockets = sockets,
			 .cores = cores,
			 .threads = threads},
		.serial_count = 2,
	};
}

static uint8_t sum(const uint8_t *bytes, size_t len)
{
	uint8_t total = 0;
	for (size_t i = 0; i < len; i++)
		total = (uint8_t)(total + bytes[i]);
	return total;
}

/* A pointer from the tables, with `len` bytes inside the area. */
static const uint8_t *at_gpa(uint64_t gpa, size_t len)
{
	ck_assert_uint_ge(gpa, LAYOUT_ACPI_GPA);
	ck_assert_uint_le(gpa + len, LAYOUT_ACPI_GPA + LAYOUT_ACPI_BYTES);
	return area + (gpa - LAYOUT_ACPI_GPA);
}

static const uint8_t *table_at(uint64_t gpa, const char *signature)
{
	const uint8_t *table = at_gpa(gpa, 36);
	ck_assert_int_eq(memcmp(table, signature, 4), 0);
	uint32_t length = load_le32(table + 4);
	ck_assert_uint_ge(length, 36);
	(void)at_gpa(gpa, length);
	ck_assert_uint_eq(sum(table, length), 0);
	ck_assert_int_eq(memcmp(table + 10, "AERIE ", 6), 0);
	return table;
}

/* The table of this signature by the XSDT, which the RSDT must repeat. */
static const uint8_t *find_table(const char *signature)
{
	const uint8_t *xsdt = table_at(load_le64(area + 24), "XSDT");
	const uint8_t *rsdt = table_at(load_le32(area + 16), "RSDT");
	size_t count = (load_le32(xsdt + 4) - 36) / 8;
	ck_assert_uint_eq((load_le32(rsdt + 4) - 36) / 4, count);
	for (size_t i = 0; i < count; i++) {
		uint64_t gpa = load_le64(xsdt + 36 + 8 * i);
		ck_assert_uint_eq(load_le32(rsdt + 36 + 4 * i), gpa);
		if (memcmp(at_gpa(gpa, 4), signature, 4) == 0)
			return table_at(gpa, signature);
	}
	ck_abort_msg("no %s", signature);
	return NULL;
}

static void write_tables(const struct machine_config *config)
{
	struct err err = ERR_INIT;
	memset(area, 0xa5, sizeof(area)); /* what the guest left behind */
	ck_assert_int_eq(acpi_write_tables(config, area, &err), 0);
}

START_TEST(rsdp_is_revision_2_with_both_checksums)
{
	struct machine_config config = config_of(1, 1, 1);
	write_tables(&config);
	ck_assert_int_eq(memcmp(area, "RSD PTR ", 8), 0);
	ck_assert_uint_eq(area[15], 2);
	ck_assert_uint_eq(load_le32(area + 20), 36);
	ck_assert_uint_eq(sum(area, 20), 0);
	ck_assert_uint_eq(sum(area, 36), 0);
}
END_TEST

START_TEST(fadt_describes_the_pm_block)
{
	struct machine_config config = config_of(1, 1, 1);
	write_tables(&config);
	const uint8_t *fadt = find_table("FACP");
	ck_assert_uint_eq(load_le32(fadt + 4), 276);
	ck_assert_uint_eq(fadt[8], 6);
	ck_assert_uint_eq(load_le16(fadt + 46), 9);
	ck_assert_uint_eq(load_le32(fadt + 48), 0); /* SMI_CMD: ACPI is always on */
	ck_assert_uint_eq(load_le32(fadt + 56), 0x600);
	ck_assert_uint_eq(load_le32(fadt + 64), 0x604);
	ck_assert_uint_eq(load_le32(fadt + 76), 0x608);
	static const uint8_t lengths[] = {4, 2, 0, 4, 0, 0};
	ck_assert_mem_eq(fadt + 88, lengths, sizeof(lengths));
	ck_assert_uint_eq(fadt[108], 0x32);
	ck_assert_uint_eq(load_le16(fadt + 109), 0x7); /* legacy devices, 8042, no VGA */
	/* TMR_VAL_EXT, RESET_REG_SUP, no sleep button; PWR_BUTTON (bit 4) clear: the fixed one is there. */
	ck_assert_uint_eq(load_le32(fadt + 112), 0x565);

	static const uint8_t reset[] = {1, 8, 0, 1, 0xf9, 0x0c, 0, 0, 0, 0, 0, 0, 6};
	static const uint8_t x_evt[] = {1, 32, 0, 2, 0x00, 0x06, 0, 0, 0, 0, 0, 0};
	static const uint8_t x_cnt[] = {1, 16, 0, 2, 0x04, 0x06, 0, 0, 0, 0, 0, 0};
	static const uint8_t x_tmr[] = {1, 32, 0, 3, 0x08, 0x06, 0, 0, 0, 0, 0, 0};
	ck_assert_mem_eq(fadt + 116, reset, sizeof(reset));
	ck_assert_mem_eq(fadt + 148, x_evt, sizeof(x_evt));
	ck_assert_mem_eq(fadt + 172, x_cnt, sizeof(x_cnt));
	ck_assert_mem_eq(fadt + 208, x_tmr, sizeof(x_tmr));
}
END_TEST

START_TEST(fadt_points_to_facs_and_dsdt)
{
	struct machine_config config = config_of(1, 1, 1);
	write_tables(&config);
	const uint8_t *fadt = find_table("FACP");
	uint32_t facs_gpa = load_le32(fadt + 36);
	ck_assert_uint_eq(facs_gpa % 64, 0); /* 5.2.10 */
	const uint8_t *facs = at_gpa(facs_gpa, 64);
	ck_assert_int_eq(memcmp(facs, "FACS", 4), 0);
	ck_assert_uint_eq(load_le32(facs + 4), 64);
	for (size_t i = 8; i < 64; i++)
		ck_assert_uint_eq(facs[i], i == 32 ? 2 : 0);
	(void)table_at(load_le32(fadt + 40), "DSDT");
	ck_assert_uint_eq(load_le64(fadt + 140), load_le32(fadt + 40));
}
END_TEST

/* Every CPU once, in order, enabled; then what belongs to all. */
static void check_madt(const struct machine_config *config)
{
	write_tables(config);
	const uint8_t *madt = find_table("APIC");
	ck_assert_uint_eq(load_le32(madt + 36), 0xfee00000);
	ck_assert_uint_eq(load_le32(madt + 40), 1);
	const uint8_t *at = madt + 44;
	bool has_x2apic = false;
	for (uint32_t i = 0; i < config->cpus.count; i++) {
		uint32_t id = cpu_apic_id(&config->cpus, i);
		if (id < 255) {
			const uint8_t lapic[] = {0, 8, (uint8_t)i, (uint8_t)id, 1, 0, 0, 0};
			ck_assert_mem_eq(at, lapic, sizeof(lapic));
		} else {
			uint8_t x2apic[16] = {9, 16, [8] = 1};
			store_le32(x2apic + 4, id);
			store_le32(x2apic + 12, i);
			ck_assert_mem_eq(at, x2apic, sizeof(x2apic));
			has_x2apic = true;
		}
		at += at[1];
	}
	static const uint8_t rest[] = {
		1, 12, 0,    0, 0, 0, 0xc0, 0xfe, 0,	0, 0, 0, /* IOAPIC */
		2, 10, 0,    0, 2, 0, 0,    0,	  0,	0,	 /* IRQ 0 is GSI 2 */
		2, 10, 0,    9, 9, 0, 0,    0,	  0x0d, 0,	 /* IRQ 9: level, active high */
		4, 6,  0xff, 0, 0, 1,				 /* NMI at LINT1 of all */
	};
	static const uint8_t x2apic_nmi[] = {10, 12, 0, 0, 0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0};
	ck_assert_mem_eq(at, rest, sizeof(rest));
	at += sizeof(rest);
	if (has_x2apic) {
		ck_assert_mem_eq(at, x2apic_nmi, sizeof(x2apic_nmi));
		at += sizeof(x2apic_nmi);
	}
	ck_assert_uint_eq((size_t)(at - madt), load_le32(madt + 4));
}

START_TEST(madt_has_every_cpu)
{
	static const uint32_t topologies[][3] = {
		{1, 1, 1},   {1, 4, 1},	 {2, 3, 2},    {1, 255, 1},  {1, 256, 1},
		{1, 300, 1}, {3, 50, 2}, {1, 1024, 1}, {1024, 1, 1},
	};
	for (size_t i = 0; i < ARRAY_LEN(topologies); i++) {
		struct machine_config config =
			config_of(topologies[i][0], topologies[i][1], topologies[i][2]);
		check_madt(&config);
	}
}
END_TEST

START_TEST(most_cpus_fit)
{
	struct machine_config config = config_of(1, CONFIG_CPUS_MAX, 1);
	write_tables(&config);
	ck_assert_uint_eq(sum(area, 36), 0);
}
END_TEST

START_TEST(too_many_cpus_are_an_error)
{
	struct machine_config config = config_of(1, 2 * CONFIG_CPUS_MAX, 1);
	struct err err = ERR_INIT;
	ck_assert_int_eq(acpi_write_tables(&config, area, &err), -ENOSPC);
	ck_assert_ptr_nonnull(strstr(err.text, "cpus.count"));
}
END_TEST

START_TEST(dsdt_begins_with_s5)
{
	static const uint8_t s5[] = {0x08, '_',	 'S', '5',  '_', 0x12, 0x08,
				     0x04, 0x0a, 5,   0x0a, 5,	 0x00, 0x00};
	struct machine_config config = config_of(1, 1, 1);
	uint8_t bytes[4096];
	struct writer w = writer_on(bytes, sizeof(bytes));
	acpi_write_dsdt_terms(&config, &w);
	ck_assert(!w.failed);
	ck_assert_mem_eq(bytes, s5, sizeof(s5));
}
END_TEST

static bool dsdt_holds(const struct machine_config *config, const void *part, size_t len)
{
	uint8_t bytes[4096];
	struct writer w = writer_on(bytes, sizeof(bytes));
	acpi_write_dsdt_terms(config, &w);
	ck_assert(!w.failed);
	return memmem(bytes, w.used, part, len) != NULL;
}

START_TEST(dsdt_has_the_ports_that_the_machine_has)
{
	static const uint8_t com2[] = {0x47, 1, 0xf8, 0x02, 0xf8, 0x02, 1, 8, 0x22, 0x08, 0x00, 0x79, 0};
	static const uint8_t exit_port[] = {0x47, 1, 0xf4, 0, 0xf4, 0, 1, 1};
	struct machine_config config = config_of(1, 1, 1);
	ck_assert(dsdt_holds(&config, "COM1", 4));
	ck_assert(dsdt_holds(&config, com2, sizeof(com2)));
	ck_assert(!dsdt_holds(&config, "COM3", 4));
	ck_assert(!dsdt_holds(&config, exit_port, sizeof(exit_port)));
	config.debug.exit = true;
	ck_assert(dsdt_holds(&config, exit_port, sizeof(exit_port)));
}
END_TEST

START_TEST(mcfg_has_all_buses)
{
	static const uint8_t body[] = {
		0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xe0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0, 0, 0, 0,
	};
	struct machine_config config = config_of(1, 1, 1);
	write_tables(&config);
	const uint8_t *mcfg = find_table("MCFG");
	ck_assert_uint_eq(load_le32(mcfg + 4), 36 + sizeof(body));
	ck_assert_mem_eq(mcfg + 36, body, sizeof(body));
	/* A board that does not reserve it is not believed. */
	static const uint8_t reserved[] = {0x86, 9, 0, 1, 0, 0, 0, 0xe0, 0, 0, 0, 0x10};
	ck_assert(dsdt_holds(&config, reserved, sizeof(reserved)));
}
END_TEST

/* One window for 64-bit BARs, at the first GiB above RAM. */
static void check_window64(uint64_t ram_bytes, uint64_t want_gpa)
{
	uint8_t window[46] = {0x8a, 43, 0, 0, 0x0c, 1};
	store_le64(window + 14, want_gpa);
	store_le64(window + 22, want_gpa + 64 * GIB - 1);
	store_le64(window + 38, 64 * GIB);
	struct machine_config config = config_of(1, 1, 1);
	config.memory.size_bytes = ram_bytes;
	ck_assert(dsdt_holds(&config, window, sizeof(window)));
}

START_TEST(dsdt_has_pci_windows)
{
	static const uint8_t low[] = {0x87, 23,	  0,	0,    0x0c, 1, 0, 0, 0, 0, 0, 0, 0,
				      0xc0, 0xff, 0xff, 0xff, 0xdf, 0, 0, 0, 0, 0, 0, 0, 0x20};
	static const uint8_t high[] = {0x87, 23,   0,	 0,    0x0c, 1, 0, 0, 0, 0, 0, 0,    0,
				       0xf0, 0xff, 0xff, 0xbf, 0xfe, 0, 0, 0, 0, 0, 0, 0xc0, 0x0e};
	static const uint8_t ports[] = {0x47, 1, 0xf8, 0x0c, 0xf8, 0x0c, 1, 8};
	struct machine_config config = config_of(1, 1, 1);
	ck_assert(dsdt_holds(&config, low, sizeof(low)));
	ck_assert(dsdt_holds(&config, high, sizeof(high)));
	ck_assert(dsdt_holds(&config, ports, sizeof(ports)));
	check_window64(1 * GIB, 4 * GIB);
	check_window64(3 * GIB, 4 * GIB);
	check_window64(5 * GIB, 6 * GIB);
	check_window64(5 * GIB + 4096, 7 * GIB);
}
END_TEST

START_TEST(dsdt_routes_every_slot)
{
	struct machine_config config = config_of(1, 1, 1);
	for (uint32_t slot = 0; slot < 32; slot++) {
		/* Package (4) { slot << 16 | 0xffff, 0, 0, GSI }; the first fits a word */
		const uint8_t first[] = {0x12, 0x09, 4, 0x0b, 0xff, 0xff, 0, 0, 0x0a, 16};
		const uint8_t other[] = {0x12,		0x0b, 4, 0x0c, 0xff, 0xff,
					 (uint8_t)slot, 0,    0, 0,    0x0a, (uint8_t)(16 + slot % 8)};
		ck_assert(dsdt_holds(&config, slot ? other : first, slot ? sizeof(other) : sizeof(first)));
	}
}
END_TEST

/* 20.2.4: a PkgLength counts itself, and grows at 64, 4096 and 1 MiB. */
START_TEST(aml_package_lengths)
{
	static uint8_t bytes[1100000];
	static const struct {
		size_t body;
		size_t prefix_bytes;
		uint8_t prefix[4];
	} cases[] = {
		{0, 1, {0x06}},
		{57, 1, {0x3f}},
		{58, 2, {0x41, 0x04}},
		{4095 - 7, 2, {0x4f, 0xff}},
		{4095 - 6, 3, {0x81, 0x00, 0x01}},
		{(1 << 20) - 9, 3, {0x8f, 0xff, 0xff}},
		{(1 << 20) - 8, 4, {0xc1, 0x00, 0x00, 0x01}},
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct writer w = writer_on(bytes, sizeof(bytes));
		size_t scope = aml_open_scope(&w, "_SB_");
		for (size_t j = 0; j < cases[i].body; j++)
			write_u8(&w, (uint8_t)j);
		aml_close(&w, scope);
		ck_assert(!w.failed);
		ck_assert_uint_eq(w.used, 1 + cases[i].prefix_bytes + 5 + cases[i].body);
		ck_assert_mem_eq(bytes + 1, cases[i].prefix, cases[i].prefix_bytes);
		ck_assert_mem_eq(bytes + 1 + cases[i].prefix_bytes, "\\_SB_", 5);
		ck_assert(cases[i].body == 0 || bytes[w.used - 1] == (uint8_t)(cases[i].body - 1));
	}
}
END_TEST

START_TEST(aml_integers_are_as_short_as_they_go)
{
	static const struct {
		uint64_t value;
		size_t len;
		uint8_t bytes[9];
	} cases[] = {
		{0, 1, {0}},
		{1, 1, {1}},
		{2, 2, {0x0a, 2}},
		{0xff, 2, {0x0a, 0xff}},
		{0x100, 3, {0x0b, 0, 1}},
		{0x10000, 5, {0x0c, 0, 0, 1, 0}},
		{0x100000000, 9, {0x0e, 0, 0, 0, 0, 1, 0, 0, 0}},
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		uint8_t bytes[16];
		struct writer w = writer_on(bytes, sizeof(bytes));
		aml_integer(&w, cases[i].value);
		ck_assert_uint_eq(w.used, cases[i].len);
		ck_assert_mem_eq(bytes, cases[i].bytes, cases[i].len);
	}
}
END_TEST

START_TEST(aml_eisa_ids_are_compressed)
{
	static const uint8_t pnp0501[] = {0x0c, 0x41, 0xd0, 0x05, 0x01};
	static const uint8_t pnp0c02[] = {0x0c, 0x41, 0xd0, 0x0c, 0x02};
	uint8_t bytes[16];
	struct writer w = writer_on(bytes, sizeof(bytes));
	aml_eisa_id(&w, "PNP0501");
	aml_eisa_id(&w, "PNP0C02");
	ck_assert_mem_eq(bytes, pnp0501, 5);
	ck_assert_mem_eq(bytes + 5, pnp0c02, 5);
}
END_TEST

START_TEST(aml_that_does_not_fit_fails_the_writer)
{
	uint8_t bytes[128];
	for (size_t size = 0; size < 100; size++) {
		struct writer w = writer_on(bytes, size);
		size_t scope = aml_open_scope(&w, "_SB_");
		write_zeros(&w, 93); /* all but the second byte of the PkgLength, when size is 99 */
		aml_close(&w, scope);
		ck_assert(w.failed);
	}
}
END_TEST

TEST_MAIN("acpi", rsdp_is_revision_2_with_both_checksums, fadt_describes_the_pm_block,
	  fadt_points_to_facs_and_dsdt, madt_has_every_cpu, most_cpus_fit, too_many_cpus_are_an_error,
	  dsdt_begins_with_s5, dsdt_has_the_ports_that_the_machine_has, mcfg_has_all_buses,
	  dsdt_has_pci_windows, dsdt_routes_every_slot, aml_package_lengths,
	  aml_integers_are_as_short_as_they_go, aml_eisa_ids_are_compressed,
	  aml_that_does_not_fit_fails_the_writer)
