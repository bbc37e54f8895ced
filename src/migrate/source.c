/* The source's side: see source.h; docs/migration.md has the states. */
#include "source.h"

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/random.h"
#include "channel_tls.h"
#include "host/loop.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define NSEC_PER_MSEC UINT64_C(1000000)

/* The other side may hold a disk a little longer than its connection. */
enum { BACK_TRIES = 300, BACK_PAUSE_MS = 100 };

int source_init(struct source *source, struct guest *guest, const struct uri *uri,
		const struct migrate_params *params, struct err *err)
{
	*source = (struct source){.guest = guest,
				  .uri = uri,
				  .params = *params,
				  .state = SRC_START,
				  .link = {.channel = {.fd = -1}},
				  .canceller = {.fd = -1},
				  .wake = {.fd = -1}};
	pthread_mutex_init(&source->lock, NULL);
	source->info = (struct migrate_info){
		.status = MIGRATE_SETUP, .expected_down_ms = UINT64_MAX, .err = ERR_INIT};
	source->info.total_bytes = dirty_page_count(guest->memory) * (uint64_t)DIRTY_PAGE_BYTES;
	source->started_ns = loop_now_ns();
	int r = canceller_init(&source->canceller, err);
	return r < 0 ? r : canceller_init(&source->wake, err);
}

void source_finish(struct source *source)
{
	canceller_finish(&source->wake);
	canceller_finish(&source->canceller);
	pthread_mutex_destroy(&source->lock);
}

/* ---- state ---- */

void source_set_status(struct source *source, enum migrate_status status)
{
	pthread_mutex_lock(&source->lock);
	bool is_new = source->info.status != status;
	source->info.status = status;
	pthread_mutex_unlock(&source->lock);
	if (is_new && source->changed)
		source->changed(source);
}

int source_step(struct source *source, enum protocol_what what, unsigned type, struct err *err)
{
	int r;
	pthread_mutex_lock(&source->lock);
	if (source->cancel_asked && (what == PROTOCOL_SENDS || what == PROTOCOL_GETS)) {
		r = err_set(err, -ECANCELED, "cancelled");
	} else {
		r = protocol_step(source->state, what, type);
		if (r < 0)
			(void)err_set(err, r, "%s does not belong into state \"%s\"",
				      type ? wire_name(type) : "this", protocol_states[source->state].name);
		else
			source->state = (enum protocol_state)r;
	}
	pthread_mutex_unlock(&source->lock);
	return r < 0 ? r : 0;
}

int source_cancel(struct source *source, struct err *err)
{
	int r = 0;
	pthread_mutex_lock(&source->lock);
	if (!protocol_states[source->state].ends &&
	    protocol_step(source->state, PROTOCOL_LOST, 0) == SRC_BACK) {
		source->cancel_asked = true;
		canceller_fire(&source->canceller);
	} else {
		r = err_set(err, -EBUSY, "too late to cancel: the migration is in state \"%s\"",
			    protocol_states[source->state].name);
	}
	pthread_mutex_unlock(&source->lock);
	return r;
}

void source_info(struct source *source, struct migrate_info *ret)
{
	pthread_mutex_lock(&source->lock);
	*ret = source->info;
	ret->state = protocol_states[source->state].name;
	ret->in_doubt = source->state == SRC_DOUBT || source->state == SRC_LATE_DOUBT ||
			source->state == SRC_DOUBT_RESUME;
	ret->total_ms =
		((source->ended_ns ? source->ended_ns : loop_now_ns()) - source->started_ns) / NSEC_PER_MSEC;
	if (source->cancel_asked && source->info.status < MIGRATE_CANCELLING)
		ret->status = MIGRATE_CANCELLING;
	pthread_mutex_unlock(&source->lock);
}

