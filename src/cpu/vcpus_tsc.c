/*
 * Time as the guest sees it: its TSC and kvmclock, out of one machine and into another.
 *
 * Both run on while vCPUs are parked, so they are read as one moment. L1 keeps deadlines in them (the local
 * APIC's TSC deadline, the VMX preemption timer of its own guests), all absolute: they must go on without a
 * step, at the same rate, and alike on all vCPUs. KVM gives vCPUs that are written about the same TSC within
 * a second the same offset; where it has the attribute (Linux 5.16,
 * Documentation/virt/kvm/devices/vcpu.rst, 4.1) the differences between vCPUs are put back exactly.
 */
#include "host/kvm.h"
#include "vcpu_msrs.h"
#include "vcpus_state.h"

#include <errno.h>
#include <time.h>

/* A rate that differs by less is the same clock, measured twice (as KVM's tsc_tolerance_ppm). */
enum { TOLERANCE_PPM = 250 };

static const struct state_field clock_fields[] = {
	STATE_FIELD(struct vcpus_clock, clock_ns),
	STATE_FIELD(struct vcpus_clock, realtime_ns),
	STATE_FIELD(struct vcpus_clock, tsc),
};
const struct state_table vcpus_clock_table = STATE_TABLE("clock", struct vcpus_clock, clock_fields);

int vcpu_get_tsc_khz(const struct vcpu *vcpu, uint32_t *ret)
{
	int khz = kvm_call_value(vcpu->fd, KVM_GET_TSC_KHZ, 0);
	*ret = khz > 0 ? (uint32_t)khz : 0;
	return 0;
}

static bool about_the_same(uint32_t a, uint32_t b)
{
	uint64_t difference = a > b ? a - b : b - a;
	return difference * 1000000 <= (uint64_t)a * TOLERANCE_PPM;
}

int vcpu_put_tsc_khz(const struct vcpu *vcpu, uint32_t khz, struct err *err)
{
	uint32_t own;
	(void)vcpu_get_tsc_khz(vcpu, &own);
	if (khz == 0 || own == 0 || about_the_same(khz, own))
		return 0;
	int r = kvm_call_value(vcpu->fd, KVM_SET_TSC_KHZ, khz);
	return r < 0 ? err_sys(err, r, "%s: %u, but this host's TSC runs at %u kHz and cannot be scaled",
			       VCPU_TSC_KHZ, khz, own)
		     : 0;
}

static int offset_attribute(const struct vcpu *vcpu, unsigned long request, uint64_t *value)
{
	struct kvm_device_attr attribute = {
		.group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET, .addr = (uintptr_t)value};
	return kvm_call(vcpu->fd, request, &attribute);
}

int vcpu_get_tsc_offset(const struct vcpu *vcpu, uint64_t *ret)
{
	return offset_attribute(vcpu, KVM_GET_DEVICE_ATTR, ret);
}

static int vcpu_put_tsc_offset(const struct vcpu *vcpu, uint64_t offset)
{
	return offset_attribute(vcpu, KVM_SET_DEVICE_ATTR, &offset);
}

static uint64_t realtime_ns(void)
{
	struct timespec now;
	(void)clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

int vcpus_clock_get(const struct vcpus *vcpus, struct vcpus_clock *ret, struct err *err)
{
	static const uint32_t tsc = MSR_IA32_TSC;
	struct kvm_msr_entry entry;
	struct kvm_clock_data data = {0};
	int r = kvm_call(vcpus->vm_fd, KVM_GET_CLOCK, &data);
	if (r < 0)
		return err_sys(err, r, "KVM_GET_CLOCK");
	r = vcpu_msrs_get(&tsc, 1, &entry, vcpus->vcpu[0].fd, err);
	*ret = (struct vcpus_clock){
		.clock_ns = data.clock,
		.realtime_ns = data.flags & KVM_CLOCK_REALTIME ? data.realtime : realtime_ns(),
		.tsc = entry.data,
	};
	return r;
}

static uint64_t ns_to_cycles(uint64_t ns, uint32_t khz)
{
	return (uint64_t)((unsigned __int128)ns * khz / 1000000);
}

static uint64_t monotonic_ns(void)
{
	struct timespec now;
	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

void vcpus_state_advance(struct vcpus_state *state, enum vcpus_time time)
{
	uint64_t now = realtime_ns(), away = 0;
	/* A wall clock that was set back since, or that of another host: no time has passed, then. */
	if (time == VCPUS_TIME_WENT_ON && now > state->clock.realtime_ns)
		away = now - state->clock.realtime_ns;
	state->applied_at_ns = monotonic_ns();
	state->applied_clock_ns = state->clock.clock_ns + away;
	uint64_t base = state->clock.tsc + ns_to_cycles(away, state->vcpu[0].tsc_khz);
	for (uint32_t i = 0; i < state->count; i++) {
		struct vcpu_saved *saved = &state->vcpu[i];
		uint64_t ahead = saved->has_tsc_offset && state->vcpu[0].has_tsc_offset
					 ? saved->tsc_offset - state->vcpu[0].tsc_offset
					 : 0;
		for (uint32_t m = 0; m < saved->msr_count; m++)
			if (saved->state.msrs[m].index == MSR_IA32_TSC)
				saved->state.msrs[m].data = base + ahead;
	}
}

/*
 * KVM before Linux 6.7 takes a TSC that is written about a second from what it should be for an attempt to
 * bring vCPUs together, and keeps the offset that it has. A new vCPU counts from 0, so a guest that was saved
 * a second after its start would go on with the TSC of the new machine. A write far away comes between; the
 * vCPUs' own writes then make one of the first and let the others follow.
 */
int vcpus_tsc_break(const struct vcpus *vcpus, const struct vcpus_state *state, struct err *err)
{
	enum { FAR_BITS = 44 }; /* hours */
	const struct kvm_msr_entry far = {.index = MSR_IA32_TSC,
					  .data = state->clock.tsc + (UINT64_C(1) << FAR_BITS)};
	return vcpu_msrs_put(&far, 1, vcpus->vcpu[0].fd, err);
}

int vcpus_state_apply_clock(struct vcpus *vcpus, const struct vcpus_state *state, struct err *err)
{
	uint64_t first;
	int r = vcpu_get_tsc_offset(&vcpus->vcpu[0], &first);
	for (uint32_t i = 1; r == 0 && i < state->count; i++) {
		const struct vcpu_saved *saved = &state->vcpu[i];
		if (saved->has_tsc_offset && state->vcpu[0].has_tsc_offset)
			r = vcpu_put_tsc_offset(&vcpus->vcpu[i],
						first + saved->tsc_offset - state->vcpu[0].tsc_offset);
	}
	struct kvm_clock_data data = {.clock = state->applied_clock_ns + monotonic_ns() -
					       state->applied_at_ns};
	r = kvm_call(vcpus->vm_fd, KVM_SET_CLOCK, &data);
	if (r < 0)
		return err_sys(err, r, "KVM_SET_CLOCK");
	/* A guest with kvmclock is told that it stood still, so that its watchdogs do not bark (4.70). */
	for (uint32_t i = 0; i < vcpus->count; i++)
		(void)kvm_call_value(vcpus->vcpu[i].fd, KVM_KVMCLOCK_CTRL, 0);
	return 0;
}
