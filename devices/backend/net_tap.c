/*
 * TAP interfaces. A batch is one io_uring_enter: reads that do not wait, as many as there is room for; an
 * interface has no call that takes several packets. The kernel puts the header of VIRTIO 1.3, 5.1.6 in front
 * of each frame, all but num_buffers.
 */
#include "net_tap.h"
#include "net_backend.h"

#include "base/cleanup.h"
#include "base/log.h"

#include <assert.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>

#define AGAIN_NS UINT64_C(500000000)

struct tap_io {
	struct loop_op op;
	struct tap_queue *queue;
	struct net_packet *packet;
};

struct tap_queue {
	struct tap *tap;
	unsigned index;
	int fd;
	bool detached; /* the kernel sends it nothing */
	struct loop_op wait_op;
	struct tap_io in[NET_BATCH_MAX], out[NET_BATCH_MAX];
	unsigned in_left, out_left; /* of the batch */
	bool failed;		    /* an error, not merely nothing there: wait in time, not by poll */
};

struct tap {
	struct net_port base;
	int read_flags;
	bool complained;
	unsigned queue_count;
	struct tap_queue queues[];
};

static struct tap *tap_of(struct net_port *backend)
{
	return container_of(backend, struct tap, base);
}

/* ---- in ---- */

static void complain(struct tap *tap, int code)
{
	if (!tap->complained)
		log_warn("%s: the TAP interface cannot be read: %s; trying again", tap->base.name,
			 strerror(-code));
	tap->complained = true;
}

/* -EAGAIN: nothing (more) there; -ECANCELED: halted. */
static void read_done(struct loop_op *op, int res)
{
	struct tap_io *io = container_of(op, struct tap_io, op);
	struct tap_queue *queue = io->queue;
	struct tap *tap = queue->tap;
	io->packet->bytes = res > 0 ? (size_t)res : 0;
	if (res < 0 && res != -EAGAIN && res != -EINTR) {
		queue->failed = true;
		complain(tap, res);
	} else if (res > 0) {
		tap->complained = false;
	}
	if (--queue->in_left == 0)
		tap->base.user->received(tap->base.owner, queue->index);
}

static void tap_receive(struct net_port *backend, unsigned index, struct net_packet *packets, unsigned count)
{
	struct tap *tap = tap_of(backend);
	struct tap_queue *queue = &tap->queues[index];
	unsigned reads = tap->read_flags ? count : 1;
	queue->in_left = reads;
	queue->failed = false;
	for (unsigned i = reads; i < count; i++)
		packets[i].bytes = 0;
	for (unsigned i = 0; i < reads; i++) {
		queue->in[i].packet = &packets[i];
		loop_readv(backend->loop, &queue->in[i].op, queue->fd, packets[i].iov, packets[i].count, -1,
			   tap->read_flags);
	}
}

static void wait_done(struct loop_op *op, int res)
{
	struct tap_queue *queue = container_of(op, struct tap_queue, wait_op);
	struct net_port *backend = &queue->tap->base;
	if (res < 0 && res != -ETIME)
		complain(queue->tap, res);
	backend->user->readable(backend->owner, queue->index);
}

static void tap_wait(struct net_port *backend, unsigned index)
{
	struct tap_queue *queue = &tap_of(backend)->queues[index];
	if (queue->failed)
		loop_delay(backend->loop, &queue->wait_op, AGAIN_NS);
	else
		loop_poll_once(backend->loop, &queue->wait_op, queue->fd, POLLIN);
}

/* ---- out ---- */

static void write_done(struct loop_op *op, int res)
{
	struct tap_io *io = container_of(op, struct tap_io, op);
	struct tap_queue *queue = io->queue;
	struct net_port *backend = &queue->tap->base;
	if (res < 0) /* -EIO: the interface is down; -EINVAL: the kernel does not like the header */
		io->packet->bytes = 0;
	if (--queue->out_left == 0)
		backend->user->sent(backend->owner, queue->index);
}

static void tap_send(struct net_port *backend, unsigned index, struct net_packet *packets, unsigned count)
{
	struct tap_queue *queue = &tap_of(backend)->queues[index];
	queue->out_left = count;
	for (unsigned i = 0; i < count; i++) {
		queue->out[i].packet = &packets[i];
		loop_writev(backend->loop, &queue->out[i].op, queue->fd, packets[i].iov, packets[i].count, -1,
			    0);
	}
}

static void tap_halt(struct net_port *backend, unsigned index, bool out)
{
	struct tap_queue *queue = &tap_of(backend)->queues[index];
	for (unsigned i = 0; i < NET_BATCH_MAX; i++)
		(void)loop_release(backend->loop, out ? &queue->out[i].op : &queue->in[i].op);
	if (!out)
		(void)loop_release(backend->loop, &queue->wait_op);
}

/* ---- settings ---- */

