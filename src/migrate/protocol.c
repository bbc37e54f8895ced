/* The states of a migration: see protocol.h. */
#include "protocol.h"

#include "base/cleanup.h"

#include <errno.h>

const struct protocol_state_row protocol_states[PROTOCOL_STATES] = {
	[SRC_START] = {"source start", true, true, false, "connected"},
	[SRC_HELLO] = {"source hello", true, true, false,
		       "waits for the version and features of the other side"},
	[SRC_WELCOME] = {"source welcome", true, true, false, "both speak the same"},
	[SRC_CONFIG] = {"source config", true, true, false, "the other side builds its machine"},
	[SRC_ACCEPTED] = {"source accepted", true, true, false, "the other machine stands"},
	[SRC_REHEARSAL] = {"source rehearsal", true, true, false,
			   "the other side tries whether it can load our state"},
	[SRC_COPY] = {"source copy", true, true, false, "sends pages while the guest writes"},
	[SRC_ROUND] = {"source round", true, true, false, "waits until all pages of a round are there"},
	[SRC_STOPPED] = {"source stopped", false, false, false, "guest stands; the last pages go"},
	[SRC_STATE] = {"source state", false, false, false, "the other side loads"},
	[SRC_READY] = {"source ready", false, false, false,
		       "the other side lacks nothing but the right to run"},
	[SRC_GIVEN] = {"source given", false, false, false, "RUN has left: never again here"},
	[SRC_DONE] = {"source done", false, false, true, "runs elsewhere"},
	[SRC_DOUBT] = {"source doubt", false, false, true,
		       "RUN has left and nobody answered: the operator must look at the other side"},
	[SRC_BACK] = {"source back", true, true, true,
		      "failed or cancelled; runs on here, as soon as its disks are free"},
	[DST_START] = {"destination start", false, false, false, "somebody has connected"},
	[DST_HELLO] = {"destination hello", false, false, false, "knows what the source wants"},
	[DST_WELCOME] = {"destination welcome", false, false, false, "waits for the configuration"},
	[DST_CONFIG] = {"destination config", false, false, false,
			"builds the machine, looks whether its disks are there"},
	[DST_ACCEPTED] = {"destination accepted", false, false, false, "waits for the rehearsal"},
	[DST_REHEARSAL] = {"destination rehearsal", false, false, false, "loads a state on trial"},
	[DST_COPY] = {"destination copy", false, false, false, "takes pages"},
	[DST_ROUND] = {"destination round", false, false, false, "waits for all channels"},
	[DST_STATE] = {"destination state", false, true, false, "opens the disks, loads the state"},
	[DST_READY] = {"destination ready", false, true, false, "waits for the right to run"},
	[DST_RUN] = {"destination run", true, true, false, "runs"},
	[DST_DONE] = {"destination done", true, true, true, "runs, and has said so"},
	[DST_OVER] = {"destination over", false, false, true, "failed; has not run and never will"},
};

