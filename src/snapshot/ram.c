#include "ram.h"

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/crc32c.h"
#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { RUN_PAGES = 512, PIECE_BYTES = RUN_PAGES * RAM_PAGE_BYTES };

bool ram_page_is_zero(const void *bytes)
{
	enum { LANES = 8 };
	const uint64_t *word = bytes;
	for (size_t i = 0; i < RAM_PAGE_BYTES / sizeof(*word); i += LANES) {
		uint64_t any = 0;
		for (size_t lane = 0; lane < LANES; lane++)
			any |= word[i + lane];
		if (any)
			return false;
	}
	return true;
}

uint32_t ram_crc(uint32_t crc, uint64_t page, const void *bytes)
{
	uint8_t number[sizeof(page)];
	store_le64(number, page);
	return crc32c(crc32c(crc, number, sizeof(number)), bytes, RAM_PAGE_BYTES);
}

uint64_t ram_bytes(const struct guest_memory *memory)
{
	const struct guest_region *regions;
	uint64_t bytes = 0;
	for (size_t i = guest_memory_regions(memory, &regions); i-- > 0;)
		bytes += regions[i].size;
	return bytes;
}

size_t ram_bitmap_words(uint64_t bytes)
{
	return (size_t)((bytes / RAM_PAGE_BYTES + 63) / 64);
}

static bool is_meant(const uint64_t *pages, uint64_t page)
{
	return !pages || (pages[page / 64] >> page % 64 & 1);
}

/* ---- write ---- */

/* Pages that lie together in RAM and in the file. */
struct run {
	const uint8_t *host;
	uint64_t offset; /* in the file */
	size_t bytes;
};

struct writing {
	int fd;
	int pagemap_fd;		     /* -1: every page is looked at */
	uint64_t present[RUN_PAGES]; /* of the piece that is written: what pagemap says of its pages */
	const uint64_t *pages;
	struct ram_progress *progress;
	struct run run;
	uint32_t crc;
	uint64_t bytes;
};

static int run_flush(struct writing *w)
{
	int r = w->run.bytes ? write_all(w->fd, w->run.host, w->run.bytes, w->run.offset) : 0;
	w->run.bytes = 0;
	return r;
}

/*
 * Memory that nobody has touched need not be read, which would make the kernel put zeros there, page by page
 * (Documentation/admin-guide/mm/pagemap.rst: 0 is neither present nor swapped out).
 */
static void look_at_piece(struct writing *w, const uint8_t *host, uint64_t bytes)
{
	uint64_t pages = bytes / RAM_PAGE_BYTES < RUN_PAGES ? bytes / RAM_PAGE_BYTES : RUN_PAGES;
	uint64_t offset = (uintptr_t)host / RAM_PAGE_BYTES * sizeof(w->present[0]);
	size_t len = (size_t)pages * sizeof(w->present[0]);
	if (w->pagemap_fd < 0 || read_all(w->pagemap_fd, w->present, len, offset) < 0)
		memset(w->present, 0xff, sizeof(w->present));
}

static int write_page(struct writing *w, const uint8_t *host, uint64_t offset)
{
	uint64_t page = offset / RAM_PAGE_BYTES;
	if (!is_meant(w->pages, page) || ram_page_is_zero(host))
		return run_flush(w);
	w->crc = ram_crc(w->crc, page, host);
	w->bytes += RAM_PAGE_BYTES;
	if (w->run.bytes == 0)
		w->run = (struct run){.host = host, .offset = offset};
	w->run.bytes += RAM_PAGE_BYTES;
	return w->run.bytes == PIECE_BYTES ? run_flush(w) : 0;
}

static int write_region(struct writing *w, const struct guest_region *region, uint64_t offset)
{
	int r = 0;
	for (uint64_t at = 0; r == 0 && at < region->size; at += RAM_PAGE_BYTES) {
		if (at % PIECE_BYTES == 0) {
			atomic_store(&w->progress->done, offset + at);
			if (atomic_load(&w->progress->cancelled))
				return -ECANCELED;
			look_at_piece(w, region->host + at, region->size - at);
		}
		if (w->present[at % PIECE_BYTES / RAM_PAGE_BYTES])
			r = write_page(w, region->host + at, offset + at);
		else
			r = run_flush(w);
	}
	return r == 0 ? run_flush(w) : r;
}

