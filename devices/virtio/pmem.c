/*
 * Persistent memory (VIRTIO 1.3, 5.19): a file that the guest has as memory. Loads and stores go to the
 * host's page cache without us; what is left for the queue is "make it durable".
 */
#include "../backend/block.h"
#include "../devices.h"
#include "base/cleanup.h"
#include "base/layout.h"
#include "base/log.h"
#include "virtio.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

enum {
	PMEM_QUEUE_SIZE = 64,
	PMEM_IOV = 4,
	PMEM_ALIGN = 2 * 1024 * 1024, /* what Linux maps with large pages */
	PCI_CLASS_MEMORY = 0x050000,  /* RAM controller */
};

/* 5.19.4 and 5.19.6. */
struct pmem_config_space {
	uint64_t start, size;
};
enum { PMEM_REQUEST_FLUSH = 0 };

struct pmem;

struct pmem_request {
	struct loop_op op;
	struct pmem *pmem;
	struct virtq_chain chain;
	struct iovec iov[PMEM_IOV];
	bool busy;
};

struct pmem {
	struct virtio_device base;
	const struct pmem_config *config;
	struct guest_memory *memory;
	int fd;
	void *host;
	struct pmem_config_space space;
	unsigned in_flight;
	bool stopping, queue_stopping; /* the device; its queue alone (RING_RESET) */
	struct pmem_request requests[PMEM_QUEUE_SIZE];
	char name[16];
};

static uint64_t pmem_features(void *device)
{
	(void)device;
	return 0;
}

static void pmem_config_read(void *device, uint32_t offset, void *data, uint32_t len)
{
	const struct pmem *pmem = device;
	memcpy(data, (const char *)&pmem->space + offset, len);
}

static int pmem_activate(void *device, uint64_t features)
{
	struct pmem *pmem = device;
	(void)features;
	pmem->stopping = pmem->queue_stopping = false;
	return 0;
}

static struct pmem_request *pmem_free_request(struct pmem *pmem)
{
	for (size_t i = 0; i < PMEM_QUEUE_SIZE; i++)
		if (!pmem->requests[i].busy)
			return &pmem->requests[i];
	return NULL;
}

/* `res`: 0 or -errno; the guest learns only that it failed (5.19.7.1). */
static void pmem_answer(struct pmem *pmem, struct virtq *vq, const struct virtq_chain *chain, int res)
{
	const uint32_t ret = res < 0 ? UINT32_MAX : 0;
	size_t written = virtq_chain_write(chain, 0, &ret, sizeof(ret));
	if (virtq_push(vq, chain, (uint32_t)written) < 0)
		virtio_needs_reset(pmem->base.virtio, "broken queue");
}

/* Nothing is in flight: who waited for that goes on. */
static void pmem_idle(struct pmem *pmem)
{
	if (pmem->queue_stopping) {
		pmem->queue_stopping = false;
		virtio_queue_stopped(pmem->base.virtio, 0);
	}
	if (pmem->stopping)
		virtio_stopped(pmem->base.virtio);
}

static void pmem_flushed(struct loop_op *op, int res)
{
	struct pmem_request *request = container_of(op, struct pmem_request, op);
	struct pmem *pmem = request->pmem;
	struct virtq *vq = virtio_queue(pmem->base.virtio, 0);
	request->busy = false;
	pmem->in_flight--;
	if (res < 0)
		log_warn("%s: %s: cannot flush: %s", pmem->name, pmem->config->path, strerror(-res));
	if (vq && !(pmem->stopping && virtio_resetting(pmem->base.virtio))) {
		pmem_answer(pmem, vq, &request->chain, res);
		virtio_interrupt(pmem->base.virtio, 0);
	}
	if (pmem->in_flight == 0)
		pmem_idle(pmem);
	if (!pmem->stopping)
		virtio_retry(pmem->base.virtio, 0);
}

static void pmem_start(struct pmem *pmem, struct virtq *vq, struct pmem_request *request)
{
	uint32_t type;
	bool whole = virtq_chain_read(&request->chain, 0, &type, sizeof(type)) == sizeof(type);
	if (!whole || type != PMEM_REQUEST_FLUSH || request->chain.write_bytes < sizeof(uint32_t)) {
		(void)log_guest(&pmem->base.device.counts.guest_errors, "%s: a request that is no flush",
				pmem->name);
		pmem_answer(pmem, vq, &request->chain, -EINVAL);
		virtio_interrupt(pmem->base.virtio, 0);
		return;
	}
	request->busy = true;
	pmem->in_flight++;
	/* The memory is mapped private when it is read only: nothing of it is to reach the file. */
	loop_fsync(virtio_loop(pmem->base.virtio), &request->op, pmem->fd, false);
}

static void pmem_doorbell(void *device, unsigned index)
{
	struct pmem *pmem = device;
	struct virtq *vq = virtio_queue(pmem->base.virtio, index);
	struct pmem_request *request;
	while (vq && !pmem->stopping && (request = pmem_free_request(pmem))) {
		int got = virtq_pop(vq, &request->chain);
		if (got < 0)
			virtio_needs_reset(pmem->base.virtio, "broken queue");
		if (got <= 0)
			return;
		pmem_start(pmem, vq, request);
	}
}

static void pmem_stop(void *device)
{
	struct pmem *pmem = device;
	pmem->stopping = true;
	if (pmem->in_flight == 0)
		pmem_idle(pmem);
}

