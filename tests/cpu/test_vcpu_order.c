/*
 * The orders of the vCPU table, at the level of ioctls: a KVM of ours that does to state in the wrong order
 * what the table says that the real one does. Each part that has a reason for its place is moved, and that
 * must be seen.
 */
#include "../../src/cpu/vcpu_msrs.h"
#include "../../src/cpu/vcpu_state.h"

#include "base/cleanup.h"

#include "harness.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

enum { FAKE_FD = 1000, ROWS_MAX = 32, MSR_VMX_BASIC = 0x480, MSR_STAR = 0xc0000081, NESTED_BYTES = 8320 };
#define FEATURE_CONTROL_GOOD 5
#define APIC_BASE_ON	     0xfee00800
#define XCR0_AVX	     7
#define LVT_TSC_DEADLINE     (2U << 17)
#define NEW_RIP		     0xfff0

/* What this vCPU holds. Everything starts as at power-on. */
static struct fake {
	struct kvm_regs regs;
	struct kvm_sregs2 sregs;
	struct kvm_lapic_state lapic;
	struct kvm_vcpu_events events;
	struct kvm_debugregs debugregs, shadow_debugregs; /* the latter: L1's, while L2 runs */
	uint64_t xcr0, xsave_features, capability, feature_control, star, deadline;
	bool vmx; /* in VMX operation, L2 running */
	bool init_pending;
	bool l2, rare_fields_away; /* L2 runs; when it did last, fields of it stayed in a VMCS of KVM's own */
	uint32_t mp_state;
} fake;

static void fake_reset(void)
{
	fake = (struct fake){.xcr0 = 1, .xsave_features = 1};
}

static uint32_t lapic_timer(void)
{
	uint32_t lvt;
	memcpy(&lvt, fake.lapic.regs + 0x320, sizeof(lvt));
	return lvt;
}

static int set_msr(uint32_t index, uint64_t value)
{
	switch (index) {
	case MSR_VMX_BASIC:
		if (fake.vmx)
			return -EBUSY;
		fake.capability = value;
		return 0;
	case MSR_IA32_FEATURE_CONTROL:
		fake.feature_control = value;
		return 0;
	case MSR_IA32_TSC_DEADLINE:
		if (lapic_timer() == LVT_TSC_DEADLINE) /* else the write is dropped, silently */
			fake.deadline = value;
		return 0;
	default:
		fake.star = value;
		return 0;
	}
}

static int set_msrs(const struct kvm_msrs *msrs)
{
	for (uint32_t i = 0; i < msrs->nmsrs; i++)
		if (set_msr(msrs->entries[i].index, msrs->entries[i].data) < 0)
			return (int)i;
	return (int)msrs->nmsrs;
}

static int set_sregs(const struct kvm_sregs2 *sregs)
{
	if (fake.sregs.apic_base != sregs->apic_base)
		memset(&fake.lapic, 0, sizeof(fake.lapic)); /* switching it on resets it */
	fake.sregs = *sregs;
	return 0;
}

static int set_xsave(const struct kvm_xsave *xsave)
{
	uint64_t features;
	memcpy(&features, (const uint8_t *)xsave + 512, sizeof(features)); /* XSTATE_BV */
	if (features & ~fake.xcr0)
		return -EINVAL;
	fake.xsave_features = features;
	return 0;
}

static int set_xcrs(const struct kvm_xcrs *xcrs)
{
	fake.xcr0 = xcrs->xcrs[0].value;
	fake.xsave_features &= fake.xcr0;
	return 0;
}

static int set_events(const struct kvm_vcpu_events *events)
{
	if (fake.events.smi.smm != events->smi.smm)
		fake.vmx = false;
	fake.events = *events;
	return 0;
}

static int set_debugregs(const struct kvm_debugregs *debugregs)
{
	*(fake.vmx ? &fake.shadow_debugregs : &fake.debugregs) = *debugregs;
	return 0;
}

static int set_nested(const struct kvm_nested_state *nested)
{
	fake.rare_fields_away |= fake.l2; /* which leaves nested operation first, and forgets all but this */
	fake.l2 = false;
	if (nested->hdr.vmx.vmxon_pa == ~0ULL)
		return 0;
	if (!(fake.sregs.cr4 & 1U << 13) || fake.feature_control != FEATURE_CONTROL_GOOD ||
	    fake.capability == 0)
		return -EINVAL;
	fake.vmx = true;
	return 0;
}

