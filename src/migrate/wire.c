/* The bytes of a migration: see wire.h. */
#include "wire.h"

#include "base/bytes.h"
#include "base/crc32c.h"

#include <errno.h>
#include <inttypes.h>

/* What each type's payload may be: a peer cannot make us allocate more than that. */
static const struct {
	const char *name;
	uint32_t min, max;
} types[WIRE_TYPES] = {
	[WIRE_HELLO] = {"HELLO", WIRE_HELLO_BYTES, WIRE_HELLO_BYTES},
	[WIRE_WELCOME] = {"WELCOME", 4, 4},
	[WIRE_CONFIG] = {"CONFIG", 2, WIRE_CONFIG_MAX},
	[WIRE_ACCEPTED] = {"ACCEPTED", 4, WIRE_DISKS_BYTES_MAX},
	[WIRE_REHEARSAL] = {"REHEARSAL", 1, WIRE_STATE_MAX},
	[WIRE_REHEARSED] = {"REHEARSED", 0, 0},
	[WIRE_PAGES] = {"PAGES", WIRE_PAGES_HEADER_BYTES + 8,
			WIRE_PAGES_HEADER_BYTES + WIRE_PAGES_MAX *(8 + WIRE_PAGE_BYTES)},
	[WIRE_ROUND] = {"ROUND", 4, 4},
	[WIRE_ROUND_DONE] = {"ROUND_DONE", 4, 4},
	[WIRE_STATE] = {"STATE", WIRE_STATE_HEADER_BYTES + 1, WIRE_STATE_HEADER_BYTES + WIRE_STATE_MAX},
	[WIRE_READY] = {"READY", 0, 0},
	[WIRE_RUN] = {"RUN", 0, 0},
	[WIRE_RUNNING] = {"RUNNING", 0, 0},
	[WIRE_REFUSED] = {"REFUSED", 0, WIRE_REASON_MAX},
	[WIRE_CHANNEL] = {"CHANNEL", WIRE_CHANNEL_BYTES, WIRE_CHANNEL_BYTES},
	[WIRE_MISSING] = {"MISSING", WIRE_MISSING_HEADER_BYTES + 8,
			  WIRE_MISSING_HEADER_BYTES + 8 * WIRE_MISSING_WORDS_MAX},
	[WIRE_REQUEST] = {"REQUEST", 8, 8 * WIRE_REQUEST_MAX},
	[WIRE_COMPLETE] = {"COMPLETE", 0, 0},
	[WIRE_COMPLETED] = {"COMPLETED", 0, 0},
	[WIRE_RESUME] = {"RESUME", WIRE_ID_BYTES, WIRE_ID_BYTES},
	[WIRE_RESUMED] = {"RESUMED", 0, 0},
	[WIRE_MEMFD] = {"MEMFD", 4, 4},
};

const char *wire_name(unsigned type)
{
	return type < WIRE_TYPES ? types[type].name : NULL;
}

void wire_encode(uint8_t bytes[WIRE_HEADER_BYTES], const struct wire_header *header)
{
	struct writer w = writer_on(bytes, WIRE_HEADER_BYTES);
	write_le32(&w, WIRE_MAGIC);
	write_le16(&w, header->version);
	write_le16(&w, header->type);
	write_le32(&w, header->length);
	write_le32(&w, header->number);
	write_le32(&w, header->payload_crc);
	write_le32(&w, crc32c(0, bytes, w.used));
}

