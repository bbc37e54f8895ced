/* Configuration space: both ways to it, header, sizing, capabilities, slots. */
#include "harness.h"
#include "pci_bench.h"

#include <errno.h>

enum { HOST = 0, FUNCTION = 1 }; /* slots */

START_TEST(both_mechanisms_see_the_same)
{
	struct bench bench;
	bench_init(&bench);
	for (uint32_t slot = 0; slot < 3; slot++)
		for (uint32_t offset = 0; offset < 256; offset++)
			for (unsigned size = 1; size <= 4 - offset % 4; size *= 2)
				ck_assert_uint_eq(port_get(&bench, slot, offset, size),
						  conf_get(&bench, slot, offset, size));
	port_set(&bench, FUNCTION, 0x3c, 1, 0x5a);
	ck_assert_uint_eq(conf_get(&bench, FUNCTION, 0x3c, 1), 0x5a);
	conf_set(&bench, FUNCTION, 0x3c, 1, 0xa5);
	ck_assert_uint_eq(port_get(&bench, FUNCTION, 0x3c, 4), 0x000001a5);
	bench_finish(&bench);
}
END_TEST

TEST_MAIN("pci", both_mechanisms_see_the_same)
