/* The contract of every bus, on Redis. */
#include <stdlib.h>

#include "bus/redis.h"
#include "bus_suite.h"
#include "redis_server.h"

static struct redis_server server;
static struct log bus_log = { .fd = 2, .level = LOG_ERROR };

static void server_stop(void)
{
	redis_server_stop(&server);
}

static struct bus *make(uv_loop_t *loop)
{
	if (!server.pid) {
		redis_server_start(&server, /* tls= */ false);
		atexit(server_stop);
	}
	const struct redis_address address = redis_server_address(&server);
	const struct redis_bus_options options = { .loop = loop, .log = &bus_log, .address = &address };
	return redis_bus_new(&options);
}

const struct bus_fixture bus_fixture = { .name = "redis", .make = make };
