#include "config/json_scan.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

struct scan {
	const char *name;
	const char *start, *at, *end;
	struct err *err;
	unsigned depth;
};

struct position {
	size_t line, column; /* from 1; a column is a character, not a byte, as editors count */
};

static struct position position_of(const struct scan *s, const char *where)
{
	struct position pos = {1, 1};
	for (const char *p = s->start; p < where; p++) {
		if (*p == '\n')
			pos = (struct position){pos.line + 1, 1};
		else if (((unsigned char)*p & 0xc0) != 0x80)
			pos.column++;
	}
	return pos;
}

__attribute__((format(printf, 3, 4))) static int fail(struct scan *s, const char *where, const char *fmt, ...)
{
	char what[256];
	va_list args;
	va_start(args, fmt);
	(void)vsnprintf(what, sizeof(what), fmt, args);
	va_end(args);
	struct position pos = position_of(s, where);
	return err_set(s->err, -EINVAL, "%s:%zu:%zu: %s", s->name, pos.line, pos.column, what);
}

static bool is_word(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool at_end(const struct scan *s)
{
	return s->at == s->end;
}

static char peek(const struct scan *s)
{
	return at_end(s) ? '\0' : *s->at; /* a NUL byte is never valid, so it may stand for the end */
}

static size_t word_length(const struct scan *s)
{
	size_t len = 0;
	while (len < (size_t)(s->end - s->at) && is_word(s->at[len]))
		len++;
	return len;
}

static int fail_expected(struct scan *s, const char *expected)
{
	unsigned char c = (unsigned char)peek(s);
	size_t word = word_length(s);
	if (at_end(s))
		return fail(s, s->at, "expected %s, found the end", expected);
	if (word)
		return fail(s, s->at, "expected %s, found %.*s", expected, word > 32 ? 32 : (int)word, s->at);
	if (c == '/' || c == '#')
		return fail(s, s->at, "expected %s, found %c (JSON has no comments)", expected, c);
	if (c > 0x20 && c < 0x7f)
		return fail(s, s->at, "expected %s, found %c", expected, c);
	if (c == ' ' || c == '\n' || c == '\r')
		return fail(s, s->at, "expected %s, found %s", expected,
			    c == ' ' ? "a space" : "the end of the line");
	return fail(s, s->at, "expected %s, found byte 0x%02x", expected, c);
}

/* The same where a text may stand: bare words and single quotes are what people bring from other languages.
 */
static int fail_expected_text(struct scan *s, const char *expected)
{
	size_t word = word_length(s);
	if (!word && peek(s) == '\'')
		word = 1;
	if (!word || is_digit(*s->at))
		return fail_expected(s, expected);
	return fail(s, s->at, "expected %s, found %.*s (text stands in double quotes)", expected,
		    word > 32 ? 32 : (int)word, s->at);
}

static void skip_space(struct scan *s)
{
	while (s->at < s->end && (*s->at == ' ' || *s->at == '\t' || *s->at == '\n' || *s->at == '\r'))
		s->at++;
}

/* Length of the well-formed UTF-8 sequence at p (Unicode, table 3-7), 0 when it is not one. */
static size_t utf8_length(const char *p, const char *end)
{
	const unsigned char *b = (const unsigned char *)p;
	unsigned char low = 0x80, high = 0xbf;
	size_t len;
	if (b[0] < 0x80)
		return 1;
	if (b[0] >= 0xc2 && b[0] <= 0xdf)
		len = 2;
	else if ((b[0] & 0xf0) == 0xe0)
		len = 3;
	else if (b[0] >= 0xf0 && b[0] <= 0xf4)
		len = 4;
	else
		return 0;
	if (b[0] == 0xe0)
		low = 0xa0; /* shorter forms exist */
	if (b[0] == 0xed)
		high = 0x9f; /* surrogates */
	if (b[0] == 0xf0)
		low = 0x90;
	if (b[0] == 0xf4)
		high = 0x8f; /* beyond U+10FFFF */
	if ((size_t)(end - p) < len || b[1] < low || b[1] > high)
		return 0;
	for (size_t i = 2; i < len; i++)
		if ((b[i] & 0xc0) != 0x80)
			return 0;
	return len;
}

bool json_is_utf8(const char *text)
{
	const char *end = text + strlen(text);
	for (size_t len; text < end; text += len) {
		len = utf8_length(text, end);
		if (!len)
			return false;
	}
	return true;
}

/* The four digits of \uXXXX at `p`; -1 when there are not four. */
static int hex4(const char *p, const char *end)
{
	int value = 0;
	if (end - p < 4)
		return -1;
	for (int i = 0; i < 4; i++) {
		char c = p[i];
		int digit = is_digit(c)		     ? c - '0'
			    : (c >= 'a' && c <= 'f') ? c - 'a' + 10
			    : (c >= 'A' && c <= 'F') ? c - 'A' + 10
						     : -1;
		if (digit < 0)
			return -1;
		value = value * 16 + digit;
	}
	return value;
}

/* At a backslash. */
static int scan_escape(struct scan *s)
{
	const char *where = s->at++;
	char c = peek(s);
	if (c != '\0' && strchr("\"\\/bfnrt", c)) {
		s->at++;
		return 0;
	}
	if (c != 'u')
		return fail(s, where, "not an escape (use \\\" \\\\ \\/ \\b \\f \\n \\r \\t or \\uXXXX)");
	int unit = hex4(s->at + 1, s->end);
	if (unit < 0)
		return fail(s, where, "\\u takes four hexadecimal digits");
	if (unit == 0)
		return fail(s, where, "\\u0000 cannot stand in a text");
	s->at += 5;
	if (unit < 0xd800 || unit > 0xdfff)
		return 0;
	int second =
		s->end - s->at >= 6 && s->at[0] == '\\' && s->at[1] == 'u' ? hex4(s->at + 2, s->end) : -1;
	if (unit > 0xdbff || second < 0xdc00 || second > 0xdfff)
		return fail(s, where,
			    "half of a surrogate pair (\\ud800 to \\udbff, then \\udc00 to \\udfff)");
	s->at += 6;
	return 0;
}

static int scan_string(struct scan *s)
{
	const char *open = s->at++;
	for (;;) {
		if (at_end(s))
			return fail(s, open, "this text has no closing double quote");
		unsigned char c = (unsigned char)*s->at;
		if (c == '"') {
			s->at++;
			return 0;
		}
		if (c == '\\') {
			if (scan_escape(s))
				return s->err->code;
			continue;
		}
		if (c == '\n' || c == '\r')
			return fail(s, open, "this text has no closing double quote on its line");
		if (c == '\0')
			return fail(s, s->at, "a NUL byte cannot stand in a text");
		if (c < 0x20)
			return fail(s, s->at, "control character 0x%02x in a text (write \\u%04x)", c, c);
		size_t len = utf8_length(s->at, s->end);
		if (!len)
			return fail(s, s->at, "byte 0x%02x is not UTF-8", c);
		s->at += len;
	}
}

static size_t skip_digits(struct scan *s)
{
	size_t count = 0;
	while (is_digit(peek(s))) {
		s->at++;
		count++;
	}
	return count;
}

static int scan_number(struct scan *s)
{
	const char *start = s->at;
	if (peek(s) == '-')
		s->at++;
	bool zero = peek(s) == '0';
	size_t digits = skip_digits(s);
	if (!digits)
		return fail_expected(s, "a digit");
	if (zero && digits > 1)
		return fail(s, start, "a number does not begin with 0");
	if (peek(s) == '.') {
		s->at++;
		if (!skip_digits(s))
			return fail_expected(s, "a digit");
	}
	if (peek(s) == 'e' || peek(s) == 'E') {
		s->at++;
		if (peek(s) == '+' || peek(s) == '-')
			s->at++;
		if (!skip_digits(s))
			return fail_expected(s, "a digit");
	}
	if (word_length(s)) {
		size_t len = (size_t)(s->at - start) + word_length(s);
		return fail(s, start, "%.*s is not a number (text stands in double quotes)",
			    len > 64 ? 64 : (int)len, start);
	}
	if (s->at - start > JSON_NUMBER_CHARS)
		return fail(s, start, "a number has at most %d characters", JSON_NUMBER_CHARS);
	return 0;
}

static int scan_literal(struct scan *s)
{
	static const char *const literals[] = {"true", "false", "null"};
	size_t len = word_length(s);
	for (size_t i = 0; i < 3; i++) {
		if (len != strlen(literals[i]) || strncasecmp(s->at, literals[i], len) != 0)
			continue;
		if (strncmp(s->at, literals[i], len) != 0)
			return fail(s, s->at, "expected a value, found %.*s (did you mean %s?)", (int)len,
				    s->at, literals[i]);
		s->at += len;
		return 0;
	}
	return fail_expected_text(s, "a value");
}

static int scan_value(struct scan *s);

static int scan_member(struct scan *s)
{
	if (scan_string(s))
		return s->err->code;
	skip_space(s);
	if (peek(s) != ':')
		return fail_expected(s, ": after the key");
	s->at++;
	return scan_value(s);
}

/* At [ or {, which differ in their closing bracket and in what stands between the commas. */
static int scan_container(struct scan *s)
{
	const char *open = s->at;
	bool object = *open == '{';
	char close = object ? '}' : ']';
	if (++s->depth > JSON_DEPTH_MAX)
		return fail(s, open, "nested more than %d levels deep", JSON_DEPTH_MAX);
	s->at++;
	skip_space(s);
	for (bool first = true; !first || peek(s) != close; first = false) {
		if (!first) {
			const char *comma = s->at++;
			skip_space(s);
			if (peek(s) == close)
				return fail(s, comma, "a comma before %c (JSON has no trailing commas)",
					    close);
		}
		if (object && peek(s) != '"')
			return fail_expected_text(s, first ? "a key in double quotes or }"
							   : "a key in double quotes");
		if (object ? scan_member(s) : scan_value(s))
			return s->err->code;
		skip_space(s);
		if (at_end(s)) {
			struct position pos = position_of(s, open);
			return fail(s, s->at,
				    "expected , or %c, found the end (%c of line %zu, column %zu is open)",
				    close, *open, pos.line, pos.column);
		}
		if (peek(s) == close)
			break;
		if (peek(s) != ',')
			return fail_expected(s, object ? ", or } after a value" : ", or ] after a value");
	}
	s->at++;
	s->depth--;
	return 0;
}

static int scan_value(struct scan *s)
{
	skip_space(s);
	char c = peek(s);
	if (c == '{' || c == '[')
		return scan_container(s);
	if (c == '"')
		return scan_string(s);
	if (c == '-' || is_digit(c))
		return scan_number(s);
	return scan_literal(s);
}

int json_scan(const char *name, const char *text, size_t len, struct err *err)
{
	struct scan s = {.name = name, .start = text, .at = text, .end = text + len, .err = err};
	if (len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
		return fail(&s, text, "begins with a byte order mark (save it as UTF-8 without one)");
	if (len >= 2 && (memcmp(text, "\xff\xfe", 2) == 0 || memcmp(text, "\xfe\xff", 2) == 0))
		return fail(&s, text, "is UTF-16 (save it as UTF-8)");
	if (scan_value(&s))
		return err->code;
	skip_space(&s);
	if (!at_end(&s))
		return fail_expected(&s, "nothing after the value");
	return 0;
}
