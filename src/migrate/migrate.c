/* The source as the machine's owner sees it: one migration at a time, each with a thread of its own. */
#include "base/cleanup.h"
#include "guest_machine.h"
#include "host/loop.h"
#include "memory/handover.h"
#include "params.h"
#include "source.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

struct migrate {
	struct machine *machine;
	void (*changed)(void *owner);
	void *owner;
	struct guest_machine guest;
	struct migrate_params params;
	struct machine_observer observer;
	struct loop_op changed_op; /* posted by the source's thread */
	bool ended;		   /* the machine does */

	/* The latest one; `running` and `active` false: there was none. */
	bool active; /* source is initialized */
	bool has_thread;
	char *uri_text;
	struct uri uri;
	struct source source;
	struct err err;
	pthread_t thread;
	_Atomic bool finished;
};

static void *source_thread(void *argument)
{
	struct migrate *migrate = argument;
	(void)pthread_setname_np(pthread_self(), "migrate");
	(void)source_run(&migrate->source, &migrate->err);
	atomic_store(&migrate->finished, true);
	loop_post(machine_loop(migrate->machine), &migrate->changed_op);
	return NULL;
}

static void tell_change(struct source *source)
{
	struct migrate *migrate = source->owner;
	loop_post(machine_loop(migrate->machine), &migrate->changed_op);
}

static void join(struct migrate *migrate)
{
	if (migrate->has_thread)
		pthread_join(migrate->thread, NULL);
	migrate->has_thread = false;
}

static void on_change(struct loop_op *op, int res)
{
	struct migrate *migrate = container_of(op, struct migrate, changed_op);
	(void)res;
	if (atomic_load(&migrate->finished))
		join(migrate);
	if (migrate->changed)
		migrate->changed(migrate->owner);
}

/* The machine's last moment: whoever waits for it gets an answer, and the thread an end. */
static void on_notice(struct machine_observer *observer, enum machine_notice notice)
{
	struct migrate *migrate = container_of(observer, struct migrate, observer);
	if (notice != MACHINE_ENDS)
		return;
	migrate->ended = true;
	guest_machine_end(&migrate->guest);
	if (migrate->has_thread)
		canceller_fire(&migrate->source.canceller);
	join(migrate);
	(void)loop_release(machine_loop(migrate->machine), &migrate->changed_op);
}

int migrate_create(struct machine *machine, void (*changed)(void *owner), void *owner, struct migrate **ret,
		   struct err *err)
{
	struct migrate *migrate = calloc(1, sizeof(*migrate));
	if (!migrate)
		return err_sys(err, -ENOMEM, "migration");
	migrate->machine = machine;
	migrate->changed = changed;
	migrate->owner = owner;
	migrate->params = migrate_params_default;
	migrate->changed_op.done = on_change;
	migrate->observer.notice = on_notice;
	guest_machine_init(&migrate->guest, machine);
	machine_observe(machine, &migrate->observer);
	*ret = migrate;
	return 0;
}

static void forget(struct migrate *migrate)
{
	if (migrate->active)
		source_finish(&migrate->source);
	migrate->active = false;
	free(take_ptr(migrate->uri_text));
}

void migrate_destroy(struct migrate *migrate)
{
	if (!migrate)
		return;
	if (!migrate->ended)
		on_notice(&migrate->observer, MACHINE_ENDS);
	machine_unobserve(migrate->machine, &migrate->observer);
	forget(migrate);
	guest_machine_finish(&migrate->guest);
	free(migrate);
}

/* Who has heard that it has ended may begin another one; its thread has nothing left to do. */
static void join_ended(struct migrate *migrate)
{
	struct migrate_info info;
	migrate_query(migrate, &info);
	if (info.status >= MIGRATE_COMPLETED)
		join(migrate);
}

