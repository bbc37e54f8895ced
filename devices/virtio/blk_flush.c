/* A snapshot is worth nothing beside an image whose format still keeps a part of it in our memory. */
#include "base/cleanup.h"
#include "blk.h"

#include <pthread.h>
#include <string.h>

struct flush {
	struct block_request request;
	struct blk *blk;
	pthread_mutex_t lock; /* of the two below */
	pthread_cond_t changed;
	bool done;
	int res;
};

static void flush_done(struct block_request *request, int res)
{
	struct flush *flush = container_of(request, struct flush, request);
	pthread_mutex_lock(&flush->lock);
	flush->done = true;
	flush->res = res;
	pthread_cond_signal(&flush->changed);
	pthread_mutex_unlock(&flush->lock);
}

static int submit(void *arg)
{
	struct flush *flush = arg;
	flush->request = (struct block_request){.command = BLOCK_FLUSH, .done = flush_done};
	block_submit(flush->blk->block, &flush->request);
	return 0;
}

int blk_flush(struct device *device, struct err *err)
{
	struct flush flush = {.blk = container_of(device, struct blk, base.device)};
	if (flush.blk->block->read_only)
		return 0;
	pthread_mutex_init(&flush.lock, NULL);
	pthread_cond_init(&flush.changed, NULL);
	(void)iothread_call(flush.blk->iothread, submit, &flush);
	pthread_mutex_lock(&flush.lock);
	while (!flush.done)
		pthread_cond_wait(&flush.changed, &flush.lock);
	pthread_mutex_unlock(&flush.lock);
	pthread_cond_destroy(&flush.changed);
	pthread_mutex_destroy(&flush.lock);
	return flush.res < 0
		       ? err_sys(err, flush.res, "%s: flushing %s", flush.blk->name, flush.blk->config->path)
		       : 0;
}
