/* The destination as the machine's owner sees it. */
#include "base/cleanup.h"
#include "base/log.h"
#include "dest.h"
#include "guest_machine.h"
#include "host/loop.h"
#include "migrate/migrate.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct incoming {
	char *uri_text;
	struct uri uri;
	struct dest dest;
	bool has_config;	 /* dest_begin is done */
	struct machine *machine; /* NULL before incoming_start */
	struct guest_machine guest;
	struct machine_observer observer;
	pthread_t thread;
	bool has_thread;
	struct err err; /* the thread's, until it is joined */
	void (*changed)(void *owner);
	void *owner;
	struct loop_op changed_op; /* posted by the thread */
};

int incoming_create(const char *uri, const char *tls_creds, struct incoming **ret, struct err *err)
{
	struct incoming *incoming = calloc(1, sizeof(*incoming));
	if (!incoming)
		return err_sys(err, -ENOMEM, "incoming migration");
	incoming->uri_text = strdup(uri);
	int r = incoming->uri_text ? uri_parse(incoming->uri_text, &incoming->uri, err)
				   : err_sys(err, -ENOMEM, "incoming migration");
	if (r < 0) {
		free(incoming->uri_text);
		free(incoming);
		return r;
	}
	incoming->err = ERR_INIT;
	r = dest_init(&incoming->dest, &incoming->uri, tls_creds, err);
	if (r < 0) {
		incoming_destroy(incoming);
		return r;
	}
	unsigned port = listener_port(&incoming->dest.listener);
	if (port)
		log_info("migration: listening on port %u", port);
	*ret = incoming;
	return 0;
}

int incoming_config(struct incoming *incoming, const char **ret, size_t *ret_bytes, struct err *err)
{
	int r = dest_begin(&incoming->dest, err);
	if (r < 0)
		return r;
	incoming->has_config = true;
	*ret = incoming->dest.config;
	*ret_bytes = incoming->dest.config_bytes;
	return 0;
}

void incoming_refuse(struct incoming *incoming, const struct err *err)
{
	dest_refuse(&incoming->dest, err);
}

static void *incoming_thread(void *argument)
{
	struct incoming *incoming = argument;
	struct dest *dest = &incoming->dest;
	(void)pthread_setname_np(pthread_self(), "incoming");
	int r = incoming->has_config ? 0 : dest_begin(dest, &incoming->err);
	dest->guest = &incoming->guest.guest;
	if (r == 0)
		r = dest_run(dest, &incoming->err);
	if (r < 0)
		machine_ask_end(incoming->machine);
	else
		log_info("migration: the machine has arrived");
	return NULL;
}

static void tell_change(struct dest *dest)
{
	struct incoming *incoming = dest->owner;
	loop_post(machine_loop(incoming->machine), &incoming->changed_op);
}

static void on_change(struct loop_op *op, int res)
{
	struct incoming *incoming = container_of(op, struct incoming, changed_op);
	(void)res;
	if (incoming->changed)
		incoming->changed(incoming->owner);
}

void incoming_watch(struct incoming *incoming, void (*changed)(void *owner), void *owner)
{
	incoming->changed = changed;
	incoming->owner = owner;
}

void incoming_query(struct incoming *incoming, struct migrate_info *ret)
{
	uint64_t missing;
	*ret = (struct migrate_info){.status = dest_status(&incoming->dest),
				     .is_incoming = true,
				     .state = protocol_states[incoming->dest.state].name,
				     .expected_down_ms = UINT64_MAX,
				     .err = ERR_INIT};
	dest_progress(&incoming->dest, &missing, &ret->requests);
	ret->remaining_bytes = missing * WIRE_PAGE_BYTES;
	ret->total_bytes = machine_config(incoming->machine)->memory.size_bytes;
	if (ret->status == MIGRATE_POSTCOPY_PAUSED)
		dest_paused_why(&incoming->dest, &ret->err);
}

int incoming_recover(struct incoming *incoming, const char *uri, struct err *err)
{
	char *text = strdup(uri);
	if (!text)
		return err_sys(err, -ENOMEM, "migration");
	int r = dest_recover(&incoming->dest, text, err);
	if (r < 0)
		free(text);
	return r;
}

static void on_notice(struct machine_observer *observer, enum machine_notice notice)
{
	struct incoming *incoming = container_of(observer, struct incoming, observer);
	if (notice != MACHINE_ENDS || !incoming->has_thread)
		return;
	guest_machine_end(&incoming->guest);
	dest_cancel(&incoming->dest);
	pthread_join(incoming->thread, NULL);
	incoming->has_thread = false;
	(void)loop_release(machine_loop(incoming->machine), &incoming->changed_op);
}

int incoming_start(struct incoming *incoming, struct machine *machine, struct err *err)
{
	incoming->machine = machine;
	incoming->observer.notice = on_notice;
	incoming->changed_op.done = on_change;
	incoming->dest.owner = incoming;
	incoming->dest.moved = tell_change;
	guest_machine_init(&incoming->guest, machine);
	machine_observe(machine, &incoming->observer);
	int r = -pthread_create(&incoming->thread, NULL, incoming_thread, incoming);
	if (r < 0)
		return err_sys(err, r, "incoming migration");
	incoming->has_thread = true;
	return 0;
}

int incoming_error(struct incoming *incoming, struct err *err)
{
	if (incoming->err.code == 0 || incoming->err.code == -ECANCELED)
		return 0;
	return err_set(err, incoming->err.code, "incoming migration: %s", incoming->err.text);
}

void incoming_destroy(struct incoming *incoming)
{
	if (!incoming)
		return;
	if (incoming->machine) {
		on_notice(&incoming->observer, MACHINE_ENDS);
		machine_unobserve(incoming->machine, &incoming->observer);
		guest_machine_finish(&incoming->guest);
	}
	dest_finish(&incoming->dest);
	free(incoming->uri_text);
	free(incoming);
}
