/*
 * The connection breaks, or a byte of it changes: at each message of the protocol, in its header, its payload
 * and after it, and at random places. Afterwards exactly one side runs, or none if RUN was lost.
 */
#include "move.h"
#include "proxy.h"

/* Where the machine is afterwards. */
enum where { AT_SOURCE, AT_DEST, NOWHERE };

static enum where move_with(const struct fault *fault, enum migrate_mode mode, bool *ret_hit)
{
	struct world world;
	struct proxy proxy;
	struct move move;
	struct migrate_params params = migrate_params_default;
	params.mode = mode;
	world_init_ram(&world, mode == MIGRATE_MODE_LOCAL);
	proxy_start(&proxy, &world, fault);
	move_begin(&move, &world, &proxy.uri, &params);
	pthread_join(move.source_thread, NULL);
	struct timespec soon;
	(void)clock_gettime(CLOCK_REALTIME, &soon);
	if (atomic_load(&move.dest.state) == DST_READY) /* RUN may be on its way */
		soon.tv_sec += 20;
	if (pthread_timedjoin_np(move.dest_thread, NULL, &soon) != 0) {
		dest_cancel(&move.dest); /* it still waits for a source that means it */
		pthread_join(move.dest_thread, NULL);
	}
	source_finish(&move.source);
	proxy_finish(&proxy);
	enum where where = atomic_load(&world.source.runs) ? AT_SOURCE
			   : atomic_load(&world.dest.runs) ? AT_DEST
							   : NOWHERE;
	move_judge(&move);
	world_finish(&world);
	*ret_hit = proxy.hit;
	return where;
}

static const int64_t places[] = {0, 1, 12, 23, 24, -1, INT64_MAX};

static void check_type(unsigned type, bool upward, int what, enum migrate_mode mode)
{
	for (size_t i = 0; i < ARRAY_LEN(places); i++) {
		const struct fault fault = {what, upward, type, 0, places[i]};
		bool hit;
		if (what == FLIP && places[i] == INT64_MAX)
			continue;
		enum where where = move_with(&fault, mode, &hit);
		/* Messages without a payload have no byte 24. */
		ck_assert_msg(hit || places[i] == 24 || places[i] == -1, "%s at %ld was not met",
			      wire_name(type), (long)places[i]);
		if (!hit || type == WIRE_RUNNING) {
			ck_assert_msg(where == AT_DEST, "%s at %ld: %d", wire_name(type), (long)places[i],
				      where);
			continue;
		}
		/* RUN that arrived whole is good, half of it is lost. */
		if (type == WIRE_RUN)
			ck_assert_msg(where == (places[i] == INT64_MAX ? AT_DEST : NOWHERE), "RUN at %ld: %d",
				      (long)places[i], where);
		else if (type == WIRE_READY &&
			 places[i] == INT64_MAX) /* RUN meets a closed door, or is lost */
			ck_assert_int_ne(where, AT_DEST);
		else
			ck_assert_msg(where == AT_SOURCE, "%s at %ld: %d", wire_name(type), (long)places[i],
				      where);
	}
}

static const unsigned down_types[] = {WIRE_HELLO, WIRE_CONFIG, WIRE_REHEARSAL, WIRE_PAGES,
				      WIRE_ROUND, WIRE_STATE,  WIRE_RUN};
static const unsigned up_types[] = {WIRE_WELCOME,    WIRE_ACCEPTED, WIRE_REHEARSED,
				    WIRE_ROUND_DONE, WIRE_READY,    WIRE_RUNNING};

START_TEST(cut_at_every_message)
{
	for (size_t i = 0; i < ARRAY_LEN(down_types); i++)
		check_type(down_types[i], false, CUT, MIGRATE_MODE_NORMAL);
	for (size_t i = 0; i < ARRAY_LEN(up_types); i++)
		check_type(up_types[i], true, CUT, MIGRATE_MODE_NORMAL);
}
END_TEST

START_TEST(a_changed_byte_in_every_message)
{
	for (size_t i = 0; i < ARRAY_LEN(down_types); i++)
		check_type(down_types[i], false, FLIP, MIGRATE_MODE_NORMAL);
	for (size_t i = 0; i < ARRAY_LEN(up_types); i++)
		check_type(up_types[i], true, FLIP, MIGRATE_MODE_NORMAL);
}
END_TEST

/* The same when RAM is handed over: the source goes on with it untouched, or the destination has it. */
START_TEST(cut_at_every_message_of_a_hand_over)
{
	static const unsigned down[] = {WIRE_HELLO, WIRE_CONFIG, WIRE_REHEARSAL,
					WIRE_MEMFD, WIRE_STATE,	 WIRE_RUN};
	for (int what = CUT; what <= FLIP; what++) {
		for (size_t i = 0; i < ARRAY_LEN(down); i++)
			check_type(down[i], false, what, MIGRATE_MODE_LOCAL);
		for (size_t i = 0; i < ARRAY_LEN(up_types); i++)
			check_type(up_types[i], true, what, MIGRATE_MODE_LOCAL);
	}
}
END_TEST

/* AERIE_CUTS: how many; a few unless somebody wants to know. */
START_TEST(cut_anywhere)
{
	const char *wish = getenv("AERIE_CUTS");
	unsigned count = wish ? (unsigned)atoi(wish) : 40, seed = 1, met = 0;
	for (unsigned i = 0; i < count; i++) {
		seed = seed * 1664525U + 1013904223U;
		uint64_t range = i % 4 == 3 ? 400 : WORLD_RAM + WORLD_RAM / 8;
		const struct fault fault = {i % 8 == 1 ? FLIP : CUT, i % 4 == 3, 0, 0,
					    (int64_t)((seed >> 4) * (uint64_t)4099 % range)};
		bool hit;
		(void)move_with(&fault, MIGRATE_MODE_NORMAL, &hit);
		met += hit;
	}
	ck_assert_uint_gt(met, count / 4);
}
END_TEST

TEST_MAIN("cut", cut_at_every_message, a_changed_byte_in_every_message, cut_at_every_message_of_a_hand_over,
	  cut_anywhere)
