/* The I/O thread's side of a device: it starts, stops, pauses and resets (VIRTIO 1.3, 2.1, 2.4, 2.6.1). */
#include "virtio_impl.h"

#include <errno.h>
#include <string.h>

void virtio_post_work(struct virtio *v)
{
	loop_post(v->loop, &v->work_op);
}

/* ---- registers, lock held ---- */

static void reset_registers(struct virtio *v)
{
	v->regs = v->reset_regs;
	v->engaged = v->resetting = false;
	v->queue_resetting = 0;
	pci_intx_set(v->function, false);
	if (v->spec.ops->reset)
		v->spec.ops->reset(v->spec.device);
}

/* As at power-on, for one queue (2.6.1.1). */
static void reset_queue_registers(struct virtio *v, unsigned index)
{
	struct virtio_regs *regs = &v->regs;
	const struct virtio_regs *image = &v->reset_regs;
	regs->queue_enable[index] = false;
	regs->queue_size[index] = image->queue_size[index];
	regs->queue_vector[index] = image->queue_vector[index];
	regs->queue_desc[index] = regs->queue_driver[index] = regs->queue_device[index] = 0;
	regs->queue_next_avail[index] = regs->queue_next_used[index] = 0;
	regs->queue_avail_wrap[index] = regs->queue_used_wrap[index] = true;
	v->queue_resetting &= ~VIRTIO_BIT(index);
}

void virtio_begin_reset(struct virtio *v)
{
	if (!v->engaged) {
		reset_registers(v);
		return;
	}
	v->resetting = true;
	virtio_post_work(v);
}

void virtio_begin_queue_reset(struct virtio *v, unsigned index)
{
	if (!v->engaged) {
		reset_queue_registers(v, index);
		return;
	}
	v->queue_resetting |= VIRTIO_BIT(index);
	virtio_post_work(v);
}

void virtio_assign(struct virtio *v, const struct virtio_regs *regs)
{
	v->regs = *regs;
	v->engaged = regs->status & STATUS_DRIVER_OK;
	v->resetting = false;
	v->restored = true;
	v->queue_resetting = 0;
	pthread_cond_broadcast(&v->changed);
}

/* ---- one queue ---- */

static void keep_position(struct virtio *v, unsigned index)
{
	const struct virtq_position *at = &v->queues[index].vq.at;
	v->regs.queue_next_avail[index] = at->next_avail;
	v->regs.queue_next_used[index] = at->next_used;
	v->regs.queue_avail_wrap[index] = at->avail_wrap;
	v->regs.queue_used_wrap[index] = at->used_wrap;
}

/* What the driver has set up for a queue, if it wants it to run. */
static bool queue_wanted(struct virtio *v, unsigned index, struct virtq_setup *setup,
			 struct virtq_position *at)
{
	pthread_mutex_lock(&v->lock);
	const struct virtio_regs *regs = &v->regs;
	bool wanted = regs->queue_enable[index] && !(v->queue_resetting & VIRTIO_BIT(index));
	uint64_t features = regs->driver_features;
	*setup = (struct virtq_setup){
		.size = regs->queue_size[index],
		.desc_gpa = regs->queue_desc[index],
		.driver_gpa = regs->queue_driver[index],
		.device_gpa = regs->queue_device[index],
		.packed = features & VIRTIO_F_RING_PACKED,
		.indirect = features & VIRTIO_F_INDIRECT_DESC,
		.event_idx = features & VIRTIO_F_EVENT_IDX,
		.in_order = features & VIRTIO_F_IN_ORDER,
	};
	*at = (struct virtq_position){
		.next_avail = regs->queue_next_avail[index],
		.next_used = regs->queue_next_used[index],
		.avail_wrap = regs->queue_avail_wrap[index],
		.used_wrap = regs->queue_used_wrap[index],
	};
	pthread_mutex_unlock(&v->lock);
	return wanted;
}

/* Makes the queue live if the driver enabled it. False: its rings cannot be. */
static bool start_queue(struct virtio *v, unsigned index)
{
	struct virtio_queue *q = &v->queues[index];
	struct virtq_position at;
	struct virtq_setup setup;
	if (q->live || !queue_wanted(v, index, &setup, &at))
		return true;
	q->external = q->stopping = q->parked = false;
	q->setup = setup;
	q->live = virtq_init(&q->vq, v->services.memory, &q->setup, &at) == 0;
	if (!q->live)
		virtio_needs_reset(v, "a queue where no queue can be");
	return q->live;
}

static void forget_queue(struct virtio_queue *q)
{
	virtio_queue_close(q);
	virtio_queue_drop_irq(q);
	q->live = q->stopping = false;
}

void virtio_queue_stopped(struct virtio *v, unsigned index)
{
	struct virtio_queue *q = &v->queues[index];
	if (!q->stopping)
		return; /* the whole device was faster */
	forget_queue(q);
	pthread_mutex_lock(&v->lock);
	reset_queue_registers(v, index);
	pthread_mutex_unlock(&v->lock);
}

