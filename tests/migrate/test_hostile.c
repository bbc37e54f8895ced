/*
 * A side that breaks the rules in messages that are whole and have their checksums: what it says is refused
 * by name, it is told so while the connection stands, and no machine runs where it should not.
 */
#include "move.h"

#include "../../src/migrate/wire.h"
#include "base/bytes.h"
#include "base/crc32c.h"

#include <zstd.h>

struct peer {
	struct world world;
	struct move move;
	struct canceller canceller;
	struct link link, channel; /* as the side that is played; further channels */
	struct wire_hello hello;
};

static struct peer peer;

static void say(struct link *link, unsigned type, const void *payload, size_t len)
{
	struct err err = ERR_INIT;
	ck_assert_msg(link_send_small(link, type, payload, len, NULL, &err) == 0, "%s", err.text);
}

static void say_number(unsigned type, uint32_t number)
{
	struct err err = ERR_INIT;
	ck_assert_msg(link_send_number(&peer.link, type, number, &err) == 0, "%s", err.text);
}

static struct wire_header hear(unsigned type)
{
	struct wire_header header = {.type = 0};
	struct err err = ERR_INIT;
	while (header.type != type) /* pages may come before it */
		ck_assert_msg(link_receive(&peer.link, &header, &err) == 0, "before %s: %s", wire_name(type),
			      err.text);
	return header;
}

static void is_told(struct link *link, const char *why)
{
	struct wire_header header;
	struct err err = ERR_INIT;
	while (link_receive(link, &header, &err) == 0)
		continue;
	ck_assert_msg(err.code == -EREMOTEIO && strstr(err.text, why), "%s, not %s", err.text, why);
}

static void begin(bool shared)
{
	struct err err = ERR_INIT;
	world_init_ram(&peer.world, shared);
	ck_assert_int_eq(canceller_init(&peer.canceller, &err), 0);
}

static void end(void)
{
	link_close(&peer.link);
	link_close(&peer.channel);
	canceller_finish(&peer.canceller);
	world_halt(&peer.world.source);
	world_halt(&peer.world.dest);
	world_finish(&peer.world);
}

/* ---- as a source ---- */

static void connect_to(struct link *link)
{
	struct err err = ERR_INIT;
	*link = (struct link){.channel = {.fd = -1}};
	int r = channel_connect(&peer.world.uri, &peer.canceller, &link->channel, &err);
	ck_assert_msg(r == 0, "%s", err.text);
}

static void begin_source(bool shared, uint32_t flags)
{
	begin(shared);
	move_listen(&peer.move, &peer.world);
	connect_to(&peer.link);
	peer.channel = (struct link){.channel = {.fd = -1}};
	peer.hello = (struct wire_hello){.flags = flags, .id = "this one's id", .ram_bytes = WORLD_RAM};
}

static void say_hello(void)
{
	uint8_t bytes[WIRE_HELLO_BYTES];
	wire_encode_hello(bytes, &peer.hello);
	say(&peer.link, WIRE_HELLO, bytes, sizeof(bytes));
}

static void say_channel(const char *id, uint32_t number)
{
	uint8_t bytes[WIRE_CHANNEL_BYTES] = {0};
	memcpy(bytes, id, strlen(id));
	store_le32(bytes + WIRE_ID_BYTES, number);
	hear(WIRE_WELCOME);
	connect_to(&peer.channel);
	say(&peer.channel, WIRE_CHANNEL, bytes, sizeof(bytes));
}

static void up_to_config(void)
{
	say_hello();
	hear(WIRE_WELCOME);
	say(&peer.link, WIRE_CONFIG, "{}", 2);
}

static void up_to_copy(void)
{
	hear(WIRE_ACCEPTED);
	say(&peer.link, WIRE_REHEARSAL, "a state of a machine", 20);
	hear(WIRE_REHEARSED);
}

static void end_source(const char *why)
{
	is_told(&peer.link, why);
	dest_cancel(&peer.move.dest); /* who has heard nothing good yet waits for the next one */
	pthread_join(peer.move.dest_thread, NULL);
	ck_assert_int_lt(peer.move.dest_result, 0);
	ck_assert(!atomic_load(&peer.world.dest.runs) && atomic_load(&peer.world.source.runs));
	end();
}

START_TEST(a_source_of_no_version_or_out_of_order_is_sent_away)
{
	uint8_t bytes[WIRE_HEADER_BYTES + WIRE_HELLO_BYTES];
	struct wire_header header = {.version = 0, .type = WIRE_HELLO, .length = WIRE_HELLO_BYTES};
	struct err err = ERR_INIT;
	begin_source(false, 0);
	wire_encode_hello(bytes + WIRE_HEADER_BYTES, &peer.hello);
	header.payload_crc = crc32c(0, bytes + WIRE_HEADER_BYTES, WIRE_HELLO_BYTES);
	wire_encode(bytes, &header);
	ck_assert_int_eq(channel_send(&peer.link.channel, bytes, sizeof(bytes), NULL, &err), 0);
	end_source("version 0 of the protocol; this aerie speaks 1 to 1");

	begin_source(false, 0);
	peer.link.sent = 5;
	say_hello();
	end_source("message 5 (HELLO) where number 0 comes next");
}
END_TEST