int wire_decode(const uint8_t bytes[WIRE_HEADER_BYTES], uint16_t version, struct wire_header *ret,
		struct err *err)
{
	struct reader r = reader_on(bytes, WIRE_HEADER_BYTES);
	uint32_t magic = read_le32(&r);
	*ret = (struct wire_header){.version = read_le16(&r), .type = read_le16(&r)};
	ret->length = read_le32(&r);
	ret->number = read_le32(&r);
	ret->payload_crc = read_le32(&r);
	if (magic != WIRE_MAGIC)
		return err_set(err, -EPROTO, "this is not a migration of aerie (it begins with %#" PRIx32 ")",
			       magic);
	if (read_le32(&r) != crc32c(0, bytes, WIRE_HEADER_BYTES - 4))
		return err_set(err, -EPROTO, "a damaged message header");
	if (version && ret->version != version)
		return err_set(err, -EPROTO, "a message of version %u where both speak %u", ret->version,
			       version);
	if (ret->type >= WIRE_TYPES || !types[ret->type].name)
		return err_set(err, -EPROTO, "a message of unknown type %u", ret->type);
	if (ret->length < types[ret->type].min || ret->length > types[ret->type].max)
		return err_set(
			err, -EPROTO, "%s with %" PRIu32 " bytes, where %" PRIu32 " to %" PRIu32 " are good",
			types[ret->type].name, ret->length, types[ret->type].min, types[ret->type].max);
	return 0;
}

void wire_encode_hello(uint8_t bytes[WIRE_HELLO_BYTES], const struct wire_hello *hello)
{
	struct writer w = writer_on(bytes, WIRE_HELLO_BYTES);
	write_le32(&w, hello->flags);
	write_le32(&w, hello->channels);
	write_bytes(&w, hello->id, sizeof(hello->id));
	write_le64(&w, hello->ram_bytes);
	write_le64(&w, hello->high_gpa);
}

int wire_decode_hello(const uint8_t *bytes, size_t len, struct wire_hello *ret, struct err *err)
{
	struct reader r = reader_on(bytes, len);
	*ret = (struct wire_hello){.flags = read_le32(&r), .channels = read_le32(&r)};
	read_bytes(&r, ret->id, sizeof(ret->id));
	ret->ram_bytes = read_le64(&r);
	ret->high_gpa = read_le64(&r);
	if (r.failed || r.used != len)
		return err_set(err, -EPROTO, "HELLO of %zu bytes", len);
	if (ret->channels > WIRE_CHANNELS_MAX)
		return err_set(err, -EPROTO, "HELLO with %" PRIu32 " channels, where 0 to %d are good",
			       ret->channels, WIRE_CHANNELS_MAX);
	return 0;
}

size_t wire_encode_disks(uint8_t bytes[WIRE_DISKS_BYTES_MAX], const struct wire_disks *disks)
{
	struct writer w = writer_on(bytes, WIRE_DISKS_BYTES_MAX);
	write_le32(&w, disks->count);
	for (uint32_t i = 0; i < disks->count; i++)
		write_le64(&w, disks->bytes[i]);
	return w.used;
}

int wire_decode_disks(const uint8_t *bytes, size_t len, struct wire_disks *ret, struct err *err)
{
	struct reader r = reader_on(bytes, len);
	*ret = (struct wire_disks){.count = read_le32(&r)};
	if (ret->count > WIRE_DISKS_MAX)
		return err_set(err, -EPROTO, "ACCEPTED with %" PRIu32 " disks, where 0 to %d are good",
			       ret->count, WIRE_DISKS_MAX);
	for (uint32_t i = 0; i < ret->count; i++)
		ret->bytes[i] = read_le64(&r);
	if (r.failed || r.used != len)
		return err_set(err, -EPROTO, "ACCEPTED of %zu bytes for %" PRIu32 " disks", len, ret->count);
	return 0;
}

int wire_decode_number(const uint8_t *bytes, size_t len, uint32_t *ret, struct err *err)
{
	if (len != 4)
		return err_set(err, -EPROTO, "a number of %zu bytes", len);
	*ret = load_le32(bytes);
	return 0;
}

uint64_t wire_pages_entry(const struct wire_pages *pages, uint32_t index, bool *ret_zero)
{
	uint64_t entry = load_le64(pages->entries + 8 * (size_t)index);
	*ret_zero = entry & 1;
	return entry >> 1;
}

