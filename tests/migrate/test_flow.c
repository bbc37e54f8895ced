/* Migrations from one process' left hand to its right: what arrives, and what is refused. */
#include "move.h"

static struct migrate_params fast(void)
{
	struct migrate_params params = migrate_params_default;
	params.max_bandwidth = 0;
	return params;
}

static void check_moves(const struct migrate_params *params)
{
	struct world world;
	struct move move;
	world_init(&world);
	move_run(&move, &world, params);
	move_check_done(&move);
	ck_assert(atomic_load(&world.dest.runs) && world.source.gone && !world.source.in_doubt);
	move_judge(&move);
	ck_assert_int_eq(move.info.status, MIGRATE_COMPLETED);
	ck_assert_uint_eq(move.info.total_bytes, WORLD_RAM);
	ck_assert_uint_ge(move.info.zero_pages, 4);
	ck_assert_uint_ge(move.info.normal_pages + move.info.zero_pages, WORLD_RAM / 4096);
	world_finish(&world);
}

START_TEST(a_running_guest_moves)
{
	const struct migrate_params params = fast();
	check_moves(&params);
}
END_TEST

START_TEST(with_packed_pages)
{
	struct migrate_params params = fast();
	params.zstd_level = 1;
	check_moves(&params);
}
END_TEST

START_TEST(over_several_channels)
{
	struct migrate_params params = fast();
	params.channels = 4;
	check_moves(&params);
	params.zstd_level = 3;
	params.channels = MIGRATE_CHANNELS_MAX;
	check_moves(&params);
}
END_TEST

static struct migrate_params local(void)
{
	struct migrate_params params = fast();
	params.mode = MIGRATE_MODE_LOCAL;
	return params;
}

/* Nothing is sent, both have had the same RAM, and only one of them still has. */
START_TEST(ram_is_handed_over)
{
	struct world world;
	struct move move;
	struct migrate_params params = local();
	params.channels = 4; /* of no use, and not opened */
	params.zstd_level = 1;
	world_init_ram(&world, true);
	uint8_t *dest_host = guest_memory_at(world.dest.memory, 0, 1);
	move_run(&move, &world, &params);
	move_check_done(&move);
	move_judge(&move);
	ck_assert_int_eq(move.info.status, MIGRATE_COMPLETED);
	ck_assert_uint_eq(move.info.sent_bytes + move.info.normal_pages + move.info.rounds, 0);
	ck_assert_ptr_eq(guest_memory_at(world.dest.memory, 0, 1), dest_host);
	/* What the source still does reaches nobody. */
	ck_assert(handover_left(world.source.memory));
	uint64_t sequence = *(uint64_t *)dest_host;
	memset(guest_memory_at(world.source.memory, 0, WORLD_RAM), 0xff, WORLD_RAM);
	ck_assert_uint_eq(*(uint64_t *)dest_host, sequence);
	world_check_ram(&world.dest);
	world_finish(&world);
}
END_TEST

static void check_local_refused_with(struct world *world, const struct uri *uri, const char *tls,
				     bool postcopy, const char *why)
{
	struct move move;
	struct migrate_params params = local();
	params.postcopy = postcopy;
	snprintf(params.tls_creds, sizeof(params.tls_creds), "%s", tls ? tls : "");
	move_begin(&move, world, uri, &params);
	pthread_join(move.source_thread, NULL);
	dest_cancel(&move.dest);
	pthread_join(move.dest_thread, NULL);
	ck_assert_int_lt(move.source_result, 0);
	ck_assert_str_eq(move.source_err.text, why);
	ck_assert(!move.source.stopped && atomic_load(&world->source.runs));
	source_finish(&move.source);
}

static void check_local_refused(struct world *world, const struct uri *uri, const char *tls, const char *why)
{
	check_local_refused_with(world, uri, tls, false, why);
}

