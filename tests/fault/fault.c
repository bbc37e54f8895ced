/*
 * Loaded by LD_PRELOAD: makes the AERIE_FAULT_AT-th of the calls below fail with AERIE_FAULT_ERRNO, or, when
 * that is 0, makes a read or write short, or, when it is -1, makes KVM_GET_MSRS and KVM_SET_MSRS do one MSR
 * less than they did. When the process ends normally, AERIE_FAULT_FD is told how many
 * calls there were.
 *
 * With AERIE_FAULT_PLAN these numbers are in a file that is mapped, struct plan below, so that one process
 * meets many failures, each within a span that its tester begins and ends (at -1: no span). Then KVM_RUN,
 * which is the guest's, never fails, and the calls for files and sockets (CALL_FILE, CALL_WAIT and those of
 * fault_socket.c) do. Only calls of the program and of libc's callers are seen; system calls that a library
 * makes by itself are not.
 */
#include "fault.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <unistd.h>

static struct plan own_plan = {.at = -1}, *plan = &own_plan;
static int tell_fd = -1;

static int number(const char *name, int missing)
{
	const char *text = getenv(name);
	return text ? atoi(text) : missing;
}

__attribute__((constructor)) static void begin(void)
{
	const char *path = getenv("AERIE_FAULT_PLAN");
	tell_fd = number("AERIE_FAULT_FD", -1);
	if (path) {
		int fd = open(path, O_RDWR | O_CLOEXEC);
		plan = mmap(NULL, sizeof(*plan), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (fd < 0 || plan == MAP_FAILED)
			abort();
		return;
	}
	plan->code = number("AERIE_FAULT_ERRNO", 0);
	plan->calls = 0;
	plan->at = number("AERIE_FAULT_AT", -1);
}

__attribute__((destructor)) static void end(void)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "%d\n", atomic_load(&plan->calls));
	if (tell_fd >= 0)
		(void)!write(tell_fd, text, (size_t)len);
}

enum { SHORT_TRANSFERS = 0, SHORT_MSRS = -1 };

static bool can_meet(enum call_kind kind)
{
	if (plan == &own_plan && (kind == CALL_FILE || kind == CALL_WAIT || kind == CALL_STREAM))
		return false;
	bool transfers = kind == CALL_TRANSFER || kind == CALL_STREAM;
	switch (atomic_load(&plan->code)) {
	case SHORT_TRANSFERS:
		return transfers;
	case SHORT_MSRS:
		return kind == CALL_MSRS;
	case EINTR:
		return kind == CALL_IOCTL || kind == CALL_WAIT || transfers;
	case ENOMEM:
		return kind != CALL_MSRS;
	default:
		return kind != CALL_MEMORY && kind != CALL_MSRS;
	}
}

bool fault_strikes(enum call_kind kind, const char *name, unsigned long number)
{
	int at = plan->at;
	if (at < 0 || !can_meet(kind) || atomic_fetch_add(&plan->calls, 1) + 1 != at)
		return false;
	(void)snprintf(plan->struck, sizeof(plan->struck), number ? "%s %#lx" : "%s", name, number);
	errno = plan->code;
	return true;
}

int fault_code(void)
{
	return plan->code;
}

size_t fault_shortened(size_t len)
{
	return plan->code == 0 && len > 1 ? len / 2 : len;
}

#define WRAP(name, params, types, ...) WRAP_AS(CALL_MAKE, name, params, types, __VA_ARGS__)

WRAP(eventfd, (unsigned value, int flags), (unsigned, int), value, flags)
WRAP(timerfd_create, (int clock, int flags), (int, int), clock, flags)
WRAP(signalfd, (int fd, const sigset_t *set, int flags), (int, const sigset_t *, int), fd, set, flags)
WRAP(ftruncate, (int fd, off_t len), (int, off_t), fd, len)
WRAP(memfd_create, (const char *name, unsigned flags), (const char *, unsigned), name, flags)
WRAP(sigaction, (int sig, const struct sigaction *act, struct sigaction *old),
     (int, const struct sigaction *, struct sigaction *), sig, act, old)

WRAP_AS(CALL_FILE, fsync, (int fd), (int), fd)
WRAP_AS(CALL_FILE, fdatasync, (int fd), (int), fd)
WRAP_AS(CALL_FILE, rmdir, (const char *path), (const char *), path)
WRAP_AS(CALL_FILE, unlinkat, (int dir, const char *path, int flags), (int, const char *, int), dir, path,
	flags)