START_TEST(channels_say_whose_they_are)
{
	begin_source(false, 0);
	peer.hello.channels = 1;
	say_hello();
	say_channel("another one's id", 1);
	end_source("a channel of another migration");

	begin_source(false, 0);
	peer.hello.channels = 1;
	say_hello();
	say_channel("this one's id", 2);
	end_source("channel 2 where 1 comes next");
}
END_TEST

START_TEST(ram_is_as_large_and_where_it_is_here)
{
	begin_source(false, 0);
	peer.hello.ram_bytes = 2 * WORLD_RAM;
	up_to_config();
	end_source("memory.size: ");

	begin_source(false, 0);
	peer.hello.high_gpa = 1ULL << 32;
	up_to_config();
	end_source("memory layout: upper RAM at 0 here, at 0x100000000 there");
}
END_TEST

START_TEST(pages_come_as_agreed_upon)
{
	static const uint8_t zeros[WIRE_PAGE_BYTES];
	uint8_t bytes[WIRE_PAGES_HEADER_BYTES + 2 * 8 + 512] = {0};
	store_le32(bytes, WIRE_PAGES_F_ZSTD);
	store_le32(bytes + 4, 2); /* pages 0 and 1 */
	store_le64(bytes + 16, wire_entry(1, false));
	size_t packed =
		ZSTD_compress(bytes + 24, 512, zeros, sizeof(zeros), 1); /* one where two are said to be */
	ck_assert(!ZSTD_isError(packed));

	begin_source(false, 0);
	up_to_config();
	up_to_copy();
	say(&peer.link, WIRE_PAGES, bytes, 24 + packed);
	end_source("packed pages, which were not agreed upon");

	begin_source(false, WIRE_F_ZSTD);
	up_to_config();
	up_to_copy();
	say(&peer.link, WIRE_PAGES, bytes, 24 + packed);
	end_source("packed pages: 4096 bytes instead of 8192");

	begin_source(true, WIRE_F_LOCAL);
	up_to_config();
	up_to_copy();
	say(&peer.link, WIRE_PAGES, bytes, 24 + packed);
	end_source("PAGES, where RAM is handed over");

	begin_source(false, 0);
	up_to_config();
	up_to_copy();
	say(&peer.link, WIRE_RUN, NULL, 0);
	end_source("RUN does not belong into state \"destination copy\"");
}
END_TEST

/* What is wrong on a further channel is said on the first one. */
START_TEST(a_channel_has_pages_and_rounds)
{
	uint8_t round[4];
	begin_source(false, 0);
	peer.hello.channels = 1;
	say_hello();
	say_channel("this one's id", 1);
	say(&peer.link, WIRE_CONFIG, "{}", 2);
	up_to_copy();
	say(&peer.channel, WIRE_CONFIG, "{}", 2);
	say_number(WIRE_ROUND, 0);
	end_source("CONFIG on a channel for pages");

	begin_source(false, 0);
	peer.hello.channels = 1;
	say_hello();
	say_channel("this one's id", 1);
	say(&peer.link, WIRE_CONFIG, "{}", 2);
	up_to_copy();
	store_le32(round, 5);
	say(&peer.channel, WIRE_ROUND, round, sizeof(round));
	say_number(WIRE_ROUND, 0);
	end_source("round 5 where 0 comes next");
}
END_TEST

/* It runs already, so what is wrong costs the connection and nothing else. */
START_TEST(complete_is_said_when_nothing_is_missing)
{
	static uint64_t bitmap[WORLD_RAM / 4096 / 64];
	uint8_t state[WIRE_STATE_HEADER_BYTES + 20] = {0};
	struct err err = ERR_INIT;
	begin_source(false, WIRE_F_POSTCOPY);
	up_to_config();
	up_to_copy();
	world_halt(&peer.world.source);
	atomic_store(&peer.world.disk, NULL);
	bitmap[ARRAY_LEN(bitmap) - 1] = 1; /* where the guest does not go */
	ck_assert_int_eq(link_send_missing(&peer.link, bitmap, ARRAY_LEN(bitmap), &err), 0);
	store_le32(state + 4, WIRE_STATE_F_RUNNING | WIRE_STATE_F_POSTCOPY);
	memcpy(state + WIRE_STATE_HEADER_BYTES, "a state of a machine", 20);
	say(&peer.link, WIRE_STATE, state, sizeof(state));
	hear(WIRE_READY);
	say(&peer.link, WIRE_RUN, NULL, 0);
	hear(WIRE_RUNNING);
	say(&peer.link, WIRE_COMPLETE, NULL, 0);
	while (dest_status(&peer.move.dest) != MIGRATE_POSTCOPY_PAUSED)
		(void)usleep(1000);
	ck_assert(atomic_load(&peer.world.dest.runs) && atomic_load(&peer.world.dest.partial));

	ck_assert_int_eq(dest_recover(&peer.move.dest, strdup(peer.world.uri_text), &err), 0);
	link_close(&peer.link);
	connect_to(&peer.link);
	say(&peer.link, WIRE_RESUME, "another one's id", WIRE_ID_BYTES);
	is_told(&peer.link, "another migration is waited for");
	dest_cancel(&peer.move.dest);
	pthread_join(peer.move.dest_thread, NULL);
	ck_assert_int_eq(peer.move.dest_result, -ECANCELED);
	end();
}
END_TEST

