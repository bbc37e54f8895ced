/* The destination's side: see dest.h; docs/migration.md has the states. */
#include "dest.h"

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "dest_channels.h"
#include "dest_postcopy.h"
#include "memory/demand.h"
#include "memory/dirty.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { RUNNING_TRIES = 3 };

int dest_init(struct dest *dest, const struct uri *uri, const char *tls_creds, struct err *err)
{
	*dest = (struct dest){.canceller = {.fd = -1},
			      .listener = {.fd = -1},
			      .err = ERR_INIT,
			      .link = {.channel = {.fd = -1}},
			      .state = DST_START};
	struct err unasked = ERR_INIT;
	dest->uffd = demand_open(&unasked); /* early: see there */
	pthread_mutex_init(&dest->lock, NULL);
	pthread_cond_init(&dest->changed, NULL);
	int r = canceller_init(&dest->canceller, err);
	if (r == 0 && tls_creds)
		r = tls_keys_load(tls_creds, true, &dest->keys, err);
	return r < 0 ? r : listener_open(uri, &dest->listener, err);
}

void dest_finish(struct dest *dest)
{
	dest_channels_stop(dest);
	dest_late_destroy(dest);
	dest->uffd = close_fd(dest->uffd);
	link_close(&dest->link);
	listener_close(&dest->listener);
	tls_keys_free(dest->keys);
	unstage_destroy(dest->unstage);
	free(dest->config);
	canceller_finish(&dest->canceller);
	pthread_cond_destroy(&dest->changed);
	pthread_mutex_destroy(&dest->lock);
}

void dest_cancel(struct dest *dest)
{
	canceller_fire(&dest->canceller);
	dest_late_cancel(dest);
}

void dest_tell(struct dest *dest)
{
	if (dest->moved)
		dest->moved(dest);
}

int dest_step(struct dest *dest, enum protocol_what what, unsigned type, struct err *err)
{
	pthread_mutex_lock(&dest->lock);
	unsigned state = dest->state;
	int r = protocol_step(state, what, type);
	if (r >= 0)
		dest->state = (unsigned)r;
	pthread_mutex_unlock(&dest->lock);
	if (r < 0)
		return err_set(err, r, "%s does not belong into state \"%s\"", wire_name(type),
			       protocol_states[state].name);
	return 0;
}

void dest_refuse(struct dest *dest, const struct err *err)
{
	struct err ignored = ERR_INIT;
	size_t len = strlen(err->text);
	dest->state = (unsigned)protocol_step(dest->state, PROTOCOL_LOST, 0);
	if (dest->link.channel.fd >= 0 && err->code != -EREMOTEIO)
		(void)link_send_small(&dest->link, WIRE_REFUSED, err->text, len, NULL, &ignored);
}

/* ---- connections ---- */

int dest_accept(struct dest *dest, struct listener *listener, const struct canceller *canceller,
		int timeout_ms, struct link *ret, struct err *err)
{
	*ret = (struct link){.channel = {.fd = -1}};
	int r = listener_accept(listener, canceller, timeout_ms, &ret->channel, err);
	if (r < 0)
		return r;
	ret->channel.canceller = &dest->canceller;
	if (dest->timeout_ms)
		ret->channel.timeout_ms = dest->timeout_ms;
	return dest->keys ? tls_start(&ret->channel, dest->keys, NULL, err) : 0;
}

static int accept_link(struct dest *dest, int timeout_ms, struct link *ret, struct err *err)
{
	return dest_accept(dest, &dest->listener, &dest->canceller, timeout_ms, ret, err);
}

/* A limit may have been lifted since. */
static int have_demand(struct dest *dest, struct err *err)
{
	if (dest->uffd < 0)
		dest->uffd = demand_open(err);
	return dest->uffd < 0 ? dest->uffd : 0;
}

