/* Connecting and listening. */
#include "base/cleanup.h"
#include "channel.h"
#include "host/unix_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { BACKLOG = 32, CHILD_FD_MAX = 1024 };

/* Owns `fd` from here, also when it fails. */
static int start_channel(int fd, const struct canceller *canceller, struct channel *ret, struct err *err)
{
	int family = 0, one = 1;
	socklen_t len = sizeof(family);
	*ret = (struct channel){.fd = fd, .canceller = canceller, .timeout_ms = CHANNEL_TIMEOUT_MS};
	int flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ||
	    getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &len) < 0) {
		(void)err_sys(err, -errno, "file descriptor %d is no socket that is connected both ways", fd);
		channel_close(ret);
		return err->code;
	}
	ret->is_unix = family == AF_UNIX;
	if (!ret->is_unix)
		(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	return 0;
}

/* ---- exec: ---- */

/* In the child of a process with many threads: nothing but system calls. */
static void run_command(const char *command, int fd)
{
	sigset_t none;
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	(void)signal(SIGPIPE, SIG_DFL);
	if (dup2(fd, 0) < 0 || dup2(fd, 1) < 0)
		_exit(127);
	for (int other = 3; other < CHILD_FD_MAX; other++)
		(void)close(other);
	(void)execl("/bin/sh", "sh", "-c", command, (char *)NULL);
	_exit(127);
}

/* The command is a grandchild, so that nobody has to wait for it. */
static int spawn(const char *command, int *ret_fd, struct err *err)
{
	int pair[2], status = 0;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return err_sys(err, -errno, "exec:");
	pid_t child = fork();
	if (child == 0) {
		pid_t grandchild = fork();
		if (grandchild == 0)
			run_command(command, pair[1]);
		_exit(grandchild < 0);
	}
	(void)close(pair[1]);
	*ret_fd = pair[0];
	if (child > 0)
		while (waitpid(child, &status, 0) < 0 && errno == EINTR)
			continue;
	if (child > 0 && status == 0)
		return 0;
	*ret_fd = close_fd(pair[0]);
	return err_set(err, -EAGAIN, "exec: no more processes");
}

/* ---- tcp: ---- */

static int look_up(const struct uri *uri, bool listens, struct addrinfo **ret, struct err *err)
{
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
				       .ai_flags = AI_NUMERICSERV | (listens ? AI_PASSIVE : 0)};
	if (!*uri->host && !listens)
		return err_set(err, -EINVAL, "tcp:%s: to which host?", uri->text);
	int r = getaddrinfo(*uri->host ? uri->host : NULL, uri->port, &hints, ret);
	return r ? err_set(err, -EHOSTUNREACH, "tcp:%s: %s", uri->text, gai_strerror(r)) : 0;
}

/* A connect that does not last longer than the time-out, and ends with the canceller. */
static int finish_connect(int fd, const struct canceller *canceller)
{
	const struct channel waiting = {.fd = fd, .canceller = canceller, .timeout_ms = CHANNEL_TIMEOUT_MS};
	struct err err = ERR_INIT;
	int error = 0, r = channel_wait(&waiting, POLLOUT, &err);
	socklen_t len = sizeof(error);
	if (r == 0 && getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		return -errno;
	return r < 0 ? r : -error;
}

static int connect_tcp(const struct uri *uri, const struct canceller *canceller, int *ret_fd, struct err *err)
{
	struct addrinfo *list = NULL;
	int r = look_up(uri, false, &list, err);
	if (r < 0)
		return r;
	r = -EHOSTUNREACH;
	for (const struct addrinfo *at = list; at && r < 0 && r != -ECANCELED; at = at->ai_next) {
		_cleanup_close_ int fd =
			socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, at->ai_protocol);
		r = fd < 0 ? -errno : connect(fd, at->ai_addr, at->ai_addrlen) < 0 ? -errno : 0;
		if (r == -EINPROGRESS || r == -EINTR) /* goes on all the same (connect(2)) */
			r = finish_connect(fd, canceller);
		if (r == 0)
			*ret_fd = take_fd(&fd);
	}
	freeaddrinfo(list);
	return r < 0 ? err_sys(err, r, "tcp:%s", uri->text) : 0;
}

static int listen_on(const struct addrinfo *at)
{
	const int one = 1;
	_cleanup_close_ int fd = socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC, at->ai_protocol);
	if (fd < 0)
		return -errno;
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, at->ai_addr, at->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0)
		return -errno;
	return take_fd(&fd);
}

static int listen_tcp(const struct uri *uri, int *ret_fd, struct err *err)
{
	struct addrinfo *list = NULL;
	int r = look_up(uri, true, &list, err);
	if (r < 0)
		return r;
	/* An empty host gives both families; that of IPv6 takes both kinds of connections. */
	r = -EADDRNOTAVAIL;
	for (int pass = 0; pass < 2 && r < 0; pass++)
		for (const struct addrinfo *at = list; at && r < 0; at = at->ai_next)
			if ((at->ai_family == AF_INET6) == (pass == 0))
				r = listen_on(at);
	freeaddrinfo(list);
	if (r < 0)
		return err_sys(err, r, "tcp:%s", uri->text);
	*ret_fd = r;
	return 0;
}