void source_adjust(struct source *source, const struct migrate_params *params)
{
	pthread_mutex_lock(&source->lock);
	source->params.max_bandwidth = params->max_bandwidth;
	source->params.downtime_limit_ms = params->downtime_limit_ms;
	pthread_mutex_unlock(&source->lock);
}

/* ---- connecting ---- */

int source_open_link(struct source *source, struct link *link, struct err *err)
{
	const char *host = source->params.tls_hostname;
	int r = channel_connect(source->uri, &source->canceller, &link->channel, err);
	if (r == 0 && source->keys)
		r = tls_start(&link->channel, source->keys,
			      *host			     ? host
			      : source->uri->kind == URI_TCP ? source->uri->host
							     : NULL,
			      err);
	if (r == 0 && source->params.zero_copy)
		r = stage_zero_copy(&link->channel, err);
	return r;
}

static int load_keys(struct source *source, struct err *err)
{
	const struct migrate_params *params = &source->params;
	if (!*params->tls_creds)
		return 0;
	if (!*params->tls_hostname && source->uri->kind != URI_TCP)
		return err_set(err, -EINVAL,
			       "TLS over something else than tcp: needs tls-hostname, the name in "
			       "the other side's certificate");
	return tls_keys_load(params->tls_creds, false, &source->keys, err);
}

/* Each says which migration it belongs to. */
static int open_workers(struct source *source, struct err *err)
{
	struct link links[WIRE_CHANNELS_MAX] = {0};
	uint8_t payload[WIRE_CHANNEL_BYTES];
	unsigned count = source->params.channels, opened = 0;
	int r = 0;
	for (; r == 0 && opened < count; opened++) {
		struct link *link = &links[opened];
		link->channel.fd = -1;
		link->version = source->link.version;
		memcpy(payload, source->id, WIRE_ID_BYTES);
		store_le32(payload + WIRE_ID_BYTES, opened + 1);
		r = source_open_link(source, link, err);
		if (r == 0)
			r = link_send_small(link, WIRE_CHANNEL, payload, sizeof(payload), NULL, err);
	}
	if (r == 0)
		return workers_create(source->guest->memory, (int)source->params.zstd_level, links, count,
				      &source->workers, err);
	for (unsigned i = 0; i < opened; i++)
		link_close(&links[i]);
	return err_prepend(err, "channel %u", opened);
}

/* ---- before the guest stops ---- */

/* The next message must be of this type. */
static int source_get(struct source *source, unsigned type, struct wire_header *ret, struct err *err)
{
	int r = link_expect(&source->link, type, ret, err);
	return r < 0 ? r : source_step(source, PROTOCOL_GETS, type, err);
}

static int greet(struct source *source, struct err *err)
{
	bool local = source->params.mode == MIGRATE_MODE_LOCAL;
	struct wire_hello hello = {.channels = local ? 0 : source->params.channels};
	uint8_t bytes[WIRE_HELLO_BYTES];
	struct wire_header header;
	const struct guest_region *regions;
	size_t count = guest_memory_regions(source->guest->memory, &regions);
	hello.flags = local ? WIRE_F_LOCAL
			    : (source->params.zstd_level ? WIRE_F_ZSTD : 0U) |
				      (source->params.postcopy ? WIRE_F_POSTCOPY : 0U);
	hello.ram_bytes = source->info.total_bytes;
	hello.high_gpa = count > 1 ? regions[1].gpa : 0;
	int r = random_bytes(source->id, sizeof(source->id), 0);
	if (r < 0)
		return err_sys(err, r, "the migration's id");
	memcpy(hello.id, source->id, sizeof(hello.id));
	wire_encode_hello(bytes, &hello);
	r = source_step(source, PROTOCOL_SENDS, WIRE_HELLO, err);
	if (r == 0)
		r = link_send_small(&source->link, WIRE_HELLO, bytes, sizeof(bytes), NULL, err);
	if (r == 0)
		r = source_get(source, WIRE_WELCOME, &header, err);
	if (r == 0)
		r = wire_decode_number(source->link.payload, header.length, &source->flags, err);
	if (r < 0)
		return r;
	if (header.version < WIRE_VERSION_OLDEST || header.version > WIRE_VERSION)
		return err_set(err, -EPROTO,
			       "the other side wants version %u of the protocol, this aerie speaks "
			       "%d to %d",
			       header.version, WIRE_VERSION_OLDEST, WIRE_VERSION);
	if (source->flags & ~hello.flags)
		return err_set(err, -EPROTO, "WELCOME with flags %#x that were not offered", source->flags);
	if (hello.flags & ~source->flags & WIRE_F_ZSTD)
		return err_set(err, -ENOTSUP,
			       "the other side cannot unpack zstd; set multifd-compression to none");
	if (hello.flags & ~source->flags)
		return err_set(err, -ENOTSUP, "%s",
			       local ? "the other side does not take RAM over; set mode to normal"
				     : "the other side cannot do post-copy; set postcopy-ram to false");
	source->link.version = header.version;
	return 0;
}

