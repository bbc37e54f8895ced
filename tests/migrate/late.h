/* Migrations in post-copy, for tests: begun, broken and gone on with. */
#ifndef AERIE_TESTS_MIGRATE_LATE_H
#define AERIE_TESTS_MIGRATE_LATE_H

#include "move.h"
#include "proxy.h"

static inline struct migrate_params late_params(void)
{
	struct migrate_params params = migrate_params_default;
	params.postcopy = true;
	params.max_bandwidth = 4 << 20; /* slower than the guest writes, so that it never gets done without */
	params.downtime_limit_ms = 1;
	return params;
}

/* Begins as move_begin does, and switches over after the first pages. */
static inline void start_late(struct move *move, struct world *world, const struct uri *uri,
			      const struct migrate_params *params)
{
	struct err err = ERR_INIT;
	struct migrate_params slow = *params;
	slow.max_bandwidth = 1 << 20; /* it waits for a second after the first pages */
	atomic_store(&world->source.pace_us, 20);
	atomic_store(&world->dest.pace_us, 20);
	move_begin(move, world, uri, &slow);
	move_wait_first_pages(move);
	int r = source_start_postcopy(&move->source, &err);
	ck_assert_msg(r == 0, "%s", err.text);
	source_adjust(&move->source, params); /* not before: with some parameters it would soon be done */
}

static inline enum protocol_state source_state(struct move *move)
{
	pthread_mutex_lock(&move->source.lock);
	enum protocol_state state = move->source.state;
	pthread_mutex_unlock(&move->source.lock);
	return state;
}

static inline void check_arrived(struct move *move)
{
	struct world *world = move->world;
	move_wait(move);
	move_check_done(move);
	ck_assert(atomic_load(&world->dest.runs) && world->source.gone);
	ck_assert(!atomic_load(&world->dest.partial));
	uint64_t *sequence = guest_memory_at(world->dest.memory, 0, 8), before = *sequence;
	while (__atomic_load_n(sequence, __ATOMIC_RELAXED) < before + 1000) /* it does run */
		(void)usleep(1000);
	move_judge(move);
	ck_assert_int_eq(move->info.status, MIGRATE_COMPLETED);
	ck_assert_int_eq(move->source.state, SRC_DONE);
	ck_assert_int_eq(move->dest.state, DST_DONE);
}

/* What has become of it, when nothing moves any more. */
enum outcome { ARRIVED, BACK, PAUSED, NOBODY };

static inline enum outcome wait_outcome(struct move *move)
{
	for (;;) {
		enum protocol_state source = source_state(move), dest = move->dest.state;
		if (source == SRC_DONE && dest == DST_DONE)
			return ARRIVED;
		if (source == SRC_BACK)
			return BACK;
		if (source == SRC_LATE_DOUBT && dest == DST_OVER)
			return NOBODY;
		if (dest == DST_DONE && source == SRC_PAUSED)
			return ARRIVED; /* and nobody has told the source */
		if (dest == DST_PAUSED && (source == SRC_PAUSED || source == SRC_LATE_DOUBT))
			return PAUSED;
		(void)usleep(1000);
	}
}

/* Both sides listen and connect anew, with `fault` between them. */
static inline void recover(struct move *move, struct proxy *proxy, const struct fault *fault)
{
	struct err err = ERR_INIT;
	int r = dest_recover(&move->dest, strdup(move->world->uri_text), &err);
	ck_assert_msg(r == 0, "%s", err.text);
	proxy_start(proxy, move->world, fault);
	r = source_resume(&move->source, &proxy->uri, &err);
	ck_assert_msg(r == 0, "%s", err.text);
	pthread_join(proxy->thread, NULL); /* it ends with the connection */
	proxy->joined = true;
}

static inline void end_all(struct move *move)
{
	canceller_fire(&move->source.canceller);
	if (move->dest.state != DST_DONE)
		dest_cancel(&move->dest);
	move_wait(move);
}

#endif
