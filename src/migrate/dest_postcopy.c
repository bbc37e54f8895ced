/* Post-copy, the destination's side: see dest_postcopy.h; docs/migration.md has the states. */
#include "dest_postcopy.h"

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "dest_channels.h"
#include "memory/demand.h"
#include "memory/dirty.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* ---- life ---- */

int dest_late_create(struct dest *dest, struct err *err)
{
	struct dest_late *late = calloc(1, sizeof(*late));
	size_t words = dirty_bitmap_words(dest->guest->memory);
	if (!late)
		return err_sys(err, -ENOMEM, "post-copy");
	late->stop.fd = late->wake.fd = late->listener.fd = -1;
	late->err = ERR_INIT;
	pthread_mutex_init(&late->lock, NULL);
	pthread_mutex_init(&late->send, NULL);
	pthread_cond_init(&late->changed, NULL);
	late->missing = calloc(words, sizeof(*late->missing));
	late->asked = calloc(words, sizeof(*late->asked));
	int r = late->missing && late->asked ? 0 : err_sys(err, -ENOMEM, "post-copy");
	if (r == 0)
		r = canceller_init(&late->stop, err);
	if (r == 0)
		r = canceller_init(&late->wake, err);
	if (r == 0)
		r = demand_create(dest->guest->memory, dest->uffd, &late->demand, err);
	pthread_mutex_lock(&dest->lock);
	dest->late = late;
	pthread_mutex_unlock(&dest->lock);
	return r;
}

static void stop_faults(struct dest_late *late)
{
	if (!late->has_faults)
		return;
	canceller_fire(&late->stop);
	pthread_join(late->faults, NULL);
	late->has_faults = false;
}

static void join_receiver(struct dest_late *late)
{
	if (late->has_receiver)
		pthread_join(late->receiver, NULL);
	late->has_receiver = false;
}

void dest_late_destroy(struct dest *dest)
{
	struct dest_late *late = dest->late;
	if (!late)
		return;
	stop_faults(late); /* a thread that has only just begun still looks for it in dest */
	join_receiver(late);
	pthread_mutex_lock(&dest->lock);
	dest->late = NULL;
	pthread_mutex_unlock(&dest->lock);
	demand_destroy(late->demand);
	listener_close(&late->listener);
	free(late->listener_text);
	free(late->missing);
	free(late->asked);
	canceller_finish(&late->stop);
	canceller_finish(&late->wake);
	pthread_cond_destroy(&late->changed);
	pthread_mutex_destroy(&late->send);
	pthread_mutex_destroy(&late->lock);
	free(late);
}

void dest_late_cancel(struct dest *dest)
{
	pthread_mutex_lock(&dest->lock);
	if (dest->late)
		canceller_fire(&dest->late->wake);
	pthread_mutex_unlock(&dest->lock);
}

/* ---- before the switch ---- */

bool dest_is_late(const struct dest *dest)
{
	return dest->state == DST_LATE_STATE;
}

int dest_late_missing(struct dest *dest, size_t bytes, struct err *err)
{
	if (!dest->late)
		return err_set(err, -EPROTO, "MISSING, and post-copy was not agreed upon");
	return wire_decode_missing(dest->link.payload, bytes, dirty_page_count(dest->guest->memory),
				   dest->late->missing, err);
}

/* ---- what is missing ---- */

/* False: it is there. *ret_new: nobody has asked for it yet. */
static bool ask(struct dest_late *late, uint64_t page, bool *ret_new)
{
	pthread_mutex_lock(&late->lock);
	bool missing = dest_late_bit(late->missing, page);
	*ret_new = missing && !dest_late_bit(late->asked, page);
	if (missing)
		late->asked[page / 64] |= UINT64_C(1) << page % 64;
	late->requests += *ret_new;
	pthread_mutex_unlock(&late->lock);
	return missing;
}

static void mark_there(struct dest_late *late, uint64_t page)
{
	pthread_mutex_lock(&late->lock);
	late->missing[page / 64] &= ~(UINT64_C(1) << page % 64);
	late->asked[page / 64] &= ~(UINT64_C(1) << page % 64);
	late->missing_count--;
	pthread_mutex_unlock(&late->lock);
}

uint64_t dest_late_count(struct dest_late *late)
{
	pthread_mutex_lock(&late->lock);
	uint64_t count = late->missing_count;
	pthread_mutex_unlock(&late->lock);
	return count;
}

/* What is there already has perhaps been written to since: it stays. Who alone clears bits calls this. */
static int put_page(void *owner, uint64_t page, const void *content, struct err *err)
{
	struct dest_late *late = owner;
	if (!dest_late_bit(late->missing, page))
		return 0;
	int r = demand_put(late->demand, page, content);
	if (r < 0)
		return err_sys(err, r, "post-copy: page %" PRIu64, page);
	mark_there(late, page);
	return 0;
}

