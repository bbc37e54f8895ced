/* A connection: see channel.h. */
#include "channel.h"

#include "base/cleanup.h"
#include "channel_tls.h"
#include "zero_copy.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- cancelling ---- */

int canceller_init(struct canceller *canceller, struct err *err)
{
	canceller->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return canceller->fd < 0 ? err_sys(err, -errno, "eventfd") : 0;
}

void canceller_finish(struct canceller *canceller)
{
	canceller->fd = close_fd(canceller->fd);
}

void canceller_fire(struct canceller *canceller)
{
	const uint64_t one = 1;
	(void)!write(canceller->fd, &one, sizeof(one));
}

bool canceller_fired(const struct canceller *canceller)
{
	struct pollfd at = {.fd = canceller->fd, .events = POLLIN};
	int r;
	do
		r = poll(&at, 1, 0);
	while (r < 0 && errno == EINTR);
	return r > 0;
}

void canceller_reset(struct canceller *canceller)
{
	uint64_t count;
	(void)!read(canceller->fd, &count, sizeof(count));
}

int canceller_wait_other(const struct canceller *canceller, const struct canceller *other, int timeout_ms)
{
	struct pollfd at[2] = {{.fd = canceller->fd, .events = POLLIN}, {.fd = other->fd, .events = POLLIN}};
	while (poll(at, 2, timeout_ms) < 0 && errno == EINTR)
		continue;
	return at[0].revents ? -ECANCELED : 0;
}

/* ---- waiting ---- */

int channel_wait(const struct channel *channel, short events, struct err *err)
{
	struct pollfd at[2] = {{.fd = channel->fd, .events = events},
			       {.fd = channel->canceller->fd, .events = POLLIN}};
	for (;;) {
		int r = poll(at, 2, (int)channel->timeout_ms);
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return err_sys(err, -errno, "poll");
		if (r == 0)
			return err_set(err, -ETIMEDOUT, "the other side has been silent for %u s",
				       channel->timeout_ms / 1000);
		if (at[1].revents)
			return err_set(err, -ECANCELED, "cancelled");
		return 0; /* an error of the connection is told by what is done next */
	}
}

/* ---- bytes ---- */

static ssize_t send_some(struct channel *channel, const void *data, size_t len, short *ret_wait,
			 struct err *err)
{
	if (channel->tls)
		return tls_send(channel->tls, data, len, ret_wait, err);
	if (channel->zero_copy && zero_copy_owns(channel->zero_copy, data)) {
		ssize_t sent = zero_copy_send(channel->zero_copy, channel->fd, data, len, ret_wait, err);
		if (sent != -ENOBUFS)
			return sent;
	}
	ssize_t n = send(channel->fd, data, len, MSG_NOSIGNAL);
	*ret_wait = POLLOUT;
	if (n < 0 && errno != EAGAIN && errno != EINTR)
		return err_sys(err, -errno, "sending");
	return n < 0 ? 0 : n;
}

static ssize_t receive_some(struct channel *channel, void *data, size_t len, short *ret_wait, struct err *err)
{
	if (channel->tls)
		return tls_receive(channel->tls, data, len, ret_wait, err);
	ssize_t n = recv(channel->fd, data, len, 0);
	*ret_wait = POLLIN;
	if (n == 0)
		return err_set(err, -ECONNRESET, "the other side has closed the connection");
	if (n < 0 && errno != EAGAIN && errno != EINTR)
		return err_sys(err, -errno, "receiving");
	return n < 0 ? 0 : n;
}

int channel_send(struct channel *channel, const void *data, size_t len, size_t *ret_sent, struct err *err)
{
	const uint8_t *at = data;
	size_t left = len;
	int r = 0;
	if (ret_sent)
		*ret_sent = 0;
	if (canceller_fired(channel->canceller))
		return err_set(err, -ECANCELED, "cancelled");
	while (r == 0 && left) {
		short wait = 0;
		ssize_t n = send_some(channel, at, left, &wait, err);
		if (n > 0) {
			at += n;
			left -= (size_t)n;
			atomic_fetch_add(&channel->sent, (uint64_t)n);
		} else {
			r = n < 0 ? (int)n : channel_wait(channel, wait, err);
		}
	}
	/* What TLS was given once it may have sent in part. */
	if (ret_sent)
		*ret_sent = channel->tls ? len : len - left;
	return r;
}

