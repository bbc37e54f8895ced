/*
 * Two machines without KVM that share one disk, for tests of the migration between them: RAM is real, a
 * thread is the guest that counts in it, the disk is a lock. What must never be is an abort, wherever it
 * happens.
 */
#ifndef AERIE_TESTS_MIGRATE_WORLD_H
#define AERIE_TESTS_MIGRATE_WORLD_H

#include "../../src/migrate/dest.h"
#include "../../src/migrate/source.h"
#include "base/cleanup.h"
#include "base/layout.h"
#include "harness.h"
#include "memory/handover.h"
#include "scratch.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define WORLD_RAM	 (4 * MIB)
#define WORLD_LOADED_GPA (WORLD_RAM - 64)

/*
 * A failed assertion ends the program: in Check's way (CK_FORK=no) the next test would go on where this one's
 * threads still run on what was its stack.
 */
#undef ck_assert_msg
#undef ck_assert
#define ck_assert(expr)		 ck_assert_msg(expr, "%s", "")
#define ck_assert_msg(expr, ...) ((expr) ? (void)0 : world_failed(__FILE__, __LINE__, #expr, __VA_ARGS__))

__attribute__((noreturn, format(printf, 4, 5))) static inline void
world_failed(const char *file, int line, const char *what, const char *format, ...)
{
	va_list list;
	va_start(list, format);
	fprintf(stderr, "%s:%d: failed: %s: ", file, line, what);
	vfprintf(stderr, format, list);
	fprintf(stderr, "\n");
	va_end(list);
	abort();
}

struct world;

struct machine_rig {
	struct guest guest; /* first: the ops get this */
	struct world *world;
	struct guest_memory *memory;
	const char *name;
	pthread_t thread;
	_Atomic bool runs, quit, busy; /* busy: its guest may be between two writes */
	_Atomic unsigned pace_us;      /* of its guest, between writes */
	_Atomic unsigned throttled;
	_Atomic bool partial; /* pages of its RAM are missing */
	bool rehearsed, gone, in_doubt, paused;
	uint64_t disk_bytes;
	int refuse_accept, refuse_rehearse, refuse_load; /* -errno to answer with */
};

struct world {
	struct machine_rig source, dest;
	_Atomic(struct machine_rig *) disk; /* who has it open; NULL: nobody */
	_Atomic int running;		    /* machines that run */
	char path[64];			    /* of the socket on which the destination listens */
	struct uri uri;
	char uri_text[80];
};

#define MUST(condition)                                                                                      \
	do {                                                                                                 \
		if (!(condition)) {                                                                          \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                      \
			abort();                                                                             \
		}                                                                                            \
	} while (0)

/* The guest: a counter in each of a number of pages; the sequence is in the first, and must go on. */
static inline void *world_guest(void *argument)
{
	struct machine_rig *rig = argument;
	uint64_t *sequence = guest_memory_at(rig->memory, 0, 8);
	while (!atomic_load(&rig->quit)) {
		unsigned us = atomic_load(&rig->pace_us);
		if (us)
			(void)usleep(us);
		atomic_store(&rig->busy, true);
		bool runs = atomic_load(&rig->runs);
		if (runs) {
			uint64_t next = *sequence + 1;
			uint64_t gpa = next % (WORLD_RAM / 2 / 4096) * 4096 + 8;
			MUST(guest_memory_write(rig->memory, gpa, &next, 8) == 0);
			MUST(guest_memory_write(rig->memory, 0, &next, 8) == 0);
		}
		atomic_store(&rig->busy, false);
		if (!runs)
			(void)usleep(200);
	}
	return NULL;
}

/* What the sequence says must be in the pages. */
static inline void world_check_ram(struct machine_rig *rig)
{
	uint64_t last = *(uint64_t *)guest_memory_at(rig->memory, 0, 8), pages = WORLD_RAM / 2 / 4096;
	for (uint64_t n = last < pages ? 1 : last - pages + 1; n <= last; n++) {
		uint64_t *at = guest_memory_at(rig->memory, n % pages * 4096 + 8, 8);
		ck_assert_msg(*at == n, "%s: %lu where %lu was written", rig->name, (unsigned long)*at,
			      (unsigned long)n);
	}
	const uint8_t *rest = guest_memory_at(rig->memory, WORLD_RAM / 2, WORLD_RAM / 2);
	for (size_t i = 0; i < WORLD_RAM / 2; i += 4096)
		ck_assert_msg(rest[i + 7] == (uint8_t)(i >> 12 & 0x7f), "%s: page %zu", rig->name, i >> 12);
}

