/*
 * snapshot-save: the machine stands still while a thread of its own writes it to disk, and its loop goes on
 * serving clients meanwhile.
 */
#include "control_impl.h"

#include "base/cleanup.h"
#include "migrate/migrate.h"
#include "snapshot/snapshot.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

enum { PROGRESS_NS = 100 * 1000 * 1000 };

struct save_job {
	struct job job;
	struct control *control;
	struct request *request;
	struct snapshot_save *save;
	struct snapshot_base *track; /* NULL: not asked for */
	enum machine_status before;
	bool resume;
	uint64_t stopped_at_ns;
	pthread_t thread;
	struct loop_op tick_op;
	struct loop_op done_op;
	int result;
	struct err err; /* the thread's until done_op */
};

static void *write_thread(void *arg)
{
	struct save_job *save = arg;
	(void)pthread_setname_np(pthread_self(), "snapshot");
	save->result = snapshot_save_write(save->save, &save->err);
	loop_post(save->control->loop, &save->done_op);
	return NULL;
}

static void tick(struct loop_op *op, int res)
{
	struct save_job *save = container_of(op, struct save_job, tick_op);
	if (res == -ECANCELED)
		return;
	snapshot_save_progress(save->save, &save->job.done, &save->job.total);
	loop_delay(save->control->loop, &save->tick_op, PROGRESS_NS);
}

/* The machine goes on as it was before, or as the operator asked. */
static void let_go(struct machine *machine, enum machine_status before, bool resume)
{
	if (resume)
		machine_continue(machine);
	else
		machine_pause(machine, before == MACHINE_RUNNING ? MACHINE_PAUSED : before);
}

static void save_free(struct save_job *save)
{
	snapshot_save_free(save->save);
	snapshot_base_free(save->track);
	free(save);
}

/* The thread has ended. */
static void save_end(struct save_job *save)
{
	struct control *control = save->control;
	bool good = save->result == 0;
	(void)loop_release(control->loop, &save->tick_op);
	job_end(control, &save->job);
	if (good && save->track) {
		snapshot_base_free(control->snapshot_base);
		control->snapshot_base = take_ptr(save->track);
	}
	if (good) {
		cJSON *value = cJSON_CreateObject();
		json_add_u64(value, "bytes", snapshot_save_bytes(save->save));
		json_add_u64(value, "stopped-us", (loop_now_ns() - save->stopped_at_ns) / 1000);
		request_return(save->request, value);
	} else {
		request_fail(save->request, &save->err);
	}
	save_free(save);
}

static void written(struct loop_op *op, int res)
{
	struct save_job *save = container_of(op, struct save_job, done_op);
	(void)res;
	(void)pthread_join(save->thread, NULL);
	let_go(save->control->machine, save->before,
	       save->result == 0 ? save->resume : save->before == MACHINE_RUNNING);
	save_end(save);
}

static void cancel(struct job *job)
{
	snapshot_save_cancel(container_of(job, struct save_job, job)->save);
}

/* The machine has ended, and stays as it is. */
static void finish(struct job *job)
{
	struct save_job *save = container_of(job, struct save_job, job);
	snapshot_save_cancel(save->save);
	(void)pthread_join(save->thread, NULL);
	(void)loop_release(save->control->loop, &save->done_op);
	save_end(save);
}

/* It stops the machine when it likes, and what ran after a save might by then run on the other side. */
static bool migrates(const struct control *control)
{
	struct migrate_info info;
	migrate_query(control->migrate, &info);
	return info.status >= MIGRATE_SETUP && info.status <= MIGRATE_CANCELLING;
}

static int check_possible(const struct request *request, const struct value *base, struct err *err)
{
	struct control *control = request->control;
	enum machine_status status = machine_status(control->machine);
	if (control->jobs)
		return err_set(err, -EBUSY, "snapshot-save: not while %s is under way", control->jobs->id);
	if (migrates(control))
		return err_set(err, -EBUSY, "snapshot-save: not while a migration is under way");
	if (status != MACHINE_RUNNING && status != MACHINE_PAUSED && status != MACHINE_PRELAUNCH)
		return err_set(err, -EBUSY, "snapshot-save: not while the machine is in status \"%s\"",
			       machine_status_name(status));
	return base->given ? snapshot_base_check(control->snapshot_base, base->text, err) : 0;
}

static int begin(struct save_job *save, const char *dir, bool on_base, bool track, struct err *err)
{
	struct control *control = save->control;
	int r = snapshot_save_begin(control->machine, dir, on_base ? control->snapshot_base : NULL,
				    &save->save, err);
	if (r == 0 && track)
		r = snapshot_base_create(control->machine, save->save, &save->track, err);
	if (r == 0)
		r = -pthread_create(&save->thread, NULL, write_thread, save);
	return r < 0 ? err_sys(err, r, "snapshot-save") : 0;
}

static int snapshot_save(struct request *request, const struct value *values, cJSON **ret, struct err *err)
{
	struct control *control = request->control;
	(void)ret;
	int r = check_possible(request, &values[2], err);
	if (r < 0)
		return r;
	struct save_job *save = calloc(1, sizeof(*save));
	if (!save)
		return err_sys(err, -ENOMEM, "snapshot-save");
	save->control = control;
	save->request = request;
	save->before = machine_status(control->machine);
	save->resume = values[1].flag;
	save->stopped_at_ns = loop_now_ns();
	save->tick_op.done = tick;
	save->done_op.done = written;
	save->job =
		(struct job){.id = "snapshot-save", .phase = "writing", .cancel = cancel, .finish = finish};
	machine_pause(control->machine, MACHINE_SAVE_VM);
	r = begin(save, values[0].text, values[2].given, values[3].flag, err);
	if (r < 0) {
		let_go(control->machine, save->before, save->before == MACHINE_RUNNING);
		save_free(save);
		return r;
	}
	job_start(control, &save->job);
	loop_delay(control->loop, &save->tick_op, PROGRESS_NS);
	return COMMAND_LATER;
}

const struct command commands_snapshot[] = {
	{{.name = "snapshot-save",
	  .doc = "write the machine to a directory, from which `aerie restore` brings it back",
	  .args = {{.name = "dir",
		    .type = ARG_PATH,
		    .doc = "where; a snapshot that is there is replaced, at once or not at all"},
		   {.name = "resume",
		    .type = ARG_BOOL,
		    .optional = true,
		    .doc = "let the guest go on afterwards (default: it stays paused)"},
		   {.name = "base",
		    .type = ARG_PATH,
		    .optional = true,
		    .doc = "only what was written since this snapshot, which was taken with track"},
		   {.name = "track",
		    .type = ARG_BOOL,
		    .optional = true,
		    .doc = "remember what is written from now on, for a snapshot with this one as base"}}},
	 snapshot_save},
	{{.name = NULL}, NULL},
};
