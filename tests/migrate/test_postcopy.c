/*
 * Post-copy: the guest runs on the other side while its pages follow. A guest that writes as fast as it can
 * arrives; the connection breaks at every message and at random bytes, and it goes on over another one.
 */
#include "late.h"

#include "../../src/migrate/wire.h"

static void check_late(const struct migrate_params *params, bool shared)
{
	struct world world;
	struct move move;
	world_init_ram(&world, shared);
	start_late(&move, &world, NULL, params);
	check_arrived(&move);
	if (!params->zstd_level) /* packed they come sooner than anybody could ask */
		ck_assert_uint_gt(move.info.requests, 0);
	world_finish(&world);
}

START_TEST(a_guest_that_never_rests_arrives)
{
	struct migrate_params params = late_params();
	check_late(&params, false);
	check_late(&params, true);
}
END_TEST

START_TEST(packed_and_over_several_channels)
{
	struct migrate_params params = late_params();
	params.zstd_level = 1;
	check_late(&params, false);
	params.channels = 3;
	check_late(&params, true);
}
END_TEST

START_TEST(a_paused_guest_stays_paused)
{
	struct world world;
	struct move move;
	struct migrate_params params = late_params();
	params.max_bandwidth = 1 << 20;
	world_init(&world);
	(void)usleep(20000);
	world_halt(&world.source);
	start_late(&move, &world, NULL, &params);
	move_wait(&move);
	move_check_done(&move);
	ck_assert(world.dest.paused && atomic_load(&world.running) == 0);
	world_check_ram(&world.dest);
	world_finish(&world);
}
END_TEST

/* Before a byte has been sent: it is not forgotten on the way. */
START_TEST(it_can_be_asked_for_before_pages_are_copied)
{
	struct world world;
	struct move move;
	struct err err = ERR_INIT;
	struct migrate_params params = late_params();
	params.max_bandwidth = 1 << 20;
	world_init(&world);
	move_listen(&move, &world);
	move_prepare(&move, &world, &world.uri, &params);
	ck_assert_msg(source_start_postcopy(&move.source, &err) == 0, "%s", err.text);
	ck_assert_int_eq(pthread_create(&move.source_thread, NULL, move_source, &move), 0);
	check_arrived(&move);
	ck_assert_uint_eq(move.info.rounds, 0);
	ck_assert(move.source.late);
	world_finish(&world);
}
END_TEST

START_TEST(not_later_and_only_if_agreed_upon)
{
	struct world world;
	struct move move;
	struct err err = ERR_INIT;
	struct migrate_params params = late_params();
	params.postcopy = false;
	params.max_bandwidth = 1 << 18;
	world_init(&world);
	move_begin(&move, &world, NULL, &params);
	move_wait_first_pages(&move);
	ck_assert_int_eq(source_start_postcopy(&move.source, &err), -EINVAL);
	ck_assert_ptr_nonnull(strstr(err.text, "postcopy-ram was not set"));
	err = ERR_INIT;
	ck_assert_int_eq(source_resume(&move.source, &world.uri, &err), -EBUSY);
	err = ERR_INIT;
	ck_assert_int_eq(dest_recover(&move.dest, NULL, &err), -EBUSY);
	ck_assert_int_eq(source_cancel(&move.source, &err), 0);
	pthread_join(move.source_thread, NULL);
	pthread_join(move.dest_thread, NULL);
	err = ERR_INIT;
	ck_assert_int_eq(source_start_postcopy(&move.source, &err), -EBUSY);
	source_finish(&move.source);
	move_judge(&move);
	world_finish(&world);
}
END_TEST

START_TEST(a_load_that_fails_gives_the_guest_back)
{
	struct world world;
	struct move move;
	struct migrate_params params = late_params();
	world_init(&world);
	world.dest.refuse_load = -ENOMEM;
	start_late(&move, &world, NULL, &params);
	move_wait(&move);
	ck_assert_msg(strstr(move.source_err.text, "no more memory"), "%s", move.source_err.text);
	ck_assert(atomic_load(&world.source.runs) && !atomic_load(&world.dest.partial));
	move_judge(&move);
	world_finish(&world);
}
END_TEST

/* ---- a connection that breaks ---- */

/* The guest runs there and has all its pages, in whichever way the source ended. */
static void check_there(struct move *move)
{
	struct world *world = move->world;
	ck_assert_msg(move->dest_result == 0, "%s", move->dest_err.text);
	ck_assert(atomic_load(&world->dest.runs) && !atomic_load(&world->source.runs));
	world_halt(&world->dest);
	world_check_ram(&world->dest);
}

