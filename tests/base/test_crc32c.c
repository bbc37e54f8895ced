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

TEST_MAIN("crc32c", known_sums, parts_are_as_the_whole)
