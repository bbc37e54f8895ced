/* The vhost-user protocol: see vhost_user.h. */
#include "vhost_user.h"

#include "base/bytes.h"
#include "base/cleanup.h"

#include <errno.h>
#include <string.h>

enum { FLAG_VERSION = 1, FLAG_VERSION_MASK = 3, FLAG_REPLY = 4, FLAG_NEED_REPLY = 8, ACK_BYTES = 8 };

static void send_next(struct vhost_user *link);

static void close_received(struct vhost_user_half *half)
{
	half->fd = close_fd(half->fd);
	half->got = 0;
	half->want = VHOST_USER_HEADER;
}

static void leave_loop(struct vhost_user *link)
{
	if (!link->loop)
		return;
	(void)loop_release(link->loop, &link->send_op);
	(void)loop_release(link->loop, &link->timer_op);
	(void)loop_release(link->loop, &link->in.op);
	(void)loop_release(link->loop, &link->channel.op);
}

/* And forgets all commands; nobody is told. */
static void close_link(struct vhost_user *link)
{
	leave_loop(link);
	link->fd = close_fd(link->fd);
	link->channel_fd = close_fd(link->channel_fd);
	close_received(&link->in);
	close_received(&link->channel);
	link->first = link->last = 0;
	link->busy = link->reply_ack = false;
}

static void fail(struct vhost_user *link, const char *why)
{
	if (link->fd < 0)
		return;
	close_link(link);
	link->ops->failed(link->owner, why);
}

/* ---- commands ---- */

static struct vhost_user_command *current(struct vhost_user *link)
{
	return &link->commands[link->first % VHOST_USER_COMMANDS_MAX];
}

static bool wants_ack(const struct vhost_user *link, const struct vhost_user_command *command)
{
	return link->reply_ack && !command->no_ack && command->reply_max == 0;
}

/* The command went out, and what it asks for has come. */
static void advance(struct vhost_user *link)
{
	if (!link->busy || !link->sent || !link->answered)
		return;
	link->busy = false;
	link->first++;
	if (link->first != link->last)
		send_next(link);
	else
		link->ops->idle(link->owner);
}

static void send_rest(struct vhost_user *link)
{
	link->out_iov = (struct iovec){link->out + link->out_sent, link->out_len - link->out_sent};
	if (link->out_sent) /* descriptors go with the first byte */
		link->out_msg.msg_controllen = 0;
	loop_sendmsg(link->loop, &link->send_op, link->fd, &link->out_msg, MSG_NOSIGNAL);
}

static void send_done(struct loop_op *op, int res)
{
	struct vhost_user *link = container_of(op, struct vhost_user, send_op);
	if (res <= 0 && res != -EINTR && res != -EAGAIN) {
		fail(link, "it hung up");
		return;
	}
	link->out_sent += res > 0 ? (uint32_t)res : 0;
	if (link->out_sent < link->out_len) {
		send_rest(link);
		return;
	}
	link->sent = true;
	advance(link);
}

static void send_next(struct vhost_user *link)
{
	const struct vhost_user_command *command = current(link);
	bool ack = wants_ack(link, command);
	link->busy = true;
	link->sent = false;
	link->answered = !ack && command->reply_max == 0;
	store_le32(link->out, command->request);
	store_le32(link->out + 4, FLAG_VERSION | (ack ? FLAG_NEED_REPLY : 0));
	store_le32(link->out + 8, command->size);
	memcpy(link->out + VHOST_USER_HEADER, command->payload, command->size);
	link->out_len = VHOST_USER_HEADER + command->size;
	link->out_sent = 0;
	link->out_msg = (struct msghdr){.msg_iov = &link->out_iov, .msg_iovlen = 1};
	if (command->fd_count) {
		size_t bytes = command->fd_count * sizeof(int);
		memset(link->out_control, 0, sizeof(link->out_control));
		link->out_msg.msg_control = link->out_control;
		link->out_msg.msg_controllen = CMSG_SPACE(bytes);
		struct cmsghdr *cmsg = CMSG_FIRSTHDR(&link->out_msg);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(bytes);
		memcpy(CMSG_DATA(cmsg), command->fds, bytes);
	}
	send_rest(link);
}