int wire_decode_pages(const uint8_t *bytes, size_t len, uint64_t page_count, struct wire_pages *ret,
		      struct err *err)
{
	struct reader r = reader_on(bytes, len);
	*ret = (struct wire_pages){.flags = read_le32(&r), .count = read_le32(&r)};
	if (r.failed || ret->flags & ~(uint32_t)WIRE_PAGES_F_ZSTD)
		return err_set(err, -EPROTO, "PAGES with flags %#" PRIx32, ret->flags);
	if (ret->count < 1 || ret->count > WIRE_PAGES_MAX)
		return err_set(err, -EPROTO, "PAGES with %" PRIu32 " pages, where 1 to %d are good",
			       ret->count, WIRE_PAGES_MAX);
	ret->entries = bytes + r.used;
	read_skip(&r, (size_t)ret->count * 8);
	if (r.failed)
		return err_set(err, -EPROTO, "PAGES is cut short");
	ret->data = bytes + r.used;
	ret->data_bytes = len - r.used;
	for (uint32_t i = 0; i < ret->count; i++) {
		bool zero;
		uint64_t page = wire_pages_entry(ret, i, &zero);
		if (page >= page_count)
			return err_set(err, -EPROTO, "page %" PRIu64 " of %" PRIu64, page, page_count);
		ret->data_count += !zero;
	}
	bool zstd = ret->flags & WIRE_PAGES_F_ZSTD;
	if (zstd ? ret->data_count == 0 || ret->data_bytes == 0
		 : ret->data_bytes != (size_t)ret->data_count * WIRE_PAGE_BYTES)
		return err_set(err, -EPROTO, "PAGES with %zu bytes for %" PRIu32 " pages", ret->data_bytes,
			       ret->data_count);
	return 0;
}

/* ---- post-copy ---- */

int wire_decode_missing(const uint8_t *bytes, size_t len, uint64_t page_count, uint64_t *bitmap,
			struct err *err)
{
	uint64_t first = len >= WIRE_MISSING_HEADER_BYTES ? load_le64(bytes) : 0;
	size_t words = len >= WIRE_MISSING_HEADER_BYTES ? (len - WIRE_MISSING_HEADER_BYTES) / 8 : 0;
	if (words == 0 || len % 8)
		return err_set(err, -EPROTO, "MISSING of %zu bytes", len);
	uint64_t word_count = (page_count + 63) / 64;
	if (first % 64 || first / 64 > word_count || words > word_count - first / 64)
		return err_set(err, -EPROTO,
			       "MISSING of %zu pages from %" PRIu64 " on, where there are %" PRIu64,
			       words * 64, first, page_count);
	const uint8_t *at = bytes + WIRE_MISSING_HEADER_BYTES;
	bool has_last = page_count % 64 && first / 64 + words == word_count;
	if (has_last && load_le64(at + 8 * (words - 1)) >> page_count % 64)
		return err_set(err, -EPROTO, "MISSING has pages behind the last one, %" PRIu64, page_count);
	for (size_t i = 0; i < words; i++)
		bitmap[first / 64 + i] |= load_le64(at + 8 * i);
	return 0;
}

size_t wire_encode_missing(uint8_t *out, const uint64_t *bitmap, size_t first_word, size_t words)
{
	store_le64(out, (uint64_t)first_word * 64);
	for (size_t i = 0; i < words; i++)
		store_le64(out + WIRE_MISSING_HEADER_BYTES + 8 * i, bitmap[first_word + i]);
	return WIRE_MISSING_HEADER_BYTES + 8 * words;
}

int wire_decode_request(const uint8_t *bytes, size_t len, uint64_t page_count, uint64_t *pages,
			uint32_t *ret_count, struct err *err)
{
	if (len == 0 || len % 8 || len / 8 > WIRE_REQUEST_MAX)
		return err_set(err, -EPROTO, "REQUEST of %zu bytes", len);
	*ret_count = (uint32_t)(len / 8);
	for (uint32_t i = 0; i < *ret_count; i++) {
		pages[i] = load_le64(bytes + 8 * (size_t)i);
		if (pages[i] >= page_count)
			return err_set(err, -EPROTO, "REQUEST of page %" PRIu64 " of %" PRIu64, pages[i],
				       page_count);
	}
	return 0;
}
