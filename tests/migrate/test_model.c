/*
 * The protocol walked through exhaustively: both sides do whatever the table allows, in every order; at every
 * point the connection may break, with any part of what is under way lost, either side may give up, and
 * either may crash. Never do both run or have the disks open, and without a crash the machine is not lost but
 * in the one case that the table names.
 */
#include "../../src/migrate/protocol.h"
#include "base/cleanup.h"
#include "harness.h"

#include <stdio.h>
#include <string.h>

enum { QUEUE = 3 };

/* On a type in a queue: PAGES with the last one that was missing; RESUMED that told of missing ones. */
enum { MARK = 0x80 };

struct queue {
	uint8_t count;
	uint8_t type[QUEUE]; /* oldest first */
};

/* One state of the world. No padding: worlds are compared as bytes. */
struct world {
	uint8_t source, dest;
	uint8_t source_dead, dest_dead, cut;
	uint8_t unsent;	  /* the source knows that RUN has not left */
	uint8_t gave;	  /* RUN was sent, whether it left or not */
	uint8_t has_back; /* SRC_BACK: its disks are its own again, the guest runs */
	uint8_t owes;	  /* post-copy: not all pages have left the source */
	uint8_t lacks;	  /* ... and not all have arrived */
	struct queue down, up;
};

struct model {
	const struct protocol_row *rows;
	size_t row_count;
	struct world *worlds;
	size_t count, capacity;
	uint32_t *table; /* index + 1; open addressing */
	size_t table_size;
	size_t resumed;
	size_t ends[4]; /* nobody runs and nobody crashed; source; dest; somebody crashed */
	const char *broken;
	struct world at;
};

static uint32_t hash(const struct world *world)
{
	const uint8_t *bytes = (const uint8_t *)world;
	uint32_t h = 2166136261U;
	for (size_t i = 0; i < sizeof(*world); i++)
		h = (h ^ bytes[i]) * 16777619U;
	return h;
}

static void rehash(struct model *model)
{
	model->table_size = model->table_size ? 2 * model->table_size : 1 << 12;
	free(model->table);
	model->table = calloc(model->table_size, sizeof(*model->table));
	for (size_t i = 0; i < model->count; i++) {
		size_t at = hash(&model->worlds[i]) & (model->table_size - 1);
		while (model->table[at])
			at = (at + 1) & (model->table_size - 1);
		model->table[at] = (uint32_t)i + 1;
	}
}

static void add(struct model *model, const struct world *world)
{
	if (2 * (model->count + 1) > model->table_size)
		rehash(model);
	size_t at = hash(world) & (model->table_size - 1);
	for (; model->table[at]; at = (at + 1) & (model->table_size - 1))
		if (memcmp(&model->worlds[model->table[at] - 1], world, sizeof(*world)) == 0)
			return;
	if (model->count == model->capacity) {
		model->capacity = model->capacity ? 2 * model->capacity : 1024;
		model->worlds = realloc(model->worlds, model->capacity * sizeof(*world));
		ck_assert_ptr_nonnull(model->worlds);
	}
	model->worlds[model->count++] = *world;
	model->table[at] = (uint32_t)model->count;
}

/* ---- what is true of a world ---- */

static bool source_has_disks(const struct world *w)
{
	if (w->source_dead)
		return false;
	return w->source == SRC_BACK ? w->has_back : protocol_states[w->source].disks;
}

static bool dest_has_disks(const struct world *w)
{
	return !w->dest_dead && protocol_states[w->dest].disks;
}

static bool source_runs(const struct world *w)
{
	return protocol_states[w->source].runs && source_has_disks(w);
}

static bool dest_runs(const struct world *w)
{
	return !w->dest_dead && protocol_states[w->dest].runs;
}

static bool has_given(unsigned state)
{
	return state == SRC_GIVEN || state == SRC_DONE || state == SRC_DOUBT ||
	       (state >= SRC_LATE_GIVEN && state <= SRC_DOUBT_RESUME);
}

static void check(struct model *model, const struct world *w)
{
	const char *broken = NULL;
	if (source_runs(w) && dest_runs(w))
		broken = "both run";
	else if (source_has_disks(w) && dest_has_disks(w))
		broken = "both have the disks";
	else if (dest_runs(w) && !w->source_dead && !has_given(w->source))
		broken = "the destination runs without the source's leave";
	else if (w->lacks && (w->dest == DST_DONE || w->dest == DST_COMPLETE || w->source == SRC_DONE))
		broken = "done, and pages are missing";
	if (broken && !model->broken) {
		model->broken = broken;
		model->at = *w;
	}
}

/* ---- what can happen next ---- */

static int step(const struct model *model, unsigned state, enum protocol_what what, unsigned type)
{
	for (size_t i = 0; i < model->row_count; i++) {
		const struct protocol_row *row = &model->rows[i];
		if (row->from == state && row->what == what && row->type == type)
			return (int)row->to;
	}
	return -1;
}

