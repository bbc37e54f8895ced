/*
 * Pages to messages: see stage.h. The guest may write to a page while it is sent, so each is copied first:
 * what is summed and what leaves are then the same bytes. For the page itself it does not matter which of
 * them are new, nor whether it was zero a moment ago: it is dirty again, and goes once more.
 *
 * Which is why zero-copy sends take their bytes from a message's buffer and not from RAM itself: no checksum
 * would hold.
 */
#include "stage.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "memory/dirty.h"
#include "zero_copy.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

enum { TABLE_AT = WIRE_HEADER_BYTES + WIRE_PAGES_HEADER_BYTES };
enum { DATA_MAX = WIRE_PAGES_MAX * WIRE_PAGE_BYTES };
enum { MESSAGE_MAX = TABLE_AT + WIRE_PAGES_MAX * 8 + DATA_MAX };

struct stage {
	const struct guest_memory *memory;
	int level;
	ZSTD_CCtx *zstd;
	uint8_t *message; /* MESSAGE_MAX */
	uint8_t *packed;  /* the same, when packing */
};

int stage_create(const struct guest_memory *memory, int zstd_level, struct stage **ret, struct err *err)
{
	struct stage *stage = calloc(1, sizeof(*stage));
	if (!stage)
		return err_sys(err, -ENOMEM, "pages");
	stage->memory = memory;
	stage->level = zstd_level;
	stage->message = malloc(MESSAGE_MAX);
	if (zstd_level) {
		stage->packed = malloc(MESSAGE_MAX);
		stage->zstd = ZSTD_createCCtx();
	}
	if (!stage->message || (zstd_level && (!stage->packed || !stage->zstd))) {
		stage_destroy(stage);
		return err_sys(err, -ENOMEM, "pages");
	}
	*ret = stage;
	return 0;
}

void stage_destroy(struct stage *stage)
{
	if (!stage)
		return;
	(void)ZSTD_freeCCtx(stage->zstd);
	free(stage->packed);
	free(stage->message);
	free(stage);
}

int stage_zero_copy(struct channel *channel, struct err *err)
{
	return zero_copy_create(MESSAGE_MAX, &channel->zero_copy, err);
}

static bool is_zero(const uint8_t *page)
{
	return page[0] == 0 && memcmp(page, page + 1, WIRE_PAGE_BYTES - 1) == 0;
}

/* Which pages are zero, into the table; how many are not. Most tell by their first bytes. */
static uint32_t fill_table(const struct stage *stage, uint8_t *message, const uint64_t *pages, uint32_t count)
{
	uint8_t *table = message + TABLE_AT;
	uint32_t full = 0;
	store_le32(message + WIRE_HEADER_BYTES, 0);
	store_le32(message + WIRE_HEADER_BYTES + 4, count);
	for (uint32_t i = 0; i < count; i++) {
		bool zero = is_zero(dirty_page(stage->memory, pages[i]));
		store_le64(table + 8 * (size_t)i, wire_entry(pages[i], zero));
		full += !zero;
	}
	return full;
}

/* The others behind it. Each is summed while it is still in the cache. */
static uint32_t fill_data(const struct stage *stage, uint8_t *message, const uint64_t *pages, uint32_t count)
{
	const uint8_t *table = message + TABLE_AT;
	uint8_t *data = message + TABLE_AT + (size_t)count * 8;
	uint32_t crc = crc32c(0, message + WIRE_HEADER_BYTES, (size_t)(data - message) - WIRE_HEADER_BYTES);
	for (uint32_t i = 0; i < count; i++) {
		if (load_le64(table + 8 * (size_t)i) == wire_entry(pages[i], true))
			continue;
		memcpy(data, dirty_page(stage->memory, pages[i]), WIRE_PAGE_BYTES);
		crc = crc32c(crc, data, WIRE_PAGE_BYTES);
		data += WIRE_PAGE_BYTES;
	}
	return crc;
}

/* The packed message's length, or 0: it is no shorter so. */
static size_t pack(struct stage *stage, uint32_t count, size_t data_bytes)
{
	size_t head = TABLE_AT + (size_t)count * 8;
	size_t n = ZSTD_compressCCtx(stage->zstd, stage->packed + head, data_bytes, stage->message + head,
				     data_bytes, stage->level);
	if (ZSTD_isError(n) || n >= data_bytes)
		return 0;
	memcpy(stage->packed, stage->message, head);
	store_le32(stage->packed + WIRE_HEADER_BYTES, WIRE_PAGES_F_ZSTD);
	return head + n;
}

int stage_send(struct stage *stage, struct link *link, const uint64_t *pages, uint32_t count,
	       struct stage_counts *counts, struct err *err)
{
	struct zero_copy *zero_copy = link->channel.zero_copy;
	uint8_t *message = zero_copy ? zero_copy_buffer(zero_copy, &link->channel, err) : stage->message;
	if (!message)
		return err->code;
	uint32_t full = fill_table(stage, message, pages, count);
	uint32_t crc = fill_data(stage, message, pages, count);
	size_t data_bytes = (size_t)full * WIRE_PAGE_BYTES;
	size_t packed = stage->level && full ? pack(stage, count, data_bytes) : 0;
	size_t bytes = packed ? packed : TABLE_AT + (size_t)count * 8 + data_bytes;
	counts->pages += count;
	counts->zero_pages += count - full;
	counts->bytes += bytes;
	if (packed)
		return link_send(link, WIRE_PAGES, stage->packed, bytes - WIRE_HEADER_BYTES, NULL, err);
	return link_send_summed(link, WIRE_PAGES, message, bytes - WIRE_HEADER_BYTES, crc, NULL, err);
}
