/*
 * Text and JSON. All names and strings are our own constants, so nothing needs escaping. Out of memory sets
 * `failed`, is asked for once at the end, and until then all calls do nothing.
 */
#include "nested_emit.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TEXT_NAME_COLUMNS = 28 };

static void __attribute__((format(printf, 2, 3))) put(struct emitter *emitter, const char *format, ...)
{
	char part[256];
	va_list args;

	va_start(args, format);
	int len = vsnprintf(part, sizeof(part), format, args);
	va_end(args);
	if (emitter->failed || len < 0 || len >= (int)sizeof(part)) {
		emitter->failed = true;
		return;
	}
	if (emitter->used + (size_t)len + 1 > emitter->room) {
		size_t room = 2 * (emitter->room + sizeof(part));
		char *text = realloc(emitter->text, room);
		if (!text) {
			emitter->failed = true;
			return;
		}
		emitter->text = text;
		emitter->room = room;
	}
	memcpy(emitter->text + emitter->used, part, (size_t)len + 1);
	emitter->used += (size_t)len;
}

/* The name of what comes next; NULL stands for the whole. */
static void put_name(struct emitter *emitter, const char *name)
{
	if (emitter->json) {
		put(emitter, "%s", emitter->follows ? ", " : "");
		if (name)
			put(emitter, "\"%s\": ", name);
	} else if (name) {
		put(emitter, "%*s%-*s ", 2 * (int)emitter->depth, "",
		    TEXT_NAME_COLUMNS - 2 * (int)emitter->depth, name);
	}
	emitter->follows = true;
}

static void end_line(struct emitter *emitter)
{
	if (!emitter->json)
		put(emitter, "\n");
}

void emit_open(struct emitter *emitter, const char *name)
{
	if (emitter->json) {
		put_name(emitter, name);
		put(emitter, "{");
	} else if (name) {
		put(emitter, "%*s%s\n", 2 * (int)emitter->depth, "", name);
	}
	emitter->depth++;
	emitter->follows = false;
}

void emit_close(struct emitter *emitter)
{
	if (emitter->json)
		put(emitter, "}");
	emitter->depth--;
	emitter->follows = true;
}

static void put_string(struct emitter *emitter, const char *value)
{
	put(emitter, emitter->json ? "\"%s\"" : "%s", value);
}

void emit_string(struct emitter *emitter, const char *name, const char *value)
{
	put_name(emitter, name);
	put_string(emitter, value);
	end_line(emitter);
}

void emit_bool(struct emitter *emitter, const char *name, bool value)
{
	put_name(emitter, name);
	if (emitter->json)
		put(emitter, value ? "true" : "false");
	else
		put(emitter, value ? "yes" : "no");
	end_line(emitter);
}

static void put_hex(struct emitter *emitter, uint64_t value)
{
	put(emitter, emitter->json ? "\"0x%" PRIx64 "\"" : "0x%" PRIx64, value);
}

void emit_hex(struct emitter *emitter, const char *name, uint64_t value)
{
	put_name(emitter, name);
	put_hex(emitter, value);
	end_line(emitter);
}

/* JSON loses nothing: a bit without a name is "bit-7". People see those as one number: in a VMX control they
 * are mostly the bits that must be 1. */
static void put_bits(struct emitter *emitter, const struct nested_names *names, uint64_t value)
{
	uint64_t unnamed = 0;
	bool follows = false;

	put(emitter, "%s", emitter->json ? "[" : "");
	for (unsigned bit = 0; bit < 64; bit++) {
		const char *name = nested_name(names, bit);
		char number[16];
		if (!(value >> bit & 1))
			continue;
		if (!name && !emitter->json) {
			unnamed |= UINT64_C(1) << bit;
			continue;
		}
		(void)snprintf(number, sizeof(number), "bit-%u", bit);
		put(emitter, "%s", !follows ? "" : emitter->json ? ", " : " ");
		put_string(emitter, name ? name : number);
		follows = true;
	}
	if (unnamed)
		put(emitter, "%s0x%" PRIx64, follows ? " and " : "", unnamed);
	put(emitter, "%s", emitter->json ? "]" : value ? "" : "none");
}

void emit_bits(struct emitter *emitter, const char *name, const struct nested_names *names, uint64_t value)
{
	put_name(emitter, name);
	put_bits(emitter, names, value);
	end_line(emitter);
}

