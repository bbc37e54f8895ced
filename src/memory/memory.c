/* Guest RAM: see include/memory/memory.h. */
#include "base/cleanup.h"
#include "base/layout.h"
#include "host/kvm.h"
#include "impl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

struct page_kind {
	const char *name;
	uint64_t bytes;
	unsigned huge;	  /* for memfd_create and, by MAP_HUGE_SHIFT the same bits, for mmap */
	const char *pool; /* where the operator reserves such pages */
};

static const struct page_kind page_kinds[] = {
	[HUGEPAGES_OFF] = {"4K", 4 * KIB, 0, NULL},
	[HUGEPAGES_2M] = {"2M", 2 * MIB, 21U << MAP_HUGE_SHIFT, "hugepages-2048kB"},
	[HUGEPAGES_1G] = {"1G", 1 * GIB, 30U << MAP_HUGE_SHIFT, "hugepages-1048576kB"},
};

static void memory_lay_out(struct guest_memory *memory)
{
	uint64_t low = memory->size < LAYOUT_PCI_HOLE_GPA ? memory->size : LAYOUT_PCI_HOLE_GPA;
	memory->regions[0] = (struct guest_region){.gpa = 0, .size = low, .host = memory->host};
	memory->region_count = 1;
	if (low < memory->size)
		memory->regions[memory->region_count++] = (struct guest_region){
			.gpa = LAYOUT_HIGH_RAM_GPA, .size = memory->size - low, .host = memory->host + low};
}

/* A memfd, so that other processes can map the same RAM. */
static int memory_open(struct guest_memory *memory, const struct page_kind *kind, struct err *err)
{
	memory->fd = memfd_create("aerie-ram", MFD_CLOEXEC | MFD_ALLOW_SEALING |
						       (kind->pool ? MFD_HUGETLB | kind->huge : 0U));
	if (memory->fd < 0)
		return err_sys(err, -errno, "memory.shared: a memfd with %s pages", kind->name);
	if (ftruncate(memory->fd, (off_t)memory->size) < 0)
		return err_sys(err, -errno, "memory.size: %" PRIu64 " MiB", memory->size / MIB);
	if (fcntl(memory->fd, F_ADD_SEALS, MEMORY_SEALS) < 0)
		return err_sys(err, -errno, "memory.shared: sealing the size of RAM");
	return 0;
}

/*
 * Private RAM is anonymous memory and not a private mapping of a memfd: each first write there would leave a
 * second copy in the page cache, and transparent huge pages are off for shmem on most hosts.
 */
static int memory_map(struct guest_memory *memory, const struct memory_config *config, struct err *err)
{
	const struct page_kind *kind = &page_kinds[config->hugepages];
	if (config->size_bytes % kind->bytes)
		return err_set(err, -EINVAL, "memory.size: not a multiple of the page size %s", kind->name);
	memory->size = config->size_bytes;
	memory->page_bytes = kind->bytes;

	unsigned flags =
		MAP_PRIVATE | MAP_ANONYMOUS | (kind->pool ? MAP_HUGETLB | kind->huge : MAP_NORESERVE);
	if (config->shared) {
		int r = memory_open(memory, kind, err);
		if (r < 0)
			return r;
		flags = MAP_SHARED | (kind->pool ? 0U : MAP_NORESERVE);
	}
	void *host = mmap(NULL, memory->size, PROT_READ | PROT_WRITE, (int)flags, memory->fd, 0);
	if (host == MAP_FAILED) {
		/* hugetlbfs reserves at mmap: too small a pool shows here, not as SIGBUS in the running
		 * guest. */
		int code = -errno;
		if (kind->pool)
			return err_sys(err, code,
				       "memory.hugepages: too few free %s pages on the host (echo %" PRIu64
				       " > /sys/kernel/mm/hugepages/%s/nr_hugepages)",
				       kind->name, memory->size / kind->bytes, kind->pool);
		return err_sys(err, code, "memory.size: %" PRIu64 " MiB", memory->size / MIB);
	}
	memory->host = host;
	return 0;
}