/* ---- both ---- */

static int connect_unix(const struct uri *uri, int *ret_fd, struct err *err)
{
	struct sockaddr_un address;
	int r = unix_socket_address(uri->text, &address, err);
	if (r < 0)
		return r;
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return err_sys(err, -errno, "unix:%s", uri->text);
	while (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
		if (errno != EINTR) /* a signal while it waits for room among those not yet accepted */
			return err_sys(err, -errno, "unix:%s", uri->text);
	*ret_fd = take_fd(&fd);
	return 0;
}

static int duplicate(const struct uri *uri, int *ret_fd, struct err *err)
{
	*ret_fd = fcntl(uri->fd, F_DUPFD_CLOEXEC, 3);
	return *ret_fd < 0 ? err_sys(err, -errno, "fd:%d", uri->fd) : 0;
}

int channel_connect(const struct uri *uri, const struct canceller *canceller, struct channel *ret,
		    struct err *err)
{
	int fd = -1, r = 0;
	*ret = (struct channel){.fd = -1};
	switch (uri->kind) {
	case URI_UNIX:
		r = connect_unix(uri, &fd, err);
		break;
	case URI_TCP:
		r = connect_tcp(uri, canceller, &fd, err);
		break;
	case URI_FD:
		r = duplicate(uri, &fd, err);
		break;
	case URI_EXEC:
		r = spawn(uri->text, &fd, err);
		break;
	}
	if (r == 0)
		r = start_channel(fd, canceller, ret, err);
	ret->is_unix = ret->is_unix && uri->kind != URI_EXEC; /* the command carries bytes, no descriptors */
	return r;
}

static int listen_unix(struct listener *listener, struct err *err)
{
	listener->socket_file = calloc(1, sizeof(*listener->socket_file));
	if (!listener->socket_file)
		return err_sys(err, -ENOMEM, "unix:%s", listener->uri.text);
	int r = unix_socket_listen(listener->uri.text, 0600, BACKLOG, listener->socket_file, err);
	listener->fd = listener->socket_file->fd;
	return r;
}

/* An inherited socket that listens already, or a connection. */
static int listen_fd(struct listener *listener, struct err *err)
{
	int listening = 0, fd = -1;
	socklen_t len = sizeof(listening);
	if (getsockopt(listener->uri.fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len) < 0)
		return err_sys(err, -errno, "fd:%d", listener->uri.fd);
	if (!listening)
		return 0;
	int r = duplicate(&listener->uri, &fd, err);
	listener->fd = fd;
	return r;
}

int listener_open(const struct uri *uri, struct listener *ret, struct err *err)
{
	int r = 0;
	*ret = (struct listener){.uri = *uri, .fd = -1};
	switch (uri->kind) {
	case URI_UNIX:
		r = listen_unix(ret, err);
		break;
	case URI_TCP:
		r = listen_tcp(uri, &ret->fd, err);
		break;
	case URI_FD:
		r = listen_fd(ret, err);
		break;
	case URI_EXEC:
		break;
	}
	if (r < 0)
		listener_close(ret);
	return r;
}

void listener_close(struct listener *listener)
{
	if (listener->socket_file) {
		unix_socket_unlisten(listener->socket_file);
		free(listener->socket_file);
	} else {
		(void)close_fd(listener->fd);
	}
	listener->socket_file = NULL;
	listener->fd = -1;
}

int listener_accept(struct listener *listener, const struct canceller *canceller, int timeout_ms,
		    struct channel *ret, struct err *err)
{
	struct pollfd at[2] = {{.fd = listener->fd, .events = POLLIN},
			       {.fd = canceller->fd, .events = POLLIN}};
	*ret = (struct channel){.fd = -1};
	if (listener->fd < 0) {
		if (listener->used)
			return err_set(err, -EINVAL, "one connection is all that there is");
		listener->used = true;
		return channel_connect(&listener->uri, canceller, ret, err);
	}
	for (;;) {
		int r = poll(at, 2, timeout_ms);
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return r < 0 ? err_sys(err, -errno, "poll")
				     : err_set(err, -ETIMEDOUT, "nobody has connected for %d s",
					       timeout_ms / 1000);
		if (at[1].revents)
			return err_set(err, -ECANCELED, "cancelled");
		if (!at[0].revents)
			continue;
		int fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC);
		if (fd >= 0)
			return start_channel(fd, canceller, ret, err);
		if (errno != EINTR && errno != EAGAIN && errno != ECONNABORTED)
			return err_sys(err, -errno, "accept");
	}
}

unsigned listener_port(const struct listener *listener)
{
	union {
		struct sockaddr any;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
	} address;
	socklen_t len = sizeof(address);
	if (listener->uri.kind != URI_TCP || getsockname(listener->fd, &address.any, &len) < 0)
		return 0;
	return ntohs(address.any.sa_family == AF_INET6 ? address.v6.sin6_port : address.v4.sin_port);
}
