/* qcow2: which clusters hold tables. A broken or hostile image may call them free, or a disk's data. */
#include "qcow2.h"

#include <errno.h>
#include <stdlib.h>

static size_t home(const struct qcow2_set *set, uint64_t cluster)
{
	return (size_t)((cluster * UINT64_C(0x9e3779b97f4a7c15)) >> 20) & (set->capacity - 1);
}

/* The slot of `cluster`, or the free one where it would be. */
static size_t find(const struct qcow2_set *set, uint64_t cluster)
{
	size_t at = home(set, cluster);
	while (set->slots[at] && set->slots[at] != cluster)
		at = (at + 1) & (set->capacity - 1);
	return at;
}

static int grow(struct qcow2_set *set)
{
	struct qcow2_set larger = {.capacity = set->capacity ? set->capacity * 2 : 64, .used = set->used};
	larger.slots = calloc(larger.capacity, sizeof(*larger.slots));
	if (!larger.slots)
		return -ENOMEM;
	for (size_t i = 0; i < set->capacity; i++) {
		if (set->slots[i])
			larger.slots[find(&larger, set->slots[i])] = set->slots[i];
	}
	free(set->slots);
	*set = larger;
	return 0;
}

int qcow2_set_add(struct qcow2_set *set, uint64_t cluster)
{
	if (!cluster)
		return -EEXIST;
	if (set->used >= set->capacity / 2 && grow(set) < 0)
		return -ENOMEM;
	size_t at = find(set, cluster);
	if (set->slots[at])
		return -EEXIST;
	set->slots[at] = cluster;
	set->used++;
	return 0;
}

void qcow2_set_remove(struct qcow2_set *set, uint64_t cluster)
{
	if (!qcow2_set_has(set, cluster))
		return;
	size_t mask = set->capacity - 1;
	size_t hole = find(set, cluster);
	set->used--;
	set->slots[hole] = 0;
	/* What stands behind the hole may have to be found through it. */
	for (size_t at = (hole + 1) & mask; set->slots[at]; at = (at + 1) & mask) {
		uint64_t moved = set->slots[at];
		set->slots[at] = 0;
		set->slots[find(set, moved)] = moved;
	}
}

bool qcow2_set_has(const struct qcow2_set *set, uint64_t cluster)
{
	return cluster && set->capacity && set->slots[find(set, cluster)] == cluster;
}

bool qcow2_is_metadata(const struct qcow2 *q, uint64_t cluster)
{
	return cluster == 0 || qcow2_set_has(&q->metadata, cluster);
}
