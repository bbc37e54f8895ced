/* What this host's KVM offers, asked of KVM. */
#include "base/cleanup.h"
#include "cpu/features.h"
#include "host/kvm.h"
#include "vcpu_msrs.h"

#include <asm/prctl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

/* KVM_GET_SUPPORTED_HV_CPUID of /dev/kvm (api.rst 4.118; there since 5.11, shows the enlightened VMCS). */
static int host_hyperv(int kvm_fd, struct cpuid_table *ret, struct err *err)
{
	ret->count = 0;
	if (kvm_capability(kvm_fd, KVM_CAP_SYS_HYPERV_CPUID) <= 0)
		return 0;
	_cleanup_free_ struct kvm_cpuid2 *cpuid = calloc(1, sizeof(*cpuid) + sizeof(ret->entries));
	if (!cpuid)
		return err_sys(err, -ENOMEM, "CPUID");
	cpuid->nent = CPUID_ENTRIES_MAX;
	int r = kvm_call(kvm_fd, KVM_GET_SUPPORTED_HV_CPUID, cpuid);
	if (r < 0)
		return err_sys(err, r, "KVM_GET_SUPPORTED_HV_CPUID");
	ret->count = cpuid->nent;
	memcpy(ret->entries, cpuid->entries, cpuid->nent * sizeof(ret->entries[0]));
	return 0;
}

/* The feature MSRs and their values. One that the list names and that cannot be read is left out: KVM reads
 * some of them from a CPU that may lack them. */
static int host_msrs(int kvm_fd, struct cpu_host *ret, struct err *err)
{
	_cleanup_free_ struct kvm_msr_list *list =
		calloc(1, sizeof(*list) + CPU_HOST_MSRS_MAX * sizeof(list->indices[0]));
	_cleanup_free_ struct kvm_msrs *values =
		calloc(1, sizeof(*values) + CPU_HOST_MSRS_MAX * sizeof(values->entries[0]));

	if (!list || !values)
		return err_sys(err, -ENOMEM, "feature MSRs");
	ret->msr_count = 0;
	if (kvm_capability(kvm_fd, KVM_CAP_GET_MSR_FEATURES) <= 0)
		return 0;
	list->nmsrs = CPU_HOST_MSRS_MAX;
	int r = kvm_call(kvm_fd, KVM_GET_MSR_FEATURE_INDEX_LIST, list);
	if (r < 0)
		return err_sys(err, r, "KVM_GET_MSR_FEATURE_INDEX_LIST");
	for (uint32_t next = 0; next < list->nmsrs;) {
		uint32_t left = list->nmsrs - next;
		values->nmsrs = left;
		for (uint32_t i = 0; i < left; i++)
			values->entries[i] = (struct kvm_msr_entry){.index = list->indices[next + i]};
		r = kvm_call(kvm_fd, KVM_GET_MSRS, values);
		if (r < 0)
			return err_sys(err, r, "KVM_GET_MSRS on /dev/kvm");
		for (uint32_t i = 0; i < (uint32_t)r && i < left; i++)
			ret->msrs[ret->msr_count++] = (struct cpu_msr){.index = values->entries[i].index,
								       .value = values->entries[i].data};
		next += (uint32_t)r + 1; /* past the one at which KVM stopped */
	}
	return 0;
}

/*
 * AMX's tile data is offered only to a process that has asked for the permission to give it to guests (the
 * kernel's Documentation/arch/x86/xstate.rst), and asking counts only before the first vCPU. A host that
 * refuses offers no AMX, and says so in leaf 0xD.
 */
static void host_ask_for_tiles(int kvm_fd)
{
	enum { XFEATURE_XTILE_DATA = 18 };
	uint64_t xcr0 = 0;
	struct kvm_device_attr attr = {.attr = KVM_X86_XCOMP_GUEST_SUPP, .addr = (uintptr_t)&xcr0};
	if (kvm_capability(kvm_fd, KVM_CAP_SYS_ATTRIBUTES) > 0 &&
	    kvm_call(kvm_fd, KVM_GET_DEVICE_ATTR, &attr) == 0 && xcr0 >> XFEATURE_XTILE_DATA & 1)
		(void)syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_GUEST_PERM, XFEATURE_XTILE_DATA);
}

int cpu_host_read_quick(int kvm_fd, struct cpu_host *ret, struct err *err)
{
	struct utsname uts;
	memset(ret, 0, sizeof(*ret));
	if (uname(&uts) == 0)
		(void)snprintf(ret->kernel, sizeof(ret->kernel), "%.63s", uts.release);
	int nested = kvm_capability(kvm_fd, KVM_CAP_NESTED_STATE);
	ret->nested_state_bytes = nested > 0 ? (uint32_t)nested : 0;
	ret->tsc_deadline = kvm_capability(kvm_fd, KVM_CAP_TSC_DEADLINE_TIMER) > 0;
	ret->tsc_control = kvm_capability(kvm_fd, KVM_CAP_TSC_CONTROL) > 0;
	ret->enlightened_vmcs = kvm_capability(kvm_fd, KVM_CAP_HYPERV_ENLIGHTENED_VMCS) > 0;
	host_ask_for_tiles(kvm_fd);
	int r = cpuid_supported(kvm_fd, &ret->cpuid, err);
	if (r == 0)
		r = host_hyperv(kvm_fd, &ret->hyperv, err);
	return r < 0 ? r : host_msrs(kvm_fd, ret, err);
}

/* The rate of a new vCPU's TSC; KVM answers on a vCPU only (a VM can since 5.19). */
static int host_tsc_khz(int kvm_fd, uint32_t *ret, struct err *err)
{
	_cleanup_close_ int vm = kvm_call_value(kvm_fd, KVM_CREATE_VM, 0);
	if (vm < 0)
		return err_sys(err, vm, "KVM_CREATE_VM");
	_cleanup_close_ int vcpu = kvm_call_value(vm, KVM_CREATE_VCPU, 0);
	if (vcpu < 0)
		return err_sys(err, vcpu, "KVM_CREATE_VCPU");
	int khz = kvm_call_value(vcpu, KVM_GET_TSC_KHZ, 0);
	*ret = khz > 0 ? (uint32_t)khz : 0; /* -EIO: the host's TSC is not stable */
	return 0;
}

int cpu_host_read(int kvm_fd, struct cpu_host *ret, struct err *err)
{
	int r = cpu_host_read_quick(kvm_fd, ret, err);
	return r < 0 ? r : host_tsc_khz(kvm_fd, &ret->tsc_khz, err);
}