static void timer_done(struct loop_op *op, int res)
{
	struct vhost_user *link = container_of(op, struct vhost_user, timer_op);
	uint64_t now = loop_now_ns();
	(void)res;
	if (link->first == link->last)
		return;
	if (now >= link->deadline_ns)
		fail(link, "it does not answer");
	else
		loop_delay(link->loop, op, link->deadline_ns - now);
}

void vhost_user_submit(struct vhost_user *link, const struct vhost_user_command *command)
{
	if (link->fd < 0)
		return;
	if (link->first == link->last) {
		link->deadline_ns = loop_now_ns() + VHOST_USER_TIMEOUT_NS;
		if (!link->timer_op.pending)
			loop_delay(link->loop, &link->timer_op, VHOST_USER_TIMEOUT_NS);
	}
	if (link->last - link->first == VHOST_USER_COMMANDS_MAX) {
		fail(link, "it is asked too much at once");
		return;
	}
	link->commands[link->last++ % VHOST_USER_COMMANDS_MAX] = *command;
	if (!link->busy)
		send_next(link);
}

/* ---- answers ---- */

static void receive(struct vhost_user *link, struct vhost_user_half *half, int fd)
{
	half->iov = (struct iovec){half->bytes + half->got, half->want - half->got};
	half->msg = (struct msghdr){.msg_iov = &half->iov,
				    .msg_iovlen = 1,
				    .msg_control = half->control,
				    .msg_controllen = sizeof(half->control)};
	loop_recvmsg(link->loop, &half->op, fd, &half->msg, MSG_CMSG_CLOEXEC);
}

/* Keeps the first descriptor of a message and closes all others. */
static void take_fds(struct vhost_user_half *half)
{
	for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(&half->msg); cmsg; cmsg = CMSG_NXTHDR(&half->msg, cmsg)) {
		if (cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t at = 0; CMSG_LEN(at + sizeof(int)) <= cmsg->cmsg_len; at += sizeof(int)) {
			int fd;
			memcpy(&fd, CMSG_DATA(cmsg) + at, sizeof(fd));
			if (half->fd < 0)
				half->fd = fd;
			else
				(void)close_fd(fd);
		}
	}
}

/* What came is added. 1: a whole message; 0: not yet; -errno. */
static int take_bytes(struct vhost_user_half *half, int res)
{
	if (res == -EINTR || res == -EAGAIN)
		return 0;
	if (res <= 0)
		return res < 0 ? res : -ECONNRESET;
	take_fds(half);
	half->got += (uint32_t)res;
	if (half->got == VHOST_USER_HEADER && half->want == VHOST_USER_HEADER) {
		uint32_t size = load_le32(half->bytes + 8);
		if (size > VHOST_USER_PAYLOAD_MAX)
			return -EMSGSIZE;
		half->want += size;
	}
	return half->got == half->want;
}

/* A whole answer. NULL, or what is wrong with it. */
static const char *judge(struct vhost_user *link, const struct vhost_user_command *command)
{
	struct vhost_user_half *in = &link->in;
	uint32_t size = in->want - VHOST_USER_HEADER, flags = load_le32(in->bytes + 4);
	const uint8_t *payload = in->bytes + VHOST_USER_HEADER;
	if (load_le32(in->bytes) != (uint32_t)command->request)
		return "it answers what it was not asked";
	if ((flags & (FLAG_VERSION_MASK | FLAG_REPLY)) != (FLAG_VERSION | FLAG_REPLY))
		return "an answer with wrong flags";
	if (wants_ack(link, command))
		return size != ACK_BYTES    ? "an acknowledgement of wrong size"
		       : load_le64(payload) ? "it refuses a command"
					    : NULL;
	if (size < command->reply_min || size > command->reply_max)
		return "an answer of wrong size";
	return link->ops->replied(link->owner, command, payload, size, &in->fd);
}

