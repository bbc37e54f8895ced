/* An image in a file, requests to it, and a kernel that lies: what the tests of raw images share. */
#ifndef AERIE_TESTS_DEVICES_BLOCK_RIG_H
#define AERIE_TESTS_DEVICES_BLOCK_RIG_H

#include "../../devices/backend/block.h"
#include "base/cleanup.h"
#include "harness.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { IMAGE_BYTES = 1 << 20 };

/* ---- an image, and requests to it ---- */

struct image {
	char path[256];
	struct loop *loop;
	struct block *block;
};

static inline void make_file(struct image *image, off_t bytes)
{
	const char *folder = getenv("AERIE_BUILD"); /* on a disk: tmpfs had no O_DIRECT before Linux 6.6 */
	snprintf(image->path, sizeof(image->path), "%s/block-raw-XXXXXX", folder ? folder : "/var/tmp");
	int fd = mkstemp(image->path);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, bytes), 0);
	close(fd);
}

static inline struct block_raw_spec plain(const struct image *image)
{
	return (struct block_raw_spec){.path = image->path, .discard = true, .block_size = 512};
}

static inline void open_image(struct image *image, const struct block_raw_spec *spec)
{
	struct err err = ERR_INIT;
	ck_assert_msg(loop_create(64, &image->loop, &err) == 0, "%s", err.text);
	ck_assert_msg(block_raw_open(spec, image->loop, &image->block, &err) == 0, "%s", err.text);
}

static inline struct image new_image(void)
{
	struct image image = {.block = NULL};
	make_file(&image, IMAGE_BYTES);
	struct block_raw_spec spec = plain(&image);
	open_image(&image, &spec);
	return image;
}

static inline struct image new_direct_image(void)
{
	struct image image = {.block = NULL};
	make_file(&image, IMAGE_BYTES);
	struct block_raw_spec spec = plain(&image);
	spec.direct = true;
	open_image(&image, &spec);
	return image;
}

static inline void drop_image(struct image *image)
{
	block_close(image->block);
	loop_destroy(image->loop);
	unlink(image->path);
}

struct waited {
	struct block_request request;
	struct loop *loop;
	unsigned *left; /* the loop ends at 0 */
	bool called;
	int res;
	/* What the kernel "answers" in place of what it did, while there are answers. */
	const int *answers;
	unsigned answer_count;
	void (*real_done)(struct loop_op *op, int res);
	unsigned steps;
};

static inline void waited_done(struct block_request *request, int res)
{
	struct waited *waited = container_of(request, struct waited, request);
	ck_assert(!waited->called);
	waited->called = true;
	waited->res = res;
	if (--*waited->left == 0)
		loop_quit(waited->loop);
}

static inline void lie(struct loop_op *op, int res)
{
	struct waited *waited =
		container_of(container_of(op, struct block_request, op), struct waited, request);
	unsigned step = waited->steps++;
	waited->real_done(op, step < waited->answer_count ? waited->answers[step] : res);
}

static inline int run(struct image *image, struct waited *waited, const struct block_request *request)
{
	unsigned left = 1;
	waited->request = *request;
	waited->request.done = waited_done;
	waited->loop = image->loop;
	waited->left = &left;
	block_submit(image->block, &waited->request);
	ck_assert_msg(!waited->called, "done must not come from within submit");
	waited->real_done = waited->request.op.done;
	waited->request.op.done = lie;
	ck_assert_int_eq(loop_run(image->loop), 0);
	ck_assert(waited->called);
	return waited->res;
}

static inline int do_io(struct image *image, enum block_command command, void *buf, size_t len,
			uint64_t offset)
{
	struct iovec iov = {buf, len};
	struct waited waited = {.called = false};
	return run(image, &waited,
		   &(struct block_request){
			   .command = command, .offset = offset, .bytes = len, .iov = &iov, .iov_count = 1});
}

static inline int do_range(struct image *image, enum block_command command, uint64_t offset, uint64_t bytes,
			   bool unmap)
{
	struct waited waited = {.called = false};
	return run(image, &waited,
		   &(struct block_request){
			   .command = command, .offset = offset, .bytes = bytes, .unmap = unmap});
}

/* One request whose steps are answered as given; then the truth. */
static inline int do_lied(struct image *image, const struct block_request *request, const int *answers,
			  unsigned count, unsigned *ret_steps)
{
	struct waited waited = {.answers = answers, .answer_count = count};
	int res = run(image, &waited, request);
	if (ret_steps)
		*ret_steps = waited.steps;
	return res;
}

static inline void fill(uint8_t *data, size_t len, unsigned seed)
{
	for (size_t i = 0; i < len; i++) {
		seed = seed * 1664525 + 1013904223;
		data[i] = (uint8_t)(seed >> 24);
	}
}

static inline bool all_zero(const uint8_t *data, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (data[i])
			return false;
	}
	return true;
}

#endif
