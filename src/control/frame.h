/*
 * Where one JSON value of a stream ends and the next begins.
 *
 * QMP messages follow each other without a separator that could be relied on: several on a line, one over
 * many. So brackets are counted, outside strings; whether the value between them is JSON is for json_scan to
 * say. A byte that cannot stand in JSON at all (a control character but tab, CR and LF; any in a string; a
 * byte that UTF-8 does not have) breaks the message that it stands in, and the next byte begins anew: the
 * specification has clients do that to get out of half a message ("Forcing the JSON parser into known-good
 * state").
 */
#ifndef AERIE_SRC_CONTROL_FRAME_H
#define AERIE_SRC_CONTROL_FRAME_H

#include <stdbool.h>
#include <stddef.h>

enum { FRAME_BYTES_MAX = 64 * 1024 };

enum frame_result {
	FRAME_MORE,	/* all bytes taken, no message yet */
	FRAME_MESSAGE,	/* text and used are one; frame_next before going on */
	FRAME_BROKEN,	/* a byte that does not belong; what came before it is dropped */
	FRAME_TOO_LONG, /* more than FRAME_BYTES_MAX: no use in reading on */
	FRAME_TOO_DEEP, /* as json_scan would say, but before there is more of it */
	FRAME_NO_MEMORY
};

struct frame {
	char *text;
	size_t used, size;
	unsigned depth;
	bool in_string, escape;
	bool in_word; /* a number, a literal or nonsense, outside brackets: ends where something else begins
		       */
};

void frame_finish(struct frame *frame); /* all zero is an empty one */

/* Takes bytes up to the end of a message; *ret_taken of them were. */
enum frame_result frame_feed(struct frame *frame, const char *data, size_t len, size_t *ret_taken);
void frame_next(struct frame *frame);

#endif
