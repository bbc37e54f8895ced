#include "base/err.h"

#include <stdio.h>
#include <string.h>

#undef err_set /* here are the functions themselves */
#undef err_sys
#undef err_prepend

static void err_vset(struct err *err, int code, const char *fmt, va_list args)
{
	err->code = code;
	(void)vsnprintf(err->text, sizeof(err->text), fmt, args);
}

int err_set(struct err *err, int code, const char *fmt, ...)
{
	if (err->code)
		return err->code;
	va_list args;
	va_start(args, fmt);
	err_vset(err, code, fmt, args);
	va_end(args);
	return err->code;
}

int err_sys(struct err *err, int code, const char *fmt, ...)
{
	if (err->code)
		return err->code;
	va_list args;
	va_start(args, fmt);
	err_vset(err, code, fmt, args);
	va_end(args);
	size_t used = strlen(err->text);
	(void)snprintf(err->text + used, sizeof(err->text) - used, ": %s", strerror(-code));
	return err->code;
}

int err_prepend(struct err *err, const char *fmt, ...)
{
	char context[ERR_TEXT_BYTES];
	va_list args;
	va_start(args, fmt);
	int used = vsnprintf(context, sizeof(context), fmt, args);
	va_end(args);
	if (used < 0 || (size_t)used + sizeof(": ") > sizeof(context))
		return err->code; /* a context that fills the line would hide the error itself */

	size_t front = (size_t)used + 2, kept = strlen(err->text);
	if (kept > sizeof(err->text) - 1 - front)
		kept = sizeof(err->text) - 1 - front;
	memmove(err->text + front, err->text, kept);
	memcpy(err->text, context, (size_t)used);
	memcpy(err->text + used, ": ", 2);
	err->text[front + kept] = 0;
	return err->code;
}
