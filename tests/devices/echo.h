/*
 * A virtio device that gives back what it is given: the transport's tests and its fuzz target drive it. It
 * can hold requests, as a device with slow I/O does, and finish them when told, refuse to start, and have a
 * configuration of 16 bytes, of which the driver may write the first 8.
 */
#ifndef AERIE_TESTS_DEVICES_ECHO_H
#define AERIE_TESTS_DEVICES_ECHO_H

#include "base/cleanup.h"
#include "driver.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

enum { ECHO_QUEUES = 3, ECHO_QUEUE_SIZE = 64, ECHO_IOV = 8, ECHO_CONFIG_BYTES = 16 };

enum { ECHO_FEATURE = 1 << 3 };

struct echo_request {
	struct virtq_chain chain;
	struct iovec iov[ECHO_IOV];
	unsigned queue;
};

struct echo {
	struct virtio *virtio;
	struct device_counts counts;
	uint8_t config[ECHO_CONFIG_BYTES]; /* under the transport's lock */

	/* What a test may set at any time. */
	_Atomic bool hold; /* keep requests until echo_release */
	_Atomic int activate_result;
	_Atomic unsigned room;	/* requests it takes at once while holding; 0: any number */
	_Atomic bool slow_stop; /* stops are answered by echo_release */

	/* What happened. */
	_Atomic unsigned activations, stops, resets, queue_stops, doorbells, done, held_seen;
	_Atomic uint64_t features;
	_Atomic bool running;
	_Atomic unsigned mistakes; /* calls that virtio.h does not promise */

	/* The I/O thread's. */
	bool stopping;
	uint64_t queues_stopping;
	struct echo_request held[ECHO_QUEUES * ECHO_QUEUE_SIZE];
	unsigned held_count;
};

static inline uint64_t echo_features(void *device)
{
	(void)device;
	return ECHO_FEATURE;
}

static inline void echo_config_read(void *device, uint32_t offset, void *data, uint32_t len)
{
	struct echo *echo = device;
	echo->mistakes += offset > ECHO_CONFIG_BYTES || len > ECHO_CONFIG_BYTES - offset;
	memcpy(data, echo->config + offset, len);
}

static inline void echo_config_write(void *device, uint32_t offset, const void *data, uint32_t len)
{
	struct echo *echo = device;
	echo->mistakes += offset > ECHO_CONFIG_BYTES || len > ECHO_CONFIG_BYTES - offset;
	if (offset + len <= ECHO_CONFIG_BYTES / 2)
		memcpy(echo->config + offset, data, len);
}

static inline int echo_activate(void *device, uint64_t features)
{
	struct echo *echo = device;
	echo->mistakes += echo->running;
	echo->features = features;
	echo->activations++;
	if (echo->activate_result)
		return echo->activate_result;
	echo->running = true;
	return 0;
}

static inline void echo_finish_request(struct echo *echo, const struct echo_request *request)
{
	const struct virtq_chain *chain = &request->chain;
	struct virtq *vq = virtio_queue(echo->virtio, request->queue);
	uint8_t data[256];
	size_t done = 0, len;
	if (!vq) {
		echo->mistakes++;
		return;
	}
	while ((len = virtq_chain_read(chain, done, data, sizeof(data)))) {
		size_t put = virtq_chain_write(chain, done, data, len);
		done += put;
		if (put < len)
			break;
	}
	echo->done++;
	if (virtq_push(vq, chain, (uint32_t)done) == -EPROTO)
		virtio_needs_reset(echo->virtio, vq->why);
	virtio_interrupt(echo->virtio, request->queue);
}

static inline void echo_doorbell(void *device, unsigned index)
{
	struct echo *echo = device;
	struct virtq *vq = virtio_queue(echo->virtio, index);
	echo->doorbells++;
	if (!echo->running || echo->stopping || !vq || (echo->queues_stopping & VIRTIO_BIT(index))) {
		echo->mistakes++;
		return;
	}
	for (;;) {
		if (echo->hold && echo->room && echo->held_count >= echo->room)
			return;
		struct echo_request *request = &echo->held[echo->held_count];
		request->chain = (struct virtq_chain){.iov = request->iov, .iov_max = ECHO_IOV};
		request->queue = index;
		if (virtq_pop(vq, &request->chain) <= 0)
			return;
		if (echo->hold)
			echo->held_seen = ++echo->held_count;
		else
			echo_finish_request(echo, request);
	}
}