/* HELLO, up to the answer. */
static int greet(struct dest *dest, struct err *err)
{
	struct link *link = &dest->link;
	struct wire_header header;
	dest->state = DST_START;
	int r = link_expect(link, WIRE_HELLO, &header, err);
	if (r == 0 && header.version < WIRE_VERSION_OLDEST)
		r = err_set(err, -EPROTO, "version %u of the protocol; this aerie speaks %d to %d",
			    header.version, WIRE_VERSION_OLDEST, WIRE_VERSION);
	if (r == 0)
		r = dest_step(dest, PROTOCOL_GETS, WIRE_HELLO, err);
	if (r == 0)
		r = wire_decode_hello(link->payload, header.length, &dest->hello, err);
	if (r < 0)
		return r;
	link->version = header.version < WIRE_VERSION ? header.version : WIRE_VERSION;
	dest->flags = dest->hello.flags & (WIRE_F_ZSTD | WIRE_F_LOCAL | WIRE_F_POSTCOPY);
	if (dest->flags & WIRE_F_LOCAL)
		dest->flags &= ~(uint32_t)(link->channel.is_unix && !dest->keys ? 0 : WIRE_F_LOCAL);
	if (dest->flags & WIRE_F_LOCAL)
		dest->flags &= ~(uint32_t)WIRE_F_POSTCOPY; /* there is nothing to follow */
	if (dest->flags & WIRE_F_POSTCOPY)
		r = have_demand(dest, err);
	if (r == 0)
		r = dest_step(dest, PROTOCOL_SENDS, WIRE_WELCOME, err);
	return r < 0 ? r : link_send_number(link, WIRE_WELCOME, dest->flags, err);
}

/* Nothing of ours has changed when this fails, so the next connection may be the one. */
static int meet(struct dest *dest, struct err *err)
{
	bool only_one = dest->listener.fd < 0;
	for (;;) {
		struct err one = ERR_INIT;
		int r = accept_link(dest, -1, &dest->link, &one);
		if (r == 0)
			r = greet(dest, &one);
		if (r == 0)
			return 0;
		dest_refuse(dest, &one);
		link_close(&dest->link);
		if (r == -ECANCELED || only_one)
			return err_set(err, r, "%s", one.text);
		log_warn("migration: a connection is refused: %s", one.text);
	}
}

static int accept_channel(struct dest *dest, struct err *err)
{
	struct dest_channel *channel = &dest->channels[dest->channel_count++];
	struct wire_header header;
	channel->dest = dest;
	int r = accept_link(dest, CHANNEL_TIMEOUT_MS, &channel->link, err);
	channel->link.version = dest->link.version;
	if (r == 0)
		r = link_expect(&channel->link, WIRE_CHANNEL, &header, err);
	if (r < 0)
		return r;
	if (memcmp(channel->link.payload, dest->hello.id, WIRE_ID_BYTES) != 0)
		return err_set(err, -EPROTO, "a channel of another migration");
	uint32_t number = load_le32(channel->link.payload + WIRE_ID_BYTES);
	if (number != dest->channel_count)
		return err_set(err, -EPROTO, "channel %" PRIu32 " where %u comes next", number,
			       dest->channel_count);
	return 0;
}

int dest_begin(struct dest *dest, struct err *err)
{
	struct wire_header header;
	int r = meet(dest, err);
	for (uint32_t i = 0; r == 0 && i < dest->hello.channels; i++)
		r = accept_channel(dest, err);
	listener_close(&dest->listener); /* nobody else is expected, and the address is free for the next */
	if (r == 0)
		r = link_expect(&dest->link, WIRE_CONFIG, &header, err);
	if (r == 0)
		r = dest_step(dest, PROTOCOL_GETS, WIRE_CONFIG, err);
	if (r == 0)
		dest_tell(dest);
	if (r == 0) {
		dest->config = strndup((const char *)dest->link.payload, header.length);
		dest->config_bytes = header.length;
		if (!dest->config)
			r = err_sys(err, -ENOMEM, "configuration");
	}
	if (r < 0)
		dest_refuse(dest, err);
	return r;
}