int ram_write(const struct guest_memory *memory, int fd, const uint64_t *pages, struct ram_progress *progress,
	      uint32_t *ret_crc, uint64_t *ret_bytes, struct err *err)
{
	struct writing w = {.fd = fd, .pagemap_fd = -1, .pages = pages, .progress = progress};
	const struct guest_region *regions;
	size_t count = guest_memory_regions(memory, &regions);
	uint64_t offset = 0, total = ram_bytes(memory);
	atomic_store(&progress->total, total);
	if (guest_memory_absent_is_zero(
		    memory)) /* when it cannot be opened, pages are looked at one by one */
		w.pagemap_fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	int r = ftruncate(fd, (off_t)total) < 0 ? -errno : 0;
	for (size_t i = 0; r == 0 && i < count; i++) {
		r = write_region(&w, &regions[i], offset);
		offset += regions[i].size;
	}
	w.pagemap_fd = close_fd(w.pagemap_fd);
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	if (r < 0)
		return err_sys(err, r, "memory");
	atomic_store(&progress->done, total);
	*ret_crc = w.crc;
	*ret_bytes = w.bytes;
	return 0;
}

/* ---- read ---- */

struct reading {
	int fd;
	const uint64_t *pages;
	uint32_t crc;
};

static int read_piece(struct reading *reading, uint8_t *host, uint64_t offset, size_t bytes)
{
	int r = read_all(reading->fd, host, bytes, offset);
	for (size_t at = 0; r == 0 && at < bytes; at += RAM_PAGE_BYTES)
		if (!ram_page_is_zero(host + at))
			reading->crc = ram_crc(reading->crc, (offset + at) / RAM_PAGE_BYTES, host + at);
	return r;
}

/* From `offset` on, where is data? The end of the region when there is none. Whole pages. */
static uint64_t next_data(int fd, uint64_t offset, uint64_t end)
{
	off_t data = lseek(fd, (off_t)offset, SEEK_DATA);
	if (data < 0)
		return errno == ENXIO ? end : offset; /* a file system that does not tell: read it all */
	uint64_t page = (uint64_t)data / RAM_PAGE_BYTES * RAM_PAGE_BYTES;
	return page < end ? page : end;
}

static uint64_t next_hole(int fd, uint64_t offset, uint64_t end)
{
	off_t hole = lseek(fd, (off_t)offset, SEEK_HOLE);
	uint64_t at =
		hole < 0 ? end : ((uint64_t)hole + RAM_PAGE_BYTES - 1) / RAM_PAGE_BYTES * RAM_PAGE_BYTES;
	return at > offset && at < end ? at : end;
}

static int read_extent(struct reading *reading, uint8_t *host, uint64_t offset, uint64_t bytes)
{
	int r = 0;
	for (uint64_t at = 0, piece; r == 0 && at < bytes; at += piece) {
		piece = bytes - at < PIECE_BYTES ? bytes - at : PIECE_BYTES;
		r = read_piece(reading, host + at, offset + at, (size_t)piece);
	}
	return r;
}

static int read_all_pages(struct reading *reading, const struct guest_region *region, uint64_t offset)
{
	uint64_t end = offset + region->size;
	int r = 0;
	for (uint64_t at = next_data(reading->fd, offset, end), stop; r == 0 && at < end;
	     at = next_data(reading->fd, stop, end)) {
		stop = next_hole(reading->fd, at, end);
		r = read_extent(reading, region->host + (at - offset), at, stop - at);
		if (stop == end)
			break;
	}
	return r;
}

static int read_some_pages(struct reading *reading, const struct guest_region *region, uint64_t offset)
{
	uint64_t first = offset / RAM_PAGE_BYTES, end = first + region->size / RAM_PAGE_BYTES;
	int r = 0;
	for (uint64_t page = first, stop; r == 0 && page < end; page = stop) {
		stop = page + 1;
		if (!is_meant(reading->pages, page))
			continue;
		while (stop < end && is_meant(reading->pages, stop))
			stop++;
		r = read_extent(reading, region->host + (page - first) * RAM_PAGE_BYTES,
				page * RAM_PAGE_BYTES, (stop - page) * RAM_PAGE_BYTES);
	}
	return r;
}

int ram_read(const struct guest_memory *memory, int fd, const uint64_t *pages, uint32_t crc, struct err *err)
{
	struct reading reading = {.fd = fd, .pages = pages};
	const struct guest_region *regions;
	size_t count = guest_memory_regions(memory, &regions);
	uint64_t offset = 0;
	struct stat st;
	int r = fstat(fd, &st) < 0 ? -errno : 0;
	if (r == 0 && (uint64_t)st.st_size != ram_bytes(memory))
		return err_set(err, -EINVAL, "memory: %lld bytes for RAM of %" PRIu64, (long long)st.st_size,
			       ram_bytes(memory));
	for (size_t i = 0; r == 0 && i < count; i++) {
		r = pages ? read_some_pages(&reading, &regions[i], offset)
			  : read_all_pages(&reading, &regions[i], offset);
		offset += regions[i].size;
	}
	if (r < 0)
		return err_sys(err, r, "memory");
	if (reading.crc != crc)
		return err_set(err, -EINVAL, "memory: damaged: crc32c is %08x, not %08x", reading.crc, crc);
	return 0;
}
