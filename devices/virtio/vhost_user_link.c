/* The connection to a vhost-user back end: see vhost_user.h. */
#include "vhost_user.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#define WAIT_FIRST_NS UINT64_C(10000000) /* between attempts to come back, doubled each time up to */
#define WAIT_MOST_NS  UINT64_C(2000000000)

enum { CONFIG_HEADER = 12, BLK_NUM_QUEUES = 34 };

#define PROTOCOL_KNOWN                                                                                       \
	(VHOST_USER_PROTOCOL_MQ | VHOST_USER_PROTOCOL_REPLY_ACK | VHOST_USER_PROTOCOL_BACKEND_REQ |          \
	 VHOST_USER_PROTOCOL_CONFIG | VHOST_USER_PROTOCOL_INFLIGHT)

static void again_later(struct vhost_user_device *vu);

/* ---- commands ---- */

static void ask(struct vhost_user_device *vu, enum vhost_user_request request, uint32_t reply)
{
	const struct vhost_user_command command = {
		.request = request, .reply_min = reply, .reply_max = reply, .no_ack = true};
	vhost_user_submit(&vu->link, &command);
}

static void ask_config(struct vhost_user_device *vu)
{
	struct vhost_user_command command = {.request = VHOST_USER_GET_CONFIG,
					     .size = CONFIG_HEADER + vu->config_len,
					     .reply_min = CONFIG_HEADER + vu->config_len,
					     .reply_max = CONFIG_HEADER + vu->config_len};
	store_le32(command.payload + 4, vu->config_len);
	vhost_user_submit(&vu->link, &command);
}

/* On which the back end says that its configuration has changed. */
static void offer_channel(struct vhost_user_device *vu)
{
	int fds[2];
	struct vhost_user_command command = {.request = VHOST_USER_SET_BACKEND_REQ_FD, .fd_count = 1};
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0) {
		log_warn("%s: no channel for changes of its configuration: %s", vu->name, strerror(errno));
		return;
	}
	command.fds[0] = fds[1];
	vhost_user_submit(&vu->link, &command);
	vhost_user_open_channel(&vu->link, fds[0]);
	vu->channel_theirs = fds[1];
}

static void tell_cache(struct vhost_user_device *vu, uint8_t writeback)
{
	struct vhost_user_command command = {.request = VHOST_USER_SET_CONFIG, .size = CONFIG_HEADER + 1};
	store_le32(command.payload, VHOST_USER_WCE);
	store_le32(command.payload + 4, 1);
	command.payload[CONFIG_HEADER] = writeback;
	vhost_user_submit(&vu->link, &command);
}

void vhost_user_write_config(struct loop_op *op, int res)
{
	struct vhost_user_device *vu = container_of(op, struct vhost_user_device, write_op);
	uint8_t cache;
	(void)res;
	virtio_config_load(vu->base.virtio, &cache, &vu->cache, sizeof(cache));
	if (cache && vu->up && (vu->protocol & VHOST_USER_PROTOCOL_CONFIG))
		tell_cache(vu, cache - 1);
}

/* ---- answers ---- */

static const char *take_features(struct vhost_user_device *vu, uint64_t features)
{
	vu->backend_features = features;
	vu->protocol = 0;
	if (!(features & VIRTIO_F_VERSION_1))
		return "it knows only devices from before VIRTIO 1.0";
	if (vu->greeted && (vu->offered & ~features))
		return "it came back without features that the guest was offered";
	if (features & VHOST_USER_F_PROTOCOL_FEATURES)
		ask(vu, VHOST_USER_GET_PROTOCOL_FEATURES, 8);
	else if (vu->kind->config_from_backend)
		return "it cannot tell its configuration (no protocol features)";
	return NULL;
}

static const char *take_protocol(struct vhost_user_device *vu, uint64_t protocol)
{
	struct vhost_user_command command = {
		.request = VHOST_USER_SET_PROTOCOL_FEATURES, .size = 8, .no_ack = true};
	vu->protocol = protocol & PROTOCOL_KNOWN;
	if (vu->kind->config_from_backend && !(protocol & VHOST_USER_PROTOCOL_CONFIG))
		return "it cannot tell its configuration (protocol feature CONFIG)";
	if (!vu->kind->config_from_backend)
		vu->protocol &= ~(VHOST_USER_PROTOCOL_CONFIG | VHOST_USER_PROTOCOL_BACKEND_REQ);
	store_le64(command.payload, vu->protocol);
	vhost_user_submit(&vu->link, &command);
	vu->link.reply_ack = vu->protocol & VHOST_USER_PROTOCOL_REPLY_ACK;
	if (vu->protocol & VHOST_USER_PROTOCOL_MQ)
		ask(vu, VHOST_USER_GET_QUEUE_NUM, 8);
	if (vu->protocol & VHOST_USER_PROTOCOL_BACKEND_REQ)
		offer_channel(vu);
	if (vu->kind->config_from_backend)
		ask_config(vu);
	return NULL;
}