/* ---- asking ---- */

int dest_late_send_locked(struct dest *dest, unsigned type, const void *payload, size_t len, struct err *err)
{
	int r = dest_step(dest, PROTOCOL_SENDS, type, err);
	return r < 0 ? r : link_send_small(&dest->link, type, payload, len, NULL, err);
}

static int send_message(struct dest *dest, unsigned type, struct err *err)
{
	pthread_mutex_lock(&dest->late->send);
	int r = dest_late_send_locked(dest, type, NULL, 0, err);
	pthread_mutex_unlock(&dest->late->send);
	return r;
}

int dest_late_request_locked(struct dest *dest, const uint64_t *pages, size_t count, struct err *err)
{
	uint8_t payload[8 * WIRE_REQUEST_MAX];
	for (size_t i = 0; i < count; i++)
		store_le64(payload + 8 * i, pages[i]);
	return dest_late_send_locked(dest, WIRE_REQUEST, payload, 8 * count, err);
}

/*
 * In a state without a connection nothing is sent: what is in `asked` goes when there is one again. A
 * connection that does not take it is one that has to be broken off, which the receiver then sees.
 */
static void request(struct dest *dest, const uint64_t *pages, size_t count)
{
	struct err err = ERR_INIT;
	pthread_mutex_lock(&dest->late->send);
	if (protocol_step(dest->state, PROTOCOL_SENDS, WIRE_REQUEST) >= 0 &&
	    dest_late_request_locked(dest, pages, count, &err) < 0)
		channel_break(&dest->link.channel);
	pthread_mutex_unlock(&dest->late->send);
}

/* A page that is not missing and yet not there was given back by the guest (a balloon): it has zeros. */
static void take_faults(struct dest *dest)
{
	struct dest_late *late = dest->late;
	uint64_t pages[DEMAND_PAGES_MAX];
	size_t count = 0;
	int n = demand_next(late->demand, pages, DEMAND_PAGES_MAX);
	for (int i = 0; i < n; i++) {
		bool is_new;
		if (!ask(late, pages[i], &is_new)) {
			if (demand_put(late->demand, pages[i], NULL) < 0)
				demand_wake(late->demand, pages[i]); /* who stands there asks again */
		} else if (is_new) {
			pages[count++] = pages[i];
		}
	}
	if (count)
		request(dest, pages, count);
}

static void *faults_thread(void *argument)
{
	struct dest *dest = argument;
	struct pollfd at[2] = {{.fd = demand_fd(dest->late->demand), .events = POLLIN},
			       {.fd = dest->late->stop.fd, .events = POLLIN}};
	while (!at[1].revents) {
		if (poll(at, 2, -1) > 0 && (at[0].revents & POLLIN))
			take_faults(dest);
	}
	return NULL;
}

/* ---- receiving ---- */

static int take_message(struct dest *dest, unsigned *ret_type, struct err *err)
{
	struct dest_late *late = dest->late;
	struct wire_header header = {.type = 0};
	int r = link_receive(&dest->link, &header, err);
	if (r == 0 && header.type == WIRE_COMPLETE && dest_late_count(late))
		r = err_set(err, -EPROTO, "COMPLETE, and %" PRIu64 " pages are missing",
			    dest_late_count(late));
	if (r == 0)
		r = dest_step(dest, PROTOCOL_GETS, header.type, err);
	if (r == 0 && header.type == WIRE_PAGES)
		r = unstage_each(dest->unstage, dest->link.payload, header.length, put_page, late, err);
	*ret_type = header.type;
	return r;
}

/* Until COMPLETE. */
int dest_late_receive(struct dest *dest, struct err *err)
{
	struct dest_late *late = dest->late;
	unsigned type = 0;
	int r = 0;
	while (r == 0 && type != WIRE_COMPLETE) {
		r = take_message(dest, &type, err);
		pthread_mutex_lock(&late->lock);
		late->run_came = late->run_came || (r == 0 && type == WIRE_RUN);
		pthread_cond_broadcast(&late->changed);
		pthread_mutex_unlock(&late->lock);
	}
	return r;
}

/* Whoever loads and stands before a page must not do so for ever: without RUN, what the page has is of no
 * interest. */
static void *receiver_thread(void *argument)
{
	struct dest *dest = argument;
	struct dest_late *late = dest->late;
	struct err err = ERR_INIT;
	(void)dest_late_receive(dest, &err);
	pthread_mutex_lock(&late->lock);
	late->err = err;
	late->ended = true;
	bool lost = !late->run_came;
	pthread_cond_broadcast(&late->changed);
	pthread_mutex_unlock(&late->lock);
	if (lost)
		demand_stop(late->demand);
	return NULL;
}

