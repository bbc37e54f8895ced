/* Post-copy, when the connection is lost: the destination waits for the source to come again. */
#include "base/cleanup.h"
#include "base/log.h"
#include "dest_postcopy.h"
#include "memory/dirty.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

int dest_recover(struct dest *dest, char *text, struct err *err)
{
	struct listener listener = {.fd = -1};
	struct uri uri;
	if (dest->state != DST_PAUSED)
		return err_set(err, -EBUSY, "there is nothing to recover: the migration is in state \"%s\"",
			       protocol_states[dest->state].name);
	struct dest_late *late = dest->late;
	pthread_mutex_lock(&late->lock);
	bool same = late->listens && strcmp(late->listener_text, text) == 0;
	pthread_mutex_unlock(&late->lock);
	if (same) {
		free(text);
		return 0;
	}
	int r = uri_parse(text, &uri, err);
	if (r == 0)
		r = listener_open(&uri, &listener, err);
	if (r < 0)
		return r;
	pthread_mutex_lock(&late->lock);
	if (late->whole) {
		pthread_mutex_unlock(&late->lock);
		listener_close(&listener);
		return err_set(err, -EBUSY, "there is nothing to recover: all of the memory has come");
	}
	listener_close(&late->listener); /* one before, that nobody came to */
	free(late->listener_text);
	late->listener = listener;
	late->listener_text = text;
	late->listens = true;
	late->listener_number++;
	canceller_fire(&late->wake);
	pthread_mutex_unlock(&late->lock);
	return 0;
}

static void unlisten_locked(struct dest_late *late)
{
	listener_close(&late->listener);
	free(take_ptr(late->listener_text));
	late->listens = false;
}

void dest_late_unlisten(struct dest_late *late)
{
	pthread_mutex_lock(&late->lock);
	late->whole = true;
	unlisten_locked(late);
	pthread_mutex_unlock(&late->lock);
}

/* Both steps at once: nobody is to see it wait for a connection that it does not need. */
static void lose(struct dest *dest, bool is_whole)
{
	pthread_mutex_lock(&dest->lock);
	int state = protocol_step(dest->state, PROTOCOL_LOST, 0);
	if (state == DST_PAUSED && is_whole)
		state = protocol_step((unsigned)state, PROTOCOL_WHOLE, 0);
	if (state >= 0)
		dest->state = (unsigned)state;
	pthread_mutex_unlock(&dest->lock);
}

static void pause_here(struct dest *dest, const struct err *err)
{
	struct dest_late *late = dest->late;
	channel_break(&dest->link.channel); /* so that nobody waits in a send */
	if (dest_late_count(late) == 0)
		dest_late_settle(dest);
	pthread_mutex_lock(&late->send);
	link_close(&dest->link);
	lose(dest, dest_late_count(late) == 0);
	pthread_mutex_unlock(&late->send);
	pthread_mutex_lock(&late->lock);
	late->err = *err;
	pthread_mutex_unlock(&late->lock);
	dest_tell(dest);
	if (dest->state == DST_PAUSED && !canceller_fired(&dest->canceller))
		log_warn("migration: paused in post-copy: %s; %" PRIu64 " pages are missing (migrate-recover "
			 "here, then migrate with resume on the source)",
			 err->text, dest_late_count(late));
}

/* Who comes must know the migration's id. */
static int meet_again(struct dest *dest, struct link *link, struct err *err)
{
	struct wire_header header;
	uint16_t version = dest->link.version;
	int r = link_expect(link, WIRE_RESUME, &header, err);
	if (r == 0 && memcmp(link->payload, dest->hello.id, WIRE_ID_BYTES) != 0)
		r = err_set(err, -EPROTO, "another migration is waited for");
	if (r < 0) {
		struct err ignored = ERR_INIT;
		if (err->code != -EREMOTEIO)
			(void)link_send_small(link, WIRE_REFUSED, err->text, strlen(err->text), NULL,
					      &ignored);
		link_close(link);
		return r;
	}
	dest->link = *link;
	dest->link.version = version;
	return 0;
}

/* All that somebody stands before, on a new connection. */
static int request_again(struct dest *dest, struct err *err)
{
	struct dest_late *late = dest->late;
	uint64_t pages[WIRE_REQUEST_MAX], page_count = dirty_page_count(dest->guest->memory);
	size_t count = 0;
	int r = 0;
	for (uint64_t page = 0; r == 0 && page < page_count; page++) {
		pthread_mutex_lock(&late->lock);
		if (dest_late_bit(late->asked, page))
			pages[count++] = page;
		pthread_mutex_unlock(&late->lock);
		if (count < WIRE_REQUEST_MAX)
			continue;
		r = dest_late_request_locked(dest, pages, count, err);
		count = 0;
	}
	return r == 0 && count ? dest_late_request_locked(dest, pages, count, err) : r;
}