const struct protocol_row protocol_rows[] = {
	{SRC_START, PROTOCOL_SENDS, WIRE_HELLO, SRC_HELLO},
	{SRC_HELLO, PROTOCOL_GETS, WIRE_WELCOME, SRC_WELCOME},
	{SRC_WELCOME, PROTOCOL_SENDS, WIRE_CONFIG, SRC_CONFIG},
	{SRC_CONFIG, PROTOCOL_GETS, WIRE_ACCEPTED, SRC_ACCEPTED},
	{SRC_ACCEPTED, PROTOCOL_SENDS, WIRE_REHEARSAL, SRC_REHEARSAL},
	{SRC_REHEARSAL, PROTOCOL_GETS, WIRE_REHEARSED, SRC_COPY},
	{SRC_COPY, PROTOCOL_SENDS, WIRE_PAGES, SRC_COPY},
	{SRC_COPY, PROTOCOL_SENDS, WIRE_ROUND, SRC_ROUND},
	{SRC_ROUND, PROTOCOL_GETS, WIRE_ROUND_DONE, SRC_COPY},
	{SRC_COPY, PROTOCOL_STOPS, 0, SRC_STOPPED},
	{SRC_STOPPED, PROTOCOL_SENDS, WIRE_PAGES, SRC_STOPPED},
	{SRC_STOPPED, PROTOCOL_SENDS, WIRE_STATE, SRC_STATE},
	{SRC_STATE, PROTOCOL_GETS, WIRE_READY, SRC_READY},
	/* Before its first byte: from here on nothing but UNSENT leads back. */
	{SRC_READY, PROTOCOL_SENDS, WIRE_RUN, SRC_GIVEN},
	{SRC_GIVEN, PROTOCOL_GETS, WIRE_RUNNING, SRC_DONE},
	{SRC_GIVEN, PROTOCOL_UNSENT, 0, SRC_BACK},
	{SRC_GIVEN, PROTOCOL_LOST, 0, SRC_DOUBT},
	/* Without RUN the other side cannot have started. */
	{SRC_START, PROTOCOL_LOST, 0, SRC_BACK},
	{SRC_HELLO, PROTOCOL_LOST, 0, SRC_BACK},
	{SRC_WELCOME, PROTOCOL_LOST, 0, SRC_BACK},
	{SRC_CONFIG, PROTOCOL_LOST, 0, SRC_BACK},
	{SRC_ACCEPTED, PROTOCOL_LOST, 0, SRC_BACK},
	{SRC_REHEARSAL, PROTOCOL_LOST, 0, SRC_BACK},
	{SRC_COPY, PROTOCOL_LOST, 0, SRC_BACK},
	{SRC_ROUND, PROTOCOL_LOST, 0, SRC_BACK},
	{SRC_STOPPED, PROTOCOL_LOST, 0, SRC_BACK},
	{SRC_STATE, PROTOCOL_LOST, 0, SRC_BACK},
	{SRC_READY, PROTOCOL_LOST, 0, SRC_BACK},

	{DST_START, PROTOCOL_GETS, WIRE_HELLO, DST_HELLO},
	{DST_HELLO, PROTOCOL_SENDS, WIRE_WELCOME, DST_WELCOME},
	{DST_WELCOME, PROTOCOL_GETS, WIRE_CONFIG, DST_CONFIG},
	{DST_CONFIG, PROTOCOL_SENDS, WIRE_ACCEPTED, DST_ACCEPTED},
	{DST_ACCEPTED, PROTOCOL_GETS, WIRE_REHEARSAL, DST_REHEARSAL},
	{DST_REHEARSAL, PROTOCOL_SENDS, WIRE_REHEARSED, DST_COPY},
	{DST_COPY, PROTOCOL_GETS, WIRE_PAGES, DST_COPY},
	{DST_COPY, PROTOCOL_GETS, WIRE_ROUND, DST_ROUND},
	{DST_ROUND, PROTOCOL_SENDS, WIRE_ROUND_DONE, DST_COPY},
	{DST_COPY, PROTOCOL_GETS, WIRE_STATE, DST_STATE},
	{DST_STATE, PROTOCOL_SENDS, WIRE_READY, DST_READY},
	{DST_READY, PROTOCOL_GETS, WIRE_RUN, DST_RUN},
	{DST_RUN, PROTOCOL_SENDS, WIRE_RUNNING, DST_DONE},
	/* It has the right to run, whoever hears of it. */
	{DST_RUN, PROTOCOL_LOST, 0, DST_DONE},
	{DST_START, PROTOCOL_LOST, 0, DST_OVER},
	{DST_HELLO, PROTOCOL_LOST, 0, DST_OVER},
	{DST_WELCOME, PROTOCOL_LOST, 0, DST_OVER},
	{DST_CONFIG, PROTOCOL_LOST, 0, DST_OVER},
	{DST_ACCEPTED, PROTOCOL_LOST, 0, DST_OVER},
	{DST_REHEARSAL, PROTOCOL_LOST, 0, DST_OVER},
	{DST_COPY, PROTOCOL_LOST, 0, DST_OVER},
	{DST_ROUND, PROTOCOL_LOST, 0, DST_OVER},
	{DST_STATE, PROTOCOL_LOST, 0, DST_OVER},
	{DST_READY, PROTOCOL_LOST, 0, DST_OVER},
};
const size_t protocol_row_count = ARRAY_LEN(protocol_rows);

int protocol_step(enum protocol_state state, enum protocol_what what, unsigned type)
{
	for (size_t i = 0; i < protocol_row_count; i++) {
		const struct protocol_row *row = &protocol_rows[i];
		if (row->from == state && row->what == what && row->type == type)
			return (int)row->to;
	}
	return what == PROTOCOL_LOST ? (int)state : -EPROTO;
}
