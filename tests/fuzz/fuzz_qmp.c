/*
 * Bytes of a QMP client: framing, messages, and the arguments of every command there is. The first byte says
 * how the rest is cut into pieces. Nothing is executed: what a message names is only checked against its row.
 */
#include "../../src/control/session.h"
#include "fuzz.h"

#include <errno.h>
#include <string.h>

static int check_only(struct request *request, const struct value *values, cJSON **ret, struct err *err)
{
	struct value again[COMMAND_ARGS_MAX];
	struct err why = ERR_INIT;
	const struct command_info *info;
	(void)request, (void)err;
	cJSON *arguments = values[1].given ? cJSON_Duplicate(values[1].json, true) : NULL;
	*ret = cJSON_CreateArray();
	for (size_t i = 0; (info = control_command(i)); i++)
		if (!values[0].given || strcmp(info->name, values[0].text) == 0)
			cJSON_AddItemToArray(
				*ret, cJSON_CreateBool(command_values(info, arguments, again, &why) == 0));
	cJSON_Delete(arguments);
	return 0;
}

static struct request *waiting;

static int answer_later(struct request *request, const struct value *values, cJSON **ret, struct err *err)
{
	(void)values, (void)ret, (void)err;
	waiting = request;
	return COMMAND_LATER;
}

static const struct command commands[] = {
	{{.name = "check",
	  .doc = "arguments of a command, or of all",
	  .args = {{.name = "command", .type = ARG_TEXT, .optional = true, .max = 64},
		   {.name = "arguments", .type = ARG_OBJECT, .optional = true}}},
	 check_only},
	{{.name = "later", .doc = "answers when the next piece comes"}, answer_later},
	{{.name = NULL}, NULL},
};
static const struct command *const tables[] = {commands, NULL};

/* What goes out is one line of ASCII that begins and ends as an object. */
static void check_answer(struct session *session, const char *text, size_t len)
{
	(void)session;
	FUZZ_CHECK(len >= 4 && text[0] == '{' && memcmp(text + len - 3, "}\r\n", 3) == 0);
	for (size_t i = 0; i + 2 < len; i++)
		FUZZ_CHECK(text[i] >= 0x20 && text[i] <= 0x7e);
}

static void no_wake(struct session *session)
{
	(void)session;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct session session = {.tables = tables, .send = check_answer, .wake = no_wake};
	size_t piece = size ? data[0] % 64 + 1 : 1, at = 1;
	const struct err late = {.code = -EIO, .text = "late"};
	session_start(&session);
	while (at < size && !session.dead) {
		size_t len = size - at < piece ? size - at : piece;
		at += session_feed(&session, (const char *)data + at, len);
		if (waiting && at % 2)
			request_return(waiting, NULL);
		else if (waiting)
			request_fail(waiting, &late);
		waiting = NULL;
	}
	session_finish(&session);
	return 0;
}
