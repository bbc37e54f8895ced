/* Doorbells and interrupts (VIRTIO 1.3, 2.3, 2.7.7, 2.7.10, 4.1.5.2 to 4.1.5.4). */
#include "virtio_impl.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>

/* So often a queue that never empties may have its turn before others get theirs. */
enum { ROUNDS_MAX = 16 };

static bool queue_accepts(const struct virtio_queue *q)
{
	const struct virtio *v = q->virtio;
	return q->live && !q->stopping && v->active && !v->stopping && !q->vq.broken &&
	       !atomic_load_explicit(&v->broken, memory_order_relaxed);
}

/*
 * Doorbells are off while the device works. When turning them on shows that a request came in between, the
 * device is called again; when that takes nothing although a request is there for certain, the device means
 * it, and doorbells stay off until its virtio_retry.
 */
static void run_rounds(struct virtio_queue *q)
{
	struct virtio *v = q->virtio;
	struct virtq *vq = &q->vq;
	unsigned index = (unsigned)(q - v->queues);
	bool certain = false;
	for (unsigned round = 0; round < ROUNDS_MAX; round++) {
		uint16_t pops = vq->pops, next_avail = vq->at.next_avail;
		q->again = false;
		virtq_disable_doorbell(vq);
		v->spec.ops->doorbell(v->spec.device, index);
		if (!queue_accepts(q))
			return;
		bool took = vq->pops != pops || vq->at.next_avail != next_avail;
		if (certain && !took && !q->again) {
			q->parked = true;
			return;
		}
		if (!virtq_enable_doorbell(vq) && !q->again)
			return;
		certain = true;
	}
	loop_post(v->loop, &q->retry_op);
}

static void queue_run(struct virtio_queue *q)
{
	if (q->running) {
		q->again = true;
		return;
	}
	if (!queue_accepts(q))
		return;
	q->running = true;
	q->parked = false;
	run_rounds(q);
	q->running = false;
	if (q->live && q->vq.broken)
		virtio_needs_reset(q->virtio, q->vq.why);
}

/* ---- busy-polling, see host/loop.h: the loop looks at the queues instead of waiting for doorbells ---- */

static bool queue_polled(const struct virtio_queue *q)
{
	return queue_accepts(q) && !q->parked && !q->external && !q->running;
}

static void poller_begin(struct loop_poller *poller)
{
	struct virtio *v = container_of(poller, struct virtio, poller);
	for (unsigned i = 0; i < v->spec.queue_count; i++)
		if (queue_polled(&v->queues[i]))
			virtq_disable_doorbell(&v->queues[i].vq);
}

static bool poll_queue(struct virtio_queue *q)
{
	struct virtio *v = q->virtio;
	uint16_t pops = q->vq.pops;
	if (!virtq_has_request(&q->vq))
		return false;
	q->running = true;
	q->again = false;
	v->spec.ops->doorbell(v->spec.device, (unsigned)(q - v->queues));
	q->running = false;
	if (q->live && q->vq.broken)
		virtio_needs_reset(v, q->vq.why);
	q->parked = q->vq.pops == pops && !q->again;
	return !q->parked;
}

static bool poller_poll(struct loop_poller *poller)
{
	struct virtio *v = container_of(poller, struct virtio, poller);
	bool found = false;
	for (unsigned i = 0; i < v->spec.queue_count; i++)
		if (queue_polled(&v->queues[i]))
			found |= poll_queue(&v->queues[i]);
	return found;
}

static bool poller_end(struct loop_poller *poller)
{
	struct virtio *v = container_of(poller, struct virtio, poller);
	bool found = false;
	for (unsigned i = 0; i < v->spec.queue_count; i++) {
		struct virtio_queue *q = &v->queues[i];
		if (!queue_polled(q) || !virtq_enable_doorbell(&q->vq))
			continue;
		found = true;
		queue_run(q);
	}
	return found;
}

void virtio_poller_init(struct virtio *v)
{
	v->poller = (struct loop_poller){.begin = poller_begin, .poll = poller_poll, .end = poller_end};
}

/* ---- doorbells ---- */

static void doorbell_done(struct loop_op *op, int res)
{
	struct virtio_queue *q = container_of(op, struct virtio_queue, doorbell_op);
	if (res >= 0)
		queue_run(q);
	else if (res != -ECANCELED)
		log_error("%s: cannot listen to a doorbell: %s", q->virtio->name, strerror(-res));
}

static void retry_done(struct loop_op *op, int res)
{
	(void)res;
	queue_run(container_of(op, struct virtio_queue, retry_op));
}

void virtio_retry(struct virtio *v, unsigned index)
{
	queue_run(&v->queues[index]);
}

void virtio_queue_open(struct virtio_queue *q)
{
	if (!q->external)
		loop_poll(q->virtio->loop, &q->doorbell_op, q->doorbell_fd, POLLIN);
	queue_run(q);
}

void virtio_queue_close(struct virtio_queue *q)
{
	(void)loop_release(q->virtio->loop, &q->doorbell_op);
	(void)loop_release(q->virtio->loop, &q->retry_op);
}

