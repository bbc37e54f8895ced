/* Configuration space: both ways to it, header, capabilities, slots. */
#include "harness.h"
#include "pci_bench.h"

#include <errno.h>
#include <stdio.h>

enum { HOST = 0, FUNCTION = 1 }; /* slots */

START_TEST(both_mechanisms_see_the_same)
{
	struct bench bench;
	bench_init(&bench);
	for (uint32_t slot = 0; slot < 3; slot++)
		for (uint32_t offset = 0; offset < 256; offset++)
			for (unsigned size = 1; size <= 4 - offset % 4; size *= 2)
				ck_assert_uint_eq(port_get(&bench, slot, offset, size),
						  conf_get(&bench, slot, offset, size));
	port_set(&bench, FUNCTION, 0x3c, 1, 0x5a);
	ck_assert_uint_eq(conf_get(&bench, FUNCTION, 0x3c, 1), 0x5a);
	conf_set(&bench, FUNCTION, 0x3c, 1, 0xa5);
	ck_assert_uint_eq(port_get(&bench, FUNCTION, 0x3c, 4), 0x000001a5);
	bench_finish(&bench);
}
END_TEST

START_TEST(configuration_address_is_a_dword)
{
	struct bench bench;
	bench_init(&bench);
	ck_assert_uint_eq(bench_get(&bench, BUS_PIO, 0xcf8, 4), 0);
	bench_set(&bench, BUS_PIO, 0xcf8, 4, 0xffffffff);
	ck_assert_uint_eq(bench_get(&bench, BUS_PIO, 0xcf8, 4), 0x80fffffc);
	bench_set(&bench, BUS_PIO, 0xcf8, 4, 0x80000000);
	/* Other sizes are not for the bridge: 0xcf9 is the reset register. */
	for (uint64_t port = 0xcf8; port < 0xcfc; port++) {
		bench_set(&bench, BUS_PIO, port, 1, 0x55);
		ck_assert_uint_eq(bench_get(&bench, BUS_PIO, port, 1), 0xff);
	}
	bench_set(&bench, BUS_PIO, 0xcf8, 2, 0x5555);
	ck_assert_uint_eq(bench_get(&bench, BUS_PIO, 0xcf8, 4), 0x80000000);
	/* Without the enable bit nothing answers. */
	bench_set(&bench, BUS_PIO, 0xcf8, 4, 0);
	ck_assert_uint_eq(bench_get(&bench, BUS_PIO, 0xcfc, 4), 0xffffffff);
	bench_finish(&bench);
}
END_TEST

START_TEST(who_is_not_there_reads_ones)
{
	struct bench bench;
	bench_init(&bench);
	static const uint32_t addresses[] = {
		0x80000000 | 2 << 11,		      /* no slot 2 */
		0x80000000 | FUNCTION << 11 | 1 << 8, /* function 1 */
		0x80000000 | 1 << 16,		      /* bus 1 */
		0x80000000 | 0xff << 16 | FUNCTION << 11,
	};
	for (size_t i = 0; i < ARRAY_LEN(addresses); i++) {
		bench_set(&bench, BUS_PIO, 0xcf8, 4, addresses[i]);
		ck_assert_uint_eq(bench_get(&bench, BUS_PIO, 0xcfc, 4), 0xffffffff);
		ck_assert_uint_eq(bench_get(&bench, BUS_PIO, 0xcfe, 2), 0xffff);
		bench_set(&bench, BUS_PIO, 0xcfc, 4, 0);
		uint64_t ecam = LAYOUT_ECAM_GPA + ((uint64_t)(addresses[i] & 0xffff00) << 4);
		ck_assert_uint_eq(bench_get(&bench, BUS_MMIO, ecam, 4), 0xffffffff);
		bench_set(&bench, BUS_MMIO, ecam, 4, 0);
	}
	ck_assert_uint_eq(bench_get(&bench, BUS_MMIO, LAYOUT_ECAM_GPA + LAYOUT_ECAM_BYTES - 4, 4),
			  0xffffffff);
	bench_finish(&bench);
}
END_TEST

