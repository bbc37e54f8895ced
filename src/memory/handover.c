/*
 * RAM that changes hands: see include/memory/handover.h.
 *
 * Loading a state writes to RAM: KVM does (a wall clock, the mark that a vCPU does not run, a hypercall
 * page), and some devices do. The one that takes RAM over must not do that in the memory of a guest that may
 * yet go on in the other process. So it loads onto a private mapping, where a write makes a copy of the page,
 * with the dirty log on, which tells those pages; when the guest is its own it copies them back. What loading
 * writes is thus neither lost nor early, and only as much is copied as was written.
 *
 * Dirty tracking and that mapping begin when the descriptor comes, while the guest runs over there: they take
 * longer than all the rest (membarrier, the first time in a process, waits for every CPU).
 */
#include "memory/handover.h"

#include "base/cleanup.h"
#include "impl.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

int handover_check(const struct guest_memory *memory, struct err *err)
{
	if (memory->fd < 0)
		return err_set(err, -ENOTSUP,
			       "RAM is this process' own (memory.shared is false), it cannot be handed over");
	if (memory->page_bytes != DIRTY_PAGE_BYTES)
		return err_set(
			err, -ENOTSUP,
			"RAM of huge pages (memory.hugepages) cannot be handed over: the host would need "
			"twice of them");
	return 0;
}

static int check_fd(const struct guest_memory *memory, int fd, struct err *err)
{
	struct stat st;
	int seals = fcntl(fd, F_GET_SEALS);
	if (seals < 0 || fstat(fd, &st) < 0)
		return err_set(err, -EINVAL, "what was handed over as RAM is no memfd");
	if (seals != MEMORY_SEALS)
		return err_set(
			err, -EINVAL,
			"RAM that was handed over has seals %#x, where %#x are good (is it of an older "
			"aerie?)",
			(unsigned)seals, (unsigned)MEMORY_SEALS);
	if ((uint64_t)st.st_size != memory->size || st.st_blksize != (blksize_t)memory->page_bytes)
		return err_set(err, -EINVAL,
			       "%" PRIu64 " bytes in pages of %ld were handed over for RAM of %" PRIu64
			       " in pages of %" PRIu64,
			       (uint64_t)st.st_size, (long)st.st_blksize, memory->size, memory->page_bytes);
	return 0;
}

/* Another thing at the same addresses, for KVM as well, which is told by the host's memory management. */
static int map_at(const struct guest_memory *memory, int fd, int flags, struct err *err)
{
	if (mmap(memory->host, memory->size, PROT_READ | PROT_WRITE, flags | MAP_FIXED | MAP_NORESERVE, fd,
		 0) == MAP_FAILED)
		return err_sys(err, -errno, "mapping RAM");
	(void)madvise(memory->host, memory->size, MADV_DONTDUMP);
	if (fd >= 0)
		(void)madvise(memory->host, memory->size, MADV_HUGEPAGE);
	return 0;
}

/* Adds to what was found before. */
static int harvest(struct guest_memory *memory, uint64_t *ret_pages, struct err *err)
{
	int r = dirty_tracker_harvest(memory->trial, memory->written, ret_pages);
	return r < 0 ? err_sys(err, r, "pages written") : 0;
}

/* What was written until now is of no interest. */
static int forget(struct guest_memory *memory, struct err *err)
{
	uint64_t pages;
	int r = harvest(memory, &pages, err);
	memset(memory->written, 0, dirty_bitmap_words(memory) * sizeof(uint64_t));
	return r;
}

/* Behind the check: all that can be done before the guest stands. What was written to the RAM that was here
 * before is of no interest. */
static int prepare(struct guest_memory *memory, struct err *err)
{
	memory->written = calloc(dirty_bitmap_words(memory), sizeof(uint64_t));
	if (!memory->written)
		return err_sys(err, -ENOMEM, "pages written");
	int r = dirty_tracker_create(memory, &memory->trial, err);
	if (r == 0)
		r = map_at(memory, memory->passed_fd, MAP_PRIVATE, err);
	return r < 0 ? r : forget(memory, err);
}