/* The connection breaks: of what is under way any beginning still arrives. */
static void cut(struct model *model, const struct world *w)
{
	struct world next = *w;
	next.cut = 1;
	for (unsigned down = 0; down <= w->down.count; down++)
		for (unsigned up = 0; up <= w->up.count; up++) {
			next.down = (struct queue){.count = (uint8_t)down};
			next.up = (struct queue){.count = (uint8_t)up};
			memcpy(next.down.type, w->down.type, down);
			memcpy(next.up.type, w->up.type, up);
			add(model, &next);
		}
}

static void crash(struct model *model, const struct world *w, bool source)
{
	struct world next = *w;
	if (source)
		next.source_dead = 1;
	else
		next.dest_dead = 1;
	cut(model, &next);
}

/* A new connection: the other side listens for one only while it is paused, and what was on its way is gone.
 */
static void reconnect(struct model *model, const struct world *w, const struct protocol_row *row)
{
	struct world next = *w;
	if (!w->cut || w->dest_dead || w->dest != DST_PAUSED)
		return;
	next.source = (uint8_t)row->to;
	next.cut = 0;
	next.up = (struct queue){.count = 0};
	next.down = (struct queue){.count = 1, .type = {WIRE_RESUME}};
	add(model, &next);
}

static void send_marked(struct model *model, const struct world *w, bool source,
			const struct protocol_row *row, unsigned mark)
{
	struct world next = *w;
	struct queue *queue = source ? &next.down : &next.up;
	*(source ? &next.source : &next.dest) = (uint8_t)row->to;
	if (row->type == WIRE_RUN)
		next.gave = 1;
	if (row->to == SRC_LATE_STATE && row->type == WIRE_STATE)
		next.owes = 1;
	if (source && mark)
		next.owes = 0;
	struct world lost = next; /* part of it has left, or none: the other side never gets it */
	cut(model, &lost);
	if (source && row->type == WIRE_RUN) {
		lost.unsent = 1;
		cut(model, &lost);
	}
	if (!w->cut && queue->count < QUEUE) {
		queue->type[queue->count++] = (uint8_t)(row->type | mark);
		add(model, &next);
	}
}

static void send(struct model *model, const struct world *w, bool source, const struct protocol_row *row)
{
	if (row->type == WIRE_RESUME) {
		reconnect(model, w, row);
		return;
	}
	if (row->type == WIRE_COMPLETE && w->owes)
		return;
	if (row->type == WIRE_PAGES && w->owes)
		send_marked(model, w, source, row, MARK);
	send_marked(model, w, source, row, row->type == WIRE_RESUMED && w->lacks ? MARK : 0);
}

static void get(struct model *model, const struct world *w, bool source)
{
	struct world next = *w;
	struct queue *queue = source ? &next.up : &next.down;
	uint8_t *state = source ? &next.source : &next.dest;
	if (queue->count == 0)
		return;
	unsigned type = queue->type[0] & ~(unsigned)MARK, mark = queue->type[0] & MARK;
	queue->count--;
	memmove(queue->type, queue->type + 1, QUEUE - 1);
	queue->type[QUEUE - 1] = 0;
	int to = step(model, *state, PROTOCOL_GETS, type);
	if (to < 0)
		return; /* a message that is not allowed: as a loss, which every state tries anyway */
	bool refused = !source && protocol_states[to].disks && source_has_disks(w);
	*state = refused ? DST_OVER : (uint8_t)to; /* the source's lock is in the way */
	if (to == DST_LATE_STATE && type == WIRE_STATE)
		next.lacks = 1;
	if (!source && mark)
		next.lacks = 0;
	if (source && type == WIRE_RESUMED)
		next.owes = mark != 0;
	add(model, &next);
}

/* Gives up, for whatever reason; what it says about that is the end of the connection. */
static void lose(struct model *model, const struct world *w, bool source)
{
	struct world next = *w;
	uint8_t *state = source ? &next.source : &next.dest;
	if (source && w->unsent) {
		int to = step(model, *state, PROTOCOL_UNSENT, 0);
		if (to >= 0) {
			next.source = (uint8_t)to;
			cut(model, &next);
		}
		return;
	}
	int to = step(model, *state, PROTOCOL_LOST, 0);
	if (!source && !w->lacks && step(model, *state, PROTOCOL_WHOLE, 0) >= 0)
		to = step(model, *state, PROTOCOL_WHOLE, 0);
	if (to < 0)
		return;
	*state = (uint8_t)to;
	cut(model, &next);
}

