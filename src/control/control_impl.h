/* The control socket from within the room: what commands may use, and what server.c and client.c share. */
#ifndef AERIE_SRC_CONTROL_CONTROL_IMPL_H
#define AERIE_SRC_CONTROL_CONTROL_IMPL_H

#include "control/control.h"
#include "host/loop.h"
#include "host/unix_socket.h"
#include "job.h"
#include "migrate/migrate.h"
#include "session.h"

enum {
	CONTROL_CLIENTS_MAX = 16,
	CONTROL_BACKLOG = 128, /* who came while the machine was busy */
	CLIENT_IN_BYTES = 4096,
	CLIENT_PATIENT_BYTES = 64 * 1024,      /* so much unread output, and no more commands are taken */
	CLIENT_OUT_BYTES_MAX = 8 * 1024 * 1024 /* so much, and the client is hung up on */
};

struct control {
	struct machine *machine;
	struct loop *loop;
	const struct command *const *tables;
	struct unix_listener listener;
	struct loop_op accept_op;
	struct loop_op again_op; /* accept, after a failure */
	bool complained;
	struct client *clients;
	size_t client_count;
	struct machine_observer observer;
	struct job *jobs;
	struct snapshot_base *snapshot_base; /* since which writes are remembered; NULL: none */
	struct migrate *migrate;
	struct incoming *incoming; /* NULL: the machine began here */
	enum migrate_status incoming_said;
	enum migrate_status migrate_said; /* by the latest event */
};

/* To all clients that have negotiated. `data` is owned from here, and may be NULL. */
void control_event(struct control *control, const char *name, cJSON *data);

/* commands_devices.c: the events of what a device has told (enum device_news). */
void control_tell_news(struct control *control, struct device *device, unsigned news);
/* commands_migrate.c: the machine can be moved from now on. */
int control_start_migrate(struct control *control, struct err *err);

/* ---- client.c ---- */

struct output {
	char *text;
	size_t used, size;
};

struct client {
	struct session session;
	struct control *control;
	int fd;
	uint64_t since_ns;
	struct loop_op recv_op, send_op;
	struct loop_op turn_op; /* posted: input is left, others first */
	struct loop_op reap_op;
	char in[CLIENT_IN_BYTES];
	size_t in_used, in_taken;
	struct output waiting; /* grows */
	struct output sending; /* the loop's while send_op is pending; sent of it were */
	size_t sent;
	struct client *next;
};

/* Takes the descriptor, also on failure. */
void client_create(struct control *control, int fd);
void client_destroy(struct client *client);
/* At the very end, when the loop runs no more: what the socket takes at once. */
void client_flush(struct client *client);
void client_send(struct client *client, const char *text, size_t len);

#endif
