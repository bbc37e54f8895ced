/*
 * The only place that prints.
 *
 * Messages for people go to stderr, one line each, prefixed "aerie: " and the level. Results that a command
 * was asked for go to stdout through print_out. The log level is the one mutable global of the program.
 */
#ifndef AERIE_BASE_LOG_H
#define AERIE_BASE_LOG_H

#include <stdarg.h>
#include <stdint.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

void log_set_level(enum log_level level); /* default LOG_WARN */
void log_line(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)
#define log_warn(...)  log_line(LOG_WARN, __VA_ARGS__)
#define log_info(...)  log_line(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_DEBUG, __VA_ARGS__)

/*
 * Guest mistakes are counted, and logged at a limited rate: a hostile guest must not fill the operator's
 * disk. A limit lives in the object that it guards, zero-initialised, is touched by any thread, and lets
 * through 10 lines a second at most; the next line that passes says how many were held back. Returns 1 if the
 * line was printed.
 */
struct log_limit {
	_Atomic uint64_t window_start_ns;
	_Atomic uint32_t printed;
	_Atomic uint32_t held_back;
	_Atomic uint64_t total;
};

int log_guest(struct log_limit *limit, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* stdout, for what a command was asked to say. print_flush returns -errno when stdout could not take it. */
void print_out(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
int print_flush(void);

#endif
