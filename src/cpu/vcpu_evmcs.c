/*
 * The first entry of a vCPU whose L1 keeps an enlightened VMCS; nested_evmcs.h says what is wrong with an
 * ordinary one.
 *
 * KVM re-reads a whole enlightened VMCS, marked clean or not, when VMRESUME finds one at another address than
 * it has mapped. So it gets to map the right page under a wrong address: one whose lowest bit differs, for
 * the page is what counts. An entry with a signal pending maps it, copies vmcs12 and executes nothing; then
 * the address is put right, and L1's next VMRESUME finds a new one. Until then L1 finds all as it should be,
 * even its VMREADs, which the specification rules out and some of Windows use.
 *
 * Where L1 has named another VMCS already, or none, KVM had copied all into the first: L1 had run since. Then
 * VMX operation without any VMCS is what fits.
 */
#include "base/bytes.h"
#include "host/kvm.h"
#include "nested_evmcs.h"
#include "vcpu.h"
#include "vcpu_msrs.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>

enum { KERNEL_SIGSET_BYTES = 8 };

/* KVM_RUN blocks the signals of `mask` and no others; NULL: those that the thread blocks. */
static int set_run_mask(const struct vcpu *vcpu, const sigset_t *mask)
{
	struct {
		uint32_t len;
		uint8_t set[KERNEL_SIGSET_BYTES];
	} run = {.len = KERNEL_SIGSET_BYTES};
	_Static_assert(sizeof(run) == sizeof(struct kvm_signal_mask) + KERNEL_SIGSET_BYTES, "api.rst 4.14");
	if (mask)
		memcpy(run.set, mask, sizeof(run.set));
	return kvm_call(vcpu->fd, KVM_SET_SIGNAL_MASK, mask ? &run : NULL);
}

/*
 * All that KVM does before an entry, without the entry. 0; -EINTR: somebody wants the vCPU parked, and KVM
 * perhaps did nothing; -EIO: KVM did not get as far as the signal.
 */
static int enter_nothing(struct vcpu *vcpu)
{
	const struct timespec at_once = {0};
	sigset_t kick, before;
	sigemptyset(&kick);
	sigaddset(&kick, vcpu_kick_signal());
	(void)pthread_sigmask(SIG_BLOCK, &kick, &before);
	int r = set_run_mask(vcpu, &before);
	if (r == 0) {
		/* Fails where the user's signals are at their limit: L1 would run. */
		r = -pthread_kill(pthread_self(), vcpu_kick_signal());
		if (r == 0 && (ioctl(vcpu->fd, KVM_RUN, 0) >= 0 || errno != EINTR))
			r = -EIO;
		/* A kick of others may go with ours: before it came immediate_exit, which stays. */
		while (sigtimedwait(&kick, NULL, &at_once) >= 0 || errno == EINTR)
			;
		(void)set_run_mask(vcpu, NULL);
	}
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	return r == 0 && __atomic_load_n(&vcpu->run->immediate_exit, __ATOMIC_SEQ_CST) ? -EINTR : r;
}

/* Did KVM take an interrupt or exception in hand, to deliver it with the entry that we kept it from? Or enter
 * SMM, where nothing would wake the vCPU again? */
static bool was_woken(const struct vcpu *vcpu)
{
	struct kvm_vcpu_events events;
	return kvm_call(vcpu->fd, KVM_GET_VCPU_EVENTS, &events) < 0 || events.interrupt.injected ||
	       events.nmi.injected || events.exception.injected || events.exception.pending || events.smi.smm;
}

