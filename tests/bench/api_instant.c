/* The service with a store that answers at once: what everything above the store costs, beside bare_http.
 *
 * The composition is that of src/assayd.c, with its defaults, but for the store and an executor without slots:
 * submissions are read, checked, given their ids, admitted, answered and announced on the bus, and nothing runs them.
 *
 * api_instant prints the port it listens on and runs until it is killed. */
#include <stdio.h>
#include <stdlib.h>
#include <uv.h>

#include "api/api.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "bus/local.h"
#include "coordinator/coordinator.h"
#include "executor/noop.h"
#include "io/http_server.h"
#include "task/language.h"
#include "tests/bench/instant_store.h"

static const struct bus_notices bus_notices = { 0 };

struct service {
	uv_loop_t *loop;
	struct log log;
	struct uuid_generator ids;
	struct languages *languages;
	struct store *store;
	struct bus *bus;
	struct executor *noop;
	struct coordinator *coordinator;
	struct evaluation_limits limits;
	struct api *api;
	struct http_server *server;
};

static void must(int result, const struct err *err)
{
	if (result >= 0)
		return;
	fprintf(stderr, "api_instant: %s\n", err->message);
	exit(1);
}

static void on_ready(void *owner)
{
	struct service *service = owner;
	struct err err = { 0 };
	uint16_t port;
	must(http_server_listen(service->server, "127.0.0.1", 0, &port, &err), &err);
	printf("%u\n", port);
	fflush(stdout);
}

static void coordinator_make(struct service *service)
{
	service->coordinator = coordinator_new(&(struct coordinator_options){
		.loop = service->loop,
		.log = &service->log,
		.store = service->store,
		.bus = service->bus,
		.executors = &service->noop,
		.executor_count = 1,
		.internal = service->noop,
		.languages = service->languages,
		.ids = &service->ids,
		.replica = "bench",
		.settings = {
			.heartbeat_us = 5 * US_PER_S,
			.lease_us = 15 * US_PER_S,
			.retry = { .base_us = 30 * US_PER_S, .cap = 10 },
			.output_kept = 1 << 20,
			.retention_us = 7 * 24 * 3600 * US_PER_S,
			.disk_bytes = 256 << 20,
			.processes = 64,
			.total_timeout_us = 3600 * US_PER_S,
			.embedded = true,
		},
		.on_ready = on_ready,
		.owner = service,
	});
}

static void api_make(struct service *service)
{
	struct err err = { 0 };
	const struct api_options options = {
		.loop = service->loop,
		.log = &service->log,
		.coordinator = service->coordinator,
		.store = service->store,
		.bus = service->bus,
		.executors = &service->noop,
		.executor_count = 1,
		.ids = &service->ids,
		.evaluation_limits = &service->limits,
		.access = { .open = true, .loopback = true },
	};
	must(api_new(&options, &service->api, &err), &err);
	service->server = http_server_new(&(struct http_server_options){
		.loop = service->loop,
		.log = &service->log,
		.owner = service->api,
		.body_limit = api_body_limit,
		.on_request = api_on_request,
	});
	api_set_http_server(service->api, service->server);
}

int main(void)
{
	struct service *service = alloc(sizeof(*service));
	struct err err = { 0 };
	service->loop = uv_default_loop();
	service->log = (struct log){ .fd = STDERR_FILENO, .level = LOG_INFO };
	service->limits = (struct evaluation_limits){
		.source_max = 2 << 20,
		.timeout_max_us = 3600 * US_PER_S,
		.memory_max = INT64_C(16) << 30,
		.cpu_max = 64000,
		.max_attempts_max = 25,
		.max_attempts_default = 3,
		.priority_default = 5,
		.timeout_default_us = 300 * US_PER_S,
	};
	must(languages_parse(languages_builtin(), "built-in languages", &service->languages, &err), &err);
	service->store = instant_store_new(service->loop);
	service->bus = local_bus_new(service->loop);
	service->noop = noop_executor_new(service->loop, 0);
	must(service->bus->ops->start(service->bus, &bus_notices, NULL, &err), &err);
	coordinator_make(service);
	api_make(service);
	must(coordinator_start(service->coordinator, &err), &err);
	return uv_run(service->loop, UV_RUN_DEFAULT);
}
