/*
 * MSRs that KVM does not know, answered for this one VM (api.rst 7.21, KVM_CAP_X86_USER_SPACE_MSR).
 *
 * The host-wide parameter ignore_msrs would do it for every guest of the host, and says nothing of which.
 * Here each MSR is counted, and logged when it is met first.
 */
#ifndef AERIE_CPU_MSR_FILTER_H
#define AERIE_CPU_MSR_FILTER_H

#include "base/err.h"
#include "config/config.h"

#include <linux/kvm.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MSR_SEEN_MAX = 128 };

struct msr_seen {
	uint32_t index;
	uint64_t reads, writes;
};

/* Shared by all vCPUs. */
struct msr_filter {
	const struct cpu_msr_config *config; /* borrowed */
	pthread_mutex_t lock;		     /* guards the rest: vCPU threads come at any time */
	size_t count;
	struct msr_seen seen[MSR_SEEN_MAX];
	uint64_t beyond; /* accesses to MSRs for which there was no room */
};

void msr_filter_init(struct msr_filter *filter, const struct cpu_msr_config *config);
void msr_filter_finish(struct msr_filter *filter);

/* Have KVM ask us. Before the first vCPU. -ENOSYS when the kernel cannot (before 5.10) and the config needs
 * it. */
int msr_filter_enable(const struct msr_filter *filter, int vm_fd, struct err *err);

/* Answer KVM_EXIT_X86_RDMSR or _WRMSR: fills in data and error of run->msr. */
void msr_filter_access(struct msr_filter *filter, uint32_t vcpu, struct kvm_run *run);

/* All accesses that were counted. Any thread. */
uint64_t msr_filter_count(struct msr_filter *filter);

/* The counts: their sum at level info, a line for each MSR at debug. */
void msr_filter_log(struct msr_filter *filter);

#endif