/* A halted vCPU does not enter before something wakes it. */
static int enter_nothing_halted(struct vcpu *vcpu)
{
	struct kvm_mp_state halted = {0}, runnable = {.mp_state = KVM_MP_STATE_RUNNABLE};
	int r = kvm_call(vcpu->fd, KVM_GET_MP_STATE, &halted);
	if (r < 0 || halted.mp_state != KVM_MP_STATE_HALTED)
		return r < 0 ? r : enter_nothing(vcpu);
	r = kvm_call(vcpu->fd, KVM_SET_MP_STATE, &runnable);
	if (r < 0)
		return r;
	r = enter_nothing(vcpu);
	int back = was_woken(vcpu) ? 0 : kvm_call(vcpu->fd, KVM_SET_MP_STATE, &halted);
	return r < 0 ? r : back;
}

static int enter_renamed(struct vcpu *vcpu, uint8_t *pointer)
{
	uint64_t gpa = load_le64(pointer);
	store_le64(pointer, gpa ^ 1);
	int r = enter_nothing_halted(vcpu);
	store_le64(pointer, gpa);
	/* A migration may have read the other one meanwhile. */
	guest_memory_mark(vcpu->all->memory, pointer, sizeof(gpa));
	return r;
}

static int put_without_vmcs(const struct vcpu *vcpu)
{
	struct kvm_nested_state alone;
	memcpy(&alone, vcpu->evmcs.put, sizeof(alone));
	alone.flags = 0;
	alone.size = sizeof(alone);
	alone.hdr.vmx.vmcs12_pa = UINT64_MAX;
	return kvm_call(vcpu->fd, KVM_SET_NESTED_STATE, &alone);
}

/*
 * For a KVM that does not take such an address: it maps the page and copies vmcs12 under the right one, and
 * is made to forget both. L1's VMREADs fail then until it has entered L2 again.
 */
static int enter_and_forget(struct vcpu *vcpu)
{
	int r = kvm_call(vcpu->fd, KVM_SET_NESTED_STATE, vcpu->evmcs.put);
	if (r == 0)
		r = enter_nothing_halted(vcpu);
	return r < 0 || vcpu->evmcs.put->hdr.vmx.smm.flags ? r : put_without_vmcs(vcpu);
}

/* 0, which names no page, for a vCPU without this MSR. */
static uint64_t assist_page(const struct vcpu *vcpu)
{
	static const uint32_t index = MSR_HV_VP_ASSIST_PAGE;
	struct kvm_msr_entry msr = {0};
	struct err err = ERR_INIT;
	return vcpu_msrs_get(&index, 1, &msr, vcpu->fd, &err) < 0 ? 0 : msr.data;
}

static int enter(struct vcpu *vcpu)
{
	struct kvm_regs regs;
	uint8_t *pointer;
	int r = kvm_call(vcpu->fd, KVM_GET_REGS, &regs);
	if (r < 0)
		return r;
	if (!nested_evmcs_is_named(&vcpu->evmcs, vcpu->all->memory, assist_page(vcpu), &regs, &pointer))
		/* In SMM KVM would forget that L1 was in VMX operation. */
		return vcpu->evmcs.put->hdr.vmx.smm.flags ? 0 : put_without_vmcs(vcpu);
	r = enter_renamed(vcpu, pointer);
	return r == -EIO ? enter_and_forget(vcpu) : r;
}

int vcpu_enter_evmcs(struct vcpu *vcpu)
{
	if (!vcpu->evmcs.put)
		return 0;
	int r = enter(vcpu);
	if (r == -EINTR)
		return r;
	if (r < 0) {
		log_warn("vCPU %u: KVM does not map the enlightened VMCS before L1 runs (%s): L2 fails if L1 "
			 "had just left it",
			 vcpu->index, strerror(-r));
		r = kvm_call(vcpu->fd, KVM_SET_NESTED_STATE, vcpu->evmcs.put);
	}
	nested_evmcs_forget(&vcpu->evmcs);
	return r;
}

void vcpu_mark_evmcs(const struct vcpu *vcpu, const struct kvm_nested_state *state)
{
	if (nested_evmcs_is_l1s(state, vcpu->all->layout.nested_bytes))
		nested_evmcs_mark(vcpu->all->memory, assist_page(vcpu));
}
