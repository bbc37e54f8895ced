/*
 * The host's clocks in the hands of a test: this program's clock_gettime answers instead of the C library's.
 * Until it is held it tells the true time plus what the test added; held, it stands still but for what the
 * test adds. One test program, one file that includes this.
 */
#ifndef AERIE_TESTS_DEVICES_CLOCK_H
#define AERIE_TESTS_DEVICES_CLOCK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static bool clock_held;
static int64_t clock_monotonic_ns; /* held: the time; else: what is added to it */
static int64_t clock_realtime_ns;

static inline int64_t clock_true_ns(clockid_t id)
{
	struct timespec ts = {0};
	(void)syscall(SYS_clock_gettime, id, &ts);
	return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

int clock_gettime(clockid_t id, struct timespec *ts)
{
	int64_t ns = id == CLOCK_REALTIME ? clock_realtime_ns : clock_monotonic_ns;
	if ((id != CLOCK_REALTIME && id != CLOCK_MONOTONIC) || !clock_held)
		ns = clock_true_ns(id) + (id == CLOCK_REALTIME || id == CLOCK_MONOTONIC ? ns : 0);
	ts->tv_sec = ns / 1000000000LL;
	ts->tv_nsec = ns % 1000000000LL;
	return 0;
}

/* Hold both clocks, CLOCK_REALTIME at `realtime_s` exactly. */
static inline void clock_hold(int64_t realtime_s)
{
	clock_held = true;
	clock_monotonic_ns = clock_true_ns(CLOCK_MONOTONIC);
	clock_realtime_ns = realtime_s * 1000000000LL;
}

static inline void clock_release(void)
{
	clock_held = false;
	clock_monotonic_ns = clock_realtime_ns = 0;
}

static inline void clock_advance_ns(int64_t ns)
{
	clock_monotonic_ns += ns;
	clock_realtime_ns += ns;
}

#endif