WRAP_AS(CALL_FILE, renameat2, (int from, const char *path, int to, const char *new_path, unsigned flags),
	(int, const char *, int, const char *, unsigned), from, path, to, new_path, flags)

char *mkdtemp(char *pattern)
{
	return fault_strikes(CALL_FILE, "mkdtemp", 0) ? NULL : REAL(mkdtemp, char *(*)(char *))(pattern);
}

char *getcwd(char *buf, size_t len)
{
	bool fails = fault_strikes(CALL_FILE, "getcwd", 0);
	return fails ? NULL : REAL(getcwd, char *(*)(char *, size_t))(buf, len);
}

int ioctl(int fd, unsigned long request, ...);
int ioctl(int fd, unsigned long request, ...)
{
	va_list args;
	va_start(args, request);
	void *arg = va_arg(args, void *);
	va_end(args);
	bool counts = request != KVM_RUN || plan == &own_plan;
	if (counts && fault_strikes(CALL_IOCTL, "ioctl", request))
		return -1;
	int done = REAL(ioctl, int (*)(int, unsigned long, void *))(fd, request, arg);
	bool msrs = request == KVM_GET_MSRS || request == KVM_SET_MSRS;
	return msrs && done > 0 && fault_strikes(CALL_MSRS, "ioctl", request) ? done - 1 : done;
}

int open(const char *path, int flags, ...)
{
	va_list args;
	va_start(args, flags);
	int mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(args, int) : 0;
	va_end(args);
	bool fails = fault_strikes(CALL_MAKE, "open", 0);
	return fails ? -1 : REAL(open, int (*)(const char *, int, int))(path, flags, mode);
}

int openat(int dir, const char *path, int flags, ...)
{
	va_list args;
	va_start(args, flags);
	int mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(args, int) : 0;
	va_end(args);
	bool fails = fault_strikes(CALL_FILE, "openat", 0);
	return fails ? -1 : REAL(openat, int (*)(int, const char *, int, int))(dir, path, flags, mode);
}

ssize_t read(int fd, void *buf, size_t len)
{
	if (fault_strikes(CALL_TRANSFER, "read", 0)) {
		if (plan->code)
			return -1;
		len = fault_shortened(len);
	}
	return REAL(read, ssize_t(*)(int, void *, size_t))(fd, buf, len);
}

ssize_t pread(int fd, void *buf, size_t len, off_t offset)
{
	if (fault_strikes(CALL_TRANSFER, "pread", 0)) {
		if (plan->code)
			return -1;
		len = fault_shortened(len);
	}
	return REAL(pread, ssize_t(*)(int, void *, size_t, off_t))(fd, buf, len, offset);
}

ssize_t pwrite(int fd, const void *buf, size_t len, off_t offset)
{
	if (fault_strikes(CALL_STREAM, "pwrite", 0)) {
		if (plan->code)
			return -1;
		len = fault_shortened(len);
	}
	return REAL(pwrite, ssize_t(*)(int, const void *, size_t, off_t))(fd, buf, len, offset);
}

#ifndef FAULT_NO_MEMORY
/* Not under a sanitizer, which brings its own allocator. */
#include <pthread.h>

void *mmap(void *at, size_t len, int prot, int flags, int fd, off_t offset)
{
	if (fault_strikes(CALL_MEMORY, "mmap", 0))
		return MAP_FAILED;
	return REAL(mmap, void *(*)(void *, size_t, int, int, int, off_t))(at, len, prot, flags, fd, offset);
}

extern void *__libc_calloc(size_t count, size_t size);
void *calloc(size_t count, size_t size)
{
	return fault_strikes(CALL_MEMORY, "calloc", 0) ? NULL : __libc_calloc(count, size);
}

extern void *__libc_malloc(size_t size);
void *malloc(size_t size)
{
	return fault_strikes(CALL_MEMORY, "malloc", 0) ? NULL : __libc_malloc(size);
}

extern void *__libc_realloc(void *old, size_t size);
void *realloc(void *old, size_t size)
{
	return fault_strikes(CALL_MEMORY, "realloc", 0) ? NULL : __libc_realloc(old, size);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*start)(void *), void *arg)
{
	if (fault_strikes(CALL_MEMORY, "pthread_create", 0))
		return plan->code; /* it returns its error */
	return REAL(pthread_create, int (*)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *))(
		thread, attr, start, arg);
}
#endif
