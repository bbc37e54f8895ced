/*
 * Frames over a UNIX stream socket: passt, or another aerie (net_peer.c says who, and when it comes and
 * goes). The framing is in net_framing.h; there is no header, so neither offload.
 *
 * What comes is read ahead into one buffer, as much as that holds, also to see that the peer hangs up. What
 * goes is one sendmsg for many frames, straight from where the packets are. A frame that was sent in part is
 * finished before another begins, even when its batch is taken back: its rest is copied then.
 */
#include "net_stream.h"

#include "base/cleanup.h"
#include "base/log.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

static struct net_stream *stream_of(struct net_port *backend)
{
	return container_of(backend, struct net_stream, base);
}

/* ---- in ---- */

/* A few reads' worth must fit, or the peer is left waiting. */
enum { ROOM_LEAST = NET_FRAMING_BYTES / 4 };

static_assert(NET_FRAMING_BYTES - ROOM_LEAST > NET_FRAME_MAX + NET_FRAMING_PREFIX,
	      "a buffer without room has a frame to take");

static void read_more(struct net_stream *stream)
{
	uint8_t *to;
	if (stream->fd < 0 || stream->recv_op.pending || stream->malformed)
		return;
	if (!stream->flow) /* nobody wants them; the beginning of one is kept, to find the next */
		while (net_framing_next(stream->in, &(const uint8_t *){NULL}, &(size_t){0}) > 0)
			;
	size_t room = net_framing_room(stream->in, &to);
	if (room >= ROOM_LEAST)
		loop_recv(stream->base.loop, &stream->recv_op, stream->fd, to, room, 0);
}

/* Whoever waits is told on the loop's next round. */
static void tell_readable(struct net_stream *stream)
{
	if (stream->waiting && !stream->in_op.pending && net_framing_ready(stream->in))
		loop_defer(stream->base.loop, &stream->in_op, 0);
}

static void recv_done(struct loop_op *op, int res)
{
	struct net_stream *stream = container_of(op, struct net_stream, recv_op);
	if (res == -EINTR || res == -EAGAIN) {
		read_more(stream);
		return;
	}
	if (res <= 0) {
		net_peer_lost(stream, res == 0 ? "it has hung up" : strerror(-res));
		return;
	}
	net_framing_put(stream->in, (size_t)res);
	tell_readable(stream);
	read_more(stream);
}

static void scatter(const struct net_packet *packet, size_t offset, const uint8_t *src, size_t len)
{
	for (unsigned i = 0; i < packet->count && len; i++) {
		size_t have = packet->iov[i].iov_len;
		if (offset >= have) {
			offset -= have;
			continue;
		}
		size_t part = have - offset < len ? have - offset : len;
		memcpy((uint8_t *)packet->iov[i].iov_base + offset, src, part);
		src += part;
		len -= part;
		offset = 0;
	}
}

static size_t room_of(const struct net_packet *packet)
{
	size_t room = 0;
	for (unsigned i = 0; i < packet->count; i++)
		room += packet->iov[i].iov_len;
	return room;
}

static void stream_receive(struct net_port *backend, unsigned queue, struct net_packet *packets,
			   unsigned count)
{
	static const uint8_t header[NET_HEADER_BYTES];
	struct net_stream *stream = stream_of(backend);
	(void)queue;
	for (unsigned i = 0; i < count; i++) {
		const uint8_t *frame;
		size_t len;
		packets[i].bytes = 0;
		int got = stream->fd < 0 ? 0 : net_framing_next(stream->in, &frame, &len);
		if (got < 0)
			stream->malformed = true;
		if (got <= 0)
			continue;
		size_t room = room_of(&packets[i]);
		scatter(&packets[i], 0, header, sizeof(header));
		scatter(&packets[i], sizeof(header), frame, len);
		packets[i].bytes = sizeof(header) + len < room ? sizeof(header) + len : room;
	}
	stream->receiving = true;
	if (!stream->in_op.pending)
		loop_defer(backend->loop, &stream->in_op, 0);
	read_more(stream);
}

/* The frames in front of an impossible length go to the guest while the link is still up. */
static void in_done(struct loop_op *op, int res)
{
	struct net_stream *stream = container_of(op, struct net_stream, in_op);
	struct net_port *backend = &stream->base;
	(void)res;
	if (stream->receiving) {
		stream->receiving = false;
		backend->user->received(backend->owner, 0);
	} else if (stream->waiting) {
		stream->waiting = false;
		backend->user->readable(backend->owner, 0);
	}
	if (stream->malformed && stream->fd >= 0)
		net_peer_lost(stream, "it has sent a frame of an impossible length");
}

