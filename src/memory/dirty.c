/*
 * Dirty pages: see include/memory/dirty.h.
 *
 * KVM's log is one for each slot and each fetch empties it, and so it is with the devices' marks: a harvest
 * by one tracker is noted for all. The log is on while there is a tracker, since it costs the guest a fault
 * for each page written.
 */
#include "base/cleanup.h"
#include "host/kvm.h"
#include "impl.h"

#include <errno.h>
#include <linux/membarrier.h>
#include <string.h>
#include <sys/syscall.h>

enum { WORD_PAGES = 64 };

/* How much of a slot is cleared at once: KVM holds its MMU lock meanwhile, and vCPUs wait for that. */
enum { CLEAR_PAGES = 1 << 18 };

struct dirty_tracker {
	struct guest_memory *memory;
	uint64_t pending[]; /* what other trackers' harvests have found */
};

size_t dirty_page_count(const struct guest_memory *memory)
{
	return (size_t)(memory->size / DIRTY_PAGE_BYTES);
}

size_t dirty_bitmap_words(const struct guest_memory *memory)
{
	return (dirty_page_count(memory) + WORD_PAGES - 1) / WORD_PAGES;
}

void *dirty_page(const struct guest_memory *memory, uint64_t page)
{
	return page < dirty_page_count(memory) ? memory->host + page * DIRTY_PAGE_BYTES : NULL;
}

void dirty_log_init(struct guest_memory *memory)
{
	pthread_mutex_init(&memory->dirty.lock, NULL);
}

void dirty_log_finish(struct guest_memory *memory)
{
	free((void *)memory->dirty.storage);
	free(memory->dirty.kvm_bits);
	pthread_mutex_destroy(&memory->dirty.lock);
}

/* ---- devices ---- */

void guest_memory_mark(const struct guest_memory *memory, const void *host, uint64_t len)
{
	/* What was written stays before this load for the compiler; for the CPU, marks_start sees to it. */
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	uint64_t *marks = atomic_load_explicit(&memory->dirty.marks, memory_order_acquire);
	uint64_t offset = (uintptr_t)host - (uintptr_t)memory->host; /* wraps to something huge below */
	if (!marks || len == 0 || offset >= memory->size || len > memory->size - offset)
		return;
	uint64_t last = (offset + len - 1) / DIRTY_PAGE_BYTES;
	for (uint64_t page = offset / DIRTY_PAGE_BYTES; page <= last; page++)
		(void)__atomic_fetch_or(&marks[page / WORD_PAGES], UINT64_C(1) << page % WORD_PAGES,
					__ATOMIC_RELEASE);
}

static int membarrier(int command)
{
	return syscall(SYS_membarrier, command, 0, 0) < 0 ? -errno : 0;
}

/*
 * A device's thread writes and then looks at `marks`; x86 may let the look overtake the write. Unless every
 * thread passes a barrier after `marks` was set, a write could be neither marked nor visible to who copies
 * RAM from now on.
 */
static int marks_start(struct guest_memory *memory)
{
	if (!memory->dirty.storage) {
		memory->dirty.storage = calloc(dirty_bitmap_words(memory), sizeof(uint64_t));
		if (!memory->dirty.storage)
			return -ENOMEM;
	}
	int r = membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED);
	if (r < 0)
		return r;
	atomic_store(&memory->dirty.marks, (uint64_t *)(void *)memory->dirty.storage);
	return membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED);
}

static void marks_stop(struct guest_memory *memory)
{
	atomic_store(&memory->dirty.marks, NULL);
}

/* ---- noting what was found ---- */

static void note(struct guest_memory *memory, size_t word, uint64_t bits)
{
	for (size_t i = 0; i < DIRTY_TRACKERS_MAX; i++)
		if (memory->dirty.trackers[i])
			memory->dirty.trackers[i]->pending[word] |= bits;
}

static void fetch_marks(struct guest_memory *memory)
{
	size_t words = dirty_bitmap_words(memory);
	for (size_t i = 0; i < words; i++)
		if (atomic_load_explicit(&memory->dirty.storage[i], memory_order_relaxed))
			note(memory, i, atomic_exchange(&memory->dirty.storage[i], 0));
}

/* ---- KVM ---- */

/*
 * KVM_CLEAR_DIRTY_LOG protects the pages of the set bits anew and forgets them, so a write after it is found
 * by the next harvest, and one before it is in what its caller then copies. Pages come in multiples of 64 but
 * for the slot's end (4.117).
 */
static int clear_slot(struct guest_memory *memory, uint32_t slot, uint64_t pages)
{
	for (uint64_t first = 0; first < pages; first += CLEAR_PAGES) {
		struct kvm_clear_dirty_log clear = {
			.slot = slot,
			.num_pages = (uint32_t)(pages - first < CLEAR_PAGES ? pages - first : CLEAR_PAGES),
			.first_page = first,
			.dirty_bitmap = memory->dirty.kvm_bits + first / WORD_PAGES,
		};
		int r = kvm_call(memory->vm_fd, KVM_CLEAR_DIRTY_LOG, &clear);
		if (r < 0)
			return r;
	}
	return 0;
}