static int memory_advise(struct guest_memory *memory, const struct memory_config *config, struct err *err)
{
	/* A core dump is for aerie's bugs, the guest's secrets do not belong in it. */
	(void)madvise(memory->host, memory->size, MADV_DONTDUMP);
	if (config->hugepages == HUGEPAGES_OFF)
		(void)madvise(memory->host, memory->size,
			      MADV_HUGEPAGE); /* fewer TLB levels where THP is on */
	if (config->prealloc && madvise(memory->host, memory->size, MADV_POPULATE_WRITE) < 0)
		return err_sys(err, -errno, "memory.prealloc: %" PRIu64 " MiB", memory->size / MIB);
	return 0;
}

int guest_memory_create(const struct memory_config *config, struct guest_memory **ret, struct err *err)
{
	struct guest_memory *memory = calloc(1, sizeof(*memory));
	if (!memory)
		return err_sys(err, -ENOMEM, "memory");
	memory->fd = memory->passed_fd = memory->vm_fd = -1;
	dirty_log_init(memory);
	int r = memory_map(memory, config, err);
	if (r == 0)
		r = memory_advise(memory, config, err);
	if (r < 0) {
		guest_memory_destroy(memory);
		return r;
	}
	memory_lay_out(memory);
	*ret = memory;
	return 0;
}

int guest_memory_map_file(struct guest_memory *memory, int fd, struct err *err)
{
	struct stat st;
	if (memory->fd >= 0 || memory->page_bytes != page_kinds[HUGEPAGES_OFF].bytes)
		return err_set(err, -EOPNOTSUPP, "memory: %s cannot be a mapping of a file",
			       memory->fd >= 0 ? "shared RAM" : "RAM of huge pages");
	if (fstat(fd, &st) < 0)
		return err_sys(err, -errno, "memory");
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != memory->size)
		return err_set(err, -EINVAL, "memory: %lld bytes for RAM of %" PRIu64, (long long)st.st_size,
			       memory->size);
	if (mmap(memory->host, memory->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE,
		 fd, 0) == MAP_FAILED)
		return err_sys(err, -errno, "memory: mapping the file");
	(void)madvise(memory->host, memory->size, MADV_DONTDUMP);
	memory->from_file = true;
	return 0;
}

bool guest_memory_is_file(const struct guest_memory *memory)
{
	return memory->from_file;
}

void guest_memory_destroy(struct guest_memory *memory)
{
	if (!memory)
		return;
	memory->vm_fd = -1; /* the VM has gone */
	dirty_tracker_destroy(memory->trial);
	free(memory->written);
	dirty_log_finish(memory);
	if (memory->host)
		(void)munmap(memory->host, memory->size);
	(void)close_fd(memory->fd);
	(void)close_fd(memory->passed_fd);
	free(memory);
}

bool guest_memory_absent_is_zero(const struct guest_memory *memory)
{
	return memory->fd < 0 && !memory->from_file;
}

size_t guest_memory_regions(const struct guest_memory *memory, const struct guest_region **ret)
{
	*ret = memory->regions;
	return memory->region_count;
}

int guest_memory_fd(const struct guest_memory *memory, const struct guest_region *region,
		    uint64_t *ret_offset)
{
	*ret_offset = (uint64_t)(region->host - memory->host);
	return memory->fd;
}

static void *region_at(const struct guest_region *region, uint64_t gpa, uint64_t len)
{
	uint64_t offset = gpa - region->gpa; /* wraps to something huge when gpa is below */
	return offset < region->size && len <= region->size - offset ? region->host + offset : NULL;
}

static void *ram_at(const struct guest_memory *memory, uint64_t gpa, uint64_t len)
{
	void *at = NULL;
	for (size_t i = 0; !at && i < memory->region_count; i++)
		at = region_at(&memory->regions[i], gpa, len);
	return at;
}

void *guest_memory_at(const struct guest_memory *memory, uint64_t gpa, uint64_t len)
{
	void *at = ram_at(memory, gpa, len);
	for (size_t i = 0; !at && i < GUEST_MEMORY_DEVICES; i++)
		if (memory->devices[i].host)
			at = region_at(&memory->devices[i], gpa, len);
	return at;
}

int guest_memory_write(const struct guest_memory *memory, uint64_t gpa, const void *src, uint64_t len)
{
	void *dst = guest_memory_at(memory, gpa, len);
	if (!dst)
		return -EFAULT;
	memcpy(dst, src, len);
	guest_memory_mark(memory, dst, len);
	return 0;
}