static inline void world_go(struct machine_rig *rig)
{
	MUST(atomic_load(&rig->world->disk) == rig);
	MUST(atomic_fetch_add(&rig->world->running, 1) == 0); /* never two */
	atomic_store(&rig->runs, true);
}

static inline void world_halt(struct machine_rig *rig)
{
	if (!atomic_exchange(&rig->runs, false))
		return;
	while (atomic_load(&rig->busy))
		(void)usleep(50);
	atomic_fetch_sub(&rig->world->running, 1);
}

static inline struct machine_rig *rig_of(struct guest *guest)
{
	return container_of(guest, struct machine_rig, guest);
}

static inline char *rig_config_text(struct guest *guest, struct err *err)
{
	(void)guest, (void)err;
	return strdup("{\"name\": \"rig\"}");
}

static inline int rig_state(void **ret, size_t *ret_bytes)
{
	*ret = strdup("a state of a machine");
	*ret_bytes = 20;
	return 0;
}

static inline int rig_disks(struct guest *guest, struct wire_disks *ret, struct err *err)
{
	(void)err;
	*ret = (struct wire_disks){.count = 2, .bytes = {4096, rig_of(guest)->disk_bytes}};
	return 0;
}

static inline int rig_peek(struct guest *guest, void **ret, size_t *ret_bytes, struct err *err)
{
	(void)guest, (void)err;
	return rig_state(ret, ret_bytes);
}

static inline int rig_stop(struct guest *guest, bool *ret_running, struct err *err)
{
	struct machine_rig *rig = rig_of(guest);
	(void)err;
	*ret_running = atomic_load(&rig->runs);
	world_halt(rig);
	MUST(atomic_exchange(&rig->world->disk, NULL) == rig);
	return 0;
}

static inline int rig_save(struct guest *guest, void **ret, size_t *ret_bytes, struct err *err)
{
	(void)err;
	MUST(!atomic_load(&rig_of(guest)->runs));
	return rig_state(ret, ret_bytes);
}

static inline int rig_take_disk(struct machine_rig *rig, struct err *err)
{
	struct machine_rig *nobody = NULL;
	if (!atomic_compare_exchange_strong(&rig->world->disk, &nobody, rig))
		return err_set(err, -EBUSY, "%s: the disk is in use", rig->name);
	return 0;
}

static inline int rig_back(struct guest *guest, bool running, struct err *err)
{
	struct machine_rig *rig = rig_of(guest);
	int r = rig_take_disk(rig, err);
	if (r == 0 && running)
		world_go(rig);
	return r;
}

static inline void rig_gone(struct guest *guest, bool in_doubt)
{
	rig_of(guest)->gone = true;
	rig_of(guest)->in_doubt = in_doubt;
}

static inline void rig_throttle(struct guest *guest, unsigned percent)
{
	struct machine_rig *rig = rig_of(guest);
	if (percent > atomic_load(&rig->throttled))
		atomic_store(&rig->throttled, percent);
	if (percent)
		atomic_store(&rig->pace_us, percent * 10);
}

static inline int rig_accept(struct guest *guest, const char *config, size_t bytes, struct err *err)
{
	MUST(bytes == strlen(config));
	int r = rig_of(guest)->refuse_accept;
	return r ? err_set(err, r, "cpus.count: 2 here, 1 there") : 0;
}

static inline int rig_rehearse(struct guest *guest, const void *state, size_t bytes, struct err *err)
{
	struct machine_rig *rig = rig_of(guest);
	MUST(atomic_load(&rig->world->disk) != rig);
	rig->rehearsed = true;
	/* What loading a state on trial writes is nobody's. */
	static const uint8_t junk[64] = {0xde, 0xad};
	MUST(guest_memory_write(rig->memory, 0, junk, sizeof(junk)) == 0);
	if (rig->refuse_rehearse)
		return err_set(err, rig->refuse_rehearse, "cpu0/msr: a feature is missing");
	return bytes == 20 && memcmp(state, "a state of a machine", 20) == 0
		       ? 0
		       : err_set(err, -EINVAL, "not a state");
}