static int fetch_slot(struct guest_memory *memory, uint32_t slot)
{
	const struct guest_region *region = &memory->regions[slot];
	uint64_t pages = region->size / DIRTY_PAGE_BYTES;
	struct kvm_dirty_log log = {.slot = slot, .dirty_bitmap = memory->dirty.kvm_bits};
	int r = kvm_call(memory->vm_fd, KVM_GET_DIRTY_LOG, &log);
	if (r < 0)
		return r;
	/* A region begins at a whole word: that above 4 GiB is 3 GiB into RAM. */
	size_t first_word = (size_t)((uint64_t)(region->host - memory->host) / DIRTY_PAGE_BYTES / WORD_PAGES);
	for (size_t i = 0; i < (pages + WORD_PAGES - 1) / WORD_PAGES; i++)
		if (memory->dirty.kvm_bits[i])
			note(memory, first_word + i, memory->dirty.kvm_bits[i]);
	return memory->dirty.manual ? clear_slot(memory, slot, pages) : 0;
}

static int fetch_kvm(struct guest_memory *memory)
{
	int r = 0;
	for (size_t i = 0; r == 0 && memory->vm_fd >= 0 && i < memory->region_count; i++)
		r = fetch_slot(memory, (uint32_t)i);
	return r;
}

/* An old KVM, or one that does not want to, clears with each fetch and is locked for longer. */
static void probe(struct guest_memory *memory)
{
	if (memory->dirty.probed || memory->vm_fd < 0)
		return;
	int offers = kvm_capability(memory->vm_fd, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2);
	memory->dirty.manual = (offers & KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE) &&
			       kvm_enable(memory->vm_fd, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
					  KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE) == 0;
	memory->dirty.probed = true;
}

static int set_logging(struct guest_memory *memory, bool on)
{
	int r = 0;
	for (size_t i = 0; r == 0 && i < memory->region_count; i++)
		r = memory_set_slot(memory, (uint32_t)i, &memory->regions[i],
				    on ? KVM_MEM_LOG_DIRTY_PAGES : 0);
	return r;
}

static int logging_start(struct guest_memory *memory)
{
	if (memory->vm_fd >= 0 && !memory->dirty.kvm_bits) {
		memory->dirty.kvm_bits = calloc(dirty_bitmap_words(memory), sizeof(uint64_t));
		if (!memory->dirty.kvm_bits)
			return -ENOMEM;
	}
	probe(memory);
	return set_logging(memory, true);
}

/* ---- trackers ---- */

static bool is_first(const struct dirty_log *log)
{
	for (size_t i = 0; i < DIRTY_TRACKERS_MAX; i++)
		if (log->trackers[i])
			return false;
	return true;
}

static void stop_if_last(struct guest_memory *memory)
{
	if (!is_first(&memory->dirty))
		return;
	marks_stop(memory);
	(void)set_logging(memory, false);
}

/* Under the lock, with the tracker not yet in the list: what is found from here on is its own. */
static int start(struct guest_memory *memory)
{
	if (!is_first(&memory->dirty)) {
		fetch_marks(memory); /* of the time before: for the others */
		return fetch_kvm(memory);
	}
	int r = logging_start(memory);
	if (r == 0)
		r = marks_start(memory);
	if (r == 0) {
		/* A late mark of the time before, when others tracked, may have come after they had gone. */
		fetch_marks(memory);
	} else {
		stop_if_last(memory);
	}
	return r;
}

int dirty_tracker_create(struct guest_memory *memory, struct dirty_tracker **ret, struct err *err)
{
	size_t bytes = dirty_bitmap_words(memory) * sizeof(uint64_t);
	struct dirty_tracker *tracker = calloc(1, sizeof(*tracker) + bytes);
	if (!tracker)
		return err_sys(err, -ENOMEM, "dirty tracking");
	tracker->memory = memory;
	struct dirty_log *log = &memory->dirty;
	pthread_mutex_lock(&log->lock);
	size_t place = 0;
	while (place < DIRTY_TRACKERS_MAX && log->trackers[place])
		place++;
	int r = place == DIRTY_TRACKERS_MAX ? -EBUSY : start(memory);
	if (r == 0)
		log->trackers[place] = tracker;
	pthread_mutex_unlock(&log->lock);
	if (r < 0) {
		free(tracker);
		return err_sys(err, r, "dirty tracking");
	}
	*ret = tracker;
	return 0;
}

void dirty_tracker_destroy(struct dirty_tracker *tracker)
{
	if (!tracker)
		return;
	struct guest_memory *memory = tracker->memory;
	pthread_mutex_lock(&memory->dirty.lock);
	for (size_t i = 0; i < DIRTY_TRACKERS_MAX; i++)
		if (memory->dirty.trackers[i] == tracker)
			memory->dirty.trackers[i] = NULL;
	stop_if_last(memory);
	pthread_mutex_unlock(&memory->dirty.lock);
	free(tracker);
}

int dirty_tracker_harvest(struct dirty_tracker *tracker, uint64_t *bitmap, uint64_t *ret_pages)
{
	struct guest_memory *memory = tracker->memory;
	size_t words = dirty_bitmap_words(memory);
	*ret_pages = 0;
	pthread_mutex_lock(&memory->dirty.lock);
	fetch_marks(memory);
	int r = fetch_kvm(memory);
	for (size_t i = 0; r == 0 && i < words; i++) {
		*ret_pages += (uint64_t)__builtin_popcountll(tracker->pending[i]);
		bitmap[i] |= tracker->pending[i];
		tracker->pending[i] = 0;
	}
	pthread_mutex_unlock(&memory->dirty.lock);
	return r;
}