static int tap_set_offloads(struct net_port *backend, unsigned offloads)
{
	static_assert(NET_OFFLOAD_CSUM == TUN_F_CSUM && NET_OFFLOAD_TSO4 == TUN_F_TSO4 &&
			      NET_OFFLOAD_TSO6 == TUN_F_TSO6 && NET_OFFLOAD_ECN == TUN_F_TSO_ECN,
		      "passed on as they are");
	return ioctl(tap_of(backend)->queues[0].fd, TUNSETOFFLOAD, (unsigned long)offloads) < 0 ? -errno : 0;
}

static int tap_set_queues(struct net_port *backend, unsigned count)
{
	struct tap *tap = tap_of(backend);
	for (unsigned i = 1; i < tap->queue_count; i++) {
		struct tap_queue *queue = &tap->queues[i];
		bool detach = i >= count;
		struct ifreq request = {.ifr_flags = detach ? IFF_DETACH_QUEUE : IFF_ATTACH_QUEUE};
		if (detach == queue->detached)
			continue;
		if (ioctl(queue->fd, TUNSETQUEUE, &request) < 0)
			return -errno;
		queue->detached = detach;
	}
	return 0;
}

/* ---- life ---- */

static void tap_start(struct net_port *backend)
{
	struct tap *tap = tap_of(backend);
	for (unsigned i = 0; i < tap->queue_count; i++)
		(void)loop_register_file(backend->loop, tap->queues[i].fd);
	net_set_backend_link(backend, true);
}

static void tap_destroy(struct net_port *backend)
{
	struct tap *tap = tap_of(backend);
	for (unsigned i = 0; i < tap->queue_count; i++) {
		if (backend->loop) {
			tap_halt(backend, i, false);
			tap_halt(backend, i, true);
			loop_unregister_file(backend->loop, tap->queues[i].fd);
		}
		(void)close_fd(tap->queues[i].fd);
	}
	free(tap);
}

static const struct net_backend_ops tap_ops = {
	.start = tap_start,
	.destroy = tap_destroy,
	.receive = tap_receive,
	.wait = tap_wait,
	.send = tap_send,
	.halt = tap_halt,
	.set_offloads = tap_set_offloads,
	.set_queues = tap_set_queues,
};

static void init_queue(struct tap *tap, unsigned index)
{
	struct tap_queue *queue = &tap->queues[index];
	*queue = (struct tap_queue){.tap = tap, .index = index, .fd = -1, .wait_op.done = wait_done};
	for (unsigned i = 0; i < NET_BATCH_MAX; i++) {
		queue->in[i] = (struct tap_io){.op.done = read_done, .queue = queue};
		queue->out[i] = (struct tap_io){.op.done = write_done, .queue = queue};
	}
}

/*
 * io_uring turns a read of a non-blocking TAP that finds nothing into one that waits, unless it is told not
 * to, which kernels before 6.4 refuse for a TAP. There a batch of reads would wait until all of them have a
 * packet (ping took seconds), so one is read at a time. A packet that is here already is lost.
 */
static int find_read_flags(int fd)
{
	char byte;
	struct iovec iov = {.iov_base = &byte, .iov_len = 1};
	return preadv2(fd, &iov, 1, -1, RWF_NOWAIT) < 0 && errno == EOPNOTSUPP ? 0 : RWF_NOWAIT;
}

static int open_queues(struct tap *tap, const struct net_config *config, struct err *err)
{
	int fds[NET_TAP_QUEUES_MAX];
	int r = config->tap ? net_tap_open(config->tap, tap->queue_count, fds, err)
			    : net_tap_adopt((int)config->tap_fd, fds, err);
	if (r < 0)
		return r;
	for (unsigned i = 0; i < tap->queue_count; i++)
		tap->queues[i].fd = fds[i];
	tap->read_flags = find_read_flags(fds[0]);
	/* Nobody has negotiated anything yet. */
	r = tap_set_offloads(&tap->base, 0);
	if (r == 0)
		r = tap_set_queues(&tap->base, 1);
	return r < 0 ? err_sys(err, r, "tap: cannot be set up") : 0;
}

int net_tap_create(const struct net_config *config, struct net_port **ret, struct err *err)
{
	unsigned count = config->tap && config->queues ? config->queues : 1;
	if (count > NET_TAP_QUEUES_MAX)
		return err_set(err, -EINVAL, "queues: %u (1 to %d)", count, NET_TAP_QUEUES_MAX);
	struct tap *tap = calloc(1, sizeof(*tap) + count * sizeof(tap->queues[0]));
	if (!tap)
		return err_sys(err, -ENOMEM, "tap");
	tap->base.ops = &tap_ops;
	tap->queue_count = count;
	for (unsigned i = 0; i < count; i++)
		init_queue(tap, i);
	int r = open_queues(tap, config, err);
	if (r < 0) {
		tap_destroy(&tap->base);
		return r;
	}
	*ret = &tap->base;
	return 0;
}
