/* The ordered table of vCPU parts; see vcpu_state.h and, for MSRs, vcpu_msrs.c. */
#include "vcpu_state.h"

#include "base/bytes.h"
#include "base/cleanup.h"
#include "host/kvm.h"
#include "nested_layout.h"
#include "vcpu_msrs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct vcpu_part {
	const char *name;
	int (*get)(struct vcpu_state *state, const struct vcpu_layout *layout, int fd, struct err *err);
	int (*put)(struct vcpu_state *state, const struct vcpu_layout *layout, int fd, struct err *err);
	const char *why;
};

/* A part that is one struct and two ioctls. */
#define SIMPLE_PART(part, GET, SET)                                                                          \
	static int get_##part(struct vcpu_state *state, const struct vcpu_layout *layout, int fd,            \
			      struct err *err)                                                               \
	{                                                                                                    \
		(void)layout;                                                                                \
		int r = kvm_call(fd, GET, &state->part);                                                     \
		return r < 0 ? err_sys(err, r, #GET) : 0;                                                    \
	}                                                                                                    \
	static int put_##part(struct vcpu_state *state, const struct vcpu_layout *layout, int fd,            \
			      struct err *err)                                                               \
	{                                                                                                    \
		(void)layout;                                                                                \
		int r = kvm_call(fd, SET, &state->part);                                                     \
		return r < 0 ? err_sys(err, r, #SET) : 0;                                                    \
	}

SIMPLE_PART(mp_state, KVM_GET_MP_STATE, KVM_SET_MP_STATE)
SIMPLE_PART(regs, KVM_GET_REGS, KVM_SET_REGS)
SIMPLE_PART(sregs, KVM_GET_SREGS2, KVM_SET_SREGS2)
SIMPLE_PART(debugregs, KVM_GET_DEBUGREGS, KVM_SET_DEBUGREGS)
SIMPLE_PART(lapic, KVM_GET_LAPIC, KVM_SET_LAPIC)
SIMPLE_PART(events, KVM_GET_VCPU_EVENTS, KVM_SET_VCPU_EVENTS)

static int get_xcrs(struct vcpu_state *state, const struct vcpu_layout *layout, int fd, struct err *err)
{
	int r = layout->has_xcrs ? kvm_call(fd, KVM_GET_XCRS, &state->xcrs) : 0;
	return r < 0 ? err_sys(err, r, "KVM_GET_XCRS") : 0;
}

static int put_xcrs(struct vcpu_state *state, const struct vcpu_layout *layout, int fd, struct err *err)
{
	int r = layout->has_xcrs ? kvm_call(fd, KVM_SET_XCRS, &state->xcrs) : 0;
	return r < 0 ? err_sys(err, r, "KVM_SET_XCRS") : 0;
}

static int get_xsave(struct vcpu_state *state, const struct vcpu_layout *layout, int fd, struct err *err)
{
	int r = kvm_call(fd, layout->has_xsave2 ? KVM_GET_XSAVE2 : KVM_GET_XSAVE, state->xsave);
	return r < 0 ? err_sys(err, r, "KVM_GET_XSAVE") : 0;
}

static int put_xsave(struct vcpu_state *state, const struct vcpu_layout *layout, int fd, struct err *err)
{
	(void)layout;
	int r = kvm_call(fd, KVM_SET_XSAVE, state->xsave);
	return r < 0 ? err_sys(err, r, "KVM_SET_XSAVE") : 0;
}

/*
 * Where VMX operation alone was put for an L1 with an enlightened VMCS (vcpu_evmcs.c), KVM's vmcs12 has no
 * revision before L1 launches a new L2. KVM would not take that back.
 */
static void complete_vmcs12(struct kvm_nested_state *nested)
{
	uint8_t *vmcs12 = nested->data.vmx[0].vmcs12;
	if (nested->format == KVM_STATE_NESTED_FORMAT_VMX && nested->flags & KVM_STATE_NESTED_EVMCS &&
	    nested->size >= sizeof(*nested) + NESTED_REGION_BYTES && load_le32(vmcs12) == 0)
		store_le32(vmcs12, VMCS12_REVISION);
}

static int get_nested(struct vcpu_state *state, const struct vcpu_layout *layout, int fd, struct err *err)
{
	if (!layout->nested_bytes)
		return 0;
	if (state->nested_put) {
		memcpy(state->nested, state->nested_put, layout->nested_bytes);
		return 0;
	}
	memset(state->nested, 0, layout->nested_bytes);
	state->nested->size = layout->nested_bytes; /* in: room; out: what was needed */
	int r = kvm_call(fd, KVM_GET_NESTED_STATE, state->nested);
	if (r < 0)
		return err_sys(err, r, "KVM_GET_NESTED_STATE");
	complete_vmcs12(state->nested);
	return 0;
}

static int put_nested(struct vcpu_state *state, const struct vcpu_layout *layout, int fd, struct err *err)
{
	if (!layout->nested_bytes)
		return 0;
	int r = kvm_call(fd, KVM_SET_NESTED_STATE, state->nested);
	return r < 0 ? err_sys(err, r, "KVM_SET_NESTED_STATE") : 0;
}

static int get_msrs(struct vcpu_state *state, const struct vcpu_layout *layout, int fd, struct err *err)
{
	return vcpu_msrs_get(layout->msrs, layout->msr_count, state->msrs, fd, err);
}

/* The MSRs of the list that belong to one class stand together: see vcpu_msrs_sort. */
static int put_msr_class(struct vcpu_state *state, const struct vcpu_layout *layout, int fd,
			 enum msr_class class, struct err *err)
{
	uint32_t first = 0, end;
	while (first < layout->msr_count && vcpu_msr_class(layout->msrs[first]) != class)
		first++;
	for (end = first; end < layout->msr_count && vcpu_msr_class(layout->msrs[end]) == class;)
		end++;
	return vcpu_msrs_put(state->msrs + first, end - first, fd, err);
}

static int put_msr_capabilities(struct vcpu_state *state, const struct vcpu_layout *layout, int fd,
				struct err *err)
{
	return put_msr_class(state, layout, fd, MSR_CLASS_CAPABILITY, err);
}

static int put_msr_feature_control(struct vcpu_state *state, const struct vcpu_layout *layout, int fd,
				   struct err *err)
{
	return put_msr_class(state, layout, fd, MSR_CLASS_FEATURE_CONTROL, err);
}

static int put_msrs(struct vcpu_state *state, const struct vcpu_layout *layout, int fd, struct err *err)
{
	return put_msr_class(state, layout, fd, MSR_CLASS_REST, err);
}

enum part {
	PART_MP_STATE,
	PART_REGS,
	PART_SREGS,
	PART_XSAVE,
	PART_XCRS,
	PART_DEBUGREGS,
	PART_LAPIC,
	PART_NESTED,
	PART_MSRS,
	PART_MSR_CAPABILITIES,
	PART_MSR_FEATURE_CONTROL,
	PART_EVENTS,
};

static const struct vcpu_part parts[] = {
	[PART_MP_STATE] =
		{"mp-state", get_mp_state, put_mp_state,
		 "get first: KVM may take a pending INIT or SIPI while it answers, and change all else"},
	[PART_REGS] = {"regs", get_regs, put_regs,
		       "put before events: KVM_SET_REGS drops a pending exception"},
	[PART_SREGS] =
		{"sregs", get_sregs, put_sregs,
		 "put before the LAPIC, which needs the APIC base, and before nested, which needs EFER.SVME"},
	[PART_XSAVE] = {"xsave", get_xsave, put_xsave,
			"put after xcrs: XCR0 says which components are valid"},
	[PART_XCRS] = {"xcrs", get_xcrs, put_xcrs, "put before xsave: XCR0 says which components are valid"},
	[PART_DEBUGREGS] = {"debugregs", get_debugregs, put_debugregs,
			    "put before nested: the registers loaded are L2's while it runs"},
	[PART_LAPIC] = {"lapic", get_lapic, put_lapic,
			"put after sregs (APIC base) and before the TSC-deadline MSR, which arms its timer"},
	[PART_NESTED] =
		{"nested", get_nested, put_nested,
		 "put last: checked against capability MSRs, SREGS and CPUID, and undone by SMM in "
		 "events; an enlightened VMCS is not asked for before it has entered (nested_evmcs.h)"},
	[PART_MSRS] = {"msrs", get_msrs, put_msrs,
		       "put after the LAPIC: TSC_DEADLINE, its last, arms a timer there"},
	[PART_MSR_CAPABILITIES] = {"msr-capabilities", NULL, put_msr_capabilities,
				   "put before nested: -EBUSY once the vCPU is in VMX operation"},
	[PART_MSR_FEATURE_CONTROL] = {"msr-feature-control", NULL, put_msr_feature_control,
				      "put before nested: without its VMX bit the vCPU leaves VMX operation"},
	[PART_EVENTS] =
		{"events", get_events, put_events,
		 "got last, it is cheap to change; put after regs and before nested: SMM ends nesting"},
};

static const enum part get_order[] = {PART_MP_STATE,  PART_REGS,  PART_SREGS,  PART_XSAVE, PART_XCRS,
				      PART_DEBUGREGS, PART_LAPIC, PART_NESTED, PART_MSRS,  PART_EVENTS};

static const enum part put_order[] = {PART_MSR_CAPABILITIES,
				      PART_MSR_FEATURE_CONTROL,
				      PART_SREGS,
				      PART_LAPIC,
				      PART_MSRS,
				      PART_XCRS,
				      PART_XSAVE,
				      PART_REGS,
				      PART_EVENTS,
				      PART_MP_STATE,
				      PART_DEBUGREGS,
				      PART_NESTED};

int vcpu_layout_init(struct vcpu_layout *layout, int kvm_fd, int vm_fd, int vcpu_fd, struct err *err)
{
	int xsave2 = kvm_capability(vm_fd, KVM_CAP_XSAVE2);
	int nested = kvm_capability(vm_fd, KVM_CAP_NESTED_STATE);

	layout->has_xsave2 = xsave2 > 0;
	layout->has_xcrs = kvm_capability(vm_fd, KVM_CAP_XCRS) > 0;
	layout->xsave_bytes =
		xsave2 > (int)sizeof(struct kvm_xsave) ? (size_t)xsave2 : sizeof(struct kvm_xsave);
	layout->nested_bytes = nested > (int)sizeof(struct kvm_nested_state) ? (uint32_t)nested : 0;
	return vcpu_msrs_list(kvm_fd, vcpu_fd, layout->msrs, VCPU_MSRS_MAX, &layout->msr_count, err);
}

int vcpu_state_init(struct vcpu_state *state, const struct vcpu_layout *layout, struct err *err)
{
	memset(state, 0, sizeof(*state));
	state->xsave = calloc(1, layout->xsave_bytes);
	state->msrs = calloc(layout->msr_count ? layout->msr_count : 1, sizeof(*state->msrs));
	if (layout->nested_bytes)
		state->nested = calloc(1, layout->nested_bytes);
	if (!state->xsave || !state->msrs || (layout->nested_bytes && !state->nested)) {
		vcpu_state_finish(state);
		return err_sys(err, -ENOMEM, "vCPU state");
	}
	return 0;
}

void vcpu_state_finish(struct vcpu_state *state)
{
	free(state->xsave);
	free(state->nested);
	free(state->msrs);
	memset(state, 0, sizeof(*state));
}

int vcpu_state_get(struct vcpu_state *state, const struct vcpu_layout *layout, int vcpu_fd, struct err *err)
{
	for (size_t i = 0; i < ARRAY_LEN(get_order); i++) {
		int r = parts[get_order[i]].get(state, layout, vcpu_fd, err);
		if (r < 0)
			return r;
	}
	return 0;
}

int vcpu_state_put(struct vcpu_state *state, const struct vcpu_layout *layout, int vcpu_fd, struct err *err)
{
	for (size_t i = 0; i < ARRAY_LEN(put_order); i++) {
		int r = parts[put_order[i]].put(state, layout, vcpu_fd, err);
		if (r < 0)
			return r;
	}
	return 0;
}

int vcpu_state_get_as(struct vcpu_state *state, const struct vcpu_layout *layout, int vcpu_fd,
		      const size_t *positions, struct err *err)
{
	int r = 0;
	for (size_t i = 0; r == 0 && i < ARRAY_LEN(get_order); i++)
		r = parts[get_order[positions[i]]].get(state, layout, vcpu_fd, err);
	return r;
}

int vcpu_state_put_as(struct vcpu_state *state, const struct vcpu_layout *layout, int vcpu_fd,
		      const size_t *positions, struct err *err)
{
	int r = 0;
	for (size_t i = 0; r == 0 && i < ARRAY_LEN(put_order); i++)
		r = parts[put_order[positions[i]]].put(state, layout, vcpu_fd, err);
	return r;
}

/*
 * KVM leaves L2's seldom used fields (segments, ...) in its own VMCS when L2 exits, and notes that vmcs12
 * lacks them. The note outlives VMX operation: a state put afterwards would have those fields overwritten
 * from an empty VMCS at L1's first VMREAD of one of them. Reading the state while L1 runs settles the note,
 * so L1 gets to run with that vmcs12 once more. An enlightened VMCS knows no such delay.
 */
static int settle_vmcs12(const struct vcpu_layout *layout, int fd, struct err *err)
{
	_cleanup_free_ struct kvm_nested_state *nested =
		calloc(1, layout->nested_bytes ? layout->nested_bytes : sizeof(*nested));
	struct vcpu_state state = {.nested = nested};
	if (!nested)
		return err_sys(err, -ENOMEM, "nested state");
	int r = get_nested(&state, layout, fd, err);
	if (r < 0 || !layout->nested_bytes || nested->format != KVM_STATE_NESTED_FORMAT_VMX ||
	    !(nested->flags & KVM_STATE_NESTED_GUEST_MODE) || nested->flags & KVM_STATE_NESTED_EVMCS ||
	    nested->hdr.vmx.smm.flags)
		return r;
	nested->flags = 0;
	r = put_nested(&state, layout, fd, err);
	return r < 0 ? r : get_nested(&state, layout, fd, err);
}

int vcpu_state_leave_nested(struct vcpu_state *power_on, const struct vcpu_layout *layout, int vcpu_fd,
			    struct err *err)
{
	int r = settle_vmcs12(layout, vcpu_fd, err);
	if (r < 0)
		return r;
	/* The state at power-on is the empty blob: no VMXON, no guest mode, GIF set. */
	return put_nested(power_on, layout, vcpu_fd, err);
}

const char *vcpu_state_get_name(size_t position)
{
	return position < ARRAY_LEN(get_order) ? parts[get_order[position]].name : NULL;
}

const char *vcpu_state_put_name(size_t position)
{
	return position < ARRAY_LEN(put_order) ? parts[put_order[position]].name : NULL;
}

const char *vcpu_state_why(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(parts); i++)
		if (strcmp(parts[i].name, name) == 0)
			return parts[i].why;
	return NULL;
}
