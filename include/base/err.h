/*
 * Errors carried to the caller.
 *
 * A function that sets up or restores something takes `struct err *err` last and returns 0 or -errno. The
 * struct lives on the caller's stack; the first error wins; callers that know more put their context in
 * front. A library function returns an error or logs it, never both.
 *
 *	if (fd < 0)
 *		return err_set(err, -errno, "%s: %s", path, strerror(errno));
 *	...
 *	return err_prepend(err, "boot.kernel");
 *
 * gives "boot.kernel: /x/vmlinuz: No such file or directory".
 */
#ifndef AERIE_BASE_ERR_H
#define AERIE_BASE_ERR_H

#include <stdarg.h>

#define ERR_TEXT_BYTES 1024

struct err {
	int code;		   /* 0, or the -errno of the first error */
	char text[ERR_TEXT_BYTES]; /* one line, no newline; cut at the end when longer */
};

#define ERR_INIT ((struct err){.code = 0})

/* Record `code` (negative errno) with its message unless an error is already there. Returns the recorded
 * code. */
int err_set(struct err *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* As err_set, and appends ": " and the text of `code`. */
int err_sys(struct err *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Put "context: " in front of the message. Returns the recorded code, so that it can end a function. */
int err_prepend(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* What the analyzer cannot see across files: these return a negative number, so what they guard is not
 * reached. */
#ifdef __clang_analyzer__
#define err_set(err, code, ...) ((void)err_set(err, code, __VA_ARGS__), -1)
#define err_sys(err, code, ...) ((void)err_sys(err, code, __VA_ARGS__), -1)
#define err_prepend(err, ...)	((void)err_prepend(err, __VA_ARGS__), -1)
#endif

#endif
