/*
 * Pre-copy: all pages, then those that were written meanwhile, again and again, until so few are left that
 * they and the state fit into the time for which the guest may stand still.
 *
 * The estimate is what is left divided by what the connection really carried in the last round, as the other
 * side confirmed it; in a round's course it only serves the operator. A guest that writes faster than that
 * never comes to an end: with auto-converge its vCPUs are slowed down step by step, else the operator sees it
 * and decides.
 */
#include "host/loop.h"
#include "source.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define NSEC_PER_SEC  UINT64_C(1000000000)
#define NSEC_PER_MSEC UINT64_C(1000000)

/* How long a limit on the bandwidth looks back: bursts beyond it are not made up for. */
#define PACE_WINDOW_NS (NSEC_PER_SEC / 2)

/* Rounds that win nothing, until vCPUs are slowed down. */
enum { SLOW_ROUNDS = 2 };

/* Pages in a message: so few that it is still in the cache when it is sent, and taken apart on the other
 * side. */
enum { BATCH_PAGES = 64 };

static uint64_t sent_bytes(struct source *source)
{
	struct stage_counts counts = {0};
	if (source->workers)
		workers_counts(source->workers, &counts);
	return source->counts.bytes + counts.bytes;
}

/* ---- pacing ---- */

/* What was sent must be no more than the limit allows since a while ago. */
uint64_t source_pace_ns(struct source *source)
{
	pthread_mutex_lock(&source->lock);
	uint64_t limit = source->params.max_bandwidth;
	pthread_mutex_unlock(&source->lock);
	uint64_t now = loop_now_ns(), bytes = sent_bytes(source);
	if (now - source->paced_since_ns > PACE_WINDOW_NS) {
		source->paced_since_ns = now;
		source->paced_bytes = bytes;
	}
	if (!limit)
		return 0;
	uint64_t allowed_ns =
		(uint64_t)((double)(bytes - source->paced_bytes) / (double)limit * (double)NSEC_PER_SEC);
	uint64_t passed_ns = now - source->paced_since_ns;
	return allowed_ns <= passed_ns ? 0 : allowed_ns - passed_ns;
}

static int pace(struct source *source, struct err *err)
{
	uint64_t ns = source_pace_ns(source);
	int ms = (int)((ns + NSEC_PER_MSEC - 1) / NSEC_PER_MSEC);
	if (ns && canceller_wait_other(&source->canceller, &source->wake, ms) < 0)
		return err_set(err, -ECANCELED, "cancelled");
	return 0;
}

/* ---- one pass over the bitmap ---- */

void source_report(struct source *source, uint64_t left_pages)
{
	struct stage_counts counts = source->counts, more = {0};
	if (source->workers)
		workers_counts(source->workers, &more);
	pthread_mutex_lock(&source->lock);
	struct migrate_info *info = &source->info;
	info->sent_bytes = counts.bytes + more.bytes;
	info->zero_pages = counts.zero_pages + more.zero_pages;
	info->normal_pages = counts.pages + more.pages - info->zero_pages;
	info->remaining_bytes = left_pages * WIRE_PAGE_BYTES;
	uint64_t ns = loop_now_ns() - source->round_started_ns;
	if (ns > NSEC_PER_SEC / 20) {
		info->bytes_per_second = (uint64_t)((double)(info->sent_bytes - source->round_started_bytes) *
						    (double)NSEC_PER_SEC / (double)ns);
	}
	info->expected_down_ms =
		info->bytes_per_second ? info->remaining_bytes * 1000 / info->bytes_per_second : UINT64_MAX;
	pthread_mutex_unlock(&source->lock);
}

static int send_batch(struct source *source, const uint64_t *pages, uint32_t count, struct err *err)
{
	int r = source_step(source, PROTOCOL_SENDS, WIRE_PAGES, err);
	if (r < 0)
		return r;
	if (source->workers)
		return workers_send(source->workers, pages, count, err);
	return stage_send(source->stage, &source->link, pages, count, &source->counts, err);
}

/* Takes all pages out of the bitmap, or, when post-copy is asked for, those that were sent until then. */
static int send_bitmap(struct source *source, uint64_t left, struct err *err)
{
	uint64_t pages[BATCH_PAGES];
	uint32_t count = 0;
	size_t words = dirty_bitmap_words(source->guest->memory);
	bool late = false;
	int r = 0;
	for (size_t i = 0; r == 0 && i < words && !late; i++) {
		while (r == 0 && source->bitmap[i] && !late) {
			unsigned bit = (unsigned)__builtin_ctzll(source->bitmap[i]);
			source->bitmap[i] &= source->bitmap[i] - 1;
			pages[count++] = i * 64 + bit;
			if (count < BATCH_PAGES)
				continue;
			r = send_batch(source, pages, count, err);
			left -= count;
			count = 0;
			source_report(source, left);
			late = !source->stopped && source_asked_postcopy(source);
			if (r == 0 && !source->stopped && !late)
				r = pace(source, err);
		}
	}
	if (r == 0 && count)
		r = send_batch(source, pages, count, err);
	source_report(source, left > count ? left - count : 0);
	return r;
}

