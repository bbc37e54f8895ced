#include "cpu/boot.h"
#include "cpu/cpuid.h"
#include "harness.h"

#include <errno.h>
#include <string.h>

static void add(struct cpuid_table *table, uint32_t function, uint32_t index, uint32_t a, uint32_t b,
		uint32_t c, uint32_t d)
{
	table->entries[table->count++] = (struct kvm_cpuid_entry2){
		.function = function,
		.index = index,
		.flags = function == 4 || function == 0xb ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0,
		.eax = a,
		.ebx = b,
		.ecx = c,
		.edx = d,
	};
}

static struct cpuid_table intel(bool vmx)
{
	struct cpuid_table t = {0};
	add(&t, 0, 0, 0x1f, 0x756e6547, 0x6c65746e, 0x49656e69);
	add(&t, 1, 0, 0x50654, 0x00100800, vmx ? 1U << 5 : 0, 0xffffffff);
	add(&t, 4, 0, 0xfc004121, 0x01c0003f, 0x3f, 0);
	add(&t, 4, 3, 0xfc01c163, 0x0280003f, 0x7fff, 0);
	add(&t, 0xb, 0, 1, 2, 0x100, 7);
	return t;
}

static struct cpuid_table amd(bool svm)
{
	struct cpuid_table t = {0};
	add(&t, 0, 0, 0xd, 0x68747541, 0x444d4163, 0x69746e65);
	add(&t, 1, 0, 0x800f12, 0x00100800, 0, 0xffffffff);
	add(&t, 0x80000001, 0, 0, 0, 1U << 22 | (svm ? 1U << 2 : 0), 0);
	add(&t, 0x80000008, 0, 0x3028, 0, 0x700f, 0);
	add(&t, 0x8000000a, 0, 1, 16, 0, 9);
	add(&t, 0x8000001e, 0, 3, 0x103, 0x200, 0);
	return t;
}

static const struct cpus_config smp_2_3_2 = {.count = 12, .sockets = 2, .cores = 3, .threads = 2};
static const struct cpus_config single = {1, 1, 1, 1};

START_TEST(apic_ids_leave_room_for_powers_of_two)
{
	const uint32_t want[12] = {0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13};
	for (uint32_t i = 0; i < 12; i++)
		ck_assert_uint_eq(cpu_apic_id(&smp_2_3_2, i), want[i]);
}
END_TEST

START_TEST(topology_leaves_agree_with_the_id)
{
	struct cpuid_table host = intel(true), out;
	cpuid_for_vcpu(&host, &smp_2_3_2, 9, &out);
	uint32_t id = cpu_apic_id(&smp_2_3_2, 9);
	ck_assert_uint_eq(cpuid_find(&out, 1, 0)->ebx >> 24, id);
	ck_assert_uint_eq(cpuid_find(&out, 1, 0)->ebx >> 16 & 0xff, 8);
	ck_assert_uint_eq(cpuid_find(&out, 0xb, 0)->eax, 1);
	ck_assert_uint_eq(cpuid_find(&out, 0xb, 0)->ebx, 2);
	ck_assert_uint_eq(cpuid_find(&out, 0xb, 0)->ecx, 0x100);
	ck_assert_uint_eq(cpuid_find(&out, 0xb, 1)->eax, 3);
	ck_assert_uint_eq(cpuid_find(&out, 0xb, 1)->ebx, 6);
	ck_assert_uint_eq(cpuid_find(&out, 0xb, 1)->ecx, 0x201);
	ck_assert_uint_eq(cpuid_find(&out, 0xb, 2)->ecx, 2);
	for (uint32_t i = 0; i < 3; i++) {
		ck_assert_uint_eq(cpuid_find(&out, 0xb, i)->edx, id);
		ck_assert_mem_eq(&cpuid_find(&out, 0xb, i)->eax, &cpuid_find(&out, 0x1f, i)->eax, 16);
	}
	/* L1 is shared by the two threads of a core, L3 by the eight ids of a socket. */
	ck_assert_uint_eq(cpuid_find(&out, 4, 0)->eax >> 14 & 0xfff, 1);
	ck_assert_uint_eq(cpuid_find(&out, 4, 3)->eax >> 14 & 0xfff, 7);
	ck_assert_uint_eq(cpuid_find(&out, 4, 0)->eax >> 26, 3);
	ck_assert(cpuid_find(&out, 1, 0)->edx & 1U << 28);
}
END_TEST

START_TEST(one_cpu_has_no_htt)
{
	struct cpuid_table host = intel(false), out;
	cpuid_for_vcpu(&host, &single, 0, &out);
	ck_assert(!(cpuid_find(&out, 1, 0)->edx & 1U << 28));
}
END_TEST

START_TEST(amd_topology)
{
	struct cpuid_table host = amd(true), out;
	cpuid_for_vcpu(&host, &smp_2_3_2, 11, &out);
	const struct kvm_cpuid_entry2 *topo = cpuid_find(&out, 0x8000001e, 0);
	ck_assert_uint_eq(topo->eax, 13);
	ck_assert_uint_eq(topo->ebx >> 8 & 0xff, 1);
	ck_assert_uint_eq(topo->ecx, 1);
	ck_assert_uint_eq(cpuid_find(&out, 0x80000008, 0)->ecx, 3U << 12 | 5);
	ck_assert(cpuid_find(&out, 0x80000001, 0)->ecx & 1U << 2);
	ck_assert_uint_eq(cpuid_find(&out, 0x8000000a, 0)->ebx, 16);
	ck_assert_uint_ge(cpuid_find(&out, 0, 0)->eax, 0xb);
}
END_TEST

START_TEST(ram_must_be_addressable)
{
	struct cpuid_table wide = amd(true), none = {0};
	struct err err = ERR_INIT;
	ck_assert_int_eq(cpuid_check_width(&wide, UINT64_C(1) << 40, &err), 0);
	ck_assert_int_eq(cpuid_check_width(&wide, (UINT64_C(1) << 40) + 1, &err), -EINVAL);
	ck_assert_ptr_nonnull(strstr(err.text, "addresses 40 bits (1024 GiB;"));
	err = ERR_INIT;
	ck_assert_int_eq(cpuid_check_width(&none, UINT64_C(1) << 36, &err), 0);
	ck_assert_int_eq(cpuid_check_width(&none, (UINT64_C(1) << 36) + 1, &err), -EINVAL);
}
END_TEST

TEST_MAIN("cpuid", apic_ids_leave_room_for_powers_of_two, topology_leaves_agree_with_the_id,
	  one_cpu_has_no_htt, amd_topology, ram_must_be_addressable)
