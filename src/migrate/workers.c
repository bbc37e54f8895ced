/* Further channels of the source: see workers.h. */
#include "workers.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct worker {
	struct workers *all;
	struct link link;
	struct stage *stage;
	pthread_t thread;
	bool has_thread;
	/* Under all->lock. */
	uint32_t count; /* pages it has to send; 0: free */
	uint64_t pages[WIRE_PAGES_MAX];
};

struct workers {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool quit;
	struct err err; /* the first one of any */
	struct stage_counts counts;
	unsigned count;
	struct worker worker[];
};

static void *worker_thread(void *argument)
{
	struct worker *worker = argument;
	struct workers *all = worker->all;
	pthread_mutex_lock(&all->lock);
	for (;;) {
		while (worker->count == 0 && !all->quit)
			pthread_cond_wait(&all->changed, &all->lock);
		if (worker->count == 0)
			break;
		struct stage_counts counts = {0};
		struct err err = ERR_INIT;
		pthread_mutex_unlock(&all->lock);
		int r = stage_send(worker->stage, &worker->link, worker->pages, worker->count, &counts, &err);
		pthread_mutex_lock(&all->lock);
		if (r < 0 && all->err.code == 0)
			all->err = err;
		all->counts.pages += counts.pages;
		all->counts.zero_pages += counts.zero_pages;
		all->counts.bytes += counts.bytes;
		worker->count = 0;
		pthread_cond_broadcast(&all->changed);
	}
	pthread_mutex_unlock(&all->lock);
	return NULL;
}

static int worker_start(struct workers *workers, unsigned index, const struct guest_memory *memory,
			int zstd_level, struct err *err)
{
	struct worker *worker = &workers->worker[index];
	char name[24];
	int r = stage_create(memory, zstd_level, &worker->stage, err);
	if (r < 0)
		return r;
	r = -pthread_create(&worker->thread, NULL, worker_thread, worker);
	if (r < 0)
		return err_sys(err, r, "migration channel %u", index + 1);
	worker->has_thread = true;
	(void)snprintf(name, sizeof(name), "migrate%u", index + 1); /* a thread's name has at most 15 */
	(void)pthread_setname_np(worker->thread, name);
	return 0;
}

int workers_create(const struct guest_memory *memory, int zstd_level, struct link *links, unsigned count,
		   struct workers **ret, struct err *err)
{
	struct workers *workers = calloc(1, sizeof(*workers) + count * sizeof(struct worker));
	if (!workers) {
		for (unsigned i = 0; i < count; i++)
			link_close(&links[i]);
		return err_sys(err, -ENOMEM, "migration channels");
	}
	pthread_mutex_init(&workers->lock, NULL);
	pthread_cond_init(&workers->changed, NULL);
	workers->err = ERR_INIT;
	workers->count = count;
	for (unsigned i = 0; i < count; i++) {
		workers->worker[i].all = workers;
		workers->worker[i].link = links[i];
	}
	for (unsigned i = 0; i < count; i++) {
		int r = worker_start(workers, i, memory, zstd_level, err);
		if (r < 0) {
			workers_destroy(workers);
			return r;
		}
	}
	*ret = workers;
	return 0;
}

void workers_destroy(struct workers *workers)
{
	if (!workers)
		return;
	pthread_mutex_lock(&workers->lock);
	workers->quit = true;
	pthread_cond_broadcast(&workers->changed);
	pthread_mutex_unlock(&workers->lock);
	for (unsigned i = 0; i < workers->count; i++) {
		struct worker *worker = &workers->worker[i];
		if (worker->has_thread)
			pthread_join(worker->thread, NULL);
		stage_destroy(worker->stage);
		link_close(&worker->link);
	}
	pthread_cond_destroy(&workers->changed);
	pthread_mutex_destroy(&workers->lock);
	free(workers);
}

static int first_error(struct workers *workers, struct err *err)
{
	return workers->err.code ? err_set(err, workers->err.code, "%s", workers->err.text) : 0;
}

static struct worker *find_free(struct workers *workers)
{
	for (unsigned i = 0; i < workers->count; i++)
		if (workers->worker[i].count == 0)
			return &workers->worker[i];
	return NULL;
}

int workers_send(struct workers *workers, const uint64_t *pages, uint32_t count, struct err *err)
{
	struct worker *worker = NULL;
	pthread_mutex_lock(&workers->lock);
	while (workers->err.code == 0 && !(worker = find_free(workers)))
		pthread_cond_wait(&workers->changed, &workers->lock);
	int r = first_error(workers, err);
	if (r == 0 && worker) {
		memcpy(worker->pages, pages, count * sizeof(*pages));
		worker->count = count;
		pthread_cond_broadcast(&workers->changed);
	}
	pthread_mutex_unlock(&workers->lock);
	return r;
}

static bool all_free(const struct workers *workers)
{
	for (unsigned i = 0; i < workers->count; i++)
		if (workers->worker[i].count)
			return false;
	return true;
}

int workers_round(struct workers *workers, uint32_t round, struct err *err)
{
	pthread_mutex_lock(&workers->lock);
	while (!all_free(workers))
		pthread_cond_wait(&workers->changed, &workers->lock);
	int r = first_error(workers, err);
	pthread_mutex_unlock(&workers->lock);
	/* Free workers do not touch their links, and only our caller gives them work. */
	for (unsigned i = 0; r == 0 && i < workers->count; i++)
		r = link_send_number(&workers->worker[i].link, WIRE_ROUND, round, err);
	return r;
}

void workers_counts(struct workers *workers, struct stage_counts *ret)
{
	pthread_mutex_lock(&workers->lock);
	*ret = workers->counts;
	pthread_mutex_unlock(&workers->lock);
}
