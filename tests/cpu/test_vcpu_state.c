/* The order of vcpu_state.c, as rules between parts. Each rule guards a guest that somebody broke. */
#include "../../src/cpu/vcpu_msrs.h"
#include "../../src/cpu/vcpu_state.h"
#include "harness.h"

#include <string.h>

static size_t position(const char *(*name_at)(size_t), const char *name)
{
	for (size_t i = 0; name_at(i); i++)
		if (strcmp(name_at(i), name) == 0)
			return i;
	ck_abort_msg("%s is in no place of the order", name);
	return 0;
}

START_TEST(put_order_keeps_the_rules)
{
	static const struct {
		const char *before, *after;
	} rules[] = {
		{"msr-capabilities", "nested"},
		{"msr-feature-control", "nested"},
		{"sregs", "nested"},
		{"events", "nested"},
		{"sregs", "lapic"},
		{"lapic", "msrs"},
		{"xcrs", "xsave"},
		{"regs", "events"},
		{"msrs", "nested"},
		{"msr-capabilities", "msr-feature-control"},
		{"mp-state", "nested"},
		{"debugregs", "nested"},
	};
	for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++)
		ck_assert_msg(position(vcpu_state_put_name, rules[i].before) <
				      position(vcpu_state_put_name, rules[i].after),
			      "%s must be put before %s: %s", rules[i].before, rules[i].after,
			      vcpu_state_why(rules[i].before));
}
END_TEST

START_TEST(get_order_keeps_the_rules)
{
	ck_assert_uint_eq(position(vcpu_state_get_name, "mp-state"), 0);
	ck_assert_ptr_null(vcpu_state_get_name(position(vcpu_state_get_name, "events") + 1));
	ck_assert_uint_lt(position(vcpu_state_get_name, "nested"), position(vcpu_state_get_name, "msrs"));
}
END_TEST

START_TEST(every_part_has_a_reason_and_goes_back)
{
	for (size_t i = 0; vcpu_state_put_name(i); i++)
		ck_assert_ptr_nonnull(vcpu_state_why(vcpu_state_put_name(i)));
	for (size_t i = 0; vcpu_state_get_name(i); i++)
		(void)position(vcpu_state_put_name, vcpu_state_get_name(i));
}
END_TEST

START_TEST(msrs_go_back_by_class_and_rank)
{
	uint32_t msrs[] = {0x6e0,      0x10, 0x174, 0x40000080, 0x400000b0, 0x40000001, 0x40000000,
			   0x40000073, 0x3a, 0x480, 0x491,	0x10a,	    0x40000021, 0xc0000080};
	const uint32_t want[] = {0x10a,	     0x480,	 0x491,	     0x3a,	 0x174,
				 0xc0000080, 0x40000000, 0x40000001, 0x40000073, 0x40000021,
				 0x40000080, 0x400000b0, 0x10,	     0x6e0};
	vcpu_msrs_sort(msrs, sizeof(msrs) / sizeof(msrs[0]));
	ck_assert_mem_eq(msrs, want, sizeof(want));
}
END_TEST

START_TEST(actions_and_counters_never_go_back)
{
	ck_assert_int_eq(vcpu_msr_class(0x40000003), MSR_CLASS_NEVER); /* Hyper-V RESET */
	ck_assert_int_eq(vcpu_msr_class(0x40000020), MSR_CLASS_NEVER); /* TIME_REF_COUNT */
}
END_TEST

TEST_MAIN("vcpu_state", put_order_keeps_the_rules, get_order_keeps_the_rules,
	  every_part_has_a_reason_and_goes_back, msrs_go_back_by_class_and_rank,
	  actions_and_counters_never_go_back)