static const char *take_config(struct vhost_user_device *vu, const uint8_t *payload)
{
	uint8_t space[VHOST_USER_SPACE];
	if (load_le32(payload) != 0 || load_le32(payload + 4) != vu->config_len)
		return "another part of its configuration than was asked";
	memcpy(space, payload + CONFIG_HEADER, vu->config_len);
	store_le16(space + BLK_NUM_QUEUES, (uint16_t)vu->queue_count); /* as many as the guest has */
	if (!vu->base.virtio) {
		memcpy(vu->space, space, vu->config_len);
		return NULL;
	}
	uint8_t cache, writeback = space[VHOST_USER_WCE];
	virtio_config_load(vu->base.virtio, &cache, &vu->cache, sizeof(cache));
	if (cache)
		space[VHOST_USER_WCE] = cache - 1;
	virtio_config_store(vu->base.virtio, vu->space, space, vu->config_len);
	if (space[VHOST_USER_WCE] != writeback) /* it is not the one that was told */
		tell_cache(vu, space[VHOST_USER_WCE]);
	return NULL;
}

static const char *replied(void *owner, const struct vhost_user_command *command, const uint8_t *payload,
			   uint32_t size, int *fd)
{
	struct vhost_user_device *vu = owner;
	(void)size; /* as the command said */
	switch (command->request) {
	case VHOST_USER_GET_FEATURES:
		return take_features(vu, load_le64(payload));
	case VHOST_USER_GET_PROTOCOL_FEATURES:
		return take_protocol(vu, load_le64(payload));
	case VHOST_USER_GET_QUEUE_NUM:
		return load_le64(payload) < vu->queue_count ? "it has fewer queues than the device is to have"
							    : NULL;
	case VHOST_USER_GET_CONFIG:
		return take_config(vu, payload);
	default:
		return vhost_user_ring_reply(vu, command, payload, fd);
	}
}

static void asked(void *owner, uint32_t request)
{
	struct vhost_user_device *vu = owner;
	if (request == VHOST_USER_BACKEND_CONFIG_CHANGE && vu->up)
		ask_config(vu);
}

/* ---- one row after the other ---- */

static void lose(struct vhost_user_device *vu, const char *why)
{
	vu->broken = true;
	virtio_needs_reset(vu->base.virtio, why);
}

/*
 * Nothing of the back end touches the guest's memory any more, as far as it can be told. In-flight tracking
 * does not outlast a pause: what follows may be another process.
 */
static void stopped(struct vhost_user_device *vu)
{
	if (vu->owed && !virtio_resetting(vu->base.virtio))
		lose(vu, "paused while its back end was away with requests");
	vu->owed = false;
	vhost_user_keep_positions(vu);
	vhost_user_drop_inflight(vu);
	vu->active = vu->stopping = vu->starting = vu->started = vu->ending = false;
	for (unsigned i = 0; i < vu->queue_count; i++)
		vu->queues[i].claimed = vu->queues[i].running = vu->queues[i].again = false;
	virtio_stopped(vu->base.virtio);
}

void vhost_user_next(struct vhost_user_device *vu)
{
	if (vu->stopping && !vu->started && !vu->starting) {
		stopped(vu);
		return;
	}
	if (vu->link.first != vu->link.last)
		return; /* a row is under way */
	if (vu->stopping) {
		vu->ending = true;
		vhost_user_end(vu);
		if (vu->link.fd >= 0 && vu->link.first == vu->link.last) /* no queue was running */
			stopped(vu);
	} else if (vu->active && vu->up && !vu->broken && !vu->started) {
		vu->starting = true;
		vhost_user_start(vu);
	} else if (vu->started) {
		vhost_user_start_late(vu);
	}
}

static void idle(void *owner)
{
	struct vhost_user_device *vu = owner;
	vu->channel_theirs = close_fd(vu->channel_theirs); /* it has its own by now */
	if (!vu->greeted) {
		loop_quit(vu->link.loop);
		vu->greeted = true;
		return;
	}
	if (vu->ending) {
		stopped(vu);
		return;
	}
	vu->up = true;
	if (vu->starting) {
		vu->starting = false;
		vu->started = true;
		vu->owed = false; /* by what it tracks */
		vu->wait_ns = 0;
		vhost_user_wake(vu);
	}
	vhost_user_next(vu);
}

