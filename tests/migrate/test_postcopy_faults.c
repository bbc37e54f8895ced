/* Post-copy when the kernel does not do its part: userfaultfd not permitted, a page that is there, no memory.
 */
#include "late.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

/* What the next UFFDIO_COPYs come to; 0: what they should. */
static _Atomic int copy_errno;
static _Atomic int copies; /* so many of them */
static _Atomic bool forbidden;

static long raw(long number, long a, long b, long c, long d, long e, long f)
{
	long r;
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	__asm__ volatile("syscall"
			 : "=a"(r)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	if (r < 0 && r > -4096) {
		errno = (int)-r;
		return -1;
	}
	return r;
}

/* A page that is there already: it is put there, but who stands before it is not woken. */
static int copy_exists(int fd, struct uffdio_copy *copy)
{
	copy->mode |= UFFDIO_COPY_MODE_DONTWAKE;
	if (raw(SYS_ioctl, fd, (long)UFFDIO_COPY, (long)copy, 0, 0, 0) < 0)
		return -1;
	errno = EEXIST;
	return -1;
}

/* In place of libc's. */
int ioctl(int fd, unsigned long request, ...)
{
	va_list list;
	va_start(list, request);
	void *argument = va_arg(list, void *);
	va_end(list);
	int error = atomic_load(&copy_errno);
	if (request == (unsigned long)UFFDIO_COPY && error && atomic_fetch_sub(&copies, 1) > 0) {
		if (error == EEXIST)
			return copy_exists(fd, argument);
		errno = error;
		return -1;
	}
	return (int)raw(SYS_ioctl, fd, (long)request, (long)argument, 0, 0, 0);
}

/* As libc's it takes six words, given or not. */
__attribute__((no_sanitize_address)) long syscall(long number, ...)
{
	va_list list;
	long a[6];
	va_start(list, number);
	for (size_t i = 0; i < ARRAY_LEN(a); i++)
		a[i] = va_arg(list, long);
	va_end(list);
	if (number == SYS_userfaultfd && atomic_load(&forbidden)) {
		errno = EPERM;
		return -1;
	}
	return raw(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

int open(const char *path, int flags, ...)
{
	va_list list;
	va_start(list, flags);
	int mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(list, int) : 0;
	va_end(list);
	if (atomic_load(&forbidden) && strcmp(path, "/dev/userfaultfd") == 0) {
		errno = EACCES;
		return -1;
	}
	return (int)raw(SYS_openat, AT_FDCWD, (long)path, flags, mode, 0, 0);
}

static void inject(int error, int count)
{
	atomic_store(&copies, count);
	atomic_store(&copy_errno, error);
}

START_TEST(without_userfaultfd_the_source_never_stops)
{
	struct world world;
	struct move move, again = {0};
	struct migrate_params params = late_params();
	world_init(&world);
	atomic_store(&forbidden, true);
	move_begin(&move, &world, NULL, &params);
	pthread_join(move.source_thread, NULL);
	ck_assert_msg(strstr(move.source_err.text, "post-copy needs userfaultfd"), "%s",
		      move.source_err.text);
	ck_assert(!move.source.stopped && atomic_load(&world.source.runs));
	source_finish(&move.source);
	/* It waits for one that wants less, or until it is allowed. */
	atomic_store(&forbidden, false);
	params.max_bandwidth = 0;
	params.downtime_limit_ms = 300;
	move_start(&again, &world, &world.uri, &params);
	pthread_join(again.source_thread, NULL);
	pthread_join(move.dest_thread, NULL);
	source_finish(&again.source);
	ck_assert_msg(again.source_result == 0 && move.dest_result == 0, "%s", again.source_err.text);
	world_halt(&world.dest);
	world_check_ram(&world.dest);
	world_finish(&world);
}
END_TEST

static void check_copies(int error, int count)
{
	struct world world;
	struct move move;
	struct migrate_params params = late_params();
	inject(error, count);
	world_init(&world);
	start_late(&move, &world, NULL, &params);
	check_arrived(&move);
	ck_assert_int_lt(atomic_load(&copies), count);
	inject(0, 0);
	world_finish(&world);
}

START_TEST(a_page_that_is_there_wakes_whoever_stands_before_it)
{
	check_copies(EEXIST, 100);
}
END_TEST

START_TEST(a_copy_that_was_disturbed_is_done_again)
{
	check_copies(EAGAIN, 1000);
}
END_TEST

START_TEST(no_memory_before_the_switch_gives_the_guest_back)
{
	struct world world;
	struct move move;
	struct migrate_params params = late_params();
	inject(ENOMEM, INT_MAX);
	world_init(&world);
	start_late(&move, &world, NULL, &params);
	move_wait(&move);
	inject(0, 0);
	ck_assert_msg(strstr(move.source_err.text, "Cannot allocate memory"), "%s", move.source_err.text);
	ck_assert(atomic_load(&world.source.runs) && !atomic_load(&world.dest.partial));
	move_judge(&move);
	world_finish(&world);
}
END_TEST

START_TEST(no_memory_afterwards_pauses_it)
{
	static const struct fault none = {.what = FORWARD};
	struct world world;
	struct proxy proxies[8];
	struct move move;
	struct migrate_params params = late_params();
	struct err why = ERR_INIT;
	unsigned count = 0;
	world_init(&world);
	start_late(&move, &world, NULL, &params);
	while (move.dest.state != DST_LATE_RUN && move.dest.state != DST_POSTCOPY)
		(void)usleep(100);
	inject(ENOMEM, INT_MAX);
	ck_assert_int_eq(wait_outcome(&move), PAUSED);
	dest_paused_why(&move.dest, &why);
	ck_assert_msg(strstr(why.text, "Cannot allocate memory"), "%s", why.text);
	/* Still none; then there is. */
	recover(&move, &proxies[count++], &none);
	ck_assert_int_eq(wait_outcome(&move), PAUSED);
	inject(0, 0);
	ck_assert_int_eq(dest_recover(&move.dest, strdup(world.uri_text), &why), 0);
	ck_assert_int_eq(source_resume(&move.source, &world.uri, &why), 0);
	check_arrived(&move);
	for (unsigned i = 0; i < count; i++)
		proxy_finish(&proxies[i]);
	world_finish(&world);
}
END_TEST

TEST_MAIN("postcopy_faults", without_userfaultfd_the_source_never_stops,
	  a_page_that_is_there_wakes_whoever_stands_before_it, a_copy_that_was_disturbed_is_done_again,
	  no_memory_before_the_switch_gives_the_guest_back, no_memory_afterwards_pauses_it)