static void stream_wait(struct net_port *backend, unsigned queue)
{
	struct net_stream *stream = stream_of(backend);
	(void)queue;
	stream->waiting = true;
	tell_readable(stream);
	read_more(stream);
}

static void stream_set_flow(struct net_port *backend, bool on)
{
	struct net_stream *stream = stream_of(backend);
	stream->flow = on;
	if (!on)
		read_more(stream);
}

/* ---- out ---- */

static void add_iov(struct net_stream_out *out, const void *base, size_t len)
{
	out->iov[out->iov_count++] = (struct iovec){.iov_base = (void *)(uintptr_t)base, .iov_len = len};
}

static void add_frame(struct net_stream_out *out, const struct net_packet *packet)
{
	uint8_t *prefix = out->prefixes[out->next];
	size_t len = packet->bytes - NET_HEADER_BYTES;
	for (unsigned i = 0; i < NET_FRAMING_PREFIX; i++)
		prefix[i] = (uint8_t)(len >> (24 - 8 * i));
	out->starts[out->frames++] = out->iov_count;
	add_iov(out, prefix, NET_FRAMING_PREFIX);
	for (unsigned i = 1; i < packet->count; i++)
		add_iov(out, packet->iov[i].iov_base, packet->iov[i].iov_len);
}

/* As many frames as one sendmsg takes; false: there are none left. */
static bool gather(struct net_stream_out *out)
{
	out->iov_at = out->iov_count = out->frames = 0;
	out->first_taken = 0;
	if (out->owed_len) {
		out->starts[out->frames++] = 0;
		add_iov(out, out->owed, out->owed_len);
	}
	for (; out->next < out->count; out->next++) {
		const struct net_packet *packet = &out->packets[out->next];
		if (out->iov_count + packet->count > NET_STREAM_IOVS)
			break;
		add_frame(out, packet);
	}
	out->starts[out->frames] = out->iov_count;
	return out->iov_count > 0;
}

static void send_some(struct net_stream *stream)
{
	struct net_stream_out *out = &stream->out;
	out->msg = (struct msghdr){.msg_iov = out->iov + out->iov_at,
				   .msg_iovlen = out->iov_count - out->iov_at};
	loop_sendmsg(stream->base.loop, &stream->send_op, stream->fd, &out->msg, MSG_NOSIGNAL);
}

static void take_sent(struct net_stream_out *out, size_t len)
{
	while (len && out->iov_at < out->iov_count) {
		struct iovec *iov = &out->iov[out->iov_at];
		size_t part = len < iov->iov_len ? len : iov->iov_len;
		iov->iov_base = (uint8_t *)iov->iov_base + part;
		iov->iov_len -= part;
		out->first_taken += part;
		len -= part;
		if (iov->iov_len == 0) {
			out->iov_at++;
			out->first_taken = 0;
		}
	}
}

static void end_batch(struct net_stream *stream)
{
	if (stream->sending && !stream->out_op.pending)
		loop_defer(stream->base.loop, &stream->out_op, 0);
}

static void out_done(struct loop_op *op, int res)
{
	struct net_stream *stream = container_of(op, struct net_stream, out_op);
	(void)res;
	stream->sending = false;
	stream->out.count = 0;
	stream->base.user->sent(stream->base.owner, 0);
}

static void send_done(struct loop_op *op, int res)
{
	struct net_stream *stream = container_of(op, struct net_stream, send_op);
	struct net_stream_out *out = &stream->out;
	if (res < 0 && res != -EINTR && res != -EAGAIN) {
		net_peer_lost(stream, strerror(-res));
		return;
	}
	take_sent(out, res > 0 ? (size_t)res : 0);
	if (out->iov_at == out->iov_count) {
		out->owed_len = 0; /* it went first */
		if (!gather(out)) {
			out_done(&stream->out_op, 0);
			return;
		}
	}
	send_some(stream);
}

static void drop_rest(struct net_stream_out *out)
{
	for (unsigned i = 0; i < out->count; i++)
		out->packets[i].bytes = 0;
	out->iov_at = out->iov_count = out->frames = 0;
}

static void stream_send(struct net_port *backend, unsigned queue, struct net_packet *packets, unsigned count)
{
	struct net_stream *stream = stream_of(backend);
	struct net_stream_out *out = &stream->out;
	(void)queue;
	out->packets = packets;
	out->count = count;
	out->next = 0;
	stream->sending = true;
	if (stream->fd >= 0 && gather(out)) {
		send_some(stream);
	} else {
		drop_rest(out);
		end_batch(stream);
	}
}

