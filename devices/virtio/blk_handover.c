/*
 * A disk whose image changes hands: one machine lets it go, flushed, and another opens it. Meanwhile the
 * device has a block that holds its place. Both happen at rest, so nothing is in flight.
 */
#include "blk.h"

#include "../devices.h"
#include "base/cleanup.h"
#include "devices/disk.h"

#include <errno.h>
#include <inttypes.h>

bool device_is_disk(const struct device *device)
{
	return device->class == &disk_class;
}

int disk_look(struct device *device, uint64_t *ret_bytes, struct err *err)
{
	const struct blk *blk = container_of(device, struct blk, base.device);
	*ret_bytes = disk_size(device);
	if (!block_is_absent(blk->block))
		return 0;
	int r = block_look(blk->config, ret_bytes, err);
	return r < 0 ? err_prepend(err, "%s", blk->name) : 0;
}

struct swap {
	struct blk *blk;
	struct err *err;
};

static int put_absent(void *arg)
{
	const struct swap *swap = arg;
	struct block *absent;
	if (block_is_absent(swap->blk->block))
		return 0;
	int r = block_absent_open(swap->blk->block, &absent, swap->err);
	if (r < 0)
		return r;
	block_close(swap->blk->block);
	swap->blk->block = absent;
	return 0;
}

int blk_release(struct device *device, struct err *err)
{
	struct swap swap = {container_of(device, struct blk, base.device), err};
	int r = block_is_absent(swap.blk->block) ? 0 : blk_flush(device, err);
	return r < 0 ? r : iothread_call(swap.blk->iothread, put_absent, &swap);
}

/* What the guest was told of its disk must be true of what is opened now. */
static int put_image(void *arg)
{
	const struct swap *swap = arg;
	struct blk *blk = swap->blk;
	struct block *image;
	uint64_t before = blk->block->size_bytes;
	if (!block_is_absent(blk->block))
		return 0;
	int r = block_open(blk->config, blk->block->loop, &image, swap->err);
	if (r < 0)
		return r;
	if (before && image->size_bytes != before) {
		(void)err_set(swap->err, -ESTALE, "%s: %" PRIu64 " bytes, but it had %" PRIu64,
			      blk->config->path, image->size_bytes, before);
		block_close(image);
		return -ESTALE;
	}
	block_close(blk->block);
	blk->block = image;
	blk_fill_space(blk);
	return 0;
}

int blk_acquire(struct device *device, struct err *err)
{
	struct swap swap = {container_of(device, struct blk, base.device), err};
	int r = iothread_call(swap.blk->iothread, put_image, &swap);
	return r < 0 ? err_prepend(err, "%s", swap.blk->name) : 0;
}
