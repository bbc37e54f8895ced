#include "nested_kept.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static bool must_not_be_asked_for(const struct kvm_nested_state *put)
{
	return put && put->format == KVM_STATE_NESTED_FORMAT_VMX && put->flags & KVM_STATE_NESTED_EVMCS &&
	       !(put->flags & KVM_STATE_NESTED_GUEST_MODE);
}

static bool read_exits(struct kvm_stats *stats, uint64_t *ret)
{
	const struct kvm_stat *stat = stats ? kvm_stats_find(stats, "exits") : NULL;
	const uint64_t *values = stat && stat->count == 1 ? kvm_stats_read(stats) : NULL;
	if (values)
		*ret = values[stat->first];
	return values;
}

int nested_kept_set(struct nested_kept *kept, const struct kvm_nested_state *put, size_t bytes,
		    struct kvm_stats *stats)
{
	nested_kept_drop(kept);
	if (!must_not_be_asked_for(put) || !read_exits(stats, &kept->exits))
		return 0;
	kept->nested = malloc(bytes);
	if (!kept->nested)
		return -ENOMEM;
	memcpy(kept->nested, put, bytes);
	return 0;
}

const struct kvm_nested_state *nested_kept_get(const struct nested_kept *kept, struct kvm_stats *stats)
{
	uint64_t exits;
	return kept->nested && read_exits(stats, &exits) && exits == kept->exits ? kept->nested : NULL;
}

void nested_kept_drop(struct nested_kept *kept)
{
	free(kept->nested);
	kept->nested = NULL;
}
