/* What the clocks of restored vCPUs are set to. */
#include "../../src/cpu/vcpu_msrs.h"
#include "../../src/cpu/vcpus_state.h"

#include "harness.h"

#include <time.h>

enum { CPUS = 3, KHZ = 2000000 };
static const uint64_t SAVED_TSC = 1000000000000, SAVED_CLOCK = 77000000000;

static struct kvm_msr_entry msrs[CPUS][2];

static uint64_t realtime(void)
{
	struct timespec now;
	(void)clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* vCPU 1 was 500 cycles ahead of vCPU 0, vCPU 2 one behind. */
static struct vcpus_state *make(uint64_t saved_ago_ns)
{
	static const uint64_t offsets[CPUS] = {5000, 5500, 4999};
	struct vcpus_state *state = calloc(1, sizeof(*state) + CPUS * sizeof(state->vcpu[0]));
	ck_assert_ptr_nonnull(state);
	state->count = CPUS;
	state->clock = (struct vcpus_clock){
		.clock_ns = SAVED_CLOCK, .realtime_ns = realtime() - saved_ago_ns, .tsc = SAVED_TSC};
	for (int i = 0; i < CPUS; i++) {
		struct vcpu_saved *saved = &state->vcpu[i];
		msrs[i][0] = (struct kvm_msr_entry){.index = 0x174, .data = 1};
		msrs[i][1] = (struct kvm_msr_entry){.index = MSR_IA32_TSC, .data = 999};
		saved->state.msrs = msrs[i];
		saved->msr_count = 2;
		saved->tsc_khz = KHZ;
		saved->has_tsc_offset = true;
		saved->tsc_offset = offsets[i];
	}
	return state;
}

START_TEST(a_snapshot_goes_on_where_it_stood)
{
	struct vcpus_state *state = make(3600ULL * 1000000000);
	vcpus_state_advance(state, VCPUS_TIME_STOOD);
	ck_assert_uint_eq(msrs[0][1].data, SAVED_TSC);
	ck_assert_uint_eq(msrs[1][1].data, SAVED_TSC + 500);
	ck_assert_uint_eq(msrs[2][1].data, SAVED_TSC - 1);
	ck_assert_uint_eq(msrs[0][0].data, 1);
	ck_assert_uint_eq(state->applied_clock_ns, SAVED_CLOCK);
	free(state);
}
END_TEST

START_TEST(a_migration_goes_on_where_it_would_be)
{
	enum { SECOND = 1000000000 };
	struct vcpus_state *state = make(SECOND);
	vcpus_state_advance(state, VCPUS_TIME_WENT_ON);
	uint64_t cycles = msrs[0][1].data - SAVED_TSC, ns = state->applied_clock_ns - SAVED_CLOCK;
	ck_assert_uint_ge(ns, SECOND);
	ck_assert_uint_lt(ns, 2ULL * SECOND);
	ck_assert_uint_eq(cycles, ns * KHZ / 1000000); /* both clocks by the same time */
	ck_assert_uint_eq(msrs[1][1].data, msrs[0][1].data + 500);
	free(state);
}
END_TEST

START_TEST(time_does_not_go_back)
{
	struct vcpus_state *state = make(0);
	state->clock.realtime_ns += 5000000000; /* the other host's wall clock was ahead */
	vcpus_state_advance(state, VCPUS_TIME_WENT_ON);
	ck_assert_uint_eq(msrs[0][1].data, SAVED_TSC);
	ck_assert_uint_eq(state->applied_clock_ns, SAVED_CLOCK);
	free(state);
}
END_TEST

START_TEST(without_the_attribute_all_are_alike)
{
	struct vcpus_state *state = make(0);
	state->vcpu[1].has_tsc_offset = false;
	vcpus_state_advance(state, VCPUS_TIME_STOOD);
	ck_assert_uint_eq(msrs[1][1].data, SAVED_TSC);
	free(state);
}
END_TEST

TEST_MAIN("vcpus_tsc", a_snapshot_goes_on_where_it_stood, a_migration_goes_on_where_it_would_be,
	  time_does_not_go_back, without_the_attribute_all_are_alike)
