/*
 * Unknown MSRs. KVM asks for two reasons: UNKNOWN, it has never heard of the MSR; and, only when the operator
 * allows some, INVAL: it knows the MSR and would give #GP for this access. A guest that is refused VMX must
 * get its #GP, so INVAL is answered for the MSRs on the list alone.
 */
#include "msr_filter.h"

#include "base/log.h"
#include "host/kvm.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

void msr_filter_init(struct msr_filter *filter, const struct cpu_msr_config *config)
{
	memset(filter, 0, sizeof(*filter));
	filter->config = config;
	pthread_mutex_init(&filter->lock, NULL);
}

void msr_filter_finish(struct msr_filter *filter)
{
	pthread_mutex_destroy(&filter->lock);
}

int msr_filter_enable(const struct msr_filter *filter, int vm_fd, struct err *err)
{
	const struct cpu_msr_config *config = filter->config;
	if (kvm_capability(vm_fd, KVM_CAP_X86_USER_SPACE_MSR) <= 0) {
		if (config->unknown == MSR_UNKNOWN_FAULT && config->allow_count == 0)
			return 0; /* what KVM does by itself; it is only not counted */
		return err_set(
			err, -ENOSYS,
			"cpu.msr: this kernel cannot hand unknown MSRs to aerie (Linux 5.10 and later do)");
	}
	uint64_t reasons =
		KVM_MSR_EXIT_REASON_UNKNOWN | (config->allow_count ? KVM_MSR_EXIT_REASON_INVAL : 0);
	int r = kvm_enable(vm_fd, KVM_CAP_X86_USER_SPACE_MSR, reasons);
	return r < 0 ? err_sys(err, r, "KVM_CAP_X86_USER_SPACE_MSR") : 0;
}

static bool msr_allowed(const struct cpu_msr_config *config, uint32_t index)
{
	for (size_t i = 0; i < config->allow_count; i++)
		if (config->allow[i] == index)
			return true;
	return false;
}

/* Count it. Returns whether it was met for the first time, or is the first for which there is no room. */
static bool msr_count(struct msr_filter *filter, uint32_t index, bool write, bool *ret_full)
{
	bool first = false;
	size_t i = 0;
	pthread_mutex_lock(&filter->lock);
	while (i < filter->count && filter->seen[i].index != index)
		i++;
	*ret_full = i == MSR_SEEN_MAX;
	if (*ret_full) {
		first = filter->beyond++ == 0;
	} else {
		first = i == filter->count;
		if (first)
			filter->seen[filter->count++] = (struct msr_seen){.index = index};
		if (write)
			filter->seen[i].writes++;
		else
			filter->seen[i].reads++;
	}
	pthread_mutex_unlock(&filter->lock);
	return first;
}

/* Kernels try dozens of MSRs that no virtual machine has: that is said only to those who asked for it. */
static enum log_level level_of(enum msr_unknown policy)
{
	return policy == MSR_UNKNOWN_LOG ? LOG_WARN : LOG_DEBUG;
}

void msr_filter_access(struct msr_filter *filter, uint32_t vcpu, struct kvm_run *run)
{
	const struct cpu_msr_config *config = filter->config;
	uint32_t index = run->msr.index;
	bool write = run->exit_reason == KVM_EXIT_X86_WRMSR, full;
	bool known = run->msr.reason != KVM_MSR_EXIT_REASON_UNKNOWN;
	bool allowed = msr_allowed(config, index);
	bool fault = !allowed && (known || config->unknown == MSR_UNKNOWN_FAULT);
	uint64_t value = run->msr.data;

	run->msr.error = fault;
	if (!write)
		run->msr.data = 0;
	if (known && !allowed)
		return; /* a #GP as ever */
	if (!msr_count(filter, index, write, &full))
		return;
	if (full)
		log_line(level_of(config->unknown),
			 "more than %d unknown MSRs: from here on they are not told apart", MSR_SEEN_MAX);
	else if (write)
		log_line(level_of(config->unknown), "vCPU %u: unknown MSR %#x: write of %#" PRIx64 " %s",
			 vcpu, index, value, fault ? "faults" : "is ignored");
	else
		log_line(level_of(config->unknown), "vCPU %u: unknown MSR %#x: read %s", vcpu, index,
			 fault ? "faults" : "gives 0");
}

uint64_t msr_filter_count(struct msr_filter *filter)
{
	pthread_mutex_lock(&filter->lock);
	uint64_t sum = filter->beyond;
	for (size_t i = 0; i < filter->count; i++)
		sum += filter->seen[i].reads + filter->seen[i].writes;
	pthread_mutex_unlock(&filter->lock);
	return sum;
}

void msr_filter_log(struct msr_filter *filter)
{
	uint64_t reads = 0, writes = 0;
	pthread_mutex_lock(&filter->lock);
	for (size_t i = 0; i < filter->count; i++) {
		const struct msr_seen *seen = &filter->seen[i];
		reads += seen->reads;
		writes += seen->writes;
		log_debug("unknown MSR %#x: %" PRIu64 " reads, %" PRIu64 " writes", seen->index, seen->reads,
			  seen->writes);
	}
	if (filter->count)
		log_info("unknown MSRs: %zu of them, %" PRIu64 " reads, %" PRIu64 " writes; %" PRIu64
			 " accesses to others",
			 filter->count, reads, writes, filter->beyond);
	pthread_mutex_unlock(&filter->lock);
}
