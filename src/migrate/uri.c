/* Where to: see uri.h. */
#include "uri.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int parse_number(const char *text, long max, long *ret)
{
	char *end;
	if (text[0] < '0' || text[0] > '9')
		return -EINVAL;
	errno = 0;
	long value = strtol(text, &end, 10);
	if (errno || *end || value > max)
		return -EINVAL;
	*ret = value;
	return 0;
}

static int parse_tcp(const char *text, struct uri *ret, struct err *err)
{
	long port;
	const char *colon = strrchr(text, ':'), *host = text;
	if (!colon)
		return err_set(err, -EINVAL, "\"tcp:%s\" has no port (tcp:HOST:PORT)", text);
	size_t len = (size_t)(colon - host);
	if (len && host[0] == '[') {
		if (len < 2 || host[len - 1] != ']')
			return err_set(err, -EINVAL, "\"tcp:%s\": a [ without its ]", text);
		host++;
		len -= 2;
	} else if (memchr(host, ':', len)) {
		return err_set(err, -EINVAL,
			       "\"tcp:%s\": an IPv6 address stands in brackets (tcp:[::1]:4444)", text);
	}
	if (len >= sizeof(ret->host))
		return err_set(err, -EINVAL, "\"tcp:%s\": the host's name is too long", text);
	if (parse_number(colon + 1, 65535, &port) < 0)
		return err_set(err, -EINVAL, "\"tcp:%s\": the port is a number from 0 to 65535", text);
	memcpy(ret->host, host, len);
	(void)snprintf(ret->port, sizeof(ret->port), "%ld", port);
	return 0;
}

int uri_parse(const char *text, struct uri *ret, struct err *err)
{
	static const struct {
		const char *scheme;
		enum uri_kind kind;
	} schemes[] = {{"unix:", URI_UNIX}, {"tcp:", URI_TCP}, {"fd:", URI_FD}, {"exec:", URI_EXEC}};
	*ret = (struct uri){.fd = -1};
	if (strnlen(text, URI_MAX) == URI_MAX)
		return err_set(err, -EINVAL, "a URI of more than %d bytes", URI_MAX - 1);
	for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
		size_t len = strlen(schemes[i].scheme);
		if (strncmp(text, schemes[i].scheme, len) != 0)
			continue;
		ret->kind = schemes[i].kind;
		ret->text = text + len;
		if (!*ret->text)
			break;
		if (ret->kind == URI_TCP)
			return parse_tcp(ret->text, ret, err);
		long fd;
		if (ret->kind != URI_FD)
			return 0;
		if (parse_number(ret->text, 1 << 20, &fd) < 0 || fd <= 2)
			return err_set(err, -EINVAL,
				       "\"%s\": fd: takes the number of an inherited socket, above 2", text);
		ret->fd = (int)fd;
		return 0;
	}
	return err_set(err, -EINVAL, "\"%s\" is none of unix:PATH, tcp:HOST:PORT, fd:N, exec:COMMAND", text);
}
