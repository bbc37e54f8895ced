/* What all image formats have in common: opening by name of the format, and the checks of a request. */
#include "block.h"

#include "base/cleanup.h"
#include "qcow2.h"

int block_open(const struct disk_config *config, struct loop *loop, struct block **ret, struct err *err)
{
	const struct block_raw_spec spec = {.path = config->path,
					    .read_only = config->read_only,
					    .direct = config->direct,
					    .writethrough = config->cache == DISK_WRITETHROUGH,
					    .discard = config->discard,
					    .block_size = config->block_size};
	switch (config->format) {
	case DISK_RAW:
		return block_raw_open(&spec, loop, ret, err);
	case DISK_QCOW2:
		return qcow2_open(config, loop, ret, err);
	}
	return err_set(err, -EINVAL, "%s: format %d", config->path, (int)config->format);
}

void block_close(struct block *block)
{
	if (block)
		block->ops->close(block);
}

static void deferred(struct loop_op *op, int res)
{
	struct block_request *request = container_of(op, struct block_request, op);
	request->done(request, res);
}

void block_finish_later(struct block_request *request, int res)
{
	request->op = (struct loop_op){.done = deferred};
	loop_defer(request->block->loop, &request->op, res);
}

static int check(const struct block *block, const struct block_request *request)
{
	if (block->read_only && request->command != BLOCK_READ && request->command != BLOCK_FLUSH)
		return -EROFS;
	uint64_t end = block->extends ? INT64_MAX : block->size_bytes;
	if (request->offset > end || request->bytes > end - request->offset)
		return -EINVAL;
	return 0;
}

void block_submit(struct block *block, struct block_request *request)
{
	request->block = block;
	int res = check(block, request);
	if (res < 0 || (request->bytes == 0 && request->command != BLOCK_FLUSH))
		block_finish_later(request, res);
	else
		block->ops->submit(block, request);
}

int block_resize(struct block *block, uint64_t bytes, struct err *err)
{
	return block->ops->resize(block, bytes, err);
}