START_TEST(ecam_beyond_256_bytes_is_zero)
{
	struct bench bench;
	bench_init(&bench);
	for (uint32_t offset = 0x100; offset < 0x1000; offset += 4) {
		conf_set(&bench, FUNCTION, offset, 4, 0xffffffff);
		ck_assert_uint_eq(conf_get(&bench, FUNCTION, offset, 4), 0);
	}
	/* Across a dword: nobody does that, and it is not answered. */
	ck_assert_uint_eq(conf_get(&bench, FUNCTION, 0x03, 2), 0xffff);
	ck_assert_uint_eq(conf_get(&bench, FUNCTION, 0xffe, 4), 0xffffffff);
	conf_set(&bench, FUNCTION, 0x3b, 4, 0);
	bench_finish(&bench);
}
END_TEST

START_TEST(host_bridge_is_one)
{
	struct bench bench;
	bench_init(&bench);
	ck_assert_uint_eq(conf_get(&bench, HOST, 0x00, 4), 0x00081b36);
	ck_assert_uint_eq(conf_get(&bench, HOST, 0x08, 4), 0x06000000);
	ck_assert_uint_eq(conf_get(&bench, HOST, 0x0e, 1), 0);
	uint8_t before[256], after[256];
	for (uint32_t i = 0; i < 256; i++)
		before[i] = (uint8_t)conf_get(&bench, HOST, i, 1);
	for (uint32_t i = 0; i < 256; i++)
		conf_set(&bench, HOST, i, 1, 0xff);
	for (uint32_t i = 0; i < 256; i++)
		after[i] = (uint8_t)conf_get(&bench, HOST, i, 1);
	ck_assert_mem_eq(before, after, 256);
	bench_finish(&bench);
}
END_TEST

START_TEST(header_says_what_it_is)
{
	struct bench bench;
	bench_init(&bench);
	ck_assert_uint_eq(conf_get(&bench, FUNCTION, 0x00, 4), 0x10421af4);
	ck_assert_uint_eq(conf_get(&bench, FUNCTION, 0x04, 4), 0x00100000); /* all off; capabilities */
	ck_assert_uint_eq(conf_get(&bench, FUNCTION, 0x08, 4), 0x01020301);
	ck_assert_uint_eq(conf_get(&bench, FUNCTION, 0x0c, 4), 0);
	ck_assert_uint_eq(conf_get(&bench, FUNCTION, 0x2c, 4), 0x00401af4);
	ck_assert_uint_eq(conf_get(&bench, FUNCTION, 0x30, 4), 0); /* no ROM */
	ck_assert_uint_eq(conf_get(&bench, FUNCTION, 0x3c, 4), 0x00000111);
	bench_finish(&bench);
}
END_TEST

/* Every bit: what sticks is what a function of ours lets be written. */
START_TEST(only_registers_can_be_written)
{
	struct bench bench;
	bench_init(&bench);
	static const uint32_t want[64] = {
		[0x04 / 4] = 0x00000546, [0x0c / 4] = 0x000000ff, [0x10 / 4] = 0xfffff000,
		[0x18 / 4] = 0xfff00000, [0x1c / 4] = 0xffffffff, [0x20 / 4] = 0xfffff000,
		[0x3c / 4] = 0x000000ff, [0x48 / 4] = 0x0000781f, [0x7c / 4] = 0xc0000000,
		[0x8c / 4] = 0x00000003,
	};
	for (uint32_t offset = 0; offset < 256; offset += 4) {
		uint32_t before = conf_get(&bench, FUNCTION, offset, 4);
		conf_set(&bench, FUNCTION, offset, 4, ~before);
		ck_assert_msg((conf_get(&bench, FUNCTION, offset, 4) ^ before) == want[offset / 4],
			      "offset %#x: %#x", offset, conf_get(&bench, FUNCTION, offset, 4) ^ before);
		conf_set(&bench, FUNCTION, offset, 4, before);
		/* Bytes alone do the same. */
		for (uint32_t i = 0; i < 4; i++)
			conf_set(&bench, FUNCTION, offset + i, 1, (~before >> 8 * i) & 0xff);
		ck_assert_uint_eq(conf_get(&bench, FUNCTION, offset, 4) ^ before, want[offset / 4]);
		conf_set(&bench, FUNCTION, offset, 4, before);
	}
	bench_finish(&bench);
}
END_TEST

