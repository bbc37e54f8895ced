/* A QMP client: one message on one line, whoever serves it. */
#include "ctl.h"

#include "base/cleanup.h"
#include "config/json.h"
#include "host/loop.h"
#include "host/unix_socket.h"

#include <poll.h>
#include <string.h>
#include <sys/socket.h>

enum { MESSAGE_BYTES_MAX = 64 * 1024 * 1024, GREETING_MS = 10000 };

void ctl_link_close(struct ctl_link *link)
{
	link->fd = close_fd(link->fd);
	free(link->text);
	link->text = NULL;
	link->used = link->size = link->scanned = 0;
}

/* ---- receiving ---- */

static int link_grow(struct ctl_link *link, struct err *err)
{
	if (link->used < link->size)
		return 0;
	size_t size = link->size ? link->size * 2 : 4096;
	char *text = size > MESSAGE_BYTES_MAX ? NULL : realloc(link->text, size);
	if (!text)
		return err_set(err, -ENOMEM, "%s: a message of more than %zu bytes", link->path, link->size);
	link->text = text;
	link->size = size;
	return 0;
}

/* More bytes, or what poll says of the time. */
static int link_fill(struct ctl_link *link, int timeout_ms, struct err *err)
{
	struct pollfd ready = {.fd = link->fd, .events = POLLIN};
	int r = link_grow(link, err);
	if (r < 0)
		return r;
	r = poll(&ready, 1, timeout_ms);
	if (r == 0)
		return -ETIMEDOUT;
	if (r < 0)
		return errno == EINTR ? 0 : err_sys(err, -errno, "%s", link->path);
	ssize_t got = recv(link->fd, link->text + link->used, link->size - link->used, 0);
	if (got < 0)
		return err_sys(err, -errno, "%s", link->path);
	if (got == 0)
		return err_set(err, -EPIPE, "%s: the machine hung up", link->path);
	link->used += (size_t)got;
	return 0;
}

/* The line that is complete, if there is one: parsed and taken out. */
static int link_take(struct ctl_link *link, cJSON **ret, struct err *err)
{
	while (link->scanned < link->used) {
		const char *end = memchr(link->text + link->scanned, '\n', link->used - link->scanned);
		if (!end) {
			link->scanned = link->used;
			return 0;
		}
		size_t len = (size_t)(end - link->text);
		bool blank = len == 0 || (len == 1 && link->text[0] == '\r');
		int r = blank ? 0 : json_parse("answer", link->text, len, 0, ret, err);
		link->used -= len + 1;
		memmove(link->text, end + 1, link->used);
		link->scanned = 0;
		if (r < 0)
			return err_prepend(err, "%s", link->path);
		if (!blank)
			return 0;
	}
	return 0;
}

int ctl_link_receive(struct ctl_link *link, int timeout_ms, cJSON **ret, struct err *err)
{
	uint64_t deadline = loop_now_ns() + (uint64_t)timeout_ms * 1000000;
	*ret = NULL;
	for (;;) {
		int r = link_take(link, ret, err);
		if (r < 0 || *ret)
			return r;
		uint64_t now = loop_now_ns();
		int left = timeout_ms < 0 ? -1 : now >= deadline ? 0 : (int)((deadline - now) / 1000000) + 1;
		r = link_fill(link, left, err);
		if (r < 0)
			return r;
	}
}

/* ---- sending ---- */

int ctl_link_send(struct ctl_link *link, const char *command, const cJSON *arguments, struct err *err)
{
	_cleanup_json_ cJSON *message = cJSON_CreateObject();
	cJSON_AddStringToObject(message, "execute", command);
	if (arguments)
		cJSON_AddItemToObject(message, "arguments", cJSON_Duplicate(arguments, true));
	_cleanup_free_ char *text = cJSON_PrintUnformatted(message);
	if (!text)
		return err_sys(err, -ENOMEM, "%s", command);
	size_t len = strlen(text);
	text[len] = '\n'; /* in place of the NUL */
	for (size_t sent = 0; sent <= len;) {
		ssize_t n = send(link->fd, text + sent, len + 1 - sent, MSG_NOSIGNAL);
		if (n < 0 && errno != EINTR)
			return err_sys(err, -errno, "%s", link->path);
		sent += n > 0 ? (size_t)n : 0;
	}
	return 0;
}

int ctl_link_ask(struct ctl_link *link, const char *command, const cJSON *arguments, int timeout_ms,
		 cJSON **ret, struct err *err)
{
	int r = ctl_link_send(link, command, arguments, err);
	while (r == 0) {
		r = ctl_link_receive(link, timeout_ms, ret, err);
		if (r < 0 || !cJSON_HasObjectItem(*ret, "event"))
			break;
		cJSON_Delete(*ret);
	}
	return r;
}

/* ---- opening ---- */

static int link_negotiate(struct ctl_link *link, struct err *err)
{
	_cleanup_json_ cJSON *greeting = NULL, *answer = NULL;
	int r = ctl_link_receive(link, GREETING_MS, &greeting, err);
	if (r == 0 && !cJSON_HasObjectItem(greeting, "QMP")) {
		const cJSON *desc = cJSON_GetObjectItemCaseSensitive(
			cJSON_GetObjectItemCaseSensitive(greeting, "error"), "desc");
		return err_set(err, -EPROTO, "%s: %s", link->path,
			       cJSON_IsString(desc) ? desc->valuestring : "speaks something else than QMP");
	}
	if (r == 0)
		r = ctl_link_ask(link, "qmp_capabilities", NULL, GREETING_MS, &answer, err);
	if (r == 0 && !cJSON_HasObjectItem(answer, "return"))
		return err_set(err, -EPROTO, "%s: the capabilities are refused", link->path);
	if (r == -ETIMEDOUT)
		return err_set(err, r, "%s: no greeting within %d s", link->path, GREETING_MS / 1000);
	return r;
}

int ctl_link_open(struct ctl_link *link, const char *path, struct err *err)
{
	struct sockaddr_un address;
	*link = (struct ctl_link){.path = path, .fd = -1};
	int r = unix_socket_address(path, &address, err);
	if (r < 0)
		return r;
	link->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (link->fd < 0 || connect(link->fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
		r = err_sys(err, -errno, "%s", path);
	if (r == 0)
		r = link_negotiate(link, err);
	if (r < 0)
		ctl_link_close(link);
	return r;
}