/* A name, or the number where it has none. */
static void put_named(struct emitter *emitter, const char *name, uint64_t value)
{
	if (name)
		put_string(emitter, name);
	else
		put_hex(emitter, value);
}

static void put_vmx_exit(struct emitter *emitter, const struct nested_names *names, uint64_t value)
{
	const char *name = nested_name(names, value & 0xffff);
	char text[96];

	if (!(value & 0x80000000)) {
		put_named(emitter, name, value);
		return;
	}
	if (name)
		(void)snprintf(text, sizeof(text), "%s, entry failed", name);
	else
		(void)snprintf(text, sizeof(text), "0x%" PRIx64 ", entry failed", value & 0xffff);
	put_string(emitter, text);
}

static void put_event(struct emitter *emitter, uint64_t value)
{
	const char *type = nested_name(&nested_event_types, value >> 8 & 7);
	const char *exception = nested_name(&nested_exceptions, value & 0xff);
	bool is_exception = (value >> 8 & 7) == 3 && exception;
	char text[96];

	if (!(value & 0x80000000)) {
		put(emitter, emitter->json ? "null" : "none");
		return;
	}
	(void)snprintf(text, sizeof(text), "%s %u%s%s%s", type, (unsigned)(value & 0xff),
		       is_exception ? " " : "", is_exception ? exception : "",
		       value & 0x800 ? ", with error code" : "");
	put_string(emitter, text);
}

static void put_eptp(struct emitter *emitter, uint64_t value)
{
	char text[96];
	(void)snprintf(text, sizeof(text), "0x%" PRIx64 ", %u levels, memory type %u%s",
		       value & ~UINT64_C(0xfff), (unsigned)(value >> 3 & 7) + 1, (unsigned)(value & 7),
		       value & 0x40 ? ", accessed and dirty flags" : "");
	put_string(emitter, text);
}

void emit_value(struct emitter *emitter, const struct nested_row *row, uint64_t value, bool brief)
{
	if (brief && !value && !emitter->json)
		return;
	put_name(emitter, row->name);
	switch (row->form) {
	case NESTED_HEX:
		put_hex(emitter, value);
		break;
	case NESTED_COUNT:
		put(emitter, "%" PRIu64, value); /* 32 bits at most: exact in any JSON reader */
		break;
	case NESTED_BITS:
		put_bits(emitter, row->names, value);
		break;
	case NESTED_NAME:
		put_named(emitter, nested_name(row->names, value), value);
		break;
	case NESTED_VMX_EXIT:
		put_vmx_exit(emitter, row->names, value);
		break;
	case NESTED_SVM_EXIT:
		put_named(emitter, nested_svm_exit(value), value);
		break;
	case NESTED_EVENT:
		put_event(emitter, value);
		break;
	case NESTED_EPTP:
		put_eptp(emitter, value);
		break;
	}
	end_line(emitter);
}

void emit_segment(struct emitter *emitter, const char *name, const struct emitted_segment *segment,
		  bool brief)
{
	if (emitter->json) {
		emit_open(emitter, name);
		if (segment->has_selector)
			emit_hex(emitter, "selector", segment->selector);
		emit_hex(emitter, "base", segment->base);
		if (segment->has_limit)
			emit_hex(emitter, "limit", segment->limit);
		if (segment->has_attributes)
			emit_hex(emitter, "attributes", segment->attributes);
		emit_close(emitter);
		return;
	}
	if (brief && !segment->selector && !segment->base && !segment->limit && !segment->attributes)
		return;
	put_name(emitter, name);
	if (segment->has_selector)
		put(emitter, "0x%04" PRIx64 " ", segment->selector);
	put(emitter, "base 0x%" PRIx64, segment->base);
	if (segment->has_limit)
		put(emitter, " limit 0x%" PRIx64, segment->limit);
	if (segment->has_attributes)
		put(emitter, " attributes 0x%" PRIx64, segment->attributes);
	end_line(emitter);
}

void emit_bytes(struct emitter *emitter, const char *name, const uint8_t *bytes, size_t count)
{
	put_name(emitter, name);
	put(emitter, "%s", emitter->json ? "\"" : "");
	for (size_t i = 0; i < count; i++) {
		if (!emitter->json && i % 32 == 0)
			put(emitter, "\n%*s%03zx ", 2 * (int)emitter->depth + 2, "", i);
		put(emitter, "%02x", bytes[i]);
	}
	put(emitter, "%s", emitter->json ? "\"" : "");
	end_line(emitter);
}