int handover_accept(struct guest_memory *memory, int fd, struct err *err)
{
	_cleanup_close_ int passed = fd;
	int r = handover_check(memory, err);
	if (r == 0)
		r = check_fd(memory, passed, err);
	if (r == 0 && memory->passed_fd >= 0)
		r = err_set(err, -EBUSY, "RAM was handed over before");
	if (r < 0)
		return r;
	memory->passed_fd = take_fd(&passed);
	return prepare(memory, err);
}

/*
 * A private mapping shows what its file holds as long as nobody has written to it; then it has pages of its
 * own, which would be old ones. Nobody has any business there, so if somebody was there all is mapped anew.
 */
int handover_try(struct guest_memory *memory, struct err *err)
{
	uint64_t pages;
	if (memory->passed_fd < 0)
		return err_set(err, -EINVAL, "no RAM was handed over");
	int r = harvest(memory, &pages, err);
	if (r < 0 || pages == 0)
		return r;
	r = map_at(memory, memory->passed_fd, MAP_PRIVATE, err);
	return r < 0 ? r : forget(memory, err);
}

static int write_page(const struct guest_memory *memory, uint64_t offset)
{
	for (size_t done = 0; done < DIRTY_PAGE_BYTES;) {
		ssize_t n = pwrite(memory->passed_fd, memory->host + offset + done, DIRTY_PAGE_BYTES - done,
				   (off_t)(offset + done));
		if (n == 0 || (n < 0 && errno != EINTR))
			return n < 0 ? -errno : -EIO;
		done += n > 0 ? (size_t)n : 0;
	}
	return 0;
}

static int copy_back(const struct guest_memory *memory, struct err *err)
{
	size_t words = dirty_bitmap_words(memory);
	for (size_t i = 0; i < words; i++)
		for (uint64_t bits = memory->written[i]; bits; bits &= bits - 1) {
			uint64_t offset = (i * 64 + (unsigned)__builtin_ctzll(bits)) * DIRTY_PAGE_BYTES;
			int r = write_page(memory, offset);
			if (r < 0)
				return err_sys(err, r, "RAM at %#" PRIx64, offset);
		}
	return 0;
}

/* As often as it takes: what was harvested is kept, and what lies in the private pages stays there. */
static int keep(struct guest_memory *memory, struct err *err)
{
	uint64_t pages;
	int r = harvest(memory, &pages, err);
	if (r == 0)
		r = copy_back(memory, err);
	return r;
}

/* The guest is ours and nobody else's: a shortage that passes must not be its end. */
enum { KEEP_TRIES = 3 };

static int persist(struct guest_memory *memory, int (*step)(struct guest_memory *, struct err *),
		   struct err *err)
{
	struct err one = ERR_INIT;
	int r = -EAGAIN;
	for (int i = 0; i < KEEP_TRIES && r < 0; i++) {
		one = ERR_INIT;
		r = step(memory, &one);
	}
	return r < 0 ? err_set(err, r, "%s", one.text) : 0;
}

static int map_shared(struct guest_memory *memory, struct err *err)
{
	return map_at(memory, memory->passed_fd, MAP_SHARED, err);
}

int handover_keep(struct guest_memory *memory, struct err *err)
{
	if (memory->passed_fd < 0)
		return err_set(err, -EINVAL, "no RAM was handed over");
	int r = persist(memory, keep, err);
	if (r == 0)
		r = persist(memory, map_shared, err);
	if (r < 0)
		return r;
	(void)close_fd(memory->fd);
	memory->fd = take_fd(&memory->passed_fd);
	return 0;
}

void handover_settle(struct guest_memory *memory)
{
	dirty_tracker_destroy(take_ptr(memory->trial));
	free(take_ptr(memory->written));
}

int handover_leave(struct guest_memory *memory, struct err *err)
{
	if (memory->fd < 0)
		return err_set(err, -EINVAL, "RAM is nobody else's");
	int r = map_at(memory, -1, MAP_PRIVATE | MAP_ANONYMOUS, err);
	memory->left = r == 0;
	return r;
}

int handover_join(struct guest_memory *memory, struct err *err)
{
	int r = memory->left ? map_at(memory, memory->fd, MAP_SHARED, err) : 0;
	if (r == 0)
		memory->left = false;
	return r;
}

bool handover_left(const struct guest_memory *memory)
{
	return memory->left;
}
