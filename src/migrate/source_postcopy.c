/*
 * Post-copy, the source's side: the guest runs over there, and its pages follow.
 *
 * One thread does all of it: between two batches that it pushes it looks whether somebody over there waits
 * for a page. Pages that lie behind the latest one asked for go first, since whoever touched that one is
 * likely to touch those next. RAM here stays as it was when the guest stopped, so a page can be sent again
 * after a connection was lost; the other side says which ones it lacks.
 */
#include "base/log.h"
#include "host/loop.h"
#include "source.h"

#include <errno.h>
#include <string.h>

enum { PUSH_PAGES = 32 };

#define NSEC_PER_MSEC UINT64_C(1000000)

int source_start_postcopy(struct source *source, struct err *err)
{
	int r = 0;
	pthread_mutex_lock(&source->lock);
	if (source->state > SRC_ROUND)
		r = err_set(err, -EBUSY, "too late: the migration is in state \"%s\"",
			    protocol_states[source->state].name);
	else if (!source->params.postcopy) /* another side that cannot do it ends the migration */
		r = err_set(err, -EINVAL, "postcopy-ram was not set when this migration began");
	else
		source->postcopy_asked = true;
	if (r == 0)
		canceller_fire(&source->wake); /* whatever the bandwidth would have it wait for */
	pthread_mutex_unlock(&source->lock);
	return r;
}

bool source_asked_postcopy(struct source *source)
{
	pthread_mutex_lock(&source->lock);
	bool asked = source->postcopy_asked;
	pthread_mutex_unlock(&source->lock);
	return asked;
}

bool source_is_late(struct source *source)
{
	pthread_mutex_lock(&source->lock);
	bool late = source->state == SRC_LATE_GIVEN || source->state == SRC_POSTCOPY;
	pthread_mutex_unlock(&source->lock);
	return late;
}

/* ---- pages ---- */

static void count_left(struct source *source)
{
	size_t words = dirty_bitmap_words(source->guest->memory);
	source->left = 0;
	for (size_t i = 0; i < words; i++)
		source->left += (uint64_t)__builtin_popcountll(source->bitmap[i]);
}

/* False: it has gone already. */
static bool take(struct source *source, uint64_t page)
{
	uint64_t *word = &source->bitmap[page / 64], bit = UINT64_C(1) << page % 64;
	if (!(*word & bit))
		return false;
	*word &= ~bit;
	source->left--;
	return true;
}

static int send_pages(struct source *source, const uint64_t *pages, uint32_t count, struct err *err)
{
	int r = source_step(source, PROTOCOL_SENDS, WIRE_PAGES, err);
	if (r == 0)
		r = stage_send(source->stage, &source->link, pages, count, &source->counts, err);
	source_report(source, source->left);
	return r;
}

/* What has been sent on this connection is on its way, so who asks for it will get it. */
static int answer(struct source *source, size_t bytes, struct err *err)
{
	uint64_t wanted[WIRE_REQUEST_MAX], pages[WIRE_REQUEST_MAX];
	uint32_t wanted_count, count = 0;
	uint64_t page_count = dirty_page_count(source->guest->memory);
	int r = wire_decode_request(source->link.payload, bytes, page_count, wanted, &wanted_count, err);
	for (uint32_t i = 0; r == 0 && i < wanted_count; i++) {
		source->next_page = (wanted[i] + 1) % page_count;
		if (take(source, wanted[i]))
			pages[count++] = wanted[i];
	}
	if (r == 0) {
		pthread_mutex_lock(&source->lock);
		source->info.requests += wanted_count;
		pthread_mutex_unlock(&source->lock);
	}
	return r == 0 && count ? send_pages(source, pages, count, err) : r;
}

/* The next one at or behind `page`, around the end; there is one. */
static uint64_t find_left(const struct source *source, uint64_t page)
{
	size_t words = dirty_bitmap_words(source->guest->memory), word = page / 64;
	uint64_t bits = source->bitmap[word] & ~UINT64_C(0) << page % 64;
	while (!bits) {
		word = (word + 1) % words;
		bits = source->bitmap[word];
	}
	return word * 64 + (uint64_t)__builtin_ctzll(bits);
}

