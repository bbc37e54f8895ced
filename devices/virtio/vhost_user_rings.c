/* Queues that another process works on: see vhost_user.h. */
#include "vhost_user.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>

enum { INFLIGHT_BYTES = 20, STATE_BYTES = 8, INFLIGHT_MAX = 16 << 20 };

static void ask(struct vhost_user_device *vu, enum vhost_user_request request, const struct writer *payload,
		int fd, uint32_t reply, uint32_t tag)
{
	struct vhost_user_command command = {
		.request = request,
		.size = (uint32_t)payload->used,
		.fds = {fd},
		.fd_count = fd >= 0,
		.reply_min = reply,
		.reply_max = reply,
		.tag = tag,
	};
	memcpy(command.payload, payload->data, payload->used);
	vhost_user_submit(&vu->link, &command);
}

static void ask_u64(struct vhost_user_device *vu, enum vhost_user_request request, uint64_t value, int fd)
{
	uint8_t bytes[8];
	struct writer w = writer_on(bytes, sizeof(bytes));
	write_le64(&w, value);
	ask(vu, request, &w, fd, 0, 0);
}

/* A queue's number, and a value. */
static void ask_state(struct vhost_user_device *vu, enum vhost_user_request request, unsigned index,
		      uint32_t value, uint32_t reply)
{
	uint8_t bytes[STATE_BYTES];
	struct writer w = writer_on(bytes, sizeof(bytes));
	write_le32(&w, index);
	write_le32(&w, value);
	ask(vu, request, &w, -1, reply, index);
}

/* ---- memory ---- */

/* What the back end calls a user address is ours. */
static uint64_t user_address(struct vhost_user_device *vu, uint64_t gpa)
{
	return (uintptr_t)guest_memory_at(vu->memory, gpa, 1);
}

static void tell_memory(struct vhost_user_device *vu)
{
	const struct guest_region *regions;
	size_t count = guest_memory_regions(vu->memory, &regions);
	struct vhost_user_command command = {.request = VHOST_USER_SET_MEM_TABLE};
	struct writer w = writer_on(command.payload, sizeof(command.payload));
	write_le32(&w, (uint32_t)count);
	write_le32(&w, 0);
	for (size_t i = 0; i < count; i++) {
		uint64_t offset;
		command.fds[command.fd_count++] = guest_memory_fd(vu->memory, &regions[i], &offset);
		write_le64(&w, regions[i].gpa);
		write_le64(&w, regions[i].size);
		write_le64(&w, (uintptr_t)regions[i].host);
		write_le64(&w, offset);
	}
	command.size = (uint32_t)w.used;
	vhost_user_submit(&vu->link, &command);
}

/* ---- in-flight tracking ---- */

static void write_inflight(struct vhost_user_device *vu, struct writer *w)
{
	uint16_t most = 0;
	for (unsigned i = 0; i < vu->queue_count; i++) {
		const struct virtq_setup *setup = virtio_queue_setup(vu->base.virtio, i);
		if (setup && setup->size > most)
			most = setup->size;
	}
	write_le64(w, vu->inflight_size);
	write_le64(w, vu->inflight_offset);
	write_le16(w, (uint16_t)vu->queue_count);
	write_le16(w, most);
	w->used = INFLIGHT_BYTES;
}

static void tell_inflight(struct vhost_user_device *vu)
{
	struct vhost_user_command command = {
		.request = VHOST_USER_SET_INFLIGHT_FD, .fds = {vu->inflight_fd}, .fd_count = 1};
	struct writer w = writer_on(command.payload, INFLIGHT_BYTES);
	write_inflight(vu, &w);
	command.size = INFLIGHT_BYTES;
	vhost_user_submit(&vu->link, &command);
}

static void ask_inflight(struct vhost_user_device *vu)
{
	uint8_t bytes[INFLIGHT_BYTES] = {0};
	struct writer w = writer_on(bytes, sizeof(bytes));
	write_inflight(vu, &w);
	ask(vu, VHOST_USER_GET_INFLIGHT_FD, &w, -1, INFLIGHT_BYTES, 0);
}

void vhost_user_drop_inflight(struct vhost_user_device *vu)
{
	vu->inflight_fd = close_fd(vu->inflight_fd);
	vu->inflight_size = vu->inflight_offset = 0;
}

/* ---- positions ---- */

/* The index after a split ring's flags: of the used ring, or of the available ring. Both sides are at it. */
static uint16_t ring_index(struct vhost_user_device *vu, uint64_t gpa)
{
	const uint16_t *idx = guest_memory_at(vu->memory, gpa + 2, sizeof(*idx));
	return idx ? __atomic_load_n(idx, __ATOMIC_ACQUIRE) : 0;
}

bool vhost_user_in_flight(struct vhost_user_device *vu)
{
	for (unsigned i = 0; i < vu->queue_count; i++) {
		const struct virtq_setup *setup = virtio_queue_setup(vu->base.virtio, i);
		if (setup && ring_index(vu, setup->device_gpa) != ring_index(vu, setup->driver_gpa))
			return true;
	}
	return false;
}

/* The transport keeps them in its registers when the device stops; these queues are never popped by us. */
void vhost_user_keep_positions(struct vhost_user_device *vu)
{
	for (unsigned i = 0; i < vu->queue_count; i++) {
		struct virtq *vq = virtio_queue(vu->base.virtio, i);
		if (vq && vu->queues[i].again)
			vq->at.next_avail = vq->at.next_used = ring_index(vu, vq->setup.device_gpa);
	}
}

