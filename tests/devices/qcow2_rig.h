/*
 * A guest that writes to a disk at random and knows, sector by sector, what it must read: the versions of
 * qcow2_files.h. It never has two requests on one sector at a time, so that the versions of a sector have an
 * order.
 */
#ifndef AERIE_TESTS_DEVICES_QCOW2_RIG_H
#define AERIE_TESTS_DEVICES_QCOW2_RIG_H

#include "qcow2_files.h"

enum { GUEST_DEPTH = 16, GUEST_IOVS = 5 };

struct version {
	uint32_t number;
	bool failed;		  /* may be there or not, or half */
	bool fua;		  /* is durable when it is done */
	uint64_t submitted, done; /* by the guest's clock; done UINT64_MAX: not yet */
	struct version *older;
};

struct guest_flush {
	uint64_t submitted, done;
	struct guest_flush *older;
};

struct guest;

struct guest_op {
	struct guest *guest;
	struct block_request request;
	struct iovec iov[GUEST_IOVS];
	uint8_t *data;
	size_t data_bytes;
	bool busy;
	bool rereads; /* what a discard left */
	uint64_t first, count;
	uint64_t submitted;
};

struct guest {
	struct loop *loop;
	struct block *block;
	uint64_t sectors;
	uint64_t seed;
	uint64_t cluster_sectors; /* 0: no aligned requests */
	bool whole_discards;	  /* only of whole clusters: they read as zeros then */
	bool no_discards;
	uint64_t *clock; /* shared with the disk below */
	uint64_t own_clock;
	struct version **versions; /* of each sector, the newest first */
	uint32_t next_version;
	unsigned to_do, in_flight, errors;
	struct guest_flush *flushes; /* that succeeded, the last first */
	unsigned flush_every;	     /* one of so many requests; 0: never */
	unsigned fua_every;	     /* one of so many changes */
	struct guest_op ops[GUEST_DEPTH];
	/* Memory that outlives the process that writes; NULL: the heap's. */
	uint8_t *arena;
	size_t arena_used, arena_bytes;
};

static inline void *guest_alloc(struct guest *guest, size_t bytes)
{
	if (!guest->arena) {
		void *data = calloc(1, bytes);
		ck_assert_ptr_nonnull(data);
		return data;
	}
	void *data = guest->arena + guest->arena_used;
	guest->arena_used += (bytes + 15) & ~(size_t)15;
	if (guest->arena_used > guest->arena_bytes)
		abort();
	return data;
}

static inline void guest_init(struct guest *guest, uint64_t bytes, uint64_t seed)
{
	*guest = (struct guest){.sectors = bytes / SECTOR,
				.seed = seed * 2654435761U + 1,
				.next_version = 2,
				.flush_every = 10,
				.fua_every = 16,
				.cluster_sectors = 128};
	guest->clock = &guest->own_clock;
	guest->versions = calloc(guest->sectors, sizeof(struct version *));
	ck_assert_ptr_nonnull(guest->versions);
	struct err err = ERR_INIT;
	ck_assert_msg(loop_create(64, &guest->loop, &err) == 0, "%s", err.text);
}

static inline void guest_finish(struct guest *guest)
{
	for (uint64_t i = 0; i < guest->sectors; i++) {
		for (struct version *v = guest->versions[i]; v;) {
			struct version *older = v->older;
			free(v);
			v = older;
		}
	}
	for (int i = 0; i < GUEST_DEPTH; i++)
		free(guest->ops[i].data);
	free(guest->versions);
	while (guest->flushes) {
		struct guest_flush *older = guest->flushes->older;
		free(guest->flushes);
		guest->flushes = older;
	}
	loop_destroy(guest->loop);
}

static inline uint32_t current_version(const struct guest *guest, uint64_t sector)
{
	return guest->versions[sector] ? guest->versions[sector]->number : 0;
}

/* May the sector hold this, if the world ended at `at`? */
static inline bool may_hold(const struct guest *guest, uint64_t sector, uint32_t number, uint64_t at,
			    uint64_t flushed)
{
	for (const struct version *v = guest->versions[sector]; v; v = v->older) {
		if (v->submitted > at)
			continue;
		if (v->number == number || v->failed)
			return true;
		if (v->done <= flushed || (v->fua && v->done <= at))
			return false;
	}
	return number == 0;
}

static inline void push_version(struct guest *guest, uint64_t sector, uint32_t number)
{
	struct version *v = guest_alloc(guest, sizeof(*v));
	*v = (struct version){.number = number,
			      .submitted = *guest->clock,
			      .done = UINT64_MAX,
			      .older = guest->versions[sector]};
	guest->versions[sector] = v;
}