/* ---- what is checked before the guest stops over there ---- */

static int check_layout(const struct dest *dest, struct err *err)
{
	const struct guest_region *regions;
	size_t count = guest_memory_regions(dest->guest->memory, &regions);
	uint64_t bytes = dirty_page_count(dest->guest->memory) * (uint64_t)DIRTY_PAGE_BYTES;
	uint64_t high = count > 1 ? regions[1].gpa : 0;
	if (bytes != dest->hello.ram_bytes)
		return err_set(err, -EINVAL, "memory.size: %" PRIu64 " MiB here, %" PRIu64 " MiB there",
			       bytes >> 20, dest->hello.ram_bytes >> 20);
	if (high != dest->hello.high_gpa)
		return err_set(err, -EINVAL,
			       "memory layout: upper RAM at %#" PRIx64 " here, at %#" PRIx64 " there", high,
			       dest->hello.high_gpa);
	return 0;
}

static int answer(struct dest *dest, unsigned type, struct err *err)
{
	int r = dest_step(dest, PROTOCOL_SENDS, type, err);
	return r < 0 ? r : link_send_small(&dest->link, type, NULL, 0, NULL, err);
}

/* The source compares them with its own. */
static int answer_disks(struct dest *dest, struct err *err)
{
	struct wire_disks disks;
	uint8_t bytes[WIRE_DISKS_BYTES_MAX];
	int r = dest->guest->ops->disks(dest->guest, &disks, err);
	if (r == 0)
		r = dest_step(dest, PROTOCOL_SENDS, WIRE_ACCEPTED, err);
	return r < 0 ? r
		     : link_send_small(&dest->link, WIRE_ACCEPTED, bytes, wire_encode_disks(bytes, &disks),
				       NULL, err);
}

static int get_ready(struct dest *dest, struct err *err)
{
	struct guest *guest = dest->guest;
	struct wire_header header;
	int r = guest->ops->accept(guest, dest->config, dest->config_bytes, err);
	if (r == 0)
		r = check_layout(dest, err);
	if (r == 0 && dest->flags & WIRE_F_LOCAL)
		r = dest_check_local(dest, err);
	else if (r == 0)
		r = unstage_create(guest->memory, dest->flags & WIRE_F_ZSTD, &dest->unstage, err);
	if (r == 0 && (dest->flags & WIRE_F_POSTCOPY))
		r = dest_late_create(dest, err);
	if (r == 0)
		r = answer_disks(dest, err);
	if (r == 0)
		r = link_expect(&dest->link, WIRE_REHEARSAL, &header, err);
	if (r == 0)
		r = dest_step(dest, PROTOCOL_GETS, WIRE_REHEARSAL, err);
	if (r == 0)
		r = guest->ops->rehearse(guest, dest->link.payload, header.length, err);
	if (r == 0)
		r = dest_channels_start(dest, err);
	return r < 0 ? r : answer(dest, WIRE_REHEARSED, err);
}

/* ---- pages ---- */

static int take_page_message(struct dest *dest, const struct wire_header *header, struct err *err)
{
	if (!dest->unstage)
		return err_set(err, -EPROTO, "PAGES, where RAM is handed over");
	return unstage_pages(dest->unstage, dest->link.payload, header->length, err);
}

static int round_done(struct dest *dest, const struct wire_header *header, struct err *err)
{
	uint32_t round;
	int r = wire_decode_number(dest->link.payload, header->length, &round, err);
	if (r == 0 && header->type == WIRE_MEMFD)
		r = dest_take_memfd(dest, header, err);
	else if (r == 0)
		r = dest_channels_wait(dest, round, err);
	if (r == 0)
		r = dest_step(dest, PROTOCOL_SENDS, WIRE_ROUND_DONE, err);
	return r < 0 ? r : link_send_number(&dest->link, WIRE_ROUND_DONE, round, err);
}