/* A payload of any length. */
static int send_blob(struct source *source, unsigned type, const void *head, size_t head_len,
		     const void *blob, size_t len, struct err *err)
{
	_cleanup_free_ uint8_t *message = malloc(WIRE_HEADER_BYTES + head_len + len);
	if (!message)
		return err_sys(err, -ENOMEM, "%s", wire_name(type));
	if (head_len)
		memcpy(message + WIRE_HEADER_BYTES, head, head_len);
	memcpy(message + WIRE_HEADER_BYTES + head_len, blob, len);
	int r = source_step(source, PROTOCOL_SENDS, type, err);
	return r < 0 ? r : link_send(&source->link, type, message, head_len + len, NULL, err);
}

/* Images of another size are other images. */
static int check_disks(struct source *source, size_t length, struct err *err)
{
	struct wire_disks there, here;
	int r = wire_decode_disks(source->link.payload, length, &there, err);
	if (r == 0)
		r = source->guest->ops->disks(source->guest, &here, err);
	if (r == 0 && here.count != there.count)
		return err_set(err, -EPROTO, "%" PRIu32 " disks here, %" PRIu32 " there", here.count,
			       there.count);
	for (uint32_t i = 0; r == 0 && i < here.count; i++)
		if (here.bytes[i] != there.bytes[i])
			r = err_set(
				err, -EINVAL,
				"disk%" PRIu32 ": %" PRIu64 " bytes here, %" PRIu64
				" there: both sides must have the same image (block_resize tells the guest "
				"of one that has grown)",
				i, here.bytes[i], there.bytes[i]);
	return r;
}

/* All that can be wrong over there comes to light while the guest runs. */
static int check_destination(struct source *source, struct err *err)
{
	struct guest *guest = source->guest;
	struct wire_header header;
	_cleanup_free_ char *config = guest->ops->config(guest, err);
	_cleanup_free_ void *state = NULL;
	size_t bytes = 0;
	if (!config)
		return err->code;
	if (strlen(config) > WIRE_CONFIG_MAX)
		return err_set(err, -E2BIG, "a configuration of %zu bytes", strlen(config));
	int r = send_blob(source, WIRE_CONFIG, NULL, 0, config, strlen(config), err);
	if (r == 0)
		r = source_get(source, WIRE_ACCEPTED, &header, err);
	if (r == 0)
		r = check_disks(source, header.length, err);
	if (r == 0)
		r = guest->ops->peek(guest, &state, &bytes, err);
	if (r == 0)
		r = send_blob(source, WIRE_REHEARSAL, NULL, 0, state, bytes, err);
	return r < 0 ? r : source_get(source, WIRE_REHEARSED, &header, err);
}

