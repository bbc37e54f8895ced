#include "vcpu_msrs.h"

#include "base/cleanup.h"
#include "host/kvm.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct msr_range {
	uint32_t first, last;
	enum msr_class class;
	int rank; /* 0 unless the order inside REST matters */
};

/*
 * What is special about an MSR; all others are plain state. Hyper-V's have an order because each gives
 * meaning to the next: the guest's identity, then the hypercall page, the assist page, time, interrupts,
 * timers. The TSC precedes its deadline.
 */
static const struct msr_range ranges[] = {
	{0x10a, 0x10a, MSR_CLASS_CAPABILITY, 0}, /* ARCH_CAPABILITIES */
	{0x345, 0x345, MSR_CLASS_CAPABILITY, 0}, /* PERF_CAPABILITIES */
	{0x480, 0x493, MSR_CLASS_CAPABILITY, 0}, /* IA32_VMX_BASIC to IA32_VMX_EXIT_CTLS2 */
	{0x3a, 0x3a, MSR_CLASS_FEATURE_CONTROL, 0},
	{0x40000000, 0x40000000, MSR_CLASS_REST, 1},  /* Hyper-V GUEST_OS_ID */
	{0x40000001, 0x40000001, MSR_CLASS_REST, 2},  /* HYPERCALL */
	{0x40000073, 0x40000073, MSR_CLASS_REST, 3},  /* VP_ASSIST_PAGE */
	{0x40000021, 0x40000021, MSR_CLASS_REST, 4},  /* REFERENCE_TSC */
	{0x40000080, 0x4000009f, MSR_CLASS_REST, 5},  /* SynIC */
	{0x400000b0, 0x400000b7, MSR_CLASS_REST, 6},  /* STIMER */
	{0x10, 0x10, MSR_CLASS_REST, 7},	      /* TSC */
	{0x6e0, 0x6e0, MSR_CLASS_REST, 8},	      /* TSC_DEADLINE */
	{0x40000003, 0x40000003, MSR_CLASS_NEVER, 0}, /* Hyper-V RESET: an action */
	{0x40000020, 0x40000020, MSR_CLASS_NEVER, 0}, /* TIME_REF_COUNT, read only */
	{0x40000022, 0x40000023, MSR_CLASS_NEVER, 0}, /* TSC and APIC frequency, read only */
	{0x400000f0, 0x400000ff, MSR_CLASS_NEVER, 0}, /* synthetic debugger: aerie offers none */
};

/*
 * State that KVM keeps but does not name in its list: the MTRRs (SDM 3A, 12.11), without which a guest wakes
 * from a reset with the memory types that its kernel left; and most of Hyper-V's SynIC and timers, of which
 * the list has one MSR each.
 */
static const struct {
	uint32_t first, last;
} unlisted[] = {
	{0x200, 0x20f}, /* variable ranges: 8 pairs of base and mask */
	{0x250, 0x250},
	{0x258, 0x259},
	{0x268, 0x26f}, /* fixed ranges */
	{MSR_MTRR_DEF_TYPE, MSR_MTRR_DEF_TYPE},
	{0x40000082, 0x40000083}, /* SIEFP, SIMP; 0x84, EOM, is an action */
	{0x40000090, 0x4000009f}, /* SINT0 to SINT15 */
	{0x400000b0, 0x400000b7}, /* STIMER0 to STIMER3: config, count */
};

static const struct msr_range *msr_range_of(uint32_t index)
{
	static const struct msr_range plain = {.class = MSR_CLASS_REST};
	for (size_t i = 0; i < ARRAY_LEN(ranges); i++)
		if (index >= ranges[i].first && index <= ranges[i].last)
			return &ranges[i];
	return &plain;
}

enum msr_class vcpu_msr_class(uint32_t index)
{
	return msr_range_of(index)->class;
}

static int msr_compare(const void *left, const void *right)
{
	const uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
	const struct msr_range *ra = msr_range_of(a), *rb = msr_range_of(b);
	if (ra->class != rb->class)
		return ra->class < rb->class ? -1 : 1;
	if (ra->rank != rb->rank)
		return ra->rank < rb->rank ? -1 : 1;
	return a < b ? -1 : a > b;
}

void vcpu_msrs_sort(uint32_t *msrs, uint32_t count)
{
	qsort(msrs, count, sizeof(*msrs), msr_compare);
}

static bool msrs_contain(const uint32_t *msrs, uint32_t count, uint32_t index)
{
	for (uint32_t i = 0; i < count; i++)
		if (msrs[i] == index)
			return true;
	return false;
}

/* Append what KVM's list leaves out; a later kernel may list it. */
static uint32_t msrs_add_unlisted(uint32_t *msrs, uint32_t count, uint32_t max)
{
	for (size_t i = 0; i < ARRAY_LEN(unlisted); i++)
		for (uint32_t index = unlisted[i].first; index <= unlisted[i].last && count < max; index++)
			if (!msrs_contain(msrs, count, index))
				msrs[count++] = index;
	return count;
}

static struct kvm_msrs *msrs_alloc(uint32_t count)
{
	return calloc(1, sizeof(struct kvm_msrs) + count * sizeof(struct kvm_msr_entry));
}

