/* The socket, who is let in, and what all are told. */
#include "control_impl.h"
#include "snapshot/snapshot.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "wire.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define ACCEPT_AGAIN_NS 200000000ULL
/* A client that has not negotiated by then gives way to a new one, when there are as many as there can be. */
#define HANDSHAKE_NS 5000000000ULL

/* ---- events ---- */

void control_event(struct control *control, const char *name, cJSON *data)
{
	size_t len = 0;
	cJSON *event = wire_event(name, data);
	char *text = event ? wire_print(event, &len) : NULL;
	for (struct client *client = control->clients; text && client; client = client->next)
		if (client->session.ready)
			client_send(client, text, len);
	free(text);
	cJSON_Delete(event);
}

static cJSON *cause_data(const struct machine *machine)
{
	enum machine_cause cause = machine_cause(machine);
	cJSON *data = cJSON_CreateObject();
	cJSON_AddBoolToObject(data, "guest", cause >= MACHINE_CAUSE_GUEST_SHUTDOWN);
	cJSON_AddStringToObject(data, "reason", machine_cause_name(cause));
	return data;
}

static void noticed(struct machine_observer *observer, enum machine_notice notice)
{
	struct control *control = container_of(observer, struct control, observer);
	switch (notice) {
	case MACHINE_STOPPED:
		control_event(control, "STOP", NULL);
		break;
	case MACHINE_RESUMED:
		control_event(control, "RESUME", NULL);
		break;
	case MACHINE_WAS_RESET:
		control_event(control, "RESET", cause_data(control->machine));
		break;
	case MACHINE_POWERDOWN_ASKED:
		control_event(control, "POWERDOWN", NULL);
		break;
	case MACHINE_ENDS:
		control_event(control, "SHUTDOWN", cause_data(control->machine));
		for (struct client *client = control->clients; client; client = client->next)
			client_flush(client);
		break;
	}
}

static void heard(struct machine_observer *observer, struct device *device, unsigned news)
{
	control_tell_news(container_of(observer, struct control, observer), device, news);
}

/* ---- clients ---- */

static void refuse(int fd)
{
	size_t len = 0;
	cJSON *reply = wire_error("GenericError", "too many clients (at most 16)");
	char *text = wire_print(reply, &len);
	if (text)
		(void)send(fd, text, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	free(text);
	cJSON_Delete(reply);
	(void)close_fd(fd);
}

/* Whoever only holds a place open loses it. */
static bool make_room(struct control *control)
{
	struct client *oldest = NULL;
	if (control->client_count < CONTROL_CLIENTS_MAX)
		return true;
	for (struct client *client = control->clients; client; client = client->next)
		if (!client->session.ready && (!oldest || client->since_ns < oldest->since_ns))
			oldest = client;
	if (!oldest || loop_now_ns() - oldest->since_ns < HANDSHAKE_NS)
		return false;
	client_destroy(oldest);
	return true;
}

static void accept_next(struct control *control)
{
	loop_accept(control->loop, &control->accept_op, control->listener.fd);
}

static void accepted(struct loop_op *op, int res)
{
	struct control *control = container_of(op, struct control, accept_op);
	if (res < 0) {
		/* The client was gone before we came (ECONNABORTED), or descriptors are short (EMFILE). */
		if (!control->complained)
			log_warn("%s: accept: %s; trying again", control->listener.path, strerror(-res));
		control->complained = true;
		loop_delay(control->loop, &control->again_op, ACCEPT_AGAIN_NS);
		return;
	}
	control->complained = false;
	if (make_room(control))
		client_create(control, res);
	else
		refuse(res);
	accept_next(control);
}

static void accept_again(struct loop_op *op, int res)
{
	(void)res;
	accept_next(container_of(op, struct control, again_op));
}

/* ---- life ---- */

int control_create(struct machine *machine, const char *path, struct control **ret, struct err *err)
{
	struct control *control = calloc(1, sizeof(*control));
	if (!control)
		return err_sys(err, -ENOMEM, "control socket");
	control->machine = machine;
	control->loop = machine_loop(machine);
	control->tables = command_tables;
	control->accept_op.done = accepted;
	control->again_op.done = accept_again;
	control->observer.notice = noticed;
	control->observer.news = heard;
	int r = unix_socket_listen(path, 0600, CONTROL_BACKLOG, &control->listener, err);
	if (r < 0) {
		control_destroy(control);
		return err_prepend(err, "control socket");
	}
	r = control_start_migrate(control, err);
	if (r < 0) {
		control_destroy(control);
		return r;
	}
	machine_observe(machine, &control->observer);
	accept_next(control);
	*ret = control;
	return 0;
}

void control_destroy(struct control *control)
{
	if (!control)
		return;
	machine_unobserve(control->machine, &control->observer);
	migrate_destroy(control->migrate);
	if (control->incoming)
		incoming_watch(control->incoming, NULL, NULL);
	int fd = loop_release(control->loop, &control->accept_op);
	if (fd > 0) /* it came in just now */
		(void)close_fd(fd);
	(void)loop_release(control->loop, &control->again_op);
	while (control->jobs)
		control->jobs->finish(control->jobs);
	snapshot_base_free(control->snapshot_base);
	while (control->clients) {
		client_flush(control->clients);
		client_destroy(control->clients);
	}
	unix_socket_unlisten(&control->listener);
	free(control);
}
