/*
 * One connection. What is read goes into the session; what the session says is collected in `waiting` and
 * goes out in one send at a time. Nothing here waits: a client that does not read is first not read from
 * either, then, when events and answers have piled up, hung up on.
 */
#include "control_impl.h"

#include "base/cleanup.h"
#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static struct client *client_of(struct session *session)
{
	return container_of(session, struct client, session);
}

/* Not at once: the caller may stand in a function of this very client. */
static void hang_up(struct client *client)
{
	client->session.dead = true;
	if (!client->reap_op.pending)
		loop_defer(client->control->loop, &client->reap_op, 0);
}

static void reap(struct loop_op *op, int res)
{
	(void)res;
	struct client *client = container_of(op, struct client, reap_op);
	client_flush(client); /* the error that tells it why */
	client_destroy(client);
}

/* ---- out ---- */

static void send_next(struct client *client)
{
	if (client->send_op.pending || client->session.dead)
		return;
	if (client->sent == client->sending.used) {
		struct output sent = client->sending;
		client->sending = client->waiting;
		client->waiting = (struct output){.text = sent.text, .size = sent.size};
		client->sent = 0;
	}
	if (client->sending.used > 0)
		loop_send(client->control->loop, &client->send_op, client->fd,
			  client->sending.text + client->sent, client->sending.used - client->sent, 0);
	else if (client->sending.size > CLIENT_PATIENT_BYTES) {
		free(client->sending.text); /* one large answer need not be paid for ever */
		client->sending = (struct output){0};
	}
}

static bool output_room(struct output *output, size_t len)
{
	size_t size = output->size ? output->size : 1024;
	while (size - output->used < len)
		size *= 2;
	if (size == output->size)
		return true;
	char *text = realloc(output->text, size);
	if (!text)
		return false;
	output->text = text;
	output->size = size;
	return true;
}

void client_send(struct client *client, const char *text, size_t len)
{
	size_t unread = client->sending.used - client->sent + client->waiting.used;
	if (client->session.dead && client->waiting.used > CLIENT_PATIENT_BYTES)
		return;
	if (len > CLIENT_OUT_BYTES_MAX - unread || !output_room(&client->waiting, len)) {
		log_warn("control: a client does not read what it is told; hanging up");
		hang_up(client);
		return;
	}
	memcpy(client->waiting.text + client->waiting.used, text, len);
	client->waiting.used += len;
	send_next(client);
}

static void session_says(struct session *session, const char *text, size_t len)
{
	client_send(client_of(session), text, len);
}

void client_flush(struct client *client)
{
	struct loop *loop = client->control->loop;
	int r = loop_release(loop, &client->send_op);
	if (r > 0)
		client->sent += (size_t)r;
	size_t left = client->sending.used - client->sent;
	const struct iovec parts[] = {
		{left ? client->sending.text + client->sent : NULL, left}, /* NULL + 0 is undefined in C17 */
		{client->waiting.text, client->waiting.used},
	};
	const struct msghdr msg = {.msg_iov = (struct iovec *)(uintptr_t)parts, .msg_iovlen = 2};
	if (parts[0].iov_len + parts[1].iov_len > 0)
		(void)sendmsg(client->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	client->sent = client->sending.used;
	client->waiting.used = 0;
}

/* ---- in ---- */

static bool is_patient(const struct client *client)
{
	return client->sending.used - client->sent + client->waiting.used < CLIENT_PATIENT_BYTES;
}

static bool may_feed(const struct client *client)
{
	return !session_busy(&client->session) && is_patient(client);
}

/*
 * One message at a time, and the next after all others had their turn: a client that sends without end must
 * not have the loop for itself.
 */
static void pump(struct client *client)
{
	struct session *session = &client->session;
	struct loop *loop = client->control->loop;
	if (client->in_taken < client->in_used && may_feed(client))
		client->in_taken += session_feed(session, client->in + client->in_taken,
						 client->in_used - client->in_taken);
	if (session->dead)
		hang_up(client);
	else if (may_feed(client) && client->in_taken < client->in_used)
		loop_post(loop, &client->turn_op);
	else if (may_feed(client) && !client->recv_op.pending)
		loop_recv(loop, &client->recv_op, client->fd, client->in, sizeof(client->in), 0);
}

static void next_turn(struct loop_op *op, int res)
{
	(void)res;
	pump(container_of(op, struct client, turn_op));
}

static void received(struct loop_op *op, int res)
{
	struct client *client = container_of(op, struct client, recv_op);
	if (res == -EINTR || res == -EAGAIN)
		res = 0; /* never from a blocking socket; then it ends here */
	if (res <= 0) {
		hang_up(client);
		return;
	}
	client->in_used = (size_t)res;
	client->in_taken = 0;
	pump(client);
}

static void sent(struct loop_op *op, int res)
{
	struct client *client = container_of(op, struct client, send_op);
	if (res <= 0) {
		hang_up(client);
		return;
	}
	client->sent += (size_t)res;
	send_next(client);
	pump(client);
}

static void session_wakes(struct session *session)
{
	pump(client_of(session));
}

/* ---- life ---- */

void client_create(struct control *control, int fd)
{
	struct client *client = calloc(1, sizeof(*client));
	if (!client) {
		(void)close_fd(fd);
		return;
	}
	client->control = control;
	client->fd = fd;
	client->since_ns = loop_now_ns();
	client->recv_op.done = received;
	client->send_op.done = sent;
	client->turn_op.done = next_turn;
	client->reap_op.done = reap;
	client->next = control->clients;
	control->clients = client;
	control->client_count++;
	client->session = (struct session){
		.tables = control->tables, .control = control, .send = session_says, .wake = session_wakes};
	session_start(&client->session);
	pump(client);
}

void client_destroy(struct client *client)
{
	struct control *control = client->control;
	struct client **at = &control->clients;
	while (*at != client)
		at = &(*at)->next;
	*at = client->next;
	control->client_count--;
	(void)loop_release(control->loop, &client->recv_op);
	(void)loop_release(control->loop, &client->send_op);
	(void)loop_release(control->loop, &client->turn_op);
	(void)loop_release(control->loop, &client->reap_op);
	session_finish(&client->session);
	(void)close_fd(client->fd);
	free(client->waiting.text);
	free(client->sending.text);
	free(client);
}
