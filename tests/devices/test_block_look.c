/* The size of an image that another machine has. */
#include "block_rig.h"

static int look(const char *path, enum disk_format format, uint64_t *bytes, struct err *err)
{
	const struct disk_config config = {.path = path, .format = format};
	*err = ERR_INIT;
	return block_look(&config, bytes, err);
}

START_TEST(a_raw_image_that_somebody_writes)
{
	struct image image = new_image(); /* open and locked */
	struct err err;
	uint64_t bytes = 0;
	ck_assert_msg(look(image.path, DISK_RAW, &bytes, &err) == 0, "%s", err.text);
	ck_assert_uint_eq(bytes, IMAGE_BYTES);
	/* The lock is where it was: a second machine does not get it. */
	struct block *second;
	const struct block_raw_spec spec = plain(&image);
	ck_assert_int_eq(block_raw_open(&spec, image.block->loop, &second, &err), -EBUSY);
	ck_assert_int_eq(look(image.path, DISK_QCOW2, &bytes, &err), -EINVAL);
	drop_image(&image);
}
END_TEST

START_TEST(what_is_none)
{
	struct err err;
	uint64_t bytes;
	ck_assert_int_eq(look("/nowhere/at/all", DISK_RAW, &bytes, &err), -ENOENT);
	ck_assert_int_eq(look("/dev/null", DISK_RAW, &bytes, &err), -EINVAL);
	ck_assert_ptr_nonnull(strstr(err.text, "neither a file nor a block device"));
	ck_assert_int_eq(look("/", DISK_RAW, &bytes, &err), -EINVAL);
}
END_TEST

TEST_MAIN("block_look", a_raw_image_that_somebody_writes, what_is_none)