static void received(struct loop_op *op, int res)
{
	struct vhost_user *link = container_of(op, struct vhost_user, in.op);
	int got = take_bytes(&link->in, res);
	if (got < 0) {
		fail(link, got == -EMSGSIZE ? "an answer of wrong size" : "it hung up");
		return;
	}
	if (got == 0) {
		receive(link, &link->in, link->fd);
		return;
	}
	if (!link->busy || link->answered) {
		fail(link, "it answers what it was not asked");
		return;
	}
	const struct vhost_user_command command = *current(link);
	const char *wrong = judge(link, &command);
	if (link->fd < 0)
		return; /* the owner closed it */
	if (wrong) {
		fail(link, wrong);
		return;
	}
	close_received(&link->in);
	receive(link, &link->in, link->fd);
	link->answered = true;
	advance(link);
}

/* ---- what the back end asks ---- */

static void answer_channel(struct vhost_user *link)
{
	struct vhost_user_half *half = &link->channel;
	uint8_t answer[VHOST_USER_HEADER + ACK_BYTES] = {0};
	if (!(load_le32(half->bytes + 4) & FLAG_NEED_REPLY))
		return;
	memcpy(answer, half->bytes, 4);
	store_le32(answer + 4, FLAG_VERSION | FLAG_REPLY);
	store_le32(answer + 8, ACK_BYTES);
	/* All that we know we can do; a back end that does not read its answers loses them. */
	store_le64(answer + VHOST_USER_HEADER, load_le32(half->bytes) != VHOST_USER_BACKEND_CONFIG_CHANGE);
	(void)send(link->channel_fd, answer, sizeof(answer), MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void channel_received(struct loop_op *op, int res)
{
	struct vhost_user *link = container_of(op, struct vhost_user, channel.op);
	struct vhost_user_half *half = &link->channel;
	int got = take_bytes(half, res);
	if (got < 0) { /* it need not keep it open */
		link->channel_fd = close_fd(link->channel_fd);
		close_received(half);
		return;
	}
	if (got > 0) {
		uint32_t request = load_le32(half->bytes);
		answer_channel(link);
		close_received(half);
		link->ops->asked(link->owner, request);
	}
	if (link->channel_fd >= 0 && !half->op.pending)
		receive(link, half, link->channel_fd);
}

void vhost_user_open_channel(struct vhost_user *link, int fd)
{
	(void)loop_release(link->loop, &link->channel.op);
	(void)close_fd(link->channel_fd);
	close_received(&link->channel);
	link->channel_fd = fd;
	receive(link, &link->channel, fd);
}

/* ---- life ---- */

int vhost_user_init(struct vhost_user *link, const struct vhost_user_owner *ops, void *owner)
{
	*link = (struct vhost_user){.ops = ops, .owner = owner, .fd = -1, .channel_fd = -1};
	link->send_op.done = send_done;
	link->timer_op.done = timer_done;
	link->in.op.done = received;
	link->channel.op.done = channel_received;
	link->in.fd = link->channel.fd = -1;
	link->commands = calloc(VHOST_USER_COMMANDS_MAX, sizeof(*link->commands));
	return link->commands ? 0 : -ENOMEM;
}

void vhost_user_finish(struct vhost_user *link)
{
	link->loop = NULL;
	if (link->ops)
		close_link(link);
	free(link->commands);
}

void vhost_user_attach(struct vhost_user *link, struct loop *loop, int fd)
{
	link->loop = loop;
	if (fd >= 0)
		link->fd = fd;
	if (link->fd < 0)
		return;
	close_received(&link->in);
	receive(link, &link->in, link->fd);
	if (link->channel_fd >= 0)
		vhost_user_open_channel(link, take_fd(&link->channel_fd));
}

void vhost_user_detach(struct vhost_user *link)
{
	leave_loop(link);
	link->loop = NULL;
}
