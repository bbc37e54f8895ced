/*
 * Subcommands. Each takes its own argv (argv[0] is its name), prints through base/log.h and returns the exit
 * code of the program: 0 ok, 1 the machine or the host failed, 2 bad usage or config. `run` may also return
 * what the guest wrote to the debug exit port.
 */
#ifndef AERIE_CLI_CLI_H
#define AERIE_CLI_CLI_H

enum { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2 };

int cli_run(int argc, char **argv);
int cli_restore(int argc, char **argv);
int cli_snapshot(int argc, char **argv);
int cli_check(int argc, char **argv);
int cli_ctl(int argc, char **argv);
int cli_inspect(int argc, char **argv);
int cli_doctor(int argc, char **argv);
int cli_cpu(int argc, char **argv);

#endif
