/* Which addresses a webhook may be sent to: those of the public Internet, and what the operator allows beyond them.
 * Looked at when a connection is made, since what a name means can change between any two look-ups. */
#ifndef ASSAY_WEBHOOK_ADDRESS_H
#define ASSAY_WEBHOOK_ADDRESS_H

#include <stdbool.h>
#include <sys/socket.h>

#include "base/bytes.h"
#include "base/err.h"
#include "io/network.h"

struct webhook_addresses {
	struct networks refused, allowed;
};

/* `allowed`: CIDR,…; absent: nothing beyond the public Internet. */
int webhook_addresses_init(struct webhook_addresses *addresses, struct bytes allowed, struct err *err) MUST_CHECK;
bool webhook_address_allowed(const struct webhook_addresses *addresses, const struct sockaddr *address);

#endif
