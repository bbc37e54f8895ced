#include "host/vm.h"

#include "base/cleanup.h"
#include "base/layout.h"
#include "host/kvm.h"

#include <errno.h>

/* A capability of the VM that is switched on where the kernel has it. */
struct vm_option {
	unsigned capability;
	uint64_t argument;
	const char *name;
};

static const struct vm_option options[] = {
	/* Without it, APIC ids above 254 cannot receive an interrupt. */
	{KVM_CAP_X2APIC_API, KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK,
	 "KVM_CAP_X2APIC_API"},
	/* Without these two, an exception of L2 that L1 intercepts is lost when state is saved at the wrong
	   moment. */
	{KVM_CAP_EXCEPTION_PAYLOAD, 1, "KVM_CAP_EXCEPTION_PAYLOAD"},
	{KVM_CAP_X86_TRIPLE_FAULT_EVENT, 1, "KVM_CAP_X86_TRIPLE_FAULT_EVENT"},
};

static int vm_check_cpus(int kvm_fd, uint32_t cpu_count, uint32_t max_apic_id, struct err *err)
{
	int max_cpus = kvm_capability(kvm_fd, KVM_CAP_MAX_VCPUS);
	int max_id = kvm_capability(kvm_fd, KVM_CAP_MAX_VCPU_ID);
	if (cpu_count > (uint32_t)max_cpus)
		return err_set(err, -EINVAL, "cpus.count: this host's KVM runs at most %d vCPUs, not %u",
			       max_cpus, cpu_count);
	if (max_id > 0 && max_apic_id >= (uint32_t)max_id)
		return err_set(err, -EINVAL,
			       "cpus: the topology needs APIC id %u, this host's KVM has ids below %d (use "
			       "powers of two)",
			       max_apic_id, max_id);
	return 0;
}

static int vm_prepare(int vm_fd, struct err *err)
{
	uint64_t identity_map = LAYOUT_KVM_IDENTITY_MAP_GPA;
	int r = kvm_call(vm_fd, KVM_SET_IDENTITY_MAP_ADDR, &identity_map);
	if (r < 0)
		return err_sys(err, r, "KVM_SET_IDENTITY_MAP_ADDR");
	r = kvm_call_value(vm_fd, KVM_SET_TSS_ADDR, LAYOUT_KVM_TSS_GPA);
	if (r < 0)
		return err_sys(err, r, "KVM_SET_TSS_ADDR");
	for (size_t i = 0; i < ARRAY_LEN(options); i++) {
		if (kvm_capability(vm_fd, options[i].capability) <= 0)
			continue;
		r = kvm_enable(vm_fd, options[i].capability, options[i].argument);
		if (r < 0)
			return err_sys(err, r, "%s", options[i].name);
	}
	return 0;
}

int vm_create(int kvm_fd, uint32_t cpu_count, uint32_t max_apic_id, struct err *err)
{
	int r = vm_check_cpus(kvm_fd, cpu_count, max_apic_id, err);
	if (r < 0)
		return r;
	r = kvm_call_value(kvm_fd, KVM_CREATE_VM, 0);
	if (r < 0)
		return err_sys(err, r, "KVM_CREATE_VM");
	_cleanup_close_ int vm_fd = r;
	r = vm_prepare(vm_fd, err);
	return r < 0 ? r : take_fd(&vm_fd);
}
