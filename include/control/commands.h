/*
 * What there is to ask of a control socket, for those who explain it (`aerie ctl`) and document it.
 */
#ifndef AERIE_CONTROL_COMMANDS_H
#define AERIE_CONTROL_COMMANDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { COMMAND_ARGS_MAX = 24 };

enum command_arg_type {
	ARG_BOOL,
	ARG_UINT,  /* min to max */
	ARG_BYTES, /* the same; people may write 512M */
	ARG_TEXT,  /* min to max bytes */
	ARG_PATH, /* a text that names a file; `aerie ctl` makes it absolute, since aerie may run elsewhere */
	ARG_CHOICE, /* one of words */
	ARG_TEXTS,  /* a list of texts */
	ARG_OBJECT, /* the function looks into it itself */
	ARG_LIST    /* likewise */
};

struct command_arg {
	const char *name;
	enum command_arg_type type;
	bool optional;
	uint64_t min, max;
	const char *const *words; /* ends with NULL */
	const char *doc;
};

struct command_info {
	const char *name;
	const char *doc;
	struct command_arg args[COMMAND_ARGS_MAX]; /* ends with one without a name, or is full */
};

/* The index-th command, NULL past the end. In the order of the tables. */
const struct command_info *control_command(size_t index);
const struct command_info *control_command_find(const char *name);
const char *control_command_nearest(const char *name); /* for "did you mean"; NULL: none is near */

/* "a whole number from 1 to 5", "true or false"; into `text`, which is returned. */
const char *control_arg_expects(const struct command_arg *arg, char *text, size_t size);

#endif
