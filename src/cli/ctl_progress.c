/* How far a command is that takes its time, asked over a second connection. */
#include "ctl.h"

#include "base/cleanup.h"
#include "config/json.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { ASK_MS = 2000, BAR = 40 };

static uint64_t number_of(const cJSON *job, const char *name)
{
	const cJSON *number = cJSON_GetObjectItemCaseSensitive(job, name);
	return cJSON_IsRaw(number) ? strtoull(number->valuestring, NULL, 10) : 0;
}

static const char *text_of(const cJSON *job, const char *name)
{
	const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(job, name));
	return text ? text : "";
}

/* The one place where a line is drawn over: a bar is neither a result nor a message. */
static void draw(struct ctl_progress *progress, const cJSON *job, const char *command)
{
	uint64_t done = number_of(job, "current-progress"), total = number_of(job, "total-progress");
	double part = total == 0 ? 0 : done >= total ? 1 : (double)done / (double)total;
	char bar[BAR + 1], phase[64];
	if (!isatty(STDERR_FILENO))
		return;
	memset(bar, ' ', BAR);
	memset(bar, '#', (size_t)(part * BAR));
	bar[BAR] = '\0';
	const cJSON *word = cJSON_GetObjectItemCaseSensitive(job, "phase");
	(void)snprintf(phase, sizeof(phase), "%s", "");
	if (word)
		(void)ctl_text(word, phase, sizeof(phase));
	(void)dprintf(STDERR_FILENO, "\r%s [%s] %3d%% %s\033[K", command, bar, (int)(part * 100), phase);
	progress->shown = true;
}

bool ctl_progress_look(struct ctl_progress *progress, const char *path, const char *command)
{
	struct err err = ERR_INIT;
	_cleanup_json_ cJSON *answer = NULL;
	const cJSON *job;
	if (!progress->open) {
		if (ctl_link_open(&progress->link, path, &err) < 0)
			return false;
		progress->open = true;
	}
	if (ctl_link_ask(&progress->link, "query-jobs", NULL, ASK_MS, &answer, &err) < 0)
		return false;
	cJSON_ArrayForEach(job, cJSON_GetObjectItemCaseSensitive(answer, "return"))
	{
		if (strcmp(text_of(job, "type"), command) != 0)
			continue;
		draw(progress, job, command);
		return true;
	}
	return false;
}

void ctl_progress_end(struct ctl_progress *progress)
{
	if (progress->shown)
		(void)dprintf(STDERR_FILENO, "\r\033[K");
	if (progress->open)
		ctl_link_close(&progress->link);
	progress->open = progress->shown = false;
}
