/* qcow2: chains of images: which are refused, how they are locked, and growing. */
#include "qcow2_files.h"

static struct loop *new_loop(void)
{
	struct loop *loop = NULL;
	struct err err = ERR_INIT;
	ck_assert_msg(loop_create(64, &loop, &err) == 0, "%s", err.text);
	return loop;
}

static int open_disk(struct loop *loop, const char *name, bool read_only, struct block **ret, struct err *err)
{
	char path[512];
	(void)snprintf(path, sizeof(path), "%s/%s", test_folder(), name);
	const struct disk_config config = {.path = path,
					   .format = DISK_QCOW2,
					   .read_only = read_only,
					   .discard = true,
					   .block_size = 512};
	*err = ERR_INIT;
	return block_open(&config, loop, ret, err);
}

static void qemu_img(const char *arguments)
{
	ck_assert_int_eq(shell("cd '%s' && qemu-img %s >/dev/null", test_folder(), arguments), 0);
}

static void refused(const char *name, const char *words)
{
	struct loop *loop = new_loop();
	struct block *block = NULL;
	struct err err;
	ck_assert_int_lt(open_disk(loop, name, false, &block, &err), 0);
	ck_assert_msg(strstr(err.text, words) != NULL, "'%s' has no '%s'", err.text, words);
	loop_destroy(loop);
}

START_TEST(what_cannot_be_opened_says_why)
{
	const char *folder = test_folder();
	qemu_img("create -q -f raw base 1M");
	/* An image that names a backing file but no format: -F makes the extension, whose type is spoilt. */
	qemu_img("create -q -f qcow2 -b base -F raw guess.qcow2");
	ck_assert_int_eq(
		shell("cd '%s' && printf '\\0\\0\\0\\1' | dd of=guess.qcow2 bs=1 seek=112 conv=notrunc "
		      "2>/dev/null",
		      folder),
		0);
	refused("guess.qcow2", "qemu-img rebase -u -b base -F FORMAT");
	qemu_img("create -q -f qcow2 -b base -F raw gone.qcow2");
	ck_assert_int_eq(shell("mv '%s/base' '%s/elsewhere'", folder, folder), 0);
	refused("gone.qcow2", "backing file");
	refused("gone.qcow2", "No such file");
	refused("elsewhere", "is no qcow2 image");
	qemu_img("create -q -u -f qcow2 -b loop2.qcow2 -F qcow2 loop1.qcow2 1M");
	qemu_img("create -q -u -f qcow2 -b loop1.qcow2 -F qcow2 loop2.qcow2 1M");
	refused("loop1.qcow2", "its own backing file");
	qemu_img("create -q -u -f qcow2 -b nbd://host/x -F raw url.qcow2 1M");
	refused("url.qcow2", "aerie opens files");
	qemu_img("create -q -u -f qcow2 -b elsewhere -F vmdk vmdk.qcow2 1M");
	refused("vmdk.qcow2", "may be raw or qcow2");
	qemu_img("create -q -f qcow2 -o extended_l2=on extended.qcow2 1M");
	refused("extended.qcow2", "extended_l2=off");
	qemu_img("create -q -f qcow2 -o data_file=data data.qcow2 1M");
	refused("data.qcow2", "keeps its data in another file");
	qemu_img("create -q -f qcow2 empty.qcow2 0");
	refused("empty.qcow2", "0 bytes");
}
END_TEST

START_TEST(a_chain_is_as_long_as_it_may_be)
{
	qemu_img("create -q -f qcow2 c1.qcow2 1M");
	for (int i = 2; i <= QCOW2_CHAIN_MAX + 1; i++)
		ck_assert_int_eq(
			shell("cd '%s' && qemu-img create -q -u -f qcow2 -b c%d.qcow2 -F qcow2 c%d.qcow2 1M",
			      test_folder(), i - 1, i),
			0);
	struct loop *loop = new_loop();
	struct block *block = NULL;
	struct err err;
	ck_assert_msg(open_disk(loop, "c32.qcow2", false, &block, &err) == 0, "%s", err.text);
	uint8_t data[4096];
	ck_assert_int_eq(do_request(loop, block, BLOCK_READ, data, 4096, sizeof(data)), 0);
	block_close(block);
	loop_destroy(loop);
	refused("c33.qcow2", "of at most 32");
}
END_TEST

START_TEST(backing_files_are_shared_and_images_are_not)
{
	qemu_img("create -q -f qcow2 shared.qcow2 1M");
	qemu_img("create -q -f qcow2 -b shared.qcow2 -F qcow2 one.qcow2");
	qemu_img("create -q -f qcow2 -b shared.qcow2 -F qcow2 two.qcow2");
	struct loop *loop = new_loop();
	struct block *one = NULL, *two = NULL, *none = NULL;
	struct err err;
	ck_assert_int_eq(open_disk(loop, "one.qcow2", false, &one, &err), 0);
	ck_assert_int_eq(open_disk(loop, "two.qcow2", false, &two, &err), 0);
	ck_assert_int_eq(open_disk(loop, "one.qcow2", false, &none, &err), -EBUSY);
	ck_assert_int_eq(open_disk(loop, "shared.qcow2", false, &none, &err), -EBUSY);
	ck_assert_int_eq(open_disk(loop, "shared.qcow2", true, &none, &err), 0);
	block_close(none);
	block_close(one);
	block_close(two);
	loop_destroy(loop);
}
END_TEST