int memory_set_slot(const struct guest_memory *memory, uint32_t slot, const struct guest_region *region,
		    uint32_t flags)
{
	struct kvm_userspace_memory_region set = {
		.slot = slot,
		.flags = flags,
		.guest_phys_addr = region->gpa,
		.memory_size = region->size, /* 0 takes the slot away */
		.userspace_addr = (uintptr_t)region->host,
	};
	return memory->vm_fd < 0 ? 0 : kvm_call(memory->vm_fd, KVM_SET_USER_MEMORY_REGION, &set);
}

int guest_memory_attach(struct guest_memory *memory, int vm_fd, struct err *err)
{
	memory->vm_fd = vm_fd;
	for (size_t i = 0; i < memory->region_count; i++) {
		int r = memory_set_slot(memory, (uint32_t)i, &memory->regions[i], 0);
		if (r < 0)
			return err_sys(err, r, "memory: slot at %#" PRIx64, memory->regions[i].gpa);
	}
	return 0;
}

/* The end of what is there already, from the end of the BARs up, rounded to what Linux maps with large pages.
 */
static uint64_t device_gpa(const struct guest_memory *memory)
{
	uint64_t gpa = layout_pci64_gpa(layout_ram_end_gpa(memory->size)) + LAYOUT_PCI64_BYTES;
	for (size_t i = 0; i < GUEST_MEMORY_DEVICES; i++) {
		const struct guest_region *region = &memory->devices[i];
		if (region->host && region->gpa + region->size > gpa)
			gpa = region->gpa + region->size;
	}
	return (gpa + GIB - 1) / GIB * GIB;
}

int guest_memory_add(struct guest_memory *memory, void *host, uint64_t size, uint64_t *ret_gpa,
		     struct err *err)
{
	size_t i = 0;
	while (i < GUEST_MEMORY_DEVICES && memory->devices[i].host)
		i++;
	if (i == GUEST_MEMORY_DEVICES)
		return err_set(err, -ENOSPC, "at most %d devices with memory of their own",
			       GUEST_MEMORY_DEVICES);
	const struct guest_region region = {.gpa = device_gpa(memory), .size = size, .host = host};
	int r = memory_set_slot(memory, GUEST_MEMORY_REGIONS + (uint32_t)i, &region, 0);
	if (r < 0)
		return err_sys(err, r, "memory slot at %#" PRIx64, region.gpa);
	memory->devices[i] = region;
	*ret_gpa = region.gpa;
	return 0;
}

void guest_memory_remove(struct guest_memory *memory, uint64_t gpa)
{
	for (size_t i = 0; i < GUEST_MEMORY_DEVICES; i++) {
		struct guest_region *region = &memory->devices[i];
		if (!region->host || region->gpa != gpa)
			continue;
		region->size = 0;
		(void)memory_set_slot(memory, GUEST_MEMORY_REGIONS + (uint32_t)i, region, 0);
		*region = (struct guest_region){0};
	}
}

int guest_memory_discard(struct guest_memory *memory, void *host, uint64_t len)
{
	uint64_t offset =
		(uintptr_t)host - (uintptr_t)memory->host; /* wraps to something huge when it is below */
	if (offset >= memory->size || len > memory->size - offset)
		return -EFAULT;
	uint64_t page = memory->page_bytes;
	uint64_t first = (offset + page - 1) / page * page, end = (offset + len) / page * page;
	if (first >= end)
		return 0;
	if (memory->from_file) {
		/* Advice would bring back what the file has. */
		void *zeros = mmap(memory->host + first, end - first, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
		int mapped = zeros == MAP_FAILED ? -errno : 0;
		guest_memory_mark(memory, memory->host + first, end - first);
		return mapped;
	}
	/* MADV_REMOVE frees the pages of a memfd, for every process that maps it; DONTNEED those of anonymous
	 * memory. */
	int advice = memory->fd >= 0 ? MADV_REMOVE : MADV_DONTNEED;
	int r = madvise(memory->host + first, end - first, advice) < 0 ? -errno : 0;
	guest_memory_mark(memory, memory->host + first, end - first); /* zeros are another content */
	return r;
}