static void expand_side(struct model *model, const struct world *w, bool source)
{
	unsigned state = source ? w->source : w->dest;
	for (size_t i = 0; i < model->row_count; i++) {
		const struct protocol_row *row = &model->rows[i];
		if (row->from != state)
			continue;
		if (row->what == PROTOCOL_SENDS)
			send(model, w, source, row);
		if (row->what == PROTOCOL_STOPS) {
			struct world next = *w;
			next.source = (uint8_t)row->to;
			add(model, &next);
		}
	}
	get(model, w, source);
	lose(model, w, source);
	crash(model, w, source);
}

/* Waits for a new connection, which comes only if the other side waits, too. */
static bool waits(unsigned state)
{
	return state == SRC_PAUSED || state == SRC_LATE_DOUBT || state == DST_PAUSED;
}

static bool is_end(const struct world *w)
{
	bool source = w->source_dead || waits(w->source) ||
		      (protocol_states[w->source].ends && (w->source != SRC_BACK || w->has_back));
	bool dest = w->dest_dead || protocol_states[w->dest].ends || (waits(w->dest) && w->source_dead);
	return source && dest;
}

static void expand(struct model *model, struct world w)
{
	check(model, &w);
	if (is_end(&w)) {
		bool crashed = w.source_dead || w.dest_dead;
		model->ends[source_runs(&w) ? 1 : dest_runs(&w) ? 2 : crashed ? 3 : 0]++;
		bool known =
			w.gave && (w.source == SRC_DOUBT || w.source == SRC_LATE_DOUBT) && w.dest == DST_OVER;
		if (!source_runs(&w) && !dest_runs(&w) && !crashed && !known && !model->broken) {
			model->broken = "nobody runs";
			model->at = w;
		}
	}
	/* Who lacks pages finds whoever has them. */
	if (w.lacks && !w.source_dead && dest_runs(&w) && protocol_states[w.source].ends && !model->broken) {
		model->broken = "the pages are gone";
		model->at = w;
	}
	if (!w.source_dead && !w.dest_dead && waits(w.source) && waits(w.dest) && !model->broken &&
	    step(model, w.source, PROTOCOL_SENDS, WIRE_RESUME) < 0) {
		model->broken = "paused for ever";
		model->at = w;
	}
	model->resumed += w.gave && w.dest == DST_POSTCOPY && w.source == SRC_POSTCOPY && w.lacks;
	if (!w.cut)
		cut(model, &w);
	if (!w.source_dead) {
		expand_side(model, &w, true);
		if (w.source == SRC_BACK && !w.has_back && !dest_has_disks(&w)) {
			struct world next = w;
			next.has_back = 1;
			add(model, &next);
		}
	}
	if (!w.dest_dead)
		expand_side(model, &w, false);
}

static void walk(struct model *model, const struct protocol_row *rows, size_t row_count)
{
	*model = (struct model){.rows = rows, .row_count = row_count};
	add(model, &(struct world){.source = SRC_START, .dest = DST_START});
	for (size_t i = 0; i < model->count; i++)
		expand(model, model->worlds[i]);
	free(model->worlds);
	free(model->table);
}

START_TEST(never_two_and_never_none)
{
	struct model model;
	walk(&model, protocol_rows, protocol_row_count);
	ck_assert_msg(!model.broken, "%s: %s, %s", model.broken, protocol_states[model.at.source].name,
		      protocol_states[model.at.dest].name);
	/* Every kind of end was reached, so the walk went to the end of things. */
	for (size_t i = 0; i < ARRAY_LEN(model.ends); i++)
		ck_assert_uint_gt(model.ends[i], 0);
	ck_assert_uint_gt(model.resumed, 0);
	ck_assert_uint_gt(model.count, 5000);
	printf("%zu states of the two\n", model.count);
}
END_TEST

/* The walk sees it when a row is wrong. */
static const char *broken_with(enum protocol_state from, enum protocol_what what, unsigned type,
			       enum protocol_state to)
{
	static struct protocol_row rows[160];
	struct model model;
	bool found = false;
	ck_assert_uint_le(protocol_row_count, ARRAY_LEN(rows));
	memcpy(rows, protocol_rows, protocol_row_count * sizeof(rows[0]));
	for (size_t i = 0; i < protocol_row_count; i++) {
		if (rows[i].from != from || rows[i].what != what || rows[i].type != type)
			continue;
		rows[i].to = to;
		found = true;
	}
	ck_assert(found);
	walk(&model, rows, protocol_row_count);
	return model.broken ? model.broken : "nothing";
}

