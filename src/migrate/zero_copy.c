/* Sends without a copy: see zero_copy.h. */
#include "zero_copy.h"

#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

/* More than a connection has on its way in most cases: who waits for a buffer then waits for the network. */
enum { BUFFERS = 8 };

struct zero_copy {
	struct io_uring ring;
	uint8_t *memory; /* BUFFERS times `bytes` */
	size_t bytes;
	unsigned held[BUFFERS]; /* sends for which the kernel still reads it */
	unsigned next;
};

static bool kernel_can(void)
{
	struct io_uring_probe *probe = io_uring_get_probe();
	bool can = probe && io_uring_opcode_supported(probe, IORING_OP_SEND_ZC);
	io_uring_free_probe(probe);
	return can;
}

int zero_copy_create(size_t bytes, struct zero_copy **ret, struct err *err)
{
	if (!kernel_can())
		return err_set(
			err, -ENOTSUP,
			"zero-copy-send: this kernel's io_uring cannot send so, Linux 6.0 can; set it to "
			"false");
	struct zero_copy *zero_copy = calloc(1, sizeof(*zero_copy));
	if (!zero_copy)
		return err_sys(err, -ENOMEM, "zero-copy-send");
	zero_copy->bytes = bytes;
	int r = io_uring_queue_init(BUFFERS, &zero_copy->ring, 0);
	if (r < 0) {
		free(zero_copy);
		return err_sys(err, r, "zero-copy-send: io_uring");
	}
	/* Not from malloc: pages that are still on their way must not become anybody's who writes to them. */
	zero_copy->memory =
		mmap(NULL, BUFFERS * bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (zero_copy->memory == MAP_FAILED) {
		r = -errno;
		io_uring_queue_exit(&zero_copy->ring);
		free(zero_copy);
		return err_sys(err, r, "zero-copy-send");
	}
	*ret = zero_copy;
	return 0;
}

void zero_copy_destroy(struct zero_copy *zero_copy)
{
	if (!zero_copy)
		return;
	io_uring_queue_exit(&zero_copy->ring);
	(void)munmap(zero_copy->memory, BUFFERS * zero_copy->bytes);
	free(zero_copy);
}

bool zero_copy_owns(const struct zero_copy *zero_copy, const void *data)
{
	return (uintptr_t)data - (uintptr_t)zero_copy->memory < BUFFERS * zero_copy->bytes;
}

/* Two things come of a send: its result, and, if that says so (MORE), a notice that the buffer is free. */
static bool reap(struct zero_copy *zero_copy, int *ret_result)
{
	struct io_uring_cqe *cqe;
	bool got = false;
	while (!got && io_uring_peek_cqe(&zero_copy->ring, &cqe) == 0) {
		unsigned buffer = (unsigned)cqe->user_data;
		if (cqe->flags & IORING_CQE_F_NOTIF) {
			zero_copy->held[buffer]--;
		} else {
			zero_copy->held[buffer] += cqe->flags & IORING_CQE_F_MORE ? 1 : 0;
			*ret_result = cqe->res;
			got = true;
		}
		io_uring_cqe_seen(&zero_copy->ring, cqe);
	}
	return got;
}

uint8_t *zero_copy_buffer(struct zero_copy *zero_copy, const struct channel *channel, struct err *err)
{
	unsigned buffer = zero_copy->next;
	const struct channel ring = {.fd = zero_copy->ring.ring_fd,
				     .canceller = channel->canceller,
				     .timeout_ms = channel->timeout_ms};
	int ignored;
	(void)reap(zero_copy, &ignored);
	while (zero_copy->held[buffer]) {
		if (channel_wait(&ring, POLLIN, err) < 0)
			return NULL;
		(void)reap(zero_copy, &ignored);
	}
	zero_copy->next = (buffer + 1) % BUFFERS;
	return zero_copy->memory + buffer * zero_copy->bytes;
}

ssize_t zero_copy_send(struct zero_copy *zero_copy, int fd, const void *data, size_t len, short *ret_wait,
		       struct err *err)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&zero_copy->ring);
	int result = -EINTR, r = 0;
	if (!sqe)
		return err_set(err, -EBUSY, "zero-copy-send: io_uring is full");
	io_uring_prep_send_zc(sqe, fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT, 0);
	sqe->user_data = ((uintptr_t)data - (uintptr_t)zero_copy->memory) / zero_copy->bytes;
	do
		r = io_uring_submit_and_wait(&zero_copy->ring, 1);
	while ((r >= 0 || r == -EINTR) && !reap(zero_copy, &result));
	if (r < 0 && r != -EINTR)
		return err_sys(err, r, "zero-copy-send: io_uring");
	if (result >= 0)
		return result;
	if (result == -EAGAIN || result == -EINTR) {
		*ret_wait = POLLOUT;
		return 0;
	}
	if (result == -ENOMEM || result == -ENOBUFS || result == -EOPNOTSUPP)
		return -ENOBUFS;
	return err_sys(err, result, "sending");
}
