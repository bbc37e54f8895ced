#include "base/log.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LIMIT_WINDOW_NS 1000000000ULL
#define LIMIT_LINES	10

static _Atomic int current_level = LOG_WARN;

static const char *const level_prefix[] = {
	[LOG_ERROR] = "aerie: ",
	[LOG_WARN] = "aerie: warning: ",
	[LOG_INFO] = "aerie: info: ",
	[LOG_DEBUG] = "aerie: debug: ",
};

void log_set_level(enum log_level level)
{
	atomic_store(&current_level, (int)level);
}

/* One write for each line, so that lines of several threads do not mix, also when stderr is a pipe. */
static void log_vline(enum log_level level, const char *fmt, va_list args)
{
	char line[2048];
	size_t used = strlen(level_prefix[level]);
	memcpy(line, level_prefix[level], used);
	int more = vsnprintf(line + used, sizeof(line) - used - 1, fmt, args);
	if (more < 0)
		return;
	used += (size_t)more;
	if (used > sizeof(line) - 2)
		used = sizeof(line) - 2;
	line[used++] = '\n';
	ssize_t done;
	do
		done = write(STDERR_FILENO, line, used);
	while (done < 0 && errno == EINTR);
}

void log_line(enum log_level level, const char *fmt, ...)
{
	if ((int)level > atomic_load_explicit(&current_level, memory_order_relaxed))
		return;
	va_list args;
	va_start(args, fmt);
	log_vline(level, fmt, args);
	va_end(args);
}

static uint64_t now_ns(void)
{
	struct timespec ts;
	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ULL + (uint64_t)ts.tv_nsec;
}

int log_guest(struct log_limit *limit, const char *fmt, ...)
{
	atomic_fetch_add(&limit->total, 1);
	uint64_t now = now_ns(), start = atomic_load(&limit->window_start_ns);
	if (start == 0 || now - start >= LIMIT_WINDOW_NS) {
		atomic_store(&limit->window_start_ns, now);
		atomic_store(&limit->printed, 0);
	}
	if (atomic_fetch_add(&limit->printed, 1) >= LIMIT_LINES) {
		atomic_fetch_add(&limit->held_back, 1);
		return 0;
	}
	uint32_t held_back = atomic_exchange(&limit->held_back, 0);
	if (held_back)
		log_warn("guest: %u similar messages held back", held_back);
	char text[1024];
	va_list args;
	va_start(args, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	log_warn("guest: %s", text);
	return 1;
}

void print_out(const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	(void)vprintf(fmt, args);
	va_end(args);
}

int print_flush(void)
{
	return fflush(stdout) || ferror(stdout) ? (errno ? -errno : -EIO) : 0;
}
