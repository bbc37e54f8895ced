#include "tsc.h"

#include "host/kvm.h"

#include <errno.h>

/* By so much KVM lets a guest's TSC be wrong without scaling it (its tsc_tolerance_ppm). */
enum { TSC_TOLERANCE_PPM = 250 };

int tsc_check(uint32_t khz, uint32_t host_khz, bool can_scale, struct err *err)
{
	uint32_t slack = (uint32_t)((uint64_t)host_khz * TSC_TOLERANCE_PPM / 1000000);
	if (can_scale)
		return 0;
	if (host_khz == 0)
		return err_set(
			err, -EOPNOTSUPP,
			"cpu.tsc_khz: %u: this host cannot scale the TSC and does not say how fast it is",
			khz);
	/* KVM would take a higher one and set the guest's TSC forward at each entry: not a clock to give
	 * away. */
	if (khz < host_khz - slack || khz > host_khz + slack)
		return err_set(
			err, -EOPNOTSUPP,
			"cpu.tsc_khz: %u: this host's TSC runs at %u kHz and cannot be scaled (%u to %u "
			"will do)",
			khz, host_khz, host_khz - slack, host_khz + slack);
	return 0;
}

int tsc_set(int vm_fd, int vcpu_fd, uint32_t khz, struct err *err)
{
	if (khz == 0)
		return 0;
	int host_khz = kvm_call_value(vcpu_fd, KVM_GET_TSC_KHZ, 0);
	bool can_scale = kvm_capability(vm_fd, KVM_CAP_TSC_CONTROL) > 0;
	int r = tsc_check(khz, host_khz > 0 ? (uint32_t)host_khz : 0, can_scale, err);
	if (r < 0)
		return r;
	r = kvm_call_value(vcpu_fd, KVM_SET_TSC_KHZ, khz);
	return r < 0 ? err_sys(err, r, "cpu.tsc_khz: %u: KVM_SET_TSC_KHZ", khz) : 0;
}
