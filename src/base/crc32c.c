#include "base/crc32c.h"

#include <string.h>

/*
 * The instruction has a result every cycle and takes three for it, so three thirds of a block are summed side
 * by side. The sum of the first is then carried over the bytes behind it, which multiplies it by x^(8 *
 * bytes) modulo the polynomial: a carry-less product with x^(8 * bytes - 33), which the instruction reduces
 * (Gopal et al., "Fast CRC Computation for iSCSI Polynomial Using CRC32 Instruction", Intel 2011). The
 * constants are that power for one third and for two.
 */
enum { THIRD_BYTES = 1360, BLOCK_BYTES = 3 * THIRD_BYTES }; /* of a page all but 16 bytes */
#define OVER_ONE_THIRD	UINT64_C(0x3f70cc6f)
#define OVER_TWO_THIRDS UINT64_C(0x5aa1f3cf)

typedef long long two_words __attribute__((vector_size(16)));

static uint64_t word_at(const uint8_t *p)
{
	uint64_t word;
	memcpy(&word, p, sizeof(word));
	return word;
}

__attribute__((target("sse4.2,pclmul"))) static uint64_t carry(uint64_t crc, uint64_t power)
{
	const two_words a = {(long long)crc, 0}, b = {(long long)power, 0};
	return __builtin_ia32_crc32di(0, (uint64_t)__builtin_ia32_pclmulqdq128(a, b, 0)[0]);
}

__attribute__((target("sse4.2,pclmul"))) static uint32_t crc_block(uint32_t crc, const uint8_t *p)
{
	uint64_t a = crc, b = 0, c = 0;
	for (size_t i = 0; i < THIRD_BYTES; i += sizeof(uint64_t)) {
		a = __builtin_ia32_crc32di(a, word_at(p + i));
		b = __builtin_ia32_crc32di(b, word_at(p + THIRD_BYTES + i));
		c = __builtin_ia32_crc32di(c, word_at(p + 2 * (size_t)THIRD_BYTES + i));
	}
	return (uint32_t)(carry(a, OVER_TWO_THIRDS) ^ carry(b, OVER_ONE_THIRD) ^ c);
}

/* Eight bytes at a time. */
__attribute__((target("sse4.2"))) static uint32_t crc_instruction(uint32_t crc, const uint8_t *p, size_t len)
{
	uint64_t wide = crc;
	for (; len >= sizeof(uint64_t); p += sizeof(uint64_t), len -= sizeof(uint64_t))
		wide = __builtin_ia32_crc32di(wide, word_at(p));
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
	const uint8_t *p = data;
	crc = ~crc;
	if (!__builtin_cpu_supports("sse4.2"))
		return ~crc_bits(crc, p, len);
	if (__builtin_cpu_supports("pclmul"))
		for (; len >= BLOCK_BYTES; p += BLOCK_BYTES, len -= BLOCK_BYTES)
			crc = crc_block(crc, p);
	return ~crc_instruction(crc, p, len);
}
