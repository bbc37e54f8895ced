/* Saving and restoring the transport, PCI's registers included. */
#include "virtio_impl.h"

#include <errno.h>
#include <inttypes.h>

static const struct state_field fields[] = {
	STATE_FIELD(struct virtio_regs, driver_features),
	STATE_FIELD(struct virtio_regs, device_feature_select),
	STATE_FIELD(struct virtio_regs, driver_feature_select),
	STATE_FIELD(struct virtio_regs, config_vector),
	STATE_FIELD(struct virtio_regs, queue_select),
	STATE_FIELD(struct virtio_regs, status),
	STATE_FIELD(struct virtio_regs, config_generation),
	STATE_FIELD(struct virtio_regs, isr),
	STATE_ARRAY(struct virtio_regs, queue_enable),
	STATE_ARRAY(struct virtio_regs, queue_size),
	STATE_ARRAY(struct virtio_regs, queue_vector),
	STATE_ARRAY(struct virtio_regs, queue_desc),
	STATE_ARRAY(struct virtio_regs, queue_driver),
	STATE_ARRAY(struct virtio_regs, queue_device),
	STATE_ARRAY(struct virtio_regs, queue_next_avail),
	STATE_ARRAY(struct virtio_regs, queue_next_used),
	STATE_ARRAY(struct virtio_regs, queue_avail_wrap),
	STATE_ARRAY(struct virtio_regs, queue_used_wrap),
	PCI_STATE_FIELDS(struct virtio_regs, pci),
};

const struct state_table virtio_state = STATE_TABLE("virtio", struct virtio_regs, fields);

void virtio_save(struct virtio *v, struct virtio_regs *regs)
{
	virtio_pause(v);
	pthread_mutex_lock(&v->lock);
	*regs = v->regs;
	pthread_mutex_unlock(&v->lock);
	pci_function_save(v->function, &regs->pci);
	virtio_resume(v);
}

static int check_status(const struct virtio *v, const struct virtio_regs *regs, struct err *err)
{
	uint8_t status = regs->status;
	if (status & ~(STATUS_DRIVERS | STATUS_NEEDS_RESET))
		return err_set(err, -EINVAL, "status: %#x has bits that there are not", status);
	if ((status & STATUS_DRIVER_OK) && !(status & STATUS_FEATURES_OK))
		return err_set(err, -EINVAL, "status: DRIVER_OK without FEATURES_OK");
	uint64_t extra = regs->driver_features & ~v->offered;
	if ((status & STATUS_FEATURES_OK) && extra)
		return err_set(err, -EINVAL,
			       "driver-features: the guest uses %#" PRIx64
			       ", which this device does not offer",
			       extra);
	if ((status & STATUS_FEATURES_OK) && !(regs->driver_features & VIRTIO_F_VERSION_1))
		return err_set(err, -EINVAL, "driver-features: %#" PRIx64 " lacks VIRTIO_F_VERSION_1",
			       regs->driver_features);
	if (regs->isr & ~(ISR_QUEUE | ISR_CONFIG))
		return err_set(err, -EINVAL, "isr: %#x has bits that there are not", regs->isr);
	return 0;
}

static bool vector_possible(const struct virtio *v, uint16_t vector)
{
	return vector < v->vectors || vector == NO_VECTOR;
}

/* Addresses are the guest's: bad ones cost it DEVICE_NEEDS_RESET, as they did before. */
static int check_queue(const struct virtio *v, const struct virtio_regs *regs, unsigned i, struct err *err)
{
	uint16_t size = regs->queue_size[i];
	if (i >= v->spec.queue_count) {
		if (regs->queue_enable[i] || size)
			return err_set(err, -EINVAL, "queue-size: queue %u of %u", i, v->spec.queue_count);
		return 0;
	}
	if (size == 0 || size > v->spec.queue_size_max[i])
		return err_set(err, -EINVAL, "queue-size: queue %u has %u entries (1 to %u)", i, size,
			       v->spec.queue_size_max[i]);
	if (!vector_possible(v, regs->queue_vector[i]))
		return err_set(err, -EINVAL, "queue-vector: queue %u has %u of %u", i, regs->queue_vector[i],
			       v->vectors);
	return 0;
}

int virtio_check_regs(const struct virtio *v, const struct virtio_regs *regs, struct err *err)
{
	int r = check_status(v, regs, err);
	if (r == 0 && !vector_possible(v, regs->config_vector))
		r = err_set(err, -EINVAL, "config-vector: %u of %u", regs->config_vector, v->vectors);
	for (unsigned i = 0; i < VIRTIO_QUEUES_MAX && r == 0; i++)
		r = check_queue(v, regs, i, err);
	return r;
}

int virtio_restore(struct virtio *v, const struct virtio_regs *regs, struct err *err)
{
	int r = virtio_check_regs(v, regs, err);
	if (r < 0)
		return r;
	virtio_pause(v);
	r = pci_function_restore(v->function, &regs->pci, err);
	if (r == 0) {
		pthread_mutex_lock(&v->lock);
		virtio_assign(v, regs);
		pthread_mutex_unlock(&v->lock);
	}
	virtio_resume(v);
	return r;
}