int channel_receive(struct channel *channel, void *data, size_t len, struct err *err)
{
	uint8_t *at = data;
	int r = 0;
	if (canceller_fired(channel->canceller))
		return err_set(err, -ECANCELED, "cancelled");
	while (r == 0 && len) {
		short wait = 0;
		ssize_t n = receive_some(channel, at, len, &wait, err);
		if (n > 0) {
			at += n;
			len -= (size_t)n;
			atomic_fetch_add(&channel->received, (uint64_t)n);
		} else {
			r = n < 0 ? (int)n : channel_wait(channel, wait, err);
		}
	}
	return r;
}

int channel_readable(struct channel *channel, uint32_t timeout_ms, struct err *err)
{
	struct pollfd at[2] = {{.fd = channel->fd, .events = POLLIN},
			       {.fd = channel->canceller->fd, .events = POLLIN}};
	if (channel->tls && tls_pending(channel->tls))
		return 1;
	int r = poll(at, 2, (int)timeout_ms);
	if (r < 0 && errno != EINTR)
		return err_sys(err, -errno, "poll");
	if (r > 0 && at[1].revents)
		return err_set(err, -ECANCELED, "cancelled");
	return r > 0 && at[0].revents;
}

void channel_break(struct channel *channel)
{
	if (channel->fd >= 0)
		(void)shutdown(channel->fd, SHUT_RDWR);
}

enum { SHORT_BYTES = 128 << 10 };

/* A UNIX socket's buffer is about as short by itself. */
void channel_keep_short(struct channel *channel)
{
	const int bytes = SHORT_BYTES;
	if (!channel->is_unix)
		(void)setsockopt(channel->fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &bytes, sizeof(bytes));
}

/* ---- descriptors ---- */

union fd_space {
	struct cmsghdr align;
	char bytes[CMSG_SPACE(sizeof(int))];
};

int channel_send_fd(struct channel *channel, int fd, struct err *err)
{
	union fd_space space = {.bytes = {0}};
	char byte = 'F';
	struct iovec iov = {&byte, 1};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = space.bytes,
			     .msg_controllen = sizeof(space.bytes)};
	struct cmsghdr *head = CMSG_FIRSTHDR(&msg);
	head->cmsg_level = SOL_SOCKET;
	head->cmsg_type = SCM_RIGHTS;
	head->cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(head), &fd, sizeof(fd));
	while (sendmsg(channel->fd, &msg, MSG_NOSIGNAL) < 0) {
		if (errno != EAGAIN && errno != EINTR)
			return err_sys(err, -errno, "handing RAM over");
		int r = channel_wait(channel, POLLOUT, err);
		if (r < 0)
			return r;
	}
	return 0;
}

int channel_receive_fd(struct channel *channel, int *ret_fd, struct err *err)
{
	union fd_space space;
	char byte;
	struct iovec iov = {&byte, 1};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = space.bytes,
			     .msg_controllen = CMSG_LEN(sizeof(int))}; /* room for no second one */
	for (;;) {
		ssize_t n = recvmsg(channel->fd, &msg, MSG_CMSG_CLOEXEC);
		if (n == 0)
			return err_set(err, -ECONNRESET, "the other side has closed the connection");
		if (n > 0)
			break;
		if (errno != EAGAIN && errno != EINTR)
			return err_sys(err, -errno, "taking RAM over");
		int r = channel_wait(channel, POLLIN, err);
		if (r < 0)
			return r;
	}
	const struct cmsghdr *head = CMSG_FIRSTHDR(&msg);
	if (!head || head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS ||
	    head->cmsg_len != CMSG_LEN(sizeof(int)))
		return err_set(err, -EPROTO, "no descriptor came where that of RAM should be");
	memcpy(ret_fd, CMSG_DATA(head), sizeof(int));
	return 0;
}

void channel_close(struct channel *channel)
{
	tls_session_destroy(channel->tls);
	channel->tls = NULL;
	zero_copy_destroy(channel->zero_copy);
	channel->zero_copy = NULL;
	channel->fd = close_fd(channel->fd);
}
