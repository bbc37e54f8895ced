/*
 * KVM's own figures about a VM or a vCPU: exits, nested runs, whether a vCPU is in guest mode, page faults.
 *
 * KVM hands out a file (api.rst 4.131, KVM_GET_STATS_FD) that describes itself: which figures there are
 * differs from kernel to kernel, so nobody here knows their names. The description is read once, the values
 * as often as wanted; reading needs no stopped vCPU and costs one system call.
 */
#ifndef AERIE_HOST_STATS_H
#define AERIE_HOST_STATS_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

enum kvm_stat_kind {
	KVM_STAT_CUMULATIVE, /* only grows */
	KVM_STAT_INSTANT,    /* may go up and down */
	KVM_STAT_PEAK,
	KVM_STAT_LINEAR_HISTOGRAM, /* value i counts [i * bucket_size, (i + 1) * bucket_size) */
	KVM_STAT_LOG_HISTOGRAM,	   /* value i > 0 counts [2^(i - 1), 2^i), value 0 counts 0 */
};

enum kvm_stat_unit {
	KVM_STAT_NONE,
	KVM_STAT_BYTES,
	KVM_STAT_SECONDS,
	KVM_STAT_CYCLES,
	KVM_STAT_BOOLEAN,
};

struct kvm_stat {
	const char *name; /* KVM's: "exits", "nested_run", "guest_mode"; letters, digits and '_' only */
	enum kvm_stat_kind kind;
	enum kvm_stat_unit unit;
	uint8_t base; /* the unit is to be multiplied by base (10 or 2) to the power of exponent */
	int16_t exponent;
	uint32_t bucket_size;
	uint32_t first; /* its values are [first] to [first + count - 1] of kvm_stats_read */
	uint32_t count; /* 1 but for histograms */
};

struct kvm_stats;

/* `fd`: a VM's or a vCPU's, borrowed and not kept. -ENOSYS on kernels before 5.14; -EPROTO when the file does
 * not describe itself properly. */
int kvm_stats_open(int fd, struct kvm_stats **ret, struct err *err);
/* From the file itself, which is owned from here on, also when this fails. */
int kvm_stats_open_file(int file, struct kvm_stats **ret, struct err *err);
void kvm_stats_close(struct kvm_stats *stats); /* NULL is fine; before its VM or vCPU is closed */

size_t kvm_stats_count(const struct kvm_stats *stats);
const struct kvm_stat *kvm_stats_at(const struct kvm_stats *stats, size_t index); /* NULL past the end */
const struct kvm_stat *kvm_stats_find(const struct kvm_stats *stats, const char *name); /* or NULL */

/* All values as they are now; borrowed until the next read. NULL with errno set when the file cannot be read.
 */
const uint64_t *kvm_stats_read(struct kvm_stats *stats);

#endif
