/* The front of the API: who is it, which route, may they, and off to the handler. Owns what all groups of routes
 * share. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/call.h"
#include "api/handlers.h"
#include "api/problem.h"
#include "api/route.h"
#include "api/state.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "base/text.h"
#include "coordinator/coordinator.h"

#define SMALL_BODY_MAX ((size_t)64 * 1024)

/* ---- the body ---- */

size_t api_body_limit(void *owner, const struct http_request *request)
{
	struct api *api = owner;
	struct route_match match = route_find(request->method, request->path);
	size_t limit = 0;
	switch (match.route ? match.route->body : BODY_SMALL) {
	case BODY_NONE:
		return 0;
	case BODY_SMALL:
		return SMALL_BODY_MAX;
	case BODY_ORDINARY:
		limit = api->settings.body_max;
		break;
	case BODY_BATCH:
		limit = api->settings.batch_body_max;
		break;
	}
	/* Who may not submit cannot fill our memory either; a body this small is read, so that its sender gets the 401
	 * or 403. */
	struct principal who;
	bool known = access_identify(api->access, request, &who) == ACCESS_KNOWN && who.role >= match.route->role;
	return known || limit < SMALL_BODY_MAX ? limit : SMALL_BODY_MAX;
}

/* ---- the request ---- */

static void answer_options(struct call *call, unsigned methods)
{
	struct http_header allow = { BYTES_LITERAL("Allow"), bytes_of(route_allow(methods)) };
	call_respond(call, 204, NULL, BYTES_NONE, &allow, 1);
}

static void answer_no_route(struct call *call, unsigned methods)
{
	if (methods == 0) {
		problem(call, 404, "no-route", "there is nothing at this path; GET /openapi.json lists what there is");
		return;
	}
	struct http_header allow = { BYTES_LITERAL("Allow"), bytes_of(route_allow(methods)) };
	problem_with_headers(call, 405, "method", &allow, 1, "this path knows %s", route_allow(methods));
}

static void answer_unknown(struct call *call, bool bad_token)
{
	struct http_header challenge = { BYTES_LITERAL("WWW-Authenticate"),
		bad_token ? BYTES_LITERAL("Bearer realm=\"assay\", error=\"invalid_token\"")
			  : BYTES_LITERAL("Bearer realm=\"assay\"") };
	problem_with_headers(call, 401, "unauthenticated", &challenge, 1, "%s",
		bad_token ? "this token is not known" : "a bearer token is needed");
}

/* Reads `name=value&…` into call->query. False when the call has been answered. */
static bool read_query(struct call *call)
{
	struct bytes rest = call->request->query;
	while (rest.len > 0) {
		const char *end = memchr(rest.data, '&', rest.len);
		struct bytes pair = { rest.data, end ? (size_t)(end - rest.data) : rest.len };
		size_t used = pair.len + (end ? 1 : 0);
		rest.data += used;
		rest.len -= used;
		if (pair.len == 0)
			continue;
		const char *equals = memchr(pair.data, '=', pair.len);
		struct bytes name = { pair.data, equals ? (size_t)(equals - pair.data) : pair.len };
		struct bytes value = equals ? (struct bytes){ equals + 1, pair.len - name.len - 1 } : BYTES_LITERAL("");
		name = percent_decode(&call->arena, name, true);
		value = percent_decode(&call->arena, value, true);
		if (!name.data || !value.data || !utf8_valid(name) || !utf8_valid(value) ||
			memchr(value.data, 0, value.len)) {
			problem(call, 400, "bad-request", "the query of the URL is malformed");
			return false;
		}
		size_t i = 0;
		while (call->route->query[i] && !bytes_is(name, call->route->query[i]))
			i++;
		const char *text = arena_bytes(&call->arena, name).data;
		if (!call->route->query[i]) {
			problem_parameter(call, text, "this route knows no query parameter \"%.64s\"", text);
			return false;
		}
		if (call->query[i].data) {
			problem_parameter(call, text, "%s is given twice", text);
			return false;
		}
		call->query[i] = value;
	}
	return true;
}

static bool may(struct call *call)
{
	enum api_role role = call->route->role;
	if (role == ROLE_NONE || (call->api->metrics_open && strcmp(call->route->pattern, "/metrics") == 0))
		return true;
	enum access_outcome outcome = access_identify(call->api->access, call->request, &call->who);
	if (outcome != ACCESS_KNOWN) {
		answer_unknown(call, outcome == ACCESS_BAD_TOKEN);
		return false;
	}
	if (call->who.role < role) {
		problem(call, 403, "forbidden", "this needs the role %s", role == ROLE_ADMIN ? "admin" : "submit");
		return false;
	}
	return true;
}

/* What a tenant may send is shared out among the replicas, for each counts only what comes to it. */
static bool soon_enough(struct call *call)
{
	struct api *api = call->api;
	double per_second = tenants_find(api->tenants, call->who.tenant)->rate;
	int64_t replicas = coordinator_statistics(api->coordinator)->replicas;
	int wait_s;
	if (per_second <= 0 ||
		rate_take(api->rate, call->who.tenant, replicas > 1 ? per_second / (double)replicas : per_second,
			clock_monotonic_us(), &wait_s))
		return true;
	char seconds[16];
	int length = snprintf(seconds, sizeof(seconds), "%d", wait_s);
	const struct http_header retry = { BYTES_LITERAL("Retry-After"), { seconds, (size_t)length } };
	api->refused_rate++;
	problem_with_headers(call, 429, "too-many-requests", &retry, 1,
		"this tenant may submit %g times a second, and has done so", per_second);
	return false;
}

