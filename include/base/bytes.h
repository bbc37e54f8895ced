/*
 * Little-endian bytes with bounds.
 *
 * load_/store_ take any alignment. A `struct writer` appends to a fixed buffer and a `struct reader` consumes
 * one; both remember overrun in `failed` instead of crossing the end, so that a format is written or read
 * straight through and checked once at its end.
 */
#ifndef AERIE_BASE_BYTES_H
#define AERIE_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint16_t load_le16(const void *p)
{
	uint16_t v;
	memcpy(&v, p, sizeof(v));
	return v; /* x86-64 is little-endian, and so is everything a PC keeps in memory */
}

static inline uint32_t load_le32(const void *p)
{
	uint32_t v;
	memcpy(&v, p, sizeof(v));
	return v;
}

static inline uint64_t load_le64(const void *p)
{
	uint64_t v;
	memcpy(&v, p, sizeof(v));
	return v;
}

static inline void store_le16(void *p, uint16_t v)
{
	memcpy(p, &v, sizeof(v));
}

static inline void store_le32(void *p, uint32_t v)
{
	memcpy(p, &v, sizeof(v));
}

static inline void store_le64(void *p, uint64_t v)
{
	memcpy(p, &v, sizeof(v));
}

struct writer {
	uint8_t *data; /* borrowed */
	size_t size;   /* bytes that data has */
	size_t used;
	bool failed; /* something did not fit; `used` no longer grows */
};

static inline struct writer writer_on(void *data, size_t size)
{
	return (struct writer){.data = data, .size = size};
}

void write_bytes(struct writer *w, const void *src, size_t len);
void write_zeros(struct writer *w, size_t len);
void write_u8(struct writer *w, uint8_t v);
void write_le16(struct writer *w, uint16_t v);
void write_le32(struct writer *w, uint32_t v);
void write_le64(struct writer *w, uint64_t v);

struct reader {
	const uint8_t *data; /* borrowed */
	size_t size;
	size_t used;
	bool failed; /* a read crossed the end; it and all later ones gave zeros */
};

static inline struct reader reader_on(const void *data, size_t size)
{
	return (struct reader){.data = data, .size = size};
}

void read_bytes(struct reader *r, void *dst, size_t len);
void read_skip(struct reader *r, size_t len);
uint16_t read_le16(struct reader *r);
uint32_t read_le32(struct reader *r);
uint64_t read_le64(struct reader *r);

#endif
