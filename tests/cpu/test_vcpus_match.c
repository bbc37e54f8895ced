/* Why a guest that ran on one host may not go on on another one. */
#include "../../src/cpu/vcpus_state.h"

#include "harness.h"

#include <errno.h>
#include <string.h>

static struct cpuid_table saved, own, supported;

static void leaf(struct cpuid_table *table, uint32_t function, uint32_t index, uint32_t a, uint32_t b,
		 uint32_t c, uint32_t d)
{
	table->entries[table->count++] = (struct kvm_cpuid_entry2){
		.function = function, .index = index, .eax = a, .ebx = b, .ecx = c, .edx = d};
}

static void intel(struct cpuid_table *table, uint32_t ecx, uint32_t leaf7_ebx)
{
	table->count = 0;
	leaf(table, 0, 0, 7, 0x756e6547, 0x6c65746e, 0x49656e69);
	leaf(table, 1, 0, 0x50654, 0x100800, ecx, 0x1789fbff);
	leaf(table, 7, 0, 0, leaf7_ebx, 0, 0);
}

static void amd(struct cpuid_table *table)
{
	table->count = 0;
	leaf(table, 0, 0, 7, 0x68747541, 0x444d4163, 0x69746e65);
}

START_TEST(the_same_is_the_same)
{
	struct err err = ERR_INIT;
	bool same = false;
	intel(&saved, 0xf, 1U << 16);
	own = supported = saved;
	ck_assert_int_eq(vcpu_match_cpuid(&saved, &own, &supported, &same, &err), 0);
	ck_assert(same);
	intel(&saved, 0x7, 0); /* the guest saw less than it could see here */
	ck_assert_int_eq(vcpu_match_cpuid(&saved, &own, &supported, &same, &err), 0);
	ck_assert(!same);
	intel(&own, 0x3, 0); /* not with this config, but the host has it */
	ck_assert_int_eq(vcpu_match_cpuid(&saved, &own, &supported, &same, &err), 0);
}
END_TEST

START_TEST(another_vendor)
{
	struct err err = ERR_INIT;
	bool same;
	intel(&saved, 0, 0);
	amd(&own);
	supported = own;
	ck_assert_int_eq(vcpu_match_cpuid(&saved, &own, &supported, &same, &err), -EOPNOTSUPP);
	ck_assert_str_eq(err.text,
			 "cpuid: made on a CPU of vendor \"GenuineIntel\", this one is \"AuthenticAMD\"");
}
END_TEST

START_TEST(a_lacking_feature_is_named)
{
	struct err err = ERR_INIT;
	bool same;
	intel(&saved, 0, 1U << 16 | 1U << 30 | 1U << 5);
	intel(&own, 0, 1U << 5);
	supported = own;
	ck_assert_int_eq(vcpu_match_cpuid(&saved, &own, &supported, &same, &err), -EOPNOTSUPP);
	ck_assert_str_eq(err.text,
			 "cpuid: the guest uses avx512f, avx512bw (leaf 0x7.0 ebx), which this host lacks");
}
END_TEST

static int match(uint32_t format, uint64_t vmxon, uint32_t size, size_t bytes, uint32_t own_bytes,
		 enum cpu_nested nested, struct err *err)
{
	struct kvm_nested_state head = {.format = (uint16_t)format, .size = size};
	if (format == KVM_STATE_NESTED_FORMAT_VMX)
		head.hdr.vmx.vmxon_pa = vmxon;
	*err = ERR_INIT;
	return vcpu_match_nested(&head, bytes, own_bytes, nested, err);
}

START_TEST(nested_state)
{
	enum { HEAD = sizeof(struct kvm_nested_state), VMX = 8320 };
	struct err err;
	ck_assert_int_eq(match(0, 0x1000, VMX, VMX, VMX, CPU_NESTED_VMX, &err), 0);
	ck_assert_int_eq(match(0, 0x1000, VMX, VMX, 0, CPU_NESTED_NONE, &err), -EOPNOTSUPP);
	ck_assert_ptr_nonnull(strstr(err.text, "this host's KVM has no nested state"));
	ck_assert_int_eq(match(0, ~0ULL, HEAD, HEAD, 0, CPU_NESTED_NONE, &err), 0); /* it runs none now */
	ck_assert_int_eq(match(0, 0x1000, VMX, VMX, 4224, CPU_NESTED_SVM, &err), -EOPNOTSUPP);
	ck_assert_ptr_nonnull(strstr(err.text, "8320 bytes, this host's KVM knows 4224"));
	ck_assert_int_eq(match(1, 0, 4224, 4224, VMX, CPU_NESTED_VMX, &err), -EOPNOTSUPP);
	ck_assert_ptr_nonnull(strstr(err.text, "of SVM, which this machine does not give"));
	ck_assert_int_eq(match(2, 0, HEAD, HEAD, VMX, CPU_NESTED_VMX, &err), -ENOTSUP);
	ck_assert_int_eq(match(0, 0, VMX, HEAD, VMX, CPU_NESTED_VMX, &err), -EINVAL);
	ck_assert_int_eq(match(0, 0, 16, 16, VMX, CPU_NESTED_VMX, &err), -EINVAL);
}
END_TEST

TEST_MAIN("vcpus_match", the_same_is_the_same, another_vendor, a_lacking_feature_is_named, nested_state)