/* What tells how things stand asks no store, which may not have been there yet. */
static bool serves_unready(const struct route *route)
{
	return route->handle == handle_health || route->handle == handle_ready ||
	       route->handle == handle_coordinator_health || route->handle == handle_metrics ||
	       route->handle == handle_openapi;
}

void api_on_request(void *owner, struct http_exchange *exchange)
{
	struct api *api = owner;
	struct call *call = call_new(api, exchange);
	const struct http_request *request = call->request;

	const char *what;
	if (!access_host_allowed(api->access, request, &what)) {
		problem(call, 403, "foreign-host", "%s names another host than this service listens on", what);
		return;
	}
	struct route_match match = route_find(request->method, request->path);
	if (!match.route) {
		if (request->method == HTTP_METHOD_OPTIONS && match.methods != 0)
			answer_options(call, match.methods);
		else
			answer_no_route(call, match.methods);
		return;
	}
	call->route = match.route;
	if (!may(call))
		return;
	if (match.argument.data) {
		call->argument = percent_decode(&call->arena, match.argument, false);
		if (!call->argument.data) {
			problem(call, 400, "bad-request", "the path is malformed");
			return;
		}
	}
	if (request->query.len > 0 && !read_query(call))
		return;
	if (api->draining && match.route->work) {
		problem_away(call, "the service is stopping and takes no new work");
		return;
	}
	if (!coordinator_was_ready(api->coordinator) && !serves_unready(match.route)) {
		problem_away(call, "the service is starting, and waits for its store");
		return;
	}
	if (!match.route->work || soon_enough(call))
		match.route->handle(call);
}

/* ---- life ---- */

static void set_defaults(struct api_settings *settings)
{
	if (!settings->body_max)
		settings->body_max = (size_t)4 << 20;
	if (!settings->batch_body_max)
		settings->batch_body_max = (size_t)64 << 20;
	if (!settings->batch_items_max)
		settings->batch_items_max = 10000;
	if (!settings->status_cache_max)
		settings->status_cache_max = (size_t)4 << 20;
	if (!settings->keepalive_us)
		settings->keepalive_us = 15 * US_PER_S;
}

int api_new(const struct api_options *options, struct api **ret_api, struct err *err)
{
	struct access *access;
	int error = access_new(&options->access, &access, err);
	if (error)
		return error;
	struct api *api = alloc(sizeof(*api));
	api->loop = options->loop;
	api->log = options->log;
	api->coordinator = options->coordinator;
	api->store = options->store;
	api->bus = options->bus;
	api->webhooks = options->webhooks;
	api->executors = options->executors;
	api->executor_count = options->executor_count;
	api->ids = options->ids;
	api->evaluation_limits = options->evaluation_limits;
	struct store_status store;
	options->store->ops->status(options->store, &store);
	api->cursors_final = store.cursors_final;
	api->settings = options->settings;
	set_defaults(&api->settings);
	api->metrics_open = options->access.metrics_open;
	api->started_at_us = clock_wall_us();
	api->access = access;
	api->status_cache = status_cache_new(api->settings.status_cache_max, api->settings.status_age_max_us);
	api->hub = hub_new(api->loop, api->bus, api->coordinator, api->status_cache, api->settings.keepalive_us);
	api->waiters = waiters_new(api);
	api->loop_lag = loop_lag_new(api->loop);
	api->rate = rate_new();
	api->tenants = options->tenants;
	*ret_api = api;
	return 0;
}

void api_reopened(struct api *api, const struct uuid *id)
{
	hub_reopened(api->hub, id);
}

int api_load_tokens(struct api *api, struct bytes text, struct err *err)
{
	return access_load(api->access, text, err);
}

void api_set_tenants(struct api *api, const struct tenants *tenants)
{
	api->tenants = tenants;
}

void api_set_http_server(struct api *api, struct http_server *server)
{
	api->server = server;
}

void api_drain(struct api *api)
{
	api->draining = true;
	hub_drain(api->hub);
}

static void on_part_freed(void *owner)
{
	struct api *api = owner;
	if (--api->closing_parts > 0)
		return;
	status_cache_free(api->status_cache);
	access_free(api->access);
	rate_free(api->rate);
	buffer_fini(&api->scratch);
	while (api->spare_calls) {
		struct call *call = api->spare_calls;
		api->spare_calls = call->next_spare;
		free(call);
	}
	void (*on_freed)(void *owner) = api->on_freed;
	void *freed_owner = api->owner;
	free(api);
	on_freed(freed_owner);
}

static void close_parts(struct api *api)
{
	api->closing_parts = 3;
	hub_free(api->hub, on_part_freed, api);
	waiters_free(api->waiters, on_part_freed, api);
	loop_lag_free(api->loop_lag, on_part_freed, api);
}

void api_free(struct api *api, void (*on_freed)(void *owner), void *owner)
{
	api->on_freed = on_freed;
	api->owner = owner;
	if (api->open == 0)
		close_parts(api);
}

void api_hold(struct api *api)
{
	api->open++;
}

void api_release(struct api *api)
{
	if (--api->open == 0 && api->on_freed)
		close_parts(api);
}