static void stop_queue(struct virtio *v, unsigned index)
{
	struct virtio_queue *q = &v->queues[index];
	if (q->stopping)
		return;
	q->stopping = true;
	if (!q->live) { /* it was enabled and reset before we looked */
		virtio_queue_stopped(v, index);
		return;
	}
	virtio_queue_close(q);
	v->spec.ops->stop_queue(v->spec.device, index);
}

static void work_on_queues(struct virtio *v, uint64_t resetting)
{
	if (!v->active) { /* it could not start: its queues are reset at once */
		pthread_mutex_lock(&v->lock);
		for (unsigned i = 0; i < v->spec.queue_count; i++)
			if (resetting & VIRTIO_BIT(i))
				reset_queue_registers(v, i);
		pthread_mutex_unlock(&v->lock);
	}
	for (unsigned i = 0; i < v->spec.queue_count && v->active && !v->stopping; i++) {
		struct virtio_queue *q = &v->queues[i];
		if (resetting & VIRTIO_BIT(i))
			stop_queue(v, i);
		else if (q->live)
			virtio_queue_route_irq(q);
		else if (start_queue(v, i) && q->live)
			virtio_queue_open(q);
	}
}

/* ---- the device ---- */

static void finish_stop(struct virtio *v)
{
	v->active = v->stopping = false;
	pthread_mutex_lock(&v->lock);
	for (unsigned i = 0; i < v->spec.queue_count; i++) {
		struct virtio_queue *q = &v->queues[i];
		if (q->live)
			keep_position(v, i);
		if (q->live && q->vq.in_flight && !v->resetting && !q->vq.broken)
			log_warn("%s: paused with %u requests of queue %u not finished", v->name,
				 (unsigned)q->vq.in_flight, i);
		forget_queue(q);
		if (v->queue_resetting & VIRTIO_BIT(i))
			reset_queue_registers(v, i);
	}
	if (v->resetting)
		reset_registers(v);
	v->paused = v->pauses > 0;
	pthread_cond_broadcast(&v->changed);
	pthread_mutex_unlock(&v->lock);
}

void virtio_stopped(struct virtio *v)
{
	if (v->stopping)
		finish_stop(v);
}

bool virtio_resetting(const struct virtio *v)
{
	return v->reset_stop;
}

static void stop(struct virtio *v, bool reset)
{
	v->reset_stop = reset; /* also when a reset overtakes a pause */
	if (v->stopping)
		return;
	if (!v->active) {
		finish_stop(v);
		return;
	}
	v->stopping = true;
	loop_remove_poller(v->loop, &v->poller);
	v->spec.ops->stop(v->spec.device);
}

static void activate(struct virtio *v, uint64_t features)
{
	bool good = true;
	atomic_store(&v->broken, false);
	for (unsigned i = 0; i < v->spec.queue_count && good; i++)
		good = start_queue(v, i);
	v->active = good;
	int res = good ? v->spec.ops->activate(v->spec.device, features) : 0;
	if (res < 0) {
		v->active = false;
		virtio_needs_reset(v, strerror(-res));
	}
	if (v->active)
		loop_add_poller(v->loop, &v->poller);
	for (unsigned i = 0; i < v->spec.queue_count; i++) {
		if (!v->active)
			forget_queue(&v->queues[i]);
		else if (v->queues[i].live)
			virtio_queue_open(&v->queues[i]);
	}
	pthread_mutex_lock(&v->lock);
	bool restored = v->restored;
	v->restored = false;
	pthread_mutex_unlock(&v->lock);
	/* What the driver has read of its configuration was of another process: a link, a size may differ. */
	if (restored && v->active)
		virtio_config_interrupt(v);
}

void virtio_work(struct loop_op *op, int res)
{
	struct virtio *v = container_of(op, struct virtio, work_op);
	(void)res;
	pthread_mutex_lock(&v->lock);
	bool reset = v->resetting, pause = v->pauses > 0;
	bool run = v->engaged && !(v->regs.status & STATUS_NEEDS_RESET);
	uint64_t features = v->regs.driver_features, queues = v->queue_resetting;
	pthread_mutex_unlock(&v->lock);
	if (reset || pause) {
		stop(v, reset);
		return;
	}
	if (run && !v->active)
		activate(v, features);
	work_on_queues(v, queues);
}

void virtio_reset(struct virtio *v)
{
	pthread_mutex_lock(&v->lock);
	virtio_begin_reset(v);
	while (v->resetting)
		pthread_cond_wait(&v->changed, &v->lock);
	pthread_mutex_unlock(&v->lock);
	pci_function_reset(v->function);
}

void virtio_pause(struct virtio *v)
{
	pthread_mutex_lock(&v->lock);
	if (v->pauses++ == 0) {
		v->paused = false;
		virtio_post_work(v);
	}
	while (!v->paused)
		pthread_cond_wait(&v->changed, &v->lock);
	pthread_mutex_unlock(&v->lock);
}

void virtio_resume(struct virtio *v)
{
	pthread_mutex_lock(&v->lock);
	if (--v->pauses == 0) {
		v->paused = false;
		virtio_post_work(v);
	}
	pthread_mutex_unlock(&v->lock);
}
