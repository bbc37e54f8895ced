/*
 * The entropy device (VIRTIO 1.3, 5.4): bytes of getrandom(2), within a rate.
 *
 * A request gets at least one byte and at most RNG_BYTES_MAX: the driver asks again for more (5.4.6), and
 * one guest cannot keep the thread busy with a single request.
 */
#include "../backend/ratelimit.h"
#include "../devices.h"
#include "base/cleanup.h"
#include "base/random.h"
#include "virtio.h"

#include <stdio.h>
#include <string.h>
#include <sys/random.h>

enum { RNG_QUEUE = 0, RNG_QUEUE_SIZE = 64, RNG_BYTES_MAX = 4096 };

#define RNG_RETRY_NS UINT64_C(100000000)

struct rng {
	struct virtio_device device; /* no state but the transport's */
	struct ratelimit limit;
	struct loop_op retry; /* the host has no entropy yet */
	struct iovec iov[RNG_QUEUE_SIZE];
};

static uint64_t rng_features(void *device)
{
	(void)device;
	return 0;
}

/* False: not now, the request is back in the queue. */
static bool serve(struct rng *rng, struct virtq *vq, const struct virtq_chain *chain)
{
	uint8_t data[RNG_BYTES_MAX];
	size_t len = chain->write_bytes < sizeof(data) ? chain->write_bytes : sizeof(data);
	bool allowed = ratelimit_take(&rng->limit, len);
	if (!allowed || random_bytes(data, len, GRND_NONBLOCK) < 0) {
		if (allowed && !rng->retry.pending)
			loop_delay(virtio_loop(rng->device.virtio), &rng->retry, RNG_RETRY_NS);
		(void)virtq_unpop(vq, chain);
		return false;
	}
	(void)virtq_chain_write(chain, 0, data, len);
	explicit_bzero(data, len); /* they are the guest's secret now */
	(void)virtq_push(vq, chain, (uint32_t)len);
	return true;
}

static void rng_doorbell(void *device, unsigned index)
{
	struct rng *rng = device;
	struct virtq *vq = virtio_queue(rng->device.virtio, index);
	struct virtq_chain chain = {.iov = rng->iov, .iov_max = RNG_QUEUE_SIZE};
	while (!rng->retry.pending && virtq_pop(vq, &chain) > 0 && serve(rng, vq, &chain))
		;
	virtio_interrupt(rng->device.virtio, index);
}

static void try_again(void *owner)
{
	struct rng *rng = owner;
	virtio_retry(rng->device.virtio, RNG_QUEUE);
}

static void retry_done(struct loop_op *op, int res)
{
	(void)res;
	try_again(container_of(op, struct rng, retry));
}

static int rng_activate(void *device, uint64_t features)
{
	(void)device, (void)features;
	return 0;
}

/* Nothing is ever in flight. */
static void rng_stop(void *device)
{
	struct rng *rng = device;
	virtio_stopped(rng->device.virtio);
}

static void rng_stop_queue(void *device, unsigned index)
{
	struct rng *rng = device;
	virtio_queue_stopped(rng->device.virtio, index);
}

static const struct virtio_ops rng_ops = {
	.features = rng_features,
	.activate = rng_activate,
	.doorbell = rng_doorbell,
	.stop = rng_stop,
	.stop_queue = rng_stop_queue,
};

static int leave_loop(void *arg)
{
	struct rng *rng = arg;
	(void)loop_release(virtio_loop(rng->device.virtio), &rng->retry);
	ratelimit_finish(&rng->limit);
	return 0;
}

static void rng_destroy(struct device *device)
{
	if (!device)
		return;
	struct rng *rng = container_of(device, struct rng, device.device);
	if (rng->device.virtio) {
		virtio_reset(rng->device.virtio); /* no doorbell may start the timers anew */
		(void)virtio_call(rng->device.virtio, leave_loop, rng);
	}
	virtio_destroy(rng->device.virtio);
	free(rng);
}

static const void *rng_config(const struct machine_config *machine, size_t index)
{
	return virtio_device_config(machine, DEVICE_RNG, index);
}

static int rng_create(const void *config, size_t index, const struct device_services *services,
		      struct device **ret, struct err *err)
{
	const struct rng_config *rng_config = config;
	char name[16];
	(void)snprintf(name, sizeof(name), "rng%zu", index);
	struct rng *rng = calloc(1, sizeof(*rng));
	if (!rng)
		return err_sys(err, -ENOMEM, "%s", name);
	rng->device.device.class = &rng_class;
	rng->retry.done = retry_done;
	const struct virtio_spec spec = {
		.name = name,
		.id = VIRTIO_ID_RNG,
		.class_code = 0x00ff00, /* unclassified, other */
		.queue_count = 1,
		.queue_size_max = {RNG_QUEUE_SIZE},
		.place = rng_config->place,
		.ops = &rng_ops,
		.device = rng,
		.counts = &rng->device.device.counts,
	};
	int r = virtio_create(&spec, services, &rng->device.virtio, err);
	if (r < 0) {
		rng_destroy(&rng->device.device);
		return r;
	}
	ratelimit_init(&rng->limit, &rng_config->rate, virtio_loop(rng->device.virtio), try_again, rng);
	*ret = &rng->device.device;
	return 0;
}

const struct device_class rng_class = {
	.name = "rng",
	.state = &virtio_state,
	.config = rng_config,
	.create = rng_create,
	.destroy = rng_destroy,
	.reset = virtio_device_reset,
	.save = virtio_device_save,
	.restore = virtio_device_restore,
	.quiesce = virtio_device_quiesce,
	.resume = virtio_device_resume,
};