/* ---- the switch ---- */

static int start_threads(struct dest *dest, struct err *err)
{
	struct dest_late *late = dest->late;
	int r = -pthread_create(&late->faults, NULL, faults_thread, dest);
	late->has_faults = r == 0;
	if (r == 0) {
		(void)pthread_setname_np(late->faults, "postcopy-faults");
		r = -pthread_create(&late->receiver, NULL, receiver_thread, dest);
		late->has_receiver = r == 0;
	}
	if (r == 0)
		(void)pthread_setname_np(late->receiver, "postcopy-pages");
	return r < 0 ? err_sys(err, r, "post-copy") : 0;
}

static int wait_for_run(struct dest_late *late, struct err *err)
{
	pthread_mutex_lock(&late->lock);
	while (!late->run_came && !late->ended)
		pthread_cond_wait(&late->changed, &late->lock);
	int r = late->run_came ? 0 : err_set(err, late->err.code, "%s", late->err.text);
	pthread_mutex_unlock(&late->lock);
	return r;
}

/* What was loaded when the connection had ended is not the guest's state. */
static int check_connected(struct dest_late *late, struct err *err)
{
	pthread_mutex_lock(&late->lock);
	int r = late->ended ? err_set(err, late->err.code, "%s", late->err.text) : 0;
	pthread_mutex_unlock(&late->lock);
	return r;
}

/* The state's bytes are the link's, which takes other messages meanwhile. */
static uint8_t *take_payload(struct link *link)
{
	uint8_t *payload = link->payload;
	link->payload = NULL;
	link->capacity = 0;
	return payload;
}

/* Up to the right to run. The loader touches RAM, so pages have to come from here on. */
static int load(struct dest *dest, size_t bytes, struct err *err)
{
	struct dest_late *late = dest->late;
	struct guest *guest = dest->guest;
	_cleanup_free_ uint8_t *state = take_payload(&dest->link);
	for (size_t i = 0; i < dirty_bitmap_words(guest->memory); i++)
		late->missing_count += (uint64_t)__builtin_popcountll(late->missing[i]);
	dest_channels_end(dest);
	int r = guest->ops->partial(guest, true, err);
	if (r == 0)
		r = demand_start(late->demand, late->missing, err);
	if (r == 0)
		r = start_threads(dest, err);
	if (r == 0)
		r = guest->ops->load(guest, state + WIRE_STATE_HEADER_BYTES, bytes - WIRE_STATE_HEADER_BYTES,
				     err);
	if (r == 0)
		r = check_connected(late, err);
	if (r == 0)
		r = send_message(dest, WIRE_READY, err);
	return r < 0 ? r : wait_for_run(late, err);
}

/* The guest has not run: nothing is missing any more, and nobody stands before anything. */
static void undo(struct dest *dest)
{
	struct err ignored = ERR_INIT;
	demand_stop(dest->late->demand);
	if (dest->late->has_receiver) {
		/* It may be waiting for the source, which shall hear the reason after that. */
		(void)shutdown(dest->link.channel.fd, SHUT_RD);
	}
	join_receiver(dest->late);
	stop_faults(dest->late);
	(void)dest->guest->ops->partial(dest->guest, false, &ignored);
}

void dest_late_settle(struct dest *dest)
{
	struct err ignored = ERR_INIT;
	dest_late_unlisten(dest->late);
	demand_stop(dest->late->demand);
	stop_faults(dest->late);
	(void)dest->guest->ops->partial(dest->guest, false, &ignored);
}

/* All is here. Whether the source hears of it is its own affair. */
static void finish(struct dest *dest)
{
	struct err ignored = ERR_INIT;
	dest_late_settle(dest);
	if (dest->state == DST_COMPLETE && send_message(dest, WIRE_COMPLETED, &ignored) < 0) {
		(void)dest_step(dest, PROTOCOL_LOST, 0, &ignored);
		channel_break(&dest->link.channel); /* it need not wait for that */
	}
}

int dest_late_run(struct dest *dest, size_t bytes, bool running, struct err *err)
{
	struct dest_late *late = dest->late;
	struct err unheard = ERR_INIT;
	int r = load(dest, bytes, err);
	if (r < 0) {
		undo(dest);
		return r;
	}
	r = dest->guest->ops->run(dest->guest, running, err);
	if (r < 0)
		return r; /* the machine ends, and with it the process */
	if (send_message(dest, WIRE_RUNNING, &unheard) < 0)
		channel_break(&dest->link.channel); /* the source comes again, and hears it then */
	dest_tell(dest);
	join_receiver(late);
	*err = late->err;
	r = dest_late_follow(dest, err);
	if (r == 0)
		finish(dest);
	return r;
}