START_TEST(a_hand_over_that_cannot_be_is_refused)
{
	struct world world;
	struct uri uri;
	struct err err = ERR_INIT;
	char text[32];
	world_init_ram(&world, true);
	ck_assert_int_eq(uri_parse("tcp:127.0.0.1:1", &uri, &err), 0);
	check_local_refused(&world, &uri, NULL,
			    "mode cpr-transfer hands RAM over on this host: it needs a unix: URI");
	ck_assert_int_eq(uri_parse("exec:cat", &uri, &err), 0);
	check_local_refused(&world, &uri, NULL,
			    "mode cpr-transfer hands RAM over on this host: it needs a unix: URI");
	int tcp = socket(AF_INET, SOCK_STREAM, 0);
	ck_assert_int_ge(tcp, 0);
	snprintf(text, sizeof(text), "fd:%d", tcp);
	ck_assert_int_eq(uri_parse(text, &uri, &err), 0);
	char why[64];
	snprintf(why, sizeof(why), "mode cpr-transfer: fd:%d is no UNIX socket", tcp);
	check_local_refused(&world, &uri, NULL, why);
	close(tcp);
	check_local_refused(&world, NULL, "/etc", "mode cpr-transfer: not with TLS; set tls-creds to \"\"");
	check_local_refused_with(
		&world, NULL, NULL, true,
		"mode cpr-transfer: post-copy has no pages to bring; set postcopy-ram to false");
	world_halt(&world.source);
	world_finish(&world);
}
END_TEST

START_TEST(a_side_whose_ram_is_its_own_does_not_hand_it_over)
{
	struct world world, own;
	world_init(&own);
	check_local_refused(&own, NULL, NULL,
			    "RAM is this process' own (memory.shared is false), it cannot be handed over");
	world_init_ram(&world, true);
	guest_memory_destroy(world.dest.memory);
	ck_assert_int_eq(guest_memory_create(&(struct memory_config){.size_bytes = WORLD_RAM},
					     &world.dest.memory, &(struct err){.code = 0}),
			 0);
	world.dest.guest.memory = world.dest.memory;
	check_local_refused(&world, NULL, NULL,
			    "the other side refuses: RAM is this process' own (memory.shared is false), it "
			    "cannot be handed over");
	world_halt(&world.source);
	world_finish(&world);
	world_finish(&own);
}
END_TEST

/* The source goes on with its RAM as it was, whatever the other side's loading has written. */
START_TEST(a_hand_over_that_fails_late_leaves_ram_alone)
{
	struct world world;
	struct move move;
	const struct migrate_params params = local();
	world_init_ram(&world, true);
	world.dest.refuse_load = -ENOMEM;
	move_run(&move, &world, &params);
	ck_assert(strstr(move.source_err.text, "no more memory") && move.source.stopped);
	ck_assert(atomic_load(&world.source.runs) && !handover_left(world.source.memory));
	move_judge(&move);
	world_finish(&world);
}
END_TEST

START_TEST(a_paused_guest_arrives_paused)
{
	struct world world;
	struct move move;
	const struct migrate_params params = fast();
	world_init(&world);
	(void)usleep(5000);
	world_halt(&world.source);
	move_run(&move, &world, &params);
	move_check_done(&move);
	ck_assert(world.dest.paused && atomic_load(&world.running) == 0);
	world_check_ram(&world.dest);
	world_finish(&world);
}
END_TEST

/* The source never stops when the other side does not suit. */
static void check_refused(int accept, int rehearse, const char *why)
{
	struct world world;
	struct move move;
	const struct migrate_params params = fast();
	world_init(&world);
	world.dest.refuse_accept = accept;
	world.dest.refuse_rehearse = rehearse;
	move_run(&move, &world, &params);
	ck_assert_int_lt(move.source_result, 0);
	ck_assert_msg(strstr(move.source_err.text, why), "%s", move.source_err.text);
	ck_assert(!move.source.stopped);
	move_judge(&move);
	ck_assert_int_eq(move.source.state, SRC_BACK);
	world_finish(&world);
}

START_TEST(what_does_not_suit_is_refused_while_the_guest_runs)
{
	check_refused(-EINVAL, 0, "refuses: cpus.count: 2 here, 1 there");
	check_refused(0, -EINVAL, "refuses: cpu0/msr: a feature is missing");
}
END_TEST