/* All of the disk is already this: version 1, or zeros. */
static inline void guest_starts_with(struct guest *guest, uint64_t sectors, uint32_t number)
{
	for (uint64_t i = 0; i < sectors && i < guest->sectors; i++) {
		push_version(guest, i, number);
		guest->versions[i]->done = 0;
	}
}

static inline void check_read(struct guest *guest, const struct guest_op *op)
{
	for (uint64_t i = 0; i < op->count; i++) {
		uint64_t sector = op->first + i;
		uint32_t found = sector_version(op->data + i * SECTOR, sector);
		struct version *v = guest->versions[sector];
		if (v && v->failed)
			continue;
		if (op->rereads && found == 0 && current_version(guest, sector) != 0) {
			push_version(guest, sector, 0);
			guest->versions[sector]->done = *guest->clock;
			continue;
		}
		ck_assert_msg(found == current_version(guest, sector),
			      "sector %llu: read version %u, wrote %u", (unsigned long long)sector, found,
			      current_version(guest, sector));
	}
}

static inline void guest_go(struct guest *guest);

static inline void set_iov(struct guest_op *op)
{
	size_t bytes = (size_t)op->count * SECTOR;
	unsigned n = (unsigned)random_below(&op->guest->seed, GUEST_IOVS) + 1;
	size_t at = 0;
	if (op->data_bytes < bytes) {
		free(op->data);
		op->data = malloc(bytes);
		ck_assert_ptr_nonnull(op->data);
		op->data_bytes = bytes;
	}
	for (unsigned i = 0; i < n; i++) {
		size_t len = i == n - 1 ? bytes - at : bytes / n / SECTOR * SECTOR;
		op->iov[i] = (struct iovec){op->data + at, len};
		at += len;
	}
	op->request.iov = op->iov;
	op->request.iov_count = n;
	op->request.bytes = bytes;
}

static inline void note_flush(struct guest *guest, uint64_t submitted)
{
	struct guest_flush *flush = guest_alloc(guest, sizeof(*flush));
	*flush = (struct guest_flush){submitted, *guest->clock, guest->flushes};
	guest->flushes = flush;
}

/* What was done before this is durable if the world ends at `at`. */
static inline uint64_t flushed_until(const struct guest *guest, uint64_t at)
{
	uint64_t until = 0;
	for (const struct guest_flush *flush = guest->flushes; flush; flush = flush->older) {
		if (flush->done <= at && flush->submitted > until)
			until = flush->submitted;
	}
	return until;
}

static inline bool changes(enum block_command command)
{
	return command == BLOCK_WRITE || command == BLOCK_WRITE_ZEROES;
}

static inline void op_done(struct block_request *request, int res)
{
	struct guest_op *op = container_of(request, struct guest_op, request);
	struct guest *guest = op->guest;
	bool discard = request->command == BLOCK_DISCARD;
	++*guest->clock;
	guest->errors += res < 0;
	for (uint64_t i = 0; i < op->count; i++) {
		struct version *v = guest->versions[op->first + i];
		if (changes(request->command) || (discard && guest->whole_discards)) {
			v->done = *guest->clock;
			v->failed = res < 0;
			v->fua = request->fua;
		}
	}
	if (request->command == BLOCK_READ && res == 0)
		check_read(guest, op);
	if (request->command == BLOCK_FLUSH && res == 0)
		note_flush(guest, op->submitted);
	if (discard && res == 0 && !guest->whole_discards) {
		op->rereads = true;
		op->request = (struct block_request){
			.command = BLOCK_READ, .offset = op->first * SECTOR, .done = op_done};
		set_iov(op);
		block_submit(guest->block, &op->request);
		return;
	}
	op->busy = false;
	guest->in_flight--;
	guest_go(guest);
}

/* A range that nobody else is at; false: no luck. */
static inline bool choose_range(struct guest *guest, struct guest_op *op)
{
	uint64_t *seed = &guest->seed;
	op->first = random_below(seed, guest->sectors);
	op->count = random_below(seed, 16) + 1;
	uint64_t kind = random_below(seed, 8);
	uint64_t cluster = guest->cluster_sectors;
	if (kind == 0)
		op->count = random_below(seed, 400) + 1;
	if ((kind == 1 || op->request.command == BLOCK_DISCARD) && cluster) {
		op->first -= op->first % cluster;
		op->count = cluster * (random_below(seed, 4) + 1);
	}
	if (op->count > guest->sectors - op->first)
		op->count = guest->sectors - op->first;
	for (int i = 0; i < GUEST_DEPTH; i++) {
		const struct guest_op *other = &guest->ops[i];
		if (other->busy && op->first < other->first + other->count &&
		    other->first < op->first + op->count)
			return false;
	}
	return true;
}