static int push(struct source *source, struct err *err)
{
	uint64_t pages[PUSH_PAGES], page_count = dirty_page_count(source->guest->memory);
	uint32_t count = 0;
	for (; count < PUSH_PAGES && source->left; count++) {
		pages[count] = find_left(source, source->next_page);
		(void)take(source, pages[count]);
		source->next_page = (pages[count] + 1) % page_count;
	}
	return send_pages(source, pages, count, err);
}

/* *ret_there: the one that is waited for. */
static int take_message(struct source *source, unsigned type, bool *ret_there, struct err *err)
{
	struct wire_header header;
	int r = link_receive(&source->link, &header, err);
	if (r == 0)
		r = source_step(source, PROTOCOL_GETS, header.type, err);
	if (r == 0 && header.type == WIRE_REQUEST)
		r = answer(source, header.length, err);
	*ret_there = header.type == type;
	return r;
}

/* A message if there is one, else pages if there are any left, else waits for a message. */
static int take_turn(struct source *source, unsigned type, bool *ret_there, struct err *err)
{
	bool pushes = source->left && protocol_step(source->state, PROTOCOL_SENDS, WIRE_PAGES) >= 0;
	uint64_t ns = pushes ? source_pace_ns(source) : 0;
	uint32_t ms = (uint32_t)((ns + NSEC_PER_MSEC - 1) / NSEC_PER_MSEC);
	int readable = pushes ? channel_readable(&source->link.channel, ms, err) : 1;
	*ret_there = false;
	if (readable < 0)
		return readable;
	if (readable)
		return take_message(source, type, ret_there, err);
	return ns ? 0 : push(source, err);
}

int source_serve(struct source *source, unsigned type, struct err *err)
{
	bool there = false;
	int r = 0;
	while (r == 0 && !there)
		r = take_turn(source, type, &there, err);
	return r;
}

/* ---- the switch ---- */

/*
 * Pages go on the first connection from here on. The others stay open: their end would be an error to who has
 * yet to see the last ROUND on another.
 */
static int end_workers(struct source *source, uint32_t round, struct err *err)
{
	int r = source->workers ? workers_round(source->workers, round, err) : 0;
	if (r == 0 && !source->stage)
		r = stage_create(source->guest->memory, (int)source->params.zstd_level, &source->stage, err);
	return r;
}

/*
 * What was sent before the end of the last round and not written since is there, and what went after it comes
 * before MISSING, or before the last ROUND of its channel.
 */
int source_tell_missing(struct source *source, uint32_t *ret_round, struct err *err)
{
	uint64_t dirtied;
	int r = dirty_tracker_harvest(source->tracker, source->bitmap, &dirtied);
	if (r < 0)
		return err_sys(err, r, "dirty pages");
	dirty_tracker_destroy(source->tracker);
	source->tracker = NULL;
	canceller_reset(&source->wake); /* it is for resuming now */
	count_left(source);
	*ret_round = source->info.rounds;
	r = end_workers(source, *ret_round, err);
	if (r == 0)
		r = source_step(source, PROTOCOL_SENDS, WIRE_MISSING, err);
	if (r == 0)
		r = link_send_missing(&source->link, source->bitmap,
				      dirty_bitmap_words(source->guest->memory), err);
	channel_keep_short(&source->link.channel);
	source_report(source, source->left);
	return r;
}

/* ---- afterwards ---- */

static void tell_gone(struct source *source, bool in_doubt)
{
	if (!source->told)
		source->guest->ops->gone(source->guest, in_doubt);
	source->told = true;
}

static void set_err(struct source *source, const struct err *err)
{
	pthread_mutex_lock(&source->lock);
	source->info.err = *err;
	pthread_mutex_unlock(&source->lock);
}

static void close_link(struct source *source)
{
	uint16_t version = source->link.version;
	link_close(&source->link);
	source->link = (struct link){.channel = {.fd = -1}, .version = version};
}

/* The connection is lost: until somebody says where the other side listens now. */
static int wait_for_resume(struct source *source, struct err *err)
{
	struct err ignored = ERR_INIT;
	(void)source_step(source, PROTOCOL_LOST, 0, &ignored);
	close_link(source);
	set_err(source, err);
	if (!canceller_fired(&source->canceller)) {
		tell_gone(source, source->state == SRC_LATE_DOUBT);
		log_warn("migration: paused in post-copy: %s; this process must stay: it has what the other "
			 "side lacks (migrate-recover there, then migrate with resume here)",
			 err->text);
	}
	source_set_status(source, MIGRATE_POSTCOPY_PAUSED);
	*err = ERR_INIT;
	if (canceller_wait_other(&source->canceller, &source->wake, -1) == 0) {
		canceller_reset(&source->wake);
		return 0;
	}
	if (source->state == SRC_PAUSED)
		log_error("migration: ended in post-copy: the machine runs on the other side, and what it "
			  "lacks of its memory is lost with this process: it has to be ended there, too");
	return err_set(err, -ECANCELED, "ended in post-copy, before the other side had all of the memory");
}

