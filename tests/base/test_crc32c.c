#include "base/crc32c.h"

#include "harness.h"

#include <string.h>

/* RFC 3720, appendix B.4. */
START_TEST(known_sums)
{
	uint8_t data[32];
	memset(data, 0, sizeof(data));
	ck_assert_uint_eq(crc32c(0, data, sizeof(data)), 0x8a9136aaU);
	memset(data, 0xff, sizeof(data));
	ck_assert_uint_eq(crc32c(0, data, sizeof(data)), 0x62a8ab43U);
	for (unsigned i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)i;
	ck_assert_uint_eq(crc32c(0, data, sizeof(data)), 0x46dd794eU);
	ck_assert_uint_eq(crc32c(0, "123456789", 9), 0xe3069283U);
}
END_TEST

START_TEST(parts_are_as_the_whole)
{
	static const char text[] = "a text that is cut wherever it can be cut";
	const uint32_t whole = crc32c(0, text, sizeof(text));
	for (size_t cut = 0; cut <= sizeof(text); cut++)
		ck_assert_uint_eq(crc32c(crc32c(0, text, cut), text + cut, sizeof(text) - cut), whole);
}
END_TEST

/* Long ones are summed in three strands; bit by bit they must be the same. */
START_TEST(long_ones)
{
	static uint8_t data[9000];
	uint32_t crc = ~0U, seed = 1;
	for (size_t i = 0; i < sizeof(data); i++) {
		seed = seed * 1664525U + 1013904223U;
		data[i] = (uint8_t)(seed >> 24);
		crc ^= data[i];
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78U : 0);
		ck_assert_uint_eq(crc32c(0, data, i + 1), ~crc);
	}
}
END_TEST

TEST_MAIN("crc32c", known_sums, parts_are_as_the_whole, long_ones)
