/* The operations: what each asks of the kernel. */
#include "loop_impl.h"

#include <assert.h>
#include <stdint.h>

/* A delay lies in the op as the kernel reads it. */
static_assert(sizeof(((struct loop_op *)0)->delay) == sizeof(struct __kernel_timespec),
	      "delay is a timespec");

static uint32_t clamp_len(size_t len)
{
	return (uint32_t)(len < INT32_MAX ? len : INT32_MAX);
}

/* ---- to the kernel ---- */

/* The number of the registered buffer that holds all of it, or -1. */
static int buffer_of(const struct loop *loop, const void *data, size_t len)
{
	for (unsigned i = 0; i < loop->buffer_count; i++) {
		uintptr_t offset = (uintptr_t)data - (uintptr_t)loop->buffers[i].iov_base;
		if (offset < loop->buffers[i].iov_len && len <= loop->buffers[i].iov_len - offset)
			return (int)i;
	}
	return -1;
}

static void prepare_read(const struct loop *loop, struct io_uring_sqe *sqe, const struct loop_op *op,
			 void *data, size_t len)
{
	int buffer = buffer_of(loop, data, len);
	if (buffer >= 0)
		io_uring_prep_read_fixed(sqe, op->fd, data, clamp_len(len), (__u64)op->offset, buffer);
	else
		io_uring_prep_read(sqe, op->fd, data, clamp_len(len), (__u64)op->offset);
	sqe->rw_flags = op->flags;
}

static void prepare_write(const struct loop *loop, struct io_uring_sqe *sqe, const struct loop_op *op,
			  const void *data, size_t len)
{
	int buffer = buffer_of(loop, data, len);
	if (buffer >= 0)
		io_uring_prep_write_fixed(sqe, op->fd, data, clamp_len(len), (__u64)op->offset, buffer);
	else
		io_uring_prep_write(sqe, op->fd, data, clamp_len(len), (__u64)op->offset);
	sqe->rw_flags = op->flags;
}

/* One buffer needs no vector: the kernel has less to copy and to check. */
static void prepare_vector(const struct loop *loop, struct io_uring_sqe *sqe, const struct loop_op *op)
{
	const struct iovec *iov = op->const_data;
	bool read = op->kind == OP_READV;
	if (op->len == 1 && read)
		prepare_read(loop, sqe, op, iov->iov_base, iov->iov_len);
	else if (op->len == 1)
		prepare_write(loop, sqe, op, iov->iov_base, iov->iov_len);
	else if (read)
		io_uring_prep_readv2(sqe, op->fd, iov, op->len, (__u64)op->offset, op->flags);
	else
		io_uring_prep_writev2(sqe, op->fd, iov, op->len, (__u64)op->offset, op->flags);
}

