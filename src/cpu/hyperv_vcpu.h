/* Hyper-V on a vCPU of KVM: what must be switched on, and what it asks of us. */
#ifndef AERIE_CPU_HYPERV_VCPU_H
#define AERIE_CPU_HYPERV_VCPU_H

#include "base/err.h"
#include "base/log.h"
#include "config/config.h"

#include <linux/kvm.h>

/* SynIC and enlightened VMCS (api.rst 6.80, 6.81), before KVM_SET_CPUID2: they change what it may say.
 * Nothing if `given` is not enabled. */
int hyperv_vcpu_setup(int vcpu_fd, const struct hyperv_config *given, struct err *err);

/* After KVM_SET_CPUID2: the guest may use what its CPUID shows, and nothing else (6.34). */
int hyperv_vcpu_enforce(int vcpu_fd, const struct hyperv_config *given, struct err *err);

/* KVM_EXIT_HYPERV: SynIC pages that moved, hypercalls that KVM does not do itself. */
void hyperv_vcpu_exit(struct kvm_run *run, struct log_limit *limit);

/* The guest says that it crashed (HV_X64_MSR_CRASH_CTL): a line with what it left in HV_X64_MSR_CRASH_P0 to
 * P4. */
void hyperv_vcpu_crash(int vcpu_fd, uint32_t vcpu, struct log_limit *limit);

#endif