START_TEST(function_is_an_integrated_endpoint)
{
	struct bench bench;
	bench_init(&bench);
	uint32_t at = conf_capability(&bench, FUNCTION, 0x10);
	ck_assert_uint_eq(at, 0x40);
	ck_assert_uint_eq(conf_get(&bench, FUNCTION, at + 2, 2), 0x0092);
	ck_assert_uint_eq(conf_get(&bench, FUNCTION, at + 4, 4), 0x00008000);
	ck_assert_uint_eq(conf_get(&bench, FUNCTION, at + 8, 4), 0x00002810);
	for (uint32_t i = 0x0c; i < 0x3c; i += 4) /* no link, no slot */
		ck_assert_uint_eq(conf_get(&bench, FUNCTION, at + i, 4), 0);
	bench_finish(&bench);
}
END_TEST

START_TEST(capabilities_are_a_list)
{
	struct bench bench;
	bench_init(&bench);
	static const uint8_t body[] = {0x11, 0x22, 0x33}, mask[] = {0, 0xff, 0x0f};
	int a = pci_capability_add(bench.function, 0x09, body, sizeof(body), mask);
	int b = pci_capability_add(bench.function, 0x05, body, 1, NULL);
	ck_assert_int_eq(a, 0x90);
	ck_assert_int_eq(b, 0x98);
	ck_assert_uint_eq(conf_capability(&bench, FUNCTION, 0x09), 0x90);
	ck_assert_uint_eq(conf_capability(&bench, FUNCTION, 0x05), 0x98);
	ck_assert_uint_eq(conf_get(&bench, FUNCTION, 0x99, 1), 0);
	conf_set(&bench, FUNCTION, 0x90, 2, 0xffff);
	conf_set(&bench, FUNCTION, 0x92, 1, 0xff);
	conf_set(&bench, FUNCTION, 0x98, 4, 0xffffffff);
	ck_assert_uint_eq(conf_get(&bench, FUNCTION, 0x90, 4), 0x22119809);
	ck_assert_uint_eq(conf_get(&bench, FUNCTION, 0x98, 4), 0x00110005);
	ck_assert_uint_eq(bench.written, 0); /* nothing of it can be written */
	conf_set(&bench, FUNCTION, 0x92, 2, 0x4455);
	ck_assert_uint_eq(bench.written, 1);
	ck_assert_uint_eq(conf_get(&bench, FUNCTION, 0x92, 2), 0x4411);
	uint8_t set = 0x77, got = 0;
	pci_capability_set(bench.function, 0x92, &set, 1);
	pci_capability_get(bench.function, 0x92, &got, 1);
	ck_assert_uint_eq(got, 0x77);
	ck_assert_uint_eq(conf_get(&bench, FUNCTION, 0x92, 1), 0x77);
	pci_function_reset(bench.function);
	ck_assert_uint_eq(conf_get(&bench, FUNCTION, 0x90, 4), 0x22119809);
	static const uint8_t large[200];
	ck_assert_int_eq(pci_capability_add(bench.function, 0x09, large, 0x63, NULL), -ENOSPC);
	ck_assert_int_eq(pci_capability_add(bench.function, 0x09, large, 0x62, NULL), 0x9c);
	ck_assert_int_eq(pci_capability_add(bench.function, 0x09, large, 0, NULL), -ENOSPC);
	bench_finish(&bench);
}
END_TEST

