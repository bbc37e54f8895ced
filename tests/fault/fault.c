/*
 * Loaded by LD_PRELOAD: makes the AERIE_FAULT_AT-th of the calls below fail with AERIE_FAULT_ERRNO, or, when
 * that is 0, makes a read or write short, or, when it is -1, makes KVM_GET_MSRS and KVM_SET_MSRS do one MSR
 * less than they did. When the process ends normally, AERIE_FAULT_FD is told how many
 * calls there were. Only calls of the program and of libc's callers are seen; system calls that a library
 * makes by itself are not.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static atomic_int calls;
static int fault_at = -1, fault_errno, tell_fd = -1;

static int number(const char *name, int missing)
{
	const char *text = getenv(name);
	return text ? atoi(text) : missing;
}

__attribute__((constructor)) static void begin(void)
{
	fault_at = number("AERIE_FAULT_AT", -1);
	fault_errno = number("AERIE_FAULT_ERRNO", 0);
	tell_fd = number("AERIE_FAULT_FD", -1);
	atomic_store(&calls, 0);
}

__attribute__((destructor)) static void end(void)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "%d\n", atomic_load(&calls));
	if (tell_fd >= 0)
		(void)!write(tell_fd, text, (size_t)len);
}

/* What a call can meet: memory runs out, a thing cannot be made, a signal comes, a transfer is short. */
enum call_kind { CALL_MEMORY, CALL_MAKE, CALL_IOCTL, CALL_TRANSFER, CALL_MSRS };

enum { SHORT_TRANSFERS = 0, SHORT_MSRS = -1 };

static int can_meet(enum call_kind kind)
{
	switch (fault_errno) {
	case SHORT_TRANSFERS:
		return kind == CALL_TRANSFER;
	case SHORT_MSRS:
		return kind == CALL_MSRS;
	case EINTR:
		return kind == CALL_IOCTL || kind == CALL_TRANSFER;
	case ENOMEM:
		return kind != CALL_MSRS;
	default:
		return kind != CALL_MEMORY && kind != CALL_MSRS;
	}
}

/* Is it this call's turn? Then errno is set. */
static int strikes(enum call_kind kind)
{
	if (fault_at < 0 || !can_meet(kind))
		return 0;
	if (atomic_fetch_add(&calls, 1) + 1 != fault_at)
		return 0;
	errno = fault_errno;
	return 1;
}

#define REAL(name, type) ((type)(void *)dlsym(RTLD_NEXT, #name))

/* A call that returns -1 when it fails. */
#define WRAP(result, name, params, types, ...)                                                               \
	result name params;                                                                                  \
	result name params                                                                                   \
	{                                                                                                    \
		if (strikes(CALL_MAKE))                                                                      \
			return -1;                                                                           \
		return REAL(name, result(*) types)(__VA_ARGS__);                                             \
	}

WRAP(int, eventfd, (unsigned value, int flags), (unsigned, int), value, flags)
WRAP(int, timerfd_create, (int clock, int flags), (int, int), clock, flags)
WRAP(int, signalfd, (int fd, const sigset_t *set, int flags), (int, const sigset_t *, int), fd, set, flags)
WRAP(int, ftruncate, (int fd, off_t len), (int, off_t), fd, len)
WRAP(int, memfd_create, (const char *name, unsigned flags), (const char *, unsigned), name, flags)
WRAP(int, sigaction, (int sig, const struct sigaction *act, struct sigaction *old),
     (int, const struct sigaction *, struct sigaction *), sig, act, old)

int ioctl(int fd, unsigned long request, ...);
int ioctl(int fd, unsigned long request, ...)
{
	va_list args;
	va_start(args, request);
	void *arg = va_arg(args, void *);
	va_end(args);
	if (strikes(CALL_IOCTL))
		return -1;
	int done = REAL(ioctl, int (*)(int, unsigned long, void *))(fd, request, arg);
	bool msrs = request == KVM_GET_MSRS || request == KVM_SET_MSRS;
	return msrs && done > 0 && strikes(CALL_MSRS) ? done - 1 : done;
}

int open(const char *path, int flags, ...)
{
	va_list args;
	va_start(args, flags);
	int mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(args, int) : 0;
	va_end(args);
	return strikes(CALL_MAKE) ? -1 : REAL(open, int (*)(const char *, int, int))(path, flags, mode);
}

/* Half of what was asked for, at least one byte, is what a signal or a slow file leaves. */
static size_t shortened(size_t len)
{
	return fault_errno == 0 && len > 1 ? len / 2 : len;
}

ssize_t read(int fd, void *buf, size_t len)
{
	if (strikes(CALL_TRANSFER)) {
		if (fault_errno)
			return -1;
		len = shortened(len);
	}
	return REAL(read, ssize_t(*)(int, void *, size_t))(fd, buf, len);
}

ssize_t pread(int fd, void *buf, size_t len, off_t offset)
{
	if (strikes(CALL_TRANSFER)) {
		if (fault_errno)
			return -1;
		len = shortened(len);
	}
	return REAL(pread, ssize_t(*)(int, void *, size_t, off_t))(fd, buf, len, offset);
}

#ifndef FAULT_NO_MEMORY
/* Not under a sanitizer, which brings its own allocator. */
#include <pthread.h>
#include <sys/mman.h>

void *mmap(void *at, size_t len, int prot, int flags, int fd, off_t offset)
{
	if (strikes(CALL_MEMORY))
		return MAP_FAILED;
	return REAL(mmap, void *(*)(void *, size_t, int, int, int, off_t))(at, len, prot, flags, fd, offset);
}

extern void *__libc_calloc(size_t count, size_t size);
void *calloc(size_t count, size_t size)
{
	return strikes(CALL_MEMORY) ? NULL : __libc_calloc(count, size);
}

extern void *__libc_malloc(size_t size);
void *malloc(size_t size)
{
	return strikes(CALL_MEMORY) ? NULL : __libc_malloc(size);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*start)(void *), void *arg)
{
	if (strikes(CALL_MEMORY))
		return fault_errno; /* it returns its error */
	return REAL(pthread_create, int (*)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *))(
		thread, attr, start, arg);
}
#endif
