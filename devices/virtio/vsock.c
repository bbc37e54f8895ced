/* Sockets between guest and host (VIRTIO 1.3, 5.10): the device class. See vsock.h. */
#include "vsock.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { PCI_CLASS_COMMUNICATION = 0x078000 };

#define VSOCK_F_STREAM VIRTIO_BIT(0)

static uint64_t vsock_features(void *device)
{
	(void)device;
	return VSOCK_F_STREAM;
}

static void vsock_config_read(void *device, uint32_t offset, void *data, uint32_t len)
{
	const struct vsock *vsock = device;
	memcpy(data, (const char *)&vsock->space + offset, len);
}

/* ---- on the I/O thread ---- */

static void begin_anew(struct vsock *vsock)
{
	if (!atomic_exchange(&vsock->fresh, false))
		return;
	vsock_conn_drop_all(vsock);
	vsock->driven = vsock->transport_reset = false;
}

static void fresh_done(struct loop_op *op, int res)
{
	(void)res;
	begin_anew(container_of(op, struct vsock, fresh_op));
}

static int vsock_activate(void *device, uint64_t features)
{
	struct vsock *vsock = device;
	(void)features;
	begin_anew(vsock);
	vsock->driven = vsock->active = !atomic_load(&vsock->leaving);
	return 0;
}

/* Nothing that was popped is held between two callbacks. */
static void vsock_stop(void *device)
{
	struct vsock *vsock = device;
	vsock->active = false;
	virtio_stopped(vsock->base.virtio);
}

static void vsock_stop_queue(void *device, unsigned index)
{
	const struct vsock *vsock = device;
	virtio_queue_stopped(vsock->base.virtio, index);
}

/* Any thread: connections belong to the I/O thread. */
static void vsock_power_on(void *device)
{
	struct vsock *vsock = device;
	atomic_store(&vsock->fresh, true);
	if (!atomic_load(&vsock->leaving) && vsock->base.virtio)
		loop_post(virtio_loop(vsock->base.virtio), &vsock->fresh_op);
}

static const struct virtio_ops vsock_ops = {
	.features = vsock_features,
	.config_read = vsock_config_read,
	.activate = vsock_activate,
	.doorbell = vsock_doorbell,
	.stop = vsock_stop,
	.stop_queue = vsock_stop_queue,
	.reset = vsock_power_on,
};

/* ---- state ---- */

static struct vsock *vsock_of(struct device *device)
{
	return container_of(device, struct vsock, base.device);
}

/* The host programs of a saved guest are elsewhere: 5.10.6.7 has an event for that. */
static int forget_connections(void *arg)
{
	struct vsock *vsock = arg;
	atomic_store(&vsock->fresh, false);
	vsock_conn_drop_all(vsock);
	vsock->driven = false;
	vsock->transport_reset = true;
	return 0;
}

static int vsock_restore(struct device *device, const void *regs, struct err *err)
{
	struct virtio *virtio = vsock_of(device)->base.virtio;
	virtio_pause(virtio);
	int r = virtio_restore(virtio, regs, err);
	if (r == 0)
		(void)virtio_call(virtio, forget_connections, vsock_of(device));
	virtio_resume(virtio);
	return r;
}

/* ---- at rest ---- */

static int flush_here(void *arg)
{
	vsock_conn_flush_all(arg);
	return 0;
}

static void vsock_quiesce(struct device *device)
{
	struct vsock *vsock = vsock_of(device);
	virtio_device_quiesce(device);
	(void)virtio_call(vsock->base.virtio, flush_here, vsock);
}

/* ---- life ---- */

static int enter_loop(void *arg)
{
	vsock_accept(arg);
	return 0;
}

static int leave_loop(void *arg)
{
	struct vsock *vsock = arg;
	struct loop *loop = virtio_loop(vsock->base.virtio);
	atomic_store(&vsock->leaving, true);
	vsock->active = false;
	(void)loop_release(loop, &vsock->fresh_op);
	(void)loop_release(loop, &vsock->again_op);
	int fd = loop_release(loop, &vsock->accept_op);
	if (fd > 0)
		(void)close_fd(fd);
	vsock_conn_drop_all(vsock);
	return 0;
}

static void vsock_destroy(struct device *device)
{
	if (!device)
		return;
	struct vsock *vsock = vsock_of(device);
	if (vsock->base.virtio)
		(void)virtio_call(vsock->base.virtio, leave_loop, vsock);
	virtio_destroy(vsock->base.virtio);
	vsock_unlisten(vsock);
	free(vsock);
}

static int vsock_create(const void *config, size_t index, const struct device_services *services,
			struct device **ret, struct err *err)
{
	struct vsock *vsock = calloc(1, sizeof(*vsock));
	if (!vsock)
		return err_sys(err, -ENOMEM, "vsock");
	vsock->base.device.class = &vsock_class;
	vsock->config = config;
	vsock->space.guest_cid = vsock->config->cid;
	vsock->listener.fd = -1;
	vsock->fresh_op.done = fresh_done;
	vsock->chain = (struct virtq_chain){.iov = vsock->iov, .iov_max = VSOCK_IOV};
	(void)snprintf(vsock->name, sizeof(vsock->name), "vsock%zu", index);
	const struct virtio_spec spec = {
		.name = vsock->name,
		.id = VIRTIO_ID_VSOCK,
		.class_code = PCI_CLASS_COMMUNICATION,
		.queue_count = VSOCK_QUEUES,
		.queue_size_max = {VSOCK_QUEUE_SIZE, VSOCK_QUEUE_SIZE, VSOCK_QUEUE_SIZE},
		.config_len = sizeof(vsock->space),
		.place = vsock->config->place,
		.ops = &vsock_ops,
		.device = vsock,
		.counts = &vsock->base.device.counts,
	};
	int r = vsock_listen(vsock, err);
	if (r == 0)
		r = virtio_create(&spec, services, &vsock->base.virtio, err);
	if (r < 0) {
		vsock_destroy(&vsock->base.device);
		return r;
	}
	(void)virtio_call(vsock->base.virtio, enter_loop, vsock);
	*ret = &vsock->base.device;
	return 0;
}

static const void *vsock_config_at(const struct machine_config *machine, size_t index)
{
	return virtio_device_config(machine, DEVICE_VSOCK, index);
}

const struct device_class vsock_class = {
	.name = "vsock",
	.state = &virtio_state,
	.config = vsock_config_at,
	.create = vsock_create,
	.destroy = vsock_destroy,
	.reset = virtio_device_reset,
	.save = virtio_device_save,
	.restore = vsock_restore,
	.quiesce = vsock_quiesce,
	.resume = virtio_device_resume,
};
