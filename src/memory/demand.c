/* Pages that come when they are touched: see include/memory/demand.h, and userfaultfd in the kernel's
 * admin-guide. */
#include "memory/demand.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "impl.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

struct demand {
	struct guest_memory *memory;
	int fd;
	_Atomic bool registered;
	bool maps_zeros; /* by UFFDIO_ZEROPAGE: a page of zeros takes no memory where RAM is private */
};

static const uint8_t zero_page[DIRTY_PAGE_BYTES] __attribute__((aligned(DIRTY_PAGE_BYTES)));

/*
 * Without UFFD_USER_MODE_ONLY, which unprivileged processes are left with when vm.unprivileged_userfaultfd is
 * 0: KVM touches RAM in the kernel. The device file (since 6.1) has no such limit, but for its own mode.
 */
int demand_open(struct err *err)
{
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (fd >= 0)
		return fd;
	int code = -errno;
	_cleanup_close_ int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	if (device >= 0)
		fd = ioctl(device, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
	if (fd >= 0)
		return fd;
	return err_sys(
		err, code,
		"post-copy needs userfaultfd, also for faults in the kernel (vm.unprivileged_userfaultfd "
		"= 1, CAP_SYS_PTRACE, or access to /dev/userfaultfd)");
}

static int uffd_call(int fd, unsigned long request, void *arg)
{
	int r;
	do
		r = ioctl(fd, request, arg);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : 0;
}

/* The API has to be agreed upon before anything else, once. */
static int agree(int fd, bool shared, struct err *err)
{
	struct uffdio_api api = {.api = UFFD_API, .features = shared ? UFFD_FEATURE_MISSING_SHMEM : 0};
	int r = uffd_call(fd, UFFDIO_API, &api);
	if (r < 0)
		return err_sys(err, r, "post-copy needs userfaultfd%s", shared ? " for shared memory" : "");
	return 0;
}

static struct uffdio_range all_of(const struct demand *demand)
{
	return (struct uffdio_range){(uintptr_t)demand->memory->host, demand->memory->size};
}

static int set_registered(struct demand *demand, struct err *err)
{
	const uint64_t needed = UINT64_C(1) << _UFFDIO_COPY | UINT64_C(1) << _UFFDIO_WAKE;
	struct uffdio_register wish = {.range = all_of(demand), .mode = UFFDIO_REGISTER_MODE_MISSING};
	int r = uffd_call(demand->fd, UFFDIO_REGISTER, &wish);
	if (r < 0)
		return err_sys(err, r, "post-copy: userfaultfd for %llu MiB of RAM",
			       (unsigned long long)(demand->memory->size >> 20));
	atomic_store(&demand->registered, true);
	demand->maps_zeros = wish.ioctls & UINT64_C(1) << _UFFDIO_ZEROPAGE;
	if (needed & ~(uint64_t)wish.ioctls)
		return err_set(err, -ENOTSUP,
			       "post-copy: this kernel cannot fill such memory by userfaultfd");
	return 0;
}

int demand_create(struct guest_memory *memory, int fd, struct demand **ret, struct err *err)
{
	if (memory->page_bytes != DIRTY_PAGE_BYTES)
		return err_set(
			err, -ENOTSUP,
			"memory.hugepages: pages come singly in post-copy, huge ones cannot; use \"off\"");
	if (memory->from_file)
		return err_set(err, -ENOTSUP, "post-copy: RAM is a mapping of a file");
	struct demand *demand = calloc(1, sizeof(*demand));
	if (!demand)
		return err_sys(err, -ENOMEM, "post-copy");
	demand->memory = memory;
	demand->fd = fd;
	int r = agree(fd, memory->fd >= 0, err);
	if (r == 0)
		r = set_registered(demand, err);
	if (r < 0) {
		demand_destroy(demand);
		return r;
	}
	demand_stop(demand);
	*ret = demand;
	return 0;
}

void demand_destroy(struct demand *demand)
{
	if (!demand)
		return;
	demand_stop(demand);
	free(demand);
}

/* MADV_REMOVE: the memfd's pages; what is left there would not be missing. */
static int give_back(const struct guest_memory *memory, uint64_t first, uint64_t end)
{
	uint8_t *from = memory->host + first * DIRTY_PAGE_BYTES;
	int advice = memory->fd >= 0 ? MADV_REMOVE : MADV_DONTNEED;
	return madvise(from, (end - first) * DIRTY_PAGE_BYTES, advice) < 0 ? -errno : 0;
}

static bool is_set(const uint64_t *bitmap, uint64_t page)
{
	return bitmap[page / 64] >> page % 64 & 1;
}

/* Registered first: the kernel would otherwise make a huge page of zeros of what has holes. */
int demand_start(struct demand *demand, const uint64_t *missing, struct err *err)
{
	uint64_t count = dirty_page_count(demand->memory);
	int r = set_registered(demand, err);
	if (r < 0)
		return r;
	for (uint64_t page = 0, end; r == 0 && page < count; page = end) {
		end = page + 1;
		if (page % 64 == 0 && missing[page / 64] == 0) {
			end = page + 64;
			continue;
		}
		if (!is_set(missing, page))
			continue;
		while (end < count && is_set(missing, end))
			end++;
		r = give_back(demand->memory, page, end);
	}
	return r < 0 ? err_sys(err, r, "post-copy: giving outdated pages back") : 0;
}

/*
 * Unregistering wakes all who stand, before it takes the registration away: one that touches its page again
 * in between, which locks only that mapping, would stand for ever. So they are woken once more. As long as
 * the kernel keeps the registration, whoever touches a hole stands for ever, too.
 */
enum { STOP_TRIES = 5 };

void demand_stop(struct demand *demand)
{
	struct uffdio_range all = all_of(demand);
	if (!atomic_exchange(&demand->registered, false))
		return;
	int r = -EAGAIN;
	for (int i = 0; i < STOP_TRIES && r < 0; i++)
		r = uffd_call(demand->fd, UFFDIO_UNREGISTER, &all);
	if (r < 0)
		log_error("post-copy: userfaultfd: the memory cannot be let go: %s", strerror(-r));
	(void)uffd_call(demand->fd, UFFDIO_WAKE, &all);
}

int demand_fd(const struct demand *demand)
{
	return demand->fd;
}

int demand_next(struct demand *demand, uint64_t *pages, size_t most)
{
	struct uffd_msg messages[DEMAND_PAGES_MAX];
	size_t wanted = most < DEMAND_PAGES_MAX ? most : DEMAND_PAGES_MAX;
	ssize_t n = read(demand->fd, messages, wanted * sizeof(messages[0]));
	int count = 0;
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	for (size_t i = 0; i < (size_t)n / sizeof(messages[0]); i++) {
		uint64_t offset = messages[i].arg.pagefault.address - (uintptr_t)demand->memory->host;
		if (messages[i].event == UFFD_EVENT_PAGEFAULT && offset < demand->memory->size)
			pages[count++] = offset / DIRTY_PAGE_BYTES;
	}
	return count;
}

static int fill(struct demand *demand, struct uffdio_range at, const void *content)
{
	struct uffdio_copy copy = {.dst = at.start, .src = (uintptr_t)content, .len = at.len};
	struct uffdio_zeropage zeros = {.range = at};
	if (!content && demand->maps_zeros)
		return uffd_call(demand->fd, UFFDIO_ZEROPAGE, &zeros);
	if (!content)
		copy.src = (uintptr_t)zero_page;
	return uffd_call(demand->fd, UFFDIO_COPY, &copy);
}

/* -EAGAIN: the address space changed meanwhile (a fork, another mapping), and nothing was done. */
int demand_put(struct demand *demand, uint64_t page, const void *content)
{
	struct uffdio_range at = {(uintptr_t)demand->memory->host + page * DIRTY_PAGE_BYTES,
				  DIRTY_PAGE_BYTES};
	int r;
	do
		r = fill(demand, at, content);
	while (r == -EAGAIN);
	if (r == -EEXIST)
		r = uffd_call(demand->fd, UFFDIO_WAKE, &at);
	return r;
}

void demand_wake(struct demand *demand, uint64_t page)
{
	struct uffdio_range at = {(uintptr_t)demand->memory->host + page * DIRTY_PAGE_BYTES,
				  DIRTY_PAGE_BYTES};
	(void)uffd_call(demand->fd, UFFDIO_WAKE, &at);
}
