/* The BIOS data that a kernel reads which was loaded without a BIOS, and the one service there is. */
#include "../../firmware/bios.h"
#include "rig.h"

START_TEST(the_data_area_tells_conventional_memory)
{
	struct rig rig;
	rig_open(&rig, 16 * MIB);
	rig.config.serial_count = 2;
	memset(rig_ram(&rig, 0, 0x1000), 0x5a, 0x1000);
	ck_assert_int_eq(bios_write(&rig.config, rig.memory), 0);
	const uint8_t *bda = rig_ram(&rig, 0x400, 0x100);
	ck_assert_uint_eq(load_le16(bda + 0x00), 0x3f8);
	ck_assert_uint_eq(load_le16(bda + 0x02), 0x2f8);
	ck_assert_uint_eq(load_le16(bda + 0x04), 0);
	ck_assert_uint_eq(load_le16(bda + 0x0e), 0x9fc0);
	ck_assert_uint_eq(load_le16(bda + 0x10), 2 << 9);
	ck_assert_uint_eq(load_le16(bda + 0x13), 639);
	ck_assert_uint_eq(*(uint8_t *)rig_ram(&rig, 0x9fc00, 1), 1); /* KiB */
	ck_assert_uint_eq(*(uint8_t *)rig_ram(&rig, 0x500, 1), 0x5a);
	rig_close(&rig);
}
END_TEST

START_TEST(every_vector_answers_with_carry)
{
	static const uint8_t service[] = {0x55, 0x89, 0xe5, 0x80, 0x4e, 0x06, 0x01, 0x5d, 0xcf};
	struct rig rig;
	rig_open(&rig, 16 * MIB);
	ck_assert_int_eq(bios_write(&rig.config, rig.memory), 0);
	for (uint64_t i = 0; i < 256; i++) {
		uint32_t vector = rig_le32(&rig, 4 * i);
		uint64_t gpa = (vector >> 16) * 16 + (vector & 0xffff);
		ck_assert_uint_ge(gpa, 0x9fc00); /* reserved in e820 */
		ck_assert_uint_lt(gpa, 0xa0000);
		ck_assert_mem_eq(rig_ram(&rig, gpa, sizeof(service)), service, sizeof(service));
	}
	rig_close(&rig);
}
END_TEST

START_TEST(ram_may_be_too_small)
{
	struct rig rig;
	rig_open(&rig, 512 * KIB);
	ck_assert_int_eq(bios_write(&rig.config, rig.memory), -EFAULT);
	struct err err = ERR_INIT;
	rig.config.boot.kernel = "/dev/null";
	ck_assert_int_eq(firmware_load(&rig.config, rig.memory, &rig.boot, &err), -EINVAL);
	ck_assert_str_eq(err.text, "memory.size: a PC needs more than 1 MiB");
	rig_close(&rig);
}
END_TEST

TEST_MAIN("bios", the_data_area_tells_conventional_memory, every_vector_answers_with_carry,
	  ram_may_be_too_small)
