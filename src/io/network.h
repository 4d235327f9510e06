/* Addresses and lists of networks, for who may come and where we may go. An IPv4 address is looked at as
 * ::ffff:a.b.c.d, so that it cannot pass under its IPv6 name. */
#ifndef ASSAY_IO_NETWORK_H
#define ASSAY_IO_NETWORK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/bytes.h"
#include "base/err.h"

#define NETWORKS_MAX 64

struct network {
	uint8_t address[16];
	int prefix; /* bits of the 128 */
};

struct networks {
	struct network items[NETWORKS_MAX];
	size_t count;
};

/* Adds "10.0.0.0/8, ::1, …"; an address alone is a network of one. Absent or empty adds none. */
int networks_parse(struct bytes list, struct networks *networks, struct err *err) MUST_CHECK;
/* False for an address of another family, and for NULL. */
bool networks_contain(const struct networks *networks, const struct sockaddr *address);

#endif