static enum outcome late_with(const struct fault *first, const struct fault *second, bool *ret_hit)
{
	static const struct fault none = {.what = FORWARD};
	struct world world;
	struct proxy proxies[8];
	struct move move;
	struct migrate_params params = late_params();
	unsigned count = 1;
	params.max_bandwidth = 32 << 20;
	world_init(&world);
	proxy_start(&proxies[0], &world, first);
	start_late(&move, &world, &proxies[0].uri, &params);
	enum outcome outcome = wait_outcome(&move), ended = outcome;
	while (ended == PAUSED && count < ARRAY_LEN(proxies)) {
		recover(&move, &proxies[count], count == 1 && second ? second : &none);
		count++;
		ended = wait_outcome(&move);
	}
	*ret_hit = proxies[0].hit && (!second || count == 1 || proxies[1].hit);
	end_all(&move);
	for (unsigned i = 0; i < count; i++)
		proxy_finish(&proxies[i]);
	if (ended == ARRIVED)
		check_there(&move);
	else if (ended == BACK)
		ck_assert(atomic_load(&world.source.runs) && !atomic_load(&world.dest.runs));
	else
		ck_assert_msg(ended == NOBODY && !atomic_load(&world.dest.runs), "%d", ended);
	world_finish(&world);
	return outcome;
}

static const int64_t places[] = {0, 12, 24, -1, INT64_MAX};

struct late_case {
	unsigned type;
	bool upward;
	enum outcome outcome; /* when it is cut within the message */
};