static void pmem_stop_queue(void *device, unsigned index)
{
	struct pmem *pmem = device;
	(void)index; /* there is one */
	pmem->queue_stopping = true;
	if (pmem->in_flight == 0)
		pmem_idle(pmem);
}

static const struct virtio_ops pmem_ops = {
	.features = pmem_features,
	.config_read = pmem_config_read,
	.activate = pmem_activate,
	.doorbell = pmem_doorbell,
	.stop = pmem_stop,
	.stop_queue = pmem_stop_queue,
};

/* ---- life ---- */

static int pmem_open(struct pmem *pmem, struct err *err)
{
	const struct pmem_config *config = pmem->config;
	struct stat st;
	pmem->fd = open(config->path, (config->read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC);
	if (pmem->fd < 0)
		return err_sys(err, -errno, "%s", config->path);
	int r = block_lock(pmem->fd, config->path, config->read_only, err);
	if (r < 0)
		return r;
	if (fstat(pmem->fd, &st) < 0)
		return err_sys(err, -errno, "%s", config->path);
	uint64_t size = config->size_bytes ? config->size_bytes : (uint64_t)st.st_size;
	if (size == 0 || size % PMEM_ALIGN)
		return err_set(err, -EINVAL,
			       "%s: %" PRIu64 " bytes are not a multiple of 2M (truncate -s %%2M %s)",
			       config->path, size, config->path);
	if (size > (uint64_t)st.st_size && (config->read_only || ftruncate(pmem->fd, (off_t)size) < 0))
		return err_sys(err, config->read_only ? -EROFS : -errno,
			       "%s: cannot be made %" PRIu64 " MiB long", config->path, size / MIB);
	pmem->space.size = size;
	return 0;
}

static int pmem_map(struct pmem *pmem, struct err *err)
{
	int kind = pmem->config->read_only ? MAP_PRIVATE : MAP_SHARED;
	void *host = mmap(NULL, pmem->space.size, PROT_READ | PROT_WRITE, kind | MAP_NORESERVE, pmem->fd, 0);
	if (host == MAP_FAILED)
		return err_sys(err, -errno, "%s: mmap", pmem->config->path);
	pmem->host = host;
	int r = guest_memory_add(pmem->memory, host, pmem->space.size, &pmem->space.start, err);
	return r < 0 ? err_prepend(err, "%s", pmem->config->path) : 0;
}

static void pmem_destroy(struct device *device)
{
	if (!device)
		return;
	struct pmem *pmem = container_of(device, struct pmem, base.device);
	virtio_destroy(pmem->base.virtio);
	if (pmem->space.start)
		guest_memory_remove(pmem->memory, pmem->space.start);
	if (pmem->host)
		(void)munmap(pmem->host, pmem->space.size);
	if (pmem->fd >= 0)
		block_unlock(pmem->fd);
	(void)close_fd(pmem->fd);
	free(pmem);
}

static int pmem_create(const void *config, size_t index, const struct device_services *services,
		       struct device **ret, struct err *err)
{
	struct pmem *pmem = calloc(1, sizeof(*pmem));
	if (!pmem)
		return err_sys(err, -ENOMEM, "pmem");
	pmem->base.device.class = &pmem_class;
	pmem->config = config;
	pmem->memory = services->memory;
	pmem->fd = -1;
	(void)snprintf(pmem->name, sizeof(pmem->name), "pmem%zu", index);
	for (size_t i = 0; i < PMEM_QUEUE_SIZE; i++) {
		struct pmem_request *request = &pmem->requests[i];
		request->pmem = pmem;
		request->op.done = pmem_flushed;
		request->chain.iov = request->iov;
		request->chain.iov_max = PMEM_IOV;
	}
	const struct virtio_spec spec = {
		.name = pmem->name,
		.id = VIRTIO_ID_PMEM,
		.class_code = PCI_CLASS_MEMORY,
		.queue_count = 1,
		.queue_size_max = {PMEM_QUEUE_SIZE},
		.config_len = sizeof(pmem->space),
		.place = pmem->config->place,
		.ops = &pmem_ops,
		.device = pmem,
		.counts = &pmem->base.device.counts,
	};
	int r = pmem_open(pmem, err);
	if (r == 0)
		r = pmem_map(pmem, err);
	if (r == 0)
		r = virtio_create(&spec, services, &pmem->base.virtio, err);
	if (r < 0) {
		pmem_destroy(&pmem->base.device);
		return r;
	}
	*ret = &pmem->base.device;
	return 0;
}

/* Stores that have come no farther than the host's cache; at rest nobody stores. */
static int pmem_flush(struct device *device, struct err *err)
{
	const struct pmem *pmem = container_of(device, struct pmem, base.device);
	int r = pmem->config->read_only || fsync(pmem->fd) == 0 ? 0 : -errno;
	return r < 0 ? err_sys(err, r, "%s: flushing %s", pmem->name, pmem->config->path) : 0;
}

static const void *pmem_config_at(const struct machine_config *machine, size_t index)
{
	return virtio_device_config(machine, DEVICE_PMEM, index);
}

const struct device_class pmem_class = {
	.name = "pmem",
	.state = &virtio_state,
	.config = pmem_config_at,
	.create = pmem_create,
	.destroy = pmem_destroy,
	.reset = virtio_device_reset,
	.save = virtio_device_save,
	.restore = virtio_device_restore,
	.quiesce = virtio_device_quiesce,
	.resume = virtio_device_resume,
	.flush = pmem_flush,
};