START_TEST(a_disk_of_another_size_is_another_disk)
{
	struct world world;
	struct move move;
	const struct migrate_params params = fast();
	world_init(&world);
	world.source.disk_bytes = 1 << 20;
	world.dest.disk_bytes = 2 << 20;
	move_run(&move, &world, &params);
	ck_assert_int_eq(move.source_result, -EINVAL);
	ck_assert_str_eq(move.source_err.text,
			 "disk1: 1048576 bytes here, 2097152 there: both sides must have the same image "
			 "(block_resize tells the guest of one that has grown)");
	ck_assert(!move.source.stopped && strstr(move.dest_err.text, "disk1: 1048576 bytes here"));
	move_judge(&move);
	world_finish(&world);
}
END_TEST

START_TEST(a_load_that_fails_gives_the_guest_back)
{
	struct world world;
	struct move move;
	const struct migrate_params params = fast();
	world_init(&world);
	world.dest.refuse_load = -ENOMEM;
	move_run(&move, &world, &params);
	ck_assert(strstr(move.source_err.text, "no more memory") && move.source.stopped);
	ck_assert(atomic_load(&world.source.runs));
	move_judge(&move);
	world_finish(&world);
}
END_TEST

static void check_not_begun(const char *uri_text, const struct migrate_params *params, const char *why)
{
	struct world world;
	struct move move = {0};
	struct uri uri;
	struct err err = ERR_INIT;
	world_init(&world);
	ck_assert_int_eq(uri_parse(uri_text ? uri_text : world.uri_text, &uri, &err), 0);
	move_start(&move, &world, &uri, params);
	pthread_join(move.source_thread, NULL);
	ck_assert_int_lt(move.source_result, 0);
	ck_assert_msg(strstr(move.source_err.text, why), "%s", move.source_err.text);
	ck_assert(!move.source.stopped && atomic_load(&world.source.runs));
	source_finish(&move.source);
	world_halt(&world.source);
	world_finish(&world);
}

START_TEST(parameters_that_do_not_go_together_are_refused)
{
	struct migrate_params params = fast();
	params.channels = 2;
	check_not_begun("fd:3", &params, "fd: is one connection; set multifd-channels to 0");
	params = fast();
	params.zero_copy = true;
	check_not_begun(NULL, &params, "zero-copy-send: only over tcp:; set it to false");
	params.zstd_level = 1;
	check_not_begun("tcp:127.0.0.1:1", &params, "zero-copy-send: not with TLS or compression");
	params = fast();
	snprintf(params.tls_creds, sizeof(params.tls_creds), "/etc");
	check_not_begun(NULL, &params, "TLS over something else than tcp: needs tls-hostname");
	check_not_begun("tcp:127.0.0.1:1", &params, "/etc/ca-cert.pem");
}
END_TEST

START_TEST(cancelled_it_runs_on_here)
{
	struct world world;
	struct move move;
	struct migrate_params params = fast();
	struct migrate_info info;
	params.max_bandwidth = 1 << 18; /* 16 seconds for the first round, whatever else the host does */
	world_init(&world);
	move_begin(&move, &world, NULL, &params);
	move_wait_first_pages(&move);
	ck_assert_int_eq(source_cancel(&move.source, &move.dest_err), 0);
	pthread_join(move.source_thread, NULL);
	pthread_join(move.dest_thread, NULL);
	ck_assert_int_eq(source_cancel(&move.source, &(struct err){.code = 0}), -EBUSY);
	source_info(&move.source, &info);
	source_finish(&move.source);
	ck_assert_int_eq(move.source_result, -ECANCELED);
	ck_assert_int_eq(info.status, MIGRATE_CANCELLED);
	ck_assert_uint_lt(info.sent_bytes, WORLD_RAM);
	ck_assert(atomic_load(&world.source.runs));
	move_judge(&move);
	world_finish(&world);
}
END_TEST

START_TEST(a_busy_guest_is_slowed_down)
{
	struct world world;
	struct move move;
	struct migrate_params params = fast();
	params.max_bandwidth = 16 << 20;
	params.downtime_limit_ms = 10;
	params.auto_converge = true;
	world_init(&world);
	atomic_store(&world.source.pace_us, 0);
	move_run(&move, &world, &params);
	ck_assert_msg(move.source_result == 0, "%s", move.source_err.text);
	ck_assert_uint_ge(atomic_load(&world.source.throttled), params.throttle_initial);
	ck_assert_uint_le(atomic_load(&world.source.throttled), params.throttle_max);
	move_judge(&move);
	world_finish(&world);
}
END_TEST