static void prepare_socket(struct io_uring_sqe *sqe, struct loop_op *op)
{
	switch ((enum loop_op_kind)op->kind) {
	case OP_ACCEPT:
		io_uring_prep_accept(sqe, op->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		break;
	case OP_CONNECT:
		io_uring_prep_connect(sqe, op->fd, op->const_data, op->len);
		break;
	case OP_RECV:
		io_uring_prep_recv(sqe, op->fd, op->data, op->len, op->flags);
		break;
	case OP_SEND:
		io_uring_prep_send(sqe, op->fd, op->const_data, op->len, op->flags);
		break;
	case OP_RECVMSG:
		io_uring_prep_recvmsg(sqe, op->fd, op->data, (unsigned)op->flags);
		break;
	default:
		io_uring_prep_sendmsg(sqe, op->fd, op->const_data, (unsigned)op->flags);
		break;
	}
}

static bool is_registered(const struct loop *loop, int fd)
{
	return (unsigned)fd < loop->file_slots && loop->files[fd / 64] >> (fd % 64) & 1;
}

void loop_prepare(const struct loop *loop, struct io_uring_sqe *sqe, struct loop_op *op)
{
	switch ((enum loop_op_kind)op->kind) {
	case OP_POLL:
		io_uring_prep_poll_multishot(sqe, op->fd, op->len);
		break;
	case OP_POLL_ONCE:
		io_uring_prep_poll_add(sqe, op->fd, op->len);
		break;
	case OP_READ:
		prepare_read(loop, sqe, op, op->data, op->len);
		break;
	case OP_WRITE:
		prepare_write(loop, sqe, op, op->const_data, op->len);
		break;
	case OP_READV:
	case OP_WRITEV:
		prepare_vector(loop, sqe, op);
		break;
	case OP_FSYNC:
		io_uring_prep_fsync(sqe, op->fd, (unsigned)op->flags);
		break;
	case OP_FALLOCATE:
		io_uring_prep_fallocate(sqe, op->fd, op->flags, op->offset, op->length);
		break;
	case OP_DELAY:
		io_uring_prep_timeout(sqe, (struct __kernel_timespec *)(void *)&op->delay, 0, 0);
		break;
	case OP_DEFER: /* never comes here */
		io_uring_prep_nop(sqe);
		break;
	default:
		prepare_socket(sqe, op);
		break;
	}
	if (op->kind != OP_DELAY && op->kind != OP_DEFER && is_registered(loop, op->fd))
		sqe->flags |= IOSQE_FIXED_FILE;
	io_uring_sqe_set_data(sqe, op);
}

/* ---- from the owners ---- */

void loop_poll(struct loop *loop, struct loop_op *op, int fd, unsigned events)
{
	op->fd = fd;
	op->len = events;
	loop_start(loop, op, OP_POLL);
}

void loop_poll_once(struct loop *loop, struct loop_op *op, int fd, unsigned events)
{
	op->fd = fd;
	op->len = events;
	loop_start(loop, op, OP_POLL_ONCE);
}

static void start_rw(struct loop *loop, struct loop_op *op, enum loop_op_kind kind, int fd, off_t offset,
		     int flags)
{
	op->fd = fd;
	op->offset = offset;
	op->flags = flags;
	loop_start(loop, op, kind);
}

void loop_read(struct loop *loop, struct loop_op *op, int fd, void *buf, size_t len, off_t offset)
{
	op->data = buf;
	op->len = clamp_len(len);
	start_rw(loop, op, OP_READ, fd, offset, 0);
}

void loop_write(struct loop *loop, struct loop_op *op, int fd, const void *buf, size_t len, off_t offset)
{
	op->const_data = buf;
	op->len = clamp_len(len);
	start_rw(loop, op, OP_WRITE, fd, offset, 0);
}

void loop_readv(struct loop *loop, struct loop_op *op, int fd, const struct iovec *iov, unsigned count,
		off_t offset, int rw_flags)
{
	op->const_data = iov;
	op->len = count;
	start_rw(loop, op, OP_READV, fd, offset, rw_flags);
}

void loop_writev(struct loop *loop, struct loop_op *op, int fd, const struct iovec *iov, unsigned count,
		 off_t offset, int rw_flags)
{
	op->const_data = iov;
	op->len = count;
	start_rw(loop, op, OP_WRITEV, fd, offset, rw_flags);
}

void loop_fsync(struct loop *loop, struct loop_op *op, int fd, bool data_only)
{
	start_rw(loop, op, OP_FSYNC, fd, 0, data_only ? IORING_FSYNC_DATASYNC : 0);
}

void loop_fallocate(struct loop *loop, struct loop_op *op, int fd, int mode, off_t offset, off_t len)
{
	op->length = len;
	start_rw(loop, op, OP_FALLOCATE, fd, offset, mode);
}

void loop_delay(struct loop *loop, struct loop_op *op, uint64_t delay_ns)
{
	op->delay.seconds = (int64_t)(delay_ns / NSEC_PER_SEC);
	op->delay.nanoseconds = (long long)(delay_ns % NSEC_PER_SEC);
	loop_start(loop, op, OP_DELAY);
}

void loop_accept(struct loop *loop, struct loop_op *op, int fd)
{
	op->fd = fd;
	loop_start(loop, op, OP_ACCEPT);
}

void loop_connect(struct loop *loop, struct loop_op *op, int fd, const struct sockaddr *address,
		  socklen_t len)
{
	op->fd = fd;
	op->const_data = address;
	op->len = len;
	loop_start(loop, op, OP_CONNECT);
}

static void start_message(struct loop *loop, struct loop_op *op, enum loop_op_kind kind, int fd, size_t len,
			  int flags)
{
	op->fd = fd;
	op->len = clamp_len(len);
	op->flags = flags;
	loop_start(loop, op, kind);
}

void loop_recv(struct loop *loop, struct loop_op *op, int fd, void *buf, size_t len, int flags)
{
	op->data = buf;
	start_message(loop, op, OP_RECV, fd, len, flags);
}

void loop_send(struct loop *loop, struct loop_op *op, int fd, const void *buf, size_t len, int flags)
{
	op->const_data = buf;
	start_message(loop, op, OP_SEND, fd, len, flags);
}

void loop_recvmsg(struct loop *loop, struct loop_op *op, int fd, struct msghdr *msg, int flags)
{
	op->data = msg;
	start_message(loop, op, OP_RECVMSG, fd, 0, flags);
}

void loop_sendmsg(struct loop *loop, struct loop_op *op, int fd, const struct msghdr *msg, int flags)
{
	op->const_data = msg;
	start_message(loop, op, OP_SENDMSG, fd, 0, flags);
}