/* Until STATE, which is then the link's payload. */
static int take_pages(struct dest *dest, struct wire_header *ret, struct err *err)
{
	int r;
	do {
		r = link_receive(&dest->link, ret, err);
		if (r == 0)
			r = dest_step(dest, PROTOCOL_GETS, ret->type, err);
		if (r == 0 && ret->type == WIRE_PAGES)
			r = take_page_message(dest, ret, err);
		if (r == 0 && (ret->type == WIRE_ROUND || ret->type == WIRE_MEMFD))
			r = round_done(dest, ret, err);
		if (r == 0 && ret->type == WIRE_MISSING)
			r = dest_late_missing(dest, ret->length, err);
	} while (r == 0 && ret->type != WIRE_STATE);
	return r;
}

/* ---- the switch ---- */

static int take_state(struct dest *dest, const struct wire_header *header, bool *ret_running, struct err *err)
{
	struct guest *guest = dest->guest;
	const uint8_t *payload = dest->link.payload;
	uint32_t round = load_le32(payload), flags = load_le32(payload + 4);
	size_t bytes = header->length - WIRE_STATE_HEADER_BYTES;
	if ((flags & ~(uint32_t)WIRE_STATE_F_RUNNING) != (dest_is_late(dest) ? WIRE_STATE_F_POSTCOPY : 0U))
		return err_set(err, -EPROTO, "STATE with flags %#" PRIx32, flags);
	*ret_running = flags & WIRE_STATE_F_RUNNING;
	int r = dest_channels_wait(dest, round, err);
	if (r == 0)
		r = dest_try_ram(dest, err);
	if (r < 0 || dest_is_late(dest))
		return r;
	return guest->ops->load(guest, payload + WIRE_STATE_HEADER_BYTES, bytes, err);
}

/*
 * It runs, whether or not anybody listens. What keeps a host from sending may pass; if it does not, the
 * source hears the end of the connection instead of nothing.
 */
static void say_running(struct dest *dest)
{
	struct err unheard = ERR_INIT;
	size_t sent = 0;
	int r = dest_step(dest, PROTOCOL_SENDS, WIRE_RUNNING, &unheard), tries = 0;
	if (r == 0)
		do {
			unheard = ERR_INIT;
			r = link_send_small(&dest->link, WIRE_RUNNING, NULL, 0, &sent, &unheard);
		} while (r < 0 && r != -ETIMEDOUT && sent == 0 && ++tries < RUNNING_TRIES);
	if (r == 0)
		return;
	log_info("migration: the machine runs here; the source could not be told: %s", unheard.text);
	channel_break(&dest->link.channel);
}

/* After RUN nothing may keep the machine from running; that it does is said if somebody listens. */
static int take_over(struct dest *dest, bool running, struct err *err)
{
	struct wire_header header;
	int r = link_expect(&dest->link, WIRE_RUN, &header, err);
	if (r == 0)
		r = dest_step(dest, PROTOCOL_GETS, WIRE_RUN, err);
	if (r == 0)
		r = dest_keep_ram(dest, err);
	if (r == 0)
		r = dest->guest->ops->run(dest->guest, running, err);
	if (r == 0) {
		say_running(dest);
		dest_settle_ram(dest);
	}
	return r;
}

int dest_run(struct dest *dest, struct err *err)
{
	struct wire_header header;
	bool running = false;
	int r = get_ready(dest, err);
	if (r == 0)
		r = take_pages(dest, &header, err);
	if (r == 0)
		r = take_state(dest, &header, &running, err);
	if (r == 0 && dest_is_late(dest)) {
		r = dest_late_run(dest, header.length, running, err);
	} else {
		if (r == 0)
			r = answer(dest, WIRE_READY, err);
		if (r == 0)
			r = take_over(dest, running, err);
	}
	if (r < 0 && !protocol_states[dest->state].runs)
		dest_refuse(dest, err);
	dest_tell(dest);
	dest_channels_stop(dest);
	return r;
}