/* What comes before the right one costs nothing but a line in the log. */
START_TEST(strangers_are_sent_away)
{
	struct world world;
	struct move move;
	const struct migrate_params params = fast();
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	static const char *const words[] = {"", "GET / HTTP/1.0\r\n\r\nxxxxxxxxxxxxxxxxxxxxxxxx", "AMIG"};
	world_init(&world);
	move_listen(&move, &world);
	memcpy(address.sun_path, world.path, sizeof(world.path));
	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		int fd = socket(AF_UNIX, SOCK_STREAM, 0);
		ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
		ck_assert_int_eq(write(fd, words[i], strlen(words[i])), (ssize_t)strlen(words[i]));
		close(fd);
	}
	move_start(&move, &world, &world.uri, &params);
	move_wait(&move);
	ck_assert_msg(move.source_result == 0, "%s", move.source_err.text);
	move_judge(&move);
	world_finish(&world);
}
END_TEST

START_TEST(there_and_back)
{
	struct world world;
	const struct migrate_params params = fast();
	world_init(&world);
	for (int i = 0; i < 20; i++) {
		struct move move;
		move_run(&move, &world, &params);
		ck_assert_msg(move.source_result == 0, "%s", move.source_err.text);
		ck_assert(atomic_load(&world.dest.runs));
		world_halt(&world.dest);
		world_check_ram(&world.dest);
		/* The two change places: what is in RAM is what counts. */
		struct guest_memory *memory = world.source.memory;
		uint64_t *kept = guest_memory_at(world.dest.memory, 0, WORLD_RAM);
		memcpy(guest_memory_at(memory, 0, WORLD_RAM), kept, WORLD_RAM);
		memset(kept, 0xaa, WORLD_RAM);
		world.source.gone = world.dest.rehearsed = false;
		atomic_store(&world.disk, &world.source);
		world_go(&world.source);
	}
	world_halt(&world.source);
	world_check_ram(&world.source);
	world_finish(&world);
}
END_TEST

START_TEST(uris)
{
	struct uri uri;
	struct err err;
	static const char *const good[] = {"unix:/a b",	  "tcp:host:1", "tcp::65535",
					   "tcp:[::1]:0", "fd:3",	"exec:cat"};
	static const char *const bad[] = {
		"",	"unix:", "tcp:host", "tcp:host:", "tcp:h:65536", "tcp:::1:4",	   "tcp:[::1:4",
		"fd:2", "fd:x",	 "fd:-1",    "rdma:x",	  "tcp:h:1x",	 "fd:99999999999", "exec:"};
	for (size_t i = 0; i < ARRAY_LEN(good); i++)
		ck_assert_msg(uri_parse(good[i], &uri, &err) == 0, "%s", good[i]);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		err = ERR_INIT;
		ck_assert_msg(uri_parse(bad[i], &uri, &err) == -EINVAL && *err.text, "%s", bad[i]);
	}
	ck_assert_int_eq(uri_parse("tcp:[fe80::1]:4444", &uri, &err), 0);
	ck_assert_str_eq(uri.host, "fe80::1");
	ck_assert_str_eq(uri.port, "4444");
}
END_TEST

TEST_MAIN("flow", a_running_guest_moves, with_packed_pages, over_several_channels, ram_is_handed_over,
	  a_hand_over_that_cannot_be_is_refused, a_side_whose_ram_is_its_own_does_not_hand_it_over,
	  a_hand_over_that_fails_late_leaves_ram_alone, a_paused_guest_arrives_paused,
	  what_does_not_suit_is_refused_while_the_guest_runs, a_disk_of_another_size_is_another_disk,
	  a_load_that_fails_gives_the_guest_back, cancelled_it_runs_on_here,
	  parameters_that_do_not_go_together_are_refused, a_busy_guest_is_slowed_down,
	  strangers_are_sent_away, there_and_back, uris)