static int check_sends(const struct source *source, struct err *err)
{
	const struct migrate_params *params = &source->params;
	if (params->channels && source->uri->kind == URI_FD)
		return err_set(err, -EINVAL, "fd: is one connection; set multifd-channels to 0");
	if (params->zero_copy && source->uri->kind != URI_TCP)
		return err_set(err, -EINVAL, "zero-copy-send: only over tcp:; set it to false");
	if (params->zero_copy && (params->zstd_level || *params->tls_creds))
		return err_set(err, -EINVAL,
			       "zero-copy-send: not with TLS or compression, which make other bytes of the "
			       "pages; set it to false");
	return 0;
}

static int prepare(struct source *source, struct err *err)
{
	bool local = source->params.mode == MIGRATE_MODE_LOCAL;
	int r = local ? source_check_local(source, err) : check_sends(source, err);
	if (r == 0)
		r = load_keys(source, err);
	if (r == 0)
		r = source_open_link(source, &source->link, err);
	if (r == 0 && local)
		r = source_check_socket(source, err);
	if (r == 0)
		r = greet(source, err);
	if (r == 0 && !local && source->params.channels)
		r = open_workers(source, err);
	else if (r == 0 && !local)
		r = stage_create(source->guest->memory, (int)source->params.zstd_level, &source->stage, err);
	return r < 0 ? r : check_destination(source, err);
}

/* ---- the switch ---- */

/* The guest stands still; its last pages and its state go, and the other side says that it lacks nothing. */
static int hand_over_state(struct source *source, struct err *err)
{
	struct guest *guest = source->guest;
	struct wire_header header;
	_cleanup_free_ void *state = NULL;
	uint8_t head[WIRE_STATE_HEADER_BYTES];
	size_t bytes = 0;
	uint32_t round = 0;
	source_set_status(source, MIGRATE_DEVICE);
	source->stopped_ns = loop_now_ns();
	source->stopped = true;
	int r = guest->ops->stop(guest, &source->was_running, err);
	if (r == 0)
		r = source_step(source, PROTOCOL_STOPS, 0, err);
	/* State before the last harvest: reading it may write to RAM (a page of the hypervisor's, a ring). */
	if (r == 0)
		r = guest->ops->save(guest, &state, &bytes, err);
	source->late = source_asked_postcopy(source); /* nobody can ask any more */
	if (r == 0 && source->params.mode != MIGRATE_MODE_LOCAL)
		r = source->late ? source_tell_missing(source, &round, err)
				 : source_copy_rest(source, &round, err);
	store_le32(head, round);
	store_le32(head + 4, (source->was_running ? WIRE_STATE_F_RUNNING : 0U) |
				     (source->late ? WIRE_STATE_F_POSTCOPY : 0U));
	if (r == 0)
		r = send_blob(source, WIRE_STATE, head, sizeof(head), state, bytes, err);
	if (r < 0)
		return r;
	return source->late ? source_serve(source, WIRE_READY, err)
			    : source_get(source, WIRE_READY, &header, err);
}

/*
 * From source_step on the other side may run, unless we know that not a byte has left. Its answer is waited
 * for, but what it may do does not depend on it.
 */
static int give_away(struct source *source, struct err *err)
{
	struct wire_header header;
	size_t sent = 0;
	int r = source_step(source, PROTOCOL_SENDS, WIRE_RUN, err);
	if (r < 0)
		return r;
	r = link_send_small(&source->link, WIRE_RUN, NULL, 0, &sent, err);
	if (r < 0 && sent == 0) {
		struct err ignored = ERR_INIT;
		(void)source_step(source, PROTOCOL_UNSENT, 0, &ignored);
		return r;
	}
	if (r < 0)
		return r;
	return source->late ? source_serve(source, WIRE_RUNNING, err)
			    : source_get(source, WIRE_RUNNING, &header, err);
}

/* ---- the end ---- */

