/* The place of an image that somebody else has: every request fails. */
#include "block.h"

#include "base/cleanup.h"

#include <errno.h>

static void absent_submit(struct block *block, struct block_request *request)
{
	(void)block;
	block_finish_later(request, -EIO);
}

static int absent_resize(struct block *block, uint64_t bytes, struct err *err)
{
	(void)block, (void)bytes;
	return err_set(err, -EBUSY, "the image is another machine's");
}

static void absent_close(struct block *block)
{
	free(block);
}

static const struct block_ops absent_ops = {
	.name = "absent", .submit = absent_submit, .resize = absent_resize, .close = absent_close};

bool block_is_absent(const struct block *block)
{
	return block->ops == &absent_ops;
}

int block_absent_open(const struct block *like, struct block **ret, struct err *err)
{
	struct block *block = malloc(sizeof(*block));
	if (!block)
		return err_sys(err, -ENOMEM, "disk");
	*block = *like;
	block->ops = &absent_ops;
	*ret = block;
	return 0;
}
