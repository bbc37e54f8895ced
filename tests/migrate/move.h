/* A migration between the two machines of a world: begun, waited for, and judged by where the guest is. */
#ifndef AERIE_TESTS_MIGRATE_MOVE_H
#define AERIE_TESTS_MIGRATE_MOVE_H

#include "world.h"

struct move {
	struct world *world;
	struct source source;
	struct dest dest;
	struct err source_err, dest_err;
	int source_result, dest_result;
	pthread_t dest_thread, source_thread;
	struct migrate_info info; /* of the source at the end, set by move_wait */
};

static inline void *move_dest(void *argument)
{
	struct move *move = argument;
	move->dest_result = dest_begin(&move->dest, &move->dest_err);
	move->dest.guest = &move->world->dest.guest;
	if (move->dest_result == 0)
		move->dest_result = dest_run(&move->dest, &move->dest_err);
	/* What aerie does: a destination that failed ends, and its disks are free. */
	if (move->dest_result < 0) {
		struct machine_rig *self = &move->world->dest;
		(void)atomic_compare_exchange_strong(&move->world->disk, &self, NULL);
	}
	dest_finish(&move->dest);
	return NULL;
}

static inline void *move_source(void *argument)
{
	struct move *move = argument;
	move->source_result = source_run(&move->source, &move->source_err);
	return NULL;
}

/* The destination waits for a source. */
static inline void move_listen(struct move *move, struct world *world)
{
	*move = (struct move){.world = world, .dest_err = ERR_INIT};
	int r = dest_init(&move->dest, &world->uri, NULL, &move->dest_err);
	ck_assert_msg(r == 0, "%s", move->dest_err.text);
	move->dest.timeout_ms = 10000; /* on a busy host a side may be silent for a while */
	ck_assert_int_eq(pthread_create(&move->dest_thread, NULL, move_dest, move), 0);
}

/* A source that does nothing yet. */
static inline void move_prepare(struct move *move, struct world *world, const struct uri *uri,
				const struct migrate_params *params)
{
	struct err *err = &move->source_err;
	*err = ERR_INIT;
	ck_assert_int_eq(source_init(&move->source, &world->source.guest, uri, params, err), 0);
}

/* A source; whoever is behind `uri` need not be waiting for it. */
static inline void move_start(struct move *move, struct world *world, const struct uri *uri,
			      const struct migrate_params *params)
{
	move_prepare(move, world, uri, params);
	ck_assert_int_eq(pthread_create(&move->source_thread, NULL, move_source, move), 0);
}

/* Both; `uri` leads to the destination, NULL: straight. */
static inline void move_begin(struct move *move, struct world *world, const struct uri *uri,
			      const struct migrate_params *params)
{
	move_listen(move, world);
	move_start(move, world, uri ? uri : &world->uri, params);
}

static inline void move_wait_first_pages(struct move *move)
{
	struct migrate_info info;
	do {
		(void)usleep(1000);
		source_info(&move->source, &info);
	} while (info.status != MIGRATE_ACTIVE || info.sent_bytes == 0);
}

static inline void move_wait(struct move *move)
{
	pthread_join(move->source_thread, NULL);
	pthread_join(move->dest_thread, NULL);
	source_info(&move->source, &move->info);
	source_finish(&move->source);
}

/* From its beginning to its end, whichever that is. */
static inline void move_run(struct move *move, struct world *world, const struct migrate_params *params)
{
	move_begin(move, world, NULL, params);
	move_wait(move);
}

/* Both sides say that all went well. */
static inline void move_check_done(const struct move *move)
{
	ck_assert_msg(move->source_result == 0, "%s", move->source_err.text);
	ck_assert_msg(move->dest_result == 0, "%s", move->dest_err.text);
}

/* Both ends, and what may be: one runs, whole, or none because RUN was lost on its way. */
static inline void move_judge(struct move *move)
{
	struct world *world = move->world;
	bool at_source = atomic_load(&world->source.runs), at_dest = atomic_load(&world->dest.runs);
	ck_assert_msg(at_source + at_dest <= 1, "both run");
	/* RAM that was given away, or may have been, is out of the source's reach; else it has kept it. */
	bool given = move->source.state == SRC_DONE || move->source.state == SRC_DOUBT;
	ck_assert_int_eq(handover_left(world->source.memory),
			 given && move->source.params.mode == MIGRATE_MODE_LOCAL);
	if (at_dest) {
		world_halt(&world->dest);
		world_check_ram(&world->dest);
		ck_assert_str_eq(guest_memory_at(world->dest.memory, WORLD_LOADED_GPA, 7), "loaded");
		ck_assert(move->source.state == SRC_DONE || move->source.state == SRC_DOUBT);
		ck_assert_ptr_eq(atomic_load(&world->disk), &world->dest);
	} else if (at_source) {
		world_halt(&world->source);
		world_check_ram(&world->source);
		ck_assert_str_eq(guest_memory_at(world->source.memory, WORLD_LOADED_GPA, 7), "");
		ck_assert_int_eq(move->source.state, SRC_BACK);
		ck_assert_ptr_eq(atomic_load(&world->disk), &world->source);
	} else {
		ck_assert_msg(move->source.state == SRC_DOUBT, "nobody runs: %s, %s: %s",
			      protocol_states[move->source.state].name, move->source_err.text,
			      move->dest_err.text);
	}
}

#endif