struct virtq *virtio_queue(struct virtio *v, unsigned index)
{
	return index < v->spec.queue_count && v->queues[index].live ? &v->queues[index].vq : NULL;
}

/* ---- interrupts ---- */

/* `vector`: in the registers. Without MSI-X there is the ISR status, and a line that is high while it has a
 * bit. */
static void interrupt(struct virtio *v, const uint16_t *vector, uint8_t isr)
{
	pthread_mutex_lock(&v->lock);
	/* Not before (2.1.2), and not once the driver has given up what there was to tell. */
	bool told = (v->regs.status & STATUS_DRIVER_OK) && !v->resetting;
	bool msix = pci_msix_enabled(v->function);
	uint16_t to = *vector;
	if (told && !msix) {
		v->regs.isr |= isr;
		pci_intx_set(v->function, true);
	}
	pthread_mutex_unlock(&v->lock);
	if (told && msix && to < v->vectors)
		pci_msix_signal(v->function, to);
}

void virtio_interrupt(struct virtio *v, unsigned index)
{
	struct virtio_queue *q = &v->queues[index];
	if (q->live && virtq_should_interrupt(&q->vq))
		interrupt(v, &v->regs.queue_vector[index], ISR_QUEUE);
}

void virtio_config_interrupt(struct virtio *v)
{
	interrupt(v, &v->regs.config_vector, ISR_CONFIG);
}

/* ---- queues that somebody else works on ---- */

const struct virtq_setup *virtio_queue_setup(struct virtio *v, unsigned index)
{
	return index < v->spec.queue_count && v->queues[index].live ? &v->queues[index].setup : NULL;
}

int virtio_queue_doorbell_fd(struct virtio *v, unsigned index)
{
	struct virtio_queue *q = &v->queues[index];
	q->external = true;
	(void)loop_release(v->loop, &q->doorbell_op);
	return q->doorbell_fd;
}

static void irq_done(struct loop_op *op, int res)
{
	struct virtio_queue *q = container_of(op, struct virtio_queue, irq_op);
	struct virtio *v = q->virtio;
	uint64_t count;
	if (res >= 0 && read(q->irq_fd, &count, sizeof(count)) == (ssize_t)sizeof(count))
		interrupt(v, &v->regs.queue_vector[q - v->queues], ISR_QUEUE);
}

static bool vector_taken(const struct virtio *v, int vector)
{
	for (unsigned i = 0; i < v->spec.queue_count; i++)
		if (v->queues[i].irq_vector == vector)
			return true;
	return false;
}

static void unroute_irq(struct virtio_queue *q)
{
	(void)loop_release(q->virtio->loop, &q->irq_op);
	if (q->irq_vector >= 0)
		(void)pci_msix_attach(q->virtio->function, (uint16_t)q->irq_vector, -1);
	q->irq_vector = -1;
}

/* The vector has the event fd to itself, or we read it and interrupt as always. */
void virtio_queue_route_irq(struct virtio_queue *q)
{
	struct virtio *v = q->virtio;
	if (q->irq_fd < 0)
		return;
	unroute_irq(q);
	pthread_mutex_lock(&v->lock);
	int vector = v->regs.queue_vector[q - v->queues];
	pthread_mutex_unlock(&v->lock);
	if (vector < v->vectors && pci_msix_enabled(v->function) && !vector_taken(v, vector)) {
		if (pci_msix_attach(v->function, (uint16_t)vector, q->irq_fd) == 0) {
			q->irq_vector = vector;
			return;
		}
		(void)pci_msix_attach(v->function, (uint16_t)vector, -1);
	}
	loop_poll(v->loop, &q->irq_op, q->irq_fd, POLLIN);
}

void virtio_queue_drop_irq(struct virtio_queue *q)
{
	unroute_irq(q);
	q->irq_fd = -1;
}

int virtio_queue_attach_irq(struct virtio *v, unsigned index, int event_fd)
{
	struct virtio_queue *q = &v->queues[index];
	if (!q->live)
		return -ENOENT;
	virtio_queue_drop_irq(q);
	q->irq_fd = event_fd;
	virtio_queue_route_irq(q);
	/* The kernel may still have been on its way with an interrupt when the state was saved, and nobody
	 * saw it: once too often is allowed (2.7.7.1), once too few is a driver that waits for ever. Our own
	 * interrupts are in the chips before a pause ends. */
	pthread_mutex_lock(&v->lock);
	bool restored = v->restored;
	pthread_mutex_unlock(&v->lock);
	if (restored)
		interrupt(v, &v->regs.queue_vector[index], ISR_QUEUE);
	return 0;
}

void virtio_queue_init(struct virtio *v, unsigned index)
{
	struct virtio_queue *q = &v->queues[index];
	q->virtio = v;
	q->irq_fd = q->irq_vector = -1;
	q->doorbell_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	q->doorbell_op.done = doorbell_done;
	q->retry_op.done = retry_done;
	q->irq_op.done = irq_done;
}
