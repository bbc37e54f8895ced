#include "frame.h"

#include "config/json_scan.h"

#include <stdlib.h>
#include <string.h>

enum { FRAME_FIRST_BYTES = 512, FRAME_KEEP_BYTES = 4096 };

void frame_finish(struct frame *frame)
{
	free(frame->text);
	*frame = (struct frame){0};
}

void frame_next(struct frame *frame)
{
	if (frame->size > FRAME_KEEP_BYTES)
		frame_finish(frame);
	frame->used = 0;
	frame->depth = 0;
	frame->in_string = frame->escape = frame->in_word = false;
}

static enum frame_result append(struct frame *frame, char c)
{
	if (frame->used == FRAME_BYTES_MAX)
		return FRAME_TOO_LONG;
	if (frame->used == frame->size) {
		size_t size = frame->size ? frame->size * 2 : FRAME_FIRST_BYTES;
		char *text = realloc(frame->text, size);
		if (!text)
			return FRAME_NO_MEMORY;
		frame->text = text;
		frame->size = size;
	}
	frame->text[frame->used++] = c;
	return FRAME_MORE;
}

static bool is_space(unsigned char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static bool belongs(const struct frame *frame, unsigned char c)
{
	if (c < 0x20)
		return !frame->in_string && is_space(c);
	return c != 0xc0 && c != 0xc1 && c < 0xf5;
}

static enum frame_result feed_string(struct frame *frame, char c)
{
	enum frame_result r = append(frame, c);
	if (r != FRAME_MORE)
		return r;
	if (frame->escape) {
		frame->escape = false;
	} else if (c == '\\') {
		frame->escape = true;
	} else if (c == '"') {
		frame->in_string = false;
		return frame->depth ? FRAME_MORE : FRAME_MESSAGE;
	}
	return FRAME_MORE;
}

static enum frame_result feed_outside(struct frame *frame, char c)
{
	if (frame->used == 0 && is_space((unsigned char)c))
		return FRAME_MORE;
	enum frame_result r = append(frame, c);
	if (r != FRAME_MORE)
		return r;
	switch (c) {
	case '"':
		frame->in_string = true;
		break;
	case '{':
	case '[':
		if (++frame->depth > JSON_DEPTH_MAX)
			return FRAME_TOO_DEEP;
		break;
	case '}':
	case ']':
		if (frame->depth > 0)
			frame->depth--;
		return frame->depth ? FRAME_MORE : FRAME_MESSAGE;
	default:
		frame->in_word = frame->depth == 0;
		break;
	}
	return FRAME_MORE;
}

enum frame_result frame_feed(struct frame *frame, const char *data, size_t len, size_t *ret_taken)
{
	for (size_t at = 0; at < len; at++) {
		unsigned char c = (unsigned char)data[at];
		*ret_taken = at + 1;
		if (!belongs(frame, c)) {
			frame_next(frame);
			return FRAME_BROKEN;
		}
		if (frame->in_word && (is_space(c) || strchr("{}[]\"", c))) {
			*ret_taken = at; /* c belongs to what follows */
			return FRAME_MESSAGE;
		}
		enum frame_result r =
			frame->in_string ? feed_string(frame, (char)c) : feed_outside(frame, (char)c);
		if (r != FRAME_MORE)
			return r;
	}
	*ret_taken = len;
	return FRAME_MORE;
}
