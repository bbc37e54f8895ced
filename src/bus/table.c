#include "table.h"

#include <string.h>

/* ---- writers ---- */

static void entry_store(struct bus_entry *entry, const struct bus_item *item, uint64_t reach)
{
	const struct bus_range *range = &item->range;
	atomic_store_explicit(&entry->base, range->base, memory_order_release);
	atomic_store_explicit(&entry->size, range->size, memory_order_release);
	atomic_store_explicit(&entry->reach, reach, memory_order_release);
	atomic_store_explicit(&entry->rank, item->rank, memory_order_release);
	atomic_store_explicit(&entry->min_access_bytes, range->ops->min_access_bytes, memory_order_release);
	atomic_store_explicit(&entry->max_access_bytes, range->ops->max_access_bytes, memory_order_release);
	atomic_store_explicit(&entry->ops, range->ops, memory_order_release);
	atomic_store_explicit(&entry->owner, range->owner, memory_order_release);
	atomic_store_explicit(&entry->mapping, item->mapping, memory_order_release);
}

static void table_publish(struct bus_table *table)
{
	uint64_t version = atomic_load_explicit(&table->version, memory_order_relaxed) + 1;
	struct bus_view *view = &table->views[version & 1];
	uint64_t reach = 0;
	for (size_t i = 0; i < table->count; i++) {
		const struct bus_range *range = &table->items[i].range;
		uint64_t last = range->base + (range->size - 1);
		reach = last > reach ? last : reach;
		entry_store(&view->entries[i], &table->items[i], reach);
	}
	atomic_store_explicit(&view->count, table->count, memory_order_release);
	atomic_store_explicit(&table->version, version, memory_order_release);
}

void table_insert(struct bus_table *table, const struct bus_item *item)
{
	size_t at = table->count;
	for (; at > 0 && table->items[at - 1].range.base > item->range.base; at--)
		table->items[at] = table->items[at - 1];
	table->items[at] = *item;
	table->count++;
	table_publish(table);
}

void table_remove(struct bus_table *table, const struct bus_mapping *mapping)
{
	for (size_t i = 0; i < table->count; i++) {
		if (table->items[i].mapping != mapping)
			continue;
		table->count--;
		memmove(&table->items[i], &table->items[i + 1], (table->count - i) * sizeof(table->items[0]));
		table_publish(table);
		return;
	}
}

const struct bus_range *table_clash(const struct bus_table *table, const struct bus_range *range)
{
	for (size_t i = 0; i < table->count; i++) {
		const struct bus_range *other = &table->items[i].range;
		bool apart = other->base + (other->size - 1) < range->base ||
			     range->base + (range->size - 1) < other->base;
		bool sizes_apart = other->ops->max_access_bytes < range->ops->min_access_bytes ||
				   range->ops->max_access_bytes < other->ops->min_access_bytes;
		if (!table->items[i].mapping && !apart && !sizes_apart)
			return other;
	}
	return NULL;
}

/* ---- readers ---- */

/* The number of entries whose base is at most `address`. */
static size_t view_rank(const struct bus_view *view, size_t count, uint64_t address)
{
	size_t low = 0, high = count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (atomic_load_explicit(&view->entries[middle].base, memory_order_acquire) <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* The largest power of two that is at most each of the three, and at least 1. */
static unsigned piece_of(uint64_t room, uint32_t limit, unsigned left)
{
	if (left < limit)
		limit = left;
	if (room < limit)
		limit = (uint32_t)room;
	unsigned piece = 1;
	while (piece * 2 <= limit)
		piece *= 2;
	return piece;
}

/* What nobody holds ends at the next entry at the latest. */
static unsigned gap_of(const struct bus_view *view, size_t count, size_t next, uint64_t address,
		       unsigned left)
{
	if (next >= count)
		return left;
	uint64_t gap = atomic_load_explicit(&view->entries[next].base, memory_order_acquire) - address;
	return gap < left ? (unsigned)gap : left;
}

/*
 * The entry of the highest rank that holds `address` and takes a piece of this size, or NULL with the bytes
 * to pass over. What a writer does meanwhile can spoil the answer, not the walk.
 */
static const struct bus_entry *view_find(const struct bus_view *view, uint64_t address, unsigned left,
					 unsigned *ret_piece)
{
	const struct bus_entry *best = NULL;
	uint64_t best_rank = 0;
	size_t count = atomic_load_explicit(&view->count, memory_order_acquire);
	size_t next = view_rank(view, count, address);
	*ret_piece = gap_of(view, count, next, address, left);
	for (size_t i = next; i > 0; i--) {
		const struct bus_entry *entry = &view->entries[i - 1];
		if (atomic_load_explicit(&entry->reach, memory_order_acquire) < address)
			break;
		uint64_t at = address - atomic_load_explicit(&entry->base, memory_order_acquire);
		uint64_t size = atomic_load_explicit(&entry->size, memory_order_acquire);
		uint64_t rank = atomic_load_explicit(&entry->rank, memory_order_acquire);
		if (at >= size || (best && rank < best_rank))
			continue;
		unsigned piece =
			piece_of(size - at,
				 atomic_load_explicit(&entry->max_access_bytes, memory_order_acquire), left);
		bool takes = piece >= atomic_load_explicit(&entry->min_access_bytes, memory_order_acquire);
		if (takes)
			best = entry, best_rank = rank;
		if (takes || !best)
			*ret_piece = takes ? piece : 1;
	}
	return best;
}

struct bus_hit table_find(struct bus_table *table, uint64_t address, unsigned left)
{
	for (;;) {
		uint64_t version = atomic_load_explicit(&table->version, memory_order_acquire);
		const struct bus_view *view = &table->views[version & 1];
		struct bus_hit hit = {0};
		const struct bus_entry *entry = view_find(view, address, left, &hit.piece);
		if (entry) {
			hit.ops = atomic_load_explicit(&entry->ops, memory_order_acquire);
			hit.owner = atomic_load_explicit(&entry->owner, memory_order_acquire);
			hit.mapping = atomic_load_explicit(&entry->mapping, memory_order_acquire);
			hit.offset = address - atomic_load_explicit(&entry->base, memory_order_acquire);
		}
		if (atomic_load_explicit(&table->version, memory_order_relaxed) == version)
			return hit;
	}
}