START_TEST(cut_at_every_message)
{
	static const struct late_case cases[] = {
		{WIRE_MISSING, false, BACK},	{WIRE_STATE, false, BACK},	 {WIRE_READY, true, BACK},
		{WIRE_RUN, false, NOBODY},	{WIRE_RUNNING, true, PAUSED},	 {WIRE_PAGES, false, PAUSED},
		{WIRE_COMPLETE, false, PAUSED}, {WIRE_COMPLETED, true, ARRIVED},
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		for (size_t place = 0; place < ARRAY_LEN(places); place++)
			for (int what = CUT; what <= FLIP; what++) {
				/* Pages before RUN may be asked for by who loads. */
				const struct fault fault = {what, cases[i].upward, cases[i].type,
							    cases[i].type == WIRE_PAGES	    ? WIRE_RUN
							    : cases[i].type == WIRE_MISSING ? 0
											    : WIRE_MISSING,
							    places[place]};
				bool hit;
				if (what == FLIP && places[place] == INT64_MAX)
					continue;
				enum outcome outcome = late_with(&fault, NULL, &hit);
				if (hit && places[place] != INT64_MAX && cases[i].type != WIRE_COMPLETE)
					ck_assert_msg(outcome == cases[i].outcome, "%s at %ld, %s: %d",
						      wire_name(cases[i].type), (long)places[place],
						      what == CUT ? "cut" : "changed", outcome);
			}
}
END_TEST

/* The second connection breaks, too. */
START_TEST(cut_while_it_recovers)
{
	static const struct late_case cases[] = {{WIRE_RESUME, false, PAUSED},
						 {WIRE_MISSING, true, PAUSED},
						 {WIRE_RESUMED, true, PAUSED},
						 {WIRE_PAGES, false, PAUSED}};
	const struct fault first = {CUT, false, WIRE_PAGES, WIRE_RUN, 24};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		for (size_t place = 0; place < ARRAY_LEN(places); place++) {
			const struct fault second = {CUT, cases[i].upward, cases[i].type, 0, places[place]};
			bool hit;
			ck_assert_int_eq(late_with(&first, &second, &hit), PAUSED);
			ck_assert_msg(hit || places[place] == 24 || places[place] == -1, "%s at %ld",
				      wire_name(cases[i].type), (long)places[place]);
		}
}
END_TEST

/* AERIE_CUTS: how many. */
START_TEST(cut_anywhere)
{
	const char *wish = getenv("AERIE_CUTS");
	unsigned count = wish ? (unsigned)atoi(wish) : 25, seed = 7, met = 0, paused = 0;
	for (unsigned i = 0; i < count; i++) {
		seed = seed * 1664525U + 1013904223U;
		bool upward = i % 4 == 3;
		uint64_t range = upward ? 400 : WORLD_RAM - WORLD_RAM / 4;
		const struct fault fault = {i % 8 == 1 ? FLIP : CUT, upward, 0, WIRE_STATE,
					    (int64_t)((seed >> 4) * (uint64_t)4099 % range)};
		bool hit;
		paused += late_with(&fault, NULL, &hit) == PAUSED;
		met += hit;
	}
	ck_assert_uint_gt(met, count / 4);
	ck_assert_uint_gt(paused, count / 8);
}
END_TEST

/* Who does not know the migration's id gets nothing, and takes nothing away. */
START_TEST(strangers_are_sent_away)
{
	static const struct fault first = {CUT, false, WIRE_PAGES, WIRE_RUN, 24}, none = {.what = FORWARD};
	struct world world, other;
	struct proxy proxies[2];
	struct move move, thief = {0};
	struct migrate_params params = late_params();
	struct err err = ERR_INIT;
	world_init(&world);
	world_init(&other);
	proxy_start(&proxies[0], &world, &first);
	start_late(&move, &world, &proxies[0].uri, &params);
	ck_assert_int_eq(wait_outcome(&move), PAUSED);
	ck_assert_int_eq(source_cancel(&move.source, &err), -EBUSY);
	err = ERR_INIT;
	ck_assert_int_eq(dest_recover(&move.dest, strdup(world.uri_text), &err), 0);
	move_start(&thief, &other, &world.uri, &params); /* a source that begins from the start */
	pthread_join(thief.source_thread, NULL);
	ck_assert_msg(strstr(thief.source_err.text, "HELLO where RESUME comes next"), "%s",
		      thief.source_err.text);
	source_finish(&thief.source);
	recover(&move, &proxies[1], &none);
	check_arrived(&move);
	proxy_finish(&proxies[0]);
	proxy_finish(&proxies[1]);
	world_halt(&other.source);
	world_finish(&other);
	world_finish(&world);
}
END_TEST

/* Either side ends while it is paused: no guest runs twice, and nobody waits for ever. */
START_TEST(ended_while_paused)
{
	static const struct fault first = {CUT, false, WIRE_PAGES, WIRE_RUN, 24};
	struct world world;
	struct proxy proxy;
	struct move move;
	struct migrate_params params = late_params();
	world_init(&world);
	proxy_start(&proxy, &world, &first);
	start_late(&move, &world, &proxy.uri, &params);
	ck_assert_int_eq(wait_outcome(&move), PAUSED);
	end_all(&move);
	ck_assert_int_eq(move.source_result, -ECANCELED);
	ck_assert_int_eq(move.dest_result, -ECANCELED);
	ck_assert(!atomic_load(&world.source.runs) && world.source.gone);
	ck_assert(atomic_load(&world.dest.partial)); /* so its process ends */
	proxy_finish(&proxy);
	world_finish(&world);
}
END_TEST

/* Messages of a hostile side. */
START_TEST(what_is_wrong_in_a_message_is_found)
{
	enum { PAGES = 100 };
	uint64_t bitmap[3] = {0}, pages[WIRE_REQUEST_MAX];
	uint8_t bytes[WIRE_MISSING_HEADER_BYTES + 8 * 3] = {0};
	uint32_t count;
	struct err err = ERR_INIT;
	const uint64_t good[2] = {5, UINT64_C(1) << 35};
	ck_assert_uint_eq(wire_encode_missing(bytes, good, 0, 2), 24);
	ck_assert_int_eq(wire_decode_missing(bytes, 24, PAGES, bitmap, &err), 0);
	ck_assert(bitmap[0] == 5 && bitmap[1] == good[1] && bitmap[2] == 0);
	bytes[8 + 8 + 4] = 1 << 4; /* page 100 */
	ck_assert_int_eq(wire_decode_missing(bytes, 24, PAGES, bitmap, &err), -EPROTO);
	ck_assert_int_eq(wire_decode_missing(bytes, 32, PAGES, bitmap, &err), -EPROTO);
	ck_assert_int_eq(wire_decode_missing(bytes, 23, PAGES, bitmap, &err), -EPROTO);
	ck_assert_int_eq(wire_decode_missing(bytes, 8, PAGES, bitmap, &err), -EPROTO);
	static const uint64_t firsts[] = {1, 63, 128, UINT64_MAX - 63, UINT64_C(1) << 63};
	for (size_t i = 0; i < ARRAY_LEN(firsts); i++) {
		memset(bytes, 0, sizeof(bytes));
		memcpy(bytes, &firsts[i], 8);
		ck_assert_int_eq(wire_decode_missing(bytes, 16, PAGES, bitmap, &err), -EPROTO);
	}
	ck_assert(bitmap[0] == 5 && bitmap[1] == good[1] && bitmap[2] == 0);
	memset(bytes, 0, sizeof(bytes));
	bytes[8] = 99;
	ck_assert_int_eq(wire_decode_request(bytes, 16, PAGES, pages, &count, &err), 0);
	ck_assert(count == 2 && pages[0] == 0 && pages[1] == 99);
	bytes[8] = 100;
	ck_assert_int_eq(wire_decode_request(bytes, 16, PAGES, pages, &count, &err), -EPROTO);
	ck_assert_int_eq(wire_decode_request(bytes, 12, PAGES, pages, &count, &err), -EPROTO);
	ck_assert_int_eq(wire_decode_request(bytes, 0, PAGES, pages, &count, &err), -EPROTO);
}
END_TEST

TEST_MAIN("postcopy", what_is_wrong_in_a_message_is_found, a_guest_that_never_rests_arrives,
	  packed_and_over_several_channels, a_paused_guest_stays_paused,
	  it_can_be_asked_for_before_pages_are_copied, not_later_and_only_if_agreed_upon,
	  a_load_that_fails_gives_the_guest_back, cut_at_every_message, cut_while_it_recovers, cut_anywhere,
	  strangers_are_sent_away, ended_while_paused)
