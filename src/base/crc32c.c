#include "base/crc32c.h"

#include <string.h>

/* By the instruction of SSE4.2, eight bytes at a time. */
__attribute__((target("sse4.2"))) static uint32_t crc_instruction(uint32_t crc, const uint8_t *p, size_t len)
{
	uint64_t wide = crc;
	for (; len >= sizeof(uint64_t); p += sizeof(uint64_t), len -= sizeof(uint64_t)) {
		uint64_t v;
		memcpy(&v, p, sizeof(v));
		wide = __builtin_ia32_crc32di(wide, v);
	}
	crc = (uint32_t)wide;
	while (len--)
		crc = __builtin_ia32_crc32qi(crc, *p++);
	return crc;
}

/* One bit at a time: for CPUs before 2008, and to check the other one against. */
static uint32_t crc_bits(uint32_t crc, const uint8_t *p, size_t len)
{
	while (len--) {
		crc ^= *p++;
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78U : 0);
	}
	return crc;
}

uint32_t crc32c(uint32_t crc, const void *data, size_t len)
{
	return ~(__builtin_cpu_supports("sse4.2") ? crc_instruction(~crc, data, len)
						  : crc_bits(~crc, data, len));
}
