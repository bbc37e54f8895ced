/* Raw images: containers, sizes, opening, a disk that is full. */
#include "block_rig.h"
#include "scratch.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>

/* ---- containers, sizes ---- */

START_TEST(a_container_grows_and_ends_in_zeros)
{
	static uint8_t data[8192], back[65536];
	for (int direct = 0; direct <= 1; direct++) {
		struct image image = {.block = NULL};
		make_file(&image, 1000);
		struct block_raw_spec spec = plain(&image);
		spec.container = true;
		spec.direct = direct;
		open_image(&image, &spec);
		ck_assert_uint_eq(image.block->size_bytes, 1000);
		memset(back, 0xee, sizeof(back));
		ck_assert_int_eq(do_io(&image, BLOCK_READ, back, sizeof(back), 0), 0);
		ck_assert(all_zero(back, sizeof(back)));
		fill(data, sizeof(data), 6);
		ck_assert_int_eq(do_io(&image, BLOCK_WRITE, data, sizeof(data), 16384), 0);
		ck_assert_uint_eq(image.block->size_bytes, 16384 + 8192);
		memset(back, 0xee, sizeof(back));
		ck_assert_int_eq(do_io(&image, BLOCK_READ, back, sizeof(back), 0), 0);
		ck_assert(all_zero(back, 16384));
		ck_assert_int_eq(memcmp(back + 16384, data, 8192), 0);
		ck_assert(all_zero(back + 24576, sizeof(back) - 24576));
		struct err err = ERR_INIT;
		uint8_t some[5000];
		ck_assert_int_eq(block_raw_pread(image.block, some, 5000, 16384 + 100, &err), 0);
		ck_assert_int_eq(memcmp(some, data + 100, 5000), 0);
		ck_assert_int_eq(block_raw_pread(image.block, some, 5000, 20000, &err), -EIO);
		drop_image(&image);
	}
}
END_TEST

START_TEST(resizing_is_seen)
{
	struct image image = new_image();
	struct err err = ERR_INIT;
	ck_assert_int_eq(block_resize(image.block, 2 * IMAGE_BYTES, &err), 0);
	ck_assert_uint_eq(image.block->size_bytes, 2 * IMAGE_BYTES);
	uint8_t buf[512];
	ck_assert_int_eq(do_io(&image, BLOCK_READ, buf, 512, IMAGE_BYTES), 0);
	ck_assert_int_eq(truncate(image.path, 3 * IMAGE_BYTES), 0);
	ck_assert_int_eq(block_resize(image.block, 0, &err), 0);
	ck_assert_uint_eq(image.block->size_bytes, 3 * IMAGE_BYTES);
	ck_assert_int_eq(block_resize(image.block, 1000, &err), -EINVAL);
	ck_assert_ptr_nonnull(strstr(err.text, "block size"));
	ck_assert_uint_eq(image.block->size_bytes, 3 * IMAGE_BYTES);
	drop_image(&image);
}
END_TEST

/* ---- opening ---- */

static void refused(const struct block_raw_spec *spec, int code, const char *words)
{
	struct image image = {.block = NULL};
	struct err err = ERR_INIT;
	ck_assert_int_eq(loop_create(4, &image.loop, &err), 0);
	int res = block_raw_open(spec, image.loop, &image.block, &err);
	ck_assert_msg(res == code, "%d: %s", res, err.text);
	ck_assert_ptr_null(image.block);
	ck_assert_msg(strstr(err.text, spec->path) && strstr(err.text, words), "%s", err.text);
	loop_destroy(image.loop);
}

START_TEST(one_writer_is_alone)
{
	struct image image = new_image();
	struct block_raw_spec spec = plain(&image);
	refused(&spec, -EBUSY, "another machine");
	spec.read_only = true;
	refused(&spec, -EBUSY, "writes to it");
	block_close(image.block);
	loop_destroy(image.loop);
	open_image(&image, &spec);
	struct image second = image;
	open_image(&second, &spec); /* readers are many */
	block_close(second.block);
	loop_destroy(second.loop);
	spec.read_only = false;
	refused(&spec, -EBUSY, "reads or writes it");
	block_close(image.block);
	loop_destroy(image.loop);
	open_image(&image, &spec);
	drop_image(&image);
}
END_TEST

