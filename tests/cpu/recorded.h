/* The recorded hosts of tests/data/hosts, for tests. */
#ifndef AERIE_TESTS_CPU_RECORDED_H
#define AERIE_TESTS_CPU_RECORDED_H

#include "cpu/record.h"
#include "harness.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HOSTS "tests/data/hosts"
enum { HOSTS_MAX = 32, HOST_TEXT_BYTES = 1 << 20 };

struct hosts {
	size_t count;
	char names[HOSTS_MAX][64]; /* without the ending */
	struct cpu_host *host[HOSTS_MAX];
};

/* `name` without folder and ending; the caller frees. */
static inline struct cpu_host *host_named(const char *name)
{
	char path[256];
	struct cpu_host *host = calloc(1, sizeof(*host));
	char *text = malloc(HOST_TEXT_BYTES);
	struct err err = ERR_INIT;
	(void)snprintf(path, sizeof(path), HOSTS "/%s.json", name);
	FILE *file = fopen(path, "re");
	ck_assert(host && text);
	ck_assert_msg(file != NULL, "%s", path);
	size_t len = fread(text, 1, HOST_TEXT_BYTES, file);
	ck_assert_uint_lt(len, HOST_TEXT_BYTES);
	ck_assert_int_eq(fclose(file), 0);
	ck_assert_msg(cpu_record_parse(path, text, len, host, &err) == 0, "%s", err.text);
	free(text);
	return host;
}

static inline void hosts_load(struct hosts *ret)
{
	struct dirent **entries;
	int count = scandir(HOSTS, &entries, NULL, alphasort);
	ret->count = 0;
	for (int i = 0; i < count; i++) {
		size_t len = strlen(entries[i]->d_name);
		if (len > 5 && len < 64 && strcmp(entries[i]->d_name + len - 5, ".json") == 0) {
			ck_assert_uint_lt(ret->count, HOSTS_MAX);
			memcpy(ret->names[ret->count], entries[i]->d_name, len - 5);
			ret->names[ret->count][len - 5] = '\0';
			ret->host[ret->count] = host_named(ret->names[ret->count]);
			ret->count++;
		}
		free(entries[i]);
	}
	free(entries);
	ck_assert_uint_gt(ret->count, 6); /* an empty folder must not look like success */
}

static inline void hosts_free(struct hosts *hosts)
{
	while (hosts->count)
		free(hosts->host[--hosts->count]);
}

#endif
