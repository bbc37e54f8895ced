#include "session.h"

#include "config/json.h"
#include "control_impl.h"
#include "wire.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* `message` is owned from here. */
static void session_send(struct session *session, cJSON *message)
{
	size_t len;
	char *text = message ? wire_print(message, &len) : NULL;
	if (text)
		session->send(session, text, len);
	else
		session->dead = true; /* a client must not wait for an answer that memory was too short for */
	free(text);
	cJSON_Delete(message);
}

/* NULL, and nothing left of either, when memory is short: half a message must not be sent. */
static cJSON *with_item(cJSON *message, const char *name, cJSON *item)
{
	if (message && item && cJSON_AddItemToObject(message, name, item))
		return message;
	cJSON_Delete(item);
	cJSON_Delete(message);
	return NULL;
}

static cJSON *with_id(cJSON *message, cJSON *id)
{
	return id ? with_item(message, "id", id) : message;
}

static void send_error(struct session *session, cJSON *id, const char *class, const char *desc)
{
	session_send(session, with_id(wire_error(class, desc), id));
}

static void send_return(struct session *session, cJSON *id, cJSON *value)
{
	session_send(session, with_id(with_item(cJSON_CreateObject(), "return", value), id));
}

/* ---- requests ---- */

static const char *error_class(int code)
{
	switch (code) {
	case -ENODEV:
		return "DeviceNotFound";
	case -ENXIO:
		return "DeviceNotActive";
	case -ENOSYS:
		return "KVMMissingCap";
	default:
		return "GenericError";
	}
}

/* The request is over; whoever waits may go on. */
static void request_end(struct request *request)
{
	struct session *session = request->session;
	cJSON_Delete(request->id);
	free(request);
	if (!session)
		return;
	session->request = NULL;
	if (!session->dispatching)
		session->wake(session);
}

static cJSON *take_id(struct request *request)
{
	cJSON *id = request->id;
	request->id = NULL;
	return id;
}

void request_return(struct request *request, cJSON *value)
{
	if (request->session)
		send_return(request->session, take_id(request), value ? value : cJSON_CreateObject());
	else
		cJSON_Delete(value);
	request_end(request);
}

void request_fail(struct request *request, const struct err *err)
{
	if (request->session)
		send_error(request->session, take_id(request), error_class(err->code), err->text);
	request_end(request);
}

/* Nothing may wait here for a page that never comes. */
static int check_memory(const struct control *control, const struct command *command, struct err *err)
{
	if (!control || !machine_is_partial(control->machine) || command_is_quick(command))
		return 0;
	return err_set(err, -EBUSY, "%s: not before all of the machine's memory has come (query-migrate)",
		       command->info.name);
}

/* What the source is told after its state has been taken, and the destination before it has come, no guest
 * sees. */
static int check_here(const struct control *control, const struct command *command, struct err *err)
{
	enum machine_status status = control ? machine_status(control->machine) : MACHINE_RUNNING;
	bool here = status != MACHINE_INMIGRATE && status != MACHINE_FINISH_MIGRATE &&
		    status != MACHINE_POSTMIGRATE;
	if (here || !command_changes_guest(command))
		return 0;
	return err_set(err, -EBUSY, "%s: not while the machine is in status \"%s\"", command->info.name,
		       machine_status_name(status));
}

static void run(struct session *session, const struct command *command, const cJSON *arguments, cJSON *id)
{
	struct request *request = calloc(1, sizeof(*request));
	struct value values[COMMAND_ARGS_MAX];
	struct err err = ERR_INIT;
	cJSON *result = NULL;
	if (!request) {
		cJSON_Delete(id);
		session->dead = true;
		return;
	}
	*request = (struct request){session->control, command, session, id};
	session->request = request;
	session->dispatching = true;
	int r = command_values(&command->info, arguments, values, &err);
	if (r == 0)
		r = check_memory(session->control, command, &err);
	if (r == 0)
		r = check_here(session->control, command, &err);
	if (r == 0)
		r = command->run(request, values, &result, &err);
	if (r < 0)
		request_fail(request, &err);
	else if (r != COMMAND_LATER)
		request_return(request, result);
	session->dispatching = false;
}

/* ---- messages ---- */

static int negotiate(struct session *session, const cJSON *arguments, struct err *err)
{
	const cJSON *argument, *wanted;
	char quoted[80];
	cJSON_ArrayForEach(argument, arguments)
	{
		if (strcmp(argument->string, "enable") != 0 || !cJSON_IsArray(argument))
			return err_set(err, -EINVAL,
				       "qmp_capabilities: takes \"enable\", a list of capabilities");
		cJSON_ArrayForEach(wanted, argument) return err_set(
			err, -EINVAL, "qmp_capabilities: capability %s is not offered",
			json_describe(wanted, quoted, sizeof(quoted)));
	}
	session->ready = true;
	return 0;
}