/* The frame that the peer has only the beginning of; what it is made of may go away now. */
static void keep_owed(struct net_stream_out *out)
{
	unsigned frame = 0;
	while (frame + 1 < out->frames && out->starts[frame + 1] <= out->iov_at)
		frame++;
	bool begun = out->iov_at < out->iov_count && (out->iov_at > out->starts[frame] || out->first_taken);
	if (out->owed_len && out->iov_at == 0) { /* the older debt is not paid yet */
		memmove(out->owed, out->iov[0].iov_base, out->iov[0].iov_len);
		out->owed_len = out->iov[0].iov_len;
		return;
	}
	out->owed_len = 0;
	for (unsigned i = out->iov_at; begun && i < out->starts[frame + 1]; i++) {
		memcpy(out->owed + out->owed_len, out->iov[i].iov_base, out->iov[i].iov_len);
		out->owed_len += out->iov[i].iov_len;
	}
}

static void halt_out(struct net_stream *stream)
{
	struct net_stream_out *out = &stream->out;
	(void)loop_release(stream->base.loop, &stream->out_op);
	if (stream->send_op.pending) {
		int res = loop_release(stream->base.loop, &stream->send_op);
		take_sent(out, res > 0 ? (size_t)res : 0);
		keep_owed(out);
	}
	out->iov_at = out->iov_count = out->frames = out->count = 0;
	stream->sending = false;
}

static void stream_halt(struct net_port *backend, unsigned queue, bool out)
{
	struct net_stream *stream = stream_of(backend);
	(void)queue;
	if (out) {
		halt_out(stream);
		return;
	}
	(void)loop_release(backend->loop, &stream->in_op);
	stream->waiting = stream->receiving = false;
}

/* ---- life ---- */

void net_stream_connected(struct net_stream *stream)
{
	stream->in->start = stream->in->end = 0;
	stream->out.owed_len = 0;
	stream->malformed = false;
	net_set_backend_link(&stream->base, true);
	read_more(stream);
}

void net_stream_disconnected(struct net_stream *stream)
{
	struct loop *loop = stream->base.loop;
	(void)loop_release(loop, &stream->recv_op);
	(void)loop_release(loop, &stream->send_op);
	stream->in->start = stream->in->end = 0;
	stream->out.owed_len = 0;
	drop_rest(&stream->out);
	end_batch(stream);
	net_set_backend_link(&stream->base, false);
}

static void stream_start(struct net_port *backend)
{
	net_peer_start(stream_of(backend));
}

static void stream_destroy(struct net_port *backend)
{
	struct net_stream *stream = stream_of(backend);
	struct loop *loop = backend->loop;
	if (loop) {
		stream_halt(backend, 0, false);
		halt_out(stream);
		(void)loop_release(loop, &stream->recv_op);
	}
	net_peer_finish(stream);
	free(stream->in);
	free(stream->out.owed);
	free(stream);
}

static const struct net_backend_ops stream_ops = {
	.start = stream_start,
	.destroy = stream_destroy,
	.receive = stream_receive,
	.wait = stream_wait,
	.send = stream_send,
	.halt = stream_halt,
	.set_flow = stream_set_flow,
};

static int build(struct net_stream *stream, const struct net_config *config, struct err *err)
{
	const char *path = config->backend == NET_PASST ? config->passt : config->socket;
	if (strlen(path) >= sizeof(stream->address.sun_path))
		return err_set(err, -ENAMETOOLONG, "%s: a socket's path has at most %zu characters", path,
			       sizeof(stream->address.sun_path) - 1);
	memcpy(stream->address.sun_path, path, strlen(path) + 1);
	stream->may_listen = config->backend == NET_UNIX;
	stream->in = malloc(sizeof(*stream->in));
	stream->out.owed = malloc(NET_FRAMING_PREFIX + NET_FRAME_MAX);
	if (!stream->in || !stream->out.owed)
		return err_sys(err, -ENOMEM, "net");
	stream->in->start = stream->in->end = stream->in->skipped = 0;
	return net_peer_meet(stream, err);
}

int net_stream_create(const struct net_config *config, struct net_port **ret, struct err *err)
{
	struct net_stream *stream = calloc(1, sizeof(*stream));
	if (!stream)
		return err_sys(err, -ENOMEM, "net");
	stream->base.ops = &stream_ops;
	stream->base.name = "net";
	stream->recv_op.done = recv_done;
	stream->in_op.done = in_done;
	stream->send_op.done = send_done;
	stream->out_op.done = out_done;
	net_peer_init(stream);
	int r = build(stream, config, err);
	if (r < 0) {
		stream_destroy(&stream->base);
		return r;
	}
	*ret = &stream->base;
	return 0;
}