/* The next program finds it free at once, though the io_uring may not have let go of the file. */
START_TEST(a_closed_image_is_not_locked)
{
	struct image image = new_image();
	struct flock range = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	uint8_t data[512];
	memset(data, 1, sizeof(data));
	ck_assert_int_eq(do_io(&image, BLOCK_WRITE, data, sizeof(data), 0), 0);
	int fd = open(image.path, O_RDWR | O_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_lt(fcntl(fd, F_OFD_SETLK, &range), 0);
	block_close(image.block);
	ck_assert_int_eq(fcntl(fd, F_OFD_SETLK, &range), 0);
	(void)close(fd);
	loop_destroy(image.loop);
	(void)unlink(image.path);
}
END_TEST

START_TEST(what_is_no_disk_is_refused)
{
	struct image image = {.block = NULL};
	make_file(&image, 0);
	struct block_raw_spec spec = plain(&image);
	refused(&spec, -EINVAL, "is empty");
	ck_assert_int_eq(truncate(image.path, 1000), 0);
	refused(&spec, -EINVAL, "no multiple of the block size 512");
	ck_assert_int_eq(truncate(image.path, 4096 + 512), 0);
	spec.block_size = 4096;
	refused(&spec, -EINVAL, "no multiple of the block size 4096");
	unlink(image.path);
	refused(&spec, -ENOENT, "No such file");
	ck_assert_int_eq(mkfifo(image.path, 0600), 0);
	refused(&spec, -EINVAL, "neither a file nor a block device");
	unlink(image.path);
	spec.path = "/";
	refused(&spec, -EINVAL, "neither a file nor a block device");
	block_close(NULL);
}
END_TEST

/* In a child, with a file system of its own that is really full. Returns what the test exits with. */
static int fill_a_disk(const char *folder)
{
	if (unshare(geteuid() == 0 ? CLONE_NEWNS : CLONE_NEWUSER | CLONE_NEWNS) < 0 ||
	    mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("tmpfs", folder, "tmpfs", 0, "size=64k") < 0)
		return TEST_SKIP;
	struct image image = {.block = NULL};
	snprintf(image.path, sizeof(image.path), "%s/image", folder);
	int fd = open(image.path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	ck_assert_int_eq(ftruncate(fd, IMAGE_BYTES), 0);
	close(fd);
	struct block_raw_spec spec = plain(&image);
	open_image(&image, &spec);
	static uint8_t data[131072], back[4096];
	fill(data, sizeof(data), 7);
	int first = do_io(&image, BLOCK_WRITE, data, 4096, 0);
	int second = do_io(&image, BLOCK_WRITE, data, sizeof(data), 8192);
	int third = do_io(&image, BLOCK_READ, back, 4096, 0);
	bool kept = memcmp(back, data, 4096) == 0;
	block_close(image.block);
	loop_destroy(image.loop);
	return first == 0 && second == -ENOSPC && third == 0 && kept ? 0 : 1;
}

START_TEST(a_full_disk_is_an_error_and_no_more)
{
	char folder[64];
	ck_assert_ptr_nonnull(scratch_folder(folder, sizeof(folder), "block-XXXXXX"));
	pid_t pid = fork();
	if (pid == 0)
		_exit(fill_a_disk(folder));
	int status;
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	rmdir(folder);
	ck_assert(WIFEXITED(status));
	ck_assert_msg(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == TEST_SKIP, "%d",
		      WEXITSTATUS(status));
}
END_TEST

TEST_MAIN("block_open", a_container_grows_and_ends_in_zeros, resizing_is_seen, one_writer_is_alone,
	  a_closed_image_is_not_locked, what_is_no_disk_is_refused, a_full_disk_is_an_error_and_no_more)