static inline int rig_partial(struct guest *guest, bool partial, struct err *err)
{
	(void)err;
	atomic_store(&rig_of(guest)->partial, partial);
	return 0;
}

static inline int rig_load(struct guest *guest, const void *state, size_t bytes, struct err *err)
{
	struct machine_rig *rig = rig_of(guest);
	MUST(rig->rehearsed);
	int r = rig_take_disk(rig, err);
	if (r == 0 && rig->refuse_load)
		r = err_set(err, rig->refuse_load, "no more memory");
	/* Loading writes to RAM, too: the guest sees that where it goes on, and nowhere else. */
	MUST(guest_memory_write(rig->memory, WORLD_LOADED_GPA, "loaded", 6) == 0);
	return r < 0 || memcmp(state, "a state of a machine", bytes) == 0 ? r
									  : err_set(err, -EINVAL, "state");
}

static inline int rig_run(struct guest *guest, bool running, struct err *err)
{
	(void)err;
	rig_of(guest)->paused = !running;
	if (running)
		world_go(rig_of(guest));
	return 0;
}

static const struct guest_ops rig_ops = {
	.disks = rig_disks,
	.config = rig_config_text,
	.peek = rig_peek,
	.stop = rig_stop,
	.save = rig_save,
	.back = rig_back,
	.gone = rig_gone,
	.throttle = rig_throttle,
	.accept = rig_accept,
	.rehearse = rig_rehearse,
	.partial = rig_partial,
	.load = rig_load,
	.run = rig_run,
};

static inline void machine_rig_init(struct machine_rig *rig, struct world *world, const char *name,
				    bool shared)
{
	const struct memory_config config = {.size_bytes = WORLD_RAM, .shared = shared};
	struct err err = ERR_INIT;
	rig->world = world;
	rig->name = name;
	ck_assert_int_eq(guest_memory_create(&config, &rig->memory, &err), 0);
	rig->guest = (struct guest){&rig_ops, rig->memory};
	ck_assert_int_eq(pthread_create(&rig->thread, NULL, world_guest, rig), 0);
}

static inline void machine_rig_finish(struct machine_rig *rig)
{
	atomic_store(&rig->quit, true);
	pthread_join(rig->thread, NULL);
	guest_memory_destroy(rig->memory);
}

/* The source runs. Shared: RAM can be handed over. */
static inline void world_init_ram(struct world *world, bool shared)
{
	static unsigned number;
	struct err err = ERR_INIT;
	memset(world, 0, sizeof(*world));
	machine_rig_init(&world->source, world, "source", shared);
	machine_rig_init(&world->dest, world, "destination", shared);
	atomic_store(&world->source.pace_us, 100);
	uint8_t *rest = guest_memory_at(world->source.memory, WORLD_RAM / 2, WORLD_RAM / 2);
	for (size_t i = 0; i < WORLD_RAM / 2; i += 4096)
		rest[i + 7] = (uint8_t)(i >> 12 & 0x7f); /* every 128th page is zero */
	/* What the destination had before must not show through. */
	memset(guest_memory_at(world->dest.memory, 0, WORLD_RAM), 0x55, WORLD_RAM);
	char name[32];
	(void)snprintf(name, sizeof(name), "migrate-%d-%u", getpid(), number++);
	scratch_path(world->path, sizeof(world->path), name);
	snprintf(world->uri_text, sizeof(world->uri_text), "unix:%s", world->path);
	ck_assert_int_eq(uri_parse(world->uri_text, &world->uri, &err), 0);
	atomic_store(&world->disk, &world->source);
	world_go(&world->source);
}

static inline void world_init(struct world *world)
{
	world_init_ram(world, false);
}

static inline void world_finish(struct world *world)
{
	machine_rig_finish(&world->source);
	machine_rig_finish(&world->dest);
	unlink(world->path);
}

#endif