static inline enum block_command choose_command(struct guest *guest)
{
	static const enum block_command some[] = {BLOCK_READ,  BLOCK_READ,    BLOCK_READ,
						  BLOCK_WRITE, BLOCK_WRITE,   BLOCK_WRITE,
						  BLOCK_WRITE, BLOCK_DISCARD, BLOCK_WRITE_ZEROES};
	if (guest->flush_every && random_below(&guest->seed, guest->flush_every) == 0)
		return BLOCK_FLUSH;
	enum block_command command = some[random_below(&guest->seed, ARRAY_LEN(some))];
	return command == BLOCK_DISCARD && guest->no_discards ? BLOCK_WRITE : command;
}

static inline void start_op(struct guest *guest, struct guest_op *op)
{
	op->guest = guest;
	op->rereads = false;
	op->request = (struct block_request){.command = choose_command(guest), .done = op_done};
	struct block_request *request = &op->request;
	op->first = op->count = 0;
	if (request->command != BLOCK_FLUSH && !choose_range(guest, op)) {
		op->count = 0;
		request->command = BLOCK_FLUSH;
		if (!guest->flush_every)
			return;
	}
	op->submitted = ++*guest->clock;
	request->offset = op->first * SECTOR;
	request->bytes = op->count * SECTOR;
	request->unmap = random_below(&guest->seed, 2);
	request->fua = changes(request->command) && random_below(&guest->seed, guest->fua_every) == 0;
	bool zeroes = request->command == BLOCK_WRITE_ZEROES ||
		      (request->command == BLOCK_DISCARD && guest->whole_discards);
	if (request->command == BLOCK_READ || request->command == BLOCK_WRITE)
		set_iov(op);
	uint32_t number = zeroes ? 0 : guest->next_version++;
	for (uint64_t i = 0; i < op->count; i++) {
		if (request->command == BLOCK_WRITE)
			stamp_sector(op->data + i * SECTOR, number, op->first + i);
		if (request->command == BLOCK_WRITE || zeroes)
			push_version(guest, op->first + i, number);
	}
	op->busy = true;
	guest->in_flight++;
	block_submit(guest->block, request);
}

static inline void guest_go(struct guest *guest)
{
	for (int i = 0; i < GUEST_DEPTH && guest->to_do; i++) {
		if (!guest->ops[i].busy) {
			guest->to_do--;
			start_op(guest, &guest->ops[i]);
		}
	}
	if (guest->in_flight == 0)
		loop_quit(guest->loop);
}

static inline void guest_run(struct guest *guest, unsigned requests)
{
	guest->to_do = requests;
	guest_go(guest);
	ck_assert_int_eq(loop_run(guest->loop), 0);
	ck_assert_uint_eq(guest->in_flight, 0);
}

/* Every sector, read through the backend. */
static inline void guest_read_all(struct guest *guest)
{
	enum { AT_ONCE = 1024 };
	static uint8_t data[AT_ONCE * SECTOR];
	for (uint64_t at = 0; at < guest->sectors; at += AT_ONCE) {
		uint64_t n = guest->sectors - at < AT_ONCE ? guest->sectors - at : AT_ONCE;
		ck_assert_int_eq(
			do_request(guest->loop, guest->block, BLOCK_READ, data, at * SECTOR, n * SECTOR), 0);
		const struct guest_op all = {.data = data, .first = at, .count = n};
		check_read(guest, &all);
	}
}

/* A raw file of what the guest must see, or of version 1 everywhere. */
static inline void write_raw(const struct guest *guest, const char *name, bool start)
{
	char path[512];
	uint8_t data[SECTOR];
	(void)snprintf(path, sizeof(path), "%s/%s", test_folder(), name);
	FILE *file = fopen(path, "we");
	ck_assert_ptr_nonnull(file);
	for (uint64_t i = 0; i < guest->sectors; i++) {
		stamp_sector(data, start ? 1 : current_version(guest, i), i);
		ck_assert_uint_eq(fwrite(data, SECTOR, 1, file), 1);
	}
	ck_assert_int_eq(fclose(file), 0);
}

#endif
