/* aerie ctl, as its files share it. */
#ifndef AERIE_SRC_CLI_CTL_H
#define AERIE_SRC_CLI_CTL_H

#include "base/err.h"

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- ctl_args.c: "key=value" words to the arguments of a command ---- */

/*
 * By the command's own table where it is known: sizes as 512M, yes and no, relative paths made absolute. A
 * command that this aerie does not know gets numbers, true, false and texts as they look. -EINVAL with a
 * message.
 */
int ctl_arguments(const char *command, char *const *words, size_t count, cJSON **ret, struct err *err);

/* ---- ctl_link.c: the connection ---- */

struct ctl_link {
	const char *path;
	int fd;
	char *text; /* what was read and not yet taken */
	size_t used, size, scanned;
};

/* Connects and negotiates. */
int ctl_link_open(struct ctl_link *link, const char *path, struct err *err);
void ctl_link_close(struct ctl_link *link);
int ctl_link_send(struct ctl_link *link, const char *command, const cJSON *arguments, struct err *err);
/* The next message; -ETIMEDOUT, without a message in `err`, when none came within `timeout_ms` (-1: ever). */
int ctl_link_receive(struct ctl_link *link, int timeout_ms, cJSON **ret, struct err *err);
/* Sends, and waits for the answer; events on the way are dropped. */
int ctl_link_ask(struct ctl_link *link, const char *command, const cJSON *arguments, int timeout_ms,
		 cJSON **ret, struct err *err);

/* ---- ctl_print.c ---- */

/* What is no object or list, without quotes, and without what does not belong on a terminal. */
const char *ctl_text(const cJSON *value, char *text, size_t size);
void ctl_print(const cJSON *value);	/* for people */
int ctl_print_json(const cJSON *value); /* as it came, on one line */

/* ---- ctl_progress.c ---- */

struct ctl_progress {
	struct ctl_link link; /* its own: the other one waits */
	bool open, shown;
	uint64_t done; /* as last seen */
};

/* Looks how far the job that `command` started is and draws a bar on stderr, if that is a terminal. True when
 * there is such a job. */
bool ctl_progress_look(struct ctl_progress *progress, const char *path, const char *command);
void ctl_progress_end(struct ctl_progress *progress);

#endif
