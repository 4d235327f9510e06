/* The bus over Redis: what is published here goes to this process's subscribers as on the local bus, and by PUBLISH to the channels
 * `<prefix>evaluation:<kind>`, durable events also by XADD to a capped stream where one is named. What other replicas publish there is told
 * to this process's subscribers while somebody wants it (follow). Redis 6 or later.
 *
 * Commands are pipelined in the order of publication; an event has left when Redis has answered. While Redis is away nothing is refused and nothing is
 * kept: on its return the listener reads the gap from the store (bus_notices.on_behind). An answer that is an error (READONLY, LOADING,
 * NOPERM…) counts as away. Memory is bounded: 8 MiB of what waits, 1 MiB of what is on its way. */
#ifndef ASSAY_BUS_REDIS_H
#define ASSAY_BUS_REDIS_H

#include <uv.h>

#include "assay/bus.h"
#include "base/log.h"
#include "io/redis_address.h"

struct redis_bus_options {
	uv_loop_t *loop; /* borrowed, outlives the bus, as the log does */
	struct log *log;
	const struct redis_address *address; /* copied, as all that follows */
	const char *prefix; /* of channels and of the stream's key; NULL: none */
	const char *stream; /* NULL: none */
	int64_t stream_max; /* events it keeps, about */
	/* Jobs may publish on the channels without prefix by themselves: without one, what they have told the world goes to `assay:aside`
	 * instead, for other replicas. */
	bool jobs_publish;
};

struct bus *redis_bus_new(const struct redis_bus_options *options);

/* Spoken by the publishing connection: 2, 3; 0: none. */
int redis_bus_protocol(const struct bus *bus);

#endif