static int check_startable(struct migrate *migrate, struct err *err)
{
	enum machine_status status = machine_status(migrate->machine);
	join_ended(migrate);
	if (migrate->has_thread)
		return err_set(err, -EBUSY, "a migration is under way");
	if (status != MACHINE_RUNNING && status != MACHINE_PAUSED && status != MACHINE_PRELAUNCH)
		return err_set(err, -EBUSY, "not while the machine is in status \"%s\"",
			       machine_status_name(status));
	return guest_machine_check(machine_config(migrate->machine), err);
}

int migrate_start(struct migrate *migrate, const char *uri, struct err *err)
{
	int r = check_startable(migrate, err);
	if (r < 0)
		return r;
	forget(migrate);
	migrate->uri_text = strdup(uri);
	if (!migrate->uri_text)
		return err_sys(err, -ENOMEM, "migration");
	r = uri_parse(migrate->uri_text, &migrate->uri, err);
	if (r < 0)
		return r;
	r = source_init(&migrate->source, &migrate->guest.guest, &migrate->uri, &migrate->params, err);
	migrate->active = true;
	migrate->source.changed = tell_change;
	migrate->source.owner = migrate;
	migrate->err = ERR_INIT;
	atomic_store(&migrate->finished, false);
	if (r == 0)
		r = -pthread_create(&migrate->thread, NULL, source_thread, migrate);
	if (r < 0) {
		forget(migrate);
		return err_sys(err, r, "migration");
	}
	migrate->has_thread = true;
	return 0;
}

int migrate_start_postcopy(struct migrate *migrate, struct err *err)
{
	if (!migrate->has_thread || atomic_load(&migrate->finished))
		return err_set(err, -EBUSY, "no migration is under way");
	return source_start_postcopy(&migrate->source, err);
}

int migrate_resume(struct migrate *migrate, const char *uri, struct err *err)
{
	struct uri parsed;
	if (!migrate->has_thread || atomic_load(&migrate->finished))
		return err_set(err, -EBUSY, "no migration is under way");
	char *text = strdup(uri);
	if (!text)
		return err_sys(err, -ENOMEM, "migration");
	int r = uri_parse(text, &parsed, err);
	if (r == 0)
		r = source_resume(&migrate->source, &parsed, err);
	if (r < 0) {
		free(text);
		return r;
	}
	free(migrate->uri_text); /* what it connected to before */
	migrate->uri_text = text;
	return 0;
}

int migrate_cancel(struct migrate *migrate, struct err *err)
{
	return migrate->has_thread && !atomic_load(&migrate->finished) ? source_cancel(&migrate->source, err)
								       : 0;
}

void migrate_query(struct migrate *migrate, struct migrate_info *ret)
{
	if (migrate->active)
		source_info(&migrate->source, ret);
	else
		*ret = (struct migrate_info){.status = MIGRATE_NONE, .state = "none"};
}

const struct migrate_params *migrate_get_params(const struct migrate *migrate)
{
	return &migrate->params;
}

int migrate_set_params(struct migrate *migrate, const struct migrate_params *params, struct err *err)
{
	int r = migrate_check_params(params, err);
	if (r < 0)
		return r;
	migrate->params = *params;
	machine_set_announce(migrate->machine, &params->announce);
	if (migrate->active)
		source_adjust(&migrate->source, params);
	return 0;
}

int migrate_resume_here(struct migrate *migrate, struct err *err)
{
	struct migrate_info info;
	migrate_query(migrate, &info);
	if (info.in_doubt && migrate->has_thread && source_leave_doubt(&migrate->source, err) < 0)
		return err->code;
	if (info.in_doubt)
		join(migrate);
	if (migrate->has_thread || !info.in_doubt || machine_status(migrate->machine) != MACHINE_POSTMIGRATE)
		return err_set(err, -EINVAL, "there is no doubt where the machine is");
	int r = machine_acquire(migrate->machine, err); /* a disk in use there says that it does run there */
	if (r == 0)
		r = handover_join(machine_memory(migrate->machine), err);
	if (r < 0)
		return r;
	if (migrate->source.was_running)
		machine_continue(migrate->machine);
	else
		machine_pause(migrate->machine, MACHINE_PAUSED);
	return 0;
}