START_TEST(owner_hears_of_its_capabilities)
{
	struct bench bench;
	bench_init(&bench);
	static const uint8_t body[18], mask[18] = {[10] = 0xff, [11] = 0xff};
	uint32_t at = (uint32_t)pci_capability_add(bench.function, 0x09, body, sizeof(body), mask);
	(void)conf_get(&bench, FUNCTION, at - 4, 4);
	(void)conf_get(&bench, FUNCTION, at + 20, 4);
	conf_set(&bench, FUNCTION, at - 4, 4, 0);
	ck_assert_uint_eq(bench.read + bench.written, 0);
	bench.refresh_at = (uint8_t)(at + 12);
	ck_assert_uint_eq(conf_get(&bench, FUNCTION, at + 12, 2), 1); /* what it just put there */
	ck_assert_uint_eq(bench.read_at, at + 12);
	conf_set(&bench, FUNCTION, at + 13, 1, 0xab);
	ck_assert_uint_eq(bench.written, 1);
	ck_assert_uint_eq(bench.written_at, at + 13);
	ck_assert_uint_eq(bench.written_size, 1);
	ck_assert_uint_eq(port_get(&bench, FUNCTION, at + 13, 1), 0xab);
	bench_finish(&bench);
}
END_TEST

START_TEST(slots_are_given_once)
{
	struct bench bench;
	bench_init(&bench);
	struct pci_function *others[PCI_SLOTS] = {NULL}, *more = NULL;
	struct pci_spec spec = {.name = "other", .slot = FUNCTION};
	ck_assert_int_eq(pci_function_create(bench.pci, &spec, &more, &bench.err), -EEXIST);
	ck_assert_str_eq(bench.err.text, "PCI slot 1 is taken by bench");
	bench.err = ERR_INIT;
	spec.slot = 32;
	ck_assert_int_eq(pci_function_create(bench.pci, &spec, &more, &bench.err), -EINVAL);
	spec.slot = 31;
	ck_assert_int_eq(pci_function_create(bench.pci, &spec, &others[31], &bench.err), 0);
	ck_assert_uint_eq(pci_function_slot(others[31]), 31);
	spec.slot = 0;
	for (uint32_t i = 2; i < 31; i++) {
		ck_assert_int_eq(pci_function_create(bench.pci, &spec, &others[i], &bench.err), 0);
		ck_assert_uint_eq(pci_function_slot(others[i]), i);
	}
	bench.err = ERR_INIT;
	ck_assert_int_eq(pci_function_create(bench.pci, &spec, &more, &bench.err), -ENOSPC);
	ck_assert_uint_eq(conf_get(&bench, 20, 0x34, 1), 0x40);
	pci_function_destroy(others[20]);
	ck_assert_uint_eq(conf_get(&bench, 20, 0x34, 1), 0xff);
	ck_assert_int_eq(pci_function_create(bench.pci, &spec, &others[20], &bench.err), 0);
	ck_assert_uint_eq(pci_function_slot(others[20]), 20);
	for (uint32_t i = 2; i < 32; i++)
		pci_function_destroy(others[i]);
	pci_function_destroy(NULL);
	bench_finish(&bench);
	pci_bus_destroy(NULL);
}
END_TEST