static void not_found(struct session *session, const char *name, cJSON *id)
{
	struct err err = ERR_INIT;
	char quoted[80];
	const char *nearest = command_nearest(session->tables, name);
	(void)json_quote(name, quoted, sizeof(quoted));
	if (nearest)
		(void)err_set(&err, -ENOENT, "there is no command %s; did you mean \"%s\"?", quoted, nearest);
	else
		(void)err_set(&err, -ENOENT, "there is no command %s; query-commands lists them", quoted);
	send_error(session, id, "CommandNotFound", err.text);
}

static void execute(struct session *session, const char *name, const cJSON *arguments, cJSON *id)
{
	static const char capabilities[] = "qmp_capabilities";
	struct err err = ERR_INIT;
	if (session->ready) {
		const struct command *command = command_find(session->tables, name);
		if (command)
			run(session, command, arguments, id);
		else if (strcmp(name, capabilities) == 0)
			send_error(session, id, "CommandNotFound",
				   "capabilities are negotiated already; qmp_capabilities comes once");
		else
			not_found(session, name, id);
	} else if (strcmp(name, capabilities) != 0) {
		send_error(session, id, "CommandNotFound",
			   "expecting capabilities negotiation with qmp_capabilities");
	} else if (negotiate(session, arguments, &err) < 0) {
		send_error(session, id, "GenericError", err.text);
	} else {
		send_return(session, id, cJSON_CreateObject());
	}
}

struct message {
	const cJSON *execute, *arguments, *id;
};

/* NULL, or what is wrong with it. */
static const char *message_read(const cJSON *root, struct message *ret)
{
	const cJSON *member;
	const char *wrong = NULL; /* the first thing; the id is looked for all the same */
	*ret = (struct message){0};
	if (!cJSON_IsObject(root))
		return "a message is an object";
	cJSON_ArrayForEach(member, root)
	{
		const cJSON **place = strcmp(member->string, "execute") == 0	 ? &ret->execute
				      : strcmp(member->string, "arguments") == 0 ? &ret->arguments
				      : strcmp(member->string, "id") == 0	 ? &ret->id
										 : NULL;
		if (place && !*place)
			*place = member;
		else if (!wrong && place)
			wrong = "a member is given twice";
		else if (!wrong && strcmp(member->string, "exec-oob") == 0)
			wrong = "out-of-band execution is not among the capabilities";
		else if (!wrong)
			wrong = "a message has the members \"execute\", \"arguments\" and \"id\" only";
	}
	if (wrong)
		return wrong;
	if (!cJSON_IsString(ret->execute))
		return ret->execute ? "\"execute\" is not a text" : "\"execute\" is missing";
	if (ret->arguments && !cJSON_IsObject(ret->arguments))
		return "\"arguments\" is not an object";
	return NULL;
}

static void handle(struct session *session, const char *text, size_t len)
{
	_cleanup_json_ cJSON *root = NULL;
	struct message message;
	struct err err = ERR_INIT;
	if (json_parse("input", text, len, 0, &root, &err) < 0) {
		(void)err_prepend(&err, "JSON parse error");
		send_error(session, NULL, "GenericError", err.text);
		return;
	}
	const char *wrong = message_read(root, &message);
	cJSON *id = message.id ? cJSON_DetachItemFromObjectCaseSensitive(root, "id") : NULL;
	if (wrong)
		send_error(session, id, "GenericError", wrong);
	else
		execute(session, message.execute->valuestring, message.arguments, id);
}

/* A message is complete, or never will be. */
static void react(struct session *session, enum frame_result result)
{
	switch (result) {
	case FRAME_MORE:
		break;
	case FRAME_MESSAGE:
		handle(session, session->frame.text, session->frame.used);
		frame_next(&session->frame);
		break;
	case FRAME_BROKEN:
		send_error(
			session, NULL, "GenericError",
			"JSON parse error: a byte that cannot stand in JSON; what came before it is dropped");
		break;
	case FRAME_TOO_LONG:
		send_error(session, NULL, "GenericError", "a message has at most 65536 bytes; hanging up");
		session->dead = true;
		break;
	case FRAME_TOO_DEEP:
		send_error(session, NULL, "GenericError",
			   "a message is nested at most 16 levels deep; hanging up");
		session->dead = true;
		break;
	case FRAME_NO_MEMORY:
		session->dead = true;
		break;
	}
}

size_t session_feed(struct session *session, const char *data, size_t len)
{
	size_t taken = 0;
	if (session->request || session->dead)
		return 0;
	react(session, frame_feed(&session->frame, data, len, &taken));
	return taken;
}

void session_start(struct session *session)
{
	session_send(session, wire_greeting());
}

void session_finish(struct session *session)
{
	if (session->request)
		session->request->session = NULL;
	session->request = NULL;
	frame_finish(&session->frame);
}
