/* What the files of `aerie cpu` share. Each subcommand takes its own argv and returns an exit code (cli.h).
 */
#ifndef AERIE_SRC_CLI_CPU_H
#define AERIE_SRC_CLI_CPU_H

#include "cpu/features.h"

#include <cjson/cJSON.h>

int cpu_list(int argc, char **argv);
int cpu_show(int argc, char **argv);
int cpu_compare_hosts(int argc, char **argv);
int cpu_baseline_hosts(int argc, char **argv);

/* A recorded host, or with `path` NULL this machine. The caller frees it. */
int cpu_host_load(const char *path, struct cpu_host **ret, struct err *err);

/* Print what `err` holds and return the exit code: 2 for what the operator wrote, 1 for the rest. */
int cpu_fail(const struct err *err);

/* Print `tree` (NULL: no memory) to stdout, free it, flush; the exit code, `code` when all went well. */
int cpu_print_json(cJSON *tree, int code);

/* What getopt_long refused ('?' or ':'), as a message of `aerie cpu COMMAND`. Returns CLI_USAGE. */
int cpu_refuse_option(const char *command, int option, const char *at);

#endif
