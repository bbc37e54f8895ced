/* What a virtio device is made of, and what its class gets for nothing. */
#include "virtio_impl.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/*
 * Features of the core. NOTIFICATION_DATA is not among them: an ioeventfd drops the data, and a doorbell that
 * carries it would cost an exit to us. IN_ORDER is a promise of the device's, which none of ours makes.
 */
static uint64_t core_features(const struct virtio_spec *spec)
{
	uint64_t features =
		VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX | VIRTIO_F_ORDER_PLATFORM;
	if (!spec->no_packed)
		features |= VIRTIO_F_RING_PACKED;
	if (spec->ops->stop_queue)
		features |= VIRTIO_F_RING_RESET;
	return features & ~spec->withhold;
}

static void make_reset_image(struct virtio *v)
{
	v->reset_regs = (struct virtio_regs){.config_vector = NO_VECTOR};
	for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++) {
		v->reset_regs.queue_size[i] = i < v->spec.queue_count ? v->spec.queue_size_max[i] : 0;
		v->reset_regs.queue_vector[i] = NO_VECTOR;
		v->reset_regs.queue_avail_wrap[i] = v->reset_regs.queue_used_wrap[i] = true;
	}
	v->regs = v->reset_regs;
}

static int make_queues(struct virtio *v, struct err *err)
{
	if (v->spec.queue_count == 0 || v->spec.queue_count > VIRTIO_QUEUES_MAX)
		return err_set(err, -EINVAL, "%u queues (1 to %d)", v->spec.queue_count, VIRTIO_QUEUES_MAX);
	v->queues = calloc(v->spec.queue_count, sizeof(*v->queues));
	if (!v->queues)
		return err_sys(err, -ENOMEM, "queues");
	for (unsigned i = 0; i < v->spec.queue_count; i++)
		virtio_queue_init(v, i);
	for (unsigned i = 0; i < v->spec.queue_count; i++)
		if (v->queues[i].doorbell_fd < 0)
			return err_sys(err, -EMFILE, "doorbell");
	return 0;
}

/* Devices are spread over the I/O threads by their slots. */
static int choose_thread(struct virtio *v, struct err *err)
{
	size_t count = v->services.io_thread_count;
	uint32_t wish = v->spec.place.iothread;
	if (wish > count || count == 0)
		return err_set(err, -EINVAL, "iothread: %u, but there are %zu (io.threads)", wish, count);
	size_t index = wish ? wish - 1 : pci_function_slot(v->function) % count;
	v->iothread = v->services.io_threads[index];
	v->loop = iothread_loop(v->iothread);
	return 0;
}

static int build(struct virtio *v, struct err *err)
{
	int r = make_queues(v, err);
	if (r == 0)
		r = virtio_pci_create(v, err);
	return r < 0 ? r : choose_thread(v, err);
}

int virtio_create(const struct virtio_spec *spec, const struct device_services *services, struct virtio **ret,
		  struct err *err)
{
	struct virtio *v = calloc(1, sizeof(*v));
	if (!v)
		return err_sys(err, -ENOMEM, "%s", spec->name);
	(void)snprintf(v->name, sizeof(v->name), "%s", spec->name);
	v->spec = *spec;
	v->spec.name = v->name;
	v->services = *services;
	v->counts = spec->counts;
	v->offered = spec->ops->features(spec->device) | core_features(spec);
	v->vectors = (uint16_t)(spec->queue_count + 1 < PCI_MSIX_MAX ? spec->queue_count + 1 : PCI_MSIX_MAX);
	v->work_op.done = virtio_work;
	virtio_poller_init(v);
	pthread_mutex_init(&v->lock, NULL);
	pthread_cond_init(&v->changed, NULL);
	make_reset_image(v);
	int r = build(v, err);
	if (r < 0) {
		virtio_destroy(v);
		return r;
	}
	*ret = v;
	return 0;
}

static int leave_loop(void *arg)
{
	struct virtio *v = arg;
	(void)loop_release(v->loop, &v->work_op);
	for (unsigned i = 0; i < v->spec.queue_count; i++)
		virtio_queue_close(&v->queues[i]);
	return 0;
}

void virtio_destroy(struct virtio *v)
{
	if (!v)
		return;
	if (v->loop) {
		virtio_reset(v);
		(void)iothread_call(v->iothread, leave_loop, v);
	}
	pci_function_destroy(v->function);
	for (unsigned i = 0; v->queues && i < v->spec.queue_count; i++)
		(void)close_fd(v->queues[i].doorbell_fd);
	free(v->queues);
	pthread_cond_destroy(&v->changed);
	pthread_mutex_destroy(&v->lock);
	free(v);
}

struct loop *virtio_loop(struct virtio *v)
{
	return v->loop;
}

int virtio_call(struct virtio *v, int (*fn)(void *arg), void *arg)
{
	return iothread_call(v->iothread, fn, arg);
}

/* ---- configuration ---- */

/* 2.5.3, 4.1.4.3.1: a driver that reads the generation before and after knows that it was torn. */
void virtio_config_store(struct virtio *v, void *field, const void *value, size_t len)
{
	pthread_mutex_lock(&v->lock);
	bool same = memcmp(field, value, len) == 0;
	memcpy(field, value, len);
	v->regs.config_generation = (uint8_t)(v->regs.config_generation + !same);
	pthread_mutex_unlock(&v->lock);
	if (!same)
		virtio_config_interrupt(v);
}

void virtio_config_load(struct virtio *v, void *value, const void *field, size_t len)
{
	pthread_mutex_lock(&v->lock);
	memcpy(value, field, len);
	pthread_mutex_unlock(&v->lock);
}

void virtio_needs_reset(struct virtio *v, const char *why)
{
	(void)log_guest(&v->counts->guest_errors, "%s: the driver has to reset the device: %s", v->name, why);
	pthread_mutex_lock(&v->lock);
	bool tell = virtio_break(v);
	pthread_mutex_unlock(&v->lock);
	if (tell) /* 2.1.2 */
		virtio_config_interrupt(v);
}

/* ---- for device classes ---- */

static struct virtio *virtio_of(struct device *device)
{
	return container_of(device, struct virtio_device, device)->virtio;
}

void virtio_device_reset(struct device *device)
{
	virtio_reset(virtio_of(device));
}

void virtio_device_save(struct device *device, void *regs)
{
	virtio_save(virtio_of(device), regs);
}

int virtio_device_restore(struct device *device, const void *regs, struct err *err)
{
	return virtio_restore(virtio_of(device), regs, err);
}

void virtio_tell(struct virtio *v, struct device *device, unsigned news)
{
	if (v->services.tell)
		v->services.tell(v->services.tell_owner, device, news);
}

void virtio_device_quiesce(struct device *device)
{
	virtio_pause(virtio_of(device));
}

void virtio_device_resume(struct device *device)
{
	virtio_resume(virtio_of(device));
}

const void *virtio_device_config(const struct machine_config *machine, enum device_type type, size_t index)
{
	for (size_t i = 0; i < machine->device_count; i++)
		if (machine->devices[i].type == type && index-- == 0)
			return &machine->devices[i].disk; /* all of the union's members begin here */
	return NULL;
}