/* ---- handing over ---- */

void vhost_user_claim(struct vhost_user_device *vu, unsigned index)
{
	struct vhost_user_queue *q = &vu->queues[index];
	if (q->claimed || !virtio_queue_setup(vu->base.virtio, index))
		return;
	(void)virtio_queue_doorbell_fd(vu->base.virtio, index);
	(void)virtio_queue_attach_irq(vu->base.virtio, index, q->call_fd);
	q->claimed = true;
}

static void tell_addresses(struct vhost_user_device *vu, unsigned index, const struct virtq_setup *setup)
{
	uint8_t bytes[40];
	struct writer w = writer_on(bytes, sizeof(bytes));
	write_le32(&w, index);
	write_le32(&w, 0); /* no log */
	write_le64(&w, user_address(vu, setup->desc_gpa));
	write_le64(&w, user_address(vu, setup->device_gpa));
	write_le64(&w, user_address(vu, setup->driver_gpa));
	write_le64(&w, 0);
	ask(vu, VHOST_USER_SET_VRING_ADDR, &w, -1, 0, index);
}

/* The kick starts the queue, so that comes when all the rest is known. */
static void start_queue(struct vhost_user_device *vu, unsigned index)
{
	struct vhost_user_queue *q = &vu->queues[index];
	const struct virtq_setup *setup = virtio_queue_setup(vu->base.virtio, index);
	const struct virtq *vq = virtio_queue(vu->base.virtio, index);
	if (!q->claimed || q->running || !setup || !vq)
		return;
	uint16_t base = q->again ? ring_index(vu, setup->device_gpa) : vq->at.next_avail;
	ask_state(vu, VHOST_USER_SET_VRING_NUM, index, setup->size, 0);
	ask_state(vu, VHOST_USER_SET_VRING_BASE, index, base, 0);
	tell_addresses(vu, index, setup);
	ask_u64(vu, VHOST_USER_SET_VRING_CALL, index, q->call_fd);
	ask_u64(vu, VHOST_USER_SET_VRING_KICK, index, virtio_queue_doorbell_fd(vu->base.virtio, index));
	if (vu->backend_features & VHOST_USER_F_PROTOCOL_FEATURES)
		ask_state(vu, VHOST_USER_SET_VRING_ENABLE, index, 1, 0);
	q->running = q->again = true;
}

void vhost_user_start_late(struct vhost_user_device *vu)
{
	for (unsigned i = 0; i < vu->queue_count; i++)
		start_queue(vu, i);
}

void vhost_user_start(struct vhost_user_device *vu)
{
	uint64_t features = vu->features & vu->backend_features;
	ask_u64(vu, VHOST_USER_SET_FEATURES,
		features | (vu->backend_features & VHOST_USER_F_PROTOCOL_FEATURES), -1);
	tell_memory(vu);
	/* The fresh one comes by its answer, before the queues: those are told when it is here. */
	if ((vu->protocol & VHOST_USER_PROTOCOL_INFLIGHT) && vu->inflight_fd < 0) {
		ask_inflight(vu);
		return;
	}
	if (vu->inflight_fd >= 0)
		tell_inflight(vu);
	vhost_user_start_late(vu);
}

void vhost_user_wake(struct vhost_user_device *vu)
{
	for (unsigned i = 0; i < vu->queue_count; i++) {
		if (!vu->queues[i].running)
			continue;
		(void)eventfd_write(virtio_queue_doorbell_fd(vu->base.virtio, i), 1);
		(void)eventfd_write(vu->queues[i].call_fd, 1);
	}
}

void vhost_user_end(struct vhost_user_device *vu)
{
	for (unsigned i = 0; i < vu->queue_count; i++)
		if (vu->queues[i].running)
			ask_state(vu, VHOST_USER_GET_VRING_BASE, i, 0, STATE_BYTES);
}

const char *vhost_user_ring_reply(struct vhost_user_device *vu, const struct vhost_user_command *command,
				  const uint8_t *payload, int *fd)
{
	if (command->request == VHOST_USER_GET_VRING_BASE) {
		const struct virtq_setup *setup = virtio_queue_setup(vu->base.virtio, command->tag);
		uint32_t base = load_le32(payload + 4);
		if (load_le32(payload) != command->tag || base > UINT16_MAX)
			return "a position that no queue has";
		vu->queues[command->tag].running = false;
		if (setup && !virtio_resetting(vu->base.virtio) && !vu->kind->forgets &&
		    base != ring_index(vu, setup->device_gpa))
			log_warn("%s: %s: stopped with requests of queue %u not finished", vu->name,
				 vu->config->path, command->tag);
		return NULL;
	}
	/* GET_INFLIGHT_FD. Only the back end maps it. */
	vu->inflight_size = load_le64(payload);
	vu->inflight_offset = load_le64(payload + 8);
	if (*fd < 0 || vu->inflight_size == 0 || vu->inflight_size > INFLIGHT_MAX)
		return "in-flight tracking without memory for it";
	vu->inflight_fd = take_fd(fd);
	tell_inflight(vu);
	vhost_user_start_late(vu);
	return NULL;
}