int source_resume(struct source *source, const struct uri *uri, struct err *err)
{
	int r = 0;
	pthread_mutex_lock(&source->lock);
	if ((source->state != SRC_PAUSED && source->state != SRC_LATE_DOUBT) || source->resume_asked) {
		r = err_set(err, -EBUSY, "there is nothing to resume: the migration is in state \"%s\"",
			    protocol_states[source->state].name);
	} else {
		source->resume_uri = *uri;
		source->uri = &source->resume_uri;
		source->resume_asked = true;
		canceller_fire(&source->wake);
	}
	pthread_mutex_unlock(&source->lock);
	return r;
}

int source_leave_doubt(struct source *source, struct err *err)
{
	int r = 0;
	pthread_mutex_lock(&source->lock);
	if (source->state != SRC_LATE_DOUBT || source->resume_asked)
		r = err_set(err, -EBUSY, "a migration is under way");
	else
		canceller_fire(&source->canceller);
	pthread_mutex_unlock(&source->lock);
	return r;
}

/* The other side runs the machine, or it would not listen for us; it says what it lacks. */
static int resume(struct source *source, struct err *err)
{
	size_t words = dirty_bitmap_words(source->guest->memory);
	uint64_t page_count = dirty_page_count(source->guest->memory);
	struct wire_header header = {.type = 0};
	source_set_status(source, MIGRATE_POSTCOPY_RECOVER);
	int r = source_open_link(source, &source->link, err);
	if (r == 0)
		r = source_step(source, PROTOCOL_SENDS, WIRE_RESUME, err);
	if (r == 0)
		r = link_send_small(&source->link, WIRE_RESUME, source->id, sizeof(source->id), NULL, err);
	memset(source->bitmap, 0, words * sizeof(*source->bitmap));
	while (r == 0 && header.type != WIRE_RESUMED) {
		r = link_receive(&source->link, &header, err);
		if (r == 0)
			r = source_step(source, PROTOCOL_GETS, header.type, err);
		if (r == 0 && header.type == WIRE_MISSING)
			r = wire_decode_missing(source->link.payload, header.length, page_count,
						source->bitmap, err);
	}
	count_left(source);
	channel_keep_short(&source->link.channel);
	return r;
}

static int begin_resume(struct source *source, struct err *err)
{
	pthread_mutex_lock(&source->lock);
	source->info.err = ERR_INIT;
	pthread_mutex_unlock(&source->lock);
	int r = resume(source, err);
	pthread_mutex_lock(&source->lock);
	source->resume_asked = false;
	pthread_mutex_unlock(&source->lock);
	return r;
}

/* All pages, then the other side's word that it has them. */
static int push_all(struct source *source, struct err *err)
{
	bool there;
	int r = 0;
	tell_gone(source, false);
	source_set_status(source, MIGRATE_POSTCOPY_ACTIVE);
	while (r == 0 && source->left)
		r = take_turn(source, 0, &there, err);
	if (r == 0)
		r = source_step(source, PROTOCOL_SENDS, WIRE_COMPLETE, err);
	if (r == 0)
		r = link_send_small(&source->link, WIRE_COMPLETE, NULL, 0, NULL, err);
	return r < 0 ? r : source_serve(source, WIRE_COMPLETED, err);
}

int source_follow(struct source *source, int r, struct err *err)
{
	source->guest->ops->throttle(source->guest, 0);
	pthread_mutex_lock(&source->lock);
	source->info.down_ms = (loop_now_ns() - source->stopped_ns) / NSEC_PER_MSEC;
	pthread_mutex_unlock(&source->lock);
	if (r == 0)
		r = push_all(source, err);
	while (r < 0) {
		r = wait_for_resume(source, err);
		if (r < 0)
			return r;
		r = begin_resume(source, err);
		if (r == 0)
			r = push_all(source, err);
	}
	return 0;
}
