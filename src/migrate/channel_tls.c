/* TLS 1.3 by OpenSSL: see channel_tls.h. */
#include "channel_tls.h"

#include "base/cleanup.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

struct tls_keys {
	SSL_CTX *context;
	bool server;
};

/* An SSL object is not for two threads at once; sending and receiving may be two. */
struct tls_session {
	SSL *ssl;
	pthread_mutex_t lock;
};

/* Appends what OpenSSL has to say, and forgets it. */
static int tls_error(struct err *err, int code, const char *what)
{
	char text[256] = "unknown error";
	unsigned long first = ERR_get_error();
	if (first)
		ERR_error_string_n(first, text, sizeof(text));
	ERR_clear_error();
	const char *reason = first ? ERR_reason_error_string(first) : NULL;
	return err_set(err, code, "TLS: %s: %s", what, reason ? reason : text);
}

static int load_files(struct tls_keys *keys, const char *folder, struct err *err)
{
	char ca[PATH_MAX], cert[PATH_MAX], key[PATH_MAX];
	const char *role = keys->server ? "server" : "client";
	(void)snprintf(ca, sizeof(ca), "%s/ca-cert.pem", folder);
	(void)snprintf(cert, sizeof(cert), "%s/%s-cert.pem", folder, role);
	(void)snprintf(key, sizeof(key), "%s/%s-key.pem", folder, role);
	ERR_clear_error();
	if (SSL_CTX_load_verify_file(keys->context, ca) != 1)
		return tls_error(err, -EINVAL, ca);
	if (SSL_CTX_use_certificate_chain_file(keys->context, cert) != 1)
		return tls_error(err, -EINVAL, cert);
	if (SSL_CTX_use_PrivateKey_file(keys->context, key, SSL_FILETYPE_PEM) != 1)
		return tls_error(err, -EINVAL, key);
	return 0;
}

int tls_keys_load(const char *folder, bool server, struct tls_keys **ret, struct err *err)
{
	struct tls_keys *keys = calloc(1, sizeof(*keys));
	if (!keys)
		return err_sys(err, -ENOMEM, "TLS");
	keys->server = server;
	keys->context = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());
	int r = keys->context ? load_files(keys, folder, err) : tls_error(err, -ENOMEM, "context");
	if (r < 0) {
		tls_keys_free(keys);
		return r;
	}
	(void)SSL_CTX_set_min_proto_version(keys->context, TLS1_3_VERSION);
	SSL_CTX_set_verify(keys->context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	/* Nobody resumes a session, and a ticket would arrive after the handshake, when it is not waited for.
	 */
	(void)SSL_CTX_set_num_tickets(keys->context, 0);
	(void)SSL_CTX_set_mode(keys->context,
			       SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	*ret = keys;
	return 0;
}

void tls_keys_free(struct tls_keys *keys)
{
	if (!keys)
		return;
	SSL_CTX_free(keys->context);
	free(keys);
}

static int set_host(SSL *ssl, const char *host, struct err *err)
{
	uint8_t address[16];
	bool is_address = inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1;
	int ok = is_address ? X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host)
			    : SSL_set1_host(ssl, host);
	if (ok == 1 && !is_address)
		ok = (int)SSL_set_tlsext_host_name(ssl, host);
	return ok == 1 ? 0 : tls_error(err, -EINVAL, host);
}

/* What a call that did not succeed means: 0 with *ret_wait, or an error. */
static int judge(struct tls_session *session, int result, const char *what, short *ret_wait, struct err *err)
{
	int saved = errno;
	switch (SSL_get_error(session->ssl, result)) {
	case SSL_ERROR_WANT_READ:
		*ret_wait = POLLIN;
		return 0;
	case SSL_ERROR_WANT_WRITE:
		*ret_wait = POLLOUT;
		return 0;
	case SSL_ERROR_ZERO_RETURN:
		return err_set(err, -ECONNRESET, "the other side has closed the connection");
	case SSL_ERROR_SYSCALL:
		ERR_clear_error();
		return saved ? err_sys(err, -saved, "TLS: %s", what)
			     : err_set(err, -ECONNRESET, "TLS: %s: the other side has closed the connection",
				       what);
	default: {
		long verdict = SSL_get_verify_result(session->ssl);
		if (verdict != X509_V_OK) {
			ERR_clear_error();
			return err_set(err, -EACCES, "TLS: the other side's certificate: %s",
				       X509_verify_cert_error_string(verdict));
		}
		return tls_error(err, -EPROTO, what);
	}
	}
}

static int shake_hands(struct channel *channel, struct tls_session *session, bool server, struct err *err)
{
	for (;;) {
		short wait = 0;
		errno = 0;
		ERR_clear_error();
		int done = server ? SSL_accept(session->ssl) : SSL_connect(session->ssl);
		if (done == 1)
			return 0;
		int r = judge(session, done, "handshake", &wait, err);
		if (r == 0)
			r = channel_wait(channel, wait, err);
		if (r < 0)
			return r;
	}
}

int tls_start(struct channel *channel, struct tls_keys *keys, const char *host, struct err *err)
{
	struct tls_session *session = calloc(1, sizeof(*session));
	if (!session)
		return err_sys(err, -ENOMEM, "TLS");
	pthread_mutex_init(&session->lock, NULL);
	session->ssl = SSL_new(keys->context);
	int r = 0;
	if (!session->ssl || SSL_set_fd(session->ssl, channel->fd) != 1)
		r = tls_error(err, -ENOMEM, "session");
	if (r == 0 && host)
		r = set_host(session->ssl, host, err);
	if (r == 0)
		r = shake_hands(channel, session, keys->server, err);
	if (r < 0) {
		tls_session_destroy(session);
		return r;
	}
	channel->tls = session;
	return 0;
}

void tls_session_destroy(struct tls_session *session)
{
	if (!session)
		return;
	SSL_free(session->ssl);
	ERR_clear_error();
	pthread_mutex_destroy(&session->lock);
	free(session);
}

ssize_t tls_send(struct tls_session *session, const void *data, size_t len, short *ret_wait, struct err *err)
{
	size_t done = 0;
	pthread_mutex_lock(&session->lock);
	errno = 0;
	ERR_clear_error();
	int ok = SSL_write_ex(session->ssl, data, len, &done);
	int r = ok == 1 ? 0 : judge(session, ok, "sending", ret_wait, err);
	pthread_mutex_unlock(&session->lock);
	return r < 0 ? r : (ssize_t)done;
}

ssize_t tls_receive(struct tls_session *session, void *data, size_t len, short *ret_wait, struct err *err)
{
	size_t done = 0;
	pthread_mutex_lock(&session->lock);
	errno = 0;
	ERR_clear_error();
	int ok = SSL_read_ex(session->ssl, data, len, &done);
	int r = ok == 1 ? 0 : judge(session, ok, "receiving", ret_wait, err);
	pthread_mutex_unlock(&session->lock);
	return r < 0 ? r : (ssize_t)done;
}

bool tls_pending(struct tls_session *session)
{
	pthread_mutex_lock(&session->lock);
	bool has = SSL_has_pending(session->ssl) == 1;
	pthread_mutex_unlock(&session->lock);
	return has;
}