/* Says what is missing, and asks for what somebody stands before. */
static int go_on(struct dest *dest, struct err *err)
{
	struct dest_late *late = dest->late;
	size_t words = dirty_bitmap_words(dest->guest->memory);
	dest_tell(dest);
	pthread_mutex_lock(&late->send);
	/* No page comes meanwhile: who would put it there is this thread. */
	int r = dest_step(dest, PROTOCOL_SENDS, WIRE_MISSING, err);
	if (r == 0)
		r = link_send_missing(&dest->link, late->missing, words, err);
	if (r == 0)
		r = dest_late_send_locked(dest, WIRE_RESUMED, NULL, 0, err);
	if (r == 0)
		r = request_again(dest, err);
	pthread_mutex_unlock(&late->send);
	dest_tell(dest);
	return r;
}

/* Unless another one has taken its place. */
static void stop_listening(struct dest_late *late, unsigned number)
{
	pthread_mutex_lock(&late->lock);
	if (late->listener_number == number)
		unlisten_locked(late);
	pthread_mutex_unlock(&late->lock);
}

static struct listener take_listener(struct dest_late *late, bool *ret_listens, unsigned *ret_number)
{
	pthread_mutex_lock(&late->lock);
	struct listener listener = late->listener;
	*ret_listens = late->listens;
	*ret_number = late->listener_number;
	pthread_mutex_unlock(&late->lock);
	return listener;
}

/*
 * Until the source is there again; -ECANCELED. It is listened for until RAM is whole: this connection may
 * break, too, and whoever recovers may be faster than we are in seeing it.
 */
static int wait_for_source(struct dest *dest, struct err *err)
{
	struct dest_late *late = dest->late;
	for (;;) {
		struct link link = {.channel = {.fd = -1}};
		struct err one = ERR_INIT, ignored = ERR_INIT;
		bool listens;
		unsigned number;
		if (canceller_fired(&dest->canceller))
			return err_set(err, -ECANCELED, "ended in post-copy");
		struct listener listener = take_listener(late, &listens, &number);
		if (!listens) {
			(void)canceller_wait_other(&dest->canceller, &late->wake, -1);
			canceller_reset(&late->wake);
			continue;
		}
		int r = dest_accept(dest, &listener, &late->wake, -1, &link, &one);
		if (r == -ECANCELED)
			canceller_reset(&late->wake);
		else if (listener.fd < 0) /* it is one connection, and that is gone */
			stop_listening(late, number);
		if (r == 0)
			r = meet_again(dest, &link, &one);
		else
			link_close(&link);
		if (r == 0)
			return dest_step(dest, PROTOCOL_GETS, WIRE_RESUME, &ignored);
		if (r != -ECANCELED)
			log_warn("migration: a connection is refused: %s", one.text);
	}
}

/* From RUNNING on; `err`: why the first connection ended, or 0. */
int dest_late_follow(struct dest *dest, struct err *err)
{
	int r = err->code;
	while (r < 0) {
		pause_here(dest, err);
		*err = ERR_INIT;
		if (dest->state == DST_DONE)
			return 0;
		r = wait_for_source(dest, err);
		if (r == -ECANCELED)
			return r;
		r = go_on(dest, err);
		if (r == 0)
			r = dest_late_receive(dest, err);
	}
	return r;
}

/* ---- for those who look on ---- */

enum migrate_status dest_status(const struct dest *dest)
{
	unsigned state = dest->state;
	switch (state) {
	case DST_START:
	case DST_HELLO:
	case DST_WELCOME:
		return MIGRATE_SETUP;
	case DST_STATE:
	case DST_READY:
	case DST_LATE_STATE:
	case DST_LATE_READY:
		return MIGRATE_DEVICE;
	case DST_LATE_RUN:
	case DST_POSTCOPY:
	case DST_COMPLETE:
		return MIGRATE_POSTCOPY_ACTIVE;
	case DST_PAUSED:
		return MIGRATE_POSTCOPY_PAUSED;
	case DST_RESUME:
		return MIGRATE_POSTCOPY_RECOVER;
	case DST_RUN:
	case DST_DONE:
		return MIGRATE_COMPLETED;
	case DST_OVER:
		return MIGRATE_FAILED;
	default:
		return MIGRATE_ACTIVE;
	}
}

void dest_progress(struct dest *dest, uint64_t *ret_missing, uint64_t *ret_requests)
{
	*ret_missing = *ret_requests = 0;
	pthread_mutex_lock(&dest->lock);
	struct dest_late *late = dest->late;
	pthread_mutex_unlock(&dest->lock);
	if (!late)
		return;
	pthread_mutex_lock(&late->lock);
	*ret_missing = late->missing_count;
	*ret_requests = late->requests;
	pthread_mutex_unlock(&late->lock);
}

void dest_paused_why(struct dest *dest, struct err *ret)
{
	struct dest_late *late = dest->late;
	pthread_mutex_lock(&late->lock);
	*ret = late->err;
	pthread_mutex_unlock(&late->lock);
}
