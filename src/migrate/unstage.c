/* Messages to pages: see unstage.h. */
#include "unstage.h"

#include "memory/dirty.h"

#include <emmintrin.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

struct unstage {
	struct guest_memory *memory;
	ZSTD_DCtx *zstd;   /* NULL: packed pages were not agreed upon */
	uint8_t *unpacked; /* WIRE_PAGES_MAX pages */
};

int unstage_create(struct guest_memory *memory, bool zstd, struct unstage **ret, struct err *err)
{
	struct unstage *unstage = calloc(1, sizeof(*unstage));
	if (!unstage)
		return err_sys(err, -ENOMEM, "pages");
	unstage->memory = memory;
	if (zstd) {
		unstage->zstd = ZSTD_createDCtx();
		unstage->unpacked = malloc((size_t)WIRE_PAGES_MAX * WIRE_PAGE_BYTES);
		if (!unstage->zstd || !unstage->unpacked) {
			unstage_destroy(unstage);
			return err_sys(err, -ENOMEM, "pages");
		}
	}
	*ret = unstage;
	return 0;
}

void unstage_destroy(struct unstage *unstage)
{
	if (!unstage)
		return;
	(void)ZSTD_freeDCtx(unstage->zstd);
	free(unstage->unpacked);
	free(unstage);
}

/* Reading a page that nobody has touched costs no memory, writing zeros to it would. */
static void clear(uint8_t *page)
{
	if (page[0] || memcmp(page, page + 1, WIRE_PAGE_BYTES - 1) != 0)
		memset(page, 0, WIRE_PAGE_BYTES);
}

/* Past the caches: nobody reads the page soon, and memory need not be read to be written. Pages are aligned.
 */
static void copy_page(uint8_t *to, const uint8_t *from)
{
	for (size_t i = 0; i < WIRE_PAGE_BYTES; i += sizeof(__m128i))
		_mm_stream_si128((__m128i *)(void *)(to + i),
				 _mm_loadu_si128((const __m128i *)(const void *)(from + i)));
}

static int unpack(struct unstage *unstage, const struct wire_pages *pages, const uint8_t **ret,
		  struct err *err)
{
	size_t wanted = (size_t)pages->data_count * WIRE_PAGE_BYTES;
	if (!unstage->zstd)
		return err_set(err, -EPROTO, "packed pages, which were not agreed upon");
	size_t n =
		ZSTD_decompressDCtx(unstage->zstd, unstage->unpacked, wanted, pages->data, pages->data_bytes);
	if (ZSTD_isError(n))
		return err_set(err, -EPROTO, "packed pages: %s", ZSTD_getErrorName(n));
	if (n != wanted)
		return err_set(err, -EPROTO, "packed pages: %zu bytes instead of %zu", n, wanted);
	*ret = unstage->unpacked;
	return 0;
}

int unstage_each(struct unstage *unstage, const uint8_t *payload, size_t bytes, unstage_put *put, void *owner,
		 struct err *err)
{
	struct wire_pages pages;
	int r = wire_decode_pages(payload, bytes, dirty_page_count(unstage->memory), &pages, err);
	const uint8_t *data = pages.data;
	if (r == 0 && (pages.flags & WIRE_PAGES_F_ZSTD))
		r = unpack(unstage, &pages, &data, err);
	for (uint32_t i = 0; r == 0 && i < pages.count; i++) {
		bool zero;
		uint64_t page = wire_pages_entry(&pages, i, &zero);
		r = put(owner, page, zero ? NULL : data, err);
		data += zero ? 0 : WIRE_PAGE_BYTES;
	}
	return r;
}

static int write_page(void *owner, uint64_t page, const void *content, struct err *err)
{
	struct unstage *unstage = owner;
	uint8_t *at = dirty_page(unstage->memory, page);
	(void)err;
	if (content)
		copy_page(at, content);
	else
		clear(at);
	return 0;
}

int unstage_pages(struct unstage *unstage, const uint8_t *payload, size_t bytes, struct err *err)
{
	int r = unstage_each(unstage, payload, bytes, write_page, unstage, err);
	_mm_sfence(); /* in memory before anybody is told */
	return r;
}