static int get_nested(struct kvm_nested_state *nested)
{
	nested->format = KVM_STATE_NESTED_FORMAT_VMX;
	nested->flags = fake.l2 ? KVM_STATE_NESTED_GUEST_MODE : 0;
	nested->hdr.vmx.vmxon_pa = fake.vmx ? 0x1000 : ~0ULL;
	nested->hdr.vmx.vmcs12_pa = fake.vmx ? 0x2000 : ~0ULL;
	if (fake.vmx && !fake.l2)
		fake.rare_fields_away = false;
	return 0;
}

static int set_regs(const struct kvm_regs *regs)
{
	fake.regs = *regs;
	fake.events.exception.pending = 0;
	return 0;
}

/* A pending INIT is taken when somebody asks what the vCPU is doing, and changes the rest. */
static int get_mp_state(struct kvm_mp_state *mp_state)
{
	if (fake.init_pending) {
		fake.init_pending = false;
		fake.mp_state = KVM_MP_STATE_INIT_RECEIVED;
		fake.regs.rip = NEW_RIP;
	}
	mp_state->mp_state = fake.mp_state;
	return 0;
}

static int get_msrs(struct kvm_msrs *msrs)
{
	return (int)msrs->nmsrs;
}

static int dispatch(unsigned long request, void *arg)
{
	switch (request) {
	case KVM_SET_MSRS:
		return set_msrs(arg);
	case KVM_SET_SREGS2:
		return set_sregs(arg);
	case KVM_SET_LAPIC:
		memcpy(&fake.lapic, arg, sizeof(fake.lapic));
		return 0;
	case KVM_SET_XCRS:
		return set_xcrs(arg);
	case KVM_SET_XSAVE:
		return set_xsave(arg);
	case KVM_SET_REGS:
		return set_regs(arg);
	case KVM_SET_VCPU_EVENTS:
		return set_events(arg);
	case KVM_SET_MP_STATE:
		fake.mp_state = ((const struct kvm_mp_state *)arg)->mp_state;
		return 0;
	case KVM_SET_DEBUGREGS:
		return set_debugregs(arg);
	case KVM_SET_NESTED_STATE:
		return set_nested(arg);
	case KVM_GET_NESTED_STATE:
		return get_nested(arg);
	case KVM_GET_MP_STATE:
		return get_mp_state(arg);
	case KVM_GET_REGS:
		memcpy(arg, &fake.regs, sizeof(fake.regs));
		return 0;
	case KVM_GET_MSRS:
		return get_msrs(arg);
	default:
		return 0; /* other reads: zeros will do */
	}
}

/* The program's own comes before libc's. */
int ioctl(int fd, unsigned long request, ...)
{
	va_list args;
	va_start(args, request);
	void *arg = va_arg(args, void *);
	va_end(args);
	ck_assert_int_eq(fd, FAKE_FD);
	int r = dispatch(request, arg);
	if (r < 0)
		errno = -r;
	return r < 0 ? -1 : r;
}

/* ---- what is put ---- */

static struct vcpu_layout layout = {
	.xsave_bytes = 4096,
	.has_xsave2 = true,
	.has_xcrs = true,
	.nested_bytes = NESTED_BYTES,
	.msr_count = 4,
	.msrs = {MSR_VMX_BASIC, MSR_IA32_FEATURE_CONTROL, MSR_STAR, MSR_IA32_TSC_DEADLINE}};

/* In VMX operation, with an exception on its way, a timer armed and AVX in use. */
static void fill(struct vcpu_state *state)
{
	static const uint64_t values[] = {0x1234, FEATURE_CONTROL_GOOD, 42, 1000000};
	static const uint64_t features = XCR0_AVX;
	static const uint32_t timer = LVT_TSC_DEADLINE;
	struct err err = ERR_INIT;
	ck_assert_int_eq(vcpu_state_init(state, &layout, &err), 0);
	for (uint32_t i = 0; i < layout.msr_count; i++)
		state->msrs[i] = (struct kvm_msr_entry){.index = layout.msrs[i], .data = values[i]};
	state->regs.rip = 0x1000;
	state->sregs.cr4 = 1U << 13;
	state->sregs.apic_base = APIC_BASE_ON;
	state->xcrs.nr_xcrs = 1;
	state->xcrs.xcrs[0].value = XCR0_AVX;
	memcpy((uint8_t *)state->xsave + 512, &features, sizeof(features));
	memcpy(state->lapic.regs + 0x320, &timer, sizeof(timer));
	state->events.exception.pending = 1;
	state->events.smi.smm = 1;
	state->debugregs.dr7 = 0x401;
	state->nested->size = NESTED_BYTES;
}

