/* A session without a socket, and commands of its own that try every kind of argument and of answer. */
#ifndef AERIE_TESTS_CONTROL_SESSION_RIG_H
#define AERIE_TESTS_CONTROL_SESSION_RIG_H

#include "../../src/control/session.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RIG_OUT_BYTES = 256 * 1024 };

struct session_rig {
	struct session session;
	char out[RIG_OUT_BYTES];
	size_t used;
	unsigned wakes;
};

/* The request of the last "later". */
static struct request *rig_later;

static int rig_echo(struct request *request, const struct value *values, cJSON **ret, struct err *err)
{
	(void)request, (void)err;
	*ret = cJSON_CreateObject();
	for (size_t i = 0; i < 8; i++)
		if (values[i].given)
			cJSON_AddItemToObject(*ret, request->command->info.args[i].name,
					      cJSON_Duplicate(values[i].json, true));
	return 0;
}

static int rig_nothing(struct request *request, const struct value *values, cJSON **ret, struct err *err)
{
	(void)request, (void)values, (void)ret, (void)err;
	return 0;
}

static int rig_fail(struct request *request, const struct value *values, cJSON **ret, struct err *err)
{
	(void)request, (void)values, (void)ret;
	return err_set(err, -ENODEV, "fail: no such thing: \xc3\xa9 \xff\xf0\x9f\x98\x80 \xe2\x82");
}

static int rig_wait(struct request *request, const struct value *values, cJSON **ret, struct err *err)
{
	(void)values, (void)ret, (void)err;
	rig_later = request;
	return COMMAND_LATER;
}

/* Answers "later" before its function returns. */
static int rig_soon(struct request *request, const struct value *values, cJSON **ret, struct err *err)
{
	(void)values, (void)ret, (void)err;
	request_return(request, cJSON_CreateString("soon"));
	return COMMAND_LATER;
}

static const char *const rig_words[] = {"one", "two", NULL};

static const struct command rig_commands[] = {
	{{.name = "nothing", .doc = "nothing"}, rig_nothing},
	{{.name = "echo",
	  .doc = "what it was given",
	  .args = {{.name = "flag", .type = ARG_BOOL, .optional = true},
		   {.name = "count", .type = ARG_UINT, .optional = true, .min = 2, .max = 1000},
		   {.name = "size", .type = ARG_BYTES, .optional = true, .max = UINT64_MAX},
		   {.name = "text", .type = ARG_TEXT, .optional = true, .min = 1, .max = 5},
		   {.name = "word", .type = ARG_CHOICE, .optional = true, .words = rig_words},
		   {.name = "texts", .type = ARG_TEXTS, .optional = true},
		   {.name = "object", .type = ARG_OBJECT, .optional = true},
		   {.name = "list", .type = ARG_LIST, .optional = true}}},
	 rig_echo},
	{{.name = "path", .doc = "a path", .args = {{.name = "path", .type = ARG_PATH}}}, rig_echo},
	{{.name = "fail", .doc = "fails"}, rig_fail},
	{{.name = "later", .doc = "answers later"}, rig_wait},
	{{.name = "soon", .doc = "answers at once, its own way"}, rig_soon},
	{{.name = NULL}, NULL},
};
static const struct command *const rig_tables[] = {rig_commands, NULL};

static void rig_send(struct session *session, const char *text, size_t len)
{
	struct session_rig *rig = (struct session_rig *)session;
	if (len > sizeof(rig->out) - rig->used)
		rig->used = 0;
	memcpy(rig->out + rig->used, text, len);
	rig->used += len;
}

static void rig_wake(struct session *session)
{
	((struct session_rig *)session)->wakes++;
}

static void rig_start(struct session_rig *rig)
{
	memset(rig, 0, sizeof(*rig));
	rig->session = (struct session){.tables = rig_tables, .send = rig_send, .wake = rig_wake};
	session_start(&rig->session);
}

/* All of it, unless the session becomes busy or dies; how much. */
static size_t rig_feed(struct session_rig *rig, const char *text, size_t len)
{
	size_t used = 0;
	while (used < len && !rig->session.request && !rig->session.dead)
		used += session_feed(&rig->session, text + used, len - used);
	return used;
}

/* What was said since the last call, as a text. */
static const char *rig_said(struct session_rig *rig)
{
	rig->out[rig->used < sizeof(rig->out) ? rig->used : sizeof(rig->out) - 1] = '\0';
	rig->used = 0;
	return rig->out;
}

#endif