/* What a device asks for that cannot be is refused, and leaves nothing behind. */
START_TEST(impossible_functions_are_refused)
{
	struct bench bench;
	bench_init(&bench);
	const struct pci_bar_spec bar = {.size = 4096, .ops = &bench_bar_ops, .name = "bar"};
	struct pci_spec specs[7];
	for (size_t i = 0; i < ARRAY_LEN(specs); i++)
		specs[i] = (struct pci_spec){.name = "bad", .bars = {[0] = bar}};
	specs[0].bars[1] =
		(struct pci_bar_spec){.size = 24, .ops = &bench_bar_ops, .name = "not a power of two"};
	specs[1].bars[1] = (struct pci_bar_spec){.size = 8, .ops = &bench_bar_ops, .name = "too small"};
	specs[2].bars[1] =
		(struct pci_bar_spec){.size = 1ULL << 31, .ops = &bench_bar_ops, .name = "too large"};
	specs[3].bars[5] = bar;
	specs[3].bars[5].is_64bit = true;
	specs[4].bars[1] = specs[4].bars[2] = bar;
	specs[4].bars[1].is_64bit = true;
	specs[5].msix_vectors = PCI_MSIX_MAX + 1;
	specs[5].msix_bar = 1;
	specs[6].msix_vectors = 1;
	specs[6].msix_bar = 0; /* taken */
	for (size_t i = 0; i < ARRAY_LEN(specs); i++) {
		struct pci_function *function = NULL;
		bench.err = ERR_INIT;
		ck_assert_int_eq(pci_function_create(bench.pci, &specs[i], &function, &bench.err), -EINVAL);
		ck_assert_ptr_null(function);
		ck_assert_ptr_nonnull(strstr(bench.err.text, i < 5 ? "BAR " : "MSI-X"));
		ck_assert_uint_eq(conf_get(&bench, 2, 0, 4), 0xffffffff);
	}
	bench_finish(&bench);
}
END_TEST

START_TEST(host_registers_are_kept)
{
	struct bench bench;
	bench_init(&bench);
	struct pci_host_regs regs;
	port_select(&bench, 5, 0x24);
	pci_bus_save(bench.pci, &regs);
	pci_bus_reset(bench.pci);
	ck_assert_uint_eq(bench_get(&bench, BUS_PIO, 0xcf8, 4), 0);
	ck_assert_int_eq(pci_bus_restore(bench.pci, &regs, &bench.err), 0);
	ck_assert_uint_eq(bench_get(&bench, BUS_PIO, 0xcf8, 4), 0x80002824);
	regs.config_address = 3;
	ck_assert_int_eq(pci_bus_restore(bench.pci, &regs, &bench.err), -EINVAL);
	ck_assert_uint_eq(bench_get(&bench, BUS_PIO, 0xcf8, 4), 0x80002824);
	bench_finish(&bench);
}
END_TEST

START_TEST(a_taken_place_fails_the_bus)
{
	static const struct {
		enum bus_space space;
		uint64_t base;
	} places[] = {{BUS_PIO, 0xcfb}, {BUS_PIO, 0xcfc}, {BUS_MMIO, 0xe8000000}};
	for (size_t i = 0; i < ARRAY_LEN(places); i++) {
		struct bench_bar owner;
		struct bus *bus = NULL;
		struct pci_bus *pci = NULL;
		struct err err = ERR_INIT;
		const struct bus_range range = {places[i].base, 1, &bench_bar_ops, &owner, "somebody"};
		ck_assert_int_eq(bus_create(&bus, &err), 0);
		ck_assert_int_eq(bus_add(bus, places[i].space, &range, &err), 0);
		ck_assert_int_eq(pci_bus_create(bus, NULL, NULL, 0, &pci, &err), -EEXIST);
		ck_assert_ptr_null(pci);
		ck_assert_ptr_nonnull(strstr(err.text, "somebody"));
		bus_destroy(bus);
	}
}
END_TEST

TEST_MAIN("pci", both_mechanisms_see_the_same, configuration_address_is_a_dword, who_is_not_there_reads_ones,
	  ecam_beyond_256_bytes_is_zero, host_bridge_is_one, header_says_what_it_is,
	  only_registers_can_be_written, function_is_an_integrated_endpoint, capabilities_are_a_list,
	  owner_hears_of_its_capabilities, slots_are_given_once, impossible_functions_are_refused,
	  host_registers_are_kept, a_taken_place_fails_the_bus)
