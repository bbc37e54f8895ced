#include "base/bytes.h"

static uint8_t *writer_take(struct writer *w, size_t len)
{
	if (w->failed || len > w->size - w->used) {
		w->failed = true;
		return NULL;
	}
	uint8_t *at = w->data + w->used;
	w->used += len;
	return at;
}

void write_bytes(struct writer *w, const void *src, size_t len)
{
	uint8_t *at = writer_take(w, len);
	if (at && len)
		memcpy(at, src, len);
}

void write_zeros(struct writer *w, size_t len)
{
	uint8_t *at = writer_take(w, len);
	if (at && len)
		memset(at, 0, len);
}

void write_u8(struct writer *w, uint8_t v)
{
	write_bytes(w, &v, sizeof(v));
}

void write_le16(struct writer *w, uint16_t v)
{
	write_bytes(w, &v, sizeof(v));
}

void write_le32(struct writer *w, uint32_t v)
{
	write_bytes(w, &v, sizeof(v));
}

void write_le64(struct writer *w, uint64_t v)
{
	write_bytes(w, &v, sizeof(v));
}

void read_bytes(struct reader *r, void *dst, size_t len)
{
	if (r->failed || len > r->size - r->used) {
		r->failed = true;
		memset(dst, 0, len);
		return;
	}
	if (len)
		memcpy(dst, r->data + r->used, len);
	r->used += len;
}

void read_skip(struct reader *r, size_t len)
{
	if (r->failed || len > r->size - r->used) {
		r->failed = true;
		return;
	}
	r->used += len;
}

uint16_t read_le16(struct reader *r)
{
	uint16_t v;
	read_bytes(r, &v, sizeof(v));
	return v;
}

uint32_t read_le32(struct reader *r)
{
	uint32_t v;
	read_bytes(r, &v, sizeof(v));
	return v;
}

uint64_t read_le64(struct reader *r)
{
	uint64_t v;
	read_bytes(r, &v, sizeof(v));
	return v;
}
