/* Jobs: what takes time, how far it is, and ending it. */
#include "control_impl.h"

#include "config/json.h"

#include <errno.h>
#include <string.h>

void job_start(struct control *control, struct job *job)
{
	job->next = control->jobs;
	control->jobs = job;
}

void job_end(struct control *control, struct job *job)
{
	for (struct job **at = &control->jobs; *at; at = &(*at)->next) {
		if (*at == job) {
			*at = job->next;
			return;
		}
	}
}

static struct job *find(struct control *control, const char *id)
{
	struct job *job = control->jobs;
	while (job && strcmp(job->id, id) != 0)
		job = job->next;
	return job;
}

static int query_jobs(struct request *request, const struct value *values, cJSON **ret, struct err *err)
{
	(void)values, (void)err;
	*ret = cJSON_CreateArray();
	for (const struct job *job = request->control->jobs; job; job = job->next) {
		cJSON *entry = cJSON_CreateObject();
		cJSON_AddStringToObject(entry, "id", job->id);
		cJSON_AddStringToObject(entry, "type", job->id);
		cJSON_AddStringToObject(entry, "status", "running");
		if (job->phase)
			cJSON_AddStringToObject(entry, "phase", job->phase);
		json_add_u64(entry, "current-progress", job->done);
		json_add_u64(entry, "total-progress", job->total);
		cJSON_AddItemToArray(*ret, entry);
	}
	return 0;
}

static int job_cancel(struct request *request, const struct value *values, cJSON **ret, struct err *err)
{
	struct job *job = find(request->control, values[0].text);
	char quoted[80];
	(void)ret;
	if (!job)
		return err_set(err, -ENOENT, "job-cancel: there is no job %s (query-jobs lists them)",
			       json_quote(values[0].text, quoted, sizeof(quoted)));
	if (!job->cancel)
		return err_set(err, -EOPNOTSUPP, "job-cancel: %s cannot be cancelled", job->id);
	job->cancel(job);
	return 0;
}

const struct command commands_jobs[] = {
	{{.name = "query-jobs", .doc = "what takes time and how far it is"}, query_jobs},
	{{.name = "job-cancel",
	  .doc = "end a job; the command that started it fails",
	  .args = {{.name = "id", .type = ARG_TEXT, .min = 1, .max = 64, .doc = "as query-jobs has it"}}},
	 job_cancel},
	{{.name = NULL}, NULL},
};