/* KVM stops at the first MSR it cannot read: leave that one out and go on behind it. */
static int msrs_keep_readable(int vcpu_fd, uint32_t *msrs, uint32_t *count, struct err *err)
{
	_cleanup_free_ struct kvm_msrs *batch = msrs_alloc(*count);
	if (!batch)
		return err_sys(err, -ENOMEM, "MSR list");
	uint32_t kept = 0;
	for (uint32_t next = 0; next < *count;) {
		batch->nmsrs = *count - next;
		for (uint32_t i = 0; i < batch->nmsrs; i++)
			batch->entries[i].index = msrs[next + i];
		int done = kvm_call(vcpu_fd, KVM_GET_MSRS, batch);
		if (done < 0)
			return err_sys(err, done, "KVM_GET_MSRS");
		for (int i = 0; i < done; i++)
			msrs[kept++] = msrs[next++];
		if (next < *count)
			next++;
	}
	*count = kept;
	return 0;
}

static bool msr_is_unlisted(uint32_t index)
{
	for (size_t i = 0; i < ARRAY_LEN(unlisted); i++)
		if (index >= unlisted[i].first && index <= unlisted[i].last)
			return true;
	return false;
}

/*
 * Some that KVM does not list take no value while what they belong to is off: a masked SINT without SynIC,
 * though it reads as masked. Keep those that take back what they say.
 */
static int msrs_drop_unwritable(int vcpu_fd, uint32_t *msrs, uint32_t *count, struct err *err)
{
	_cleanup_free_ struct kvm_msrs *one = msrs_alloc(1);
	uint32_t kept = 0;
	if (!one)
		return err_sys(err, -ENOMEM, "MSR list");
	for (uint32_t i = 0; i < *count; i++) {
		int r = 1;
		if (msr_is_unlisted(msrs[i])) {
			one->nmsrs = 1;
			one->entries[0].index = msrs[i];
			r = kvm_call(vcpu_fd, KVM_GET_MSRS, one);
			r = r == 1 ? kvm_call(vcpu_fd, KVM_SET_MSRS, one) : r;
		}
		if (r < 0)
			return err_sys(err, r, "KVM_SET_MSRS");
		if (r == 1)
			msrs[kept++] = msrs[i];
	}
	*count = kept;
	return 0;
}

int vcpu_msrs_list(int kvm_fd, int vcpu_fd, uint32_t *ret, uint32_t max, uint32_t *ret_count, struct err *err)
{
	_cleanup_free_ struct kvm_msr_list *list = calloc(1, sizeof(*list) + max * sizeof(list->indices[0]));
	if (!list)
		return err_sys(err, -ENOMEM, "MSR list");
	list->nmsrs = max;
	int r = kvm_call(kvm_fd, KVM_GET_MSR_INDEX_LIST, list);
	if (r < 0)
		return err_sys(err, r, "KVM_GET_MSR_INDEX_LIST: %u MSRs, aerie knows room for %u",
			       list->nmsrs, max);
	uint32_t count = 0;
	for (uint32_t i = 0; i < list->nmsrs; i++)
		if (vcpu_msr_class(list->indices[i]) != MSR_CLASS_NEVER)
			ret[count++] = list->indices[i];
	count = msrs_add_unlisted(ret, count, max);
	vcpu_msrs_sort(ret, count);
	r = msrs_keep_readable(vcpu_fd, ret, &count, err);
	if (r == 0)
		r = msrs_drop_unwritable(vcpu_fd, ret, &count, err);
	*ret_count = count;
	return r;
}

int vcpu_msrs_get(const uint32_t *msrs, uint32_t count, struct kvm_msr_entry *ret, int vcpu_fd,
		  struct err *err)
{
	_cleanup_free_ struct kvm_msrs *batch = msrs_alloc(count);
	if (!batch)
		return err_sys(err, -ENOMEM, "KVM_GET_MSRS");
	batch->nmsrs = count;
	for (uint32_t i = 0; i < count; i++)
		batch->entries[i].index = msrs[i];
	int done = kvm_call(vcpu_fd, KVM_GET_MSRS, batch);
	if (done < 0)
		return err_sys(err, done, "KVM_GET_MSRS");
	if ((uint32_t)done < count)
		return err_set(err, -EIO, "KVM_GET_MSRS: MSR %#x cannot be read", msrs[done]);
	memcpy(ret, batch->entries, count * sizeof(*ret));
	return 0;
}

int vcpu_msrs_put(const struct kvm_msr_entry *entries, uint32_t count, int vcpu_fd, struct err *err)
{
	_cleanup_free_ struct kvm_msrs *batch = msrs_alloc(count);
	if (!batch)
		return err_sys(err, -ENOMEM, "KVM_SET_MSRS");
	batch->nmsrs = count;
	memcpy(batch->entries, entries, count * sizeof(*entries));
	int done = kvm_call(vcpu_fd, KVM_SET_MSRS, batch);
	if (done < 0)
		return err_sys(err, done, "KVM_SET_MSRS");
	if ((uint32_t)done < count)
		return err_set(err, -EIO, "KVM_SET_MSRS: MSR %#x does not take %#" PRIx64,
			       entries[done].index, (uint64_t)entries[done].data);
	return 0;
}