static bool arrived(void)
{
	return fake.vmx && fake.regs.rip == 0x1000 && fake.events.exception.pending == 1 &&
	       fake.events.smi.smm && fake.deadline == 1000000 && fake.star == 42 &&
	       fake.capability == 0x1234 && lapic_timer() == LVT_TSC_DEADLINE &&
	       fake.xsave_features == XCR0_AVX && fake.debugregs.dr7 == 0x401;
}

static size_t row_count(const char *(*name)(size_t position))
{
	size_t count = 0;
	while (name(count))
		count++;
	return count;
}

/* The order with the row at `from` taken out and put in again at `to`. */
static void moved(size_t count, size_t from, size_t to, size_t positions[ROWS_MAX])
{
	size_t used = 0;
	for (size_t i = 0; i < count; i++) {
		if (i == from)
			continue;
		if (used == to)
			positions[used++] = from;
		positions[used++] = i;
	}
	if (used < count)
		positions[used] = from;
}

START_TEST(the_order_of_the_table_arrives)
{
	struct vcpu_state state;
	struct err err = ERR_INIT;
	fill(&state);
	fake_reset();
	ck_assert_msg(vcpu_state_put(&state, &layout, FAKE_FD, &err) == 0, "%s", err.text);
	ck_assert(arrived());
	vcpu_state_finish(&state);
}
END_TEST

START_TEST(each_part_put_at_a_wrong_place_is_seen)
{
	struct vcpu_state state;
	size_t count = row_count(vcpu_state_put_name);
	fill(&state);
	ck_assert_uint_le(count, ROWS_MAX);
	for (size_t from = 0; from < count; from++) {
		const char *name = vcpu_state_put_name(from);
		size_t seen = 0, positions[ROWS_MAX];
		ck_assert_ptr_nonnull(vcpu_state_why(name));
		for (size_t to = 0; to < count; to++) {
			struct err err = ERR_INIT;
			fake_reset();
			moved(count, from, to, positions);
			int r = vcpu_state_put_as(&state, &layout, FAKE_FD, positions, &err);
			seen += r < 0 || !arrived();
		}
		/* That of mp-state is a reason for its place in the other order. */
		if (strcmp(name, "mp-state") != 0)
			ck_assert_msg(seen > 0, "%s can stand anywhere", name);
	}
	vcpu_state_finish(&state);
}
END_TEST

/* A vCPU that is told to wait for SIPI has the registers that INIT gives it. */
static bool taken_whole(const size_t *positions)
{
	struct vcpu_state state;
	struct err err = ERR_INIT;
	ck_assert_int_eq(vcpu_state_init(&state, &layout, &err), 0);
	fake_reset();
	fake.regs.rip = 0x1000;
	fake.init_pending = true;
	int r = positions ? vcpu_state_get_as(&state, &layout, FAKE_FD, positions, &err)
			  : vcpu_state_get(&state, &layout, FAKE_FD, &err);
	bool whole =
		r == 0 && state.mp_state.mp_state == KVM_MP_STATE_INIT_RECEIVED && state.regs.rip == NEW_RIP;
	vcpu_state_finish(&state);
	return whole;
}

/* After it another state can be put: KVM must not fill its vmcs12 from the VMCS of an L2 that is gone. */
START_TEST(leaving_while_l2_runs_leaves_nothing_behind)
{
	struct vcpu_state state;
	struct err err = ERR_INIT;
	fill(&state);
	fake_reset();
	ck_assert_int_eq(vcpu_state_put(&state, &layout, FAKE_FD, &err), 0);
	fake.l2 = true;
	state.nested->hdr.vmx.vmxon_pa = state.nested->hdr.vmx.vmcs12_pa = ~0ULL;
	ck_assert_msg(vcpu_state_leave_nested(&state, &layout, FAKE_FD, &err) == 0, "%s", err.text);
	ck_assert(!fake.l2 && !fake.rare_fields_away);
	vcpu_state_finish(&state);
}
END_TEST

START_TEST(mp_state_is_got_first)
{
	size_t count = row_count(vcpu_state_get_name), positions[ROWS_MAX];
	ck_assert_str_eq(vcpu_state_get_name(0), "mp-state");
	ck_assert(taken_whole(NULL));
	moved(count, 0, count - 1, positions);
	ck_assert(!taken_whole(positions));
}
END_TEST

TEST_MAIN("vcpu_order", the_order_of_the_table_arrives, each_part_put_at_a_wrong_place_is_seen,
	  leaving_while_l2_runs_leaves_nothing_behind, mp_state_is_got_first)