/* ---- rounds ---- */

static uint64_t count_bits(const uint64_t *bitmap, size_t words)
{
	uint64_t count = 0;
	for (size_t i = 0; i < words; i++)
		count += (uint64_t)__builtin_popcountll(bitmap[i]);
	return count;
}

/* Waits until the other side has put all of the round into RAM. */
static int end_round(struct source *source, uint32_t round, struct err *err)
{
	struct wire_header header;
	uint32_t done = 0;
	int r = source->workers ? workers_round(source->workers, round, err) : 0;
	if (r == 0)
		r = source_step(source, PROTOCOL_SENDS, WIRE_ROUND, err);
	if (r == 0)
		r = link_send_number(&source->link, WIRE_ROUND, round, err);
	if (r == 0)
		r = link_expect(&source->link, WIRE_ROUND_DONE, &header, err);
	if (r == 0)
		r = wire_decode_number(source->link.payload, header.length, &done, err);
	if (r == 0 && done != round)
		r = err_set(err, -EPROTO, "ROUND_DONE of round %u in round %u", done, round);
	return r < 0 ? r : source_step(source, PROTOCOL_GETS, WIRE_ROUND_DONE, err);
}

/* Slows the guest down when rounds win nothing; up to the limit. */
static void converge(struct source *source, uint64_t dirtied_bytes, uint64_t round_bytes)
{
	const struct migrate_params *params = &source->params;
	uint32_t percent;
	source->slow_rounds = 2 * dirtied_bytes > round_bytes ? source->slow_rounds + 1 : 0;
	if (!params->auto_converge || source->slow_rounds < SLOW_ROUNDS)
		return;
	source->slow_rounds = 0;
	pthread_mutex_lock(&source->lock);
	percent = source->info.throttle_percent;
	percent = percent == 0 ? params->throttle_initial : percent + params->throttle_increment;
	if (percent > params->throttle_max)
		percent = params->throttle_max;
	source->info.throttle_percent = percent;
	pthread_mutex_unlock(&source->lock);
	source->guest->ops->throttle(source->guest, percent);
}

/* After a round: what is left, and whether that fits into the downtime limit. */
static int judge_round(struct source *source, bool *ret_enough, uint64_t *ret_left, struct err *err)
{
	uint64_t dirtied, ns = loop_now_ns() - source->round_started_ns;
	int r = dirty_tracker_harvest(source->tracker, source->bitmap, &dirtied);
	if (r < 0)
		return err_sys(err, r, "dirty pages");
	uint64_t bytes = sent_bytes(source) - source->round_started_bytes;
	uint64_t speed = (uint64_t)((double)bytes * (double)NSEC_PER_SEC / (double)(ns ? ns : 1));
	uint64_t left = dirtied * WIRE_PAGE_BYTES;
	uint64_t down_ms = left ? left * 1000 / (speed ? speed : 1) : 0;
	pthread_mutex_lock(&source->lock);
	source->info.rounds++;
	source->info.dirty_pages_per_second =
		(uint64_t)((double)dirtied * (double)NSEC_PER_SEC / (double)(ns ? ns : 1));
	source->info.remaining_bytes = left;
	source->info.expected_down_ms = down_ms;
	*ret_enough = down_ms <= source->params.downtime_limit_ms;
	pthread_mutex_unlock(&source->lock);
	if (!*ret_enough)
		converge(source, left, bytes);
	*ret_left = dirtied;
	return 0;
}

int source_copy(struct source *source, struct err *err)
{
	struct guest_memory *memory = source->guest->memory;
	size_t words = dirty_bitmap_words(memory);
	uint64_t left = dirty_page_count(memory);
	bool enough = false;
	source->bitmap = calloc(words, sizeof(*source->bitmap));
	if (!source->bitmap)
		return err_sys(err, -ENOMEM, "dirty pages");
	int r = dirty_tracker_create(memory, &source->tracker, err);
	for (uint64_t page = 0; page < left; page++) /* all of RAM, and not a bit beyond it */
		source->bitmap[page / 64] |= UINT64_C(1) << page % 64;
	for (uint32_t round = 0; r == 0 && !enough; round++) {
		source->round_started_ns = loop_now_ns();
		source->round_started_bytes = sent_bytes(source);
		r = send_bitmap(source, left, err);
		if (source_asked_postcopy(source))
			break;
		if (r == 0)
			r = end_round(source, round, err);
		if (r == 0)
			r = judge_round(source, &enough, &left, err);
	}
	return r;
}

int source_copy_rest(struct source *source, uint32_t *ret_round, struct err *err)
{
	uint64_t dirtied;
	int r = dirty_tracker_harvest(source->tracker, source->bitmap, &dirtied);
	if (r < 0)
		return err_sys(err, r, "dirty pages");
	*ret_round = source->info.rounds;
	r = send_bitmap(source, count_bits(source->bitmap, dirty_bitmap_words(source->guest->memory)), err);
	if (r == 0 && source->workers)
		r = workers_round(source->workers, *ret_round, err);
	return r;
}
