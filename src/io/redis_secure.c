/* Sessions are made anew for each connection, each with a context of its own: connections are made seldom, and a file
 * of certificates, or of a key, that was replaced counts from the next one on. */
#include "io/redis_secure.h"

#include <arpa/inet.h>
#include <errno.h>
#include <hiredis/hiredis.h>
#include <hiredis/hiredis_ssl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

static const char *reason_of(unsigned long cause)
{
	if (!cause)
		return "the connection was closed";
	const char *reason = ERR_SYSTEM_ERROR(cause) ? strerror(ERR_GET_REASON(cause)) : ERR_reason_error_string(cause);
	return reason ? reason : "unknown error";
}

/* The first cause that OpenSSL noted, where there is no detail. */
static int refused(struct err *err, const char *what, const char *detail)
{
	unsigned long cause = ERR_peek_error();
	ERR_clear_error();
	return err_set(err, -EPROTO, "%s: %s", what, detail ? detail : reason_of(cause));
}

/* A passphrase would be asked for at the terminal. */
static int no_passphrase(char *to, int size, int writing, void *owner)
{
	return -1;
}

static int identify(SSL_CTX *context, const struct redis_address *address, struct err *err)
{
	if (!address->tls_cert[0])
		return 0;
	SSL_CTX_set_default_passwd_cb(context, no_passphrase);
	/* The key first: reading a certificate that it does not fit is no error, so that is found by the check alone. */
	if (SSL_CTX_use_PrivateKey_file(context, address->tls_key, SSL_FILETYPE_PEM) != 1)
		return refused(err, address->tls_key, NULL);
	if (SSL_CTX_use_certificate_chain_file(context, address->tls_cert) != 1)
		return refused(err, address->tls_cert, NULL);
	if (SSL_CTX_check_private_key(context) != 1)
		return refused(err, address->tls_key, "it is not the key of the certificate");
	return 0;
}

int redis_secure_check(const struct redis_address *address, struct err *err)
{
	ERR_clear_error();
	SSL_CTX *context = SSL_CTX_new(TLS_client_method());
	int result = context ? identify(context, address, err) : refused(err, "TLS cannot be set up", NULL);
	SSL_CTX_free(context);
	return result;
}

static SSL_CTX *trust(const struct redis_address *address, struct err *err)
{
	SSL_CTX *context = SSL_CTX_new(TLS_client_method());
	if (!context) {
		refused(err, "TLS cannot be set up", NULL);
		return NULL;
	}
	SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
	SSL_CTX_set_verify(context, address->tls_unverified ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, NULL);
	int trusted = address->tls_ca[0] ? SSL_CTX_load_verify_locations(context, address->tls_ca, NULL)
					 : SSL_CTX_set_default_verify_paths(context);
	if (trusted != 1)
		refused(err, address->tls_ca[0] ? address->tls_ca : "the system's certificates", NULL);
	else if (identify(context, address, err) == 0)
		return context;
	SSL_CTX_free(context);
	return NULL;
}

static bool is_address(const char *host)
{
	struct in6_addr any;
	return inet_pton(AF_INET, host, &any) == 1 || inet_pton(AF_INET6, host, &any) == 1;
}

/* Whom the certificate must name. A unix socket has no name. */
static bool expect(SSL *session, const struct redis_address *address)
{
	if (!address->host[0])
		return true;
	if (is_address(address->host))
		return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(session), address->host) == 1;
	return SSL_set_tlsext_host_name(session, address->host) == 1 && SSL_set1_host(session, address->host) == 1;
}

int redis_secure_begin(
	const struct redis_address *address, struct redisContext *context, struct ssl_st **ret_session, struct err *err)
{
	ERR_clear_error();
	SSL_CTX *trusted = trust(address, err);
	if (!trusted)
		return err->code;
	SSL *session = SSL_new(trusted);
	SSL_CTX_free(trusted); /* the session holds it */
	if (!session || !expect(session, address)) {
		SSL_free(session);
		return refused(err, "TLS cannot be set up", NULL);
	}
	if (redisInitiateSSL(context, session) != REDIS_OK) {
		/* hiredis has not taken it where it failed at once. */
		SSL_free(session);
		return refused(err, "TLS", context->errstr);
	}
	*ret_session = session;
	return 0;
}

int redis_secure_step(struct ssl_st *session, bool *ret_write, struct err *err)
{
	ERR_clear_error();
	int result = SSL_do_handshake(session);
	*ret_write = false;
	if (result == 1)
		return 1;
	int cause = SSL_get_error(session, result);
	if (cause == SSL_ERROR_WANT_READ || cause == SSL_ERROR_WANT_WRITE) {
		*ret_write = cause == SSL_ERROR_WANT_WRITE;
		return 0;
	}
	long verified = SSL_get_verify_result(session);
	if (verified != X509_V_OK && SSL_get_verify_mode(session) != SSL_VERIFY_NONE)
		return refused(err, "TLS: the certificate is not accepted", X509_verify_cert_error_string(verified));
	return refused(err, "TLS", NULL);
}

void redis_secure_prepare(void)
{
	ERR_clear_error();
}
