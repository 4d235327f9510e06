/* The TLS side of a connection to Redis: a session of OpenSSL for one socket, which hiredis then reads and writes
 * through (hiredis_ssl.h). */
#ifndef ASSAY_IO_REDIS_SECURE_H
#define ASSAY_IO_REDIS_SECURE_H

#include <stdbool.h>

#include "base/err.h"
#include "io/redis_address.h"

struct ssl_st;
struct redisContext;

/* Whether our certificate can be read and the key is the one of it; 0 without one, too. Blocks, as reading files does. */
int redis_secure_check(const struct redis_address *address, struct err *err) MUST_CHECK;
/* Begins a session on the context's socket, which is connected and does not block. The context owns it from then on.
 * Checks the server's certificate against its host's name or address, unless that is switched off, and shows it ours
 * where there is one. */
int redis_secure_begin(const struct redis_address *address, struct redisContext *context, struct ssl_st **ret_session,
	struct err *err) MUST_CHECK;
/* Goes on with the handshake. 1: done; 0: when the socket can be read, or, with *ret_write, written; negative:
 * refused. */
int redis_secure_step(struct ssl_st *session, bool *ret_write, struct err *err) MUST_CHECK;
/* Before hiredis reads or writes: what OpenSSL noted for others of this thread would be taken for this session's. */
void redis_secure_prepare(void);

#endif
