/*
 * What takes time: query-jobs tells how far it is, job-cancel ends it.
 *
 * A command that answers later owns a job for as long as it runs and keeps `done` and `total` current. All on
 * the machine's thread.
 */
#ifndef AERIE_SRC_CONTROL_JOB_H
#define AERIE_SRC_CONTROL_JOB_H

#include <stdint.h>

struct control;

struct job {
	const char *id;	      /* unique: mostly the command's name */
	uint64_t done, total; /* in the same unit, mostly bytes; total may grow; 0: not known yet */
	const char *phase;    /* a word for people; NULL: none */
	void (*cancel)(struct job *job); /* asks it to end soon, and to fail its request; NULL: it cannot */
	/* The control socket goes away: end now, fail the request, job_end. Never NULL. */
	void (*finish)(struct job *job);
	struct job *next; /* private */
};

void job_start(struct control *control, struct job *job); /* borrowed until job_end */
void job_end(struct control *control, struct job *job);

#endif
