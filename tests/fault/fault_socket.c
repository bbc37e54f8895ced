/* The calls of sockets, of waiting and of files that only a plan's spans make fail: see fault.c. */
#include "fault.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

WRAP_AS(CALL_FILE, socket, (int domain, int type, int protocol), (int, int, int), domain, type, protocol)
WRAP_AS(CALL_FILE, bind, (int fd, const struct sockaddr *at, socklen_t len),
	(int, const struct sockaddr *, socklen_t), fd, at, len)
WRAP_AS(CALL_FILE, listen, (int fd, int backlog), (int, int), fd, backlog)
WRAP_AS(CALL_FILE, getsockopt, (int fd, int level, int name, void *value, socklen_t *len),
	(int, int, int, void *, socklen_t *), fd, level, name, value, len)
WRAP_AS(CALL_FILE, setsockopt, (int fd, int level, int name, const void *value, socklen_t len),
	(int, int, int, const void *, socklen_t), fd, level, name, value, len)
WRAP_AS(CALL_FILE, shutdown, (int fd, int how), (int, int), fd, how)
WRAP_AS(CALL_FILE, fstat, (int fd, struct stat *st), (int, struct stat *), fd, st)
WRAP_AS(CALL_FILE, lstat, (const char *path, struct stat *st), (const char *, struct stat *), path, st)
WRAP_AS(CALL_FILE, unlink, (const char *path), (const char *), path)
WRAP_AS(CALL_FILE, madvise, (void *at, size_t len, int advice), (void *, size_t, int), at, len, advice)

WRAP_AS(CALL_WAIT, poll, (struct pollfd * at, nfds_t count, int timeout_ms), (struct pollfd *, nfds_t, int),
	at, count, timeout_ms)
WRAP_AS(CALL_WAIT, connect, (int fd, const struct sockaddr *to, socklen_t len),
	(int, const struct sockaddr *, socklen_t), fd, to, len)
WRAP_AS(CALL_WAIT, accept4, (int fd, struct sockaddr *from, socklen_t *len, int flags),
	(int, struct sockaddr *, socklen_t *, int), fd, from, len, flags)

int fcntl(int fd, int command, ...)
{
	va_list args;
	va_start(args, command);
	void *arg = va_arg(args, void *);
	va_end(args);
	return fault_strikes(CALL_FILE, "fcntl", 0)
		       ? -1
		       : REAL(fcntl, int (*)(int, int, void *))(fd, command, arg);
}

/* membarrier, userfaultfd. */
long syscall(long number, ...)
{
	enum { ARGS = 6 };
	long arg[ARGS];
	va_list args;
	va_start(args, number);
	for (int i = 0; i < ARGS; i++)
		arg[i] = va_arg(args, long);
	va_end(args);
	if (fault_strikes(CALL_FILE, "syscall", (unsigned long)number))
		return -1;
	return REAL(syscall, long (*)(long, long, long, long, long, long, long))(
		number, arg[0], arg[1], arg[2], arg[3], arg[4], arg[5]);
}

ssize_t getrandom(void *buf, size_t len, unsigned flags)
{
	if (fault_strikes(CALL_WAIT, "getrandom", 0))
		return -1;
	return REAL(getrandom, ssize_t(*)(void *, size_t, unsigned))(buf, len, flags);
}

ssize_t send(int fd, const void *data, size_t len, int flags)
{
	if (fault_strikes(CALL_STREAM, "send", 0)) {
		if (fault_code())
			return -1;
		len = fault_shortened(len);
	}
	return REAL(send, ssize_t(*)(int, const void *, size_t, int))(fd, data, len, flags);
}

ssize_t recv(int fd, void *data, size_t len, int flags)
{
	if (fault_strikes(CALL_STREAM, "recv", 0)) {
		if (fault_code())
			return -1;
		len = fault_shortened(len);
	}
	return REAL(recv, ssize_t(*)(int, void *, size_t, int))(fd, data, len, flags);
}

/* A byte with a descriptor: it cannot be short. */
ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
{
	if (fault_strikes(CALL_WAIT, "sendmsg", 0))
		return -1;
	return REAL(sendmsg, ssize_t(*)(int, const struct msghdr *, int))(fd, msg, flags);
}

ssize_t recvmsg(int fd, struct msghdr *msg, int flags)
{
	if (fault_strikes(CALL_WAIT, "recvmsg", 0))
		return -1;
	return REAL(recvmsg, ssize_t(*)(int, struct msghdr *, int))(fd, msg, flags);
}