START_TEST(a_disk_grows_and_does_not_shrink)
{
	qemu_img("create -q -f qcow2 -o cluster_size=4096 grow.qcow2 1M");
	struct loop *loop = new_loop();
	struct block *block = NULL;
	struct err err;
	uint8_t data[4096], back[4096];
	memset(data, 0x5a, sizeof(data));
	ck_assert_int_eq(open_disk(loop, "grow.qcow2", false, &block, &err), 0);
	ck_assert_int_eq(do_request(loop, block, BLOCK_WRITE, data, 0, sizeof(data)), 0);
	ck_assert_int_lt(block_resize(block, 512 << 10, &err), 0);
	err = ERR_INIT;
	ck_assert_msg(block_resize(block, 64 << 20, &err) == 0, "%s", err.text);
	ck_assert_uint_eq(block->size_bytes, 64 << 20);
	ck_assert_int_eq(do_request(loop, block, BLOCK_WRITE, data, (64 << 20) - 4096, sizeof(data)), 0);
	ck_assert_int_lt(block_resize(block, UINT64_C(1) << 40, &err), 0);
	ck_assert_ptr_nonnull(strstr(err.text, "L1 table has room for"));
	block_close(block);
	ck_assert_int_eq(check_image("grow.qcow2"), 0);
	ck_assert_int_eq(open_disk(loop, "grow.qcow2", true, &block, &err), 0);
	ck_assert_uint_eq(block->size_bytes, 64 << 20);
	ck_assert_int_eq(do_request(loop, block, BLOCK_READ, back, (64 << 20) - 4096, sizeof(back)), 0);
	ck_assert_mem_eq(data, back, sizeof(data));
	ck_assert_int_eq(do_request(loop, block, BLOCK_WRITE, back, 0, sizeof(back)), -EROFS);
	block_close(block);
	loop_destroy(loop);
}
END_TEST

START_TEST(what_others_keep_beside_the_disk_is_called_stale)
{
	qemu_img("create -q -f qcow2 bitmap.qcow2 1M");
	qemu_img("bitmap --add bitmap.qcow2 b0");
	struct loop *loop = new_loop();
	struct block *block = NULL;
	struct err err;
	ck_assert_int_eq(open_disk(loop, "bitmap.qcow2", false, &block, &err), 0);
	block_close(block);
	loop_destroy(loop);
	ck_assert_int_eq(
		shell("cd '%s' && od -An -tx1 -j88 -N8 bitmap.qcow2 | grep -q '00 00 00 00 00 00 00 00'",
		      test_folder()),
		0);
}
END_TEST

enum { OVERLAPS = 64, OVERLAP_BYTES = 96 << 10 };

struct overlap {
	struct block_request request;
	struct iovec iov;
	uint8_t *data;
	struct loop *loop;
	unsigned *left;
};

static void overlap_done(struct block_request *request, int res)
{
	struct overlap *overlap = container_of(request, struct overlap, request);
	ck_assert_int_eq(res, 0);
	if (--*overlap->left == 0)
		loop_quit(overlap->loop);
}

/* Each sector then holds what one of the writers wrote, and the tables are right. */
START_TEST(writes_that_overlap_are_one_after_the_other)
{
	static struct overlap all[OVERLAPS];
	static uint8_t back[1 << 20];
	uint64_t seed = 7;
	qemu_img("create -q -f qcow2 overlap.qcow2 1M");
	struct loop *loop = new_loop();
	struct block *block = NULL;
	struct err err;
	ck_assert_int_eq(open_disk(loop, "overlap.qcow2", false, &block, &err), 0);
	for (int round = 0; round < 4; round++) {
		unsigned left = OVERLAPS;
		for (uint32_t i = 0; i < OVERLAPS; i++) {
			struct overlap *o = &all[i];
			uint64_t first = random_below(&seed, ((1 << 20) - OVERLAP_BYTES) / SECTOR);
			uint64_t bytes = (random_below(&seed, OVERLAP_BYTES / SECTOR) + 1) * SECTOR;
			o->data = realloc(o->data, OVERLAP_BYTES);
			ck_assert_ptr_nonnull(o->data);
			for (uint64_t s = 0; s < bytes / SECTOR; s++)
				stamp_sector(o->data + s * SECTOR, i + 2, first + s);
			o->iov = (struct iovec){o->data, bytes};
			o->loop = loop;
			o->left = &left;
			static const enum block_command commands[] = {BLOCK_WRITE, BLOCK_WRITE,
								      BLOCK_WRITE_ZEROES, BLOCK_DISCARD};
			o->request = (struct block_request){.command = commands[i % 4],
							    .unmap = i % 8 < 4,
							    .offset = first * SECTOR,
							    .bytes = bytes,
							    .iov = i % 4 < 2 ? &o->iov : NULL,
							    .iov_count = i % 4 < 2 ? 1 : 0,
							    .done = overlap_done};
			block_submit(block, &o->request);
		}
		ck_assert_int_eq(loop_run(loop), 0);
		ck_assert_int_eq(do_request(loop, block, BLOCK_READ, back, 0, sizeof(back)), 0);
		for (uint64_t s = 0; s < sizeof(back) / SECTOR; s++)
			ck_assert_uint_lt(sector_version(back + s * SECTOR, s), OVERLAPS + 2);
	}
	block_close(block);
	loop_destroy(loop);
	for (int i = 0; i < OVERLAPS; i++) {
		free(all[i].data);
		all[i].data = NULL;
	}
	ck_assert_int_eq(check_image("overlap.qcow2"), 0);
}
END_TEST

QCOW2_TEST_MAIN("qcow2_chain", what_cannot_be_opened_says_why, a_chain_is_as_long_as_it_may_be,
		backing_files_are_shared_and_images_are_not, a_disk_grows_and_does_not_shrink,
		what_others_keep_beside_the_disk_is_called_stale, writes_that_overlap_are_one_after_the_other)