/* The other side should not have to guess why; if it cannot be told, it sees the end of the connection. */
static void say_why(struct source *source, const struct err *err)
{
	struct err ignored = ERR_INIT;
	if (source->link.channel.fd < 0 || err->code == -ECANCELED)
		return;
	(void)link_send_small(&source->link, WIRE_REFUSED, err->text, strlen(err->text), NULL, &ignored);
}

/* Disks may still be the other side's for a moment, until it has seen that we are gone. */
static void come_back(struct source *source)
{
	struct guest *guest = source->guest;
	struct err err = ERR_INIT;
	int r = -EBUSY;
	if (!source->stopped)
		return;
	for (int i = 0; i < BACK_TRIES && r == -EBUSY; i++) {
		struct timespec pause = {0, BACK_PAUSE_MS * 1000000L};
		if (i)
			(void)nanosleep(&pause, NULL);
		err = ERR_INIT;
		r = guest->ops->back(guest, source->was_running, &err);
	}
	if (r == 0)
		return;
	pthread_mutex_lock(&source->lock);
	(void)err_prepend(&source->info.err, "%s; the machine stays paused here, since it cannot go on",
			  err.text);
	pthread_mutex_unlock(&source->lock);
}

static void close_all(struct source *source)
{
	workers_destroy(source->workers); /* its threads see the canceller, or that all is sent */
	stage_destroy(source->stage);
	link_close(&source->link);
	tls_keys_free(source->keys);
	dirty_tracker_destroy(source->tracker);
	free(source->bitmap);
	source->workers = NULL;
	source->stage = NULL;
	source->keys = NULL;
	source->tracker = NULL;
	source->bitmap = NULL;
}

static void fail(struct source *source, const struct err *err)
{
	struct err ignored = ERR_INIT;
	bool given = source->state == SRC_GIVEN;
	if (!given)
		say_why(source, err);
	(void)source_step(source, PROTOCOL_LOST, 0, &ignored);
	canceller_fire(&source->canceller); /* ends the workers' waits */
	close_all(source);
	source->guest->ops->throttle(source->guest, 0);
	pthread_mutex_lock(&source->lock);
	source->info.err = *err;
	pthread_mutex_unlock(&source->lock);
	if (source->state == SRC_DOUBT) {
		source->guest->ops->gone(source->guest, true);
		source_leave_ram(source);
	} else {
		come_back(source);
	}
}

static void note_end(struct source *source)
{
	pthread_mutex_lock(&source->lock);
	source->ended_ns = loop_now_ns();
	pthread_mutex_unlock(&source->lock);
}

int source_run(struct source *source, struct err *err)
{
	int r = prepare(source, err);
	if (r == 0) {
		source_set_status(source, MIGRATE_ACTIVE);
		r = source->params.mode == MIGRATE_MODE_LOCAL ? source_pass_ram(source, err)
							      : source_copy(source, err);
	}
	if (r == 0)
		r = hand_over_state(source, err);
	if (r == 0)
		r = give_away(source, err);
	bool late = source_is_late(source);
	if (r < 0 && !late) {
		link_explain(&source->link, err);
		r = err->code;
	}
	if (late)
		r = source_follow(source, r, err);
	if (r < 0 && !late)
		fail(source, err);
	if (r == 0 && !late) {
		note_end(source);
		source->guest->ops->gone(source->guest, false);
		source_leave_ram(source);
	}
	close_all(source);
	if (r < 0 || late)
		note_end(source);
	pthread_mutex_lock(&source->lock);
	source->info.throttle_percent = 0;
	if (late)
		source->info.err = *err;
	else if (r == 0)
		source->info.down_ms = (source->ended_ns - source->stopped_ns) / NSEC_PER_MSEC;
	bool cancelled = source->cancel_asked;
	pthread_mutex_unlock(&source->lock);
	source_set_status(source, r == 0      ? MIGRATE_COMPLETED
				  : cancelled ? MIGRATE_CANCELLED
					      : MIGRATE_FAILED);
	return r;
}