START_TEST(wrong_tables_are_found)
{
	ck_assert_str_ne(broken_with(SRC_GIVEN, PROTOCOL_LOST, 0, SRC_BACK), "nothing");
	ck_assert_str_ne(broken_with(SRC_READY, PROTOCOL_SENDS, WIRE_RUN, SRC_READY), "nothing");
	ck_assert_str_ne(broken_with(DST_COPY, PROTOCOL_GETS, WIRE_STATE, DST_RUN), "nothing");
	ck_assert_str_eq(broken_with(SRC_READY, PROTOCOL_LOST, 0, SRC_DOUBT), "nobody runs");
	ck_assert_str_ne(broken_with(SRC_COPY, PROTOCOL_STOPS, 0, SRC_COPY), "both have the disks");
	ck_assert_str_ne(broken_with(DST_READY, PROTOCOL_LOST, 0, DST_DONE), "nothing");
	/* Post-copy. */
	ck_assert_str_ne(broken_with(SRC_LATE_GIVEN, PROTOCOL_LOST, 0, SRC_BACK), "nothing");
	ck_assert_str_eq(broken_with(SRC_LATE_GIVEN, PROTOCOL_LOST, 0, SRC_PAUSED), "nobody runs");
	ck_assert_str_ne(broken_with(SRC_DOUBT_RESUME, PROTOCOL_LOST, 0, SRC_BACK), "nothing");
	ck_assert_str_ne(broken_with(SRC_POSTCOPY, PROTOCOL_LOST, 0, SRC_DONE), "nothing");
	ck_assert_str_ne(broken_with(DST_LATE_RUN, PROTOCOL_LOST, 0, DST_DONE), "nothing");
	ck_assert_str_ne(broken_with(DST_LATE_READY, PROTOCOL_LOST, 0, DST_PAUSED), "nothing");
	ck_assert_str_ne(broken_with(DST_LATE_STATE, PROTOCOL_SENDS, WIRE_READY, DST_LATE_RUN), "nothing");
}
END_TEST

START_TEST(steps_are_those_of_the_table)
{
	for (size_t i = 0; i < protocol_row_count; i++)
		ck_assert_int_eq(
			protocol_step(protocol_rows[i].from, protocol_rows[i].what, protocol_rows[i].type),
			(int)protocol_rows[i].to);
	ck_assert_int_lt(protocol_step(SRC_COPY, PROTOCOL_SENDS, WIRE_RUN), 0);
	ck_assert_int_lt(protocol_step(DST_COPY, PROTOCOL_GETS, WIRE_RUN), 0);
	ck_assert_int_eq(protocol_step(DST_DONE, PROTOCOL_LOST, 0), DST_DONE);
	for (unsigned state = 0; state < PROTOCOL_STATES; state++)
		ck_assert(protocol_states[state].ends || waits(state) ||
			  protocol_step(state, PROTOCOL_LOST, 0) != (int)state);
}
END_TEST

/* ---- docs/migration.md shows the table ---- */

static const char *words(const struct protocol_row *row, char *text, size_t size)
{
	static const char *const names[] = {
		[PROTOCOL_SENDS] = "sends ",	    [PROTOCOL_GETS] = "gets ",
		[PROTOCOL_STOPS] = "stops",	    [PROTOCOL_UNSENT] = "RUN did not leave",
		[PROTOCOL_WHOLE] = "lacks nothing", [PROTOCOL_LOST] = "lost"};
	snprintf(text, size, "%s%s: %s", names[row->what], row->type ? wire_name(row->type) : "",
		 strchr(protocol_states[row->to].name, ' ') + 1);
	return text;
}

static void print_state(FILE *out, unsigned state)
{
	const struct protocol_state_row *at = &protocol_states[state];
	char text[128];
	fprintf(out, "| %s | %s | %s | %s |", at->name, at->runs ? "yes" : "no", at->disks ? "yes" : "no",
		at->meaning);
	const char *comma = " ";
	for (size_t i = 0; i < protocol_row_count; i++)
		if (protocol_rows[i].from == state) {
			fprintf(out, "%s%s", comma, words(&protocol_rows[i], text, sizeof(text)));
			comma = "; ";
		}
	fprintf(out, "%s|\n", *comma == ';' ? " " : "");
}

START_TEST(the_document_shows_the_table)
{
	char *wanted = NULL, *found;
	size_t bytes = 0;
	FILE *out = open_memstream(&wanted, &bytes);
	fprintf(out, "| state | may run | may hold the disks | | what moves it |\n|---|---|---|---|---|\n");
	for (unsigned state = 0; state < PROTOCOL_STATES; state++)
		print_state(out, state);
	fclose(out);
	FILE *file = fopen("docs/migration.md", "r");
	ck_assert_ptr_nonnull(file);
	found = calloc(1, 1 << 20);
	ck_assert_uint_gt(fread(found, 1, (1 << 20) - 1, file), 0);
	fclose(file);
	ck_assert_msg(strstr(found, wanted), "docs/migration.md should have:\n%s", wanted);
	free(found);
	free(wanted);
}
END_TEST

TEST_MAIN("model", never_two_and_never_none, wrong_tables_are_found, steps_are_those_of_the_table,
	  the_document_shows_the_table)
