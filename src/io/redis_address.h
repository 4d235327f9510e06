/* Where a Redis is and how to log in there.
 *
 *	redis://[user[:password]@]host[:port][/database][?protocol=2]      rediss:// the same over TLS
 *	unix://[user[:password]@]/path/of/socket[?db=database&protocol=2]
 *
 * as redis-py and the provisional IANA registrations of `redis` and `rediss` have it; percent-encoded where needed (RFC
 * 3986). A password alone may stand behind an empty user name. Port 6379 and database 0 unless told. */
#ifndef ASSAY_IO_REDIS_ADDRESS_H
#define ASSAY_IO_REDIS_ADDRESS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"

#define REDIS_PORT_DEFAULT 6379

struct redis_address {
	char host[256]; /* a name or an address, IPv6 without its brackets; empty: path counts */
	uint16_t port;
	char path[108]; /* of a unix socket, see unix(7) */
	char user[129]; /* empty: the default user */
	char password[513]; /* empty: none */
	int database;
	int protocol; /* the newest that is asked for: 3, or 2 */
	bool tls;
	bool tls_unverified; /* take whatever certificate comes */
	char tls_ca[1025]; /* a file of certificates to trust; empty: those that OpenSSL trusts */
	char tls_cert[1025],
		tls_key[1025]; /* files of our certificate and its key, for servers that ask; empty: none */
};

/* Fills all but how TLS is spoken, which no URL says. */
int redis_address_parse(struct bytes url, struct redis_address *ret_address, struct err *err) MUST_CHECK;
/* "redis.example:6379/2 over TLS", for people: no user, no password. */
#define REDIS_ADDRESS_TEXT_SIZE 320
char *redis_address_format(const struct redis_address *address, char text[static REDIS_ADDRESS_TEXT_SIZE]);

#endif