/* ---- as a destination ---- */

static void begin_dest(bool shared, const struct migrate_params *params)
{
	struct listener listener;
	struct err err = ERR_INIT;
	begin(shared);
	peer.move = (struct move){.world = &peer.world};
	peer.link = peer.channel = (struct link){.channel = {.fd = -1}};
	ck_assert_int_eq(listener_open(&peer.world.uri, &listener, &err), 0);
	move_start(&peer.move, &peer.world, &peer.world.uri, params);
	ck_assert_int_eq(listener_accept(&listener, &peer.canceller, 10000, &peer.link.channel, &err), 0);
	listener_close(&listener);
	hear(WIRE_HELLO);
}

static void end_dest(const char *why)
{
	pthread_join(peer.move.source_thread, NULL);
	ck_assert_msg(peer.move.source_result < 0 && strstr(peer.move.source_err.text, why), "%s, not %s",
		      peer.move.source_err.text, why);
	ck_assert(atomic_load(&peer.world.source.runs) && !peer.world.source.gone);
	ck_assert_int_eq(peer.move.source.state, SRC_BACK);
	source_finish(&peer.move.source);
	end();
}

START_TEST(a_destination_takes_what_was_offered_or_says_less)
{
	const struct migrate_params plain = migrate_params_default;
	struct migrate_params packed = plain, local = plain, late = plain;
	packed.zstd_level = 1;
	local.mode = MIGRATE_MODE_LOCAL;
	late.postcopy = true;
	begin_dest(false, &plain);
	peer.link.version = 9;
	say_number(WIRE_WELCOME, 0);
	end_dest("the other side wants version 9 of the protocol, this aerie speaks 1 to 1");

	begin_dest(false, &plain);
	say_number(WIRE_WELCOME, 8);
	end_dest("WELCOME with flags 0x8 that were not offered");

	begin_dest(false, &packed);
	say_number(WIRE_WELCOME, 0);
	end_dest("the other side cannot unpack zstd; set multifd-compression to none");

	begin_dest(true, &local);
	say_number(WIRE_WELCOME, 0);
	end_dest("the other side does not take RAM over; set mode to normal");

	begin_dest(false, &late);
	say_number(WIRE_WELCOME, 0);
	end_dest("the other side cannot do post-copy; set postcopy-ram to false");
}
END_TEST

START_TEST(a_destination_has_as_many_disks_and_ends_the_round_that_is)
{
	const struct wire_disks one = {.count = 1, .bytes = {4096}}, two = {.count = 2, .bytes = {4096, 0}};
	uint8_t bytes[WIRE_DISKS_BYTES_MAX];
	begin_dest(false, &migrate_params_default);
	say_number(WIRE_WELCOME, 0);
	hear(WIRE_CONFIG);
	say(&peer.link, WIRE_ACCEPTED, bytes, wire_encode_disks(bytes, &one));
	end_dest("2 disks here, 1 there");

	begin_dest(false, &migrate_params_default);
	say_number(WIRE_WELCOME, 0);
	hear(WIRE_CONFIG);
	say(&peer.link, WIRE_ACCEPTED, bytes, wire_encode_disks(bytes, &two));
	hear(WIRE_REHEARSAL);
	say(&peer.link, WIRE_REHEARSED, NULL, 0);
	hear(WIRE_ROUND);
	say_number(WIRE_ROUND_DONE, 77);
	end_dest("ROUND_DONE of round 77 in round 0");

	begin_dest(false, &migrate_params_default);
	say_number(WIRE_WELCOME, 0);
	hear(WIRE_CONFIG);
	say(&peer.link, WIRE_READY, NULL, 0);
	end_dest("READY where ACCEPTED comes next");
}
END_TEST

TEST_MAIN("hostile", a_source_of_no_version_or_out_of_order_is_sent_away, channels_say_whose_they_are,
	  ram_is_as_large_and_where_it_is_here, pages_come_as_agreed_upon, a_channel_has_pages_and_rounds,
	  complete_is_said_when_nothing_is_missing, a_destination_takes_what_was_offered_or_says_less,
	  a_destination_has_as_many_disks_and_ends_the_round_that_is)
