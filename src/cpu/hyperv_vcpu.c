#include "hyperv_vcpu.h"

#include "host/kvm.h"
#include "vcpu_msrs.h"

#include <errno.h>
#include <inttypes.h>

/* Results of hypercalls (TLFS 4.8), and where the call's code stands in its input. */
#define HV_STATUS_INVALID_HYPERCALL_CODE 0x0002
#define HV_STATUS_INVALID_CONNECTION_ID	 0x0012
#define HYPERCALL_CODE_MASK		 0xffff
#define HYPERCALL_POST_MESSAGE		 0x005c
#define HYPERCALL_SIGNAL_EVENT		 0x005d

#define MSR_HV_CRASH_P0 0x40000100

int hyperv_vcpu_setup(int vcpu_fd, const struct hyperv_config *given, struct err *err)
{
	uint16_t versions = 0; /* KVM writes here which ones it has; CPUID says the same */
	int r = 0;
	if (!given->enabled)
		return 0;
	if (given->synic)
		r = kvm_enable(vcpu_fd, KVM_CAP_HYPERV_SYNIC2, 0);
	if (r < 0)
		return err_sys(err, r, "KVM_CAP_HYPERV_SYNIC2");
	if (given->evmcs)
		r = kvm_enable(vcpu_fd, KVM_CAP_HYPERV_ENLIGHTENED_VMCS, (uintptr_t)&versions);
	return r < 0 ? err_sys(err, r, "KVM_CAP_HYPERV_ENLIGHTENED_VMCS") : 0;
}

int hyperv_vcpu_enforce(int vcpu_fd, const struct hyperv_config *given, struct err *err)
{
	if (!given->enabled)
		return 0;
	/* -EINVAL before Linux 5.14: there a guest may use all that KVM has, whatever CPUID says. */
	int r = kvm_enable(vcpu_fd, KVM_CAP_HYPERV_ENFORCE_CPUID, 1);
	return r < 0 && r != -EINVAL ? err_sys(err, r, "KVM_CAP_HYPERV_ENFORCE_CPUID") : 0;
}

void hyperv_vcpu_exit(struct kvm_run *run, struct log_limit *limit)
{
	struct kvm_hyperv_exit *exit = &run->hyperv;
	uint64_t code = exit->u.hcall.input & HYPERCALL_CODE_MASK;
	switch (exit->type) {
	case KVM_EXIT_HYPERV_SYNIC:
		/* The pages are plain guest memory, and KVM finds them by the MSRs: nothing to do. */
		break;
	case KVM_EXIT_HYPERV_HCALL:
		/* Messages and events to a connection: aerie has none. */
		exit->u.hcall.result = code == HYPERCALL_POST_MESSAGE || code == HYPERCALL_SIGNAL_EVENT
					       ? HV_STATUS_INVALID_CONNECTION_ID
					       : HV_STATUS_INVALID_HYPERCALL_CODE;
		log_guest(limit, "Hyper-V hypercall %#" PRIx64 " has no receiver", code);
		break;
	default:
		log_guest(limit, "Hyper-V exit of type %u", exit->type);
		break;
	}
}

void hyperv_vcpu_crash(int vcpu_fd, uint32_t vcpu, struct log_limit *limit)
{
	static const uint32_t msrs[5] = {MSR_HV_CRASH_P0, MSR_HV_CRASH_P0 + 1, MSR_HV_CRASH_P0 + 2,
					 MSR_HV_CRASH_P0 + 3, MSR_HV_CRASH_P0 + 4};
	struct kvm_msr_entry p[5];
	struct err err = ERR_INIT;
	if (vcpu_msrs_get(msrs, 5, p, vcpu_fd, &err) < 0)
		log_guest(limit, "vCPU %u: the guest says that it crashed", vcpu);
	else
		log_guest(limit,
			  "vCPU %u: the guest says that it crashed: %#" PRIx64 " %#" PRIx64 " %#" PRIx64
			  " %#" PRIx64 " %#" PRIx64,
			  vcpu, (uint64_t)p[0].data, (uint64_t)p[1].data, (uint64_t)p[2].data,
			  (uint64_t)p[3].data, (uint64_t)p[4].data);
}