/* Those of one queue, or of all (ECHO_QUEUES). */
static inline void echo_finish_held(struct echo *echo, unsigned queue)
{
	unsigned kept = 0;
	for (unsigned i = 0; i < echo->held_count; i++) {
		struct echo_request request = echo->held[i];
		request.chain.iov = request.iov;
		if (queue == ECHO_QUEUES || request.queue == queue) {
			echo_finish_request(echo, &request);
		} else {
			echo->held[kept] = request;
			echo->held[kept].chain.iov = echo->held[kept].iov;
			kept++;
		}
	}
	echo->held_count = kept;
}

static inline void echo_stop_now(struct echo *echo)
{
	echo_finish_held(echo, ECHO_QUEUES);
	echo->stopping = false;
	echo->running = false;
	echo->queues_stopping = 0;
	virtio_stopped(echo->virtio);
}

static inline void echo_stop(void *device)
{
	struct echo *echo = device;
	echo->stops++;
	echo->mistakes += !echo->running || echo->stopping;
	echo->stopping = true;
	if (!echo->slow_stop)
		echo_stop_now(echo);
}

static inline void echo_stop_queue_now(struct echo *echo, unsigned index)
{
	echo_finish_held(echo, index);
	echo->queues_stopping &= ~VIRTIO_BIT(index);
	virtio_queue_stopped(echo->virtio, index);
}

static inline void echo_stop_queue(void *device, unsigned index)
{
	struct echo *echo = device;
	echo->queue_stops++;
	echo->mistakes += !echo->running || echo->stopping || (echo->queues_stopping & VIRTIO_BIT(index));
	echo->queues_stopping |= VIRTIO_BIT(index);
	if (!echo->slow_stop)
		echo_stop_queue_now(echo, index);
}

static inline void echo_reset(void *device)
{
	struct echo *echo = device;
	echo->resets++;
	memset(echo->config, 0, ECHO_CONFIG_BYTES / 2);
}

static const struct virtio_ops echo_ops = {
	.features = echo_features,
	.config_read = echo_config_read,
	.config_write = echo_config_write,
	.activate = echo_activate,
	.doorbell = echo_doorbell,
	.stop = echo_stop,
	.stop_queue = echo_stop_queue,
	.reset = echo_reset,
};

static inline int echo_release_here(void *arg)
{
	struct echo *echo = arg;
	if (echo->stopping) {
		echo_stop_now(echo);
		return 0;
	}
	for (unsigned i = 0; i < ECHO_QUEUES; i++)
		if (echo->queues_stopping & VIRTIO_BIT(i))
			echo_stop_queue_now(echo, i);
	echo_finish_held(echo, ECHO_QUEUES);
	for (unsigned i = 0; i < ECHO_QUEUES && echo->running; i++)
		virtio_retry(echo->virtio, i);
	return 0;
}

/* Finish what is held, answer stops, take what was left in the queues. */
static inline void echo_release(struct echo *echo)
{
	(void)virtio_call(echo->virtio, echo_release_here, echo);
}

/* What the I/O thread was posted before has been done. */
static inline int echo_nothing(void *arg)
{
	(void)arg;
	return 0;
}

static inline void echo_settle(struct echo *echo)
{
	for (unsigned i = 0; i < 3; i++)
		(void)virtio_call(echo->virtio, echo_nothing, NULL);
}

/* Its configuration is another one now, in a byte that only the device writes. */
static inline void echo_change_config(struct echo *echo)
{
	uint8_t *field = &echo->config[ECHO_CONFIG_BYTES - 1], value;
	virtio_config_load(echo->virtio, &value, field, 1);
	value++;
	virtio_config_store(echo->virtio, field, &value, 1);
}

static inline int echo_create(struct echo *echo, struct world *world, struct err *err)
{
	memset(echo, 0, sizeof(*echo));
	for (unsigned i = 0; i < ECHO_CONFIG_BYTES; i++)
		echo->config[i] = i < ECHO_CONFIG_BYTES / 2 ? 0 : (uint8_t)i;
	const struct virtio_spec spec = {
		.name = "echo0",
		.id = VIRTIO_ID_CONSOLE,
		.class_code = 0xff0000,
		.queue_count = ECHO_QUEUES,
		.queue_size_max = {ECHO_QUEUE_SIZE, ECHO_QUEUE_SIZE, ECHO_QUEUE_SIZE / 2},
		.config_len = ECHO_CONFIG_BYTES,
		.ops = &echo_ops,
		.device = echo,
		.counts = &echo->counts,
	};
	return virtio_create(&spec, &world->services, &echo->virtio, err);
}

#endif