static void failed(void *owner, const char *why)
{
	struct vhost_user_device *vu = owner;
	bool had_queues = false;
	vu->channel_theirs = close_fd(vu->channel_theirs);
	(void)snprintf(vu->why, sizeof(vu->why), "%s", why);
	if (!vu->greeted) {
		loop_quit(vu->link.loop);
		return;
	}
	(void)log_guest(&vu->base.device.counts.backend_lost,
			"%s: %s: the back end is lost (%s); waiting for it", vu->name, vu->config->path, why);
	vu->up = vu->starting = vu->started = vu->ending = false;
	for (unsigned i = 0; i < vu->queue_count; i++) {
		had_queues |= vu->queues[i].running;
		vu->queues[i].running = false;
	}
	if (vu->active && had_queues && !vu->kind->forgets && vhost_user_in_flight(vu))
		vu->owed = true;
	if (vu->stopping)
		stopped(vu);
	else if (vu->owed && vu->inflight_fd < 0 && !vu->broken)
		lose(vu, "its back end went away with requests it does not track");
	again_later(vu);
}

static const struct vhost_user_owner link_ops = {
	.replied = replied,
	.idle = idle,
	.failed = failed,
	.asked = asked,
};

static void greet(struct vhost_user_device *vu)
{
	ask(vu, VHOST_USER_SET_OWNER, 0);
	ask(vu, VHOST_USER_GET_FEATURES, 8);
}

/* ---- connecting ---- */

static struct sockaddr_un address_of(const struct vhost_user_device *vu)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	memcpy(address.sun_path, vu->config->path, strlen(vu->config->path) + 1);
	return address;
}

static void try_again(struct loop_op *op, int res)
{
	struct vhost_user_device *vu = container_of(op, struct vhost_user_device, wait_op);
	struct sockaddr_un address = address_of(vu);
	(void)res;
	/* A UNIX socket that does not block connects at once or not at all. */
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0) {
		(void)close_fd(fd);
		again_later(vu);
		return;
	}
	vhost_user_attach(&vu->link, vu->link.loop, fd);
	greet(vu);
}

static void again_later(struct vhost_user_device *vu)
{
	vu->wait_op.done = try_again;
	vu->wait_ns = vu->wait_ns ? vu->wait_ns * 2 : WAIT_FIRST_NS;
	if (vu->wait_ns > WAIT_MOST_NS)
		vu->wait_ns = WAIT_MOST_NS;
	if (!vu->wait_op.pending)
		loop_delay(vu->link.loop, &vu->wait_op, vu->wait_ns);
}

int vhost_user_first_greeting(struct vhost_user_device *vu, struct err *err)
{
	struct sockaddr_un address;
	const char *path = vu->config->path;
	if (strlen(path) >= sizeof(address.sun_path))
		return err_set(err, -ENAMETOOLONG, "%s: a socket's path has at most %zu characters", path,
			       sizeof(address.sun_path) - 1);
	address = address_of(vu);
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
		return err_sys(err, -errno, "%s: the back end's socket", path);
	if (vhost_user_init(&vu->link, &link_ops, vu) < 0)
		return err_sys(err, -ENOMEM, "%s", path);
	struct loop *loop = NULL;
	int r = loop_create(16, &loop, err);
	if (r < 0)
		return r;
	vhost_user_attach(&vu->link, loop, take_fd(&fd));
	greet(vu);
	r = loop_run(loop);
	vhost_user_detach(&vu->link);
	loop_destroy(loop);
	if (r < 0)
		return err_sys(err, r, "event loop");
	return vu->greeted ? 0 : err_set(err, -EPROTO, "%s: the back end: %s", path, vu->why);
}

int vhost_user_enter(void *arg)
{
	struct vhost_user_device *vu = arg;
	vhost_user_attach(&vu->link, virtio_loop(vu->base.virtio), -1);
	vu->up = true;
	vhost_user_next(vu);
	return 0;
}

int vhost_user_leave(void *arg)
{
	struct vhost_user_device *vu = arg;
	struct loop *loop = virtio_loop(vu->base.virtio);
	(void)loop_release(loop, &vu->wait_op);
	(void)loop_release(loop, &vu->write_op);
	vhost_user_detach(&vu->link);
	return 0;
}
