/* What a guest is answered that KVM does not: unknown MSRs, Hyper-V hypercalls without a receiver; and the
 * TSC. */
#include "../../src/cpu/hyperv_vcpu.h"
#include "../../src/cpu/msr_filter.h"
#include "../../src/cpu/tsc.h"
#include "base/cleanup.h"
#include "harness.h"

#include <errno.h>

static struct kvm_run access_msr(struct msr_filter *filter, uint32_t index, bool write, uint32_t reason)
{
	struct kvm_run run = {.exit_reason = write ? KVM_EXIT_X86_WRMSR : KVM_EXIT_X86_RDMSR};
	run.msr.index = index;
	run.msr.reason = reason;
	run.msr.data = 0x55;
	msr_filter_access(filter, 0, &run);
	return run;
}

START_TEST(the_policy_decides)
{
	static const enum msr_unknown policies[] = {MSR_UNKNOWN_FAULT, MSR_UNKNOWN_IGNORE, MSR_UNKNOWN_LOG};
	for (size_t i = 0; i < ARRAY_LEN(policies); i++) {
		const struct cpu_msr_config config = {.unknown = policies[i], .allow = {7}, .allow_count = 1};
		bool faults = policies[i] == MSR_UNKNOWN_FAULT;
		struct msr_filter filter;
		msr_filter_init(&filter, &config);
		ck_assert_uint_eq(access_msr(&filter, 5, false, KVM_MSR_EXIT_REASON_UNKNOWN).msr.error,
				  faults);
		ck_assert_uint_eq(access_msr(&filter, 5, true, KVM_MSR_EXIT_REASON_UNKNOWN).msr.error,
				  faults);
		ck_assert_uint_eq(access_msr(&filter, 5, false, KVM_MSR_EXIT_REASON_UNKNOWN).msr.data, 0);
		ck_assert_uint_eq(access_msr(&filter, 7, false, KVM_MSR_EXIT_REASON_UNKNOWN).msr.error, 0);
		ck_assert_uint_eq(access_msr(&filter, 7, true, KVM_MSR_EXIT_REASON_INVAL).msr.error, 0);
		/* What KVM knows and refuses stays refused, whatever the policy: VMX's MSRs with nested off.
		 */
		ck_assert_uint_eq(access_msr(&filter, 6, false, KVM_MSR_EXIT_REASON_INVAL).msr.error, 1);
		ck_assert_uint_eq(access_msr(&filter, 6, true, KVM_MSR_EXIT_REASON_INVAL).msr.error, 1);
		ck_assert_uint_eq(filter.count, 2);
		ck_assert_uint_eq(filter.seen[0].reads, 2);
		ck_assert_uint_eq(filter.seen[0].writes, 1);
		ck_assert_uint_eq(msr_filter_count(&filter), 5);
		msr_filter_finish(&filter);
	}
}
END_TEST

START_TEST(a_guest_that_tries_them_all_is_bounded)
{
	const struct cpu_msr_config config = {.unknown = MSR_UNKNOWN_IGNORE};
	struct msr_filter filter;
	msr_filter_init(&filter, &config);
	for (uint32_t round = 0; round < 2; round++)
		for (uint32_t i = 0; i < 10000; i++)
			(void)access_msr(&filter, i, true, KVM_MSR_EXIT_REASON_UNKNOWN);
	ck_assert_uint_eq(filter.count, MSR_SEEN_MAX);
	ck_assert_uint_eq(filter.seen[MSR_SEEN_MAX - 1].writes, 2);
	ck_assert_uint_eq(filter.beyond, 2 * (10000 - MSR_SEEN_MAX));
	ck_assert_uint_eq(msr_filter_count(&filter), 2 * 10000);
	msr_filter_finish(&filter);
}
END_TEST

START_TEST(hypercalls_without_a_receiver)
{
	static const struct {
		uint64_t input, result;
	} rows[] = {{0x5c, 0x12}, {0x1005d, 0x12}, {0x8001, 2}, {0, 2}};
	struct log_limit limit = {0};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct kvm_run run = {.exit_reason = KVM_EXIT_HYPERV};
		run.hyperv.type = KVM_EXIT_HYPERV_HCALL;
		run.hyperv.u.hcall.input = rows[i].input;
		run.hyperv.u.hcall.result = 99;
		hyperv_vcpu_exit(&run, &limit);
		ck_assert_uint_eq(run.hyperv.u.hcall.result, rows[i].result);
		ck_assert_uint_eq(limit.total, i + 1);
	}
}
END_TEST

START_TEST(a_tsc_that_the_host_cannot_have_is_refused)
{
	static const struct {
		uint32_t khz, host;
		bool scale;
		int result;
	} rows[] = {
		{2000000, 3000000, true, 0},
		{2000000, 3000000, false, -EOPNOTSUPP},
		{3000000, 2000000, false, -EOPNOTSUPP},
		{2000500, 2000000, false, 0},
		{1999500, 2000000, false, 0},
		{2000501, 2000000, false, -EOPNOTSUPP},
		{1999499, 2000000, false, -EOPNOTSUPP},
		{2000000, 0, false, -EOPNOTSUPP},
		{2000000, 0, true, 0},
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct err err = ERR_INIT;
		ck_assert_msg(tsc_check(rows[i].khz, rows[i].host, rows[i].scale, &err) == rows[i].result,
			      "row %zu", i);
	}
	struct err err = ERR_INIT;
	(void)tsc_check(1000000, 2000000, false, &err);
	ck_assert_str_eq(err.text,
			 "cpu.tsc_khz: 1000000: this host's TSC runs at 2000000 kHz and cannot be scaled "
			 "(1999500 to 2000500 will do)");
}
END_TEST

TEST_MAIN("msr_filter", the_policy_decides, a_guest_that_tries_them_all_is_bounded,
	  hypercalls_without_a_receiver, a_tsc_that_the_host_cannot_have_is_refused)
